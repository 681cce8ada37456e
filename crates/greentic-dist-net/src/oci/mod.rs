//! The pull side of an OCI registry client (distribution-spec 1.1).
//!
//! A [`Repository`] is where requests start: [`head_manifest`](Repository::head_manifest) and
//! [`manifest`](Repository::manifest) read manifests, [`image`](Repository::image) follows an index to one artifact,
//! [`blob`](Repository::blob) streams content that is verified while it flows.

pub(crate) mod auth;
mod blob;
mod blob_event;
mod blob_line;
mod blob_range;
mod blob_unsized;
mod blob_whole;
mod catalog;
mod delete;
pub(crate) mod errcode;
mod head_blob;
mod health;
mod holding;
mod image;
pub(crate) mod link;
mod location;
mod manifest;
mod mount;
mod pagination;
mod put_manifest;
mod referrers;
mod referrers_tag;
mod registry;
mod repository;
mod route;
mod session;
mod source;
mod stream;
mod tags;
mod upload;
mod upload_chunked;
mod write_manifest;

pub use auth::{
    BoxFuture, Credential, CredentialAction, CredentialAnswer, CredentialSource, CredentialTarget, Login, LoginOrigin,
    StaticCredentials,
};
pub use blob::{BlobPieces, BlobRequest, BlobStream, UnverifiedBlobStream};
pub use blob_event::BlobEvent;
pub(crate) use blob_event::Watcher;
pub use blob_range::BlobRange;
pub use blob_unsized::UnsizedBlobStream;
pub use catalog::{RegistryHandle, RegistryVersion};
pub use head_blob::BlobHead;
pub(crate) use health::{Absence, QUARANTINE, leave_alone};
pub use image::FetchedImage;
pub use manifest::{FetchedManifest, ManifestHead, Revalidated};
pub use pagination::Paged;
pub use put_manifest::{ManifestUpload, PushedManifest, RawManifest, ReferrersUpkeep};
pub use referrers::{Referrers, ReferrersSource};
pub(crate) use registry::{Registries, Registry};
pub use repository::{Repository, Selector};
pub(crate) use source::unreadable;
pub use source::{BlobRead, BlobSource, BytesSource, RepositorySource, SourceError, StreamSource};
pub use stream::ItemStream;
pub use upload::{BlobUpload, PushedBlob, UploadMode};
