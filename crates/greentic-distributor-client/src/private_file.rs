//! A small file that holds secrets: only this user reads it, it is replaced as a whole or not at all, and writers take turns.
//!
//! A write goes to a temporary file beside it, which is synced and renamed over it, under the lock of a sibling file. What was
//! there before is gone with the rename. A killed writer leaves the old content or the new, and perhaps its temporary file,
//! which the next writer removes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use greentic_dist_types::Secret;

/// Largest file that is read, in bytes: thousands of logins.
const FILE_BYTES: u64 = 1 << 20;
/// Longest wait for another writer. A write takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Pause between two looks at the lock.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// A file of secrets at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrivateFile {
    path: PathBuf,
}

/// What is in a [`PrivateFile`].
#[derive(Debug)]
pub(crate) struct Content {
    /// The text.
    pub(crate) text: Secret,
    /// Whether others could read it until now.
    pub(crate) was_open: bool,
}

/// Why a [`PrivateFile`] could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateFileError {
    /// What the operating system said.
    #[error("cannot {op} {}", path.display())]
    Io {
        op: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file or its directory is not one to keep secrets in.
    #[error("{} is not used: {reason}", path.display())]
    Refused { path: PathBuf, reason: &'static str },
    /// Somebody else is writing.
    #[error("another process has held the lock {} for {} s", path.display(), LOCK_WAIT.as_secs())]
    Busy { path: PathBuf },
}

trait At<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, PrivateFileError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, op: &'static str, path: &Path) -> Result<T, PrivateFileError> {
        self.map_err(|source| PrivateFileError::Io { op, path: path.to_owned(), source })
    }
}

impl PrivateFile {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it; `None` when there is no such file. Creates nothing; a file that others could read is closed to them.
    ///
    /// # Errors
    /// `Refused` for a symbolic link, anything but a regular file, a file of another user (but the superuser), one that is too
    /// large or no text; `Io`.
    pub(crate) fn read(&self) -> Result<Option<Content>, PrivateFileError> {
        const OP: &str = "read";
        let file = match careful().read(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_link(&error) => return Err(self.refused("it is a symbolic link")),
            Err(error) => return Err(error).at(OP, &self.path),
        };
        let was_open = self.require_ours(&file)?;
        let mut text = String::new();
        let mut limited = (&file).take(FILE_BYTES + 1);
        match limited.read_to_string(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(self.refused("it is no text")),
            Err(error) => return Err(error).at(OP, &self.path),
        }
        let text = Secret::new(text);
        if limited.limit() == 0 {
            return Err(self.refused("it is larger than 1 MiB"));
        }
        Ok(Some(Content { text, was_open }))
    }

    /// Replaces the content by what `change` makes of it, while no other writer does the same. `None` changes nothing.
    ///
    /// Directories that are missing are created, for this user alone. Returns whether something was written, and whether others
    /// could read the old file.
    ///
    /// # Errors
    /// Those of `change`, of [`PrivateFile::read`], and `Busy`. What was there is then there still.
    pub(crate) fn update<E: From<PrivateFileError>>(
        &self,
        change: impl FnOnce(Option<&Secret>) -> Result<Option<Secret>, E>,
    ) -> Result<Written, E> {
        let dir = self.dir();
        create_dirs(dir)?;
        let lock = self.lock()?;
        self.remove_left()?;
        let before = self.read()?;
        let was_open = before.as_ref().is_some_and(|content| content.was_open);
        let Some(after) = change(before.as_ref().map(|content| &content.text))? else {
            return Ok(Written { changed: false, was_open });
        };
        self.replace(&after)?;
        drop(lock);
        Ok(Written { changed: true, was_open })
    }

    /// Removes what a killed writer left, which may hold secrets, where there is nothing else to do. Creates nothing when
    /// there is nothing.
    ///
    /// # Errors
    /// As [`PrivateFile::update`].
    pub(crate) fn tidy(&self) -> Result<(), PrivateFileError> {
        if self.sibling(".tmp").symlink_metadata().is_err() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.remove_left()
    }

    /// Removes the temporary file of a writer that was killed: only the holder of the lock has one.
    fn remove_left(&self) -> Result<(), PrivateFileError> {
        let temp = self.sibling(".tmp");
        match fs::remove_file(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", &temp),
            _ => Ok(()),
        }
    }

