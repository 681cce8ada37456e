//! What the wire has to say, told to the reporter in words.

use std::fmt;
use std::sync::Arc;

use greentic_dist_net::{Event as NetEvent, Observer};

use crate::progress::{Event, Reporter};

/// Tells the reporter what a person should know about the wire.
pub(super) struct Wire(pub(super) Arc<dyn Reporter>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Observer for Wire {
    fn event(&self, event: &NetEvent<'_>) {
        let message = match event {
            NetEvent::Splay { delay } => return self.0.event(&Event::Splay { delay: *delay }),
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
        self.0.event(&Event::Warning { message: &message });
    }
}
