//! Pushing a blob in chunks, with our own count of what was sent.
//!
//! What the registry says in `Range` is never more than a check: `0-0` is one byte or none (docker-registry 2.8), some
//! registries answer 201 to the first chunk and lose the rest (ECR), some take chunks out of order instead of refusing them
//! with 416. After a failed chunk the registry is asked how far it came (end-13).

use http::{HeaderValue, Method, StatusCode, header};

use super::session::{Session, WRITTEN};
use super::upload::{BlobUpload, CHUNK_BYTES, Failure, Step};
use crate::exchange::Collected;
use crate::{Limit, NetError, NetErrorKind};

/// The first byte of the next chunk, as an answer tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing, or nothing that can be understood.
    Nothing,
    /// `0-0`: one byte, or none.
    OneOrNone,
    /// This many bytes are there.
    Bytes(u64),
}

impl BlobUpload {
    /// Sends the blob chunk by chunk and ends the session.
    pub(super) async fn send_chunks(&self, session: &mut Session, chunk_bytes: u64) -> Result<(), Failure> {
        let descriptor = self.source.descriptor();
        let size = descriptor.size_bytes;
        let chunk = self.chunk(session, chunk_bytes).map_err(|error| Failure { error, step: Step::Before })?;
        let again = || self.retry().map_err(|error| Failure { error, step: Step::Before });
        let mut retry = again()?;
        let mut offset = 0;
        while offset < size {
            let end = offset.saturating_add(chunk).min(size);
            match self.patch(session, offset, end).await {
                Ok(answer) => {
                    session.follow(&answer).map_err(|error| Failure { error, step: Step::Lost })?;
                    offset = advanced(told(&answer), offset, end).ok_or_else(|| diverged(&answer))?;
                    retry = again()?;
                }
                Err(error) if error.status() == Some(404) || error.has_code("BLOB_UPLOAD_UNKNOWN") => {
                    return Err(Failure { error, step: Step::Lost });
                }
                Err(error) => {
                    // A chunk out of place is no failure of the network, but it is cured the same way.
                    let error = if error.status() == Some(416) { error.with_transient(true) } else { error };
                    let pause = self.repository.transport().pause(&mut retry, error).await;
                    pause.map_err(|error| Failure { error, step: Step::Before })?;
                    offset = self.recover(session, offset, end).await?;
                }
            }
        }
        let mut ask = session.commit(&descriptor.digest);
        self.load(&mut ask, size, 0);
        self.finish(&ask).await
    }

    /// The size of the chunks.
    fn chunk(&self, session: &Session, wanted: u64) -> Result<u64, NetError> {
        let least = session.min_chunk_bytes();
        let limits = &self.repository.transport().limits;
        if least > limits.least_chunk_bytes {
            return Err(limits.exceeded(Limit::LeastChunkBytes).with_kind(NetErrorKind::Protocol));
        }
        if !self.source.is_replayable() {
            return Ok(u64::MAX);
        }
        Ok(if wanted == 0 { CHUNK_BYTES } else { wanted }.max(least))
    }

    /// Sends the bytes from `first` up to `end` (end-5).
    async fn patch(&self, session: &Session, first: u64, end: u64) -> Result<Collected, NetError> {
        let mut ask = session.ask(Method::PATCH, WRITTEN);
        self.load(&mut ask, first, end.saturating_sub(first));
        let range = format!("{first}-{}", end.saturating_sub(1));
        ask.set(header::CONTENT_RANGE, HeaderValue::from_str(&range).ok());
        self.repository.transport().tell_once(&ask).await
    }

    /// Asks how much the registry has, after a chunk from `first` to `end` did not get through.
    async fn recover(&self, session: &mut Session, first: u64, end: u64) -> Result<u64, Failure> {
        let ask = session.ask(Method::GET, &[StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED]);
        let answer = self.repository.transport().tell(&ask).await;
        let answer = answer.map_err(|error| {
            let step = if error.status() == Some(404) { Step::Lost } else { Step::Diverged };
            Failure { error, step }
        })?;
        session.follow(&answer).map_err(|error| Failure { error, step: Step::Lost })?;
        let there = match told(&answer) {
            Told::OneOrNone if first == 0 => Some(0),
            Told::Bytes(there) => Some(there).filter(|there| (first..=end).contains(there)),
            Told::OneOrNone | Told::Nothing => None,
        };
        there.ok_or_else(|| diverged(&answer))
    }
}

/// Where to go on after a chunk from `first` to `end` was accepted; `None` when the registry has something else.
fn advanced(told: Told, first: u64, end: u64) -> Option<u64> {
    match told {
        // What it does not say, the digest at the end will.
        Told::Nothing => Some(end),
        Told::OneOrNone => (end == 1).then_some(1),
        // A part of a chunk is a step, too.
        Told::Bytes(there) => (first < there && there <= end).then_some(there),
    }
}

fn told(answer: &Collected) -> Told {
    let Some(range) = answer.header(header::RANGE) else { return Told::Nothing };
    let range = range.trim();
    match range
        .strip_prefix("bytes=")
        .unwrap_or(range)
        .split_once('-')
        .map(|(first, last)| (first, last.parse::<u64>()))
    {
        Some(("0", Ok(0))) => Told::OneOrNone,
        Some(("0", Ok(last))) => Told::Bytes(last.saturating_add(1)),
        _ => Told::Nothing,
    }
}

fn diverged(answer: &Collected) -> Failure {
    let detail = "the registry does not have the chunks it was sent";
    let error = NetError::new(NetErrorKind::Protocol, detail).for_request(&Method::PATCH, &answer.url);
    Failure { error, step: Step::Diverged }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_s_count_is_a_check_of_our_own() {
        assert_eq!(advanced(Told::Nothing, 4, 8), Some(8));
        assert_eq!(advanced(Told::Bytes(8), 4, 8), Some(8));
        assert_eq!(advanced(Told::Bytes(6), 4, 8), Some(6));
        for other in [Told::Bytes(4), Told::Bytes(3), Told::Bytes(9), Told::OneOrNone] {
            assert_eq!(advanced(other, 4, 8), None, "{other:?}");
        }
        assert_eq!(advanced(Told::OneOrNone, 0, 1), Some(1));
        assert_eq!(advanced(Told::OneOrNone, 0, 2), None);
    }
}