    fn replace(&self, text: &Secret) -> Result<(), PrivateFileError> {
        const OP: &str = "write";
        let temp = self.sibling(".tmp");
        let written = || -> Result<(), PrivateFileError> {
            let mut file = careful().write(true).create_new(true).open(&temp).at(OP, &temp)?;
            restrict(&file).at(OP, &temp)?;
            file.write_all(text.expose().as_bytes()).at(OP, &temp)?;
            file.sync_all().at(OP, &temp)?;
            fs::rename(&temp, &self.path).at(OP, &self.path)
        };
        if let Err(error) = written() {
            // The error that counts is the first; what is left is removed by the next writer.
            drop(fs::remove_file(&temp));
            return Err(error);
        }
        sync_dir(self.dir()).at("sync the directory of", &self.path)
    }

    /// Waits for the lock of the writers. It is a file beside this one, which stays.
    fn lock(&self) -> Result<Option<File>, PrivateFileError> {
        const OP: &str = "lock";
        let path = self.sibling(".lock");
        let file = match careful().read(true).write(true).create(true).truncate(false).open(&path) {
            Ok(file) => file,
            Err(error) if is_link(&error) => {
                return Err(PrivateFileError::Refused { path, reason: "it is a symbolic link" });
            }
            Err(error) => return Err(error).at(OP, &path),
        };
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_LOOK),
                Err(TryLockError::WouldBlock) => return Err(PrivateFileError::Busy { path }),
                // A file system without locks: the rename still keeps every file whole.
                Err(TryLockError::Error(error)) if lacks_locks(&error) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error).at(OP, &path),
            }
        }
    }

    /// Refuses a file that is not this user's, and closes one that others could read. True when they could.
    fn require_ours(&self, file: &File) -> Result<bool, PrivateFileError> {
        let meta = file.metadata().at("look at", &self.path)?;
        if !meta.is_file() {
            return Err(self.refused("it is not a regular file"));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let us = rustix::process::geteuid().as_raw();
            if meta.uid() != us && meta.uid() != 0 {
                return Err(self.refused("it belongs to another user"));
            }
            if meta.mode() & 0o077 != 0 {
                if meta.uid() == us {
                    restrict(file).at("close to others", &self.path)?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn refused(&self, reason: &'static str) -> PrivateFileError {
        PrivateFileError::Refused { path: self.path.clone(), reason }
    }

    fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }

    /// `.NAME.SUFFIX` beside it.
    fn sibling(&self, suffix: &str) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(suffix);
        self.path.with_file_name(name)
    }
}

/// What came of [`PrivateFile::update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Whether something was written.
    pub(crate) changed: bool,
    /// Whether others could read the old file until now.
    pub(crate) was_open: bool,
}

/// Options that follow no symbolic link at the end of the path, wait for no other end of a pipe, and create for this user.
#[cfg(unix)]
fn careful() -> OpenOptions {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

/// The options there are where files have neither modes nor such flags.
#[cfg(not(unix))]
fn careful() -> OpenOptions {
    OpenOptions::new()
}

/// Mode 0600, whatever the umask.
fn restrict(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(fs::Permissions::from_mode(0o600))
    }
    #[cfg(not(unix))]
    {
        let _: &File = file;
        Ok(())
    }
}

