//! `store://` artifacts as they are: one layer, verified, and not kept in the cache.

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_net::{Net, NetErrorKind, Selector};
use greentic_dist_types::{
    Descriptor, Digest, LayerChoice, Manifest, ManifestKind, SafeText, Secret, SelectError, SourceRef, media_type,
    redact_reference, select_layer,
};
use serde::{Deserialize, Serialize};

use super::client::Inner;
use super::identity::canonical_oci;
use super::resolve::{self, oci};
use super::{DistClient, DistError, source};
use crate::blocking;
use crate::output_file::{Existing, OutputFile, unwritable};
use crate::progress::Event;

/// Times the same bytes are asked for from the start when what came was wrong.
const TRIES: u32 = 2;
/// Bytes that are written at once.
const PARCEL_BYTES: usize = 1 << 20;
/// Bytes that are set aside before any came, whatever was announced.
const RESERVED_BYTES: u64 = 1 << 20;
/// The name of a file whose reference gives none.
const NAMELESS: &str = "store-download";

/// A store artifact in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadedStoreArtifact {
    /// The reference as typed.
    pub source_ref: String,
    /// Where that is: `oci://` and the reference in the registry.
    pub mapped_reference: String,
    /// The same, pinned.
    pub canonical_ref: String,
    /// The pin: the digest of the manifest.
    pub digest: String,
    /// Media type of the layer that was chosen.
    pub media_type: String,
    /// The bytes, verified.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub size_bytes: u64,
    /// The digest of the manifest.
    pub manifest_digest: Option<String>,
}

/// A store artifact in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedStoreArtifact {
    /// The reference as typed.
    pub source_ref: String,
    /// Where that is: `oci://` and the reference in the registry.
    pub mapped_reference: String,
    /// The same, pinned.
    pub canonical_ref: String,
    /// The pin: the digest of the manifest.
    pub digest: String,
    /// The digest of the bytes.
    pub content_digest: String,
    /// Media type of the layer that was chosen.
    pub media_type: String,
    /// How many bytes there are.
    pub size_bytes: u64,
    /// The file.
    pub output_path: PathBuf,
}

/// How [`DistClient::save_store_artifact`] saves.
#[derive(Clone, Default)]
pub struct StoreDownload {
    /// The file. Default: in the working directory, named after the last part of the reference and the media type.
    pub output: Option<PathBuf>,
    /// Whether a file of that name makes way. A symbolic link makes way itself and is never followed. Default: no.
    pub replace: bool,
    /// A token for the tenant of a `store://greentic-biz/…` reference, instead of the saved login. It is used once and saved
    /// nowhere. Default: the saved login.
    pub token: Option<Secret>,
}

impl fmt::Debug for StoreDownload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreDownload")
            .field("output", &self.output)
            .field("replace", &self.replace)
            .field("token", &self.token.is_some())
            .finish()
    }
}

impl DistClient {
    /// Downloads the one layer of a `store://` artifact that people look for into memory: the first JSON document, else the
    /// first Wasm, else the first layer. Verified; nothing is kept in the cache.
    ///
    /// The bytes are held in memory, up to the client's limit for artifacts; [`DistClient::save_store_artifact`] holds 1 MiB
    /// of them. Cancel-safe.
    ///
    /// # Errors
    /// [`DistError::InvalidInput`] for another kind of reference, [`DistError::Offline`] in offline mode,
    /// [`DistError::StoreAuth`] without a login, [`DistError::ResolutionUnavailable`] without a base; otherwise by what the
    /// registry did.
    pub async fn download_store_artifact(&self, reference: &str) -> Result<DownloadedStoreArtifact, DistError> {
        let found = find(&self.inner, reference, None).await?;
        let memory = || {
            let reserved = found.layer.size_bytes.min(RESERVED_BYTES);
            Ok(Sink::Memory(Vec::with_capacity(usize::try_from(reserved).unwrap_or_default())))
        };
        let bytes = match found.download(&self.inner, memory).await? {
            Sink::Memory(bytes) => bytes,
            Sink::File(_) => Vec::new(),
        };
        Ok(DownloadedStoreArtifact {
            source_ref: reference.to_owned(),
            mapped_reference: found.mapped_reference(),
            canonical_ref: found.canonical_ref(),
            digest: found.pin.to_string(),
            media_type: found.layer.media_type.clone(),
            size_bytes: found.layer.size_bytes,
            manifest_digest: Some(found.pin.to_string()),
            bytes,
        })
    }

