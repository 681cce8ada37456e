//! Files outside of the cache: written beside their name, synced, and put in place whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use greentic_dist_types::SafeText;

use crate::dist::DistError;

/// What to do about a file of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and the write fails with [`io::ErrorKind::AlreadyExists`]. A symbolic link counts as a file.
    Keep,
    /// It makes way. A symbolic link makes way itself; what it points to is not touched. Directories and devices stay, and the
    /// write fails.
    Replace,
}

/// How often another temporary name is tried.
const TRIES: usize = 16;

/// A file that is not in place yet; removed when it is dropped before.
#[derive(Debug)]
pub(crate) struct OutputFile {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    existing: Existing,
    placed: bool,
}

impl OutputFile {
    /// Opens a temporary file in the directory of `target`. Fails early where putting it in place is sure to fail.
    pub(crate) fn create(target: &Path, existing: Existing) -> io::Result<Self> {
        check(target, existing)?;
        let name =
            target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{:016x}.tmp", fastrand::u64(..)));
            let temporary = target.with_file_name(hidden);
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    return Ok(Self { target: target.to_owned(), temporary, file, existing, placed: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Takes everything from its mode that is not in `mode`.
    #[cfg(feature = "provider-registry")]
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let now = self.file.metadata()?.permissions().mode();
            self.file.set_permissions(fs::Permissions::from_mode(now & mode))
        }
        #[cfg(not(unix))]
        {
            let _: u32 = mode;
            Ok(())
        }
    }

    /// Where the file will be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn place(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        place(&self.temporary, &self.target, self.existing)?;
        self.placed = true;
        sync_dir(&self.target)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.placed {
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// Writes a new file at `target`, or replaces the one that is there, or the one a symbolic link of that name leads to, keeping
/// its permissions.
pub(crate) fn rewrite(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let real = match fs::canonicalize(target) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut output = OutputFile::create(target, Existing::Keep)?;
            output.write_all(bytes)?;
            return output.place();
        }
        Err(error) => return Err(error),
    };
    let mut output = OutputFile::create(&real, Existing::Replace)?;
    output.write_all(bytes)?;
    output.file.set_permissions(fs::metadata(&real)?.permissions())?;
    output.place()
}

/// Why there is no file at `path`, for whoever asked for one.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> DistError {
    let shown = SafeText::new(&path.display().to_string());
    DistError::InvalidInput(match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("`{shown}` is there already, and is not replaced unless that is asked for")
        }
        _ => format!("`{shown}` cannot be written: {error}"),
    })
}

/// Whether a file could be put there.
pub(crate) fn check(target: &Path, existing: Existing) -> io::Result<()> {
    // The name of `new/` and of `new/.` is `new`, and no file can be put there.
    let written = target.as_os_str().as_encoded_bytes();
    if !target.file_name().is_some_and(|name| written.ends_with(name.as_encoded_bytes())) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    }
    match (fs::symlink_metadata(target), existing) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (Err(error), _) => Err(error),
        (Ok(_), Existing::Keep) => Err(io::ErrorKind::AlreadyExists.into()),
        (Ok(meta), Existing::Replace) if meta.is_file() || meta.is_symlink() => Ok(()),
        (Ok(_), Existing::Replace) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "there is something that is no regular file"))
        }
    }
}

/// Gives a synced file its name, for [`sync_dir`] to make last. After an error it does not have that name.
pub(crate) fn place(temporary: &Path, target: &Path, existing: Existing) -> io::Result<()> {
    check(target, existing)?;
    match existing {
        // A link fails where the name is taken, a rename would not.
        Existing::Keep => match fs::hard_link(temporary, target) {
            // It is in place, whatever becomes of its other name.
            Ok(()) => drop(fs::remove_file(temporary)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // A file system without links.
            Err(_) => fs::rename(temporary, target)?,
        },
        Existing::Replace => fs::rename(temporary, target)?,
    }
    Ok(())
}

/// Makes the new name survive a power cut, where directories can be synced: not where this user may only write to them.
pub(crate) fn sync_dir(target: &Path) -> io::Result<()> {
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(dir) {
        Ok(dir) if cfg!(unix) => dir.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(target: &Path, existing: Existing, text: &str) -> io::Result<()> {
        let mut output = OutputFile::create(target, existing)?;
        output.write_all(text.as_bytes())?;
        output.place()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_existing_file_is_kept_unless_it_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        put(&target, Existing::Keep, "one").unwrap();
        assert_eq!(put(&target, Existing::Keep, "two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        put(&target, Existing::Replace, "three").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "three");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn a_name_that_is_taken_while_the_file_is_written_is_kept_too() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let mut output = OutputFile::create(&target, Existing::Keep).unwrap();
        output.write_all(b"mine").unwrap();
        fs::write(&target, "theirs").unwrap();
        assert_eq!(output.place().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn nothing_is_left_of_a_file_that_was_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = OutputFile::create(&dir.path().join("out"), Existing::Replace).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn directories_are_never_replaced_and_a_path_without_a_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for existing in [Existing::Keep, Existing::Replace] {
            assert!(put(dir.path(), existing, "x").is_err());
            for nameless in ["/", "", ".", "..", "new/", "new/."] {
                let target = if nameless.is_empty() { PathBuf::new() } else { dir.path().join(nameless) };
                let error = put(&target, existing, "x").unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "`{nameless}`");
            }
        }
        assert!(names(dir.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_makes_way_itself_and_a_rewrite_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(put(&link, Existing::Keep, "x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        rewrite(&link, b"new").unwrap();
        assert!(link.is_symlink() && fs::read_to_string(&target).unwrap() == "new");
        put(&link, Existing::Replace, "own").unwrap();
        assert!(!link.is_symlink() && fs::read_to_string(&target).unwrap() == "new");
    }

    #[cfg(unix)]
    #[test]
    fn a_rewrite_keeps_the_permissions_of_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("file");
        rewrite(&target, b"1").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        rewrite(&target, b"2").unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
