//! Every socket of the pull path is opened here; no file is written.
//!
//! Reading order follows a request. A [`Net`] is the handle; [`Net::repository`] and [`Net::get`] say what to ask.
//! `exchange` wraps one question with login (`oci::auth`), retries (`retry`) and the verdict on the answer; `redirect`
//! follows where [`TargetPolicy`] allows; `transport` is the choke point that sends one hop. Bodies come back as streams
//! that continue after a cut (`body`), and blobs are proven while they flow (`oci::blob`).
//!
//! What always holds: HTTPS except on loopback and where configured, no cookie, no `Referer`, no content decoding,
//! credentials to their own host only, a cap on everything a peer sends, an exact size and digest on every blob, and in
//! offline mode no socket. Internal: the public promise is made by `greentic-distributor-client`.

mod body;
mod budget;
mod caps;
mod cause;
mod client;
mod config;
mod connect;
mod deadline;
mod error;
mod error_kind;
mod exchange;
mod exit_code;
mod fallback;
mod flight;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod http;
mod limit;
mod need;
mod observer;
mod oci;
mod payload;
mod pool;
mod proxy;
mod rate_limit;
mod redirect;
mod resolver;
mod retry;
mod scheme;
mod sent;
mod splay;
mod stats;
mod target_policy;
mod tls;
mod trace;
mod transport;
mod verdict;
mod warning;

pub use crate::body::Piece;
pub use crate::caps::{Limit, Limits, UnknownLimit};
pub use crate::client::{Net, NetBuilder};
pub use crate::config::{HttpRule, RangePolicy, RetryPolicy, SlowestBody, Timeouts, is_loopback};
pub use crate::deadline::{DeadlinePassed, one_operation, same_operation};
pub use crate::error::{EndpointFailure, NetError, RegistryError};
pub use crate::error_kind::{NetErrorClass, NetErrorKind, WRONG_BYTES};
pub use crate::host::{
    Capabilities, EndpointMemory, HostConfig, HostEndpoint, HostSource, HostsFile, HostsFileEndpoint, HostsFileError,
    RegistriesFile, RegistriesFileError,
};
pub use crate::http::{BodyStream, HttpAnswer, HttpCall, HttpGet, HttpReply};
pub use crate::observer::{Event, Observer};
pub use crate::oci::{
    BlobEvent, BlobHead, BlobPieces, BlobRange, BlobRead, BlobRequest, BlobSource, BlobStream, BlobUpload, BoxFuture,
    BytesSource, Credential, CredentialAction, CredentialAnswer, CredentialSource, CredentialTarget, FetchedImage,
    FetchedManifest, ItemStream, Login, LoginOrigin, ManifestHead, ManifestUpload, Paged, PushedBlob, PushedManifest,
    RawManifest, Referrers, ReferrersSource, ReferrersUpkeep, RegistryHandle, RegistryVersion, Repository,
    RepositorySource, Revalidated, Selector, SourceError, StaticCredentials, StreamSource, UnsizedBlobStream,
    UnverifiedBlobStream, UploadMode,
};
pub use crate::proxy::{Proxy, ProxyRule};
pub use crate::rate_limit::RateLimit;
pub use crate::sent::GivenSecrets;
pub use crate::stats::{ClientStats, NetStats};
pub use crate::target_policy::TargetPolicy;
