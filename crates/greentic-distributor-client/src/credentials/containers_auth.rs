//! The `auth.json` of the containers tools (podman, skopeo, buildah; containers-auth.json(5)): `REGISTRY_AUTH_FILE`, else
//! `$XDG_RUNTIME_DIR/containers/auth.json`, then `${XDG_CONFIG_HOME:-~/.config}/containers/auth.json`.

use std::path::PathBuf;

use greentic_dist_net::{CredentialTarget, Login};

use super::auth_file::AuthFile;
use super::helper::Helpers;
use super::notes::Notes;
use crate::{env, paths};

/// The login of the first of the files that has one for a target.
pub(super) fn find(target: &CredentialTarget, helpers: &Helpers, notes: &mut Notes) -> Option<Login> {
    places().into_iter().find_map(|path| AuthFile::read(&path, notes)?.find_as_containers(target, helpers, notes))
}

fn places() -> Vec<PathBuf> {
    if let Some(path) = env::path(env::REGISTRY_AUTH_FILE) {
        return vec![path];
    }
    let runtime = env::path(env::XDG_RUNTIME_DIR).filter(|path| path.is_absolute());
    let config = paths::user_dir("XDG_CONFIG_HOME", ".config");
    runtime.into_iter().chain(config).map(|dir| dir.join("containers").join("auth.json")).collect()
}
