//! OCI image layouts (image-spec, "image-layout"): `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`, in a directory
//! or in a tar archive.
//!
//! Reading trusts nothing: names are made from parsed digests only, links are refused, every byte is hashed, an archive is
//! never unpacked. Synchronous; `crate::blocking` is the door.

mod archive;
pub(super) mod beneath;
mod dir;
mod index;
mod partial;
mod read;
mod stale;
pub(super) mod tar;

pub(super) use archive::ArchiveWriter;
pub(super) use dir::DirWriter;
pub(super) use partial::Partial;
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

/// The members of an archive in memory.
#[cfg(feature = "fuzzing")]
pub(crate) fn members_of(archive: &[u8]) -> Option<Vec<(String, u64, u64)>> {
    let members = tar::index(&mut std::io::Cursor::new(archive), |_| true).ok()?;
    Some(members.into_iter().map(|(name, member)| (name, member.offset, member.size_bytes)).collect())
}

/// What an index is after a manifest was added to it.
#[cfg(feature = "fuzzing")]
pub(crate) fn index_after(document: &[u8], added: Digest, name: &str) -> Result<crate::fuzzing::IndexAfter, String> {
    use greentic_dist_types::{Descriptor, media_type};

    let path = std::path::Path::new("layout");
    let mut index = index::IndexDocument::parse(path, document).map_err(|error| error.to_string())?;
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, added, 2);
    index.add(&[crate::oci::graph::Named { descriptor, name: Some(name.to_owned()) }]);
    let only = index.only(path, |_| false).map(|entry| entry.digest).map_err(|error| error.to_string());
    let named = index.named(name).map(|entry| entry.digest);
    Ok(crate::fuzzing::IndexAfter { document: index.to_bytes(), named, only })
}
