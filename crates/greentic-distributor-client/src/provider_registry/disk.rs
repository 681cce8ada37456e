//! Files of the cache: read without following links out of it, replaced as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use crate::output_file::{Existing, OutputFile};
use crate::private_file::is_link;

/// Most names of a directory that are looked at when the leavings of killed writers are removed.
const SWEPT: usize = 4_096;

/// Reads a regular file of at most `cap` bytes; `None` when there is none. A symbolic link at the end of the path is not
/// followed, and nothing waits for the other end of a pipe.
///
/// # Errors
/// `InvalidData` for what is no regular file, is a link, or is larger; otherwise what the operating system says.
pub(super) fn read(path: &Path, cap: u64) -> io::Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    options.read(true);
    match careful(&mut options).open(path) {
        Ok(file) => read_file(file, cap).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if is_link(&error) => Err(wrong("it is a symbolic link")),
        Err(error) => Err(error),
    }
}

/// As [`read`] for a file that a person named: links are followed.
pub(super) fn read_named(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    }
    read_file(options.open(path)?, cap)
}

fn read_file(file: File, cap: u64) -> io::Result<Vec<u8>> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    let too_large = || wrong(&format!("it is larger than {cap} bytes"));
    if meta.len() > cap {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    // It may have grown since.
    let mut limited = file.take(cap.saturating_add(1));
    limited.read_to_end(&mut bytes)?;
    if limited.limit() == 0 { Err(too_large()) } else { Ok(bytes) }
}

/// Puts a file in place, synced. What was there makes way as a whole; a link makes way itself.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut output = OutputFile::create(path, Existing::Replace)?;
    output.set_mode(FILE_MODE)?;
    output.write_all(bytes)?;
    output.place()
}

/// Makes a file one that was written just now. That it cannot be is no failure.
pub(super) fn touch(path: &Path) {
    let mut options = OpenOptions::new();
    options.write(true);
    let touched = careful(&mut options).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "the time of a file could not be set");
    }
}

/// Creates a directory that others cannot write to, whatever the umask. What is there is used if [`is_usable_dir`] takes it.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => restrict_dir(dir)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    is_usable_dir(dir).map(drop)
}

/// Whether there is such a directory.
///
/// # Errors
/// `InvalidData` for a link, which leads elsewhere, for what is no directory, and for one that everybody may write to.
pub(super) fn is_usable_dir(dir: &Path) -> io::Result<bool> {
    let meta = match fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if meta.is_symlink() {
        return Err(wrong(&format!("{} is a symbolic link", dir.display())));
    }
    if !meta.is_dir() {
        return Err(wrong(&format!("{} is no directory", dir.display())));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if meta.mode() & 0o002 != 0 {
            return Err(wrong(&format!("everybody may write to {}", dir.display())));
        }
    }
    Ok(true)
}

/// Mode of files: for everybody to read, since a bundle is made by one user and run by another.
const FILE_MODE: u32 = 0o644;

/// Mode 0755, less what the umask took already.
fn restrict_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::symlink_metadata(dir)?.permissions().mode();
        fs::set_permissions(dir, fs::Permissions::from_mode(mode & 0o755))
    }
    #[cfg(not(unix))]
    {
        let _: &Path = dir;
        Ok(())
    }
}

/// Removes what killed writers left. Only for the holder of the write lock: others have no temporary file.
pub(super) fn sweep(dir: &Path) {
    let Ok(names) = fs::read_dir(dir) else { return };
    for entry in names.take(SWEPT).flatten() {
        let name = entry.file_name();
        let is_left = name.to_str().is_some_and(|name| name.starts_with('.'))
            && Path::new(&name).extension().is_some_and(|extension| extension == "tmp");
        if is_left && let Err(error) = fs::remove_file(entry.path()) {
            tracing::debug!(path = %entry.path().display(), %error, "a temporary file could not be removed");
        }
    }
}

/// Opens a lock file, created when missing and never truncated.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, FILE_MODE);
    match careful(&mut options).open(path) {
        Err(error) if is_link(&error) => Err(wrong("it is a symbolic link")),
        other => other,
    }
}

/// Follows no link at the end of the path, and waits for nobody.
fn careful(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options
}

fn wrong(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_of_a_sane_size_are_read_and_links_only_when_a_person_named_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "12345").unwrap();
        symlink(at("file"), at("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(read(&at("file"), 5).unwrap().unwrap(), b"12345");
        assert!(read(&at("nothing"), 5).unwrap().is_none());
        for (name, cap) in [("file", 4), ("link", 9), ("pipe", 9), (".", 9)] {
            assert_eq!(read(&at(name), cap).unwrap_err().kind(), io::ErrorKind::InvalidData, "{name}");
        }
        assert_eq!(read_named(&at("link"), 5).unwrap(), b"12345");
        for (name, cap) in [("link", 4), ("pipe", 9), (".", 9)] {
            assert_eq!(read_named(&at(name), cap).unwrap_err().kind(), io::ErrorKind::InvalidData, "{name}");
        }
        assert_eq!(read_named(&at("nothing"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        fs::write(at("elsewhere/file"), "theirs").unwrap();
        symlink(at("elsewhere"), at("sub")).unwrap();
        symlink(at("elsewhere/file"), at("file")).unwrap();
        symlink(at("elsewhere/file"), at("lock")).unwrap();
        assert!(create_dir(&at("sub")).is_err());
        assert!(open_lock(&at("lock")).is_err());
        write(&at("file"), b"ours").unwrap();
        assert!(!at("file").is_symlink());
        assert_eq!(fs::read_to_string(at("elsewhere/file")).unwrap(), "theirs");
    }

    #[test]
    fn what_killed_writers_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".index.json.0123456789abcdef.tmp", ".keep", "other.tmp", "index.json"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        sweep(dir.path());
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".keep", "index.json", "other.tmp"]);
    }
}
