//! Uploads on their way: bytes received so far, hashed while they arrive.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use greentic_dist_types::{Algorithm, Digest, Hasher};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::ServeError;
use crate::api::ApiError;
use crate::disk::{TempPath, random_name};
use crate::store::Store;

/// Most uploads open at once.
const SESSIONS: usize = 256;
/// How long an upload may rest before a new one may take its place.
const IDLE: Duration = Duration::from_hours(1);
/// How long the next piece of a body may take.
const PIECE_TIMEOUT: Duration = Duration::from_mins(1);

/// The open uploads by session id.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Session>>);

/// One upload between two requests.
#[derive(Debug)]
struct Session {
    repository: String,
    staged: Staged,
    algorithm: Algorithm,
    hasher: Hasher,
    received_bytes: u64,
    touched_at: Instant,
}

#[derive(Debug)]
enum Staged {
    Memory(Vec<u8>),
    File(File, TempPath),
}

/// An upload taken out of the table for one request. Dropped, it goes back with what it has received: a peer whose
/// connection broke can ask how far it came and go on.
#[derive(Debug)]
pub(crate) struct Upload {
    store: Arc<Store>,
    id: String,
    session: Option<Session>,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Starts an upload into `repository` whose bytes are hashed with `algorithm` while they arrive.
    pub(crate) fn begin(store: &Arc<Store>, repository: &str, algorithm: Algorithm) -> Result<Self, ApiError> {
        let mut sessions = store.uploads.lock();
        sessions.retain(|_, session| session.touched_at.elapsed() < IDLE);
        if sessions.len() >= SESSIONS {
            return Err(ApiError::too_many_uploads());
        }
        drop(sessions);
        let staged = match store.disk() {
            None => Staged::Memory(Vec::new()),
            Some(disk) => {
                let (file, path) = disk.new_upload()?;
                Staged::File(File::from_std(file), path)
            }
        };
        let session = Session {
            repository: repository.to_owned(),
            staged,
            algorithm,
            hasher: Hasher::new(algorithm),
            received_bytes: 0,
            touched_at: Instant::now(),
        };
        Ok(Self { store: Arc::clone(store), id: random_name(), session: Some(session) })
    }

    /// Takes up an open upload. An id of another repository, or one that another request is using, is unknown.
    pub(crate) fn resume(store: &Arc<Store>, repository: &str, id: &str) -> Result<Self, ApiError> {
        let mut sessions = store.uploads.lock();
        match sessions.get(id) {
            Some(session) if session.repository == repository => {}
            _ => return Err(ApiError::upload_unknown()),
        }
        let session = sessions.remove(id);
        Ok(Self { store: Arc::clone(store), id: id.to_owned(), session })
    }

    /// The session id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// How many bytes are here.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.received_bytes)
    }

    /// Ends the upload and throws its bytes away.
    pub(crate) fn abort(mut self) {
        self.session = None;
    }

    /// Takes a request body in.
    ///
    /// Cancel-safe: what was counted as received was hashed and handed to the file, nothing else was.
    pub(crate) async fn receive(&mut self, mut body: Incoming) -> Result<(), ApiError> {
        let limit = self.store.blob_limit();
        let session = self.session.as_mut().ok_or_else(ApiError::upload_unknown)?;
        loop {
            let frame = match tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await {
                Err(_elapsed) => return Err(ApiError::body_timeout()),
                Ok(None) => break,
                Ok(Some(Err(_broken))) => return Err(ApiError::body_broken()),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(mut data) = frame.into_data() else { continue };
            let arrived = u64::try_from(data.len()).unwrap_or(u64::MAX);
            if session.received_bytes.saturating_add(arrived) > limit {
                return Err(ApiError::too_large(limit));
            }
            while !data.is_empty() {
                let written = session.staged.write(&data).await.map_err(|error| ApiError::internal(&error))?;
                let piece = data.split_to(written);
                session.hasher.update(&piece);
                session.received_bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            }
        }
        session.touched_at = Instant::now();
        Ok(())
    }

    /// Ends the upload: its bytes become the blob `digest`, or are thrown away when they are not that blob.
    pub(crate) async fn commit(mut self, digest: Digest) -> Result<(), ApiError> {
        let session = self.session.take().ok_or_else(ApiError::upload_unknown)?;
        let mut staged = session.staged;
        if let Staged::File(file, _) = &mut staged {
            file.flush().await.map_err(|error| ApiError::internal(&error))?;
        }
        let is_hashed = digest.algorithm() == session.algorithm;
        let actual = if is_hashed { session.hasher.finish() } else { staged.hash_again(digest.algorithm()).await? };
        if actual != digest {
            return Err(ApiError::digest_mismatch(digest, actual));
        }
        match (staged, self.store.disk()) {
            (Staged::Memory(bytes), _) => self.store.put_blob(digest, Bytes::from(bytes))?,
            (Staged::File(_, path), Some(disk)) => disk.keep_upload(&path, digest)?,
            (Staged::File(..), None) => return Err(ApiError::upload_unknown()),
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.store.uploads.lock().insert(std::mem::take(&mut self.id), session);
        }
    }
}

impl Staged {
    /// Takes at least one byte of `data` and returns how many.
    async fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Memory(bytes) => {
                bytes.extend_from_slice(data);
                Ok(data.len())
            }
            Self::File(file, _) => match file.write(data).await? {
                0 => Err(std::io::ErrorKind::WriteZero.into()),
                written => Ok(written),
            },
        }
    }

    /// Hashes everything again, for a digest of another algorithm than was hashed on the way in.
    async fn hash_again(&self, algorithm: Algorithm) -> Result<Digest, ApiError> {
        match self {
            Self::Memory(bytes) => Ok(Digest::of(algorithm, bytes)),
            Self::File(_, path) => {
                let path = path.path().to_owned();
                let hashed = tokio::task::spawn_blocking(move || hash_file(algorithm, &path)).await;
                hashed.map_err(|error| ApiError::internal(&error))?.map_err(|error| ApiError::internal(&error))
            }
        }
    }
}

fn hash_file(algorithm: Algorithm, path: &std::path::Path) -> Result<Digest, ServeError> {
    let mut file = std::fs::File::open(path).map_err(ServeError::io("read", path))?;
    file.seek(SeekFrom::Start(0)).map_err(ServeError::io("read", path))?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(ServeError::io("read", path))?;
        match buffer.get(..read) {
            Some(piece) if read > 0 => hasher.update(piece),
            _ => return Ok(hasher.finish()),
        }
    }
}
