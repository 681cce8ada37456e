//! From a reference to an artifact in the cache directory of a fetcher.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use greentic_dist_store::{ArtifactFile, Store, StoreOptions};
use greentic_dist_types::{ArtifactType, Descriptor, Digest, Verifier, VerifyReader, media_type};

use super::asked::Asked;
use super::{DefaultRegistryClient, FetchError};
use crate::blocking;
use crate::dist::client::Inner;
use crate::dist::resolve::oci::{Resolution, resolve_named};
use crate::dist::{ArtifactDescriptor, ArtifactRule, DistClient, DistError, DistOptions, Listed, fetch};
use crate::output_file::{Existing, OutputFile, unwritable};

/// How much is copied at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// What a fetcher takes, and where it keeps it.
#[derive(Clone, Debug)]
pub(crate) struct FetchRules {
    pub(crate) allow_tags: bool,
    pub(crate) offline: bool,
    pub(crate) cache_dir: PathBuf,
    pub(crate) listed: Listed,
}

impl FetchRules {
    fn store_options(&self, believe_vouched: bool) -> StoreOptions {
        let artifact_file = match self.listed.artifact_type {
            ArtifactType::Component => ArtifactFile::Component,
            ArtifactType::Pack | ArtifactType::Bundle => ArtifactFile::Pack,
        };
        StoreOptions { artifact_file, believe_vouched, ..StoreOptions::default() }
    }
}

/// The part of a fetcher that is the same for packs and components.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(super) rules: FetchRules,
    /// The engine behind [`DefaultRegistryClient`], made when it is needed first.
    engine: OnceLock<DistClient>,
    /// The cache as it is for a client of the host: its word for the digest of a manifest is believed.
    pub(super) store: Store,
}

/// What a reference is, without its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// What the reference names: an index, a manifest, or the artifact itself.
    pub(crate) digest: Digest,
    /// The manifest of the artifact, where anybody said which it is.
    pub(crate) manifest: Option<Digest>,
    pub(crate) media_type: String,
    pub(crate) size_bytes: u64,
}

/// An artifact that is here, proven.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) named: Named,
    /// The artifact.
    pub(crate) path: PathBuf,
    /// Digest of its bytes.
    pub(crate) content: Digest,
    /// Whether it was not here before.
    pub(crate) from_network: bool,
}

impl Fetcher {
    /// No I/O.
    pub(crate) fn new(mut rules: FetchRules) -> Self {
        rules.listed.manifests.iter_mut().for_each(|name| *name = media_type::essence(name));
        let store = Store::with_options(rules.cache_dir.clone(), rules.store_options(true));
        Self { rules, engine: OnceLock::new(), store }
    }

    /// The cache directory.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What is looked for in a manifest.
    pub(crate) fn listed(&self) -> &Listed {
        &self.rules.listed
    }

    /// Whether nobody may be asked.
    pub(crate) fn is_offline(&self) -> bool {
        self.rules.offline
    }

    /// Parses a reference; a tag must be allowed before anything else is said about it.
    pub(crate) fn ask(&self, text: &str) -> Result<Asked, FetchError> {
        let asked = Asked::parse(text)?;
        if asked.pin().is_none() && !self.rules.allow_tags {
            return Err(FetchError::TagDisallowed);
        }
        Ok(asked)
    }

    fn engine(&self, client: &DefaultRegistryClient) -> &DistClient {
        self.engine.get_or_init(|| {
            let options = DistOptions {
                cache_dir: self.rules.cache_dir.clone(),
                allow_tags: self.rules.allow_tags,
                offline: self.rules.offline,
                // Nothing that a fetcher brought is taken away behind its back.
                cache_max_bytes: 0,
                ..DistOptions::default()
            };
            client
                .builder()
                .options(options)
                .artifact_rule(ArtifactRule::Listed(Box::new(self.rules.listed.clone())))
                .store_options(self.rules.store_options(false))
                .build()
        })
    }

    /// What a reference is, by asking the registry where the cache does not know: no artifact is moved.
    pub(crate) async fn resolve(&self, client: &DefaultRegistryClient, asked: &Asked) -> Result<Resolved, FetchError> {
        let inner = &self.engine(client).inner;
        client.expect(&asked.reference);
        let Resolution { descriptor, index_digest, from_cache, .. } =
            match resolve_named(inner, &asked.target(), self.rules.offline).await {
                Ok(resolution) => resolution,
                Err(error) => return Err(self.told_exactly(FetchError::from_dist(error, asked), asked).await),
            };
        // One that is in the cache may have been taken by another rule.
        if !self.rules.listed.layers.accepts(&descriptor.media_type) {
            return Err(FetchError::NoUsableLayer(self.rules.listed.layers.refusal(&descriptor.media_type)));
        }
        let manifest = descriptor.digest.parse().map_err(|error: greentic_dist_types::ParseDigestError| {
            FetchError::Corrupt { reason: error.to_string() }
        })?;
        let named = Named {
            digest: index_digest.unwrap_or(manifest),
            manifest: Some(manifest),
            media_type: descriptor.media_type.clone(),
            size_bytes: descriptor.size_bytes,
        };
        Ok(Resolved { inner: Arc::clone(inner), descriptor, named, from_network: !from_cache })
    }

