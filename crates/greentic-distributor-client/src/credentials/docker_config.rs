//! Docker's `config.json`: `DOCKER_AUTH_CONFIG`, else `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.

use std::path::PathBuf;

use greentic_dist_net::{CredentialTarget, Login};
use greentic_dist_types::Secret;

use super::auth_file::AuthFile;
use super::helper::Helpers;
use super::notes::Notes;
use crate::{env, paths};

/// The login of Docker's configuration for a target: the text in the environment first, then the helper for the registry, the
/// helper for all, and the file's own table.
pub(super) fn find(target: &CredentialTarget, helpers: &Helpers, notes: &mut Notes) -> Option<Login> {
    if let Some(text) = env::text(env::DOCKER_AUTH_CONFIG) {
        let file = AuthFile::parse(&Secret::new(text), env::DOCKER_AUTH_CONFIG, notes);
        if let Some(login) = file.and_then(|file| file.in_table(target, notes)) {
            return Some(login);
        }
    }
    let file = AuthFile::read(&path()?, notes)?;
    file.in_own_helper(target, helpers, notes)
        .or_else(|| file.in_store(target, helpers, notes))
        .or_else(|| file.in_table(target, notes))
}

fn path() -> Option<PathBuf> {
    let dir = env::path(env::DOCKER_CONFIG).or_else(|| paths::home().map(|home| home.join(".docker")))?;
    Some(dir.join("config.json"))
}
