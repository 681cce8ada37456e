//! A registry that can be filled and started.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use greentic_dist_types::Digest;

use crate::journal::RequestRecord;
use crate::running::RunningRegistry;
use crate::store::Store;
use crate::tree::{Tree, TreeLayout};
use crate::{ServeError, ServeOptions, running};

/// The content of a registry and the way to serve it. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<Store>,
}

impl Registry {
    /// An empty registry whose content lives as long as it does. A blob may have up to 2 GiB.
    pub fn in_memory() -> Self {
        Self { store: Arc::new(Store::in_memory()) }
    }

    /// A registry over a directory, created when missing and locked until the last clone is dropped. The content is an
    /// OCI image layout: blobs under `blobs/`, names as `repository:tag` in `index.json`. A blob may have up to 64 GiB and
    /// is streamed, never held. Blocking.
    ///
    /// # Errors
    /// [`ServeError::InUse`] when another registry has it open, [`ServeError::Layout`] when its `index.json` is none,
    /// [`ServeError::Io`] when a file cannot be read or written.
    pub fn over_dir(path: impl AsRef<Path>) -> Result<Self, ServeError> {
        Ok(Self { store: Arc::new(Store::over_dir(path.as_ref().to_owned())?) })
    }

    /// A registry over packs and components in a directory, which is read and never written: each version of an artifact is
    /// `components/<id>:<version>` or `packs/<id>:<version>`. Beside the distribution API it answers the distributor's JSON endpoints.
    /// Files are hashed when somebody asks for them. Pushes are refused. Blocking, for a few system calls.
    ///
    /// # Errors
    /// [`ServeError::Io`] when there is no such directory.
    pub fn over_tree(root: impl AsRef<Path>, layout: TreeLayout) -> Result<Self, ServeError> {
        Ok(Self { store: Arc::new(Store::over_tree(Tree::open(root.as_ref(), layout)?)) })
    }

    /// Keeps a blob and returns its sha256 digest. Blocking where the content is in a directory.
    ///
    /// # Errors
    /// [`ServeError::TooLarge`] and [`ServeError::Io`].
    pub fn put_blob(&self, bytes: impl Into<Bytes>) -> Result<Digest, ServeError> {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.store.put_blob(digest, bytes)?;
        Ok(digest)
    }

    /// Keeps a manifest of any content under its sha256 digest and under `references` (tags, or that digest), and
    /// returns the digest. Unlike a push it does not ask whether the manifest makes sense or its blobs are there.
    ///
    /// # Errors
    /// [`ServeError::Name`], [`ServeError::Reference`], [`ServeError::TooLarge`] (4 MiB) and [`ServeError::Io`].
    pub fn put_manifest(
        &self,
        repository: &str,
        references: &[&str],
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, ServeError> {
        let digest = Digest::sha256(bytes);
        self.store.put_manifest(repository, references, media_type, Bytes::copy_from_slice(bytes), digest)?;
        Ok(digest)
    }

    /// Starts serving on a loopback address; port 0 takes a free one. Returns when the port is open. It runs on its own
    /// thread, so this can be called with or without an async runtime around.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`], [`ServeError::Listen`], [`ServeError::Start`].
    pub fn start(&self, addr: SocketAddr) -> Result<RunningRegistry, ServeError> {
        self.start_with(addr, ServeOptions::new())
    }

    /// As [`Registry::start`], with a token, which other addresses than loopback need, or a log of its answers.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`], [`ServeError::Listen`], [`ServeError::Start`].
    pub fn start_with(&self, addr: SocketAddr, options: ServeOptions) -> Result<RunningRegistry, ServeError> {
        running::start(self.clone(), Arc::clone(&self.store), addr, options)
    }

    /// The last 10 000 requests over all runs, oldest first.
    pub fn journal(&self) -> Vec<RequestRecord> {
        self.store.journal.records()
    }

    /// How many requests there were over all runs.
    pub fn requests(&self) -> u64 {
        self.store.journal.count()
    }
}
