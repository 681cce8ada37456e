//! An open directory and what is directly in it.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::time::Duration;
use std::time::SystemTime;

use crate::os::{Owners, known_regular, private, read_sized, require_ours, require_regular};
#[cfg(not(unix))]
use crate::os::{open_or_create, open_read};

/// An open directory, reached without following a symbolic link at the end of its path. Files are opened below it, so that
/// a directory swapped meanwhile changes nothing.
#[derive(Debug)]
pub(crate) struct Dir {
    path: PathBuf,
    #[cfg(unix)]
    fd: File,
}

impl Dir {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use rustix::fs::{CWD, Mode, OFlags, openat};
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(CWD, path, flags, Mode::empty())?;
            Ok(Self { path: path.to_owned(), fd: fd.into() })
        }
        #[cfg(not(unix))]
        {
            if !std::fs::symlink_metadata(path)?.is_dir() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a directory"));
            }
            Ok(Self { path: path.to_owned() })
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        #[cfg(unix)]
        return self.fd.metadata();
        #[cfg(not(unix))]
        std::fs::symlink_metadata(&self.path)
    }

    /// Opens a regular file for reading. `InvalidData` or an error for which [`is_odd_file`] holds when it is none.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        self.open_known(name).map(|(file, _)| file)
    }

    /// As [`Dir::open_file`], with what was looked at to find out that it is a regular file.
    fn open_known(&self, name: &str) -> io::Result<(File, Metadata)> {
        #[cfg(unix)]
        {
            use rustix::fs::{Mode, OFlags, openat};
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            known_regular(File::from(openat(&self.fd, name, flags, Mode::empty())?))
        }
        #[cfg(not(unix))]
        known_regular(open_read(&self.path.join(name))?)
    }

    /// Opens a regular file for writing from its start, creating it with mode 0600.
    ///
    /// One that is not ours is refused untouched.
    pub(crate) fn rewrite_file(&self, name: &str, owners: Owners) -> io::Result<File> {
        #[cfg(unix)]
        let file = {
            use rustix::fs::{Mode, OFlags, openat};
            let flags =
                OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            require_regular(File::from(openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))?))?
        };
        #[cfg(not(unix))]
        let file = open_or_create(&self.path.join(name))?;
        let file = require_ours(file, owners)?;
        file.set_len(0)?;
        private(file)
    }

    /// Reads a regular file of at most `limit` bytes; `None` when there is none.
    ///
    /// `InvalidData` when it is larger or no regular file.
    pub(crate) fn read_small(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.read_known(name, limit)?.map(|(bytes, _)| bytes))
    }

    /// As [`Dir::read_small`], with what was looked at before it was read.
    pub(crate) fn read_known(&self, name: &str, limit: u64) -> io::Result<Option<(Vec<u8>, Metadata)>> {
        match self.open_known(name) {
            Ok((file, meta)) => read_sized(file, meta.len(), limit).map(|bytes| Some((bytes, meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is at `name`, symbolic links not followed; `None` when nothing is.
    pub(crate) fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        #[cfg(unix)]
        {
            use rustix::fs::{AtFlags, FileType, statat};
            use rustix::io::Errno;
            match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(Some(Stat {
                    is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
                    size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
                })),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
        #[cfg(not(unix))]
        match std::fs::symlink_metadata(self.path.join(name)) {
            Ok(meta) => Ok(Some(Stat { is_file: meta.is_file(), size_bytes: meta.len() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Second names of files in the directory.
impl Dir {
    /// Whether `name` is a link as [`Dir::link`] makes it.
    pub(crate) fn is_link_to(&self, name: &str, target: &str) -> bool {
        #[cfg(unix)]
        {
            rustix::fs::readlinkat(&self.fd, name, Vec::new())
                .is_ok_and(|leads_to| leads_to.to_bytes() == target.as_bytes())
        }
        // A hard link cannot be told from another file of that name: it is made anew.
        #[cfg(not(unix))]
        {
            let _ = (name, target);
            false
        }
    }

    /// Makes the new name `name` for the file `target` of this directory: a relative symbolic link, which leaves the file
    /// itself as it is. Where users may not make those, a hard link.
    pub(crate) fn link(&self, target: &str, name: &str) -> io::Result<()> {
        #[cfg(unix)]
        return Ok(rustix::fs::symlinkat(target, &self.fd, name)?);
        #[cfg(not(unix))]
        std::fs::hard_link(self.path.join(target), self.path.join(name))
    }

    /// Renames a file of this directory, over another one where there is one.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        #[cfg(unix)]
        return Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?);
        #[cfg(not(unix))]
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    /// Removes a name that was just made; what stays goes with the directory.
    pub(crate) fn unlink(&self, name: &str) {
        #[cfg(unix)]
        let removed = rustix::fs::unlinkat(&self.fd, name, rustix::fs::AtFlags::empty()).map_err(io::Error::from);
        #[cfg(not(unix))]
        let removed = std::fs::remove_file(self.path.join(name));
        crate::temp::discard(removed, &self.path.join(name));
    }
}

impl Dir {
    /// When what is at `name` was modified and accessed, symbolic links not followed; `None` when nothing is.
    pub(crate) fn times(&self, name: &str) -> io::Result<Option<(SystemTime, SystemTime)>> {
        #[cfg(unix)]
        {
            use rustix::fs::{AtFlags, statat};
            use rustix::io::Errno;
            let at = |secs: i64, nanos| {
                let since =
                    Duration::new(u64::try_from(secs).unwrap_or_default(), u32::try_from(nanos).unwrap_or_default());
                SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
            };
            match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Ok(Some((at(stat.st_mtime, stat.st_mtime_nsec), at(stat.st_atime, stat.st_atime_nsec)))),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
        #[cfg(not(unix))]
        match std::fs::symlink_metadata(self.path.join(name)) {
            Ok(meta) => Ok(Some((meta.modified()?, meta.accessed()?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What [`Dir::stat`] tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) is_file: bool,
    pub(crate) size_bytes: u64,
}
