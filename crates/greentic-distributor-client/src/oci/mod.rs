//! OCI content in registries, directories and archives, and the client for registries itself.
//!
//! # Artifacts, wherever they are
//!
//! A [`Place`] names an artifact wherever it is: `ghcr.io/acme/hello:1` in a registry, `oci-layout:./dist:1` in a directory,
//! `oci-archive:hello.tar` in a tar file. [`DistClient`](crate::dist::DistClient) pushes, copies, describes, lists, tags and deletes
//! them (`push`, `copy`, `describe`, `tags_at`, `tag_at`, `delete_at`); an archive is written as a whole, and its names are only read.
//!
//! An OCI image layout is read without trust: a link, a device or a doubled name in it is refused, every byte is hashed, an
//! archive is never unpacked. What is written is complete or not there: a blob gets its name when it is proven, and the
//! index names an artifact when everything below it is there.
//!
//! ```no_run
//! use greentic_distributor_client::dist::DistClient;
//! use greentic_distributor_client::oci::{CopyOptions, Place, PushOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = DistClient::default();
//! let pushed = client.push("hello.wasm".as_ref(), &Place::parse("ghcr.io/acme/hello:1")?, &PushOptions::default()).await?;
//! let archive = Place::parse("oci-archive:hello.tar")?;
//! client.copy(&Place::parse(&pushed.pinned)?, &archive, &CopyOptions::default()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Registries, request by request
//!
//! A [`Client`] is the handle on everything: cheap to clone, with connections, tokens, limits and counters that its clones share.
//! [`Client::repository`] and [`Client::registry`] are handles on one repository and one registry; making them sends nothing.
//! How many requests each operation costs is a promise, `docs/oci-client.md` has the table. Bytes are proven: a manifest is hashed
//! always, and the last piece of a blob comes only when size and digest are right. All futures are `Send` and need a tokio
//! runtime; [`blocking`](crate::blocking) has the same without one.
//!
//! ## Connect
//!
//! [`client()`] begins with the logins of this user on this machine and the host configuration that the environment names;
//! [`Client::builder`] begins with neither. [`DistClient::oci`](crate::dist::DistClient::oci) is the client of a distributor client.
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use greentic_distributor_client::oci::{self, RetryPolicy};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = fixture::served(&fixture::component());
//! # let host = registry.host();
//! let client = oci::client().retry(RetryPolicy { attempts: 3, ..RetryPolicy::default() }).build()?;
//! let version = client.registry(&host)?.ping().await?;
//! println!("{:?}, a login is needed: {}", version.api_version, version.wants_login);
//! # assert!(!version.wants_login);
//! # Ok(())
//! # }
//! ```
//!
//! ## List
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use greentic_distributor_client::oci::{self, Reference};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = fixture::served(&fixture::component());
//! # let host = registry.host();
//! let client = oci::client().build()?;
//! let repository = client.repository(&Reference::parse(&format!("{host}/acme/hello"))?);
//! let mut tags = repository.tags();
//! while let Some(tag) = tags.next().await {
//!     println!("{}", tag?);
//! }
//! let repositories = client.registry(&host)?.catalog().page_size(100).collect(10_000).await?;
//!
//! // Lists and blobs as `futures_core::Stream`s, for what others wrote about those.
//! use futures_util::{StreamExt as _, TryStreamExt as _};
//! let releases: Vec<String> = repository.tags().into_stream().try_filter(|tag| std::future::ready(tag != "latest")).try_collect().await?;
//! let first_two: Vec<_> = repository.tags().into_stream().take(2).collect().await;
//! # assert_eq!((releases, first_two.len()), (vec!["1".to_owned()], 1));
//! # assert_eq!(repositories, ["acme/hello"]);
//! # Ok(())
//! # }
//! ```
//!
//! ## Resolve, and read manifests
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use greentic_distributor_client::oci::{self, ManifestKind, PlatformChoice, Reference, Selector};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let made = fixture::component();
//! # let registry = fixture::served(&made);
//! # let host = registry.host();
//! let client = oci::client().build()?;
//! let repository = client.repository(&Reference::parse(&format!("{host}/acme/hello"))?);
//! let descriptor = repository.resolve(Selector::Tag("1")).await?;
//! println!("{} bytes of {} are {}", descriptor.size_bytes, descriptor.media_type, descriptor.digest);
//!
//! // Through an index to the manifest of one platform, Wasm first; both digests are kept.
//! let image = repository.image(Selector::Tag("1"), &PlatformChoice::default()).await?;
//! if let ManifestKind::Image(manifest) = &image.manifest.kind {
//!     println!("{} layers", manifest.layers.len());
//! }
//!
//! // Later: one request, and no body while the tag names the same manifest.
//! let known = &image.manifest;
//! let changed = repository.manifest_if_changed("1", known.etag.as_deref(), &known.digest).await?;
//! # assert!(changed.is_none());
//! # assert_eq!(descriptor.digest, made.manifest_digest);
//! # Ok(())
//! # }
//! ```
//!
//! ## Pull a blob
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use greentic_distributor_client::oci::{self, BlobEvent, ManifestKind, Reference, Selector};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let made = fixture::component();
//! # let registry = fixture::served(&made);
//! # let host = registry.host();
//! let client = oci::client().build()?;
//! let repository = client.repository(&Reference::parse(&format!("{host}/acme/hello"))?);
//! let manifest = repository.manifest(Selector::Tag("1")).await?;
//! let ManifestKind::Image(image) = &manifest.kind else { return Err("an index".into()) };
//! let layer = image.layers.first().ok_or("no layer")?;
//!
//! // Into any `AsyncWrite`: continued after a cut, proven in the end.
//! let mut file = Vec::new();
//! let written = repository.blob(layer).to_writer(&mut file).await?;
//! // Into a file, which appears when it is proven. What came before a cut, or before the process ended, is not fetched again.
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("hello.wasm");
//! let request = repository.blob(layer).progress(|event| match event {
//!     BlobEvent::Bytes { bytes } => println!("{bytes} bytes are there"),
//!     other => println!("{other:?}"),
//! });
//! oci::save_blob_with(request, &path, false).await?;
//! // Into memory, with a limit.
//! let bytes = repository.blob(layer).bytes(16 << 20).await?;
//! // Piece by piece; the last one comes when all of them are proven.
//! let mut stream = repository.blob(layer).open().await?;
//! while let Some(piece) = stream.next().await {
//!     println!("{} bytes more", piece?.len());
//! }
//! // A part, which nothing can prove.
//! let mut range = repository.blob(layer).open_range(0..4).await?;
//! let magic = range.next().await.ok_or("nothing")??;
//! # assert_eq!((written, bytes.len() as u64, &magic[..]), (layer.size_bytes, layer.size_bytes, &b"\0asm"[..]));
//! # assert_eq!(file, made.layer_bytes());
//! # assert_eq!(std::fs::read(&path)?, made.layer_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! ## Push
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use std::sync::Arc;
//!
//! use greentic_distributor_client::oci::{self, BlobSource as _, BytesSource, ImageManifest, RawManifest, Reference, UploadMode};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = fixture::served(&fixture::component());
//! # let host = registry.host();
//! let client = oci::client().build()?;
//! let repository = client.repository(&Reference::parse(&format!("{host}/acme/notes"))?);
//! let config = BytesSource::new("application/vnd.oci.empty.v1+json", &b"{}"[..]);
//! let notes = BytesSource::new("text/plain", &b"hello"[..]);
//! let mut image = ImageManifest::new(config.descriptor().clone(), vec![notes.descriptor().clone()]);
//! image.artifact_type = Some("application/vnd.acme.notes".to_owned());
//! let manifest = RawManifest::image(&image)?;
//! // A blob that is there is not sent; a push that breaks is continued.
//! repository.put_blob(Arc::new(config)).send().await?;
//! repository.put_blob(Arc::new(notes)).mode(UploadMode::Chunked { chunk_bytes: 0 }).send().await?;
//! // The exact bytes, under their digest and as many tags as are wanted.
//! let pushed = repository.put_manifest(&manifest).tag("1").tag("latest").send().await?;
//! # assert_eq!(pushed.digest, *manifest.digest());
//! # assert_eq!(repository.tags().collect(10).await?, ["1", "latest"]);
//! # Ok(())
//! # }
//! ```
//!
//! ## Copy, and delete
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use std::sync::Arc;
//!
//! use greentic_distributor_client::oci::{self, ManifestKind, RawManifest, Reference, Selector};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = fixture::served(&fixture::component());
//! # let host = registry.host();
//! let client = oci::client().build()?;
//! let from = client.repository(&Reference::parse(&format!("{host}/acme/hello"))?);
//! let to = client.repository(&Reference::parse(&format!("{host}/mirror/hello"))?);
//! let manifest = from.manifest(Selector::Tag("1")).await?;
//! let ManifestKind::Image(image) = &manifest.kind else { return Err("an index".into()) };
//! for blob in image.layers.iter().chain(&image.config) {
//!     // Taken over inside of one registry, else it flows through, verified. `DistClient::copy` does all of this, and indexes,
//!     // referrers and signatures, too.
//!     to.put_blob(Arc::new(from.blob_source(blob))).mount_from("acme/hello").send().await?;
//! }
//! let copied = to.put_manifest(&RawManifest::from(manifest)).tag("1").send().await?;
//!
//! // A tag alone; the manifest it names stays.
//! to.delete_tag("1").await?;
//! // The manifest, with every tag that names it.
//! to.delete_manifest(&copied.digest).await?;
//! # assert!(to.head_manifest(Selector::Digest(copied.digest)).await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! ## Referrers
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use greentic_distributor_client::oci::{self, Reference, Selector};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = fixture::served(&fixture::component());
//! # let host = registry.host();
//! let client = oci::client().build()?;
//! let repository = client.repository(&Reference::parse(&format!("{host}/acme/hello"))?);
//! let subject = repository.resolve(Selector::Tag("1")).await?.digest;
//! // That nobody refers to it is an empty list; that it could not be asked is an error.
//! let referrers = repository.referrers(&subject, Some("application/vnd.dev.sigstore.bundle.v0.3+json")).await?;
//! println!("{} signatures, says {:?}", referrers.pages.collect(1_000).await?.len(), referrers.source);
//! # Ok(())
//! # }
//! ```
//!
//! ## Errors, and what was done
//!
//! ```
//! # use greentic_dist_testkit::fixture;
//! use greentic_distributor_client::oci::{self, ErrorClass, ErrorKind, Reference, Selector};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let registry = fixture::served(&fixture::component());
//! # let host = registry.host();
//! let client = oci::client().build()?;
//! let repository = client.repository(&Reference::parse(&format!("{host}/acme/hello"))?);
//! let Err(error) = repository.manifest(Selector::Tag("none")).await else { return Err("it is there".into()) };
//! match error.class() {
//!     ErrorClass::RateLimit { retry_after } => println!("later, in {retry_after:?}"),
//!     ErrorClass::NotFound => println!("{error}; {:?}", error.hints()),
//!     _ => return Err(error.into()),
//! }
//! # assert_eq!((error.kind(), error.status()), (ErrorKind::NotFound, Some(404)));
//! let stats = client.client_stats();
//! println!("{} requests, {} over a connection that was open", stats.total.requests, stats.total.connections_reused);
//! # assert_eq!((stats.total.requests, stats.total.connections_opened), (1, 1));
//! # Ok(())
//! # }
//! ```

