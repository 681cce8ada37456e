//! Which connection brings which bytes of a body.
//!
//! The first connection reads from the front, as if it were alone, and what it reads counts, whoever was to bring it. Each other
//! one takes a segment from the tail of a window of what nobody has taken, so that the first goes on undisturbed for as long as
//! possible and what comes before its turn stays within a few windows. Where nothing is free any more, the tail of what another
//! connection has still before it is taken over, so that a slow one does not hold up the end.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Segments in a window.
const WINDOW: u64 = 8;
/// Segments in a window where what comes before its turn waits in memory: one for each of the usual connections.
const SMALL_WINDOW: u64 = 4;
/// How many windows the bytes that come before their turn may be ahead of the first that is missing.
const WINDOWS_AHEAD: u64 = 2;
/// The least part of a segment that is taken over from another connection.
const SPLIT: u64 = 16;

/// Bytes from `at` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) at: u64,
    pub(super) end: u64,
}

impl Area {
    pub(super) const fn left(self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// What both have; `None` when that is nothing.
    fn and(self, other: Self) -> Option<Self> {
        let both = Self { at: self.at.max(other.at), end: self.end.min(other.end) };
        (both.left() > 0).then_some(both)
    }

    /// This area's part of bytes that begin at `offset`.
    pub(super) fn of(self, bytes: &Bytes, offset: u64) -> Bytes {
        let within = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        let (at, end) = (within(self.at), within(self.end));
        bytes.slice(at.min(end)..end)
    }
}

/// The bytes that are still to come, free ones and those that a connection has taken.
#[derive(Debug)]
pub(super) struct Areas {
    segment: u64,
    /// Segments in a window.
    window: u64,
    free: BTreeMap<u64, u64>,
    /// What each connection has still before it; the first one is number 0.
    taken: Vec<Option<Area>>,
}

impl Areas {
    /// All bytes from `from` to `size` are the first connection's; others may take segments of `segment` bytes.
    pub(super) fn new(from: u64, size: u64, segment: u64) -> Self {
        let all = Area { at: from, end: size };
        let taken = vec![(all.left() > 0).then_some(all)];
        Self { segment: segment.max(1), window: WINDOW, free: BTreeMap::new(), taken }
    }

    /// The same, of which never more than about `bytes` come before their turn, in segments that are as much smaller.
    #[must_use]
    pub(super) fn within(mut self, bytes: u64) -> Self {
        self.window = SMALL_WINDOW;
        self.segment = self.segment.min(bytes / (SMALL_WINDOW * WINDOWS_AHEAD)).max(1);
        self
    }

    /// What a connection has still before it.
    pub(super) fn of(&self, number: usize) -> Option<Area> {
        self.taken.get(number).copied().flatten()
    }

    /// Whether any byte is still to come.
    pub(super) fn is_complete(&self) -> bool {
        self.free.is_empty() && self.taken.iter().all(Option::is_none)
    }

    /// Bytes of a segment.
    pub(super) const fn segment(&self) -> u64 {
        self.segment
    }

    /// The first byte that is still to come.
    pub(super) fn first_missing(&self) -> Option<u64> {
        let taken = self.taken.iter().flatten().map(|area| area.at);
        taken.chain(self.free.first_key_value().map(|(at, _)| *at)).min()
    }

    /// Takes note of the bytes from `at` to `end`, which a connection received in their order; those that are its own and had
    /// not come before.
    pub(super) fn receive(&mut self, number: usize, at: u64, end: u64) -> Option<Area> {
        let slot = self.taken.get_mut(number)?;
        let area = (*slot)?;
        let own = area.and(Area { at, end })?;
        *slot = Some(Area { at: own.end, end: area.end }).filter(|rest| rest.left() > 0);
        self.put_back(area.at, own.at);
        Some(own)
    }