    /// Downloads what [`DistClient::download_store_artifact`] does into a file, which appears complete or not at all.
    ///
    /// Directories on the way to the file are made. Cancel-safe: a temporary file beside it is removed.
    ///
    /// # Errors
    /// As [`DistClient::download_store_artifact`]; [`DistError::InvalidInput`] for a file that is there already, and for one
    /// that cannot be written.
    pub async fn save_store_artifact(
        &self,
        reference: &str,
        download: StoreDownload,
    ) -> Result<SavedStoreArtifact, DistError> {
        let StoreDownload { output, replace, token } = download;
        let existing = if replace { Existing::Replace } else { Existing::Keep };
        if let Some(output) = &output {
            // Before anybody is asked; looked at again when the file is put in place.
            let output = output.clone();
            blocking::run(move || {
                crate::output_file::check(&output, existing).map_err(|error| unwritable(&output, &error))
            })
            .await?;
        }
        let found = find(&self.inner, reference, token).await?;
        let output = output.unwrap_or_else(|| PathBuf::from(found.file_name()));
        let file = || {
            if let Some(dir) = output.parent() {
                std::fs::create_dir_all(dir).map_err(|error| unwritable(&output, &error))?;
            }
            let file = OutputFile::create(&output, existing).map_err(|error| unwritable(&output, &error))?;
            Ok(Sink::File(Box::new(file)))
        };
        if let Sink::File(file) = found.download(&self.inner, file).await? {
            let output = output.clone();
            blocking::run(move || file.place().map_err(|error| unwritable(&output, &error))).await?;
        }
        Ok(SavedStoreArtifact {
            source_ref: reference.to_owned(),
            mapped_reference: found.mapped_reference(),
            canonical_ref: found.canonical_ref(),
            digest: found.pin.to_string(),
            content_digest: found.layer.digest.to_string(),
            media_type: found.layer.media_type.clone(),
            size_bytes: found.layer.size_bytes,
            output_path: output,
        })
    }
}

/// A store artifact whose manifest is here.
struct Found {
    target: oci::Target,
    net: Net,
    pin: Digest,
    layer: Descriptor,
}

/// Finds the artifact and the layer to download.
async fn find(inner: &Arc<Inner>, reference: &str, token: Option<Secret>) -> Result<Found, DistError> {
    let SourceRef::Store(target) = source::classify(reference)? else {
        return Err(DistError::InvalidInput(format!(
            "`{}` is no `store://` reference",
            SafeText::new(&redact_reference(reference))
        )));
    };
    let target = resolve::store_target(inner, reference, &target)?;
    if inner.is_offline(false) {
        return Err(DistError::Offline { reference: reference.to_owned() });
    }
    if target.reference.digest().is_none() && !inner.options.allow_tags {
        return Err(DistError::TagNotAllowed { reference: reference.to_owned() });
    }
    let net = match (token, &target.tenant) {
        (Some(token), Some(tenant)) => inner.tenant_net(tenant, tenant, token, reference)?,
        (Some(_), None) => {
            return Err(DistError::InvalidInput(format!(
                "`{}` has no tenant that a token could be for",
                SafeText::new(reference)
            )));
        }
        (None, tenant) => inner.net_for(tenant.as_deref(), reference).await?,
    };
    let selector = match target.reference.digest() {
        Some(digest) => Selector::Digest(digest),
        None => Selector::Tag(target.reference.tag_or_latest()),
    };
    let wrap = |error| DistError::from_net(reference, error);
    let repository = net.repository(&target.reference);
    let found = repository.manifest(selector).await.map_err(wrap)?;
    let content = |manifest: &Manifest| document(manifest).ok().map(|choice| choice.layer.digest);
    let image = oci::image_of(inner, &repository, found, content).await.map_err(wrap)?;
    let pin = image.manifest.digest;
    let ManifestKind::Image(manifest) = image.manifest.kind else {
        return Err(DistError::InvalidInput(format!(
            "`{}` did not lead to an image manifest",
            SafeText::new(reference)
        )));
    };
    let choice =
        document(&manifest).map_err(|source| DistError::Selection { reference: reference.to_owned(), source })?;
    let layer = oci::within_limit(inner, reference, &choice)?;
    Ok(Found { target, net, pin, layer })
}

