//! What the wire has to say, told to the reporter in words, and to whoever wants it as it is.

use std::fmt;
use std::sync::Arc;

use greentic_dist_net::{Event as NetEvent, Observer};

use crate::progress::{Event, Reporter};

/// Tells the reporter what a person should know about the wire, and the observer everything.
pub(super) struct Wire {
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Observer for Wire {
    fn event(&self, event: &NetEvent<'_>) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
        let message = match event {
            NetEvent::Splay { delay } => return self.reporter.event(&Event::Splay { delay: *delay }),
            NetEvent::Retry { attempt, delay, error } => {
                format!("attempt {attempt} failed ({error}); trying again in {} ms", delay.as_millis())
            }
            NetEvent::Resume { offset, error } => format!("the transfer stopped at byte {offset} ({error}); resuming"),
            NetEvent::Fallback { endpoint, error } => {
                format!("the mirror {endpoint} did not serve ({error}); asking the next endpoint")
            }
            NetEvent::Warning { host, text } => format!("{host} says: {text}"),
            _ => return,
        };
        self.reporter.event(&Event::Warning { message: &message });
    }
}
