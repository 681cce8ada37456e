//! Every environment variable this crate reads, once.
//!
//! A variable that is set but empty counts as unset. Switches are on only when they are exactly `1`, so that a stray
//! `false` never turns something on. `docs/environment.md` lists the same names for people.

use std::ffi::OsString;
use std::path::PathBuf;

/// First choice for the cache root.
pub(crate) const CACHE_DIR: &str = "GREENTIC_CACHE_DIR";
/// Second choice for the cache root.
pub(crate) const DIST_CACHE_DIR: &str = "GREENTIC_DIST_CACHE_DIR";
/// First choice for the cache root of packs.
pub(crate) const PACK_CACHE_DIR: &str = "GREENTIC_PACK_CACHE_DIR";
/// Home of all Greentic state; the cache is then below it.
pub(crate) const HOME_DIR: &str = "GREENTIC_HOME";
/// `1`: open no socket.
pub(crate) const OFFLINE: &str = "GREENTIC_DIST_OFFLINE";
/// `1`: `http://` URLs of this machine are allowed as sources.
pub(crate) const ALLOW_INSECURE_LOCAL_HTTP: &str = "GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP";
/// Size the cache should not outgrow, in bytes.
pub(crate) const CACHE_MAX_BYTES: &str = "GREENTIC_CACHE_MAX_BYTES";
/// Registry that `repo://` names are joined to.
pub(crate) const REPO_REGISTRY_BASE: &str = "GREENTIC_REPO_REGISTRY_BASE";
/// Registry that `store://` names are joined to.
pub(crate) const STORE_REGISTRY_BASE: &str = "GREENTIC_STORE_REGISTRY_BASE";
/// Tree of host configurations, as containerd's `certs.d`.
pub(crate) const HOSTS_DIR: &str = "GREENTIC_DIST_HOSTS_DIR";
/// The `registries.conf` that counts, or `system`.
pub(crate) const REGISTRIES_CONF: &str = "GREENTIC_DIST_REGISTRIES_CONF";
/// The `registries.conf` of the containers tools.
pub(crate) const CONTAINERS_REGISTRIES_CONF: &str = "CONTAINERS_REGISTRIES_CONF";
/// Where saved logins are.
pub(crate) const STORE_SECRETS_PATH: &str = "GREENTIC_DIST_STORE_SECRETS_PATH";
/// Where the saved logins of registries are.
pub(crate) const REGISTRY_AUTH_PATH: &str = "GREENTIC_DIST_REGISTRY_AUTH_PATH";
/// Docker's logins as a text.
pub(crate) const DOCKER_AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";
/// Directory of Docker's configuration.
pub(crate) const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// The login file of the containers tools.
pub(crate) const REGISTRY_AUTH_FILE: &str = "REGISTRY_AUTH_FILE";
/// Directory of what lives as long as the user's session.
pub(crate) const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// Master key of login files of earlier versions.
pub(crate) const DEV_MASTER_KEY: &str = "GREENTIC_DEV_MASTER_KEY";
/// `1`: lock files that are out of date are refused.
#[cfg(feature = "dist-cli")]
pub(crate) const LOCKED: &str = "GREENTIC_DIST_LOCKED";
/// Directory of `fixture://` artifacts.
#[cfg(feature = "fixture-resolver")]
pub(crate) const FIXTURE_DIR: &str = "GREENTIC_FIXTURE_DIR";
/// `1`: the deprecated binary does not say that it is deprecated.
#[cfg(feature = "dist-cli")]
pub(crate) const SILENCE_DEPRECATION_WARNINGS: &str = "GREENTIC_SILENCE_DEPRECATION_WARNINGS";
/// When what is pushed was made, in Unix seconds (reproducible-builds.org); for the command line.
#[cfg(feature = "dist-cli")]
pub(crate) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";
/// The provider registry that `catalog resolve` and its kin ask, where no flag says it.
#[cfg(feature = "dist-cli")]
pub(crate) const PROVIDER_REGISTRY_REF: &str = "GTC_PROVIDER_REGISTRY_REF";
/// A provider catalog that is used as it is, where no flag says it.
#[cfg(feature = "dist-cli")]
pub(crate) const WIZARD_CATALOG: &str = "GREENTIC_OPERATOR_WIZARD_CATALOG";
/// What `serve` asks of everybody.
#[cfg(feature = "dist-cli")]
pub(crate) const SERVE_TOKEN: &str = "GREENTIC_DIST_SERVE_TOKEN";
/// The distributor that `distributor` asks.
#[cfg(feature = "dist-cli")]
pub(crate) const DISTRIBUTOR_URL: &str = "GREENTIC_DISTRIBUTOR_URL";
/// Its token.
#[cfg(feature = "dist-cli")]
pub(crate) const DISTRIBUTOR_TOKEN: &str = "GREENTIC_DISTRIBUTOR_TOKEN";
/// First part of the names of registry logins; the host and `_USERNAME`, `_PASSWORD` or `_TOKEN` follow.
pub(crate) const AUTH_PREFIX: &str = "GREENTIC_DIST_AUTH_";

/// The value of `name`, unless it is unset or empty.
pub(crate) fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The value of `name` as text. Bytes that are not UTF-8 count as unset.
pub(crate) fn text(name: &str) -> Option<String> {
    value(name).and_then(|value| value.into_string().ok())
}

/// The value of `name` as a path.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    value(name).map(PathBuf::from)
}

/// Whether `name` is exactly `1`.
pub(crate) fn switch(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}

/// The value of `name` as a number, unless it is unset or none.
pub(crate) fn number(name: &str) -> Option<u64> {
    text(name)?.trim().parse().ok()
}
