//! Opens a file below a directory and nothing outside of it, whatever is exchanged meanwhile.
//!
//! Links are resolved first, then the place they lead to is opened name by name without following a link: a name that became one
//! in between ends the attempt. `greentic-distributor-dev` has the same few lines, because no crate both may use touches files.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

/// Attempts to open what is exchanged while it is opened.
const ATTEMPTS: usize = 3;

/// Why a file was not opened.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is none.
    Missing,
    /// Links lead out of the directory.
    Outside,
    /// Something else is there; with what it is.
    NotAFile(&'static str),
    /// The system does not let it be opened.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Io(error),
        }
    }
}

/// Opens the regular file that `place` leads to, when it is below `root`, which holds no link itself.
pub(super) fn open(root: &Path, place: &Path) -> Result<(File, Metadata), Refused> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let real = fs::canonicalize(place)?;
        let Ok(below) = real.strip_prefix(root) else { return Err(Refused::Outside) };
        match open_unlinked(root, below) {
            Ok(file) => {
                let meta = file.metadata()?;
                return if meta.is_file() { Ok((file, meta)) } else { Err(Refused::NotAFile("no regular file")) };
            }
            // It was there a moment ago.
            Err(Refused::Missing | Refused::Io(_)) if attempts < ATTEMPTS => {}
            Err(refused) => return Err(refused),
        }
    }
}

/// Opens a regular file below `root` whose path holds no link.
#[cfg(unix)]
fn open_unlinked(root: &Path, below: &Path) -> Result<File, Refused> {
    use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

    // A directory on the way need not be readable.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const LOOK: OFlags = OFlags::PATH;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const LOOK: OFlags = OFlags::RDONLY;
    let system = |error: rustix::io::Errno| Refused::from(io::Error::from(error));
    let Some(name) = below.file_name() else { return Err(Refused::NotAFile("a directory")) };
    let on_the_way = LOOK | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(root, on_the_way, Mode::empty()).map_err(system)?;
    for part in below.parent().into_iter().flat_map(Path::components) {
        dir = openat(&dir, part.as_os_str(), on_the_way, Mode::empty()).map_err(system)?;
    }
    let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(system)?;
    match FileType::from_raw_mode(found.st_mode) {
        // A link here came after the links were resolved, and is refused by the flag below.
        FileType::RegularFile | FileType::Symlink => {}
        FileType::Directory => return Err(Refused::NotAFile("a directory")),
        _ => return Err(Refused::NotAFile("no regular file")),
    }
    // A pipe that came in its place would block whoever opens it.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(openat(&dir, name, flags, Mode::empty()).map_err(system)?))
}

/// Opens a regular file below `root`. This system opens by path alone.
#[cfg(not(unix))]
fn open_unlinked(root: &Path, below: &Path) -> Result<File, Refused> {
    let place = root.join(below);
    match place.symlink_metadata()? {
        meta if meta.is_dir() => Err(Refused::NotAFile("a directory")),
        meta if !meta.is_file() => Err(Refused::NotAFile("no regular file")),
        _ => Ok(File::open(place)?),
    }
}
