//! Our own file of registry logins: what `greentic-dist auth login REGISTRY` saves.
//!
//! `{"version":1,"logins":[{"registry":…, "username":…, "password":…}]}`, with `token` for a bearer token and `helper` for a login
//! that a credential helper keeps. Held like the file of tenants, see [`PrivateFile`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use greentic_dist_net::{Credential, CredentialTarget, Login};
use greentic_dist_types::Secret;
use serde::{Deserialize, Serialize};

use super::helper::{HelperName, Helpers};
use super::notes::Notes;
use super::scope::{self, Scope};
use crate::paths;
use crate::private_file::{PrivateFile, PrivateFileError};

/// The version of the file's form.
const VERSION: u64 = 1;

/// The file of saved registry logins.
#[derive(Clone, Debug)]
pub(crate) struct RegistryLogins {
    file: PrivateFile,
}

/// One saved login.
#[derive(Clone, Debug)]
pub(crate) struct SavedLogin {
    /// What it is for.
    pub(crate) scope: Scope,
    /// What it is, or who has it.
    pub(crate) secrets: Secrets,
}

/// What is saved of a login.
#[derive(Clone, Debug)]
pub(crate) enum Secrets {
    /// User name and password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token.
    Token(Secret),
    /// A credential helper has it.
    Helper {
        /// Which one.
        name: HelperName,
        /// The user name it was given; only for people.
        username: String,
    },
}

/// Why saved registry logins could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryLoginError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is in no form that is known. Its text holds logins and is not told.
    #[error("{path} is no file of registry logins ({why})")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u64,
    logins: Vec<Entry>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    registry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    helper: Option<String>,
}

impl RegistryLogins {
    /// The file at its place: `GREENTIC_DIST_REGISTRY_AUTH_PATH`, else `registry-auth.json` beside the default login file.
    pub(crate) fn from_env() -> Self {
        Self { file: PrivateFile::new(paths::registry_login_file()) }
    }

    /// The file at a path.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { file: PrivateFile::new(path) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The saved logins, in the order in which they were saved. Empty without a file. Blocks.
    ///
    /// # Errors
    /// [`RegistryLoginError`].
    pub(crate) fn list(&self) -> Result<Vec<SavedLogin>, RegistryLoginError> {
        match self.file.read()? {
            Some(content) => self.parse(&content.text),
            None => Ok(Vec::new()),
        }
    }

    /// Saves a login in place of an earlier one for the same scope. Blocks.
    ///
    /// # Errors
    /// [`RegistryLoginError`]; what was saved is then saved still.
    #[cfg(feature = "dist-cli")]
    pub(crate) fn save(&self, login: &SavedLogin) -> Result<(), RegistryLoginError> {
        self.file
            .update(|before| {
                let mut logins = before.map(|text| self.parse(text)).transpose()?.unwrap_or_default();
                logins.retain(|other| other.scope != login.scope);
                logins.push(login.clone());
                self.write(&logins).map(Some)
            })
            .map(drop)
    }

    /// Forgets the login for a scope and returns it. Blocks.
    ///
    /// # Errors
    /// [`RegistryLoginError`]; what was saved is then saved still.
    #[cfg(feature = "dist-cli")]
    pub(crate) fn remove(&self, scope: &Scope) -> Result<Option<SavedLogin>, RegistryLoginError> {
        // Without a login there is nothing to write, and no directory to create; a login that was killed left something.
        let Some(removed) = self.list()?.into_iter().find(|login| login.scope == *scope) else {
            self.file.tidy()?;
            return Ok(None);
        };
        self.file.update(|before| {
            let mut logins = before.map(|text| self.parse(text)).transpose()?.unwrap_or_default();
            logins.retain(|other| other.scope != *scope);
            self.write(&logins).map(Some)
        })?;
        Ok(Some(removed))
    }

    /// The login for a target: the one for the most specific scope.
    pub(super) fn find(&self, target: &CredentialTarget, helpers: &Helpers, notes: &mut Notes) -> Option<Login> {
        let place = self.path().display().to_string();
        let logins = self
            .list()
            .map_err(|error| {
                let error = crate::dist::chain(&error);
                notes.warn(format!("the saved registry logins are not used: {error}"));
            })
            .ok()?;
        let table: BTreeMap<String, Secrets> =
            logins.into_iter().map(|login| (login.scope.to_string(), login.secrets)).collect();
        let found = match scope::find(&table.iter().map(|(key, value)| (key.as_str(), value)), target)? {
            Secrets::Password { username, password } => {
                Credential::Basic { username: username.clone(), password: password.clone() }
            }
            Secrets::Token(token) => Credential::Bearer(token.clone()),
            Secrets::Helper { name, username } => {
                let scope = Scope::of_target(target).pop()?;
                let found = helpers.get(name, &scope).unwrap_or_else(|error| {
                    notes.remark(format!("{error}; it has the login of `{username}` for {scope}"));
                    None
                });
                return found.map(|found| Login::ambient(found, format!("the helper `{name}` ({place})")));
            }
        };
        Some(Login::ambient(found, place))
    }

    fn parse(&self, text: &Secret) -> Result<Vec<SavedLogin>, RegistryLoginError> {
        let wrong = |why: String| RegistryLoginError::Malformed { path: self.path().display().to_string(), why };
        let at = |error: &serde_json::Error| wrong(format!("line {}, column {}", error.line(), error.column()));
        let text = text.expose();
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let Versioned { version } = serde_json::from_str(text).map_err(|error| at(&error))?;
        if version != VERSION {
            return Err(wrong(format!("its version is {version}, and {VERSION} is known")));
        }
        let document: Document = serde_json::from_str(text).map_err(|error| at(&error))?;
        let logins = document.logins.into_iter().enumerate();
        logins
            .map(|(index, entry)| entry.understand().ok_or_else(|| wrong(format!("its login {}", index + 1))))
            .collect()
    }

    #[cfg(feature = "dist-cli")]
    fn write(&self, logins: &[SavedLogin]) -> Result<Secret, RegistryLoginError> {
        let document = Document { version: VERSION, logins: logins.iter().map(Entry::of).collect() };
        let mut text = serde_json::to_string_pretty(&document).map_err(|error| RegistryLoginError::Malformed {
            path: self.path().display().to_string(),
            why: error.to_string(),
        })?;
        text.push('\n');
        Ok(Secret::new(text))
    }
}

impl Entry {
    fn understand(self) -> Option<SavedLogin> {
        let scope = Scope::parse(&self.registry)?;
        let secrets = match (self.helper, self.token, self.username, self.password) {
            (Some(helper), None, username, None) => {
                Secrets::Helper { name: HelperName::parse(&helper)?, username: username.unwrap_or_default() }
            }
            (None, Some(token), None, None) => Secrets::Token(token.into()),
            (None, None, Some(username), Some(password)) => Secrets::Password { username, password: password.into() },
            _ => return None,
        };
        Some(SavedLogin { scope, secrets })
    }

    #[cfg(feature = "dist-cli")]
    fn of(login: &SavedLogin) -> Self {
        let mut entry =
            Self { registry: login.scope.to_string(), username: None, password: None, token: None, helper: None };
        match &login.secrets {
            Secrets::Password { username, password } => {
                entry.username = Some(username.clone());
                entry.password = Some(password.expose().to_owned());
            }
            Secrets::Token(token) => entry.token = Some(token.expose().to_owned()),
            Secrets::Helper { name, username } => {
                entry.helper = Some(name.to_string());
                entry.username = Some(username.clone());
            }
        }
        entry
    }
}
