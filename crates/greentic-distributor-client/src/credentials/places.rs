//! Single places where logins are, chosen by the program instead of the environment, and a chain of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use greentic_dist_net::{BoxFuture, CredentialAnswer, CredentialSource, CredentialTarget, Login, NetError};
use greentic_dist_types::SafeText;

use super::auth_file::AuthFile;
use super::helper::{HelperName, Helpers};
use super::notes::{Notes, Told};
use super::registry_logins::RegistryLogins;
use super::scope::Scope;

/// What a place remembers: answers of helpers until they are rejected, and what was told.
#[derive(Debug, Default)]
struct Memory {
    helpers: Helpers,
    told: Told,
}

impl Memory {
    /// Asks on a blocking thread.
    fn ask(
        self: &Arc<Self>,
        target: &CredentialTarget,
        find: impl FnOnce(&CredentialTarget, &Helpers, &mut Notes) -> Option<Login> + Send + 'static,
    ) -> BoxFuture<'static, Result<CredentialAnswer, NetError>> {
        let (memory, target) = (Arc::clone(self), target.clone());
        Box::pin(async move {
            let find = move || {
                let mut notes = Notes::default();
                let login = find(&target, &memory.helpers, &mut notes);
                Ok(notes.into_answer(login, &memory.told))
            };
            // A runtime that shuts down drops the request that asked, too.
            Ok(crate::blocking::run(find).await.unwrap_or_default())
        })
    }

    fn reject(&self, target: &CredentialTarget) {
        if let Some(scope) = Scope::of_target(target).pop() {
            self.helpers.forget(&scope);
        }
    }
}

/// Reads a file that somebody named. That it is not there is told, unlike of a file at its usual place.
fn named_file(path: &Path, notes: &mut Notes) -> Option<AuthFile> {
    if !path.exists() {
        notes.warn(format!("{} is not there, and no login is taken from it", path.display()));
        return None;
    }
    AuthFile::read(path, notes)
}

/// The logins of one file in the form of Docker's `config.json`: of the helper for the registry (`credHelpers`), of the helper for
/// all (`credsStore`), then of the file's own table (`auths`).
///
/// The file is read when a registry demands a login, each time anew, and may have 1 MiB. One that is not there or cannot be used is
/// told as a warning, once. Its logins count as ambient. Needs a tokio runtime; cancel-safe.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    memory: Arc<Memory>,
}

impl DockerConfig {
    /// The file at a path. No I/O.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), memory: Arc::default() }
    }
}

impl CredentialSource for DockerConfig {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let path = self.path.clone();
        self.memory.ask(target, move |target, helpers, notes| named_file(&path, notes)?.find(target, helpers, notes))
    }

    fn reject(&self, target: &CredentialTarget, _login: &Login) {
        self.memory.reject(target);
    }
}

/// The logins of one `auth.json` of the containers tools (containers-auth.json(5)): of the helper for the registry (`credHelpers`),
/// then of the file's own table (`auths`). Keys may have paths.
///
/// Read and told about as [`DockerConfig`].
#[derive(Clone, Debug)]
pub struct ContainersAuth {
    path: PathBuf,
    memory: Arc<Memory>,
}

impl ContainersAuth {
    /// The file at a path. No I/O.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), memory: Arc::default() }
    }
}

impl CredentialSource for ContainersAuth {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let path = self.path.clone();
        let find = move |target: &CredentialTarget, helpers: &Helpers, notes: &mut Notes| {
            named_file(&path, notes)?.find_as_containers(target, helpers, notes)
        };
        self.memory.ask(target, find)
    }

    fn reject(&self, target: &CredentialTarget, _login: &Login) {
        self.memory.reject(target);
    }
}

/// The logins that one program keeps: `docker-credential-NAME` in an absolute directory of `PATH`, asked by the credential-helper
/// protocol.
///
/// It is run when a registry demands a login, gets ten seconds and may say 64 KiB; then it is killed with everything it started. What
/// it said is kept until a registry rejects it. A helper that is missing or fails is told as a warning, once. Its logins count as
/// ambient. Needs a tokio runtime; cancel-safe.
#[derive(Clone, Debug)]
pub struct CredentialHelper {
    name: HelperName,
    memory: Arc<Memory>,
}

/// A text that cannot be the name of a credential helper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be the name of a credential helper: it has 1 to 64 letters, digits, `.`, `_` and `-`")]
pub struct InvalidHelperName(SafeText);

impl CredentialHelper {
    /// The helper with a name, e.g. `pass` for `docker-credential-pass`. Nothing is looked for before it is asked.
    ///
    /// # Errors
    /// [`InvalidHelperName`]: the name is the end of a program's name, never a path.
    pub fn new(name: &str) -> Result<Self, InvalidHelperName> {
        let name = HelperName::parse(name).ok_or_else(|| InvalidHelperName(SafeText::excerpt(name, 64)))?;
        Ok(Self { name, memory: Arc::default() })
    }
}

impl CredentialSource for CredentialHelper {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let name = self.name.clone();
        self.memory.ask(target, move |target, helpers, notes| {
            match helpers.get(&name, &Scope::of_target(target).pop()?) {
                Ok(found) => found.map(|found| Login::ambient(found, format!("the helper `{name}`"))),
                Err(error) => {
                    notes.warn(format!("{error}, and its logins are not used"));
                    None
                }
            }
        })
    }

    fn reject(&self, target: &CredentialTarget, _login: &Login) {
        self.memory.reject(target);
    }
}

/// The logins that `greentic-dist auth login REGISTRY` saves: one file of mode 0600.
///
/// Read when a registry demands a login, each time anew; one that cannot be used is told as a warning, once. Its logins count as
/// ambient. Needs a tokio runtime; cancel-safe.
#[derive(Clone, Debug)]
pub struct SavedLogins {
    logins: RegistryLogins,
    memory: Arc<Memory>,
}

impl SavedLogins {
    /// The file at its place: `GREENTIC_DIST_REGISTRY_AUTH_PATH`, else beside the default file of tenants' logins. Reads the
    /// environment, no file.
    pub fn from_env() -> Self {
        Self { logins: RegistryLogins::from_env(), memory: Arc::default() }
    }

    /// The file at a path. No I/O.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { logins: RegistryLogins::at(path.into()), memory: Arc::default() }
    }
}

impl CredentialSource for SavedLogins {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let logins = self.logins.clone();
        self.memory.ask(target, move |target, helpers, notes| logins.find(target, helpers, notes))
    }

    fn reject(&self, target: &CredentialTarget, _login: &Login) {
        self.memory.reject(target);
    }
}

/// Several places, asked one after another until one has a login. What the ones before it had to tell is told, too.
///
/// A place that fails fails the request. Cancel-safe as the places are.
#[derive(Clone, Debug, Default)]
pub struct Chain(Vec<Arc<dyn CredentialSource>>);

impl Chain {
    /// These places, in this order. An empty chain is no login at all.
    pub fn new(places: Vec<Arc<dyn CredentialSource>>) -> Self {
        Self(places)
    }
}

impl CredentialSource for Chain {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        Box::pin(async move {
            let mut answer = CredentialAnswer::none();
            for place in &self.0 {
                let found = place.credential(target).await?;
                answer.warnings.extend(found.warnings);
                answer.remarks.extend(found.remarks);
                if found.login.is_some() {
                    answer.login = found.login;
                    break;
                }
            }
            Ok(answer)
        })
    }

    /// Tells all of them: whose login it was is not known, and a place that did not give it has nothing to forget.
    fn reject(&self, target: &CredentialTarget, login: &Login) {
        for place in &self.0 {
            place.reject(target, login);
        }
    }
}