/// Creates the directories that are missing, mode 0700, and refuses one in which anybody may replace files.
fn create_dirs(dir: &Path) -> Result<(), PrivateFileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).at("create", dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(dir).at("look at", dir)?;
        let us = rustix::process::geteuid().as_raw();
        let others_write = meta.mode() & 0o002 != 0 && meta.mode() & 0o1000 == 0;
        if others_write || (meta.uid() != us && meta.uid() != 0) {
            let reason = "it belongs to another user, or anybody may write to it";
            return Err(PrivateFileError::Refused { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}

/// Makes a rename in the directory last.
fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return File::open(dir)?.sync_all();
    #[cfg(not(unix))]
    {
        let _: &Path = dir;
        Ok(())
    }
}

/// Whether a file was not opened because its last component is a symbolic link.
pub(crate) fn is_link(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        let links = [rustix::io::Errno::LOOP, rustix::io::Errno::MLINK];
        error.raw_os_error().is_some_and(|code| links.iter().any(|errno| errno.raw_os_error() == code))
    }
    #[cfg(not(unix))]
    {
        let _: &io::Error = error;
        false
    }
}

pub(crate) fn lacks_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let lacking = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS];
        if error.raw_os_error().is_some_and(|code| lacking.iter().any(|errno| errno.raw_os_error() == code)) {
            return true;
        }
    }
    error.kind() == io::ErrorKind::Unsupported
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use tempfile::TempDir;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set(file: &PrivateFile, text: &str) -> Written {
        file.update::<PrivateFileError>(|_| Ok(Some(text.into()))).unwrap()
    }

    #[test]
    fn what_is_written_is_for_this_user_alone_and_replaced_as_a_whole() {
        let dir = TempDir::new().unwrap();
        let file = PrivateFile::new(dir.path().join("a/b/logins.json"));
        assert!(file.read().unwrap().is_none());
        assert!(!dir.path().join("a").exists(), "reading creates nothing");
        assert_eq!(set(&file, "one"), Written { changed: true, was_open: false });
        assert_eq!(
            (mode(file.path()), mode(&dir.path().join("a/b")), mode(&dir.path().join("a"))),
            (0o600, 0o700, 0o700)
        );
        let before = fs::metadata(file.path()).unwrap().ino();
        set(&file, "two");
        assert_ne!(fs::metadata(file.path()).unwrap().ino(), before);
        assert_eq!(file.read().unwrap().unwrap().text.expose(), "two");
        let unchanged = file.update::<PrivateFileError>(|before| {
            assert_eq!(before.unwrap().expose(), "two");
            Ok(None)
        });
        assert!(!unchanged.unwrap().changed);
        let mut names: Vec<_> =
            fs::read_dir(dir.path().join("a/b")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".logins.json.lock", "logins.json"]);
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them_and_that_is_told() {
        let dir = TempDir::new().unwrap();
        let file = PrivateFile::new(dir.path().join("logins.json"));
        fs::write(file.path(), "text").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.read().unwrap().unwrap().was_open);
        assert_eq!(mode(file.path()), 0o600);
        assert!(!file.read().unwrap().unwrap().was_open);
    }

    #[test]
    fn links_pipes_directories_large_files_and_open_directories_are_refused() {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("target"), "text").unwrap();
        symlink(at("target"), at("link")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("large"), "x".repeat((1 << 20) + 1)).unwrap();
        fs::write(at("binary"), [0xff, 0xfe]).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for name in ["link", "loop", "dangling", "dir", "large", "binary", "pipe"] {
            let file = PrivateFile::new(at(name));
            let error = file.read().unwrap_err();
            assert!(matches!(error, PrivateFileError::Refused { .. }), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
            let error = file.update::<PrivateFileError>(|_| Ok(Some("new".into()))).unwrap_err();
            assert!(matches!(error, PrivateFileError::Refused { .. }), "{name}: {error}");
        }
        assert_eq!(fs::read_to_string(at("target")).unwrap(), "text");
        fs::create_dir(at("open")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
        let file = PrivateFile::new(at("open/logins.json"));
        let error = file.update::<PrivateFileError>(|_| Ok(Some("new".into()))).unwrap_err();
        assert!(error.to_string().contains("anybody may write"), "{error}");
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_by_the_next() {
        let dir = TempDir::new().unwrap();
        let file = PrivateFile::new(dir.path().join("logins.json"));
        fs::write(dir.path().join(".logins.json.tmp"), "half a secr").unwrap();
        set(&file, "whole");
        assert!(!dir.path().join(".logins.json.tmp").exists());
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "whole");
        // Also by one who changes nothing, and by one who has nothing to change.
        for tidy in [true, false] {
            fs::write(dir.path().join(".logins.json.tmp"), "half a secr").unwrap();
            if tidy {
                file.tidy().unwrap();
            } else {
                file.update::<PrivateFileError>(|_| Ok(None)).unwrap();
            }
            assert!(!dir.path().join(".logins.json.tmp").exists());
        }
        let absent = PrivateFile::new(dir.path().join("absent/logins.json"));
        absent.tidy().unwrap();
        assert!(!dir.path().join("absent").exists());
    }

    #[test]
    fn writers_take_turns_and_lose_nothing() {
        let dir = TempDir::new().unwrap();
        let file = PrivateFile::new(dir.path().join("logins.json"));
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    for number in 0..5 {
                        file.update::<PrivateFileError>(|before| {
                            let before = before.map_or("", Secret::expose);
                            Ok(Some(format!("{before}{writer}.{number} ").into()))
                        })
                        .unwrap();
                    }
                });
            }
        });
        assert_eq!(file.read().unwrap().unwrap().text.expose().split_whitespace().count(), 40);
    }
}
