//! Logins of tenants, kept in a file of this user: what `greentic-dist auth login <TENANT>` saves and `store://greentic-biz/…`
//! is fetched with.
//!
//! The file is `{"version":1,"logins":[{"tenant":…,"username":…,"token":…}]}`, mode 0600 in a directory of mode 0700. It is
//! replaced as a whole, under a lock, and synced; a token that is replaced is gone from it. It is protected by its permissions
//! and by nothing else; for a registry, `greentic-dist auth login --helper` keeps the login in the keychain of the system instead.
//!
//! Files of earlier versions (one line `SECRETS_BACKEND_STATE=…`) are read, and rewritten in the new form by the next login
//! or logout. Their encryption used a key that everybody knows unless `GREENTIC_DEV_MASTER_KEY` was set: tokens in a file that
//! others could read should be revoked.
//!
//! Always compiled. The file is read and written on a blocking thread where a tokio runtime runs (feature `dist-client`), and
//! on the calling thread elsewhere; without `dist-client` files of earlier versions are refused instead of read.

use std::fmt;
use std::path::{Path, PathBuf};

use greentic_dist_types::{SafeText, Secret};
use serde::{Deserialize, Serialize};

use crate::paths;
use crate::private_file::{PrivateFile, PrivateFileError};

#[cfg(feature = "dist-client")]
mod legacy;

/// The version of the file's form.
const VERSION: u64 = 1;
/// Longest name of a tenant, in bytes.
const TENANT_BYTES: usize = 255;
/// Longest token, in bytes.
const TOKEN_BYTES: usize = 32 << 10;
/// How a file of an earlier version begins.
const LEGACY_PREFIX: &str = "SECRETS_BACKEND_STATE=";

/// The login of one tenant. `Debug` shows no token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCredentials {
    /// The tenant.
    pub tenant: String,
    /// The user name at the registry; the tenant's own name.
    pub username: String,
    /// The token.
    pub token: String,
}

impl fmt::Debug for StoreCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCredentials")
            .field("tenant", &self.tenant)
            .field("username", &self.username)
            .field("token", &"[redacted]")
            .finish()
    }
}

/// Why a login could not be saved or loaded. No variant holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreAuthError {
    /// An argument that cannot be saved: an empty tenant, an empty token.
    #[error("{0}")]
    Message(String),
    /// There is no login for the tenant.
    #[error("no login is saved for `{tenant}` at {path}; run `greentic-dist auth login {tenant}`")]
    NoLogin {
        /// The file that was looked at.
        path: String,
        /// The tenant as asked for.
        tenant: String,
    },
    /// The login of the tenant lacks its user name or its token.
    #[error("the login for `{tenant}` at {path} is incomplete; run `greentic-dist auth login {tenant}`")]
    Incomplete {
        /// The file.
        path: String,
        /// The tenant.
        tenant: String,
    },
    /// The file could not be read or written.
    #[error("the login file {path} cannot be used")]
    Io {
        /// The file, or the one beside it that failed.
        path: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The logins could not be written as JSON.
    #[error("the logins cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The file is not used: it belongs to somebody else, is no regular file, or is not in a known form.
    #[error("{0}")]
    SecretStore(String),
}

/// What kind of failure a [`StoreAuthError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreAuthErrorKind {
    /// An argument is wrong.
    InvalidInput,
    /// There is no usable login: logging in helps.
    LoginRequired,
    /// The file is refused as it is.
    Refused,
    /// Another process is writing; the same call may succeed later.
    Busy,
    /// Reading or writing failed.
    Io,
}

impl StoreAuthError {
    /// The kind.
    pub fn kind(&self) -> StoreAuthErrorKind {
        match self {
            Self::Message(_) => StoreAuthErrorKind::InvalidInput,
            Self::NoLogin { .. } | Self::Incomplete { .. } => StoreAuthErrorKind::LoginRequired,
            Self::SecretStore(_) => StoreAuthErrorKind::Refused,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::ResourceBusy => StoreAuthErrorKind::Busy,
            Self::Io { .. } | Self::Json(_) => StoreAuthErrorKind::Io,
        }
    }
}

impl From<PrivateFileError> for StoreAuthError {
    fn from(error: PrivateFileError) -> Self {
        match error {
            PrivateFileError::Io { path, source, .. } => Self::Io { path: path.display().to_string(), source },
            PrivateFileError::Refused { .. } => {
                Self::SecretStore(format!("{error}; move it away and run `greentic-dist auth login` again"))
            }
            PrivateFileError::Busy { ref path } => {
                let path = path.display().to_string();
                let source = std::io::Error::new(std::io::ErrorKind::ResourceBusy, error);
                Self::Io { path, source }
            }
        }
    }
}

/// The login file at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAuth {
    auth_path: PathBuf,
    state_path: PathBuf,
}

impl Default for StoreAuth {
    /// As [`StoreAuth::from_env`].
    fn default() -> Self {
        Self::from_env()
    }
}

