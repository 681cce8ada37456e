//! `https://` sources: a plain GET over the same transport. The URL names no digest, so that only the bytes can tell it.

use std::sync::Arc;

use greentic_dist_net::{HttpAnswer, is_loopback};
use greentic_dist_store::{Entry, EntryDraft, RefRecord};
use greentic_dist_types::{Digest, Verified, media_type, redact_url};

use crate::blocking;
use crate::dist::client::Inner;
use crate::dist::identity::{canonical_url, component_id_of_url};
use crate::dist::transfer;
use crate::dist::{
    ArtifactDescriptor, ArtifactSourceKind, ArtifactType, DistError, InvalidRefReason, ResolvedVia, fetch,
};
use crate::progress::Event;

/// Brings the bytes of a URL into the cache, or revalidates the ones that are there. The flag says whether bytes moved.
///
/// Order of checks: offline, then the URL, then its security.
pub(crate) async fn fetch_url(inner: &Arc<Inner>, url: &str, source_offline: bool) -> Result<(Entry, bool), DistError> {
    let offline = inner.is_offline(source_offline);
    if offline {
        let (_, known) = recall(inner, url, true).await?;
        return known.map(|entry| (entry, false)).ok_or_else(|| DistError::Offline { reference: redact_url(url) });
    }
    let parsed = check_url(inner, url)?;
    let shown = redact_url(url);
    // Nobody else waits for a lock while this client waits for its time.
    inner.net(&shown)?.wait_to_begin().await.map_err(|error| DistError::from_net(&shown, error))?;
    let lock = transfer::lock(inner, &shown, Digest::sha256(url.as_bytes())).await?;
    // Under the lock: whoever had it before may have brought the bytes.
    let (memory, known) = recall(inner, url, false).await?;
    let mut request = inner
        .net(&shown)?
        .get(url)
        .max_bytes(inner.limits.artifact_bytes)
        .allow_loopback_http(inner.options.allow_insecure_local_http);
    if let (Some(etag), Some(_)) = (memory.as_ref().and_then(|memory| memory.etag.as_deref()), &known) {
        request = request.if_none_match(etag);
    }
    let answer = request.open().await.map_err(|error| DistError::from_net(&shown, error))?;
    let body = match (answer, known) {
        (HttpAnswer::NotModified, Some(entry)) => return Ok((entry, false)),
        (HttpAnswer::NotModified, None) => {
            return Err(DistError::CorruptArtifact {
                reference: shown,
                reason: "the server answered `not modified` to a request that named no earlier copy".into(),
            });
        }
        (HttpAnswer::Body(body), _) => body,
    };
    let content_type = body.content_type().map_or_else(|| media_type::WASM.to_owned(), media_type::essence);
    let etag = body.etag().map(ToOwned::to_owned);
    inner.reporter.event(&Event::Started { reference: &shown, total_bytes: body.size_bytes(), resumed_at: 0 });
    let ingest = {
        let (inner, shown) = (Arc::clone(inner), shown.clone());
        blocking::run(move || {
            inner
                .store
                .ingest_measured(inner.limits.artifact_bytes)
                .map_err(|error| DistError::from_store(&shown, error))
        })
        .await?
    };
    let draft = {
        let url = url.to_owned();
        move |verified: Verified| draft(&url, &parsed, &content_type, verified)
    };
    let published = match transfer::stream_into_store(inner, &shown, body, ingest, lock, draft).await {
        Ok(published) => published,
        Err(error) => {
            inner.reporter.event(&Event::Failed { reference: &shown });
            return Err(error);
        }
    };
    remember(inner, url, etag, &published.entry).await?;
    inner.reporter.event(&Event::Finished { reference: &shown, bytes: published.entry.record.size_bytes });
    Ok((published.entry, true))
}

fn check_url(inner: &Inner, url: &str) -> Result<url::Url, DistError> {
    let parsed = url::Url::parse(url).map_err(|error| DistError::InvalidRef {
        reference: redact_url(url),
        source: Box::new(InvalidRefReason::Url(error)),
    })?;
    let insecure = || DistError::InsecureUrl { url: redact_url(url) };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(DistError::InvalidInput(format!(
            "`{}` carries a user name or password; credentials do not belong into a URL",
            redact_url(url)
        )));
    }
    match parsed.scheme() {
        "https" => Ok(parsed),
        "http" if inner.options.allow_insecure_local_http && is_loopback(&parsed) && is_plain_host(url, &parsed) => {
            Ok(parsed)
        }
        _ => Err(insecure()),
    }
}

/// Whether the host stands in the text as it is understood: `127.0.0.1` and not `2130706433`.
fn is_plain_host(url: &str, parsed: &url::Url) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = match parsed.port() {
        Some(_) => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
        None => authority,
    };
    parsed.host_str().is_some_and(|understood| understood.eq_ignore_ascii_case(host))
}

fn draft(url: &str, parsed: &url::Url, content_type: &str, verified: Verified) -> EntryDraft {
    let descriptor = ArtifactDescriptor {
        artifact_type: ArtifactType::Component,
        source_kind: ArtifactSourceKind::Https,
        // A query may hold a signature: what is written down is the redacted form.
        raw_ref: redact_url(url),
        canonical_ref: canonical_url(&redact_url(url), &verified.digest()),
        digest: verified.digest().to_string(),
        media_type: content_type.to_owned(),
        size_bytes: verified.size_bytes(),
        created_at: None,
        annotations: serde_json::Map::new(),
        manifest_digest: None,
        resolved_via: ResolvedVia::Https,
        signature_refs: Vec::new(),
        sbom_refs: Vec::new(),
    };
    let mut record = fetch::record(&descriptor);
    record.content_digest = Some(verified.digest());
    record.component_id = Some(component_id_of_url(parsed));
    EntryDraft { pin: None, manifest: None, record, sidecars: Vec::new() }
}

async fn recall(inner: &Arc<Inner>, url: &str, offline: bool) -> Result<(Option<RefRecord>, Option<Entry>), DistError> {
    let (inner, url) = (Arc::clone(inner), url.to_owned());
    blocking::run(move || {
        let wrap = |error| DistError::from_store(&redact_url(&url), error);
        let Some(memory) = inner.store.recall(&memory_key(&url)).map_err(wrap)? else { return Ok((None, None)) };
        // Only a copy that proves itself may be answered by "not modified".
        let entry = match inner.store.open(&memory.pin, inner.proof) {
            Ok(open) => open.map(|open| open.entry),
            Err(error) if offline => return Err(wrap(error)),
            Err(_) => None,
        };
        Ok((Some(memory), entry))
    })
    .await
}

/// The name of a URL in `refs/`, without anything secret: the redacted URL and the digest of the whole one.
fn memory_key(url: &str) -> String {
    format!("{} {}", redact_url(url), Digest::sha256(url.as_bytes()))
}

async fn remember(inner: &Arc<Inner>, url: &str, etag: Option<String>, entry: &Entry) -> Result<(), DistError> {
    let mut record = RefRecord::new(memory_key(url), entry.pin, inner.now_secs());
    record.etag = etag;
    let inner = Arc::clone(inner);
    blocking::run(move || {
        // A URL that cannot be written down costs a transfer later, not the artifact now.
        if let Err(error) = inner.store.remember(&record) {
            tracing::debug!(%error, "a URL was not remembered");
        }
        Ok(())
    })
    .await
}
