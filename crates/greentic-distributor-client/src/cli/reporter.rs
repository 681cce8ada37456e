//! Progress for people: bars on a terminal, plain lines elsewhere.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use greentic_dist_types::SafeText;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{Output, human_bytes};
use crate::progress::{Event, Reporter};

/// Transfers below this size are over before a line about them is read.
const WORTH_A_LINE: u64 = 1 << 20;
/// Without a terminal: time between two lines about the same transfer, so that a long one does not look hung.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Warnings remembered; beyond them every one is said.
const WARNINGS: usize = 1_000;
/// Longest name shown beside a bar, in characters.
const NAME_CHARS: usize = 48;

/// Shows the events of the client on stderr.
pub(crate) struct TerminalReporter {
    mode: Mode,
    transfers: Mutex<HashMap<String, Transfer>>,
    warned: Mutex<HashSet<String>>,
}

enum Mode {
    Bars(MultiProgress),
    Lines,
    Quiet,
}

struct Transfer {
    bar: Option<ProgressBar>,
    verb: &'static str,
    total: Option<u64>,
    said: Instant,
    worth_a_line: bool,
}

impl TerminalReporter {
    pub(crate) fn for_stderr(quiet: bool) -> Self {
        let mode = if quiet {
            Mode::Quiet
        } else if std::io::stderr().is_terminal() {
            Mode::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)))
        } else {
            Mode::Lines
        };
        Self { mode, transfers: Mutex::new(HashMap::new()), warned: Mutex::default() }
    }

    /// Takes the bars off the terminal.
    pub(crate) fn finish(&self) {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Mode::Bars(bars) = &self.mode {
            drop(bars.clear());
        }
    }

    fn say(&self, text: &str) {
        match &self.mode {
            Mode::Bars(bars) => bars.suspend(|| Output::new(false).note(text)),
            Mode::Lines => Output::new(false).note(text),
            Mode::Quiet => {}
        }
    }

    /// Says a warning once: registries repeat theirs with every answer.
    fn warn(&self, message: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < WARNINGS && !warned.insert(message.to_owned()) {
            return;
        }
        drop(warned);
        self.say(&format!("warning: {message}"));
    }

    /// The first bytes of a transfer to a registry make it known.
    fn sent(&self, reference: &str, bytes: u64, total: u64) {
        let is_new = !self.transfers.lock().unwrap_or_else(PoisonError::into_inner).contains_key(reference);
        if is_new {
            self.started("uploading", reference, Some(total), 0);
        }
        self.progressed(reference, bytes);
    }

    fn started(&self, verb: &'static str, reference: &str, total: Option<u64>, resumed_at: u64) {
        let name = SafeText::excerpt(reference, NAME_CHARS).to_string();
        let bar = match &self.mode {
            Mode::Bars(bars) => {
                let template = "{prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = bars.add(ProgressBar::new(total.unwrap_or(0)).with_style(style).with_prefix(name.clone()));
                bar.set_position(resumed_at);
                Some(bar)
            }
            Mode::Lines | Mode::Quiet => None,
        };
        let worth_a_line = total.is_none_or(|total| total >= WORTH_A_LINE);
        if matches!(self.mode, Mode::Lines) && worth_a_line {
            let size = total.map_or_else(|| "unknown size".to_owned(), human_bytes);
            let resumed =
                if resumed_at > 0 { format!(", resuming at {}", human_bytes(resumed_at)) } else { String::new() };
            self.say(&format!("{verb} {name} ({size}{resumed})"));
        }
        let transfer = Transfer { bar, verb, total, said: Instant::now(), worth_a_line };
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner).insert(reference.to_owned(), transfer);
    }

    fn progressed(&self, reference: &str, bytes: u64) {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(transfer) = transfers.get_mut(reference) else { return };
        if let Some(bar) = &transfer.bar {
            bar.set_position(bytes);
        } else if matches!(self.mode, Mode::Lines) && transfer.said.elapsed() >= HEARTBEAT {
            transfer.said = Instant::now();
            let share = match transfer.total {
                Some(total) if total > 0 => format!("{} %", u128::from(bytes) * 100 / u128::from(total)),
                _ => human_bytes(bytes),
            };
            let verb = transfer.verb;
            drop(transfers);
            self.say(&format!("still {verb} {} {share}", SafeText::excerpt(reference, NAME_CHARS)));
        }
    }

    fn finished(&self, reference: &str, bytes: u64) {
        let transfer = self.transfers.lock().unwrap_or_else(PoisonError::into_inner).remove(reference);
        let Some(transfer) = transfer else { return };
        if let Some(bar) = transfer.bar {
            bar.finish_and_clear();
        } else if transfer.worth_a_line {
            self.say(&format!("verified {} ({})", SafeText::excerpt(reference, NAME_CHARS), human_bytes(bytes)));
        }
    }
}

impl TerminalReporter {
    fn failed(&self, reference: &str) {
        let transfer = self.transfers.lock().unwrap_or_else(PoisonError::into_inner).remove(reference);
        if let Some(bar) = transfer.and_then(|transfer| transfer.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Reporter for TerminalReporter {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Started { reference, total_bytes, resumed_at } => {
                self.started("downloading", reference, total_bytes, resumed_at);
            }
            Event::Sent { reference, bytes, total_bytes } => self.sent(reference, bytes, total_bytes),
            Event::Progress { reference, bytes } => self.progressed(reference, bytes),
            Event::Finished { reference, bytes } => self.finished(reference, bytes),
            Event::Failed { reference } => self.failed(reference),
            // The last line of a copy or push counts them.
            Event::Skipped { .. } | Event::Mounted { .. } => {}
            Event::Waiting { reference, holder, .. } => {
                let who = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                self.say(&format!("waiting for {who}, which is fetching {}", SafeText::excerpt(reference, NAME_CHARS)));
            }
            Event::Splay { delay } => {
                self.say(&format!("waiting {:.1} s before the first request (--splay)", delay.as_secs_f64()));
            }
            Event::Warning { message } => self.warn(message),
        }
    }
}
