//! Programs that keep logins: `docker-credential-NAME get|store|erase`, JSON on their standard input and output.
//!
//! A helper is found in `PATH` alone, by a name that can be no path. It gets ten seconds and may say 64 KiB; then it is killed,
//! with everything it started. What it says on its standard error is shown to nobody, and what it says when it fails neither.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use greentic_dist_net::Credential;
use greentic_dist_types::Secret;
use serde::Deserialize;

use super::scope::Scope;
#[cfg(unix)]
use crate::interruption::{LastAct, with_last_act};

/// Longest life of a helper.
const TIME: Duration = Duration::from_secs(10);
/// Most a helper may say, in bytes.
const OUTPUT_BYTES: u64 = 64 << 10;
/// Pause between two looks at a helper that has said everything.
const LOOK: Duration = Duration::from_millis(1);
/// Longest name, in bytes.
const NAME_BYTES: usize = 64;
/// Most answers remembered; beyond it the memory starts anew.
const REMEMBERED: usize = 256;
/// The user name of an identity token (credential-helper protocol).
const IDENTITY_USER: &str = "<token>";
/// What a helper says, with exit code 1, when it has no such login (credential-helper protocol).
const NOT_FOUND: &str = "credentials not found";

/// The name of a helper: 1 to 64 letters, digits, dots, underscores and hyphens. It is the end of a program's name, never a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HelperName(String);

/// Why a helper was of no help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    /// No such program in `PATH`.
    #[error("the credential helper `docker-credential-{name}` is not in PATH")]
    Missing {
        /// The helper's name.
        name: String,
    },
    /// It could not be started or listened to.
    #[error("the credential helper `docker-credential-{name}` could not be run")]
    Io {
        /// The helper's name.
        name: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It ran longer than ten seconds.
    #[error("the credential helper `docker-credential-{name}` did not answer within {} s and was ended", TIME.as_secs())]
    TooSlow {
        /// The helper's name.
        name: String,
    },
    /// It said more than 64 KiB.
    #[error("the credential helper `docker-credential-{name}` said more than {} KiB and was ended", OUTPUT_BYTES >> 10)]
    TooMuch {
        /// The helper's name.
        name: String,
    },
    /// It failed.
    #[error("the credential helper `docker-credential-{name}` failed ({status})")]
    Failed {
        /// The helper's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// What it said is not what the protocol has.
    #[error("the answer of the credential helper `docker-credential-{name}` is not the expected JSON")]
    Malformed {
        /// The helper's name.
        name: String,
    },
}

/// The helpers of this machine, and what they said.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    /// By helper and server. A login is remembered until it is rejected; that there is none is not remembered.
    known: Mutex<HashMap<(String, String), Credential>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[cfg(feature = "dist-cli")]
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stored<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

impl HelperName {
    /// `None` for what is no such name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(is_name);
        fits.then(|| Self(name.to_owned()))
    }

    /// The login for a scope; `None` when the helper has none. Blocks for ten seconds at most.
    ///
    /// # Errors
    /// [`HelperError`].
    pub(crate) fn get(&self, scope: &Scope) -> Result<Option<Credential>, HelperError> {
        let (status, said) = self.run("get", scope.server().as_bytes())?;
        if !status.success() {
            let has_none = status.code() == Some(1) && said.expose().contains(NOT_FOUND);
            return if has_none { Ok(None) } else { Err(HelperError::Failed { name: self.0.clone(), status }) };
        }
        let found: Found = serde_json::from_str(said.expose())
            .map_err(|_holds_a_secret| HelperError::Malformed { name: self.0.clone() })?;
        let secret = Secret::new(found.secret);
        Ok(match (secret.is_empty(), found.username) {
            (true, _) => None,
            (false, username) if username == IDENTITY_USER => Some(Credential::IdentityToken(secret)),
            (false, username) => Some(Credential::Basic { username, password: secret }),
        })
    }

    /// Gives the helper a login to keep. Blocks for ten seconds at most.
    ///
    /// # Errors
    /// [`HelperError`].
    #[cfg(feature = "dist-cli")]
    pub(crate) fn store(&self, scope: &Scope, username: &str, secret: &Secret) -> Result<(), HelperError> {
        let server = scope.server();
        let stored = Stored { server_url: &server, username, secret: secret.expose() };
        let input = serde_json::to_string(&stored)
            .map_err(|error| HelperError::Io { name: self.0.clone(), source: error.into() })?;
        let (status, _) = self.run("store", Secret::new(input).expose().as_bytes())?;
        if status.success() { Ok(()) } else { Err(HelperError::Failed { name: self.0.clone(), status }) }
    }

    /// Lets the helper forget a login. One it does not have is no error. Blocks for ten seconds at most.
    ///
    /// # Errors
    /// [`HelperError`].
    #[cfg(feature = "dist-cli")]
    pub(crate) fn erase(&self, scope: &Scope) -> Result<(), HelperError> {
        let (status, said) = self.run("erase", scope.server().as_bytes())?;
        if status.success() || said.expose().contains(NOT_FOUND) {
            return Ok(());
        }
        Err(HelperError::Failed { name: self.0.clone(), status })
    }

    fn run(&self, verb: &str, input: &[u8]) -> Result<(ExitStatus, Secret), HelperError> {
        let name = || self.0.clone();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find(&format!("docker-credential-{}", self.0), &path)
            .ok_or_else(|| HelperError::Missing { name: name() })?;
        let io = |source| HelperError::Io { name: name(), source };
        let mut child = Running::start(&program, verb).map_err(io)?;
        let deadline = Instant::now() + TIME;
        let heard = child.talk(input, deadline).map_err(io)?;
        let said = match heard {
            Heard::Everything(said) => said,
            Heard::TooMuch => return Err(HelperError::TooMuch { name: name() }),
            Heard::TooSlow => return Err(HelperError::TooSlow { name: name() }),
        };
        match child.end(deadline).map_err(io)? {
            Some(status) => Ok((status, said)),
            None => Err(HelperError::TooSlow { name: name() }),
        }
    }
}

