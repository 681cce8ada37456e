//! Hashing beside writing: from some size on a second thread hashes while the first one writes, so that a large artifact
//! takes as long as the slower of both and not as their sum.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use greentic_dist_types::{Mismatch, Verified, Verifier};

use crate::position::read_at;

/// Bytes after which hashing gets a thread of its own; below, starting one costs more than it gains.
const BESIDE_BYTES: u64 = 2 << 20;
/// Chunks that may wait for the hashing thread. They are shared with the writer, not copied.
const DEPTH: usize = 4;
/// Most bytes that are copied for the hashing thread at a time, so that what waits for it stays small.
const COPY_BYTES: usize = 256 << 10;

/// Bytes read at a time of what was written before its turn.
const READ_BYTES: usize = 256 << 10;

/// What a thread hashes next.
enum Chunk {
    /// Bytes that it may keep for a while.
    Here(Box<dyn AsRef<[u8]> + Send>),
    /// Bytes that were written before their turn: this many from there, out of the page cache.
    Written { file: File, from: u64, count: u64 },
}

/// Why there is no proof.
#[derive(Clone, Debug)]
pub(crate) enum Broken {
    /// The bytes are not the right ones.
    Wrong(Mismatch),
    /// What was written could not be read again.
    Unreadable(Arc<io::Error>),
}

impl From<Mismatch> for Broken {
    fn from(mismatch: Mismatch) -> Self {
        Self::Wrong(mismatch)
    }
}

/// A [`Verifier`] that may work on another thread.
pub(crate) struct Prover {
    state: State,
    seen: u64,
    remaining: u64,
}

enum State {
    Here(Verifier),
    Beside {
        chunks: SyncSender<Chunk>,
        thread: JoinHandle<Result<Verifier, Broken>>,
    },
    /// The proof failed, with this.
    Failed(Broken),
}

impl Prover {
    pub(crate) fn new(verifier: Verifier) -> Self {
        Self { seen: verifier.seen(), remaining: verifier.remaining(), state: State::Here(verifier) }
    }

    /// Bytes taken so far.
    pub(crate) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes borrowed bytes, which are hashed before this returns, or copied for the hashing thread.
    pub(crate) fn update(&mut self, data: &[u8]) -> Result<(), Broken> {
        if !matches!(self.state, State::Beside { .. }) {
            return self.take(data, || Chunk::Here(Box::new([0_u8; 0])));
        }
        data.chunks(COPY_BYTES).try_for_each(|chunk| self.take(chunk, || Chunk::Here(Box::new(chunk.to_vec()))))
    }

    /// Takes bytes that are cheap to share.
    pub(crate) fn update_shared<B>(&mut self, data: &B) -> Result<(), Broken>
    where
        B: AsRef<[u8]> + Clone + Send + 'static,
    {
        if self.seen >= BESIDE_BYTES {
            self.go_beside();
        }
        self.take(data.as_ref(), || Chunk::Here(Box::new(data.clone())))
    }

    /// Takes the bytes up to `end` that are in `file` already; they are read again by whoever hashes.
    pub(crate) fn follow(&mut self, file: &File, end: u64) -> Result<(), Broken> {
        let (from, count) = (self.seen, end.saturating_sub(self.seen));
        self.go_beside();
        let read = file.try_clone().map_err(|error| Broken::Unreadable(Arc::new(error)));
        let result = match (&mut self.state, read) {
            (State::Failed(broken), _) => return Err(broken.clone()),
            (_, Err(broken)) => Err(broken),
            (State::Here(verifier), Ok(file)) => hash_written(verifier, &file, from, count),
            (State::Beside { chunks, .. }, Ok(file)) => {
                if chunks.send(Chunk::Written { file, from, count }).is_err() || count > self.remaining {
                    return Err(self.failure());
                }
                Ok(())
            }
        };
        if let Err(broken) = result {
            self.state = State::Failed(broken.clone());
            return Err(broken);
        }
        self.count(count);
        Ok(())
    }

