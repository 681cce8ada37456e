//! Signals that end the process, where something is to be put right before.
//!
//! They are looked for from the first thing on that has to be, by a thread of its own: the others may be waiting for somebody.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, exit};

use crate::interruption;

/// Whether signals are for the command line: it was started by its own `main`.
static OWN_PROCESS: AtomicBool = AtomicBool::new(false);

/// Where Linux says which signals a process was told to ignore.
const STATUS: &str = "/proc/self/status";

/// A key that is a signal where nobody has switched that off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\.
    Quit,
    /// Ctrl-Z.
    Suspend,
}

/// Takes the signals of this process over, once there is something to do at one.
pub(super) fn take_over() {
    OWN_PROCESS.store(true, Ordering::Relaxed);
    interruption::watch(watch);
}

fn watch() -> io::Result<()> {
    let ignored = std::fs::read_to_string(STATUS).map(|status| ignored(&status)).unwrap_or_default();
    // `nohup` and shells without job control ignore some for the programs they start: that stays so.
    let wanted = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let wanted: Vec<i32> = wanted.collect();
    // The thread is there before a signal is taken away from the system: without it nobody would obey one.
    let (told, watching) = std::sync::mpsc::channel();
    let look = move || {
        let mut signals = match Signals::new(wanted) {
            Ok(signals) => signals,
            Err(error) => return drop(told.send(Err(error))),
        };
        drop(told.send(Ok(())));
        for signal in signals.forever() {
            interruption::interrupt(|| end_by(signal));
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(look)?;
    watching.recv().map_err(io::Error::other)?
}

/// The signals that are ignored, a bit each, as the document of a process has them; none where it has no such line.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Does what a key does when nobody looks at it: ends the process, or stops it until it is told to go on. Returns without
/// having done anything in the process of a host.
pub(super) fn press(key: Key) {
    if OWN_PROCESS.load(Ordering::Relaxed) {
        match key {
            Key::Interrupt => interruption::interrupt(|| end_by(SIGINT)),
            Key::Quit => interruption::interrupt(|| end_by(SIGQUIT)),
            Key::Suspend => end_by(SIGTSTP),
        }
    }
}

/// As if the signal had never been looked for: whoever waits for this process sees why it ended.
fn end_by(signal: i32) {
    // The first process of a container, or of a system, cannot end by a signal of its own.
    if std::process::id() == 1 {
        if signal != SIGTSTP {
            exit(128 + signal);
        }
        return;
    }
    if let Err(error) = emulate_default_handler(signal) {
        tracing::debug!(%error, signal, "a signal could not be obeyed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_was_told_to_ignore_is_read() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 1 | 1 << 12);
        assert_eq!(ignored("SigIgn:\tnonsense\n"), 0);
        assert_eq!(ignored(""), 0);
    }
}
