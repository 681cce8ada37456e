//! Files in the form of Docker's `config.json`, which the `auth.json` of the containers tools shares: tables of logins and of the
//! helpers that have them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use greentic_dist_net::{Credential, CredentialTarget, Login};
use greentic_dist_types::{SafeText, Secret};
use serde::Deserialize;
use serde_json::Value;

use super::helper::{HelperError, HelperName, Helpers};
use super::notes::Notes;
use super::scope::{self, Scope};

/// Largest file that is read, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// Longest user name and longest secret of a login, in bytes.
const PART_BYTES: usize = 32 << 10;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The part of such a file that is about logins.
#[derive(Default, Deserialize)]
pub(super) struct AuthFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Value>>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: Option<BTreeMap<String, Value>>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<Value>,
    /// Where it is from, for people.
    #[serde(skip)]
    place: String,
}

impl AuthFile {
    /// Reads a file, which may be a symbolic link. `None` when there is none, or none that can be used, which is noted.
    pub(super) fn read(path: &Path, notes: &mut Notes) -> Option<Self> {
        let text = match read(path) {
            Ok(text) => text?,
            Err(error) => {
                notes.warn(format!("{} could not be read and its logins are not used: {error}", path.display()));
                return None;
            }
        };
        Self::parse(&text, &path.display().to_string(), notes)
    }

    /// Reads a text. What is wrong with it is told by its place: the text itself holds logins.
    pub(super) fn parse(text: &Secret, place: &str, notes: &mut Notes) -> Option<Self> {
        if text.expose().trim().is_empty() {
            return None;
        }
        match serde_json::from_str::<Self>(text.expose()) {
            Ok(file) => Some(Self { place: place.to_owned(), ..file }),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                notes.warn(format!("{place} is malformed (line {line}, column {column}) and its logins are not used"));
                None
            }
        }
    }

    /// The login of a file of Docker's for a target: the helper for the registry, the helper for all, and the table.
    pub(super) fn find(&self, target: &CredentialTarget, helpers: &Helpers, notes: &mut Notes) -> Option<Login> {
        self.in_own_helper(target, helpers, notes)
            .or_else(|| self.in_store(target, helpers, notes))
            .or_else(|| self.in_table(target, notes))
    }

    /// The login of a file of the containers tools for a target: they know no helper for all.
    pub(super) fn find_as_containers(
        &self,
        target: &CredentialTarget,
        helpers: &Helpers,
        notes: &mut Notes,
    ) -> Option<Login> {
        self.in_own_helper(target, helpers, notes).or_else(|| self.in_table(target, notes))
    }

    /// The login of the helper that the file names for this registry. Without that helper the other places are asked; its
    /// absence is told when no login is found in the end.
    pub(super) fn in_own_helper(
        &self,
        target: &CredentialTarget,
        helpers: &Helpers,
        notes: &mut Notes,
    ) -> Option<Login> {
        let table = self.cred_helpers.as_ref()?;
        let host = CredentialTarget::new(&target.host, "").to(target.action);
        let name = scope::find(&table.iter().map(|(key, value)| (key.as_str(), value)), &host)?;
        self.ask(name, target, "credHelpers", helpers, notes)
    }

    /// The login of the helper that the file names for every registry.
    pub(super) fn in_store(&self, target: &CredentialTarget, helpers: &Helpers, notes: &mut Notes) -> Option<Login> {
        let name = self.creds_store.as_ref().filter(|name| !matches!(name, Value::Null))?;
        if name.as_str().is_some_and(str::is_empty) {
            return None;
        }
        self.ask(name, target, "credsStore", helpers, notes)
    }

    fn ask(
        &self,
        name: &Value,
        target: &CredentialTarget,
        field: &str,
        helpers: &Helpers,
        notes: &mut Notes,
    ) -> Option<Login> {
        let place = format!("`{field}` of {}", self.place);
        let Some(name) = name.as_str().and_then(HelperName::parse) else {
            let shown = name.as_str().map(|name| SafeText::excerpt(name, 64).to_string()).unwrap_or_default();
            notes.warn(format!("{place} names a helper `{shown}`, which cannot be the name of one; it is not run"));
            return None;
        };
        let scope = Scope::of_target(target).pop()?;
        match helpers.get(&name, &scope) {
            Ok(found) => found.map(|found| Login::ambient(found, format!("the helper `{name}` ({place})"))),
            Err(error @ HelperError::Missing { .. }) if field == "credHelpers" => {
                notes.remark(format!("{error}; it is named for this registry in {place}"));
                None
            }
            Err(error) => {
                notes.warn(format!("{error}; it is named in {place}, and its logins are not used"));
                None
            }
        }
    }

    /// The login that stands in the file itself.
    pub(super) fn in_table(&self, target: &CredentialTarget, notes: &mut Notes) -> Option<Login> {
        let table = self.auths.as_ref()?;
        let filled = table.iter().filter(|(_, entry)| !is_empty(entry)).map(|(key, entry)| (key.as_str(), entry));
        let entry = scope::find(&filled, target)?;
        match credential(entry) {
            Ok(found) => Some(Login::ambient(found, &*self.place)),
            Err(why) => {
                let host = SafeText::excerpt(&target.host, 96);
                notes.warn(format!("the login for {host} in {} is not used: {why}", self.place));
                None
            }
        }
    }
}

