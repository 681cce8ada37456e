//! Every cap on what a peer may make us read, remember, follow or wait for, with its unit and its reason.
//!
//! The values are defaults; builders may raise or lower them, a peer never can.

use std::time::Duration;

/// Longest reference text: registry, repository, tag and digest together.
pub const REFERENCE_BYTES: usize = 1024;
/// Longest repository name, as the distribution spec recommends.
pub const REPOSITORY_BYTES: usize = 255;
/// Longest tag (distribution-spec grammar).
pub const TAG_BYTES: usize = 128;
/// Largest smallest chunk of an upload that a registry may ask for, in bytes: a larger one is no chunk any more.
pub const LEAST_CHUNK_BYTES: u64 = 64 << 20;
/// Largest manifest or index body. The spec asks registries to accept at least this much.
pub const MANIFEST_BYTES: u64 = 4 << 20;
/// The most [`MANIFEST_BYTES`] may be raised to: a manifest is held in memory as a whole.
pub const MOST_MANIFEST_BYTES: u64 = 64 << 20;
/// Most layers of one image manifest.
pub const LAYERS: usize = 1_000;
/// The most [`LAYERS`] may be raised to.
pub const MOST_LAYERS: usize = 10_000;
/// Most entries of one image index.
pub const INDEX_ENTRIES: usize = 1_000;
/// The most [`INDEX_ENTRIES`] may be raised to.
pub const MOST_INDEX_ENTRIES: usize = 10_000;
/// Largest `index.json` of an OCI image layout, in bytes. It lists what a directory holds, which nobody ever sends as a manifest.
pub const LAYOUT_INDEX_BYTES: u64 = 64 << 20;
/// Most entries of the `index.json` of an OCI image layout: each costs some hundred bytes of memory while the layout is open.
pub const LAYOUT_INDEX_ENTRIES: usize = 100_000;
/// How many indexes may stand in each other (index, then index, then manifest).
pub const INDEX_DEPTH: usize = 2;
/// Most bytes of annotations, keys and values together, of one manifest: the record of an entry holds them all, however
/// they are escaped. Therefore it may be lowered and not raised.
pub const ANNOTATION_BYTES: usize = 32 << 10;
/// Largest header of an answer, names and values of its fields together: signed locations and cookies stay far below it.
pub const HEADER_BYTES: u64 = 64 << 10;
/// The most [`HEADER_BYTES`] may be raised to: above it the buffers of HTTP/1.1 end.
pub const MOST_HEADER_BYTES: u64 = 256 << 10;
/// Most fields in the header of an answer.
pub const HEADER_FIELDS: usize = 100;
/// The most [`HEADER_FIELDS`] may be raised to: room for so many is made for each answer.
pub const MOST_HEADER_FIELDS: usize = 1_000;
/// Largest error body that is read; more is thrown away with the connection.
pub const ERROR_BODY_BYTES: u64 = 64 << 10;
/// Most characters of a peer's text shown to a person.
pub const SHOWN_CHARS: usize = 300;
/// Largest answer of a token server.
pub const TOKEN_BODY_BYTES: u64 = 64 << 10;
/// Largest single bearer token.
pub const TOKEN_BYTES: usize = 32 << 10;
/// Most redirects followed for one request.
pub const REDIRECTS: usize = 5;
/// Largest page of a list of tags or repositories: a thousand names of the longest kind are a quarter of a MiB.
pub const PAGE_BYTES: u64 = 16 << 20;
/// Most pages of one list: a server that always names another one is not followed for ever.
pub const PAGES: usize = 10_000;
/// Most manifests that belong to one artifact which is copied: more than anybody publishes for one, referrers included.
pub const COPY_MANIFESTS: usize = 10_000;
/// Most bytes of these manifests together: they are held in memory until all of them are known.
pub const COPY_MANIFEST_BYTES: u64 = 64 << 20;
/// Most referrers of one manifest.
pub const REFERRERS: usize = 10_000;
/// How many steps what refers to something may be away from the artifact: a signature of an SBOM of it is two.
pub const REFERRER_DEPTH: usize = 8;
/// Largest list of tags or repositories that is held as a whole: three quarters of a million tags of twenty characters.
pub const LIST_BYTES: u64 = 64 << 20;
/// Largest artifact taken without being asked to take more.
pub const ARTIFACT_BYTES: u64 = 2 << 30;
/// Largest `entry.json` or other record of the store.
pub const RECORD_BYTES: u64 = 256 << 10;
/// Largest sidecar document (component manifest, metadata) kept beside an artifact.
pub const SIDECAR_BYTES: u64 = 1 << 20;
/// Largest lock file, in bytes.
pub const LOCK_BYTES: usize = 16 << 20;
/// Most entries of a lock file.
pub const LOCK_ENTRIES: usize = 100_000;
/// Deepest nesting of a lock file; the format itself needs three levels.
pub const LOCK_DEPTH: usize = 64;
/// Most keys of a lock file, or of one of its entries, that mean nothing to this client.
pub const LOCK_EXTRA_KEYS: usize = 32;
/// Longest text of a lock file that this client reads, in bytes.
pub const LOCK_TEXT_BYTES: usize = 8 << 10;
/// Longest wait a `Retry-After` can impose before the request fails as rate limited instead.
pub const RETRY_AFTER: Duration = Duration::from_mins(1);
/// Attempts of one request, the first included.
pub const ATTEMPTS: u32 = 5;
/// Attempts of a body transfer in a row that bring not a byte forward.
pub const STUCK_RESUMES: u32 = 5;
/// Resumes of one body in all, however much each brought: a peer that drips a few bytes and hangs up cannot go on forever.
pub const RESUMES: u32 = 1_000;
