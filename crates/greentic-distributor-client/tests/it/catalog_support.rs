//! A bundle, a registry with a provider catalog, and who resolves it.

use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture::{self, Artifact, Blob};
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_distributor_client::dist::DistErrorKind;
use greentic_distributor_client::provider_registry::{
    ProviderRegistry, ProviderRegistryBuilder, ProviderRegistryError, ResolvedCatalog,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{CANARY, Home, chain};

/// JSON of no stated kind.
pub(crate) const JSON: &str = "application/json";

/// A catalog in the published shape with providers of these ids.
pub(crate) fn document(ids: &[&str]) -> Vec<u8> {
    let items: Vec<Value> = ids
        .iter()
        .map(|id| {
            let reference = format!("oci://ghcr.io/acme/packs/{id}:latest");
            json!({ "id": id, "label": { "i18n_key": format!("p.{id}"), "fallback": id.to_uppercase() }, "ref": reference, "category": "messaging" })
        })
        .collect();
    let categories = json!([{ "id": "messaging", "label": { "i18n_key": "c.messaging", "fallback": "Messaging" } }]);
    let document = json!({ "registry_version": "providers@1", "categories": categories, "items": items });
    serde_json::to_vec_pretty(&document).unwrap()
}

/// It as an artifact.
pub(crate) fn artifact(ids: &[&str]) -> Artifact {
    fixture::artifact(JSON, document(ids))
}

/// A bundle, and `acme/providers:latest` in a registry, with the providers `a` and `b`.
pub(crate) struct Shop {
    pub(crate) home: Home,
    pub(crate) registry: LyingRegistry,
    bundle: TempDir,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self::with(Scenario::new(artifact(&["a", "b"])))
    }

    pub(crate) fn with(scenario: Scenario) -> Self {
        let registry = scenario.repository("acme/providers").tag("latest").start();
        Self { home: Home::new(), registry, bundle: TempDir::new().unwrap() }
    }

    /// With one artifact of these layers.
    pub(crate) fn of_layers(layers: Vec<Blob>) -> Self {
        Self::with(Scenario::new(fixture::artifact_of(layers, &[])))
    }

    pub(crate) fn bundle(&self) -> &Path {
        self.bundle.path()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        cache_of(self.bundle())
    }

    pub(crate) fn reference(&self) -> String {
        format!("oci://{}", self.registry.reference())
    }

    pub(crate) fn builder(&self) -> ProviderRegistryBuilder {
        ProviderRegistry::builder(self.bundle()).client(self.home.client())
    }

    /// Resolves the reference as it is cached, or fetches it.
    pub(crate) async fn get(&self) -> Result<ResolvedCatalog, ProviderRegistryError> {
        resolve(&self.builder().build(), &self.reference()).await
    }

    pub(crate) async fn refreshed(&self) -> Result<ResolvedCatalog, ProviderRegistryError> {
        resolve(&self.builder().refresh(true).build(), &self.reference()).await
    }

    pub(crate) async fn offline(&self) -> Result<ResolvedCatalog, ProviderRegistryError> {
        resolve(&self.builder().offline(true).build(), &self.reference()).await
    }

    /// Lets the tag name another catalog.
    pub(crate) fn publish(&self, ids: &[&str]) -> Artifact {
        let artifact = artifact(ids);
        self.registry.publish(&artifact, "latest");
        artifact
    }

    /// What the registry was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        let lines = self.registry.journal().lines();
        self.registry.journal().clear();
        lines
    }

    /// The index of the cache.
    pub(crate) fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.cache().join("index.json")).unwrap()).unwrap()
    }

    /// The copy by digest of an artifact.
    pub(crate) fn by_digest(&self, artifact: &Artifact) -> PathBuf {
        self.cache().join(format!("by-digest/sha256-{}.json", artifact.manifest_digest.to_hex()))
    }
}

/// The cache of a bundle.
pub(crate) fn cache_of(bundle: &Path) -> PathBuf {
    bundle.join(".greentic/cache/provider-registry")
}

/// Resolves a reference that must lead to something.
pub(crate) async fn resolve(
    registry: &ProviderRegistry,
    reference: &str,
) -> Result<ResolvedCatalog, ProviderRegistryError> {
    registry.resolve(None, Some(reference)).await.map(|found| found.expect("a reference leads to something"))
}

pub(crate) fn ids(resolved: &ResolvedCatalog) -> Vec<&str> {
    resolved.ids().collect()
}

/// Panics unless it failed with this kind and exit code and says all of this, the causes included.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, ProviderRegistryError>,
    kind: DistErrorKind,
    exit: i32,
    said: &[&str],
) -> String {
    let error = result.expect_err("it went well");
    let text = chain(&error);
    assert_eq!((error.kind(), error.kind().exit_code()), (kind, exit), "{text}");
    for said in said {
        assert!(text.contains(said), "`{said}` is not said: {text}");
    }
    assert!(!text.contains(CANARY) && !format!("{error:?}").contains(CANARY), "a secret is told: {text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    for hint in error.hints() {
        assert_eq!(text.matches(&hint).count(), usize::from(error.to_string().contains(&hint)), "{hint}: {text}");
    }
    text
}
