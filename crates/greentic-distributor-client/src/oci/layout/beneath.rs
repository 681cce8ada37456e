//! Files of a layout, opened so that no name below its directory is ever followed elsewhere.
//!
//! Only the directory a person named may be a link. Below it, every step is opened by itself and refuses links, and every
//! name is one of this client's own: a fixed word or the hex of a digest.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// An open directory.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    #[cfg(unix)]
    fd: rustix::fd::OwnedFd,
}

/// What is found in place of a file or directory of a layout: a link, a pipe, a socket, a device.
pub(super) fn odd() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a regular file or directory")
}

/// Whether an error says that something else than a regular file or a directory has the name.
pub(in crate::oci) fn is_odd(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let odd = [Errno::LOOP, Errno::NOTDIR, Errno::NXIO, Errno::NODEV, Errno::ISDIR, Errno::MLINK];
        if error.raw_os_error().is_some_and(|code| odd.iter().any(|errno| errno.raw_os_error() == code)) {
            return true;
        }
    }
    error.kind() == io::ErrorKind::InvalidData
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(odd()) }
}

#[cfg(unix)]
mod system {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};

    use super::{File, Folder, Path, io, odd, regular};

    const BESIDE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

    impl Folder {
        /// Opens the directory a person named; a link leads to where it leads.
        pub(in crate::oci::layout) fn open(path: &Path) -> io::Result<Self> {
            let fd = openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            Ok(Self { path: path.to_owned(), fd })
        }

        /// Opens a directory in this one.
        pub(in crate::oci::layout) fn folder(&self, name: &str) -> io::Result<Self> {
            let fd = openat(&self.fd, name, OFlags::DIRECTORY | BESIDE, Mode::empty())?;
            Ok(Self { path: self.path.join(name), fd })
        }

        /// Creates a directory in this one. That it is there already is no error.
        pub(in crate::oci::layout) fn create_folder(&self, name: &str) -> io::Result<()> {
            match mkdirat(&self.fd, name, Mode::from_bits_truncate(0o777)) {
                Err(error) if error != rustix::io::Errno::EXIST => Err(error.into()),
                _ => Ok(()),
            }
        }

        /// Opens a regular file in this directory for reading.
        pub(in crate::oci::layout) fn file(&self, name: &str) -> io::Result<File> {
            regular(openat(&self.fd, name, OFlags::RDONLY | BESIDE, Mode::empty())?.into())
        }

        /// Opens a regular file in this directory for reading and writing. One with several names is refused: what is
        /// written would show under the others.
        pub(in crate::oci::layout) fn file_to_write(&self, name: &str) -> io::Result<File> {
            use std::os::unix::fs::MetadataExt as _;
            let file = regular(openat(&self.fd, name, OFlags::RDWR | BESIDE, Mode::empty())?.into())?;
            if file.metadata()?.nlink() > 1 { Err(odd()) } else { Ok(file) }
        }

        /// Creates a file in this directory, where nothing may be.
        pub(in crate::oci::layout) fn create_file(&self, name: &str) -> io::Result<File> {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | BESIDE;
            Ok(openat(&self.fd, name, flags, Mode::from_bits_truncate(0o666))?.into())
        }

        /// Gives a file of this directory a name in another, in one step.
        pub(in crate::oci::layout) fn rename(&self, from: &str, into: &Self, to: &str) -> io::Result<()> {
            Ok(renameat(&self.fd, from, &into.fd, to)?)
        }

        /// Whether a name of this directory still means an open file.
        pub(in crate::oci::layout) fn is_still(&self, name: &str, file: &File) -> io::Result<bool> {
            use std::os::unix::fs::MetadataExt as _;
            let open = file.metadata()?;
            match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) => Ok((named.st_dev, named.st_ino) == (open.dev(), open.ino())),
                Err(rustix::io::Errno::NOENT) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }

        /// Removes a file of this directory.
        pub(in crate::oci::layout) fn remove(&self, name: &str) -> io::Result<()> {
            Ok(unlinkat(&self.fd, name, AtFlags::empty())?)
        }

        /// Removes a directory of this one, when it is empty.
        pub(in crate::oci::layout) fn remove_folder(&self, name: &str) -> io::Result<()> {
            Ok(unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
        }

        /// Makes the names of this directory survive a power cut.
        pub(in crate::oci::layout) fn sync(&self) -> io::Result<()> {
            Ok(fsync(&self.fd)?)
        }
    }
}

#[cfg(not(unix))]
mod system {
    use super::{File, Folder, Path, io, odd, regular};

    impl Folder {
        /// Opens the directory a person named; a link leads to where it leads.
        pub(in crate::oci::layout) fn open(path: &Path) -> io::Result<Self> {
            if std::fs::metadata(path)?.is_dir() { Ok(Self { path: path.to_owned() }) } else { Err(odd()) }
        }

        /// Opens a directory in this one.
        pub(in crate::oci::layout) fn folder(&self, name: &str) -> io::Result<Self> {
            let path = self.path.join(name);
            if std::fs::symlink_metadata(&path)?.is_dir() { Ok(Self { path }) } else { Err(odd()) }
        }

        /// Creates a directory in this one. That it is there already is no error.
        pub(in crate::oci::layout) fn create_folder(&self, name: &str) -> io::Result<()> {
            match std::fs::create_dir(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        }

        /// Opens a regular file in this directory for reading.
        pub(in crate::oci::layout) fn file(&self, name: &str) -> io::Result<File> {
            self.checked(name)?;
            regular(File::open(self.path.join(name))?)
        }

        /// Opens a regular file in this directory for reading and writing.
        pub(in crate::oci::layout) fn file_to_write(&self, name: &str) -> io::Result<File> {
            self.checked(name)?;
            regular(File::options().read(true).write(true).open(self.path.join(name))?)
        }

        /// Creates a file in this directory, where nothing may be.
        pub(in crate::oci::layout) fn create_file(&self, name: &str) -> io::Result<File> {
            File::options().read(true).write(true).create_new(true).open(self.path.join(name))
        }

        /// Gives a file of this directory a name in another, in one step.
        pub(in crate::oci::layout) fn rename(&self, from: &str, into: &Self, to: &str) -> io::Result<()> {
            std::fs::rename(self.path.join(from), into.path.join(to))
        }

        /// A file that is open cannot be renamed here.
        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "elsewhere this asks")]
        pub(in crate::oci::layout) fn is_still(&self, _name: &str, _file: &File) -> io::Result<bool> {
            Ok(true)
        }

        /// Removes a file of this directory.
        pub(in crate::oci::layout) fn remove(&self, name: &str) -> io::Result<()> {
            std::fs::remove_file(self.path.join(name))
        }

        /// Removes a directory of this one, when it is empty.
        pub(in crate::oci::layout) fn remove_folder(&self, name: &str) -> io::Result<()> {
            std::fs::remove_dir(self.path.join(name))
        }

        /// Directories cannot be synced here.
        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "elsewhere this does something")]
        pub(in crate::oci::layout) fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn checked(&self, name: &str) -> io::Result<()> {
            if std::fs::symlink_metadata(self.path.join(name))?.is_file() { Ok(()) } else { Err(odd()) }
        }
    }
}

impl Folder {
    /// Gives a file of this directory another name in it that nothing has; else it fails with [`io::ErrorKind::AlreadyExists`].
    pub(super) fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
                done => return Ok(done?),
            }
        }
        // Where the file system cannot do it in one step.
        match std::fs::symlink_metadata(self.path.join(to)) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.rename(from, self, to),
            Err(error) => Err(error),
        }
    }

    /// The path it was opened by, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
