//! `store://greentic-biz/<tenant>/<path>`: packages of a tenant in the one registry that has them.

use greentic_dist_types::{Reference, SafeText};

use crate::dist::DistError;

/// First segment of the target that chooses this kind of store.
const STORE: &str = "greentic-biz";
/// Where its packages are. A tenant's login is for this host and is never sent to any other.
pub(crate) const REGISTRY: &str = "ghcr.io";
/// Longest name of a tenant, in bytes.
const TENANT_BYTES: usize = 128;

/// A package, and whose login opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantPackage {
    pub(crate) tenant: String,
    pub(crate) reference: Reference,
}

impl TenantPackage {
    /// Parses the target of a `store://` reference. `None` when it is for another store.
    ///
    /// # Errors
    /// [`DistError::InvalidInput`] without a tenant or package, or with a tenant that could be taken for something else;
    /// [`DistError::InvalidRef`] for a package that is no reference.
    pub(crate) fn parse(raw_ref: &str, target: &str, registry: &str) -> Result<Option<Self>, DistError> {
        let (store, rest) = target.split_once('/').unwrap_or((target, ""));
        if store != STORE {
            return Ok(None);
        }
        let (tenant, package) = rest.split_once('/').unwrap_or((rest, ""));
        let (tenant, package) = (tenant.trim(), package.trim_matches('/'));
        if !is_tenant(tenant) || package.is_empty() {
            return Err(DistError::InvalidInput(format!(
                "`{}` does not have the form `store://{STORE}/<tenant>/<package>`, where a tenant is made of letters, digits and any of `._-+@`",
                SafeText::excerpt(raw_ref, 200)
            )));
        }
        let reference = Reference::parse(&format!("{registry}/{STORE}/{package}"))
            .map_err(|error| DistError::from_reference(raw_ref, error))?;
        Ok(Some(Self { tenant: tenant.to_owned(), reference }))
    }
}

/// A tenant becomes a user name and a key of the login file, so that it may not be a path, and not end a header.
fn is_tenant(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'@');
    (1..=TENANT_BYTES).contains(&name.len()) && name.bytes().all(allowed) && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str) -> Result<Option<TenantPackage>, DistError> {
        TenantPackage::parse(&format!("store://{target}"), target, REGISTRY)
    }

    #[test]
    fn a_tenant_chooses_the_login_and_is_no_part_of_the_package() {
        for (target, tenant, package) in [
            ("greentic-biz/acme/bundles/kit:latest", "acme", "ghcr.io/greentic-biz/bundles/kit:latest"),
            ("greentic-biz/acme//kit/", "acme", "ghcr.io/greentic-biz/kit"),
            ("greentic-biz/ acme /kit", "acme", "ghcr.io/greentic-biz/kit"),
            ("greentic-biz/a.b_c-d+1@e/x", "a.b_c-d+1@e", "ghcr.io/greentic-biz/x"),
        ] {
            let parsed = parse(target).unwrap().unwrap();
            assert_eq!((parsed.tenant.as_str(), parsed.reference.to_string().as_str()), (tenant, package));
        }
    }

    #[test]
    fn other_stores_are_left_to_the_configured_base() {
        for target in
            ["kit", "acme/kit:1", "greentic-bizarre/acme/kit", "Greentic-Biz/acme/kit", "ghcr.io/greentic-biz/x"]
        {
            assert_eq!(parse(target).unwrap(), None, "{target}");
        }
    }

    #[test]
    fn tenants_and_packages_that_mean_something_else_are_refused() {
        let long = format!("greentic-biz/{}/kit", "x".repeat(1_024));
        for target in [
            "greentic-biz",
            "greentic-biz/",
            "greentic-biz//kit",
            "greentic-biz/ /kit",
            "greentic-biz/acme",
            "greentic-biz/acme/",
            "greentic-biz/acme//",
            "greentic-biz/../kit",
            "greentic-biz/./kit",
            "greentic-biz/.../kit",
            "greentic-biz/a/../b",
            "greentic-biz/a\r\nb/kit",
            "greentic-biz/a:b/kit",
            "greentic-biz/a%2fb/kit",
            "greentic-biz/a\\b/kit",
            "greentic-biz/ä/kit",
            "greentic-biz/acme/Kit",
            "greentic-biz/acme/kit@sha256:abc",
            "greentic-biz/acme/user:pw@kit/x",
            &long,
        ] {
            let error = parse(target).expect_err(target);
            assert_eq!(error.exit_code(), 2, "{target}: {error}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }
}