    fn take(&mut self, data: &[u8], owned: impl FnOnce() -> Chunk) -> Result<(), Broken> {
        let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match &mut self.state {
            State::Here(verifier) => {
                if let Err(mismatch) = verifier.update(data) {
                    self.state = State::Failed(mismatch.into());
                    return Err(mismatch.into());
                }
            }
            State::Failed(broken) => return Err(broken.clone()),
            State::Beside { chunks, .. } => {
                // The thread says what is wrong; nothing beyond the limit is to be written meanwhile.
                // The send waits while the queue is full; the thread waits for nothing else, so it ends.
                if chunks.send(owned()).is_err() || count > self.remaining {
                    return Err(self.failure());
                }
            }
        }
        self.count(count);
        Ok(())
    }

    fn count(&mut self, count: u64) {
        self.seen += count;
        self.remaining = self.remaining.saturating_sub(count);
    }

    fn go_beside(&mut self) {
        let State::Here(verifier) = &self.state else { return };
        let verifier = verifier.clone();
        let (sender, receiver) = sync_channel(DEPTH);
        // Without a thread it stays as it is.
        if let Ok(thread) = std::thread::Builder::new()
            .name("hash".to_owned())
            .stack_size(128 << 10)
            .spawn(|| hash_all(verifier, receiver))
        {
            self.state = State::Beside { chunks: sender, thread };
        }
    }

    /// Why the hashing thread stopped.
    fn failure(&mut self) -> Broken {
        let too_large = Broken::Wrong(Mismatch::TooLarge { limit: self.seen.saturating_add(self.remaining) });
        let broken = match std::mem::replace(&mut self.state, State::Failed(too_large.clone())) {
            State::Beside { chunks, thread } => {
                drop(chunks);
                join(thread).err()
            }
            State::Failed(broken) => Some(broken),
            State::Here(_) => None,
        }
        .unwrap_or(too_large);
        self.state = State::Failed(broken.clone());
        broken
    }

    /// Ends the proof.
    pub(crate) fn finish(self) -> Result<Verified, Broken> {
        match self.state {
            State::Here(verifier) => Ok(verifier.finish()?),
            State::Failed(broken) => Err(broken),
            State::Beside { chunks, thread } => {
                drop(chunks);
                Ok(join(thread)?.finish()?)
            }
        }
    }
}

fn hash_all(mut verifier: Verifier, chunks: Receiver<Chunk>) -> Result<Verifier, Broken> {
    for chunk in chunks {
        match chunk {
            Chunk::Here(bytes) => verifier.update((*bytes).as_ref())?,
            Chunk::Written { file, from, count } => hash_written(&mut verifier, &file, from, count)?,
        }
    }
    Ok(verifier)
}

/// Hashes `count` bytes of a file.
fn hash_written(verifier: &mut Verifier, file: &File, mut from: u64, mut count: u64) -> Result<(), Broken> {
    let mut buffer = vec![0_u8; READ_BYTES.min(usize::try_from(count).unwrap_or(READ_BYTES))];
    while count > 0 {
        let most = buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        let read = match read_at(file, buffer.get_mut(..most).unwrap_or_default(), from) {
            Ok(0) => return Err(Broken::Unreadable(Arc::new(io::ErrorKind::UnexpectedEof.into()))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Unreadable(Arc::new(error))),
        };
        verifier.update(buffer.get(..read).unwrap_or_default())?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        from = from.saturating_add(read);
        count = count.saturating_sub(read);
    }
    Ok(())
}

