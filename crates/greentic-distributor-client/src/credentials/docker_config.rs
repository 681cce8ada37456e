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
    AuthFile::read(&path()?, notes)?.find(target, helpers, notes)
}

fn path() -> Option<PathBuf> {
    let dir = env::path(env::DOCKER_CONFIG).or_else(|| paths::home().map(|home| home.join(".docker")))?;
    Some(dir.join("config.json"))
}

/// The login in the table of a text, and what is told beside it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn find_in(text: &str, target: &CredentialTarget) -> (Option<Login>, Vec<String>) {
    let mut notes = Notes::default();
    let file = AuthFile::parse(&Secret::new(text), "a text", &mut notes);
    let login = file.and_then(|file| file.in_table(target, &mut notes));
    (login, notes.into_texts())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const CANARY: &str = "canary-7d1f";

    fn target(host: &str) -> CredentialTarget {
        CredentialTarget::new(host, "acme/hello")
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_never_repeated(text in "\\PC{0,80}") {
            let (_login, told) = find_in(&format!("{{\"auths\":{{\"{text}\":\"{CANARY}\"}},{text}"), &target("r.example"));
            prop_assert!(told.iter().all(|told| !told.contains(CANARY)), "{:?}", told);
        }

        #[test]
        fn any_entry_is_a_login_or_a_reason_that_holds_nothing_of_it(
            auth in "[A-Za-z0-9+/=]{0,24}",
            username in proptest::option::of("\\PC{0,8}"),
            token in proptest::option::of("\\PC{0,8}"),
        ) {
            let entry = json!({ "auth": format!("{CANARY}{auth}"), "username": username, "identitytoken": token });
            let (login, told) = find_in(&json!({ "auths": { "r.example": entry } }).to_string(), &target("r.example"));
            prop_assert!(login.is_some() || !told.is_empty());
            prop_assert!(told.iter().all(|told| !told.contains(CANARY)), "{:?}", told);
        }

        #[test]
        fn a_login_is_for_the_host_of_its_key_and_no_other(
            host in "[a-z]{1,4}[.][a-z]{1,4}(:[0-9]{1,3})?",
            scheme in prop::sample::select(vec!["", "https://", "http://"]),
            before in "[a-z.-]{0,1}",
            after in "[a-z0-9.:/]{0,2}",
        ) {
            let key = format!("{scheme}{before}{host}{after}");
            let text = json!({ "auths": { key.clone(): { "username": "ann", "password": CANARY } } }).to_string();
            let is_found = find_in(&text, &target(&host)).0.is_some();
            let named = key.strip_prefix(scheme).and_then(|rest| rest.split('/').next()).unwrap_or_default();
            prop_assert!(!is_found || named == host, "{} for {}", key, host);
            prop_assert!(is_found || !before.is_empty() || !after.is_empty(), "{} for {}", key, host);
        }
    }
}
