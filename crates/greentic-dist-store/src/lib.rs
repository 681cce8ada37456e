//! The cache directory: everything that touches it, and nothing that touches the network.
//!
//! The life of an artifact: a [`DigestLock`] makes one of many the one who brings it; [`Store::ingest`] takes its bytes in
//! and proves them while they are written, going on where an earlier attempt died; [`VerifiedBlob::stage`] puts manifest and
//! record beside them; [`Store::publish`] gives the whole its name by one rename. From then on it is an [`Entry`]:
//! [`Store::stat`] reads what it says, [`Store::open`] proves what it holds, [`Store::remove`] and [`Store::gc`] take it away.
//!
//! An entry proves itself from its name alone: the name is the digest of its manifest, the manifest names the digest of the
//! bytes, and the bytes hash to it. No index, no lock and no record has to be believed, so a kill, a full disk or somebody
//! with an editor can cost a download and never a wrong answer.
//!
//! What somebody relies on has a [`BundleRecord`]: [`Store::put_bundle`] returns when record and entry survive a power cut.
//!
//! Rules: an entry may vanish in a power cut, it never lies; readers take no lock; nothing is deleted by a name read from a
//! file; paths are made from [`greentic_dist_types::Digest`]s in one file (`layout.rs`).
//!
//! Synchronous; every method blocks on the file system. Internal: the public promise is made by
//! `greentic-distributor-client`.

mod adopt;
mod advisories;
mod assembly;
mod atomic;
mod audit;
mod batch;
mod bundles;
mod clock;
mod crash;
mod dir;
mod durable;
mod endpoints;
mod entry;
mod error;
mod gc;
mod glance;
mod holes;
mod ingest;
mod intruder;
mod layout;
mod lock;
mod open;
mod os;
mod position;
mod prover;
mod publish;
mod record;
mod refs;
mod remove;
mod retention;
mod room;
mod root;
mod scan;
mod second_name;
mod sizes;
mod stage;
mod stamp;
mod store;
mod temp;
mod usage;

pub use advisories::AdvisoryMark;
pub use assembly::{Assembly, TakeError};
pub use audit::{Audit, Damage};
pub use bundles::{BundleChange, BundleRecord, BundlesLock};
pub use clock::Clock;
pub use entry::Entry;
pub use error::{StoreError, StoreErrorKind};
pub use gc::GcReport;
pub use ingest::{Expected, Ingest, VerifiedBlob};
pub use layout::{ArtifactFile, Layout, Sidecar};
pub use lock::{DigestLock, Holder, LockWait};
pub use open::{OpenEntry, Proof};
pub use position::{read_at, write_all_at};
pub use publish::Published;
pub use record::{EntryRecord, SourceSnapshot};
pub use refs::RefRecord;
pub use remove::Removed;
pub use retention::{Candidate, EvictTerms, Evicted, Kept, Lease, Limits, Protection, Reason, Surveyed, Verdict, plan};
pub use room::check_room;
pub use second_name::SecondName;
pub use sizes::Sizes;
pub use stage::{EntryDraft, Staged};
pub use store::{Durability, Store, StoreOptions};
