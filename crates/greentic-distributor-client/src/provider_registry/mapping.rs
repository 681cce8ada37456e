//! From what was written to the place that is asked: never a registry that nobody chose.

use greentic_dist_types::{Digest, MapError, ParseReferenceError, Reference, map_to_registry};

use super::ProviderRegistryError;
use super::reference::{RemoteRef, Scheme};
use crate::dist::DistOptions;
use crate::env;

/// The registries that `repo://` and `store://` names are joined to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryBases {
    /// For `repo://` names, for example `ghcr.io/acme`.
    pub repo: Option<String>,
    /// For `store://` names.
    pub store: Option<String>,
}

impl RegistryBases {
    /// The bases this process was given: `GREENTIC_REPO_REGISTRY_BASE` and `GREENTIC_STORE_REGISTRY_BASE`, read now.
    pub fn from_env() -> Self {
        Self { repo: env::text(env::REPO_REGISTRY_BASE), store: env::text(env::STORE_REGISTRY_BASE) }
    }

    /// The bases of a client.
    pub fn of(options: &DistOptions) -> Self {
        Self { repo: options.repo_registry_base.clone(), store: options.store_registry_base.clone() }
    }
}

impl RemoteRef {
    /// The registry, repository and tag or digest that are meant.
    pub(super) fn locate(&self, bases: &RegistryBases) -> Result<Reference, ProviderRegistryError> {
        let target = canonical(&self.target);
        let (base, variable) = match self.scheme {
            Scheme::Oci => return Reference::parse(&target).map_err(|error| self.no_reference(error)),
            Scheme::Repo => (&bases.repo, env::REPO_REGISTRY_BASE),
            Scheme::Store => (&bases.store, env::STORE_REGISTRY_BASE),
        };
        map_to_registry(&target, base.as_deref()).map_err(|error| match error {
            MapError::NoBase => ProviderRegistryError::NoRegistryBase { reference: self.shown(), variable },
            MapError::Reference(error) => self.no_reference(error),
        })
    }

    fn no_reference(&self, source: ParseReferenceError) -> ProviderRegistryError {
        ProviderRegistryError::InvalidReference { reference: self.shown(), source }
    }
}

/// The target in the one spelling that references have. `name@latest` is written where `name:latest` is meant: what stands behind
/// the at sign is a digest when it has a colon, in capitals or not, and a tag when it could be one.
fn canonical(target: &str) -> String {
    let is_tag = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
            && !text.starts_with(['.', '-'])
    };
    match target.rsplit_once('@') {
        Some((name, digest)) if let Ok(digest) = Digest::parse_any_case(digest) => format!("{name}@{digest}"),
        Some((name, tag)) if is_tag(tag) && !name.contains('@') && !has_tag(name) => format!("{name}:{tag}"),
        // A password, perhaps. It is refused without being repeated.
        Some((name, rest)) if name.contains(':') && !name.contains('/') && !rest.contains(':') => format!("…@{rest}/"),
        _ => target.to_owned(),
    }
}

/// Whether a name ends in a tag: a colon behind its last slash. In a name without slashes the colon may belong to a port.
fn has_tag(name: &str) -> bool {
    name.rsplit_once('/').map_or(name, |(_, last)| last).contains(':')
}

#[cfg(test)]
mod tests {
    use super::super::reference::CatalogRef;
    use super::*;
    use greentic_dist_types::is_explicit_registry;
    use proptest::prelude::*;

    fn bases() -> RegistryBases {
        RegistryBases { repo: Some("ghcr.io/org/".to_owned()), store: Some("oci://ghcr.io/store".to_owned()) }
    }

    fn locate(text: &str, bases: &RegistryBases) -> Result<String, ProviderRegistryError> {
        let Some(CatalogRef::Remote(remote)) = CatalogRef::parse(text)? else { panic!("{text} is not remote") };
        remote.locate(bases).map(|reference| reference.to_string())
    }

