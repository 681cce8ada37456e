//! Why a registry could not be opened, filled or started.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use greentic_dist_types::{Digest, SafeText};

/// A failure of the registry itself; what a peer asks wrongly is answered to the peer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is not a loopback one, and no token protects what is served.
    #[error("without a token the registry serves on loopback only, not on {addr}")]
    NotLoopback {
        /// The refused address.
        addr: SocketAddr,
    },
    /// What is served is somebody's directory, which is never written to.
    #[error("the registry serves a directory of packs and components and takes no pushes")]
    ReadOnly,
    /// The address is taken or may not be used.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No thread or no runtime could be made.
    #[error("cannot start the registry's thread")]
    Start {
        /// What the system said.
        source: io::Error,
    },
    /// Another registry has the directory open.
    #[error("{} is in use by another registry", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something that is not this registry's.
    #[error("{} is not an OCI image layout: {problem}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`, `rename`, `lock`.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A repository name outside the grammar of the distribution specification.
    #[error("`{name}` is not a repository name")]
    Name {
        /// The name.
        name: SafeText,
    },
    /// A tag outside the grammar, or a digest that is not the content's.
    #[error("`{reference}` is not a tag and not the digest {digest} of the manifest")]
    Reference {
        /// The tag or digest.
        reference: SafeText,
        /// The digest of the manifest that was given.
        digest: Digest,
    },
    /// Larger than the registry takes.
    #[error("{size_bytes} bytes are more than the limit of {limit_bytes}")]
    TooLarge {
        /// The size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
}

impl ServeError {
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { op, path, source }
    }
}
