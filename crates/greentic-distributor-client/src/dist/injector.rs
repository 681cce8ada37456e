//! Hosts that know better: a reference answered by the embedding program before anybody else is asked.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use greentic_dist_store::{Entry, EntryDraft, Expected};
use greentic_dist_types::{Digest, SafeText, SourceRef, media_type, redact_reference, redact_url};

use super::client::Inner;
use super::identity::{canonical_file, canonical_oci, canonical_url};
use super::resolve::file::open_regular;
use super::{
    ArtifactDescriptor, ArtifactSource, ArtifactSourceKind, ArtifactType, DistError, ResolvedVia, cache, fetch,
    resolve, source, transfer,
};
use crate::blocking;

/// How often a reference may be redirected by an injector, the first question included.
const ROUNDS: usize = 8;
/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest component id or ABI version taken from an injector, in bytes.
const NAME_BYTES: usize = 512;

/// What an injector knows about a reference.
#[derive(Clone, Debug)]
pub enum InjectedResolution {
    /// Ask for this reference instead.
    Redirect(String),
    /// The artifact itself.
    WasmBytes {
        /// The digest the bytes must have; `sha256:` may be left out.
        resolved_digest: String,
        /// The bytes.
        wasm_bytes: Vec<u8>,
        /// Name of the component.
        component_id: String,
        /// Version of its ABI.
        abi_version: Option<String>,
        /// Where it is from, for descriptors and records.
        source: ArtifactSource,
    },
    /// A file of this machine that is the artifact. It is copied into the cache.
    WasmPath {
        /// The digest the file must have; `sha256:` may be left out.
        resolved_digest: String,
        /// The file.
        wasm_path: PathBuf,
        /// Name of the component.
        component_id: String,
        /// Version of its ABI.
        abi_version: Option<String>,
        /// Where it is from, for descriptors and records.
        source: ArtifactSource,
    },
}

/// Answers references before the client resolves them.
///
/// Asked with the reference as typed, and again with each reference it redirects to, at most eight times. What it gives is
/// checked like everything else: bytes and files against their digest, references by the options of the client. Its errors are
/// passed on unchanged.
#[async_trait]
pub trait ResolveRefInjector: Send + Sync {
    /// What is known about a reference; `None` leaves it to the client.
    ///
    /// # Errors
    /// Any [`DistError`]; the resolve fails with it.
    async fn resolve(&self, reference: &str) -> Result<Option<InjectedResolution>, DistError>;
}

/// What is left to do after the injector was asked.
pub(super) enum Asked {
    /// To resolve this source.
    Source(ArtifactSource),
    /// Nothing: the artifact is in the cache.
    Descriptor(ArtifactDescriptor),
}

/// Asks the injector of the client, where there is one.
pub(super) async fn ask(inner: &Arc<Inner>, source: &ArtifactSource) -> Result<Asked, DistError> {
    let Some(injector) = &inner.injector else { return Ok(Asked::Source(source.clone())) };
    let mut source = source.clone();
    for _ in 0..ROUNDS {
        match injector.resolve(&source.raw_ref).await? {
            None => return Ok(Asked::Source(source)),
            Some(InjectedResolution::Redirect(next)) => {
                let parsed = source::parse_source(&next, &inner.options)?;
                source = ArtifactSource { transport_hints: source.transport_hints, ..parsed };
            }
            Some(InjectedResolution::WasmBytes { resolved_digest, wasm_bytes, component_id, abi_version, source }) => {
                let digest = cache::parse_digest(&resolved_digest)?;
                let facts = Facts::new(component_id, abi_version, &source)?;
                return take_bytes(inner, digest, wasm_bytes, facts).await.map(Asked::Descriptor);
            }
            Some(InjectedResolution::WasmPath { resolved_digest, wasm_path, component_id, abi_version, source }) => {
                let digest = cache::parse_digest(&resolved_digest)?;
                let facts = Facts::new(component_id, abi_version, &source)?;
                return take_file(inner, digest, wasm_path, facts).await.map(Asked::Descriptor);
            }
        }
    }
    Err(DistError::InvalidInput(format!(
        "`{}` is still redirected after {ROUNDS} questions to the injector",
        SafeText::new(&redact_reference(&source.raw_ref))
    )))
}

