//! The registry client of librex, in its spirit: one client for one registry, its few operations, whole answers.
//!
//! The names and defaults are librex's; what it got wrong is not. A manifest and a blob are held against their digests, lists go
//! on where any form of `Link` leads, a tag is never deleted together with its siblings, and a host without a scheme is HTTPS
//! except on loopback. Everything else is in [`blocking::Client`](super::Client), which this is made of. Its errors are those of
//! the whole client: [`Error::class`] tells librex's classes apart.
//!
//! ```
//! use greentic_distributor_client::blocking::compat::Client;
//! # let made = greentic_dist_testkit::fixture::component();
//! # let running = greentic_dist_testkit::fixture::served(&made);
//! # let url = format!("http://{}/", running.host());
//!
//! let client = Client::new(&url)?;
//! println!("{:?}", client.check_version()?.api_version);
//! for repository in client.fetch_catalog()? {
//!     println!("{repository}: {:?}", client.fetch_tags(&repository)?);
//! }
//! let (manifest, digest) = client.fetch_manifest("acme/hello", "1")?;
//! println!("{} bytes, {digest}", manifest.len());
//! # assert_eq!(digest, made.manifest_digest);
//! # Ok::<(), greentic_distributor_client::oci::Error>(())
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::oci::wait;
use crate::oci::{
    self, Credential, CredentialSource, Digest, Error, HttpRule, Reference, RegistryVersion, Repository, Selector,
    StaticCredentials, Timeouts,
};

/// Longest wait for an answer, and longest silence in the middle of one, unless set otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Unused connections that are kept, unless set otherwise.
pub const DEFAULT_IDLE_PER_HOST: usize = 10;
/// Largest blob in bytes, unless set otherwise: it is in memory as a whole.
pub const DEFAULT_BLOB_BYTES: u64 = 1 << 30;
/// Most entries of a list.
const ENTRIES: usize = 1_000_000;

/// A client for one registry. Cheap to clone; clones share connections and tokens. May be used from anywhere, see the
/// [module above](super).
#[derive(Clone, Debug)]
pub struct Client {
    inner: oci::Client,
    registry: String,
    dockerhub_compat: bool,
    blob_bytes: u64,
}

/// Collects the settings of a [`Client`].
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    settings: oci::ClientBuilder,
    dockerhub_compat: bool,
    blob_bytes: u64,
}

impl Client {
    /// A client with the defaults, anonymous.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Begins with the registry's URL: `https://host[:port]`, `http://host[:port]`, or `host[:port]`, which is HTTPS except on
    /// loopback. White space around it and slashes at its end do not matter.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder {
            url: url.to_owned(),
            settings: oci::Client::builder().idle_per_host(DEFAULT_IDLE_PER_HOST).timeouts(timeouts(DEFAULT_TIMEOUT)),
            dockerhub_compat: false,
            blob_bytes: DEFAULT_BLOB_BYTES,
        }
    }

    /// The client this one is made of: for everything else.
    pub const fn inner(&self) -> &oci::Client {
        &self.inner
    }

    /// Asks `GET /v2/`: whether a registry answers, and which version of the API it names.
    ///
    /// # Errors
    /// As [`oci::Registry::ping`].
    pub fn check_version(&self) -> Result<RegistryVersion, Error> {
        let registry = self.inner.registry(&self.registry)?;
        wait(registry.ping())
    }

    /// All repositories of the registry, at most a million.
    ///
    /// # Errors
    /// As [`oci::Registry::catalog`]; `TooLarge` when there are more.
    pub fn fetch_catalog(&self) -> Result<Vec<String>, Error> {
        let registry = self.inner.registry(&self.registry)?;
        wait(registry.catalog().collect(ENTRIES))
    }

    /// All tags of a repository, at most a million.
    ///
    /// # Errors
    /// `InvalidInput` for what is no name of a repository; `Protocol` when the registry answers with the tags of another one;
    /// otherwise as [`oci::Repository::tags`].
    pub fn fetch_tags(&self, repository: &str) -> Result<Vec<String>, Error> {
        let repository = self.repository(repository, None)?;
        wait(repository.tags_strictly().collect(ENTRIES))
    }

    /// The exact bytes of a manifest or index, by tag or digest, and their digest, which they were proven against.
    ///
    /// # Errors
    /// `InvalidInput` for what is neither; otherwise as [`oci::Repository::manifest`].
    pub fn fetch_manifest(&self, repository: &str, reference: &str) -> Result<(Vec<u8>, Digest), Error> {
        let selector =
            if reference.contains(':') { Selector::Digest(digest(reference)?) } else { Selector::Tag(reference) };
        let tag = matches!(selector, Selector::Tag(_)).then_some(reference);
        let repository = self.repository(repository, tag)?;
        let manifest = wait(repository.manifest(selector))?;
        Ok((manifest.raw.into(), manifest.digest))
    }

    /// A whole blob, proven against its digest.
    ///
    /// # Errors
    /// `InvalidInput` for what is no digest; `NotFound`; `TooLarge` for more than
    /// [`max_blob_bytes`](ClientBuilder::max_blob_bytes); `Integrity` for other bytes; otherwise by cause.
    pub fn fetch_blob(&self, repository: &str, blob: &str) -> Result<Vec<u8>, Error> {
        let (blob, repository) = (digest(blob)?, self.repository(repository, None)?);
        wait(read(&repository, blob, self.blob_bytes))
    }

    /// Deletes a manifest, and every tag that names it. A tag is refused: [`oci::Repository::delete_tag`] deletes it alone.
    ///
    /// # Errors
    /// `InvalidInput` for what is no digest; `Unsupported` where deletion is disabled; otherwise as
    /// [`oci::Repository::delete_manifest`].
    pub fn delete_manifest(&self, repository: &str, manifest: &str) -> Result<(), Error> {
        let (manifest, repository) = (digest(manifest)?, self.repository(repository, None)?);
        wait(repository.delete_manifest(&manifest)).map(drop)
    }

    fn repository(&self, name: &str, tag: Option<&str>) -> Result<Repository, Error> {
        let is_short = self.dockerhub_compat && self.registry == "docker.io" && !name.contains('/');
        let name = if is_short { format!("library/{name}") } else { name.to_owned() };
        let reference = Reference::new(&self.registry, &name, tag, None);
        let reference =
            reference.map_err(|error| Error::invalid_input("no such repository can be").with_source(error))?;
        Ok(self.inner.repository(&reference))
    }
}