    /// Takes note of the bytes from `at` to `end`, whoever was to bring them; those that had not come before.
    pub(super) fn receive_anywhere(&mut self, at: u64, end: u64) -> Vec<Area> {
        let came = Area { at, end };
        let mut parts = Vec::new();
        for slot in &mut self.taken {
            let Some((area, part)) = slot.and_then(|area| Some((area, area.and(came)?))) else { continue };
            parts.push(part);
            // Who was to bring them goes on before them, else behind them.
            let (before, behind) = (Area { at: area.at, end: part.at }, Area { at: part.end, end: area.end });
            let (stays, goes) = if before.left() > 0 { (before, behind) } else { (behind, before) };
            *slot = Some(stays).filter(|area| area.left() > 0);
            if goes.left() > 0 {
                self.free.insert(goes.at, goes.end);
            }
        }
        let free: Vec<Area> = self.free.range(..end).map(|(at, end)| Area { at: *at, end: *end }).collect();
        for area in free {
            let Some(part) = area.and(came) else { continue };
            parts.push(part);
            self.free.remove(&area.at);
            self.put_back(area.at, part.at);
            self.put_back(part.end, area.end);
        }
        parts.sort_unstable_by_key(|part| part.at);
        parts
    }

    /// The front of what is free is the first connection's, unless it has something before it.
    pub(super) fn claim_front(&mut self, alone: bool) {
        if self.of(0).is_none()
            && let Some(area) = self.free_front(alone)
        {
            self.set(0, area);
        }
    }

    /// What a connection had before it is free again.
    pub(super) fn release(&mut self, number: usize) {
        if let Some(area) = self.taken.get_mut(number).and_then(Option::take) {
            self.put_back(area.at, area.end);
        }
    }

    /// The next bytes for the first connection: the front of what is free, all of it when it is `alone`.
    pub(super) fn take_front(&mut self, alone: bool) -> Option<Area> {
        let area = self.free_front(alone).or_else(|| self.take_over())?;
        self.set(0, area);
        Some(area)
    }

    fn free_front(&mut self, alone: bool) -> Option<Area> {
        let far = self.far();
        let most = if alone { u64::MAX } else { self.segment };
        let free = self.free.first_key_value().map(|(at, end)| Area { at: *at, end: *end });
        let free = free.filter(|free| free.at < far)?;
        let upto = free.end.min(free.at.saturating_add(most)).min(far);
        self.free.remove(&free.at);
        self.put_back(upto, free.end);
        Some(Area { at: free.at, end: upto })
    }

    /// The next segment for another connection.
    pub(super) fn take_segment(&mut self, number: usize) -> Option<Area> {
        let window = self.segment.saturating_mul(self.window);
        let far = self.far();
        let upto_in = |area: Area| area.end.min(area.at.saturating_add(window)).min(far);
        let first = self.of(0);
        let free = self.free.first_key_value().map(|(at, end)| Area { at: *at, end: *end });
        let area = if let Some(first) =
            first.filter(|first| Area { at: first.at, end: upto_in(*first) }.left() >= self.segment.saturating_mul(2))
        {
            let upto = upto_in(first);
            let at = upto - self.segment;
            self.put_back(upto, first.end);
            self.set(0, Area { at: first.at, end: at });
            Area { at, end: upto }
        } else if let Some(free) = free.filter(|free| free.at < far) {
            let upto = upto_in(free);
            let at = upto.saturating_sub(self.segment).max(free.at);
            self.free.remove(&free.at);
            self.put_back(free.at, at);
            self.put_back(upto, free.end);
            Area { at, end: upto }
        } else {
            self.take_over()?
        };
        self.set(number, area);
        Some(area)
    }

    /// Where bytes would come too long before their turn.
    fn far(&self) -> u64 {
        let missing = self.taken.iter().flatten().map(|area| area.at).min();
        let ahead = self.segment.saturating_mul(self.window.saturating_mul(WINDOWS_AHEAD));
        missing.map_or(u64::MAX, |at| at.saturating_add(ahead))
    }

    /// The second half of what the connection with most before it has to bring.
    fn take_over(&mut self) -> Option<Area> {
        let largest = self.taken.iter_mut().flatten().max_by_key(|area| area.left())?;
        if largest.left() / 2 < (self.segment / SPLIT).max(1) {
            return None;
        }
        let end = largest.end;
        largest.end -= largest.left() / 2;
        Some(Area { at: largest.end, end })
    }

