//! What transfers that nobody went on with left in a layout.

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

/// `<algorithm>-<hex>`, or that and the suffix of one writer.
fn is_partial(name: &str) -> bool {
    let digest = name.split('.').next().and_then(|name| name.split_once('-'));
    digest.is_some_and(|(algorithm, hex)| format!("{algorithm}:{hex}").parse::<Digest>().is_ok())
}
