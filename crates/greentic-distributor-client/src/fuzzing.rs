//! A door to a parser, for the fuzz targets in `fuzz/` and nobody else. No promise of any kind.

use greentic_dist_net::CredentialTarget;

use crate::credentials::docker_config;

/// Whether a text in the form of Docker's `config.json` has a login for this host and repository, and what is told beside it.
pub fn docker_config(text: &str, host: &str, repository: &str) -> (bool, Vec<String>) {
    let target = CredentialTarget { host: host.to_owned(), repository: repository.to_owned() };
    let (login, told) = docker_config::find_in(text, &target);
    (login.is_some(), told)
}
