//! What names meant: references to pins, and content digests to the pins of entries that hold it.
//!
//! Both are memory, not truth. A reference's record says what a registry answered and when; the index of contents is a
//! hint, and what it names is looked at before it is believed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use greentic_dist_types::Digest;
use greentic_dist_types::limits::RECORD_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::entry::Entry;
use crate::layout::Sub;
use crate::os;
use crate::record::{FORMAT_VERSION, version_of};
use crate::{Store, StoreError, StoreErrorKind};

/// Largest file of the index of contents; about a thousand pins. A fuller one is begun anew.
const INDEX_BYTES: u64 = 64 << 10;

/// What a reference resolved to the last time somebody asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefRecord {
    /// 1. Set when it is remembered.
    #[serde(default)]
    pub format_version: u32,
    /// The reference, verbatim. It is written to a file of mode 0600, so it should hold no secret.
    pub reference: String,
    /// The digest it resolved to.
    pub pin: Digest,
    /// Digest of the image index that was named, where the reference names one and `pin` is the manifest chosen from it.
    #[serde(default)]
    pub index_digest: Option<Digest>,
    /// That image index itself, so that the choice can be proven again, or made anew for another platform.
    #[serde(default)]
    pub index: Option<String>,
    /// Media type of what it resolved to.
    #[serde(default)]
    pub media_type: Option<String>,
    /// Size in bytes of what it resolved to.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// The entity tag the server gave, for a conditional request.
    #[serde(default)]
    pub etag: Option<String>,
    /// When, in unix seconds.
    pub resolved_at: u64,
    /// Fields this version does not know; they survive a rewrite.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl RefRecord {
    /// A record without media type, size and entity tag.
    pub fn new(reference: impl Into<String>, pin: Digest, resolved_at: u64) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            reference: reference.into(),
            pin,
            index_digest: None,
            index: None,
            media_type: None,
            size_bytes: None,
            etag: None,
            resolved_at,
            extra: Map::new(),
        }
    }
}

impl Store {
    /// What a reference resolved to last time; `None` when nobody asked yet, or when the memory is unreadable, of another
    /// reference, or of a newer version. The text must be the one that was remembered.
    ///
    /// # Errors
    /// `NotOurs` for a root others may write to; `Permission` and `Io` as they come.
    pub fn recall(&self, reference: &str) -> Result<Option<RefRecord>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(None);
        }
        let path = self.paths().reference(reference);
        let Some(bytes) = read_record("recall the reference", &path)? else { return Ok(None) };
        if version_of(&bytes).is_some_and(|version| version > u64::from(FORMAT_VERSION)) {
            return Ok(None);
        }
        let record = serde_json::from_slice::<RefRecord>(&bytes).ok();
        Ok(record.filter(|record| record.reference == reference))
    }

    /// Remembers what a reference resolved to, replacing what was remembered. Not synced: a power cut may forget it.
    ///
    /// # Errors
    /// `NewerFormat` when a newer version remembers something there; otherwise as any write.
    pub fn remember(&self, record: &RefRecord) -> Result<(), StoreError> {
        const OP: &str = "remember the reference";
        self.dir_for_writing(Sub::Refs)?;
        let path = self.paths().reference(&record.reference);
        let old = read_record(OP, &path)?.and_then(|bytes| version_of(&bytes));
        if let Some(version) = old.filter(|version| *version > u64::from(FORMAT_VERSION)) {
            return Err(StoreError::new(StoreErrorKind::NewerFormat, OP, &path)
                .with_detail(&format!("it has format version {version}, and this program knows 1")));
        }
        let record = RefRecord { format_version: FORMAT_VERSION, ..record.clone() };
        let mut bytes = serde_json::to_vec_pretty(&record).map_err(|error| StoreError::io(OP, &path, error.into()))?;
        bytes.push(b'\n');
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > RECORD_BYTES {
            let detail = format!("its record has {} bytes, and {RECORD_BYTES} are allowed", bytes.len());
            return Err(StoreError::new(StoreErrorKind::Io, OP, &path).with_detail(&detail));
        }
        self.write_atomic(&path, &bytes, false)
    }

    /// An entry that holds this content, under whatever pin; `None` when none is known. Its artifact is there, but only
    /// [`Store::open`] and [`Store::adopt`] prove it.
    ///
    /// # Errors
    /// As [`Store::stat`].
    pub fn find_content(&self, content: &Digest) -> Result<Option<Entry>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(None);
        }
        if let Ok(Some(entry)) = self.stat_pin(content)
            && holds(&entry, content)
        {
            return Ok(Some(entry));
        }
        self.find_in_index(content)
    }

    /// As [`Store::find_content`], by the index alone.
    pub(crate) fn find_in_index(&self, content: &Digest) -> Result<Option<Entry>, StoreError> {
        let path = self.paths().by_content(content);
        // The youngest is the likeliest to be there.
        let pins = read_index(&path)?;
        let entries =
            pins.iter().rev().filter(|pin| *pin != content).filter_map(|pin| self.stat_pin(pin).ok().flatten());
        Ok(entries.into_iter().find(|entry| holds(entry, content)))
    }

    /// Notes that the entry `pin` holds `content`. Best effort: without the note the content is downloaded again.
    pub(crate) fn index_content(&self, content: &Digest, pin: &Digest) {
        let noted = self.dir_for_writing(Sub::ByContent).and_then(|_| {
            let path = self.paths().by_content(content);
            let line = format!("{pin}\n");
            let size = std::fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
            if size + u64::try_from(line.len()).unwrap_or(u64::MAX) > INDEX_BYTES {
                return self.write_atomic(&path, line.as_bytes(), false);
            }
            if size > 0 && read_index(&path)?.contains(pin) {
                return Ok(());
            }
            // One write of one line: concurrent writers do not mix, and a torn line is no digest.
            match os::open_append(&path, self.owners()).and_then(|mut file: File| file.write_all(line.as_bytes())) {
                // Not a file of ours: another one takes its name.
                Err(error) if os::is_odd_file(&error) => self.write_atomic(&path, line.as_bytes(), false),
                other => other.map_err(|error| StoreError::io("index the content", &path, error)),
            }
        });
        if let Err(error) = noted {
            tracing::debug!(%content, %pin, %error, "the content could not be indexed");
        }
    }
}

fn holds(entry: &Entry, content: &Digest) -> bool {
    entry.content_digest == *content
        && !entry.record.vouched
        && std::fs::symlink_metadata(&entry.path).is_ok_and(|meta| meta.is_file())
}

/// The pins in a file of the index, oldest first; none when there is no such file or it is no such file.
pub(crate) fn read_index(path: &Path) -> Result<Vec<Digest>, StoreError> {
    let bytes = match os::open_read(path).and_then(|file| os::read_at_most(file, INDEX_BYTES)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || os::is_odd_file(&error) => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("look the content up", path, error)),
    };
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse().ok()).collect())
}

/// The record of a reference in this version's format; `None` for anything else.
pub(crate) fn read_reference(path: &Path) -> Option<RefRecord> {
    let bytes = read_record("look a reference up", path).ok().flatten()?;
    serde_json::from_slice::<RefRecord>(&bytes).ok().filter(|record| record.format_version <= FORMAT_VERSION)
}

/// A record, or nothing when there is none or it is no regular file of a sane size.
fn read_record(op: &'static str, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match os::open_read(path).and_then(|file| os::read_at_most(file, RECORD_BYTES)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || os::is_odd_file(&error) => Ok(None),
        Err(error) => Err(StoreError::io(op, path, error)),
    }
}
