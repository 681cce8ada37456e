//! Hashing beside writing: from some size on a second thread hashes while the first one writes, so that a large artifact
//! takes as long as the slower of both and not as their sum.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use greentic_dist_types::{Mismatch, Verified, Verifier};

/// Bytes after which hashing gets a thread of its own; below, starting one costs more than it gains.
const BESIDE_BYTES: u64 = 2 << 20;
/// Chunks that may wait for the hashing thread. They are shared with the writer, not copied.
const DEPTH: usize = 4;
/// Most bytes that are copied for the hashing thread at a time, so that what waits for it stays small.
const COPY_BYTES: usize = 256 << 10;

/// Bytes that a thread may keep for a while.
type Chunk = Box<dyn AsRef<[u8]> + Send>;

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
        thread: JoinHandle<Result<Verifier, Mismatch>>,
    },
    /// The proof failed, with this.
    Failed(Mismatch),
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
    pub(crate) fn update(&mut self, data: &[u8]) -> Result<(), Mismatch> {
        if !matches!(self.state, State::Beside { .. }) {
            return self.take(data, || Box::new([0_u8; 0]));
        }
        data.chunks(COPY_BYTES).try_for_each(|chunk| self.take(chunk, || Box::new(chunk.to_vec())))
    }

    /// Takes bytes that are cheap to share.
    pub(crate) fn update_shared<B>(&mut self, data: &B) -> Result<(), Mismatch>
    where
        B: AsRef<[u8]> + Clone + Send + 'static,
    {
        if self.seen >= BESIDE_BYTES {
            self.go_beside();
        }
        self.take(data.as_ref(), || Box::new(data.clone()))
    }

    fn take(&mut self, data: &[u8], owned: impl FnOnce() -> Chunk) -> Result<(), Mismatch> {
        let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match &mut self.state {
            State::Here(verifier) => {
                if let Err(mismatch) = verifier.update(data) {
                    self.state = State::Failed(mismatch);
                    return Err(mismatch);
                }
            }
            State::Failed(mismatch) => return Err(*mismatch),
            State::Beside { chunks, .. } => {
                // The thread says what is wrong; nothing beyond the limit is to be written meanwhile.
                // The send waits while the queue is full; the thread waits for nothing else, so it ends.
                if chunks.send(owned()).is_err() || count > self.remaining {
                    return Err(self.failure());
                }
            }
        }
        self.seen += count;
        self.remaining = self.remaining.saturating_sub(count);
        Ok(())
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
    fn failure(&mut self) -> Mismatch {
        let limit = self.seen.saturating_add(self.remaining);
        let mismatch = match std::mem::replace(&mut self.state, State::Failed(Mismatch::TooLarge { limit })) {
            State::Beside { chunks, thread } => {
                drop(chunks);
                join(thread).err()
            }
            State::Failed(mismatch) => Some(mismatch),
            State::Here(_) => None,
        }
        .unwrap_or(Mismatch::TooLarge { limit });
        self.state = State::Failed(mismatch);
        mismatch
    }

    /// Ends the proof.
    pub(crate) fn finish(self) -> Result<Verified, Mismatch> {
        match self.state {
            State::Here(verifier) => verifier.finish(),
            State::Failed(mismatch) => Err(mismatch),
            State::Beside { chunks, thread } => {
                drop(chunks);
                join(thread)?.finish()
            }
        }
    }
}

fn hash_all(mut verifier: Verifier, chunks: Receiver<Chunk>) -> Result<Verifier, Mismatch> {
    for chunk in chunks {
        verifier.update((*chunk).as_ref())?;
    }
    Ok(verifier)
}

fn join(thread: JoinHandle<Result<Verifier, Mismatch>>) -> Result<Verifier, Mismatch> {
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

    fn prove(expected: &[u8], sent: &[u8], shared: bool) -> Result<Verified, Mismatch> {
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
            assert!(matches!(prove(&right, &wrong, shared), Err(Mismatch::Digest { .. })));
            assert!(matches!(prove(&right, &right[..5_000_000], shared), Err(Mismatch::Short { .. })));
            assert!(matches!(prove(&right, &long, shared), Err(Mismatch::Long { expected: 6_000_000 })));
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
    fn a_proof_that_failed_stays_failed() {
        let mut small = Prover::new(Verifier::for_content(Digest::sha256(b"ab"), 2));
        assert!(matches!(small.update(b"abc"), Err(Mismatch::Long { expected: 2 })));
        assert!(small.update(b"ab").is_err(), "the right bytes after wrong ones are wrong");
        assert!(small.finish().is_err());
        let mut prover = Prover::new(Verifier::for_content(Digest::sha256(b""), 3 << 20));
        let chunk = Arc::<[u8]>::from(vec![0; 1 << 20]);
        for _ in 0..3 {
            prover.update_shared(&chunk).unwrap();
        }
        assert!(matches!(prover.update_shared(&chunk), Err(Mismatch::Long { .. })));
        assert!(matches!(prover.update_shared(&chunk), Err(Mismatch::Long { .. })));
        assert!(matches!(prover.finish(), Err(Mismatch::Long { .. })));
    }
}