/// What the injector says beside the bytes.
struct Facts {
    component_id: String,
    abi_version: Option<String>,
    source: ArtifactSource,
}

impl Facts {
    fn new(component_id: String, abi_version: Option<String>, source: &ArtifactSource) -> Result<Self, DistError> {
        for name in std::iter::once(&component_id).chain(&abi_version) {
            if name.is_empty() || name.len() > NAME_BYTES || name.contains(char::is_control) {
                return Err(DistError::InvalidInput(format!(
                    "the injector of `{}` names the component `{}`, which is no name",
                    SafeText::new(&redact_reference(&source.raw_ref)),
                    SafeText::excerpt(name, 64)
                )));
            }
        }
        Ok(Self { component_id, abi_version, source: source.clone() })
    }

    fn shown(&self) -> String {
        redact_reference(&self.source.raw_ref)
    }

    /// The descriptor by the rules of the kind of source that was named.
    fn describe(&self, inner: &Inner, digest: Digest, size_bytes: u64) -> Result<ArtifactDescriptor, DistError> {
        let parsed = source::classify(&self.source.raw_ref)?;
        let raw_ref = &self.source.raw_ref;
        let (kind, via, canonical_ref) = match &parsed {
            SourceRef::Oci(reference) => {
                let via = if reference.digest().is_some() { ResolvedVia::Direct } else { ResolvedVia::TagResolution };
                (ArtifactSourceKind::Oci, via, canonical_oci(reference, &digest))
            }
            SourceRef::Repo(_) | SourceRef::Store(_) => {
                // A name that has no registry is still where it is said to be from.
                let canonical = resolve::mapped(inner, raw_ref, &parsed)
                    .map_or_else(|_| format!("{raw_ref}@{digest}"), |reference| canonical_oci(&reference, &digest));
                match parsed {
                    SourceRef::Repo(_) => (ArtifactSourceKind::Repo, ResolvedVia::RepoMapping, canonical),
                    _ => (ArtifactSourceKind::Store, ResolvedVia::StoreMapping, canonical),
                }
            }
            SourceRef::Url(url) => {
                (ArtifactSourceKind::Https, ResolvedVia::Https, canonical_url(&redact_url(url), &digest))
            }
            SourceRef::File(path) | SourceRef::Bare(path) => {
                (ArtifactSourceKind::File, ResolvedVia::File, canonical_file(path.as_ref(), &digest))
            }
            SourceRef::Fixture(_) => (ArtifactSourceKind::File, ResolvedVia::Fixture, format!("{raw_ref}@{digest}")),
            SourceRef::Digest(_) => (ArtifactSourceKind::CacheDigest, ResolvedVia::CacheDigest, digest.to_string()),
        };
        Ok(ArtifactDescriptor {
            artifact_type: ArtifactType::Component,
            source_kind: kind,
            raw_ref: if kind == ArtifactSourceKind::Https { redact_url(raw_ref) } else { raw_ref.clone() },
            canonical_ref,
            digest: digest.to_string(),
            media_type: media_type::WASM.to_owned(),
            size_bytes,
            created_at: None,
            annotations: serde_json::Map::new(),
            manifest_digest: None,
            resolved_via: via,
            signature_refs: Vec::new(),
            sbom_refs: Vec::new(),
        })
    }
}

