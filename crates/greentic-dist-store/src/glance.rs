//! What decides about many entries at once, without reading all that their records say.

use std::borrow::Cow;
use std::time::SystemTime;

use greentic_dist_types::limits::RECORD_BYTES;
use greentic_dist_types::{CacheEntryState, Digest};
use serde::Deserialize;

use crate::layout::RECORD;
use crate::open::Claim;
use crate::os::Dir;
use crate::record::FORMAT_VERSION;

/// The part of a record that retention and collection go by.
#[derive(Deserialize)]
struct Part<'a> {
    format_version: u32,
    #[serde(borrow)]
    cache_key: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    size_bytes: u64,
    fetched_at: u64,
    last_accessed_at: u64,
    state: CacheEntryState,
    content_digest: Digest,
    #[serde(default)]
    vouched: bool,
}

/// What the record of an entry says at first sight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    content_digest: Digest,
    vouched: bool,
    pub(crate) size_bytes: u64,
    pub(crate) fetched_at: u64,
    pub(crate) last_accessed_at: u64,
    pub(crate) state: CacheEntryState,
    /// When the record was written, where that can be told.
    pub(crate) recorded_at: Option<SystemTime>,
}

impl Glance {
    /// Reads the record of `pin` in its directory. `None` where there is more to find out: no record, one of another entry or
    /// version, one that does not name its content. Then [`Store::stat_pin`](crate::Store) knows.
    pub(crate) fn at(dir: &Dir, pin: &Digest) -> Option<Self> {
        let (bytes, meta) = dir.read_known(RECORD, RECORD_BYTES).ok()??;
        let part: Part<'_> = serde_json::from_slice(&bytes).ok()?;
        let is_of = |text: &str| text.parse().is_ok_and(|digest: Digest| digest == *pin);
        let is_plain = part.format_version == FORMAT_VERSION && is_of(&part.digest) && is_of(&part.cache_key);
        is_plain.then_some(Self {
            content_digest: part.content_digest,
            vouched: part.vouched,
            size_bytes: part.size_bytes,
            fetched_at: part.fetched_at,
            last_accessed_at: part.last_accessed_at,
            state: part.state,
            recorded_at: meta.modified().ok(),
        })
    }

    /// What the entry says of its content.
    pub(crate) fn claim(&self, pin: &Digest) -> Claim {
        let vouched_bytes = self.vouched.then_some(self.size_bytes);
        Claim { pin: *pin, content: self.content_digest, is_named: true, vouched_bytes }
    }
}