/// Whether an entry only says that a helper has the login.
fn is_empty(entry: &Value) -> bool {
    let fields = ["auth", "username", "password", "identitytoken", "registrytoken"];
    !fields.iter().any(|field| entry.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty()))
}

/// The login of an entry: a token for the registry, else one for its token server, else user name and password.
fn credential(entry: &Value) -> Result<Credential, &'static str> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let bounded = |text: &str| if text.len() > PART_BYTES { Err("it is too long") } else { Ok(Secret::new(text)) };
    if let Some(token) = text("registrytoken") {
        return bounded(token).map(Credential::Bearer);
    }
    if let Some(token) = text("identitytoken") {
        return bounded(token).map(Credential::IdentityToken);
    }
    if let Some(encoded) = text("auth") {
        bounded(encoded)?;
        let decoded = BASE64.decode(encoded.trim()).map_err(|_holds_a_secret| "its `auth` is not base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_holds_a_secret| "its `auth` is no text")?;
        let decoded = Secret::new(decoded);
        let (username, password) =
            decoded.expose().split_once(':').ok_or("its `auth` is not a user name and a password")?;
        // Some writers pad the password with zero bytes.
        let password = Secret::new(password.trim_end_matches('\0'));
        return Ok(Credential::Basic { username: username.to_owned(), password });
    }
    let username = text("username").ok_or("it has no user name")?;
    let password = text("password").ok_or("it has no password")?;
    bounded(username)?;
    Ok(Credential::Basic { username: username.to_owned(), password: bounded(password)? })
}

/// The text of a regular file of bounded size. `None` when there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Secret>> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A directory on the way is a file: there is no such file either.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    let mut text = String::new();
    let mut limited = file.take(FILE_BYTES + 1);
    limited.read_to_string(&mut text)?;
    let text = Secret::new(text);
    if limited.limit() == 0 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(Some(text))
}

/// Opens a file without waiting for the other end of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.into(), password: password.into() }
    }

    #[test]
    fn quirk_a10_a_registry_token_stands_for_itself_and_every_kind_of_entry_is_read() {
        for (entry, expected) in [
            (json!({ "auth": "YW5uOnA6dw==" }), Ok(basic("ann", "p:w"))),
            (json!({ "auth": "YW5uOnA6dw" }), Ok(basic("ann", "p:w"))),
            (json!({ "auth": "YW5uOnAAAA==" }), Ok(basic("ann", "p"))),
            (json!({ "username": "ann", "password": "p" }), Ok(basic("ann", "p"))),
            (json!({ "auth": "YW5uOnA=", "identitytoken": "i" }), Ok(Credential::IdentityToken("i".into()))),
            (json!({ "identitytoken": "i", "registrytoken": "r" }), Ok(Credential::Bearer("r".into()))),
            (json!({ "auth": "YW5uOnA=", "identitytoken": "" }), Ok(basic("ann", "p"))),
            (json!({ "auth": "%%%" }), Err("its `auth` is not base64")),
            (json!({ "auth": "bm9jb2xvbg==" }), Err("its `auth` is not a user name and a password")),
            (json!({ "auth": "//8=" }), Err("its `auth` is no text")),
            (json!({ "username": "ann" }), Err("it has no password")),
            (json!({ "password": "p" }), Err("it has no user name")),
            (json!({ "registrytoken": "x".repeat(40_000) }), Err("it is too long")),
        ] {
            assert_eq!(credential(&entry), expected, "{entry}");
        }
        for empty in [json!({}), json!(null), json!({ "auth": "" }), json!([]), json!({ "auth": 5 })] {
            assert!(is_empty(&empty), "{empty}");
        }
    }
}
