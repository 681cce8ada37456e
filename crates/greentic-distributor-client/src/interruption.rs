//! What is put right before an interrupted process ends: programs it started and the terminal outlive it.
//!
//! Signals are for the program whose process it is: the command line names its [`watch`], and a host that brings its own `main`
//! decides by itself. What stands here is then the list that nobody asks for.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

static ACTS: Mutex<Acts> = Mutex::new(Acts { watch: None, begun: 0, list: Vec::new() });

struct Acts {
    /// Starts to look for signals; called once, when there is something to be done at one.
    watch: Option<fn() -> io::Result<()>>,
    begun: u64,
    list: Vec<(u64, Box<dyn Fn() + Send>)>,
}

/// What is to be done at an interruption, until this is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct LastAct(u64);

/// Begins what has to be ended at an interruption too: `begin` begins it and says how. No signal is looked at in between.
///
/// # Errors
/// Those of `begin`.
pub(crate) fn with_last_act<T>(
    begin: impl FnOnce() -> io::Result<(T, Box<dyn Fn() + Send>)>,
) -> io::Result<(T, LastAct)> {
    let mut acts = acts();
    // Where signals cannot be watched they do what they always do.
    if let Some(Err(error)) = acts.watch.take().map(|watch| watch()) {
        tracing::debug!(%error, "signals are not watched");
    }
    let (begun, act) = begin()?;
    acts.begun += 1;
    let number = acts.begun;
    acts.list.push((number, act));
    Ok((begun, LastAct(number)))
}

/// Names who looks for signals in this process, from the first [`LastAct`] on.
#[cfg(feature = "dist-cli")]
pub(crate) fn watch(watch: fn() -> io::Result<()>) {
    acts().watch = Some(watch);
}

/// Does what there is to do, and then `end`. Nothing new begins meanwhile.
#[cfg(feature = "dist-cli")]
pub(crate) fn interrupt(end: impl FnOnce()) {
    let acts = acts();
    acts.list.iter().for_each(|(_, act)| act());
    end();
}

fn acts() -> MutexGuard<'static, Acts> {
    ACTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for LastAct {
    fn drop(&mut self) {
        acts().list.retain(|(number, _)| *number != self.0);
    }
}
