//! What transfers that nobody went on with left in a layout, or beside one.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use greentic_dist_store::Clock;
use greentic_dist_types::Digest;

use super::beneath::Folder;

/// How long a partial blob waits for somebody to go on with it: as long as in the cache.
const AGE: Duration = Duration::from_hours(7 * 24);
/// Most names that are looked at; what is behind them waits for the next time.
const NAMES: usize = 10_000;

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

/// Removes what processes that are gone left of an archive at `path`: `<name>.<process>-<number>.tmp`, which nobody holds.
pub(super) fn sweep_archives(path: &Path) {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.take(NAMES).flatten() {
        let left = entry.file_name();
        let writer = left.to_str().and_then(|left| left.strip_prefix(name)).and_then(writer_of);
        if writer.is_none_or(is_running) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = dir.join(&left);
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            tracing::debug!(path = %path.display(), "an archive that was not finished is removed");
            drop(std::fs::remove_file(path));
        }
    }
}

/// The process of `.<process>-<number>.tmp`.
fn writer_of(suffix: &str) -> Option<i32> {
    let (process, number) = suffix.strip_prefix('.')?.strip_suffix(".tmp")?.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(process) && is_number(number) { process.parse().ok() } else { None }
}

/// Whether there is such a process here. One that was made a moment ago may not hold its file yet.
#[cfg(unix)]
fn is_running(process: i32) -> bool {
    let process = rustix::process::Pid::from_raw(process);
    process.is_none_or(|process| rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH))
}

/// Nobody can be asked here: what is free long enough to be found was left.
#[cfg(not(unix))]
fn is_running(process: i32) -> bool {
    i32::try_from(std::process::id()) == Ok(process)
}

/// `<algorithm>-<hex>`, or that and the suffix of one writer.
fn is_partial(name: &str) -> bool {
    let digest = name.split('.').next().and_then(|name| name.split_once('-'));
    digest.is_some_and(|(algorithm, hex)| format!("{algorithm}:{hex}").parse::<Digest>().is_ok())
}