fn join(thread: JoinHandle<Result<Verifier, Broken>>) -> Result<Verifier, Broken> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prover").field("seen", &self.seen).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use greentic_dist_types::Digest;

    use super::*;

    fn prove(expected: &[u8], sent: &[u8], shared: bool) -> Result<Verified, Broken> {
        let mut prover =
            Prover::new(Verifier::for_content(Digest::sha256(expected), u64::try_from(expected.len()).unwrap()));
        for chunk in sent.chunks(700_000) {
            if shared {
                prover.update_shared(&Arc::<[u8]>::from(chunk))?;
            } else {
                prover.update(chunk)?;
            }
        }
        prover.finish()
    }

    #[test]
    fn the_verdict_is_the_same_on_either_thread() {
        let right: Vec<u8> = (0..6_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut wrong = right.clone();
        wrong[5_999_999] ^= 1;
        let long = [right.clone(), vec![0]].concat();
        for shared in [false, true] {
            assert_eq!(prove(&right, &right, shared).unwrap().digest(), Digest::sha256(&right));
            assert!(matches!(prove(&right, &wrong, shared), Err(Broken::Wrong(Mismatch::Digest { .. }))));
            assert!(matches!(prove(&right, &right[..5_000_000], shared), Err(Broken::Wrong(Mismatch::Short { .. }))));
            assert!(matches!(prove(&right, &long, shared), Err(Broken::Wrong(Mismatch::Long { expected: 6_000_000 }))));
        }
    }

    #[test]
    fn a_large_copy_waits_in_small_pieces_and_a_proof_given_up_frees_what_waits() {
        let bytes = vec![7_u8; 9 << 20];
        let mut prover =
            Prover::new(Verifier::for_content(Digest::sha256(&bytes), u64::try_from(bytes.len()).unwrap()));
        let first = Arc::<[u8]>::from(&bytes[..3 << 20]);
        let last = Arc::<[u8]>::from(&bytes[3 << 20..4 << 20]);
        prover.update_shared(&first).unwrap();
        prover.update_shared(&last).unwrap();
        assert!(matches!(prover.state, State::Beside { .. }));
        prover.update(&bytes[4 << 20..]).unwrap();
        assert_eq!(prover.finish().unwrap().digest(), Digest::sha256(&bytes));

        let mut dropped = Prover::new(Verifier::for_content(Digest::sha256(&bytes), 9 << 20));
        dropped.update_shared(&first).unwrap();
        dropped.update_shared(&last).unwrap();
        drop(dropped);
        // The thread ends by itself once nobody sends any more, and with it its hold on the chunks.
        for _ in 0..1000 {
            if Arc::strong_count(&last) == 1 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the hashing thread keeps chunks of a proof that was given up");
    }

    #[test]
    fn bytes_that_are_in_the_file_already_are_read_again_in_their_turn() {
        let bytes: Vec<u8> = (0..1_500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let file = tempfile::tempfile().unwrap();
        crate::position::write_all_at(&file, &bytes, 0).unwrap();
        let prover = |size| Prover::new(Verifier::for_content(Digest::sha256(&bytes), size));
        let size = bytes.len() as u64;
        let mut good = prover(size);
        good.update(&bytes[..1000]).unwrap();
        good.follow(&file, 1_400_000).unwrap();
        assert_eq!(good.seen(), 1_400_000);
        good.update(&bytes[1_400_000..]).unwrap();
        assert_eq!(good.finish().unwrap().digest(), Digest::sha256(&bytes));
        let mut long = prover(1000);
        assert!(matches!(long.follow(&file, 1001), Err(Broken::Wrong(Mismatch::Long { expected: 1000 }))));
        let mut gone = prover(size + 1);
        file.set_len(1_000_000).unwrap();
        // Who hashes notices, then or at the end.
        let outcome = gone.follow(&file, size).and_then(|()| gone.finish().map(drop));
        assert!(matches!(outcome, Err(Broken::Unreadable(_))), "{outcome:?}");
    }

    #[test]
    fn a_proof_that_failed_stays_failed() {
        let mut small = Prover::new(Verifier::for_content(Digest::sha256(b"ab"), 2));
        assert!(matches!(small.update(b"abc"), Err(Broken::Wrong(Mismatch::Long { expected: 2 }))));
        assert!(small.update(b"ab").is_err(), "the right bytes after wrong ones are wrong");
        assert!(small.finish().is_err());
        let mut prover = Prover::new(Verifier::for_content(Digest::sha256(b""), 3 << 20));
        let chunk = Arc::<[u8]>::from(vec![0; 1 << 20]);
        for _ in 0..3 {
            prover.update_shared(&chunk).unwrap();
        }
        assert!(matches!(prover.update_shared(&chunk), Err(Broken::Wrong(Mismatch::Long { .. }))));
        assert!(matches!(prover.update_shared(&chunk), Err(Broken::Wrong(Mismatch::Long { .. }))));
        assert!(matches!(prover.finish(), Err(Broken::Wrong(Mismatch::Long { .. }))));
    }
}
