//! What calls of this client are working on: their artifacts stay, whatever the cap says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greentic_dist_types::Digest;

/// The artifacts of calls that did not return yet.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pins: HashMap<Digest, usize>,
    groups: usize,
    /// Let go by calls of a group that others of the group run beside.
    parked: Vec<Digest>,
}

impl State {
    fn release(&mut self, pin: &Digest) {
        if let Some(count) = self.pins.get_mut(pin) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(pin);
            }
        }
    }
}

/// Holds one artifact until dropped, or until its group is over.
#[must_use = "the artifact is let go when this is dropped"]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    pin: Digest,
}

/// A call made of many, whose results are all to be there when it returns.
#[must_use = "the artifacts are let go when this is dropped"]
pub(crate) struct Group {
    holds: Arc<Holds>,
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hold(self: &Arc<Self>, pin: Digest) -> Hold {
        *self.lock().pins.entry(pin).or_default() += 1;
        Hold { holds: Arc::clone(self), pin }
    }

    pub(crate) fn group(self: &Arc<Self>) -> Group {
        self.lock().groups += 1;
        Group { holds: Arc::clone(self) }
    }

    pub(super) fn pins(&self) -> Vec<Digest> {
        self.lock().pins.keys().copied().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        if state.groups > 0 {
            state.parked.push(self.pin);
        } else {
            state.release(&self.pin);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        state.groups -= 1;
        if state.groups == 0 {
            for pin in std::mem::take(&mut state.parked) {
                state.release(&pin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_brought_is_held_until_all_groups_are_over() {
        let holds = Arc::new(Holds::default());
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        drop(holds.hold(a));
        assert_eq!(holds.pins(), []);
        let (one, other) = (holds.group(), holds.group());
        drop(holds.hold(a));
        let kept = holds.hold(b);
        drop(one);
        assert_eq!(holds.pins().len(), 2);
        drop(other);
        assert_eq!(holds.pins(), [b]);
        drop(kept);
        assert_eq!(holds.pins(), []);
    }
}