mod artifact;
mod client;
mod copy;
mod created;
pub(crate) mod describe;
mod error;
pub(crate) mod graph;
pub(crate) mod layout;
mod names;
mod place;
mod push;
pub(crate) mod registry;
mod remote;
mod room;
mod save;
mod sink;
mod source;
mod transfer;
mod wasm;

pub use artifact::PushKind;
pub use client::client;
pub use copy::{CopyOptions, CopyReport};
pub use created::parse_created;
pub use describe::{ArtifactDescription, ContentDescription, PlatformDescription, RateLimitDescription};
pub use error::{LayoutError, LayoutProblem};
pub use greentic_dist_net::{
    BlobEvent, BlobHead, BlobPieces, BlobRange, BlobRead, BlobRequest, BlobSource, BlobStream, BlobUpload, BoxFuture,
    BytesSource, Capabilities, ClientStats, Credential, CredentialAction, CredentialAnswer, CredentialSource,
    CredentialTarget, EndpointFailure, EndpointMemory, Event, FetchedImage, FetchedManifest, HostConfig, HostEndpoint,
    HostSource, HttpRule, ItemStream, Limit, Limits, Login, LoginOrigin, ManifestHead, ManifestUpload, Net as Client,
    NetBuilder as ClientBuilder, NetError as Error, NetErrorClass as ErrorClass, NetErrorKind as ErrorKind, NetStats,
    Observer, Paged, Piece, Proxy, ProxyRule, PushedBlob, PushedManifest, RangePolicy, RateLimit, RawManifest,
    Referrers, ReferrersSource, ReferrersUpkeep, RegistriesFile, RegistriesFileError, RegistryError,
    RegistryHandle as Registry, RegistryVersion, Repository, RepositorySource, RetryPolicy, Revalidated, Selector,
    SlowestBody, SourceError, StaticCredentials, StreamSource, TargetPolicy, Timeouts, UnverifiedBlobStream,
    UploadMode,
};
pub use greentic_dist_types::{
    Algorithm, Descriptor, Digest, Index as ImageIndex, Manifest as ImageManifest, ManifestError, ManifestKind,
    Mismatch, ParseDigestError, ParsePlatformError, ParseReferenceError, Platform, PlatformChoice, Reference, SafeText,
    Secret, SelectError,
};
pub use place::{Place, PlaceKind};
pub use push::{PushOptions, PushReport};
pub use remote::{Deletion, ListOptions, Listing, TagReport};
pub use save::{save_blob, save_blob_with};

pub use crate::credentials::{CredentialChain, EnvCredentials};

/// Single places of logins, to be put together by the program: [`CredentialChain`] is all of them as the environment has them.
///
/// ```
/// use std::sync::Arc;
///
/// use greentic_distributor_client::oci::providers::{Chain, CredentialHelper, DockerConfig, Env};
/// use greentic_distributor_client::oci::Client;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The variables, then one file, then one helper, and nothing else of this machine.
/// let places = Chain::new(vec![
///     Arc::new(Env),
///     Arc::new(DockerConfig::at("/run/secrets/registry.json")),
///     Arc::new(CredentialHelper::new("pass")?),
/// ]);
/// let client = Client::builder().credentials(Arc::new(places)).build()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub mod providers {
    pub use greentic_dist_net::StaticCredentials as Static;

    pub use crate::credentials::{
        Chain, ContainersAuth, CredentialChain as Ambient, CredentialHelper, DockerConfig, EnvCredentials as Env,
        InvalidHelperName, SavedLogins,
    };
}
pub use crate::hosts::{HostFiles, HostsDir};
pub use crate::registries_conf::RegistriesConf;
