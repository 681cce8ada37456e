//! Programs for components: those that a pack lists are resolved eagerly or lazily, with the client of this crate or with one
//! of the program.
//!
//! Features: `oci-components` without the default ones.

use async_trait::async_trait;
use greentic_dist_compat_tests::{Machine, bytes_at, serve, short_lived};
use greentic_dist_testkit::fixture;
use greentic_dist_types::Digest;
use greentic_distributor_client::oci_components::{
    DefaultRegistryClient, PulledImage, PulledLayer, Reference, RegistryClient, RegistryClientError,
};
use greentic_distributor_client::{
    ComponentResolveOptions, ComponentsExtension, ComponentsMode, OciComponentError, OciComponentResolver,
};

fn options(machine: &Machine) -> ComponentResolveOptions {
    ComponentResolveOptions { allow_tags: true, cache_dir: machine.cache(), ..ComponentResolveOptions::default() }
}

#[test]
fn components_of_a_pack_are_resolved_in_their_order() {
    let (one, other) = (fixture::component(), fixture::artifact(fixture::WASM_TYPE, fixture::random_bytes(2, 3_000)));
    let registry = serve(&[("acme/one:1", &one), ("acme/other:1", &other)]);
    let machine = Machine::new();
    let name = |name: &str| format!("{}/acme/{name}:1", registry.host());
    // As it stands in the manifest of a pack.
    let extension = serde_json::json!({ "refs": [name("other"), name("one")] });
    let extension: ComponentsExtension = serde_json::from_value(extension).unwrap();
    assert_eq!(extension.mode, ComponentsMode::Eager);
    let resolver: OciComponentResolver<DefaultRegistryClient> = OciComponentResolver::new(options(&machine));
    let resolved = short_lived(resolver.resolve_refs(&extension)).unwrap();
    let digests: Vec<&str> = resolved.iter().map(|component| component.resolved_digest.as_str()).collect();
    assert_eq!(digests, [other.manifest_digest.to_string(), one.manifest_digest.to_string()]);
    assert_eq!(bytes_at(&resolved[1].path), one.layer_bytes());
    // What a host only wants to know of is not downloaded.
    let elsewhere = Machine::new();
    let lazy = ComponentsExtension { refs: vec![name("one")], mode: ComponentsMode::Lazy };
    let resolver: OciComponentResolver<DefaultRegistryClient> = OciComponentResolver::new(options(&elsewhere));
    let described = short_lived(resolver.resolve_descriptors(&lazy)).unwrap();
    assert_eq!(described[0].resolved_digest, one.manifest_digest.to_string());
    assert_eq!(described[0].size_bytes, u64::try_from(one.layer_bytes().len()).unwrap());
}

/// A client that knows one component.
struct One(Vec<u8>);

#[async_trait]
impl RegistryClient for One {
    fn default_client() -> Self {
        Self(b"\0asm default".to_vec())
    }

    async fn pull(
        &self,
        _reference: &Reference,
        _accepted_manifest_types: &[&str],
    ) -> Result<PulledImage, RegistryClientError> {
        let digest = Some(Digest::sha256(&self.0).to_string());
        let layer =
            PulledLayer { media_type: "application/wasm".to_owned(), data: self.0.clone(), digest: digest.clone() };
        Ok(PulledImage { digest, layers: vec![layer] })
    }
}

#[test]
fn a_client_of_the_program_is_asked_for_components() {
    let machine = Machine::new();
    let resolver = OciComponentResolver::with_client(One(b"\0asm one".to_vec()), options(&machine));
    let eager =
        ComponentsExtension { refs: vec!["registry.example/acme/one:1".to_owned()], mode: ComponentsMode::Eager };
    let resolved = short_lived(resolver.resolve_refs(&eager)).unwrap();
    assert_eq!(bytes_at(&resolved[0].path), b"\0asm one");
    let pins_only = ComponentResolveOptions { allow_tags: false, ..options(&machine) };
    let refused = short_lived(OciComponentResolver::<One>::new(pins_only).resolve_refs(&eager)).unwrap_err();
    assert!(matches!(refused, OciComponentError::DigestRequired { .. }), "{refused:?}");
}