    fn set(&mut self, number: usize, area: Area) {
        if self.taken.len() <= number {
            self.taken.resize(number + 1, None);
        }
        if let Some(slot) = self.taken.get_mut(number) {
            *slot = (area.left() > 0).then_some(area);
        }
    }

    fn put_back(&mut self, at: u64, mut end: u64) {
        if at >= end {
            return;
        }
        if let Some(further) = self.free.remove(&end) {
            end = further;
        }
        match self.free.range_mut(..at).next_back() {
            Some((_, upto)) if *upto == at => *upto = end,
            _ => drop(self.free.insert(at, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The next bytes of a connection's area come.
    fn bring(areas: &mut Areas, number: usize, bytes: u64) -> u64 {
        let at = areas.of(number).unwrap().at;
        areas.receive(number, at, at + bytes).map_or(0, Area::left)
    }

    #[test]
    fn what_the_first_connection_reads_counts_whoever_was_to_bring_it_and_nothing_counts_twice() {
        let mut areas = Areas::new(0, 100, 10);
        assert_eq!(areas.take_segment(1), Some(Area { at: 70, end: 80 }));
        assert_eq!(areas.take_segment(2), Some(Area { at: 60, end: 70 }));
        assert_eq!(bring(&mut areas, 2, 5), 5);
        assert_eq!(areas.receive_anywhere(0, 62), [Area { at: 0, end: 60 }]);
        assert_eq!(areas.first_missing(), Some(65));
        assert_eq!(areas.receive_anywhere(62, 75), [Area { at: 65, end: 70 }, Area { at: 70, end: 75 }]);
        assert_eq!((areas.of(1), areas.of(2)), (Some(Area { at: 75, end: 80 }), None));
        // The connection is not there yet: what it brings before counts no more.
        assert_eq!(areas.receive(1, 70, 74), None);
        assert_eq!(areas.receive(1, 74, 90), Some(Area { at: 75, end: 80 }));
        // From the middle of what nobody has, and of what somebody has.
        assert_eq!(areas.receive_anywhere(85, 90), [Area { at: 85, end: 90 }]);
        areas.claim_front(true);
        assert_eq!(areas.of(0), Some(Area { at: 80, end: 85 }));
        assert_eq!(areas.receive_anywhere(82, 84), [Area { at: 82, end: 84 }]);
        assert_eq!(areas.receive_anywhere(0, 100).iter().map(|part| part.left()).sum::<u64>(), 2 + 1 + 10);
        assert!(areas.is_complete());
    }

    #[test]
    fn a_part_of_bytes_is_cut_out_where_it_lies() {
        let bytes = Bytes::from_static(b"0123456789");
        let part = |at, end| Area { at, end }.of(&bytes, 100);
        assert_eq!((&*part(102, 105), &*part(90, 101), &*part(108, 200)), (&b"234"[..], &b"0"[..], &b"89"[..]));
        assert!(part(110, 120).is_empty() && part(90, 100).is_empty() && part(105, 103).is_empty());
    }

    #[test]
    fn segments_come_from_the_tail_of_a_window_and_the_first_connection_goes_on() {
        let mut areas = Areas::new(0, 100, 2);
        assert_eq!(areas.of(0), Some(Area { at: 0, end: 100 }));
        assert_eq!(bring(&mut areas, 0, 3), 3);
        // The window is 16 bytes long.
        assert_eq!(areas.take_segment(1), Some(Area { at: 17, end: 19 }));
        assert_eq!(areas.take_segment(2), Some(Area { at: 15, end: 17 }));
        assert_eq!(areas.of(0), Some(Area { at: 3, end: 15 }));
        assert_eq!(bring(&mut areas, 0, 10), 10);
        // Too little is left before the first: the next window.
        assert_eq!(areas.take_segment(3), Some(Area { at: 33, end: 35 }));
        assert_eq!(bring(&mut areas, 0, 5), 2, "what is behind its end is another's");
        assert_eq!(areas.of(0), None);
        assert_eq!(areas.take_front(false), Some(Area { at: 19, end: 21 }));
        assert_eq!(bring(&mut areas, 0, 2), 2);
        assert_eq!(areas.take_front(true), Some(Area { at: 21, end: 33 }), "alone it takes all there is");
    }

    #[test]
    fn what_is_given_back_is_the_next_for_the_first_connection() {
        let mut areas = Areas::new(0, 8, 2);
        let _segments = [areas.take_segment(1), areas.take_segment(2)];
        areas.release(1);
        areas.release(2);
        bring(&mut areas, 0, 4);
        assert_eq!(areas.take_front(true), Some(Area { at: 4, end: 8 }));
    }

    #[test]
    fn the_tail_of_a_slow_connection_is_taken_over() {
        let mut areas = Areas::new(0, 96, 32);
        assert_eq!(areas.take_segment(1), Some(Area { at: 64, end: 96 }));
        bring(&mut areas, 0, 64);
        assert_eq!(areas.take_front(false), Some(Area { at: 80, end: 96 }));
        bring(&mut areas, 0, 16);
        assert_eq!(areas.take_front(false), Some(Area { at: 72, end: 80 }));
        bring(&mut areas, 0, 8);
        assert_eq!(bring(&mut areas, 1, 100), 8);
        assert!(areas.is_complete());
    }

    proptest! {
        #[test]
        fn every_byte_is_somebodys_exactly_once_and_none_is_too_far_ahead(
            size in 0_u64..4_000,
            from in 0_u64..50,
            segment in 1_u64..64,
            within in proptest::option::of(0_u64..600),
            steps in proptest::collection::vec((0_usize..5, 0_u8..10, 1_u64..40), 0..400),
        ) {
            let mut areas = Areas::new(from, size, segment);
            let mut ahead = segment * WINDOW * WINDOWS_AHEAD;
            if let Some(bytes) = within {
                areas = areas.within(bytes);
                ahead = bytes.max(SMALL_WINDOW * WINDOWS_AHEAD).min(segment * SMALL_WINDOW * WINDOWS_AHEAD);
            }
            let mut brought = vec![0_u8; usize::try_from(size).unwrap()];
            let mut read_on = brought.clone();
            let mut bring = |areas: &mut Areas, number: usize, bytes: u64| {
                let Some(area) = areas.of(number) else { return };
                let own = areas.receive(number, area.at, area.at.saturating_add(bytes));
                for at in own.into_iter().flat_map(|own| own.at..own.end) {
                    brought[usize::try_from(at).unwrap()] += 1;
                }
            };
            let mut front = from;
            for (number, action, bytes) in steps {
                if number == 4 {
                    for at in areas.receive_anywhere(front, front + bytes).into_iter().flat_map(|part| part.at..part.end) {
                        read_on[usize::try_from(at).unwrap()] += 1;
                    }
                    front += bytes;
                } else if action == 0 && number > 0 {
                    areas.release(number);
                } else if areas.of(number).is_some() {
                    bring(&mut areas, number, bytes);
                } else if number == 0 {
                    let _area = areas.take_front(action % 2 == 0);
                } else {
                    let first = areas.taken.iter().flatten().map(|area| area.at).chain(areas.free.keys().copied()).min();
                    if let (Some(area), Some(first)) = (areas.take_segment(number), first) {
                        prop_assert!(area.end <= first + ahead);
                    }
                }
            }
            for number in 1..4 {
                areas.release(number);
            }
            while !areas.is_complete() {
                if areas.of(0).is_none() {
                    prop_assert!(areas.take_front(true).is_some());
                }
                bring(&mut areas, 0, u64::MAX);
            }
            let start = usize::try_from(from.min(size)).unwrap();
            for (brought, read_on) in brought.iter_mut().zip(read_on) {
                *brought += read_on;
            }
            prop_assert!(brought[..start].iter().all(|times| *times == 0));
            prop_assert!(brought[start..].iter().all(|times| *times == 1));
        }
    }
}
