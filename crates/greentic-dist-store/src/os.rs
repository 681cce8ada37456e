//! System calls that std has no name for, safe ones only, and what to do where a system lacks them.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

pub(crate) use crate::dir::{Dir, Stat};

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Other,
}

impl Kind {
    pub(crate) fn of(file_type: FileType) -> Self {
        if file_type.is_file() {
            Self::File
        } else if file_type.is_dir() {
            Self::Dir
        } else {
            Self::Other
        }
    }
}

/// What tells one state of a file from another: which file it is, how long, and when its bytes and its inode changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i128,
    pub(crate) ctime_ns: i128,
}

impl FileState {
    #[cfg(unix)]
    pub(crate) fn of(meta: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime_ns: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: nanos(meta.ctime(), meta.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn of(meta: &Metadata) -> Self {
        let mtime_ns = meta
            .modified()
            .ok()
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .and_then(|since| i128::try_from(since.as_nanos()).ok())
            .unwrap_or_default();
        Self { dev: 0, ino: 0, size: meta.len(), mtime_ns, ctime_ns: mtime_ns }
    }

    /// Whether both are the same file, whatever happened to it.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Whether a change from now on is sure to show as another `ctime`: time stamps are as coarse as the kernel's tick
    /// (10 ms at most), on some file systems as two seconds.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let now_ns = i128::try_from(now.as_nanos()).unwrap_or_default();
        let grain_ns = if self.ctime_ns % 1_000_000_000 == 0 { 2_000_000_000 } else { 20_000_000 };
        now_ns - self.ctime_ns > grain_ns
    }
}

/// How many names a file has; 1 where the system does not say.
pub(crate) fn link_count(meta: &Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(meta);
    #[cfg(not(unix))]
    {
        let _: &Metadata = meta;
        1
    }
}

/// What an error says about a file that is not a plain one: opened through a symbolic link, a socket, no file at all.
pub(crate) fn is_odd_file(error: &io::Error) -> bool {
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

/// Whether an error of a lock says that the file system has no locks.
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

pub(crate) fn require_regular(file: File) -> io::Result<File> {
    known_regular(file).map(|(file, _)| file)
}

/// As [`require_regular`], with what it looked at.
pub(crate) fn known_regular(file: File) -> io::Result<(File, Metadata)> {
    let meta = file.metadata()?;
    if meta.is_file() {
        Ok((file, meta))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
    }
}

/// Options that never follow a symbolic link at the end of the path and never wait for the other end of a pipe.
#[cfg(unix)]
fn careful(mode: u32) -> OpenOptions {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.mode(mode).custom_flags(flags.bits().cast_signed());
    options
}

/// Where there are no such options.
#[cfg(not(unix))]
fn careful(_mode: u32) -> OpenOptions {
    OpenOptions::new()
}

/// Mode 0600, whatever the umask.
pub(crate) fn private(file: File) -> io::Result<File> {
    set_mode(&file, 0o600)?;
    Ok(file)
}

/// Whose files may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Those of this user.
    Us,
    /// Those of anybody, in a root that is shared.
    Anybody,
}

/// Whether a file is one that may be written to: it has no other name, under which the writing would show, and it belongs
/// to whom it may.
pub(crate) fn is_ours(meta: &Metadata, owners: Owners) -> bool {
    #[cfg(unix)]
    let owned = owners == Owners::Anybody || {
        let owner = ownership(meta);
        owner.uid == owner.our_uid
    };
    #[cfg(not(unix))]
    let owned = matches!(owners, Owners::Us | Owners::Anybody);
    owned && meta.is_file() && link_count(meta) <= 1
}

/// Refuses a file that must not be written to, before anything of it is changed.
pub(crate) fn require_ours(file: File, owners: Owners) -> io::Result<File> {
    if is_ours(&file.metadata()?, owners) {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it has other names or another owner"))
    }
}

/// Opens a regular file for reading and writing, creating it empty. Of one that was there nothing is changed, its mode
/// included; whether it is ours is for the caller to find out.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    require_regular(careful(0o600).read(true).write(true).create(true).truncate(false).open(path)?)
}

/// Opens a regular file of ours for appending, creating it empty with mode 0600.
pub(crate) fn open_append(path: &Path, owners: Owners) -> io::Result<File> {
    let file = require_regular(careful(0o600).read(true).append(true).create(true).open(path)?)?;
    private(require_ours(file, owners)?)
}

/// Opens an existing regular file for reading and writing; whether it is ours is for the caller to find out.
pub(crate) fn open_to_change(path: &Path) -> io::Result<File> {
    require_regular(careful(0o600).read(true).write(true).open(path)?)
}

/// Opens an existing regular file for reading.
pub(crate) fn open_read(path: &Path) -> io::Result<File> {
    require_regular(careful(0o600).read(true).open(path)?)
}

/// Creates a file that must not exist, mode 0600 whatever the umask.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    private(careful(0o600).read(true).write(true).create_new(true).open(path)?)
}

/// Opens a directory, for its lock. Not possible everywhere.
pub(crate) fn open_dir(path: &Path) -> io::Result<File> {
    careful(0).read(true).open(path)
}

/// Creates one directory, mode 0700 whatever the umask.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().mode(0o700).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    std::fs::create_dir(path)
}

/// Sets the permission bits of an open file.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if file.metadata()?.permissions().mode() & 0o7777 == mode {
            return Ok(());
        }
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }
    #[cfg(not(unix))]
    {
        let _: (&File, u32) = (file, mode);
        Ok(())
    }
}

