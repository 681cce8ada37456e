//! Debian's `docker-registry` (distribution 2.8) on a free port of 127.0.0.1, its content in a temporary directory.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use greentic_dist_types::Digest;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{LoggedRequest, await_some};
use crate::process::{Run, find};
use crate::raw_client;

/// How a registry is set up.
#[derive(Clone, Debug, Default)]
pub struct DockerRegistryConfig {
    /// Who may ask it.
    pub auth: RegistryAuth,
}

/// Who may ask a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RegistryAuth {
    /// Everybody.
    #[default]
    None,
    /// One user (`Basic`, checked against a file that the program `htpasswd` makes; the known user needs no program).
    Htpasswd {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Whoever has a token of a [`TokenServer`](super::TokenServer).
    Token {
        /// The URL at which tokens are given.
        realm: String,
        /// The registry's name in tokens.
        service: String,
        /// Who signs them.
        issuer: String,
        /// The certificate of the key they are signed with.
        certificate_pem: String,
    },
}

impl RegistryAuth {
    /// A user whose hashed password is known here.
    pub const KNOWN_USER: &'static str = "alice";
    /// The password of that user.
    pub const KNOWN_PASSWORD: &'static str = "canary-of-alice";
    /// Made by `htpasswd -Bbn`.
    const KNOWN_LINE: &'static str = "alice:$2y$05$T.vpXTa.V5pV6wPgTox9COnIhB6MUcjEGsWtdttxqK.5jdAH.Gs1K\n";

    /// The known user alone.
    pub fn known() -> Self {
        Self::Htpasswd { user: Self::KNOWN_USER.to_owned(), password: Self::KNOWN_PASSWORD.to_owned() }
    }

    /// User and password, as [`skopeo_push`](super::skopeo_push) takes them.
    pub fn login(&self) -> Option<(&str, &str)> {
        match self {
            Self::None => None,
            Self::Htpasswd { user, password } => Some((user, password)),
            Self::Token { .. } => Some((Self::KNOWN_USER, Self::KNOWN_PASSWORD)),
        }
    }

    fn file(&self) -> Option<String> {
        match self {
            Self::None | Self::Token { .. } => None,
            known if *known == Self::known() => Some(Self::KNOWN_LINE.to_owned()),
            Self::Htpasswd { user, password } => {
                let hashed = Run::new("htpasswd").args(["-Bbn", user, password]).output();
                Some(hashed.expect_code(0).stdout.clone())
            }
        }
    }
}

/// A running `docker-registry`. Killed, and its content removed, when dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    dir: TempDir,
    addr: SocketAddr,
    child: Option<Child>,
    auth: RegistryAuth,
    upstream: Option<String>,
    markers: AtomicU32,
}

impl DockerRegistry {
    /// Starts a registry with nothing in it, and returns when it answers.
    pub fn start(config: &DockerRegistryConfig) -> Self {
        Self::set_up(config, None)
    }

    /// Starts a registry that brings what it is asked for from the one at `upstream` (`host:port`), which has to be running,
    /// and keeps it: a pull-through cache. Everybody may ask it, and nobody may push.
    pub fn mirror_of(upstream: &str) -> Self {
        Self::set_up(&DockerRegistryConfig::default(), Some(upstream.to_owned()))
    }

