//! The choke point: every request of this crate, one hop each, leaves through [`Transport::send`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use greentic_dist_types::{Digest, SafeText};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument as _;
use url::{Host, Url};

use crate::caps::Limits;
use crate::cause::{Cause, classify};
use crate::config::{HttpRule, RangePolicy, RetryPolicy, Timeouts};
use crate::connect::Connects;
use crate::flight::Flights;
use crate::host::{HostConfig, HostSource, Liars, Profile};
use crate::limit::{HostLimit, HostLimits, Lane, Turn};
use crate::oci::auth::Access;
use crate::oci::{CredentialSource, FetchedManifest, Registry, Revalidated};
use crate::payload::{Opened, Payload, Watch};
use crate::pool::Pools;
use crate::proxy::ProxyRule;
use crate::sent::GivenSecrets;
use crate::splay::Splay;
use crate::stats::count;
use crate::target_policy::{Guard, Reach, TargetPolicy, reach_of};
use crate::trace::{Errand, Trace};
use crate::warning::Told;
use crate::{NetError, NetErrorKind, Observer};

/// Settings and shared state of all requests of one [`Net`](crate::Net).
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) offline: bool,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: RetryPolicy,
    pub(crate) limits: Limits,
    pub(crate) ranges: RangePolicy,
    pub(crate) http: HttpRule,
    pub(crate) policy: TargetPolicy,
    pub(crate) credentials: Option<Arc<dyn CredentialSource>>,
    /// Whether passwords are posted to token servers before they are sent as `Basic`.
    pub(crate) oauth2_passwords: bool,
    /// What was given away as a login, and is shown in no text of a server.
    pub(crate) secrets: GivenSecrets,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) told: Told,
    pub(crate) splay: Splay,
    pub(crate) proxy: ProxyRule,
    /// What is known of each host, the counters of what was done with it among it.
    pub(crate) hosts: HostLimits,
    pub(crate) user_agent: HeaderValue,
    pub(crate) hosts_config: HashMap<String, HostConfig>,
    pub(crate) host_source: Option<Arc<dyn HostSource>>,
    /// What other processes should know, and know, about mirrors.
    pub(crate) liars: Liars,
    /// Whether no mirror is asked what a name means.
    pub(crate) names_from_origin: bool,
    /// How connections to hosts without a configuration of their own are made.
    pub(crate) profile: Arc<Profile>,
    pub(crate) pools: Pools,
    /// Manifests that are being asked for.
    pub(crate) manifests: Flights<ManifestQuestion, FetchedManifest>,
    /// Tags that are being asked whether they changed.
    pub(crate) changes: Flights<ManifestQuestion, Revalidated>,
    /// Blobs that are being read into memory.
    pub(crate) blobs: Flights<BlobQuestion, Bytes>,
    /// How often something was written, which may change what a name means.
    pub(crate) writes: AtomicU64,
}

/// Which manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ManifestQuestion {
    /// As references write it: its mirrors are asked, too.
    pub(crate) registry: String,
    pub(crate) url: String,
    /// The `ETag` and the digest of what is known.
    pub(crate) known: Option<(Option<String>, Digest)>,
    /// What this client has written before: an answer from before a write is none to a question after it.
    pub(crate) writes: u64,
}

/// Which blob is read into memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlobQuestion {
    /// As in a [`ManifestQuestion`].
    pub(crate) registry: String,
    pub(crate) url: String,
    /// What a descriptor says, which decides what is an answer.
    pub(crate) size_bytes: u64,
    /// As in a [`ManifestQuestion`]: what is deleted is gone.
    pub(crate) writes: u64,
}

/// One request to one server.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    pub(crate) guard: Guard,
    pub(crate) profile: Arc<Profile>,
    pub(crate) lane: Lane,
    pub(crate) header_timeout: Duration,
    pub(crate) errand: Errand,
    /// Whether only the server that is asked may answer: no redirect to another one is followed.
    pub(crate) stays: bool,
}

/// The header of an answer, and its body to come. Holds its turn at the host until dropped.
#[derive(Debug)]
pub(crate) struct Reply {
    response: reqwest::Response,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// The mirror that answered, when it was one.
    pub(crate) mirror: Option<Arc<Registry>>,
    /// Where it was asked, when that is not where the question says.
    pub(crate) elsewhere: Option<Access>,
    /// Whether a redirect led away from the server that was asked.
    pub(crate) left_origin: bool,
    /// Whether the server that answered was asked for a part.
    pub(crate) asked_range: bool,
    /// What the name of the answering server was allowed to resolve to.
    pub(crate) guard: Guard,
    /// How near the answering server is.
    pub(crate) reach: Reach,
    pace: Pace,
    trace: Trace,
    turn: Turn,
}

