//! The endpoints that sent wrong bytes a short while ago, so that the next process leaves them alone.
//!
//! One file. A memory, not truth: what it says can keep mirrors from being asked for ten minutes, and does nothing else. Whatever is
//! wrong with it makes it as good as empty.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::layout::{LockName, STATE_ENDPOINTS, Sub};
use crate::os::{self, Dir};
use crate::record::{FORMAT_VERSION, version_of};
use crate::{Store, StoreError, StoreErrorKind};

const OP: &str = "use the memory of mirrors that lied";
/// Longest time an endpoint is left alone. An end that is farther away was written by a clock that has gone back since, or by
/// somebody else, and does not count.
const LONGEST: Duration = Duration::from_mins(10);
/// Largest file that is read, in bytes.
const FILE_BYTES: u64 = 64 << 10;
/// Most endpoints in the file; of more, those that end first are left out.
const ENDPOINTS: usize = 64;
/// Longest URL of an endpoint, in bytes.
const URL_BYTES: usize = 512;
/// How long to wait for somebody else who writes the file.
const LOCK_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format_version: u32,
    endpoints: Vec<Mark>,
    /// Fields this version does not know; they survive a rewrite.
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    endpoint: String,
    quarantined_until: u64,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Default for Record {
    fn default() -> Self {
        Self { format_version: FORMAT_VERSION, endpoints: Vec::new(), extra: Map::new() }
    }
}

impl Mark {
    /// How much longer it counts.
    fn left(&self, now: u64) -> Option<Duration> {
        let left = Duration::from_secs(self.quarantined_until.checked_sub(now)?);
        (!left.is_zero() && left <= LONGEST && self.endpoint.len() <= URL_BYTES).then_some(left)
    }
}

impl Store {
    /// The endpoints to be left alone, by their URLs, each with how much longer: never more than 10 minutes, and at most 64.
    /// Takes no lock, writes nothing.
    ///
    /// # Errors
    /// `MalformedRecord` for a memory that is none; `NewerFormat`; `NotOurs`; `Permission` and `Io` as they come. All of them mean
    /// that nothing is known.
    pub fn quarantined_endpoints(&self) -> Result<Vec<(String, Duration)>, StoreError> {
        if !self.root_for_reading()? {
            return Ok(Vec::new());
        }
        let (record, now) = (self.read_endpoints()?, self.clock().unix_seconds());
        let left = record.endpoints.into_iter().filter_map(|mark| mark.left(now).map(|left| (mark.endpoint, left)));
        Ok(left.take(ENDPOINTS).collect())
    }

    /// Takes note that an endpoint is to be left alone for so long from now on, at most 10 minutes. `url` is written to a file of mode
    /// 0600, so it should hold no secret. What others have noted stays; a memory that is none is begun anew. Not synced: a power
    /// cut may forget it.
    ///
    /// # Errors
    /// `NewerFormat` when a newer version remembers something there; `Locked` when somebody else writes it for longer than 2
    /// seconds; otherwise as any write.
    pub fn quarantine_endpoint(&self, url: &str, time: Duration) -> Result<(), StoreError> {
        if url.len() > URL_BYTES {
            let path = self.paths().endpoints();
            let detail = format!("its URL has {} bytes, and {URL_BYTES} are allowed", url.len());
            return Err(StoreError::new(StoreErrorKind::Io, OP, &path).with_detail(&detail));
        }
        let Some(_lock) = self.lock_name_within(LockName::Endpoints, LOCK_WAIT)? else {
            return Err(self.in_use(OP, LockName::Endpoints));
        };
        self.dir_for_writing(Sub::State)?;
        let path = self.paths().endpoints();
        let mut record = match self.read_endpoints() {
            Err(error) if *error.kind() == StoreErrorKind::MalformedRecord => Record::default(),
            other => other?,
        };
        let now = self.clock().unix_seconds();
        let until = now.saturating_add(time.min(LONGEST).as_secs());
        let of_this = |mark: &Mark| mark.endpoint == url;
        let known = record.endpoints.iter().position(of_this).map(|at| record.endpoints.swap_remove(at));
        let known = known.filter(|mark| mark.left(now).is_some());
        record.endpoints.retain(|mark| mark.left(now).is_some() && !of_this(mark));
        record.endpoints.push(Mark {
            endpoint: url.to_owned(),
            quarantined_until: until.max(known.as_ref().map_or(0, |mark| mark.quarantined_until)),
            extra: known.map(|mark| mark.extra).unwrap_or_default(),
        });
        record.endpoints.sort_by_key(|mark| mark.quarantined_until);
        let too_many = record.endpoints.len().saturating_sub(ENDPOINTS);
        record.endpoints.drain(..too_many);
        let mut bytes = to_json(&record, &path)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES {
            // Only fields of others can make it so large.
            record.extra.clear();
            record.endpoints.iter_mut().for_each(|mark| mark.extra.clear());
            bytes = to_json(&record, &path)?;
        }
        self.write_atomic(&path, &bytes, false)
    }

    /// What the file says; nothing when there is none.
    fn read_endpoints(&self) -> Result<Record, StoreError> {
        let path = self.paths().endpoints();
        let malformed = |detail: &str| StoreError::new(StoreErrorKind::MalformedRecord, OP, &path).with_detail(detail);
        let read = Dir::open(&self.paths().sub(Sub::State)).and_then(|dir| dir.read_small(STATE_ENDPOINTS, FILE_BYTES));
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Record::default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            Err(error) if os::is_odd_file(&error) => {
                return Err(malformed("it is no regular file of a sane size").with_source(error));
            }
            Err(error) => return Err(StoreError::io(OP, &path, error)),
        };
        if let Some(version) = version_of(&bytes).filter(|version| *version > u64::from(FORMAT_VERSION)) {
            return Err(StoreError::new(StoreErrorKind::NewerFormat, OP, &path)
                .with_detail(&format!("it has format version {version}, and this program knows 1")));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| malformed("it is not the JSON of such a memory").with_source(error))
    }
}

fn to_json(record: &Record, path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = serde_json::to_vec_pretty(record).map_err(|error| StoreError::io(OP, path, error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}
