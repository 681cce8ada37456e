//! The list of referrers under a tag, for registries that do not keep one (distribution-spec, "Referrers Tag Schema").

use bytes::Bytes;
use greentic_dist_types::media_type::OCI_INDEX;
use greentic_dist_types::{Descriptor, Digest, ManifestError, ManifestKind, parse_manifest_within};
use http::{HeaderValue, Method, header};
use serde_json::{Map, Value, json};

use super::auth::Action;
use super::manifest::FetchedManifest;
use super::repository::{Repository, Selector};
use super::session::WRITTEN;
use crate::exchange::Ask;
use crate::payload::Payload;
use crate::{Limit, Limits, NetError, NetErrorKind};

/// How often a list is written before a race is given up.
const TRIES: usize = 3;

/// What a list of referrers is to have, or to have no more.
#[derive(Debug)]
pub(super) enum Change {
    /// This manifest.
    Add(Box<Descriptor>),
    /// Not the manifest of this digest.
    Remove(Digest),
}

/// The tag under which the referrers of a subject are listed: its digest, with what no tag may hold replaced and both parts cut.
pub(super) fn referrers_tag(subject: &Digest) -> String {
    let part = |text: &str, most: usize| -> String {
        let legal = |ch: char| if ch.is_ascii_alphanumeric() || matches!(ch, '_' | '.' | '-') { ch } else { '-' };
        text.chars().take(most).map(legal).collect()
    };
    format!("{}-{}", part(subject.algorithm().name(), 32), part(&subject.to_hex(), 64))
}

/// The list under the tag; `None` when there is none.
///
/// # Errors
/// `Protocol` when the tag names something else; otherwise by cause. Never "none" when it could not be asked.
pub(super) async fn list(
    repository: &Repository,
    action: Action,
    subject: &Digest,
    limits: &Limits,
) -> Result<Option<FetchedManifest>, NetError> {
    let tag = referrers_tag(subject);
    match repository.manifest_within(action, Selector::Tag(&tag), limits).await {
        Ok(list) if matches!(list.kind, ManifestKind::Index(_)) => Ok(Some(list)),
        Ok(_) => {
            let detail = format!("the tag {tag}, which lists the referrers of a manifest, is no index");
            Err(NetError::new(NetErrorKind::Protocol, detail))
        }
        Err(error) if matches!(error.status(), Some(404 | 410)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Brings a change into the list of a subject.
///
/// Read, write where the registry allows it only if nobody else wrote meanwhile, and read again, since most registries do not
/// look at that condition. A list that is as wanted is not written. One is read however long others made it, so that something can
/// be taken out of it, and never made longer than this client reads it otherwise.
///
/// # Errors
/// `TooLarge` where there is no room for one more; `Conflict` when somebody else's list was there each time; otherwise by cause.
pub(super) async fn change(
    repository: &Repository,
    action: Action,
    subject: &Digest,
    change: &Change,
) -> Result<(), NetError> {
    let limits = repository.transport().limits;
    let widest = [Limit::ManifestBytes, Limit::IndexEntries, Limit::AnnotationBytes]
        .into_iter()
        .fold(limits, |limits, limit| limits.with(limit, u64::MAX));
    for _ in 0..TRIES {
        let current = list(repository, action.clone(), subject, &widest).await?;
        let Some(next) = changed(current.as_ref(), change)? else { return Ok(()) };
        if let Change::Add(_) = change {
            parse_manifest_within(&next, Some(OCI_INDEX), &limits.of_manifests())
                .map_err(|error| full(&limits, subject, error))?;
        }
        let path = repository.manifest_path(Selector::Tag(&referrers_tag(subject)));
        let mut ask = Ask::new(Method::PUT, repository.target_for(action.clone(), path), WRITTEN);
        ask.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
        match &current {
            None => ask.set(header::IF_NONE_MATCH, Some(HeaderValue::from_static("*"))),
            // `If-Match` compares strongly (RFC 9110, 13.1.1): a weak one would never match.
            Some(list) => {
                let strong = list.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
                ask.set(header::IF_MATCH, strong.and_then(|etag| HeaderValue::from_str(etag).ok()));
            }
        }
        ask.body = Payload::Bytes(next);
        match repository.transport().tell(&ask).await {
            Ok(_) => {}
            Err(error) if error.status() == Some(412) => {
                tracing::debug!(%error, "a list of referrers changed meanwhile");
            }
            Err(error) => return Err(error),
        }
    }
    let last = list(repository, action, subject, &widest).await?;
    if changed(last.as_ref(), change)?.is_none() {
        return Ok(());
    }
    let detail = format!("others kept changing the list of referrers under {}", referrers_tag(subject));
    Err(NetError::new(NetErrorKind::Conflict, detail))
}

/// The error about a list that would be longer than it is read.
fn full(limits: &Limits, subject: &Digest, error: ManifestError) -> NetError {
    let error = limits.refuse_manifest(error);
    let limit = error.limit().map(|limit| format!(" (the limit `{limit}`)")).unwrap_or_default();
    let tag = referrers_tag(subject);
    error.with_detail(format!("the list of referrers under {tag} has no room for one more{limit}, and stays as it is"))
}

/// The list with a change in it; `None` when it is as wanted already.
fn changed(current: Option<&FetchedManifest>, change: &Change) -> Result<Option<Bytes>, NetError> {
    let empty = || json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    let mut list: Value = match current {
        None => empty(),
        // It was parsed as an index already; what its entries hold beside what this client knows stays as it is.
        Some(current) => serde_json::from_slice(&current.raw).map_err(|error| {
            NetError::new(NetErrorKind::Protocol, "the list of referrers is malformed").with_source(error)
        })?,
    };
    let Some(entries) = list.get_mut("manifests").and_then(Value::as_array_mut) else {
        return Err(NetError::new(NetErrorKind::Protocol, "the list of referrers is malformed"));
    };
    let is_of = |entry: &Value, digest: &Digest| {
        entry.get("digest").and_then(Value::as_str).is_some_and(|text| text.parse() == Ok(*digest))
    };
    match change {
        Change::Add(descriptor) => {
            if entries.iter().any(|entry| is_of(entry, &descriptor.digest)) {
                return Ok(None);
            }
            entries.push(entry(descriptor));
        }
        Change::Remove(digest) => {
            let before = entries.len();
            entries.retain(|entry| !is_of(entry, digest));
            if entries.len() == before {
                return Ok(None);
            }
        }
    }
    Ok(Some(list.to_string().into()))
}

fn entry(descriptor: &Descriptor) -> Value {
    let mut entry = Map::new();
    entry.insert("mediaType".into(), Value::from(&*descriptor.media_type));
    entry.insert("digest".into(), Value::from(descriptor.digest.to_string()));
    entry.insert("size".into(), Value::from(descriptor.size_bytes));
    if let Some(artifact_type) = &descriptor.artifact_type {
        entry.insert("artifactType".into(), Value::from(&**artifact_type));
    }
    if !descriptor.annotations.is_empty() {
        let annotations = descriptor.annotations.iter();
        let annotations: Map<String, Value> =
            annotations.map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        entry.insert("annotations".into(), annotations.into());
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_subject_is_a_legal_tag_of_bounded_length() {
        let sha256 = Digest::sha256(b"x");
        assert_eq!(referrers_tag(&sha256), format!("sha256-{}", sha256.to_hex()));
        let sha512 = Digest::of(greentic_dist_types::Algorithm::Sha512, b"x");
        assert_eq!(referrers_tag(&sha512), format!("sha512-{}", &sha512.to_hex()[..64]));
    }
}
