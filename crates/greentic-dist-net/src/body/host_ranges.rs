//! What the answers to requests for a part of a body say about their host.

use super::content_range::ContentRange;
use crate::exchange::Ask;
use crate::transport::{Reply, Transport};

/// Remembers of the host that answered whether it sends the parts it is asked for, and of the one that was asked, which will be
/// asked the next time.
pub(super) fn note(transport: &Transport, ask: &Ask, reply: &Reply, sent: bool) {
    transport.hosts.of(&reply.url).note_range(sent);
    if reply.left_origin {
        let asked = match &reply.elsewhere {
            Some(access) => access.registry.url("/"),
            None => ask.url(),
        };
        if let Ok(asked) = asked {
            transport.hosts.of(&asked).note_range(sent);
        }
    }
}

/// Takes note of an answer that is not the part from `offset` on. One that begins there speaks of another size, and the descriptor
/// may be what is wrong.
pub(super) fn note_odd(transport: &Transport, ask: &Ask, reply: &Reply, offset: u64) {
    if reply.asked_range && ContentRange::of(reply).is_none_or(|range| range.first != offset) {
        note(transport, ask, reply, false);
    }
}