/// A digest of an algorithm that proves something.
fn digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|error| Error::invalid_input("a digest is needed here").with_source(error))
}

/// A blob into memory. Who sends wrong bytes as a mirror is asked once.
async fn read(repository: &Repository, digest: Digest, limit: u64) -> Result<Vec<u8>, Error> {
    let mut tries = 0;
    loop {
        let mut stream = repository.open_unsized_unverified(digest, limit).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        if Digest::of(digest.algorithm(), &bytes) == digest {
            return Ok(bytes);
        }
        let error = stream.refute();
        tries += 1;
        if tries > repository.mirrors() {
            return Err(error);
        }
    }
}

impl ClientBuilder {
    /// Longest wait for an answer, connecting included, and longest silence in the middle of one. Default 30 s. A large blob
    /// that keeps coming is not cut off.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.settings = self.settings.timeouts(timeouts(timeout));
        self
    }

    /// Unused connections that are kept. Default 10.
    pub fn with_max_idle_per_host(mut self, connections: usize) -> Self {
        self.settings = self.settings.idle_per_host(connections);
        self
    }

    /// Completes names without a slash at `docker.io` to `library/<name>`. Default no.
    pub const fn with_dockerhub_compat(mut self, complete: bool) -> Self {
        self.dockerhub_compat = complete;
        self
    }

    /// The login for this registry, sent to no other. Default: anonymous.
    pub fn with_credentials(self, login: Credential) -> Self {
        let host = split(&self.url).1.to_ascii_lowercase();
        self.with_credential_source(Arc::new(StaticCredentials::new().with(&host, login)))
    }

    /// Where logins come from, e.g. those of this user on this machine
    /// ([`CredentialChain`](crate::oci::CredentialChain)).
    pub fn with_credential_source(mut self, source: Arc<dyn CredentialSource>) -> Self {
        self.settings = self.settings.credentials(source);
        self
    }

    /// Certificate authorities (PEM) that are trusted beside the system's.
    pub fn with_root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings = self.settings.root_certificates_pem(pem.into());
        self
    }

    /// Largest blob in bytes, since it is in memory as a whole. Default 1 GiB.
    pub const fn max_blob_bytes(mut self, bytes: u64) -> Self {
        self.blob_bytes = bytes;
        self
    }

    /// All other settings of the client this one is made of. What is set last counts; which scheme is spoken is the URL's word.
    pub fn with_settings(mut self, change: impl FnOnce(oci::ClientBuilder) -> oci::ClientBuilder) -> Self {
        self.settings = change(self.settings);
        self
    }

    /// The client. Sends nothing.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that names no registry, and for certificates that are none.
    pub fn build(self) -> Result<Client, Error> {
        let (scheme, host) = split(&self.url);
        let rule = match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("http") => HttpRule::Also(vec![host.to_owned()]),
            Some("https") => HttpRule::Never,
            Some(_) => return Err(Error::invalid_input("the URL of a registry is `https://host` or `http://host`")),
            None => HttpRule::Loopback,
        };
        let client = self.settings.http_rule(rule).build()?;
        let registry = client.registry(host)?.name().to_owned();
        let Self { dockerhub_compat, blob_bytes, .. } = self;
        Ok(Client { inner: client, registry, dockerhub_compat, blob_bytes })
    }
}

/// The scheme of a registry's URL, where it has one, and the rest.
fn split(url: &str) -> (Option<&str>, &str) {
    let url = url.trim().trim_end_matches('/');
    url.split_once("://").map_or((None, url), |(scheme, host)| (Some(scheme), host))
}

/// What one timeout means for each phase.
fn timeouts(longest: Duration) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        connect: default.connect.min(longest),
        headers: longest,
        token: default.token.min(longest),
        idle_body: longest,
        ..default
    }
}
