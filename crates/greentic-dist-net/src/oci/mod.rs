//! The pull side of an OCI registry client (distribution-spec 1.1).
//!
//! A [`Repository`] is where requests start: [`head_manifest`](Repository::head_manifest) and
//! [`manifest`](Repository::manifest) read manifests, [`image`](Repository::image) follows an index to one artifact,
//! [`blob`](Repository::blob) streams content that is verified while it flows.

pub(crate) mod auth;
mod blob;
pub(crate) mod errcode;
mod image;
mod manifest;
mod registry;
mod repository;
mod source;

pub use auth::{BoxFuture, Credential, CredentialSource, CredentialTarget, StaticCredentials};
pub use blob::{BlobRequest, BlobStream, UnverifiedBlobStream};
pub use image::FetchedImage;
pub use manifest::{FetchedManifest, ManifestHead};
pub(crate) use registry::{Registries, Registry};
pub use repository::{Repository, Selector};
pub(crate) use source::unreadable;
pub use source::{BlobRead, BlobSource, BytesSource, RepositorySource, SourceError, StreamSource};
