//! What transfers that nobody went on with left in a layout, or beside one.

use std::ffi::OsString;
use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greentic_dist_store::Clock;
use greentic_dist_types::Digest;

use super::beneath::{Folder, odd};

/// How long a partial blob waits for somebody to go on with it: as long as in the cache.
const AGE: Duration = Duration::from_hours(7 * 24);
/// Most names that are looked at; what is behind them waits for the next time.
const NAMES: usize = 10_000;
/// What the name of an archive ends with while it is written.
const ARCHIVE: &str = ".oci-archive.tmp";
/// How long a file may be without the lock of whoever made it.
const UNLOCKED: Duration = Duration::from_mins(1);
/// How often another name is tried.
const TRIES: usize = 16;

/// Removes partial blobs that nobody works on and that are older than 7 days. What has another name stays, and so does what
/// cannot be removed: it is in nobody's way.
pub(super) fn sweep(folder: &Folder, clock: &Clock) {
    let Ok(entries) = std::fs::read_dir(folder.path()) else { return };
    for entry in entries.take(NAMES).flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_partial(name)) else { continue };
        let Ok(file) = folder.file_to_write(name) else { continue };
        let is_old = file.metadata().and_then(|meta| meta.modified()).is_ok_and(|then| clock.age(then) > AGE);
        // Whoever opened it meanwhile looks whether it still has its name, once they have its lock.
        if is_old && file.try_lock().is_ok() && folder.is_still(name, &file).is_ok_and(|still| still) {
            tracing::debug!(path = %folder.path().display(), name, "a partial blob that nobody went on with is removed");
            drop(folder.remove(name));
        }
    }
}

/// Opens a new file for an archive that is to be at `path`, `.<name>.<16 hex>.oci-archive.tmp` beside it, and holds its lock: who
/// finds it free knows that nobody writes it any more.
pub(super) fn create_archive(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or_else(odd)?;
    fresh(|unique| {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{unique}{ARCHIVE}"));
        let temporary = path.with_file_name(hidden);
        let file = File::options().write(true).create_new(true).open(&temporary)?;
        match file.try_lock() {
            // Somebody took it for what was left: it is theirs.
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::AlreadyExists.into()),
            // Where there are no locks, nobody takes it for that either.
            Ok(()) | Err(TryLockError::Error(_)) => Ok((temporary, file)),
        }
    })
}

/// Removes what killed processes left of an archive at `path`: files with a name that [`create_archive`] gives, of this user, without
/// another name, that nobody holds. One of the last minute may not have its lock yet.
pub(super) fn sweep_archives(path: &Path, clock: &Clock) {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let (Ok(folder), Ok(entries)) = (Folder::open(dir), std::fs::read_dir(dir)) else { return };
    for entry in entries.take(NAMES).flatten() {
        let left = entry.file_name();
        let Some(left) = left.to_str().filter(|left| is_archive_of(left, name)) else { continue };
        let Ok(file) = folder.file_to_write(left) else { continue };
        let Ok(meta) = file.metadata() else { continue };
        let is_old = meta.modified().is_ok_and(|then| clock.age(then) > UNLOCKED);
        if is_own(&meta) && is_old && file.try_lock().is_ok() && folder.is_still(left, &file).is_ok_and(|still| still) {
            tracing::debug!(path = %dir.display(), name = left, "an archive that was not finished is removed");
            drop(folder.remove(left));
        }
    }
}

/// Whether it is `.<name>.<16 hex>.oci-archive.tmp`.
fn is_archive_of(left: &str, name: &str) -> bool {
    let unique =
        left.strip_prefix('.').and_then(|left| left.strip_prefix(name)).and_then(|left| left.strip_prefix('.'));
    unique.and_then(|unique| unique.strip_suffix(ARCHIVE)).is_some_and(is_unique)
}

/// Whether it is what [`fresh`] makes up.
pub(super) fn is_unique(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Creates something under a name with a part that nobody else has: 16 random hex digits, and others where it is taken. A number of
/// this process would be that of a killed one in the next container.
pub(super) fn fresh<T>(mut create: impl FnMut(&str) -> io::Result<T>) -> io::Result<T> {
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..TRIES {
        match create(&format!("{:016x}", fastrand::u64(..))) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            done => return done,
        }
    }
    Err(last)
}

#[cfg(unix)]
fn is_own(meta: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    meta.uid() == rustix::process::geteuid().as_raw()
}

/// Nobody can be asked here.
#[cfg(not(unix))]
fn is_own(_meta: &Metadata) -> bool {
    true
}

/// `<algorithm>-<hex>`, or that and the suffix of one writer.
fn is_partial(name: &str) -> bool {
    let digest = name.split('.').next().and_then(|name| name.split_once('-'));
    digest.is_some_and(|(algorithm, hex)| format!("{algorithm}:{hex}").parse::<Digest>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_given_up_for_another_one_and_not_for_ever() {
        let mut names = Vec::new();
        let taken = |names: &[String]| if names.len() < 3 { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) };
        fresh(|unique| {
            names.push(unique.to_owned());
            taken(&names)
        })
        .unwrap();
        assert!(names.len() == 3 && names.iter().all(|name| is_unique(name)), "{names:?}");
        assert!(names[0] != names[1] && names[1] != names[2]);
        let mut count = 0;
        let all_taken: io::Result<()> = fresh(|_| {
            count += 1;
            Err(io::ErrorKind::AlreadyExists.into())
        });
        assert_eq!((all_taken.unwrap_err().kind(), count), (io::ErrorKind::AlreadyExists, TRIES));
        let mut count = 0;
        let refused: io::Result<()> = fresh(|_| {
            count += 1;
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert_eq!((refused.unwrap_err().kind(), count), (io::ErrorKind::PermissionDenied, 1));
    }

    #[test]
    fn an_archive_that_is_written_is_hidden_held_and_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        let (temporary, file) = create_archive(&path).unwrap();
        let name = temporary.file_name().unwrap().to_str().unwrap();
        assert!(is_archive_of(name, "out.tar") && !is_archive_of(name, "out"), "{name}");
        file.set_modified(std::time::SystemTime::now() - Duration::from_hours(1)).unwrap();
        sweep_archives(&path, &Clock::system());
        assert!(temporary.exists());
        drop(file);
        sweep_archives(&path, &Clock::system());
        assert!(!temporary.exists());
    }
}