/// The first JSON layer, else the first Wasm, else the first.
fn document(manifest: &Manifest) -> Result<LayerChoice<'_>, SelectError> {
    let chosen = |position: usize, reason: &str| {
        let layer = manifest.layers.get(position)?;
        Some(LayerChoice { position, layer, reason: reason.into() })
    };
    let json = manifest.layers.iter().position(|layer| is_json(&media_type::essence(&layer.media_type)));
    if let Some(choice) = json.and_then(|position| chosen(position, "it is the first JSON document")) {
        return Ok(choice);
    }
    if let Ok(wasm) = select_layer(manifest, &[media_type::WASM]) {
        return Ok(wasm);
    }
    chosen(0, "it is the first layer").ok_or(SelectError::NoLayers)
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

/// Where downloaded bytes go.
enum Sink {
    Memory(Vec<u8>),
    File(Box<OutputFile>),
}

impl Sink {
    async fn take(self, parcel: Vec<Bytes>) -> Result<Self, DistError> {
        match self {
            Self::Memory(mut bytes) => {
                for chunk in &parcel {
                    bytes.extend_from_slice(chunk);
                }
                Ok(Self::Memory(bytes))
            }
            Self::File(mut file) => {
                blocking::run(move || {
                    for chunk in &parcel {
                        file.write_all(chunk).map_err(|error| unwritable(file.target(), &error))?;
                    }
                    Ok(Self::File(file))
                })
                .await
            }
        }
    }
}

impl Found {
    fn mapped_reference(&self) -> String {
        format!("oci://{}", self.target.reference)
    }

    fn canonical_ref(&self) -> String {
        canonical_oci(&self.target.reference, &self.pin)
    }

    /// The last part of the repository and an extension for the media type. A repository is made of harmless characters.
    fn file_name(&self) -> String {
        let repository = self.target.reference.repository();
        let name = repository.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(NAMELESS);
        format!("{name}{}", extension(&media_type::essence(&self.layer.media_type)))
    }

    /// Brings the layer into a sink, once more from the start when what came was wrong.
    async fn download(&self, inner: &Inner, sink: impl Fn() -> Result<Sink, DistError>) -> Result<Sink, DistError> {
        let shown = self.target.raw_ref.as_str();
        let total_bytes = Some(self.layer.size_bytes);
        inner.reporter.event(&Event::Started { reference: shown, total_bytes, resumed_at: 0 });
        let mut tries = 0;
        let result = loop {
            tries += 1;
            match self.transfer(inner, sink()?).await {
                Err(DistError::Network { source, .. }) if tries < TRIES && source.kind() == NetErrorKind::Integrity => {
                    inner.warn(&format!("{source}; asking once more"));
                }
                other => break other,
            }
        };
        inner.reporter.event(&match &result {
            Ok(_) => Event::Finished { reference: shown, bytes: self.layer.size_bytes },
            Err(_) => Event::Failed { reference: shown },
        });
        result
    }

    async fn transfer(&self, inner: &Inner, mut sink: Sink) -> Result<Sink, DistError> {
        let shown = self.target.raw_ref.as_str();
        let wrap = |error| DistError::from_net(shown, error);
        let repository = self.net.repository(&self.target.reference);
        let mut stream = repository.blob(&self.layer).open().await.map_err(wrap)?;
        let (mut parcel, mut waiting, mut bytes) = (Vec::new(), 0, 0_u64);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(wrap)?;
            waiting += chunk.len();
            bytes += chunk.len() as u64;
            parcel.push(chunk);
            if waiting >= PARCEL_BYTES {
                sink = sink.take(std::mem::take(&mut parcel)).await?;
                waiting = 0;
                inner.reporter.event(&Event::Progress { reference: shown, bytes });
            }
        }
        sink.take(parcel).await
    }
}

fn extension(media_type: &str) -> &'static str {
    match media_type {
        json if is_json(json) => ".json",
        media_type::WASM => ".wasm",
        gzip if gzip.ends_with("+gzip") => ".tgz",
        zstd if zstd.ends_with("+zstd") => ".tar.zst",
        zip if zip.ends_with("+zip") => ".zip",
        _ => ".bin",
    }
}

#[cfg(test)]
mod tests {
    use super::extension;

    #[test]
    fn files_are_named_by_what_is_in_them() {
        for (media_type, expected) in [
            ("application/json", ".json"),
            ("application/vnd.greentic.catalog.v1+json", ".json"),
            ("application/wasm", ".wasm"),
            ("application/vnd.oci.image.layer.v1.tar+gzip", ".tgz"),
            ("application/vnd.oci.image.layer.v1.tar+zstd", ".tar.zst"),
            ("application/vnd.greentic.gtpack.v1+zip", ".zip"),
            ("application/octet-stream", ".bin"),
            ("", ".bin"),
        ] {
            assert_eq!(extension(media_type), expected, "{media_type}");
        }
    }
}
