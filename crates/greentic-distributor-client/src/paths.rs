//! Where things are on this machine: the precedence of cache root and login file.

use std::path::PathBuf;

use crate::env;

/// The cache root, unless the caller names one.
///
/// `GREENTIC_CACHE_DIR`, else `GREENTIC_DIST_CACHE_DIR`, else `$GREENTIC_HOME/cache/components`, else
/// `${XDG_CACHE_HOME:-~/.cache}/greentic/components`; without any home directory `.greentic/cache/components` below the
/// working directory. No I/O.
pub(crate) fn cache_root() -> PathBuf {
    env::path(env::CACHE_DIR)
        .or_else(|| env::path(env::DIST_CACHE_DIR))
        .or_else(|| env::path(env::HOME_DIR).map(|home| home.join("cache").join("components")))
        .or_else(|| user_dir("XDG_CACHE_HOME", ".cache").map(|cache| cache.join("greentic").join("components")))
        .unwrap_or_else(|| PathBuf::from(".greentic").join("cache").join("components"))
}

/// The cache root of packs, unless the caller names one.
///
/// `GREENTIC_PACK_CACHE_DIR`, else `$GREENTIC_HOME/cache/packs`, else `${XDG_CACHE_HOME:-~/.cache}/greentic/packs`; without
/// any home directory `.greentic/cache/packs` below the working directory. No I/O.
pub(crate) fn pack_cache_root() -> PathBuf {
    env::path(env::PACK_CACHE_DIR)
        .or_else(|| env::path(env::HOME_DIR).map(|home| home.join("cache").join("packs")))
        .or_else(|| user_dir("XDG_CACHE_HOME", ".cache").map(|cache| cache.join("greentic").join("packs")))
        .unwrap_or_else(|| PathBuf::from(".greentic").join("cache").join("packs"))
}

/// Where blobs that are asked for by their digest alone are kept, unless the caller names a place: `digests` in the cache root
/// that a variable names, else beside the cache root. No I/O.
pub(crate) fn digest_root() -> PathBuf {
    env::path(env::CACHE_DIR)
        .or_else(|| env::path(env::DIST_CACHE_DIR))
        .or_else(|| env::path(env::HOME_DIR).map(|home| home.join("cache")))
        .or_else(|| user_dir("XDG_CACHE_HOME", ".cache").map(|cache| cache.join("greentic")))
        .unwrap_or_else(|| PathBuf::from(".greentic").join("cache"))
        .join("digests")
}

/// The login file, unless the caller names one.
///
/// `GREENTIC_DIST_STORE_SECRETS_PATH`, else `${XDG_CONFIG_HOME:-~/.config}/greentic/dist/store-auth.json`, else
/// `$GREENTIC_HOME/config/dist/store-auth.json`, else `.greentic/config/dist/store-auth.json`. No I/O.
pub(crate) fn login_file() -> PathBuf {
    env::path(env::STORE_SECRETS_PATH).unwrap_or_else(|| config_dir().join("store-auth.json"))
}

/// The file with the logins of registries: `GREENTIC_DIST_REGISTRY_AUTH_PATH`, else `registry-auth.json` where the login file
/// is by default. No I/O.
pub(crate) fn registry_login_file() -> PathBuf {
    env::path(env::REGISTRY_AUTH_PATH).unwrap_or_else(|| config_dir().join("registry-auth.json"))
}

fn config_dir() -> PathBuf {
    user_dir("XDG_CONFIG_HOME", ".config")
        .map(|config| config.join("greentic").join("dist"))
        .or_else(|| env::path(env::HOME_DIR).map(|home| home.join("config").join("dist")))
        .unwrap_or_else(|| PathBuf::from(".greentic").join("config").join("dist"))
}

/// An XDG base directory. Relative values are ignored, as the specification asks.
pub(crate) fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    env::path(variable).filter(|path| path.is_absolute()).or_else(|| home().map(|home| home.join(below_home)))
}

/// The user's home directory.
pub(crate) fn home() -> Option<PathBuf> {
    env::path("HOME").filter(|home| home.is_absolute())
}