/// Bytes and waiting time since the slowest allowed pace was last met.
#[derive(Debug, Default)]
struct Pace {
    bytes: u64,
    waited: Duration,
}

impl Transport {
    /// Sends one request and returns at the end of the answer's header, whatever its status.
    ///
    /// Cancel-safe: dropping the future gives up the request.
    ///
    /// # Errors
    /// `Offline`, `Timeout`, `Connect`, `Dns`, `Tls`, `Interrupted`, `Protocol`, `Refused`; `Source` and `Integrity` when the
    /// body cannot be read; `TooLarge` for a header beyond its limits.
    pub(crate) async fn send(&self, hop: Hop) -> Result<Reply, NetError> {
        let Hop { method, url, mut headers, body, guard, profile, lane, header_timeout, errand, stays: _ } = hop;
        let about = |error: NetError| error.for_request(&method, &url);
        if self.offline {
            return Err(about(NetError::new(NetErrorKind::Offline, "")));
        }
        self.splay.wait(&*self.observer).await;
        let host = self.hosts.of(&url);
        let Some(turn) = host.acquire(lane).await else {
            let detail = "the host has no room for another connection now";
            return Err(about(NetError::new(NetErrorKind::RateLimited, detail).not_repeatable()));
        };
        let apart = lane == Lane::Segment || host.wants_http1() || profile.http1_only();
        let (client, proxy) = self.client(&url, guard, apart, &profile).map_err(about)?;
        for (name, value) in profile.headers() {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.secrets.note_headers(&headers);
        if let Some(length) = body.content_length(&method) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let asked_range = headers.contains_key(header::RANGE);
        let mut request = reqwest::Request::new(method.clone(), url.clone());
        *request.headers_mut() = headers;
        // Opened after the turn came: what is waiting holds no file and no other request.
        let watch = match body.open().await.map_err(about)? {
            Opened::Bytes(bytes) => {
                *request.body_mut() = (!bytes.is_empty()).then(|| bytes.into());
                None
            }
            Opened::Feed(feed, watch) => {
                *request.body_mut() = Some(reqwest::Body::wrap(feed));
                Some(watch)
            }
        };
        count(&host.tally().requests);
        let (trace, connects) = (Trace::of(&method, &url, &errand), Connects::new(host.tally()));
        let answering = connects.around(client.execute(request)).instrument(trace.span().clone());
        let answer = self.answer(answering, watch.as_deref(), header_timeout, &host, &profile).await;
        let answer = match &proxy {
            Some(proxy) => proxy.judge(answer),
            None => answer,
        };
        let response = answer.inspect_err(|error| trace.span().in_scope(|| tracing::debug!(%error, "no answer")));
        let response = response.map_err(about)?;
        host.note(response.status(), &turn);
        trace.answered(response.status(), response.version(), connects.answered());
        self.limits.check_header(response.headers()).map_err(about)?;
        host.tally().note_rate_limit(response.headers());
        let peer = response.remote_addr().filter(|_| proxy.is_none()).map(|address| address.ip());
        let reach = peer.or_else(|| literal(&url)).map_or(Reach::Public, |ip| reach_of(ip).unwrap_or(Reach::Private));
        let pace = Pace::default();
        Ok(Reply {
            response,
            method,
            url,
            mirror: None,
            elsewhere: None,
            left_origin: false,
            asked_range,
            guard,
            reach,
            pace,
            trace,
            turn,
        })
    }

    /// Waits for the header of an answer: so long after the request was sent, and before that, so long while the peer takes
    /// nothing of its body.
    async fn answer(
        &self,
        answer: impl Future<Output = reqwest::Result<reqwest::Response>>,
        watch: Option<&Watch>,
        header_timeout: Duration,
        host: &HostLimit,
        profile: &Profile,
    ) -> Result<reqwest::Response, NetError> {
        let mut answer = std::pin::pin!(answer);
        let begun = Instant::now();
        let deadline = || watch.map_or(begun + header_timeout, |watch| watch.deadline(&self.timeouts, header_timeout));
        let outcome = loop {
            let until = deadline();
            match timeout_at(until, &mut answer).await {
                Ok(outcome) => break Some(outcome),
                Err(_elapsed) if deadline() > until => {}
                Err(_elapsed) => break None,
            }
        };
        if let Some(watch) = watch {
            watch.count(host.tally());
            // A peer that has answered before it read all of the body has decided; otherwise the body is why.
            if let (Some(failure), None | Some(Err(_))) = (watch.failure(), &outcome) {
                return Err(failure);
            }
        }
        outcome.map_or_else(
            || {
                let waited = begun.elapsed().as_secs_f32();
                Err(NetError::new(NetErrorKind::Timeout, format!("no answer within {waited:.0} s")))
            },
            |outcome| outcome.map_err(|error| classify(error, host, profile, &self.limits)),
        )
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) => None,
    }
}

