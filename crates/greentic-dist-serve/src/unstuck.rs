//! A connection that gives up on a peer that takes next to nothing for too long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::connection::Peer;

/// How long a peer may take to take [`ENOUGH_BYTES`], or everything when that is less.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a peer must take in that time, when it can: some 2 KiB/s.
const ENOUGH_BYTES: usize = 64 << 10;

/// A stream whose writes fail with `TimedOut` when the peer has taken less than 64 KiB in thirty seconds, and that tells what moves.
#[derive(Debug)]
pub(crate) struct Unstuck {
    peer: Arc<Peer>,
    patience: Duration,
    /// Runs since a write had to wait.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since then.
    taken_bytes: usize,
}

impl Unstuck {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        Self { peer, patience: PATIENCE, alarm: None, taken_bytes: 0 }
    }

    /// Lets a write through that got somewhere, and lets the alarm decide about one that waits.
    fn watched(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &poll {
            self.peer.took();
            self.taken_bytes = self.taken_bytes.saturating_add(*written.as_ref().unwrap_or(&0));
            if self.taken_bytes >= ENOUGH_BYTES {
                self.rest();
            }
            return poll;
        }
        let patience = self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(alarm.as_mut().poll(cx));
        alarm.as_mut().reset(Instant::now() + patience);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes next to nothing")))
    }

    /// Nothing waits to be taken, or enough was.
    fn rest(&mut self) {
        self.alarm = None;
        self.taken_bytes = 0;
    }
}

impl AsyncRead for Unstuck {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut *self.peer.stream()).poll_read(cx, buf);
        self.peer.sent(buf.filled().len().saturating_sub(before));
        poll
    }
}

impl AsyncWrite for Unstuck {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut *self.peer.stream()).poll_write(cx, buf);
        self.watched(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut *self.peer.stream()).poll_write_vectored(cx, bufs);
        self.watched(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.peer.stream().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.rest();
        Pin::new(&mut *self.peer.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.peer.stream()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = Unstuck { patience: Duration::from_millis(100), ..Unstuck::new(Arc::new(Peer::new(stream))) };
        let piece = vec![0; 64 << 10];
        let error = loop {
            match stream.write_all(&piece).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(peer);
    }

    #[tokio::test]
    async fn a_peer_that_takes_a_little_now_and_then_is_given_up_and_one_that_takes_enough_is_not() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let patience = Duration::from_millis(50);
        let mut stream = Unstuck { patience, ..Unstuck::new(Arc::new(Peer::new(stream))) };
        for (taken_bytes, given_up) in [(ENOUGH_BYTES - 1, true), (ENOUGH_BYTES, false)] {
            stream.rest();
            let waits = poll_fn(|cx| Poll::Ready(stream.watched(cx, Poll::Pending).is_pending()));
            assert!(waits.await);
            sleep(patience * 2).await;
            let after = poll_fn(|cx| {
                assert!(stream.watched(cx, Poll::Ready(Ok(taken_bytes))).is_ready());
                Poll::Ready(stream.watched(cx, Poll::Pending))
            });
            assert_eq!(after.await.is_ready(), given_up, "{taken_bytes}");
        }
    }
}
