//! One place after another, until one has a login.

use std::sync::Arc;

use greentic_dist_net::{BoxFuture, CredentialAnswer, CredentialSource, CredentialTarget, Login, NetError};

use super::helper::Helpers;
use super::notes::{Notes, Told};
use super::registry_logins::RegistryLogins;
use super::scope::Scope;
use super::{containers_auth, docker_config, env};

/// The logins of this user on this machine: what [`DistClient`](crate::dist::DistClient) and the command line use unless they are told otherwise.
///
/// Asked in this order: the environment (`GREENTIC_DIST_AUTH_…`), the logins saved by `greentic-dist auth login`,
/// `DOCKER_AUTH_CONFIG`, and of Docker's `config.json` the helper for the registry (`credHelpers`), the helper for all
/// (`credsStore`) and its own table (`auths`), then the `auth.json` of the containers tools. Where none has a login, the registry
/// is asked anonymously.
///
/// No file is read, no program run and no variable looked at before a registry demands a login. Files are read anew each time
/// the chain is asked; what a helper said is kept until it is rejected. A file or helper that cannot be used is told as a
/// warning, once, and passed over. All of them count as ambient: a stale one does not break what is open to everybody.
///
/// Needs a tokio runtime. Cancel-safe; a helper that is running then ends by itself, after ten seconds at the latest.
#[derive(Clone, Debug, Default)]
pub struct CredentialChain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    helpers: Helpers,
    told: Told,
}

impl CredentialChain {
    /// The chain, with nothing remembered. No I/O.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Inner {
    /// Asks the places that are files and programs. Blocks.
    fn find(&self, target: &CredentialTarget) -> CredentialAnswer {
        let mut notes = Notes::default();
        let login: Option<Login> = RegistryLogins::from_env()
            .find(target, &self.helpers, &mut notes)
            .or_else(|| docker_config::find(target, &self.helpers, &mut notes))
            .or_else(|| containers_auth::find(target, &self.helpers, &mut notes));
        notes.into_answer(login, &self.told)
    }
}

impl CredentialSource for CredentialChain {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        Box::pin(async move {
            if let Some(login) = env::find(target) {
                return Ok(Some(login).into());
            }
            let (inner, target) = (Arc::clone(&self.0), target.clone());
            // A runtime that shuts down drops the request that asked, too.
            Ok(crate::blocking::run(move || Ok(inner.find(&target))).await.unwrap_or_default())
        })
    }

    fn reject(&self, target: &CredentialTarget, _login: &Login) {
        if let Some(scope) = Scope::of_target(target).pop() {
            self.0.helpers.forget(&scope);
        }
    }
}