    #[test]
    fn names_are_joined_to_their_base_unless_they_name_a_registry() {
        let pin = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("repo://providers/catalog@latest", "ghcr.io/org/providers/catalog:latest".to_owned()),
            ("repo:///providers/catalog@0.6.0", "ghcr.io/org/providers/catalog:0.6.0".to_owned()),
            ("store://providers/catalog:latest", "ghcr.io/store/providers/catalog:latest".to_owned()),
            ("store://catalog", "ghcr.io/store/catalog".to_owned()),
            ("repo://quay.io/x/y:1", "quay.io/x/y:1".to_owned()),
            ("store://localhost:5000/y@v1", "localhost:5000/y:v1".to_owned()),
            ("oci://ghcr.io/x/y@latest", "ghcr.io/x/y:latest".to_owned()),
            (&format!("oci://ghcr.io/x/y@{pin}"), format!("ghcr.io/x/y@{pin}")),
            (&format!("repo://y@{pin}"), format!("ghcr.io/org/y@{pin}")),
            (&format!("oci://ghcr.io/x/y:1@sha256:{}", "A".repeat(64)), format!("ghcr.io/x/y:1@{pin}")),
            (&format!("store://y@sha512:{}", "B".repeat(128)), format!("ghcr.io/store/y@sha512:{}", "b".repeat(128))),
        ] {
            assert_eq!(locate(text, &bases()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_name_without_a_registry_never_leaves_for_a_default_one() {
        for (text, said) in [
            ("repo://providers/catalog:latest", "GREENTIC_REPO_REGISTRY_BASE"),
            ("store://providers/catalog:latest", "GREENTIC_STORE_REGISTRY_BASE"),
            ("repo://library/catalog", "GREENTIC_REPO_REGISTRY_BASE"),
            ("oci://acme/catalog:1", "names no registry"),
            ("oci://catalog", "names no registry"),
            ("oci://catalog:latest", "names no registry"),
        ] {
            for bases in
                [RegistryBases::default(), RegistryBases { repo: Some(" ".into()), store: Some(String::new()) }]
            {
                let error = locate(text, &bases).unwrap_err();
                let told = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
                assert!(told.contains(text) && told.contains(said), "{text}: {told}");
            }
        }
    }

    #[test]
    fn what_is_neither_tag_nor_digest_is_refused() {
        for text in [
            "oci://ghcr.io/x/y@sha256:abc",
            &format!("oci://ghcr.io/x/y@SHA256:{}", "a".repeat(64)),
            "oci://ghcr.io/x/y@",
            "oci://ghcr.io/x/y:1@latest",
            "oci://ghcr.io/x/y@a@b",
            "oci://ghcr.io/x/y@-x",
            "oci://ann:canary@ghcr.io/x/y",
            "repo://ann:canary@ghcr.io/x/y",
            "repo://ann:canary@providers",
            "repo://../../etc",
            "oci://",
        ] {
            let error = locate(text, &bases()).unwrap_err();
            assert!(matches!(error, ProviderRegistryError::InvalidReference { .. }), "{text}: {error}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn mapping_is_total_and_a_located_name_starts_with_its_base_or_its_own_registry(
            scheme in prop_oneof![Just("repo"), Just("store")], target in "[a-zA-Z0-9:@/._-]{1,40}"
        ) {
            let text = format!("{scheme}://{target}");
            if let Ok(Some(CatalogRef::Remote(remote))) = CatalogRef::parse(&text)
                && let Ok(reference) = remote.locate(&bases())
            {
                let base = if scheme == "repo" { "ghcr.io/org/" } else { "ghcr.io/store/" };
                let explicit = is_explicit_registry(&target) && target.starts_with(reference.registry());
                prop_assert!(explicit || reference.to_string().starts_with(base), "{reference}");
                // The name located once is located again where it is.
                prop_assert_eq!(locate(&format!("oci://{reference}"), &bases()).unwrap(), reference.to_string());
            }
        }
    }
}