async fn take_bytes(
    inner: &Arc<Inner>,
    digest: Digest,
    bytes: Vec<u8>,
    facts: Facts,
) -> Result<ArtifactDescriptor, DistError> {
    let actual = Digest::of(digest.algorithm(), &bytes);
    if actual != digest {
        return Err(DistError::CorruptArtifact {
            reference: facts.shown(),
            reason: format!("the injected bytes have the digest {actual}, not {digest}"),
        });
    }
    let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let descriptor = facts.describe(inner, digest, size_bytes)?;
    keep(inner, digest, descriptor, facts, move || Ok((size_bytes, Cursor::new(bytes)))).await
}

async fn take_file(
    inner: &Arc<Inner>,
    digest: Digest,
    path: PathBuf,
    facts: Facts,
) -> Result<ArtifactDescriptor, DistError> {
    let descriptor = facts.describe(inner, digest, 0)?;
    let open = move || -> Result<(u64, File), DistError> {
        let file = open_regular(&path)?;
        let size_bytes = file.metadata().map_err(|error| DistError::io(&path, error))?.len();
        Ok((size_bytes, file))
    };
    keep(inner, digest, descriptor, facts, open).await
}

/// Puts what was injected into the cache, hashed while it is written, unless exactly that is there.
async fn keep<R: Read>(
    inner: &Arc<Inner>,
    digest: Digest,
    descriptor: ArtifactDescriptor,
    facts: Facts,
    open: impl FnOnce() -> Result<(u64, R), DistError> + Send + 'static,
) -> Result<ArtifactDescriptor, DistError> {
    let shown = facts.shown();
    let lock = transfer::lock(inner, &shown, digest).await?;
    let inner = Arc::clone(inner);
    blocking::run(move || {
        let wrap = |error| DistError::from_store(&shown, error);
        let known = inner.store.open(&digest, inner.proof).ok().flatten().map(|open| open.entry);
        if let Some(entry) = known.filter(|entry| entry.pin == digest) {
            note(&inner, &entry, &facts);
            return Ok(ArtifactDescriptor { size_bytes: entry.record.size_bytes, ..descriptor });
        }
        let (size_bytes, mut reader) = open()?;
        if size_bytes > inner.limits.artifact_bytes {
            return Err(DistError::TooLarge { reference: shown, limit_bytes: inner.limits.artifact_bytes });
        }
        let mut ingest = inner.store.ingest(lock.lock(), Expected { digest, size_bytes }).map_err(wrap)?;
        // Whatever was brought of it before: it is read from the start.
        ingest.restart().map_err(wrap)?;
        let mut buffer = vec![0_u8; CHUNK_BYTES];
        loop {
            let count = reader.read(&mut buffer).map_err(|error| DistError::io(shown.as_ref(), error))?;
            if count == 0 {
                break;
            }
            ingest.write(buffer.get(..count).unwrap_or(&[])).map_err(wrap)?;
        }
        let descriptor = ArtifactDescriptor { size_bytes, ..descriptor };
        let mut record = fetch::record(&descriptor);
        record.content_digest = Some(digest);
        record.component_id = Some(facts.component_id);
        record.abi_version = facts.abi_version;
        let staged = ingest.finish().map_err(wrap)?.stage(EntryDraft::of_content(record)).map_err(wrap)?;
        let published = inner.store.publish(staged).map_err(wrap)?;
        drop(lock);
        if published.fresh {
            inner.memo.note_brought(published.entry.pin);
        }
        Ok(descriptor)
    })
    .await
}

/// Writes down what the injector says about bytes that were here before.
fn note(inner: &Inner, entry: &Entry, facts: &Facts) {
    let known = &entry.record;
    if known.component_id.as_ref() == Some(&facts.component_id) && known.abi_version == facts.abi_version {
        return;
    }
    let updated = inner.store.update(&entry.pin, &mut |record| {
        record.component_id = Some(facts.component_id.clone());
        record.abi_version.clone_from(&facts.abi_version);
    });
    // The name in a record is not worth a failure.
    if let Err(error) = updated {
        tracing::debug!(%error, "what was injected was not written down");
    }
}
