//! Whether content may come and has room, by the sizes that manifests declare. Looked at before any of it is asked for: a
//! declared size that is a lie would otherwise be found out when the disk is full.

use std::collections::BTreeMap;
use std::path::Path;

use greentic_dist_store::check_room;
use greentic_dist_types::{Descriptor, Digest};

use super::graph::Graph;
use super::layout::DirWriter;
use crate::blocking;
use crate::dist::DistError;

/// Refuses one blob over the limit.
pub(super) fn check_size(reference: &str, size_bytes: u64, limit_bytes: u64) -> Result<(), DistError> {
    if size_bytes > limit_bytes {
        return Err(DistError::TooLarge { reference: reference.to_owned(), limit_bytes });
    }
    Ok(())
}

/// Refuses an artifact with a blob over the limit.
pub(super) fn check_sizes(graph: &Graph, reference: &str, limit_bytes: u64) -> Result<(), DistError> {
    graph.blobs().values().try_for_each(|blob| check_size(reference, blob.size_bytes, limit_bytes))
}

/// Refuses what a directory has no room for beside what it has of it.
pub(super) async fn check_dir(graph: &Graph, path: &Path) -> Result<(), DistError> {
    let (content, path) = (content(graph), path.to_owned());
    blocking::run(move || room(if path.is_dir() { &path } else { parent(&path) }, missing(&content, &path))).await
}

/// Refuses what has no room beside an archive that may be there: it stays until the new one is whole.
pub(super) async fn check_archive(graph: &Graph, path: &Path) -> Result<(), DistError> {
    let (content, path) = (content(graph), path.to_owned());
    let bytes = content.values().fold(0, |sum: u64, one| sum.saturating_add(one.size_bytes));
    blocking::run(move || room(parent(&path), bytes)).await
}

/// Refuses so many bytes more for a file or for what is to become it.
pub(super) fn check_file(path: &Path, missing: u64) -> Result<(), DistError> {
    room(parent(path), missing)
}

/// Everything a layout holds, each once.
fn content(graph: &Graph) -> BTreeMap<Digest, Descriptor> {
    let mut content = graph.blobs();
    content.extend(graph.nodes.iter().map(|node| (node.manifest.digest, node.manifest.descriptor())));
    content
}

/// Bytes that the directory at `path` does not have.
fn missing(content: &BTreeMap<Digest, Descriptor>, path: &Path) -> u64 {
    let missing = content.values().map(|one| one.size_bytes.saturating_sub(DirWriter::bytes_there(path, one)));
    missing.fold(0, u64::saturating_add)
}

fn room(dir: &Path, bytes: u64) -> Result<(), DistError> {
    check_room(dir, bytes).map_err(|error| DistError::from_store(&dir.display().to_string(), error))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_directory_has_whole_or_begun_needs_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let blob = |text: &str, size_bytes| Descriptor::new("text/plain", Digest::sha256(text.as_bytes()), size_bytes);
        let (whole, begun, long, new) =
            (blob("whole", 100), blob("begun", 100), blob("long", 10), blob("new", u64::MAX));
        let put = |folder: &str, name: String, size: usize| {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join(name), vec![0; size]).unwrap();
        };
        put("blobs/sha256", whole.digest.to_hex(), 100);
        put(".partial", format!("sha256-{}", begun.digest.to_hex()), 40);
        // One with holes says up to where it has none.
        let holes = blob("holes", 100);
        let name = dir.path().join(".partial").join(format!("sha256-{}", holes.digest.to_hex()));
        fs::write(name, [&[0; 100][..], format!("{:020}\n", 30).as_bytes()].concat()).unwrap();
        put("blobs/sha256", long.digest.to_hex(), 1_000);
        fs::create_dir(dir.path().join("blobs/sha256").join(new.digest.to_hex())).unwrap();
        let missing = |blobs: &[&Descriptor]| {
            missing(&blobs.iter().map(|blob| (blob.digest, (*blob).clone())).collect(), dir.path())
        };
        assert_eq!(missing(&[&whole, &begun, &long]), 60);
        assert_eq!(missing(&[&holes]), 70);
        assert_eq!(missing(&[&whole, &begun, &long, &new]), u64::MAX, "a sum that is too large is not a small one");
        let absent = super::missing(&[(whole.digest, whole.clone())].into(), &dir.path().join("absent"));
        assert_eq!(absent, 100);
    }
}
