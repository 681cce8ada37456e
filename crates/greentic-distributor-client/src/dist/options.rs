//! `DistOptions`: the options 0.4 users build by literal. Everything newer is set on the builder.

use std::path::PathBuf;

use crate::{env, paths};

/// Options of a [`DistClient`](super::DistClient).
///
/// The fields are fixed: published code builds this struct in full, so it never gains one. What came later is set
/// through [`DistClient::builder`](super::DistClient::builder).
#[derive(Clone, Debug)]
pub struct DistOptions {
    /// The cache root. Default: `GREENTIC_CACHE_DIR`, else `GREENTIC_DIST_CACHE_DIR`, else
    /// `$GREENTIC_HOME/cache/components`, else `${XDG_CACHE_HOME:-~/.cache}/greentic/components`.
    pub cache_dir: PathBuf,
    /// Whether a tag may be resolved. When off, OCI references must carry a digest. Default: on.
    pub allow_tags: bool,
    /// Whether no socket may be opened. Default: `GREENTIC_DIST_OFFLINE` is exactly `1`.
    pub offline: bool,
    /// Whether `http://` URLs of this machine are allowed as sources. Default:
    /// `GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP` is exactly `1`. Loopback OCI registries do not need it.
    pub allow_insecure_local_http: bool,
    /// Size the cache should not outgrow, in bytes; 0 is no cap. Default: `GREENTIC_CACHE_MAX_BYTES`, else 3 GiB. Kept
    /// by every call that brings an artifact, before it returns; what bundles stand on and what is in use stays all the same.
    pub cache_max_bytes: u64,
    /// Registry that `repo://` names are joined to. Default: `GREENTIC_REPO_REGISTRY_BASE`.
    pub repo_registry_base: Option<String>,
    /// Registry that `store://` names are joined to. Default: `GREENTIC_STORE_REGISTRY_BASE`.
    pub store_registry_base: Option<String>,
    /// File with saved logins. Default: `GREENTIC_DIST_STORE_SECRETS_PATH`, else a file in the user's configuration
    /// directory.
    pub store_auth_path: PathBuf,
    /// Same file as [`DistOptions::store_auth_path`]; kept because published code sets it.
    pub store_state_path: PathBuf,
    /// Directory of `fixture://` artifacts. Default: `GREENTIC_FIXTURE_DIR`.
    #[cfg(feature = "fixture-resolver")]
    pub fixture_dir: Option<PathBuf>,
}

/// 3 GiB.
const DEFAULT_CACHE_MAX_BYTES: u64 = 3 << 30;

impl Default for DistOptions {
    /// Reads the environment; touches no file.
    fn default() -> Self {
        Self {
            cache_dir: paths::cache_root(),
            allow_tags: true,
            offline: env::switch(env::OFFLINE),
            allow_insecure_local_http: env::switch(env::ALLOW_INSECURE_LOCAL_HTTP),
            cache_max_bytes: env::number(env::CACHE_MAX_BYTES).unwrap_or(DEFAULT_CACHE_MAX_BYTES),
            repo_registry_base: env::text(env::REPO_REGISTRY_BASE),
            store_registry_base: env::text(env::STORE_REGISTRY_BASE),
            store_auth_path: paths::login_file(),
            store_state_path: paths::login_file(),
            #[cfg(feature = "fixture-resolver")]
            fixture_dir: env::path(env::FIXTURE_DIR),
        }
    }
}