    fn set_up(config: &DockerRegistryConfig, upstream: Option<String>) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        if let Some(file) = config.auth.file() {
            fs::write(dir.path().join("htpasswd"), file).expect("write the login file");
        }
        if let RegistryAuth::Token { certificate_pem, .. } = &config.auth {
            fs::write(dir.path().join("token.pem"), certificate_pem).expect("write the certificate of the tokens");
        }
        let (auth, markers) = (config.auth.clone(), AtomicU32::new(0));
        let mut registry = Self { dir, addr: any_port, child: None, auth, upstream, markers };
        registry.restart();
        registry
    }

    /// Starts a registry that everybody may ask.
    pub fn open() -> Self {
        Self::start(&DockerRegistryConfig::default())
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// The address it listens on, or listened on until it was stopped.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The file in which it keeps a blob or a manifest.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_hex();
        let shards = self.path("storage/docker/registry/v2/blobs").join(digest.algorithm().name());
        shards.join(&hex[..2]).join(&hex).join("data")
    }

    /// Ends it with SIGTERM; answers on their way are finished first, so that afterwards the log is complete.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
            kill_process(pid, Signal::TERM).expect("end docker-registry");
            await_some("the end of docker-registry", || child.try_wait().expect("look at docker-registry"));
        }
    }

    /// Starts it where it was, with what it had.
    pub fn restart(&mut self) {
        self.stop();
        let log = self.path("registry.log");
        let seen = fs::read_to_string(&log).unwrap_or_default().len();
        fs::write(self.path("config.yml"), self.config()).expect("write the configuration");
        let append = |path: &Path| File::options().create(true).append(true).open(path).expect("open a log");
        let child = Command::new(find("docker-registry").expect("docker-registry is installed"))
            .arg("serve")
            .arg(self.path("config.yml"))
            .env_clear()
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .stdout(append(&self.path("access.log")))
            .stderr(append(&log))
            .spawn()
            .expect("start docker-registry");
        self.child = Some(child);
        self.addr = await_some("the start of docker-registry", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let (_, said) = text.get(seen..)?.split_once("listening on ")?;
            said.split(|ch: char| ch != '.' && ch != ':' && !ch.is_ascii_digit()).next()?.parse().ok()
        });
    }

    fn config(&self) -> String {
        let (dir, addr) = (self.dir.path().display(), self.addr);
        let mut yaml = format!(
            "version: 0.1\n\
             log: {{level: info, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: \"{dir}/storage\"}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"{addr}\", secret: tests, draintimeout: 20s}}\n"
        );
        if let Some(upstream) = &self.upstream {
            let _infallible = writeln!(yaml, "proxy: {{remoteurl: \"http://{upstream}\"}}");
        }
        let _infallible = match &self.auth {
            RegistryAuth::None => Ok(()),
            RegistryAuth::Htpasswd { .. } => {
                writeln!(yaml, "auth: {{htpasswd: {{realm: tests, path: \"{dir}/htpasswd\"}}}}")
            }
            RegistryAuth::Token { realm, service, issuer, .. } => writeln!(
                yaml,
                "auth: {{token: {{realm: \"{realm}\", service: \"{service}\", issuer: \"{issuer}\", \
                 rootcertbundle: \"{dir}/token.pem\"}}}}"
            ),
        };
        yaml
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> Vec<LoggedRequest> {
        let text = fs::read_to_string(self.path("access.log")).unwrap_or_default();
        text.lines().filter_map(LoggedRequest::parse).collect()
    }

    /// Every request it was asked since its first start and has answered, but the questions of this method.
    ///
    /// A request is logged at the end of its answer, when the client may be a moment ahead, and one of another connection may
    /// be logged after a later one. While the registry runs, this asks questions of its own until three in a row are logged
    /// with nothing new beside them. Where the number is known, [`DockerRegistry::requests_after`] waits for it; after
    /// [`DockerRegistry::stop`] the log is complete anyhow.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        const MARKER: &str = "/v2/marker-of-the-tests-";
        let asked =
            || -> Vec<_> { self.log().into_iter().filter(|request| !request.path.starts_with(MARKER)).collect() };
        let (mut quiet, mut known) = (0, asked().len());
        while self.child.is_some() && quiet < 3 {
            let marker = format!("{MARKER}{}/", self.markers.fetch_add(1, Ordering::Relaxed));
            raw_client::exchange(self.addr, "GET", &marker, &[], b"").expect("ask the registry");
            await_some("the log of docker-registry", || {
                self.log().iter().any(|request| request.path == marker).then_some(())
            });
            let now = asked().len();
            quiet = if now == known { quiet + 1 } else { 0 };
            known = now;
        }
        asked()
    }

    /// The requests after the first `already`, once there are at least `count` of them.
    pub fn requests_after(&self, already: usize, count: usize) -> Vec<LoggedRequest> {
        await_some(&format!("{count} more requests in the log of docker-registry"), || {
            let requests = self.requests();
            (requests.len() >= already + count).then(|| requests[already..].to_vec())
        })
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
