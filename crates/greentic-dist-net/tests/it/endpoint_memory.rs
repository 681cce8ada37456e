//! Mirrors that lied are written down for others, and what others wrote down counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_net::{
    BlobEvent, BoxFuture, Capabilities, EndpointMemory, HostConfig, HostEndpoint, Net, NetBuilder, NetError,
    NetErrorKind, Selector,
};
use greentic_dist_testkit::fixture::{self, Artifact};
use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Scenario};
use tokio::sync::Notify;

use crate::mirrors::own_ip;
use crate::support::{layer_of, quick, read, repository};

/// A memory in this process that says in which order it was used.
#[derive(Debug, Default)]
struct Notes {
    known: Vec<(String, Duration)>,
    lines: Mutex<Vec<String>>,
}

impl Notes {
    fn say(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl EndpointMemory for Notes {
    fn recall(&self) -> BoxFuture<'_, Vec<(String, Duration)>> {
        self.say("recall".to_owned());
        Box::pin(std::future::ready(self.known.clone()))
    }

    fn remember<'a>(&'a self, endpoint: &'a str, time: Duration) -> BoxFuture<'a, ()> {
        self.say(format!("{endpoint} {}", time.as_secs()));
        Box::pin(std::future::ready(()))
    }
}

/// A memory that never comes to an end of the first line it is to write.
#[derive(Debug, Default)]
struct Stuck {
    asked: AtomicBool,
    writes: Notify,
}

impl EndpointMemory for Stuck {
    fn recall(&self) -> BoxFuture<'_, Vec<(String, Duration)>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn remember<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, ()> {
        Box::pin(async {
            if !self.asked.swap(true, Ordering::Relaxed) {
                self.writes.notify_one();
                std::future::pending::<()>().await;
            }
        })
    }
}

fn artifact() -> Artifact {
    fixture::artifact("application/wasm", fixture::random_bytes(78, 100_000))
}

fn origin() -> LyingRegistry {
    Scenario::new(artifact()).start()
}

fn mirror(lies: impl IntoIterator<Item = Lie>) -> LyingRegistry {
    lies.into_iter().fold(Scenario::new(artifact()).on(own_ip()), Scenario::lie).start()
}

fn behind<M: EndpointMemory + 'static>(origin: &LyingRegistry, mirror: &LyingRegistry, memory: &Arc<M>) -> NetBuilder {
    let endpoint = HostEndpoint::new(mirror.url()).capabilities(Capabilities::PULL);
    quick().host(HostConfig::new(origin.host()).mirror(endpoint)).endpoint_memory(Arc::clone(memory) as _)
}

async fn manifest(net: &Net, origin: &LyingRegistry) -> Result<(), NetError> {
    let digest = origin.artifact().manifest_digest;
    repository(net, &origin.reference()).manifest(Selector::Digest(digest)).await.map(drop)
}

async fn blob(net: &Net, origin: &LyingRegistry) -> Result<(), NetError> {
    read(repository(net, &origin.reference()).blob(&layer_of(origin.artifact())).open().await?).await.map(drop)
}

#[tokio::test]
async fn a_liar_is_written_down_once_and_at_once() {
    let (origin, liar, notes) = (origin(), mirror([Lie::WrongManifestEchoed]), Arc::<Notes>::default());
    let net = behind(&origin, &liar, &notes).build().unwrap();
    let noted = format!("{} 600", liar.url());
    manifest(&net, &origin).await.unwrap();
    assert_eq!(notes.lines(), ["recall".to_owned(), noted.clone()]);
    manifest(&net, &origin).await.unwrap();
    manifest(&behind(&origin, &liar, &notes).build().unwrap(), &origin).await.unwrap();
    assert_eq!(notes.lines(), ["recall".to_owned(), noted, "recall".to_owned()], "each client recalls once");
    assert_eq!(liar.journal().len(), 1);
}

#[tokio::test]
async fn a_blob_that_turns_out_wrong_is_written_down_before_its_consumer_hears_of_it() {
    let (origin, liar, notes) = (origin(), mirror([Lie::WrongBlob]), Arc::<Notes>::default());
    let net = behind(&origin, &liar, &notes).build().unwrap();
    assert_eq!(blob(&net, &origin).await.unwrap_err().kind(), NetErrorKind::Integrity);
    assert_eq!(notes.lines(), ["recall".to_owned(), format!("{} 600", liar.url())]);
    // Where the consumer finds it out, with the next question.
    let (liar, notes) = (mirror([Lie::WrongBlob]), Arc::<Notes>::default());
    let net = behind(&origin, &liar, &notes).build().unwrap();
    let request = repository(&net, &origin.reference()).blob(&layer_of(origin.artifact()));
    let mut stream = request.open_unverified().await.unwrap();
    while let Some(piece) = stream.next().await {
        piece.unwrap();
    }
    drop(stream.refute());
    assert_eq!(notes.lines(), ["recall"]);
    manifest(&net, &origin).await.unwrap();
    assert_eq!(notes.lines()[1], format!("{} 600", liar.url()));
}

#[tokio::test]
async fn a_refusal_outlives_a_consumer_that_does_not_wait_for_it_to_be_written_down() {
    let (origin, liar, memory) = (origin(), mirror([Lie::WrongBlob]), Arc::<Stuck>::default());
    let net = behind(&origin, &liar, &memory).build().unwrap();
    let ends = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&ends);
    let request = repository(&net, &origin.reference()).blob(&layer_of(origin.artifact()));
    let mut stream = request
        .progress(move |event| match event {
            BlobEvent::Verified => told.lock().unwrap().push("verified"),
            BlobEvent::Done => told.lock().unwrap().push("done"),
            BlobEvent::Failed { .. } => told.lock().unwrap().push("failed"),
            _ => {}
        })
        .open()
        .await
        .unwrap();
    loop {
        tokio::select! {
            next = stream.next() => drop(next.unwrap().unwrap()),
            () = memory.writes.notified() => break,
        }
    }
    for _ in 0..2 {
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Integrity);
    }
    assert_eq!(*ends.lock().unwrap(), ["failed"]);
}

#[tokio::test]
async fn what_another_process_wrote_down_is_not_asked_and_the_origin_is() {
    let (origin, honest) = (origin(), mirror([]));
    let known = [origin.url(), honest.url()].map(|url| (url, Duration::from_secs(500))).to_vec();
    let notes = Arc::new(Notes { known, ..Notes::default() });
    let net = behind(&origin, &honest, &notes).build().unwrap();
    manifest(&net, &origin).await.unwrap();
    blob(&net, &origin).await.unwrap();
    assert_eq!((honest.journal().len(), origin.journal().len()), (0, 2));
    assert_eq!(notes.lines(), ["recall"]);
}

#[tokio::test]
async fn a_memory_is_not_asked_where_no_mirror_would_be() {
    let (origin, honest, notes) = (origin(), mirror([]), Arc::<Notes>::default());
    let offline = behind(&origin, &honest, &notes).offline(true).build().unwrap();
    assert_eq!(manifest(&offline, &origin).await.unwrap_err().kind(), NetErrorKind::Offline);
    let alone = quick().endpoint_memory(Arc::clone(&notes) as _).build().unwrap();
    manifest(&alone, &origin).await.unwrap();
    assert!(notes.lines().is_empty());
}
