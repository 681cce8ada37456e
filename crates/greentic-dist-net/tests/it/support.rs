//! What every test needs: a quick client, a reference, whole bodies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_net::{
    BlobStream, BodyStream, Credential, Event, Net, NetBuilder, NetError, Observer, Repository, RetryPolicy,
    StaticCredentials, Timeouts, UnverifiedBlobStream,
};
use greentic_dist_testkit::fixture::Artifact;
use greentic_dist_testkit::scenario::LyingRegistry;
use greentic_dist_types::{Descriptor, Digest, Reference};

/// Waits of milliseconds instead of seconds.
pub fn quick() -> NetBuilder {
    Net::builder()
        .retry(RetryPolicy { base: Duration::from_millis(1), cap: Duration::from_millis(4), ..RetryPolicy::default() })
        .timeouts(Timeouts {
            headers: Duration::from_millis(1_500),
            token: Duration::from_millis(1_500),
            idle_body: Duration::from_millis(300),
            ..Timeouts::default()
        })
}

pub fn net() -> Net {
    quick().build().unwrap()
}

/// Waits for what another task or the server does. Panics when it does not come.
#[track_caller]
pub fn until(happened: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let come = async {
            while !happened() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), come).await.is_ok(), "{caller}: it never happened");
    }
}

pub fn with_login(host: &str, user: &str, password: &str) -> NetBuilder {
    let login = Credential::Basic { username: user.into(), password: password.into() };
    quick().credentials(Arc::new(StaticCredentials::new().with(host, login)))
}

pub fn repository(net: &Net, reference: &str) -> Repository {
    net.repository(&Reference::parse(reference).unwrap())
}

pub fn descriptor(bytes: &[u8]) -> Descriptor {
    described(Digest::sha256(bytes), bytes.len())
}

pub fn described(digest: Digest, size: usize) -> Descriptor {
    Descriptor::new("application/wasm", digest, u64::try_from(size).unwrap())
}

pub fn layer_of(artifact: &Artifact) -> Descriptor {
    descriptor(artifact.layer_bytes())
}

/// The whole layer of a registry's artifact, verified.
pub async fn pull_layer(net: &Net, registry: &LyingRegistry) -> Result<Vec<u8>, NetError> {
    let repository = repository(net, &registry.reference());
    read(repository.blob(&layer_of(registry.artifact())).open().await?).await
}

pub async fn read(mut stream: BlobStream) -> Result<Vec<u8>, NetError> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

pub async fn read_unverified(mut stream: UnverifiedBlobStream) -> Result<Vec<u8>, NetError> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

pub async fn read_body(mut stream: BodyStream) -> Result<Vec<u8>, NetError> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

/// Writes down what happened.
#[derive(Debug, Default)]
pub struct Recorder {
    lines: Mutex<Vec<String>>,
    longest_wait: Mutex<Duration>,
}

impl Recorder {
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn longest_wait(&self) -> Duration {
        *self.longest_wait.lock().unwrap()
    }
}

impl Observer for Recorder {
    fn event(&self, event: &Event<'_>) {
        let line = match event {
            Event::Retry { attempt, delay, .. } => {
                let mut longest = self.longest_wait.lock().unwrap();
                *longest = longest.max(*delay);
                format!("retry {attempt}")
            }
            Event::Resume { offset, .. } => format!("resume {offset}"),
            Event::Warning { text, .. } => format!("warning {text}"),
            Event::Fallback { endpoint, .. } => format!("fallback {endpoint}"),
            _ => "other".to_owned(),
        };
        self.lines.lock().unwrap().push(line);
    }
}
