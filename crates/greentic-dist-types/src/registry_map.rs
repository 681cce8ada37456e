//! `repo://` and `store://` targets mapped to a registry: a pure rule that never falls back to a default one.

use crate::{ParseReferenceError, Reference, is_explicit_registry};

/// Why a target has no place in a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The target names no registry and no base is configured.
    #[error("the target names no registry and no base is configured")]
    NoBase,
    /// The mapped text is no reference.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
}

/// Maps a `repo://` or `store://` target (without its scheme) to a reference.
///
/// A target whose first segment is a registry (a dot, a colon or `localhost`) and that has a `/` is used as it stands;
/// anything else is joined to `base`. Without a base that is an error: a name must never reach a registry nobody chose.
///
/// # Errors
/// [`MapError::NoBase`]; [`MapError::Reference`] when the result breaks the reference grammar.
pub fn map_to_registry(target: &str, base: Option<&str>) -> Result<Reference, MapError> {
    if is_explicit_registry(target) {
        return Ok(Reference::parse(target)?);
    }
    let base = base.map(str::trim).filter(|base| !base.is_empty()).ok_or(MapError::NoBase)?;
    let base = base.strip_prefix("oci://").unwrap_or(base).trim_end_matches('/');
    Ok(Reference::parse(&format!("{base}/{}", target.trim_start_matches('/')))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(target: &str, base: Option<&str>) -> Result<String, MapError> {
        map_to_registry(target, base).map(|reference| reference.to_string())
    }

    #[test]
    fn a_configured_base_is_always_used_for_names_without_a_registry() {
        let base = Some("ghcr.io/acme/");
        assert_eq!(map("comp", base).unwrap(), "ghcr.io/acme/comp");
        assert_eq!(map("a/b/c:1.2", base).unwrap(), "ghcr.io/acme/a/b/c:1.2");
        assert_eq!(map("/comp", Some("oci://ghcr.io/acme")).unwrap(), "ghcr.io/acme/comp");
        assert_eq!(map("comp", Some("localhost:5000")).unwrap(), "localhost:5000/comp");
    }

    #[test]
    fn a_target_that_names_its_registry_is_used_as_it_stands() {
        assert_eq!(map("quay.io/x/y:1", Some("ghcr.io/acme")).unwrap(), "quay.io/x/y:1");
        assert_eq!(map("localhost:5000/x", None).unwrap(), "localhost:5000/x");
    }

    #[test]
    fn no_base_or_a_base_without_a_registry_is_an_error_and_never_a_default_registry() {
        assert_eq!(map("comp", None), Err(MapError::NoBase));
        assert_eq!(map("comp", Some("  ")), Err(MapError::NoBase));
        assert!(matches!(map("comp", Some("acme/tools")), Err(MapError::Reference(_))));
        assert!(matches!(map("../../x", Some("ghcr.io/acme")), Err(MapError::Reference(_))));
    }
}
