//! Where logins come from: the question, the answer, and who is asked.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use greentic_dist_types::SafeText;
use tokio::time::Instant;

use super::Credential;
use crate::NetError;

/// A future in a box, as object-safe traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is to be done with a login, so that a source can give one that may do no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialAction {
    /// Read manifests, blobs, tags and referrers.
    #[default]
    Pull,
    /// Write blobs and manifests, and read what is there already.
    Push,
    /// Delete manifests, tags or blobs.
    Delete,
    /// List the registry's repositories.
    Catalog,
}

/// What a login is wanted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CredentialTarget {
    /// The registry that is contacted, as references write it: `host` or `host:port`; `docker.io` for Docker Hub.
    pub host: String,
    /// The repository, e.g. `acme/hello`; empty for the registry as a whole.
    pub repository: String,
    /// What is to be done. A login for one action is never used for another, unless the source gives it for both.
    pub action: CredentialAction,
}

impl CredentialTarget {
    /// A target, for reading.
    pub fn new(host: impl Into<String>, repository: impl Into<String>) -> Self {
        Self { host: host.into(), repository: repository.into(), action: CredentialAction::Pull }
    }

    /// The same for another action.
    #[must_use]
    pub fn to(mut self, action: CredentialAction) -> Self {
        self.action = action;
        self
    }
}

/// How a login came to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginOrigin {
    /// Somebody chose it for this client: it is used or the request fails.
    Explicit,
    /// It was found on this machine and may be old: when a token server rejects it, what is open to everybody is still
    /// read without it.
    Ambient,
}

/// A login with what is known about it. `Debug` shows no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// The login itself.
    pub credential: Credential,
    /// How it came to be used.
    pub origin: LoginOrigin,
    /// Where it is from, for people: `the environment`, a file, a helper. Empty when there is nothing to say.
    pub place: String,
    /// When the source must be asked again. `None`: when the login is rejected.
    pub expires_at: Option<Instant>,
}

impl Login {
    /// A login that was chosen for this client.
    pub fn explicit(credential: Credential) -> Self {
        Self { credential, origin: LoginOrigin::Explicit, place: String::new(), expires_at: None }
    }

    /// A login that was found on this machine, at `place`.
    pub fn ambient(credential: Credential, place: impl Into<String>) -> Self {
        Self { credential, origin: LoginOrigin::Ambient, place: place.into(), expires_at: None }
    }

    /// Asks the source again from then on.
    #[must_use]
    pub fn expiring_at(mut self, at: Instant) -> Self {
        self.expires_at = Some(at);
        self
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= Instant::now())
    }

    /// `the login from ~/.docker/config.json`, for messages.
    pub(crate) fn named(&self) -> String {
        if self.place.is_empty() { "the login".to_owned() } else { format!("the login from {}", self.place) }
    }
}

/// What a source knows for a target.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CredentialAnswer {
    /// The login; `None` when there is none, which means anonymous access.
    pub login: Option<Login>,
    /// What a person should know at once: told as warnings, and the request goes on.
    pub warnings: Vec<SafeText>,
    /// What is only worth telling when the request then fails for want of a login: told as hints of its error.
    pub remarks: Vec<SafeText>,
}

impl CredentialAnswer {
    /// No login, and nothing to say about it.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same with a warning.
    #[must_use]
    pub fn with_warning(mut self, text: &str) -> Self {
        self.warnings.push(SafeText::new(text));
        self
    }

    /// The same with a remark.
    #[must_use]
    pub fn with_remark(mut self, text: &str) -> Self {
        self.remarks.push(SafeText::new(text));
        self
    }
}

impl From<Option<Login>> for CredentialAnswer {
    fn from(login: Option<Login>) -> Self {
        Self { login, ..Self::default() }
    }
}

/// Where logins come from. Asked after a registry refused a request for want of one, for a registry, a repository and what is to be
/// done there.
///
/// What it says is kept in memory and not asked for again, with four exceptions: the login has expired, it was rejected (the
/// source may know a newer one by now), requests that need it first at the same time may each ask, and beyond 1,024
/// repositories and actions of a registry the memory starts anew.
pub trait CredentialSource: Send + Sync + Debug {
    /// What is known for a target.
    ///
    /// Cancel-safe implementations are expected: the future is dropped with the request that needs the login.
    ///
    /// # Errors
    /// Any [`NetError`]; the request that needed the login fails with it. A login that cannot be read is better told as a
    /// warning or a remark of the answer.
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>>;

    /// Takes note that a login was rejected, by the registry or by its token server; a source that remembers it forgets it.
    /// It is asked again afterwards. Must not block.
    fn reject(&self, target: &CredentialTarget, login: &Login) {
        let _: (&CredentialTarget, &Login) = (target, login);
    }
}

/// Logins known in advance, by host or by host and repository. They count as explicit.
#[derive(Clone, Debug, Default)]
pub struct StaticCredentials(HashMap<String, Credential>);

impl StaticCredentials {
    /// No login at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the login for a registry, written as in references (`host` or `host:port`, compared without regard to case), or
    /// for the repositories below a path of it (`host/acme`, `host/acme/hello`). The most specific one is used.
    #[must_use]
    pub fn with(mut self, scope: &str, credential: Credential) -> Self {
        let (host, path) = scope.split_once('/').unwrap_or((scope, ""));
        let path = path.trim_matches('/');
        let key = host.to_ascii_lowercase();
        self.0.insert(if path.is_empty() { key } else { format!("{key}/{path}") }, credential);
        self
    }

    fn find(&self, target: &CredentialTarget) -> Option<&Credential> {
        let host = target.host.to_ascii_lowercase();
        let mut scope = format!("{host}/{}", target.repository);
        loop {
            if let Some(found) = self.0.get(scope.trim_end_matches('/')) {
                return Some(found);
            }
            scope.truncate(scope.rfind('/')?);
        }
    }
}

impl CredentialSource for StaticCredentials {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let login = self.find(target).cloned().map(Login::explicit);
        Box::pin(std::future::ready(Ok(login.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &StaticCredentials, host: &str, repository: &str) -> Option<String> {
        let target = CredentialTarget::new(host, repository);
        match source.find(&target)? {
            Credential::Basic { username, .. } => Some(username.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_most_specific_static_login_is_used_and_whole_path_segments_count() {
        let login = |user: &str| Credential::Basic { username: user.into(), password: "p".into() };
        let source = StaticCredentials::new()
            .with("REG.example", login("all"))
            .with("reg.example/acme", login("acme"))
            .with("reg.example/acme/hello/", login("hello"))
            .with("other.example:5000/x", login("x"));
        for (host, repository, user) in [
            ("reg.example", "", Some("all")),
            ("Reg.Example", "else/where", Some("all")),
            ("reg.example", "acme/tool", Some("acme")),
            ("reg.example", "acme", Some("acme")),
            ("reg.example", "acmeish/tool", Some("all")),
            ("reg.example", "acme/hello/deep", Some("hello")),
            ("reg.example:5000", "acme/hello", None),
            ("other.example:5000", "x/y", Some("x")),
            ("other.example:5000", "y", None),
        ] {
            assert_eq!(found(&source, host, repository).as_deref(), user, "{host}/{repository}");
        }
    }
}