impl StoreAuth {
    /// The login file at `auth_path`. `state_path` is kept for callers of 0.4 and not used.
    pub fn new(auth_path: impl Into<PathBuf>, state_path: impl Into<PathBuf>) -> Self {
        Self { auth_path: auth_path.into(), state_path: state_path.into() }
    }

    /// The login file at its default place, see [`default_store_auth_path`].
    pub fn from_env() -> Self {
        Self::new(default_store_auth_path(), default_store_state_path())
    }

    /// The login file.
    pub fn auth_path(&self) -> &Path {
        &self.auth_path
    }

    /// What was given as the state path.
    pub fn state_path(&self) -> &Path {
        &self.state_path
    }

    /// Saves the login of a tenant, see [`save_login`].
    ///
    /// # Errors
    /// As [`save_login`].
    pub async fn save_login(&self, tenant: &str, token: &str) -> Result<(), StoreAuthError> {
        save_login(&self.auth_path, &self.state_path, tenant, token).await
    }

    /// Loads the login of a tenant, see [`load_login`].
    ///
    /// # Errors
    /// As [`load_login`].
    pub async fn load_login(&self, tenant: &str) -> Result<StoreCredentials, StoreAuthError> {
        load_login(&self.auth_path, &self.state_path, tenant).await
    }

    /// Forgets the login of a tenant. `false` when there was none.
    ///
    /// # Errors
    /// As [`save_login`].
    pub async fn remove_login(&self, tenant: &str) -> Result<bool, StoreAuthError> {
        let tenant = tenant.trim().to_owned();
        off_thread(PrivateFile::new(&self.auth_path), move |file| remove(file, &tenant)).await
    }

    /// The saved logins, in the order in which they were saved. Empty without a file.
    ///
    /// # Errors
    /// As [`load_login`], but for a missing login.
    pub async fn logins(&self) -> Result<Vec<StoreCredentials>, StoreAuthError> {
        off_thread(PrivateFile::new(&self.auth_path), |file| Ok(read(file)?.unwrap_or_default())).await
    }
}

/// The default place of the login file: `GREENTIC_DIST_STORE_SECRETS_PATH`, else
/// `${XDG_CONFIG_HOME:-~/.config}/greentic/dist/store-auth.json`, else `$GREENTIC_HOME/config/dist/store-auth.json`, else
/// `.greentic/config/dist/store-auth.json`. No I/O.
pub fn default_store_auth_path() -> PathBuf {
    paths::login_file()
}

/// The same path as [`default_store_auth_path`]; kept for callers of 0.4.
pub fn default_store_state_path() -> PathBuf {
    default_store_auth_path()
}

/// Saves the login of a tenant, in place of an earlier one; other logins stay. `state_path` is not used.
///
/// The tenant is trimmed of white space around it, the token is saved as it is; the user name is the tenant's. A future that
/// is dropped may still save; what is on the disk is the old file or the new one, never a part.
///
/// # Errors
/// By kind: invalid input for an empty or too long tenant or token, refused, busy, I/O.
pub async fn save_login(auth_path: &Path, state_path: &Path, tenant: &str, token: &str) -> Result<(), StoreAuthError> {
    let _: &Path = state_path;
    let (tenant, token) = (tenant.to_owned(), Secret::new(token));
    off_thread(PrivateFile::new(auth_path), move |file| save(file, &tenant, &token)).await
}

/// Loads the login of a tenant, whose name is trimmed. Creates nothing; `state_path` is not used. Cancel-safe.
///
/// # Errors
/// By kind: login required when there is none or it is incomplete, refused, I/O.
pub async fn load_login(auth_path: &Path, state_path: &Path, tenant: &str) -> Result<StoreCredentials, StoreAuthError> {
    let _: &Path = state_path;
    let tenant = tenant.to_owned();
    off_thread(PrivateFile::new(auth_path), move |file| load(file, &tenant)).await
}

/// [`save_login`] at the default place.
///
/// # Errors
/// As [`save_login`].
pub async fn save_login_default(tenant: &str, token: &str) -> Result<(), StoreAuthError> {
    StoreAuth::from_env().save_login(tenant, token).await
}

/// [`load_login`] at the default place.
///
/// # Errors
/// As [`load_login`].
pub async fn load_login_default(tenant: &str) -> Result<StoreCredentials, StoreAuthError> {
    StoreAuth::from_env().load_login(tenant).await
}

/// Does file work where it does not hold up a runtime.
async fn off_thread<T, F>(file: PrivateFile, work: F) -> Result<T, StoreAuthError>
where
    T: Send + 'static,
    F: FnOnce(&PrivateFile) -> Result<T, StoreAuthError> + Send + 'static,
{
    #[cfg(feature = "dist-client")]
    if tokio::runtime::Handle::try_current().is_ok() {
        let path = file.path().display().to_string();
        return crate::blocking::run(move || Ok(work(&file))).await.unwrap_or_else(|cancelled| {
            let source = std::io::Error::new(std::io::ErrorKind::Interrupted, cancelled);
            Err(StoreAuthError::Io { path, source })
        });
    }
    std::future::ready(work(&file)).await
}

