//! What goes of the copies by digest: those that nothing names, but for the last ones that were current.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use greentic_dist_types::Digest;

use super::layout::Layout;

/// Most copies that stay though nothing names them any more: somebody may have been handed their path, and opens it soon.
pub(super) const UNNAMED: usize = 16;
/// Most names of the directory that are looked at in one go. What is behind them goes with a later one.
const SCANNED: usize = 10_000;

/// Removes the copies in `dir` that are not `named`, but for the [`UNNAMED`] that were written or replaced last. Only for the holder
/// of the write lock: nobody else names a copy meanwhile. Whoever has one open reads on.
///
/// `named` is asked only when there is something to remove. Files whose names are no digests are left alone.
pub(super) fn prune(dir: &Path, named: impl FnOnce() -> BTreeSet<Digest>) {
    let Ok(names) = fs::read_dir(dir) else { return };
    let copies: Vec<(SystemTime, PathBuf, Digest)> = names
        .take(SCANNED)
        .flatten()
        .filter_map(|entry| {
            let digest = Layout::digest_of(entry.file_name().to_str()?)?;
            // Of a link that of the link itself.
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((meta.modified().ok()?, entry.path(), digest))
        })
        .collect();
    if copies.len() <= UNNAMED {
        return;
    }
    let named = named();
    let mut unnamed: Vec<_> = copies.into_iter().filter(|(_, _, digest)| !named.contains(digest)).collect();
    unnamed.sort_by_key(|(modified, _, digest)| Reverse((*modified, *digest)));
    for (_, path, _) in unnamed.into_iter().skip(UNNAMED) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "a copy that nothing names could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_registry::disk;
    use std::time::Duration;

    #[test]
    fn what_is_named_and_what_was_current_last_stays_and_nothing_else_of_ours() {
        let bundle = tempfile::tempdir().unwrap();
        let layout = Layout::of_bundle(bundle.path());
        let digest = |number: u64| Digest::sha256(&number.to_le_bytes());
        let dir = layout.by_digest(&digest(0)).parent().unwrap().to_owned();
        fs::create_dir_all(&dir).unwrap();
        let count = 5 + u64::try_from(UNNAMED).unwrap();
        for number in 0..count {
            let path = layout.by_digest(&digest(number));
            fs::write(&path, "[]").unwrap();
            let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + number);
            fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        }
        for foreign in ["notes.json", "sha256-abc.json", ".sha256-x.json.0123456789abcdef.tmp"] {
            fs::write(dir.join(foreign), "theirs").unwrap();
        }
        fs::create_dir(layout.by_digest(&digest(900))).unwrap();
        let left = |number| layout.by_digest(&digest(number)).exists();
        // The oldest is named, and the second oldest was replaced just now.
        disk::touch(&layout.by_digest(&digest(1)));
        prune(&dir, || BTreeSet::from([digest(0)]));
        let gone: Vec<u64> = (0..count).filter(|number| !left(*number)).collect();
        assert_eq!(gone, [2, 3, 4, 5]);
        for kept in ["notes.json", "sha256-abc.json", ".sha256-x.json.0123456789abcdef.tmp"] {
            assert!(dir.join(kept).exists(), "{kept}");
        }
        assert!(left(900));
        // Once more there is nothing to do.
        prune(&dir, || BTreeSet::from([digest(0)]));
        assert_eq!((0..count).filter(|number| !left(*number)).count(), gone.len());
        prune(&dir.join("nowhere"), BTreeSet::new);
    }
}