impl fmt::Display for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Helpers {
    /// The login a helper has for a scope, asked for once.
    pub(super) fn get(&self, name: &HelperName, scope: &Scope) -> Result<Option<Credential>, HelperError> {
        let key = (name.0.clone(), scope.server());
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(known.clone()));
        }
        let found = name.get(scope)?;
        if let Some(found) = &found {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(key, found.clone());
        }
        Ok(found)
    }

    /// Forgets what is remembered for a server.
    pub(super) fn forget(&self, scope: &Scope) {
        let server = scope.server();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, known), _| *known != server);
    }
}

/// A program in `PATH`. Relative entries would name the working directory, where anybody's files may be; they are passed over.
fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    let program = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(&program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        meta.is_file() && meta.permissions().mode() & 0o111 != 0
    }
    #[cfg(not(unix))]
    meta.is_file()
}

/// What a helper said.
enum Heard {
    Everything(Secret),
    TooMuch,
    TooSlow,
}

/// A helper that runs, in a process group of its own. It and what it started are killed when dropped.
struct Running {
    child: Child,
    ended: bool,
    /// Kills it when this process is interrupted.
    #[cfg(unix)]
    _last_act: LastAct,
}

impl Running {
    fn start(program: &Path, verb: &str) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        #[cfg(unix)]
        {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            let (child, last_act) = with_last_act(|| {
                let child = command.spawn()?;
                let id = child.id();
                Ok((child, Box::new(move || kill_group(id)) as _))
            })?;
            Ok(Self { child, ended: false, _last_act: last_act })
        }
        #[cfg(not(unix))]
        Ok(Self { child: command.spawn()?, ended: false })
    }

    /// Writes the input and reads all that is said. Both in threads of their own: a helper may do neither.
    fn talk(&mut self, input: &[u8], deadline: Instant) -> io::Result<Heard> {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut stdin = self.child.stdin.take().ok_or_else(pipe)?;
        let stdout = self.child.stdout.take().ok_or_else(pipe)?;
        let input = Secret::new(String::from_utf8_lossy(input));
        // A helper that does not read its input will say so by its exit code.
        std::thread::spawn(move || drop(stdin.write_all(input.expose().as_bytes())));
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut said = String::new();
            let result = stdout.take(OUTPUT_BYTES + 1).read_to_string(&mut said);
            // Nobody listens any more when this took too long.
            drop(send.send(result.map(|_| Secret::new(said))));
        });
        match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(said) => {
                let said = said?;
                let length = u64::try_from(said.expose().len()).unwrap_or(u64::MAX);
                Ok(if length > OUTPUT_BYTES { Heard::TooMuch } else { Heard::Everything(said) })
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(Heard::TooSlow),
        }
    }

    /// Waits for the end; `None` when it does not come in time.
    fn end(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.ended = true;
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        #[cfg(unix)]
        kill_group(self.child.id());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Kills a helper with everything it started.
#[cfg(unix)]
fn kill_group(id: u32) {
    if let Some(group) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself just now.
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL).is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirk_s12_the_name_of_a_helper_can_be_no_path_and_no_command() {
        for name in ["osxkeychain", "ecr-login", "gcr", "a", "x_y.z-1", &"x".repeat(64)] {
            assert!(HelperName::parse(name).is_some(), "{name}");
        }
        for name in
            ["", "../../evil", "/bin/sh", "a b", "a;b", "$(id)", "a\0b", "a\nb", "ä", "a\\b", "a/b", &"x".repeat(65)]
        {
            assert!(HelperName::parse(name).is_none(), "{name:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_helper_is_looked_for_in_absolute_directories_of_the_path_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::TempDir::new().unwrap();
        let program = dir.path().join("docker-credential-x");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([Path::new("."), Path::new(""), dir.path()]).unwrap();
        assert_eq!(find("docker-credential-x", &path), None, "it is no program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("docker-credential-x", &path), Some(program));
        assert_eq!(find("docker-credential-y", &path), None);
        assert_eq!(find("docker-credential-x", OsStr::new("")), None);
        std::fs::create_dir(dir.path().join("docker-credential-dir")).unwrap();
        assert_eq!(find("docker-credential-dir", &path), None);
    }
}