#[derive(Serialize, Deserialize)]
struct Document<L> {
    version: u64,
    logins: L,
}

/// What every version of the file says of itself.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

fn save(file: &PrivateFile, tenant: &str, token: &Secret) -> Result<(), StoreAuthError> {
    let tenant = tenant.trim();
    let token = token.expose();
    if tenant.is_empty() || tenant.len() > TENANT_BYTES || tenant.chars().any(char::is_control) {
        return Err(StoreAuthError::Message(
            "the name of a tenant has 1 to 255 bytes and no control characters".into(),
        ));
    }
    if token.trim().is_empty() || token.len() > TOKEN_BYTES || token.chars().any(char::is_control) {
        return Err(StoreAuthError::Message("a token has 1 to 32768 bytes and no control characters".into()));
    }
    file.update(|before| {
        let mut logins = before.map(|text| parse(file, text)).transpose()?.unwrap_or_default();
        logins.retain(|login| login.tenant != tenant);
        logins.push(StoreCredentials { tenant: tenant.into(), username: tenant.into(), token: token.into() });
        write(&logins).map(Some)
    })
    .map(|written| warn_if(written.was_open, file))
}

fn remove(file: &PrivateFile, tenant: &str) -> Result<bool, StoreAuthError> {
    // Without a file there is nothing to forget, and no directory to create; a first login that was killed left something.
    if read(file)?.is_none() {
        file.tidy()?;
        return Ok(false);
    }
    let written = file.update(|before| {
        let mut logins = before.map(|text| parse(file, text)).transpose()?.unwrap_or_default();
        let count = logins.len();
        logins.retain(|login| login.tenant != tenant);
        if logins.len() == count { Ok(None) } else { write(&logins).map(Some) }
    })?;
    Ok(written.changed)
}

fn load(file: &PrivateFile, tenant: &str) -> Result<StoreCredentials, StoreAuthError> {
    let tenant = tenant.trim();
    let path = || file.path().display().to_string();
    let name = || SafeText::excerpt(tenant, TENANT_BYTES).to_string();
    let logins = read(file)?.unwrap_or_default();
    let Some(login) = logins.into_iter().find(|login| login.tenant == tenant) else {
        return Err(StoreAuthError::NoLogin { path: path(), tenant: name() });
    };
    if login.username.trim().is_empty() || login.token.is_empty() {
        return Err(StoreAuthError::Incomplete { path: path(), tenant: name() });
    }
    Ok(login)
}

fn read(file: &PrivateFile) -> Result<Option<Vec<StoreCredentials>>, StoreAuthError> {
    let Some(content) = file.read()? else { return Ok(None) };
    warn_if(content.was_open, file);
    parse(file, &content.text).map(Some)
}

fn warn_if(was_open: bool, file: &PrivateFile) {
    #[cfg(feature = "dist-client")]
    if was_open {
        tracing::warn!(path = %file.path().display(), "the login file could be read by others and is now closed to them");
    }
    #[cfg(not(feature = "dist-client"))]
    let _: (bool, &PrivateFile) = (was_open, file);
}

fn write(logins: &[StoreCredentials]) -> Result<Secret, StoreAuthError> {
    let mut text = serde_json::to_string_pretty(&Document { version: VERSION, logins })?;
    text.push('\n');
    Ok(Secret::new(text))
}

/// Reads the file's text. What is wrong with it is told by its place: the text itself holds tokens.
fn parse(file: &PrivateFile, text: &Secret) -> Result<Vec<StoreCredentials>, StoreAuthError> {
    let path = file.path().display();
    let text = text.expose();
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    if text.lines().any(|line| line.trim_start().starts_with(LEGACY_PREFIX)) {
        return legacy(text).map_err(|why| {
            StoreAuthError::SecretStore(format!(
                "{path} was saved by an older greentic-dist and {why}; delete it, revoke its tokens (its protection was weak) and \
                 run `greentic-dist auth login` again"
            ))
        });
    }
    let wrong = |error: &serde_json::Error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        StoreAuthError::SecretStore(format!("{path} is no login file ({place}); move it away and log in again"))
    };
    let versioned: Versioned = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    if versioned.version != VERSION {
        return Err(StoreAuthError::SecretStore(format!(
            "{path} has the form {} of a newer greentic-dist; this one knows {VERSION}",
            versioned.version
        )));
    }
    let document: Document<Vec<StoreCredentials>> = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    Ok(document.logins)
}

#[cfg(feature = "dist-client")]
fn legacy(text: &str) -> Result<Vec<StoreCredentials>, &'static str> {
    let key = crate::env::value(crate::env::DEV_MASTER_KEY).unwrap_or_default();
    legacy::decode(text, key.as_encoded_bytes())
}

#[cfg(not(feature = "dist-client"))]
fn legacy(_text: &str) -> Result<Vec<StoreCredentials>, &'static str> {
    Err("this build cannot read it")
}