    /// An offline failure of a tag whose meaning is known, with the digest that is missing.
    async fn told_exactly(&self, error: FetchError, asked: &Asked) -> FetchError {
        if !matches!(error, FetchError::OfflineTag) {
            return error;
        }
        let (store, key) = (self.store.clone(), asked.target().memory_key());
        match blocking::run(move || Ok(store.recall(&key).ok().flatten())).await {
            Ok(Some(memory)) => {
                FetchError::OfflineMissing { digest: memory.index_digest.unwrap_or(memory.pin).to_string() }
            }
            _ => error,
        }
    }

    /// Brings what a reference is, or finds it in the cache.
    pub(crate) async fn fetch(&self, client: &DefaultRegistryClient, asked: &Asked) -> Result<Fetched, FetchError> {
        let resolved = self.resolve(client, asked).await?;
        self.bring(resolved, asked).await
    }

    /// Brings what was resolved, or finds it in the cache.
    pub(crate) async fn bring(&self, resolved: Resolved, asked: &Asked) -> Result<Fetched, FetchError> {
        let Resolved { inner, descriptor, named, .. } = resolved;
        let artifact = match fetch::fetch(&inner, &descriptor).await {
            Ok(artifact) => artifact,
            Err(error) => return Err(self.told_exactly(FetchError::from_dist(error, asked), asked).await),
        };
        let content = artifact.content();
        // What is here now: the entry that was resolved may have been replaced.
        let size_bytes = artifact.content_length.unwrap_or(named.size_bytes);
        let named = Named { media_type: artifact.descriptor.media_type, size_bytes, ..named };
        let path = own_path(&inner, artifact.local_path, named.manifest).await;
        Ok(Fetched { named, path, content, from_network: artifact.fetched })
    }
}

/// The artifact under the name that hosts know. In a directory that is shared with a cache of another kind it may lie under
/// another one; where that cannot be changed, it is handed out as it lies.
async fn own_path(inner: &Arc<Inner>, path: PathBuf, pin: Option<Digest>) -> PathBuf {
    let own = inner.store.options().artifact_file.name();
    let Some(pin) = pin.filter(|_| path.file_name().is_none_or(|name| name != own)) else { return path };
    let store = inner.store.clone();
    let named =
        blocking::run(move || Ok(store.stat(&pin).ok().flatten().and_then(|entry| store.own_name(&entry).ok())));
    named.await.ok().flatten().unwrap_or(path)
}

impl Fetcher {
    /// The bytes of a small blob of the repository that a reference names, proven.
    pub(crate) async fn small_blob(
        &self,
        client: &DefaultRegistryClient,
        asked: &Asked,
        blob: &Descriptor,
    ) -> Result<Vec<u8>, FetchError> {
        client.expect(&asked.reference);
        let wrap = |error| FetchError::from_dist(DistError::from_net(&asked.text, error), asked);
        let net = self.engine(client).inner.net(&asked.text).map_err(|error| FetchError::from_dist(error, asked))?;
        let mut stream = net.repository(&asked.reference).blob(blob).open().await.map_err(wrap)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(wrap)?);
        }
        Ok(bytes)
    }
}

impl Fetched {
    /// Copies the artifact to `target`, hashed while it is read; the file appears as a whole or not at all.
    pub(crate) async fn save(&self, target: PathBuf, existing: Existing) -> Result<(), FetchError> {
        let (path, verifier) = (self.path.clone(), Verifier::for_content(self.content, self.named.size_bytes));
        blocking::run(move || Ok(save(&path, verifier, &target, existing)))
            .await
            .map_err(|error| FetchError::Other(Box::new(error)))?
    }

    /// The artifact's bytes, hashed while they are read: what comes back is what was promised, even if the file was changed
    /// since it was fetched.
    pub(crate) async fn read(&self) -> Result<Vec<u8>, FetchError> {
        let (path, verifier) = (self.path.clone(), Verifier::for_content(self.content, self.named.size_bytes));
        let work = move || {
            let read = std::fs::File::open(path).and_then(|file| {
                let mut bytes = Vec::new();
                VerifyReader::new(file, verifier).read_to_end(&mut bytes).map(|_| bytes)
            });
            Ok(read.map_err(unreadable))
        };
        blocking::run(work).await.map_err(|error| FetchError::Other(Box::new(error)))?
    }
}

fn unreadable(error: io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::InvalidData => FetchError::Corrupt { reason: error.to_string() },
        _ => FetchError::Io(error),
    }
}

fn save(path: &Path, verifier: Verifier, target: &Path, existing: Existing) -> Result<(), FetchError> {
    let refused = |error: io::Error| FetchError::Other(Box::new(unwritable(target, &error)));
    let mut reader = VerifyReader::new(std::fs::File::open(path).map_err(FetchError::Io)?, verifier);
    let mut output = OutputFile::create(target, existing).map_err(refused)?;
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => output.write_all(buffer.get(..count).unwrap_or_default()).map_err(refused)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    output.place().map_err(refused)
}

/// What a reference is, and what the engine needs to bring it.
pub(crate) struct Resolved {
    inner: Arc<Inner>,
    descriptor: ArtifactDescriptor,
    pub(crate) named: Named,
    /// Whether a manifest was fetched to know.
    pub(crate) from_network: bool,
}
