//! Writes down everything that is traced and logged, at every level, by every crate of the process.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Metadata, Subscriber};

thread_local! {
    /// Where records of the `log` crate go, on this thread.
    static LOG: RefCell<Option<Arc<Recorded>>> = const { RefCell::new(None) };
}

/// What was traced (with `tracing`) and logged (with `log`) on the threads that take part.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    spans: Mutex<Vec<TracedSpan>>,
    lines: Mutex<Vec<String>>,
}

/// A span and its fields, the ones that were recorded later among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracedSpan {
    /// The name.
    pub name: String,
    /// The fields that have a value.
    pub fields: BTreeMap<String, String>,
}

/// Ends the recording on its thread when dropped.
#[must_use]
pub struct Recording {
    _tracing: DefaultGuard,
    _of_this_thread: PhantomData<*const ()>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recording")
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        LOG.set(None);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trace {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes down what happens on this thread until the guard is dropped: with a current-thread runtime, all its tasks.
    pub fn record(&self) -> Recording {
        static LOGGER: Once = Once::new();
        // While there is one subscriber only, what the thread that comes first to an event wants is kept as what everybody wants.
        static OTHER: OnceLock<Dispatch> = OnceLock::new();
        LOGGER.call_once(|| {
            log::set_logger(&ThreadLogger).expect("no other logger in a test");
            log::set_max_level(log::LevelFilter::Trace);
        });
        OTHER.get_or_init(|| Dispatch::new(Recorder(Arc::default())));
        LOG.set(Some(Arc::clone(&self.0)));
        let tracing = tracing::dispatcher::set_default(&Dispatch::new(Recorder(Arc::clone(&self.0))));
        Recording { _tracing: tracing, _of_this_thread: PhantomData }
    }

    /// The spans of one name, in the order they began.
    pub fn spans(&self, name: &str) -> Vec<TracedSpan> {
        lock(&self.0.spans).iter().filter(|span| span.name == name).cloned().collect()
    }

    /// Events and log records, one line each.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.0.lines).clone()
    }

    /// Everything there is: what a secret must not stand in.
    pub fn text(&self) -> String {
        let mut text = self.lines().join("\n");
        for span in lock(&self.0.spans).iter() {
            write!(text, "\n{} {:?}", span.name, span.fields).expect("memory");
        }
        text
    }
}

impl TracedSpan {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

struct Recorder(Arc<Recorded>);

impl Recorder {
    fn index(id: &Id) -> usize {
        usize::try_from(id.into_u64()).expect("a small number") - 1
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let mut spans = lock(&self.0.spans);
        spans.push(TracedSpan { name: span.metadata().name().to_owned(), fields: fields.0 });
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = lock(&self.0.spans).get_mut(Self::index(span)) {
            span.fields.append(&mut fields.0);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = format!("{} {} {:?}", metadata.level(), metadata.target(), fields.0);
        lock(&self.0.lines).push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

struct ThreadLogger;

impl log::Log for ThreadLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        // A thread that is ending has no place for it any more.
        let _ended = LOG.try_with(|to| {
            if let Some(to) = &*to.borrow() {
                lock(&to.lines).push(line);
            }
        });
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_events_and_log_records_of_this_thread_are_written_down() {
        let trace = Trace::new();
        let recording = trace.record();
        let span = tracing::trace_span!("work", number = 1, later = tracing::field::Empty);
        span.record("later", "told");
        span.in_scope(|| tracing::trace!(secret = "canary-a", "an event"));
        log::trace!("a record with canary-b");
        std::thread::spawn(|| tracing::error!("of another thread")).join().unwrap();
        drop(recording);
        tracing::error!("too late");
        log::error!("too late");
        let work = trace.spans("work").pop().unwrap();
        assert_eq!((work.field("number"), work.field("later")), (Some("1"), Some("told")));
        let text = trace.text();
        assert!(text.contains("canary-a") && text.contains("canary-b") && text.contains("an event"), "{text}");
        assert!(!text.contains("another thread") && !text.contains("too late"), "{text}");
    }
}
