//! Files that a person names: opened without waiting for anybody, and only when they are files.

use std::fs::File;
use std::io;
use std::path::Path;

use greentic_dist_types::redact_reference;

/// Opens a regular file for reading; a link leads to where it leads.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a directory, a pipe, a socket and a device, none of which is waited for; otherwise those
/// of the system.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let odd = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    // Looked at first, since opening a device may do something; and again, since the name may mean another file by then.
    if !std::fs::metadata(path)?.is_file() {
        return Err(odd());
    }
    let file = open_at_once(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(odd()) }
}

/// A path as errors repeat it: as it is, unless it is a URL or a `user:password@host/name` that somebody wrote where a file
/// belongs.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let has_login = text.split_once('@').is_some_and(|(login, _)| login.contains(':') && !login.contains('/'));
    if has_login || text.contains("://") { redact_reference(&text) } else { text }
}

#[cfg(unix)]
fn open_at_once(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> io::Result<File> {
    File::open(path)
}
