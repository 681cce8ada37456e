//! An OCI registry over a [`LyingServer`]: honest until told to [`Lie`], and again when told to stop.
//!
//! ```
//! use greentic_dist_testkit::fixture;
//! use greentic_dist_testkit::scenario::{Lie, Scenario};
//!
//! let registry = Scenario::new(fixture::component()).lie(Lie::WrongBlob).start();
//! let reference = registry.reference(); // 127.0.0.1:PORT/acme/hello:1
//! // ... a pull of `reference` must fail ...
//! registry.be_honest();
//! // ... and now it must work.
//! # assert!(reference.ends_with("/acme/hello:1"));
//! ```

pub mod hostile;
mod lie;
mod registry;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greentic_dist_types::Digest;

pub use lie::{Lie, Part, retry_after_date};
use registry::State;

use crate::fixture::{Artifact, Document};
use crate::{Journal, LyingServer, Response};

/// How the registry asks who is there.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// It does not.
    #[default]
    None,
    /// `Basic` with one user.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// `Bearer` with its token endpoint at `/token` of the same server, open to everybody.
    AnonymousBearer,
    /// `Bearer`, tokens for one user only.
    Bearer {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl Auth {
    /// `Basic` for this user.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic { user: user.to_owned(), password: password.to_owned() }
    }

    /// `Bearer` for this user.
    pub fn bearer(user: &str, password: &str) -> Self {
        Self::Bearer { user: user.to_owned(), password: password.to_owned() }
    }
}

/// What a lying registry starts with.
#[derive(Clone, Debug)]
#[must_use]
pub struct Scenario {
    artifact: Artifact,
    repository: String,
    tag: String,
    lies: Vec<Lie>,
    auth: Auth,
    ip: IpAddr,
}

impl Scenario {
    /// `artifact` as `acme/hello:1`, on 127.0.0.1, for everybody, honest.
    pub fn new(artifact: Artifact) -> Self {
        Self {
            artifact,
            repository: "acme/hello".to_owned(),
            tag: "1".to_owned(),
            lies: Vec::new(),
            auth: Auth::None,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Another repository name.
    pub fn repository(mut self, repository: &str) -> Self {
        repository.clone_into(&mut self.repository);
        self
    }

    /// Another tag.
    pub fn tag(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.tag);
        self
    }

    /// One lie more.
    pub fn lie(mut self, lie: Lie) -> Self {
        self.lies.push(lie);
        self
    }

    /// Asks for credentials.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Listens on another loopback address.
    pub fn on(mut self, ip: IpAddr) -> Self {
        self.ip = ip;
        self
    }

    /// Starts listening on a free port.
    pub fn start(self) -> LyingRegistry {
        let state = Arc::new(Mutex::new(State::new(&self.artifact, &self.tag, self.lies, self.auth)));
        let for_server = Arc::clone(&state);
        let repository = self.repository.clone();
        let server =
            LyingServer::start_on(self.ip, move |request, ctx| lock(&for_server).answer(&repository, request, ctx));
        LyingRegistry { server, state, artifact: self.artifact, repository: self.repository, tag: self.tag }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running registry whose lies can be switched while it runs. It stops when dropped.
pub struct LyingRegistry {
    server: LyingServer,
    state: Arc<Mutex<State>>,
    artifact: Artifact,
    repository: String,
    tag: String,
}

impl LyingRegistry {
    /// The server below.
    pub const fn server(&self) -> &LyingServer {
        &self.server
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Every request so far.
    pub fn journal(&self) -> Journal {
        self.server.journal()
    }

    /// The artifact it started with.
    pub const fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// `HOST/REPOSITORY:TAG` of the artifact, no scheme.
    pub fn reference(&self) -> String {
        self.reference_to(&self.tag)
    }

    /// `HOST/REPOSITORY@DIGEST` of the artifact, no scheme.
    pub fn pinned(&self) -> String {
        self.pinned_to(self.artifact.manifest_digest)
    }

    /// `HOST/REPOSITORY:TAG` for any tag.
    pub fn reference_to(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", self.host(), self.repository)
    }

    /// `HOST/REPOSITORY@DIGEST` for any digest.
    pub fn pinned_to(&self, digest: Digest) -> String {
        format!("{}/{}@{digest}", self.host(), self.repository)
    }

    /// One lie more, from the next request on.
    pub fn lie(&self, lie: Lie) {
        lock(&self.state).lies.push(lie);
    }

    /// No lies from the next request on. What is already on its way stays wrong.
    pub fn be_honest(&self) {
        lock(&self.state).lies.clear();
    }

    /// Forgets every token that was issued: the next use of one is refused.
    pub fn expire_tokens(&self) {
        lock(&self.state).tokens.clear();
    }

    /// Adds another artifact and lets `tag` name it.
    pub fn publish(&self, artifact: &Artifact, tag: &str) {
        lock(&self.state).publish(artifact, tag);
    }

    /// Adds a document (an index, one of [`hostile`]) under its digest, and under `tag` when there is one.
    pub fn publish_document(&self, document: &Document, tag: Option<&str>) {
        lock(&self.state).publish_document(document, tag);
    }
}

impl fmt::Debug for LyingRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LyingRegistry").field("reference", &self.reference()).finish_non_exhaustive()
    }
}

/// A plain server on `ip` that answers `/blob/<digest>` with the artifact's blobs, `Range` included: where
/// [`Lie::RedirectBlob`] leads. Its journal shows what the client told a host it was sent to.
pub fn blob_host(ip: IpAddr, artifact: &Artifact) -> LyingServer {
    let blobs: Vec<_> = artifact.blobs().cloned().collect();
    LyingServer::start_on(ip, move |request, _ctx| {
        let found = blobs.iter().find(|blob| request.path.strip_prefix("/blob/") == Some(&blob.digest.to_string()));
        match found {
            Some(blob) => Response::ranged(request, &format!("\"{}\"", blob.digest), blob.bytes.clone()),
            None => Response::status(404, "no such blob"),
        }
    })
}

/// A server that answers everything with 404: a host that must not be asked, or not be told anything.
pub fn bystander(ip: IpAddr) -> LyingServer {
    LyingServer::start_on(ip, |_request, _ctx| Response::status(404, "nothing here"))
}