/// Sets the times of last access and modification, without opening or rewriting the file where the system can do that.
pub(crate) fn set_times(path: &Path, accessed: SystemTime, modified: SystemTime) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
        let timespec = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            Timespec {
                tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            }
        };
        let times = Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) };
        Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
    #[cfg(not(unix))]
    {
        let times = std::fs::FileTimes::new().set_accessed(accessed).set_modified(modified);
        File::options().write(true).open(path)?.set_times(times)
    }
}

/// Whether every change of a file shows in its change time, however soon it follows the last look at it, as on the
/// multigrain time stamps of newer kernels. Found out by changing the change time of `file`, which has mode `mode`.
pub(crate) fn has_fine_times(file: &File, mode: u32) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mut last = FileState::of(&file.metadata()?);
        // A tick of a coarse clock may fall between two changes that are a microsecond apart, but not between four.
        for _ in 0..4 {
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            let next = FileState::of(&file.metadata()?);
            if next.ctime_ns == last.ctime_ns {
                return Ok(false);
            }
            last = next;
        }
        Ok(true)
    }
    #[cfg(not(unix))]
    {
        let _: (&File, u32) = (file, mode);
        Ok(false)
    }
}

/// Who may own a directory, and whether others may write to it.
#[cfg(unix)]
pub(crate) fn ownership(meta: &Metadata) -> Ownership {
    use std::os::unix::fs::MetadataExt;
    Ownership { uid: meta.uid(), our_uid: rustix::process::geteuid().as_raw(), mode: meta.mode() & 0o7777 }
}

/// The owner of a directory.
#[cfg(unix)]
pub(crate) struct Ownership {
    pub(crate) uid: u32,
    pub(crate) our_uid: u32,
    pub(crate) mode: u32,
}

/// Free space for this process on the file system of `path`, in bytes; `None` where it cannot be told.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(path).ok()?;
        let blocks = if rustix::process::geteuid().is_root() { stat.f_bfree } else { stat.f_bavail };
        (stat.f_blocks > 0).then(|| blocks.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _: &Path = path;
        None
    }
}

/// Asks the kernel to begin writing a range of a file to the disk, without waiting for it. A hint.
///
/// `POSIX_FADV_DONTNEED` begins the write-back of the dirty pages of its range; those that are being written stay cached.
pub(crate) fn begin_writeback(file: &File, from: u64, len: u64) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let _refused = rustix::fs::fadvise(file, from, Some(len), rustix::fs::Advice::DontNeed).is_err();
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _: (&File, u64, u64) = (file, from, len);
}

/// Swaps two names in one step. `Ok(false)` where the system cannot.
pub(crate) fn exchange(from: &Path, to: &Path) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _: (&Path, &Path) = (from, to);
        Ok(false)
    }
}

/// Gives the file that is open as `file` (and was opened from `path`) a second name.
pub(crate) fn link_open_file(file: &File, path: &Path, name: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, linkat};
        use std::os::fd::AsRawFd;
        let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        if linkat(CWD, &by_descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW).is_ok() {
            return Ok(());
        }
    }
    std::fs::hard_link(path, name)?;
    let linked = FileState::of(&std::fs::symlink_metadata(name)?);
    if linked.same_file(&FileState::of(&file.metadata()?)) {
        return Ok(());
    }
    std::fs::remove_file(name)?;
    Err(io::Error::other("the file was replaced while it was linked"))
}

/// Makes `to` share the blocks of `from`; fails where the file system cannot.
pub(crate) fn reflink(from: &File, to: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::ioctl_ficlone(to, from)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _: (&File, &File) = (from, to);
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// The id of this boot of the machine; `None` where the system has none.
pub(crate) fn boot_id() -> Option<&'static str> {
    static ID: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let text = text.trim();
        (text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then(|| text.to_owned())
    })
    .as_deref()
}

/// Reads to the end, refusing the first byte beyond `limit`.
pub(crate) fn read_at_most(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    read_sized(file, size, limit)
}

/// Reads a regular file to its end, refusing the first byte beyond `limit`. One of `size` bytes is read by one call.
pub(crate) fn read_sized(mut file: File, size: u64, limit: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    // One byte more than there is, so that the end shows in the same room.
    let mut bytes = vec![0; size.min(most).saturating_add(1)];
    let mut filled = 0;
    loop {
        let room = bytes.get_mut(filled..).unwrap_or_default();
        let count = match file.read(room) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // A regular file that gave less than there was room for has no more, unless it ends before its size.
        let is_end = count == 0 || (count < room.len() && filled + count >= size);
        filled += count;
        if filled > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than it may be"));
        }
        if is_end {
            bytes.truncate(filled);
            return Ok(bytes);
        }
        if filled == bytes.len() {
            // It grew.
            bytes.resize(filled.saturating_mul(2).min(most.saturating_add(1)), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_change_is_only_trusted_to_show_after_the_grain_of_the_clock() {
        let at = |ctime_ns| FileState { dev: 1, ino: 1, size: 1, mtime_ns: 0, ctime_ns };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        assert!(!at(10_000_000_000).is_settled(now) && !at(9_990_000_001).is_settled(now));
        assert!(at(9_900_000_001).is_settled(now));
        assert!(!at(9_000_000_000).is_settled(now), "whole seconds may be all the file system knows");
        assert!(at(7_000_000_000).is_settled(now));
        assert!(!at(11_000_000_001).is_settled(now), "the future is never settled");
    }
}
