//! The youngest advisory seen from each source, so that nobody can pass an older one off as the current one.
//!
//! One file a source, durable, and never set back. Reading is strict: a memory that cannot be read is an error, because a
//! forgotten one accepts everything.

use std::path::Path;

use greentic_dist_types::limits::RECORD_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::layout::Sub;
use crate::os;
use crate::record::{FORMAT_VERSION, version_of};
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "remember the advisory";

/// The youngest advisory seen from a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdvisoryMark {
    /// 1. Set when it is written.
    pub format_version: u32,
    /// Where the advisories come from, verbatim; the file is named after its SHA-256.
    pub source: String,
    /// The version of the youngest, as it names itself.
    pub version: String,
    /// When the youngest was issued, unix seconds.
    pub issued_at: u64,
    /// Fields this version does not know; they survive a rewrite.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Store {
    /// The youngest advisory seen from `source`; `None` when none was seen. Takes no lock, writes nothing.
    ///
    /// # Errors
    /// `MalformedRecord` when the memory is there and is not that of this source; `NewerFormat`; `NotOurs`; `Permission`
    /// and `Io` as they come.
    pub fn advisory_mark(&self, source: &str) -> Result<Option<AdvisoryMark>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(None);
        }
        let path = self.paths().advisory(source);
        let bytes = match os::open_read(&path).and_then(|file| os::read_at_most(file, RECORD_BYTES)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if os::is_odd_file(&error) => {
                return Err(malformed(&path, "it is no regular file of a sane size").with_source(error));
            }
            Err(error) => return Err(StoreError::io(OP, &path, error)),
        };
        if let Some(version) = version_of(&bytes).filter(|version| *version > u64::from(FORMAT_VERSION)) {
            return Err(StoreError::new(StoreErrorKind::NewerFormat, OP, &path)
                .with_detail(&format!("it has format version {version}, and this program knows 1")));
        }
        let mark: AdvisoryMark = serde_json::from_slice(&bytes)
            .map_err(|error| malformed(&path, "it is not the JSON of such a memory").with_source(error))?;
        if mark.source != source {
            return Err(malformed(&path, "it is the memory of another source"));
        }
        Ok(Some(mark))
    }

    /// Remembers an advisory of `source`, unless a younger one, or one as old, was seen already. When it returns, the memory
    /// survives a power cut.
    ///
    /// # Errors
    /// As [`Store::advisory_mark`]; `Locked` when somebody else is at it for too long; otherwise as any write.
    pub fn mark_advisory(&self, source: &str, version: &str, issued_at: u64) -> Result<(), StoreError> {
        let is_known = |mark: &Option<AdvisoryMark>| mark.as_ref().is_some_and(|mark| mark.issued_at >= issued_at);
        if is_known(&self.advisory_mark(source)?) {
            return Ok(());
        }
        let _lock = self.lock_key(&format!("advisories of {source}"), &mut |_| ())?;
        let known = self.advisory_mark(source)?;
        if is_known(&known) {
            return Ok(());
        }
        self.dir_for_writing(Sub::Advisories)?;
        let path = self.paths().advisory(source);
        let mark = AdvisoryMark {
            format_version: FORMAT_VERSION,
            source: source.to_owned(),
            version: version.to_owned(),
            issued_at,
            extra: known.map(|mark| mark.extra).unwrap_or_default(),
        };
        let mut bytes = serde_json::to_vec_pretty(&mark).map_err(|error| StoreError::io(OP, &path, error.into()))?;
        bytes.push(b'\n');
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > RECORD_BYTES {
            let detail = format!("its source and version have {} bytes, and {RECORD_BYTES} are allowed", bytes.len());
            return Err(StoreError::new(StoreErrorKind::Io, OP, &path).with_detail(&detail));
        }
        self.write_durable(&path, &bytes)
    }
}

fn malformed(path: &Path, detail: &str) -> StoreError {
    StoreError::new(StoreErrorKind::MalformedRecord, OP, path).with_detail(detail)
}
