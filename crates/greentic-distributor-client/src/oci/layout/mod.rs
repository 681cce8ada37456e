//! OCI image layouts (image-spec, "image-layout"): `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`, in a directory
//! or in a tar archive.
//!
//! Reading trusts nothing: names are made from parsed digests only, links are refused, every byte is hashed, an archive is
//! never unpacked. Synchronous; `crate::blocking` is the door.

mod archive;
pub(super) mod beneath;
mod dir;
mod index;
mod read;
pub(super) mod tar;

pub(super) use archive::ArchiveWriter;
pub(super) use dir::DirWriter;
pub(super) use read::{BlobReader, Layout};

use greentic_dist_types::Digest;

/// The file that says what the directory is.
const LAYOUT_FILE: &str = "oci-layout";
/// The file that says what is in it.
const INDEX_FILE: &str = "index.json";
/// Where content is.
const BLOBS: &str = "blobs";
/// Content of [`LAYOUT_FILE`] as this client writes it.
const LAYOUT_JSON: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Largest [`LAYOUT_FILE`] read, in bytes.
const LAYOUT_FILE_BYTES: u64 = 4 << 10;

/// The name of a blob in an archive.
fn blob_name(digest: Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm(), digest.to_hex())
}