impl Reply {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header's value, when it is readable text.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The content encoding the body is said to have, what was sent as a login blanked in it; `None` for none.
    pub(crate) fn encoding(&self, secrets: &GivenSecrets) -> Option<SafeText> {
        let mut said = self.headers().get_all(header::CONTENT_ENCODING).iter();
        let value = said.find(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))?;
        Some(SafeText::new(&secrets.known().blank(&String::from_utf8_lossy(value.as_bytes()))))
    }

    /// The announced size of the body in bytes.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// The next piece of the body as it came from the socket, `None` at its end. Cancel-safe.
    ///
    /// # Errors
    /// `Timeout` after a silence or below the slowest allowed pace, `Interrupted` when the connection ends.
    pub(crate) async fn chunk(&mut self, transport: &Transport) -> Result<Option<Bytes>, NetError> {
        let timeouts = &transport.timeouts;
        let asked = Instant::now();
        let error = match timeout(timeouts.idle_body, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                self.turn.host().tally().bytes_received.fetch_add(length, Ordering::Relaxed);
                self.trace.received(length);
                match self.pace.add(length, asked.elapsed(), timeouts) {
                    Ok(()) => return Ok(Some(chunk)),
                    Err(error) => error,
                }
            }
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => {
                Cause::of(&error).note(self.turn.host());
                NetError::new(NetErrorKind::Interrupted, "").with_source(error.without_url())
            }
            Err(_elapsed) => {
                let detail = format!("the body stalled for {} s", timeouts.idle_body.as_secs_f32());
                NetError::new(NetErrorKind::Timeout, detail)
            }
        };
        Err(error.for_request(&self.method, &self.url).blanked(&transport.secrets.no_words()))
    }

    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// `TooLarge` as soon as the header or the bytes exceed the limit; otherwise as [`Reply::chunk`].
    pub(crate) async fn read(&mut self, transport: &Transport, limit: u64) -> Result<Bytes, NetError> {
        let too_large = |reply: &Self| {
            NetError::integrity(greentic_dist_types::Mismatch::TooLarge { limit })
                .for_request(&reply.method, &reply.url)
        };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(self));
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(chunk) = self.chunk(transport).await? {
            let total = first.len().saturating_add(rest.len()).saturating_add(chunk.len());
            if u64::try_from(total).unwrap_or(u64::MAX) > limit {
                return Err(too_large(self));
            }
            if first.is_empty() && rest.is_empty() {
                first = chunk;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                    first = Bytes::new();
                }
                rest.extend_from_slice(&chunk);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }

    /// Reads a small body to its end so that the connection can be used again; gives up quickly otherwise.
    pub(crate) async fn drain(mut self, transport: &Transport) {
        let limit = transport.limits.error_body_bytes;
        if self.content_length().is_some_and(|length| length > limit) {
            return;
        }
        // Whatever happens here only decides whether the connection lives on.
        drop(timeout(Duration::from_secs(1), self.read(transport, limit)).await);
    }
}

impl Pace {
    fn add(&mut self, bytes: u64, waited: Duration, timeouts: &Timeouts) -> Result<(), NetError> {
        let Some(slowest) = timeouts.slowest_body else { return Ok(()) };
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.waited < slowest.window {
            return Ok(());
        }
        let Self { bytes, waited } = std::mem::take(self);
        if bytes >= slowest.bytes {
            return Ok(());
        }
        let detail = format!("only {bytes} bytes arrived in {:.0} s", waited.as_secs_f32());
        // Another connection would be as slow now; later may be another matter.
        Err(NetError::new(NetErrorKind::Timeout, detail).not_repeatable())
    }
}
