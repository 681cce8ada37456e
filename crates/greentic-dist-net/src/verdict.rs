//! What an answer means that is not the wanted one.

use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, StatusCode, header};

use crate::body::WEB_PAGE;
use crate::oci::errcode::ErrorBody;
use crate::redirect::is_redirect;
use crate::retry::{retry_after, retry_after_said};
use crate::sent::SentSecrets;
use crate::transport::{Reply, Transport};
use crate::{NetError, NetErrorKind, RateLimit};

/// The error for an answer that means failure, with what the server said about it; `sent` is blanked in that.
pub(crate) async fn refusal(
    transport: &Transport,
    mut reply: Reply,
    who: &'static str,
    sent: &SentSecrets,
) -> NetError {
    let status = reply.status();
    let wait = retry_after(reply.headers(), SystemTime::now());
    let content_type = reply.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    // Some servers announce a whole blob behind a 416 and send a line (docker-registry 2.8): never waited for.
    let unread = reply.method == Method::HEAD || status == StatusCode::RANGE_NOT_SATISFIABLE;
    let body = if unread {
        Bytes::new()
    } else {
        let read = reply.read(transport, transport.limits.error_body_bytes);
        tokio::time::timeout(transport.timeouts.idle_body, read).await.ok().and_then(Result::ok).unwrap_or_default()
    };
    let said = ErrorBody::parse(&body, &content_type, sent);
    let texts = said.errors.iter().map(|error| &error.message).chain(&said.text);
    let wait = wait.or_else(|| texts.into_iter().find_map(|text| retry_after_said(text.as_str())));
    let kind = kind_of(status, &said);
    let limit = RateLimit::of(reply.headers()).filter(|_| kind == NetErrorKind::RateLimited);
    let wait = wait.or_else(|| limit.and_then(|limit| limit.wait()));
    let mut error = NetError::from_status(kind, who, status.as_u16())
        .for_request(&reply.method, &reply.url)
        .blanked(sent)
        .with_transient(is_transient(status, kind) && !said.finds_fault_with_content())
        .with_retry_after(wait)
        .with_rate_limit(limit)
        .with_errors(said.errors)
        .with_digests(said.digests);
    let detail: Option<Cow<'static, str>> = match (status, said.text) {
        (_, Some(text)) => Some(text.to_string().into()),
        (StatusCode::NOT_MODIFIED, None) => Some("not modified, though nothing was asked conditionally".into()),
        (status, None) if is_redirect(status) => Some("this redirect is not followed".into()),
        (status, None) if status.is_redirection() => Some("this status is no redirect that could be followed".into()),
        (status, None) if status.is_success() => Some("this status was not expected".into()),
        _ => None,
    };
    if let Some(detail) = detail {
        error = error.with_detail(detail);
    }
    if said.is_page && matches!(kind, NetErrorKind::Protocol | NetErrorKind::Forbidden | NetErrorKind::Unauthorized) {
        error = error.with_hint(WEB_PAGE);
    }
    error
}

/// What a status alone means.
pub(crate) fn kind_of_status(status: StatusCode) -> NetErrorKind {
    kind_of(status, &ErrorBody::default())
}

fn kind_of(status: StatusCode, said: &ErrorBody) -> NetErrorKind {
    let has = |codes: &[&str]| said.errors.iter().any(|error| codes.contains(&error.code.as_str()));
    match status.as_u16() {
        401 => NetErrorKind::Unauthorized,
        429 => NetErrorKind::RateLimited,
        400 | 403 if has(&["TOOMANYREQUESTS"]) => NetErrorKind::RateLimited,
        403 | 451 => NetErrorKind::Forbidden,
        404 | 410 => NetErrorKind::NotFound,
        407 => NetErrorKind::Connect,
        408 => NetErrorKind::Timeout,
        425 | 499 | 500..=599 => NetErrorKind::Server,
        _ if has(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN"]) => NetErrorKind::NotFound,
        _ if has(&["UNAUTHORIZED"]) => NetErrorKind::Unauthorized,
        _ if has(&["DENIED"]) => NetErrorKind::Forbidden,
        _ if has(&["NAME_INVALID", "TAG_INVALID", "DIGEST_INVALID"]) => NetErrorKind::InvalidInput,
        _ => NetErrorKind::Protocol,
    }
}

/// Whether an answer with this status may be another one next time.
pub(crate) fn is_transient(status: StatusCode, kind: NetErrorKind) -> bool {
    kind == NetErrorKind::RateLimited
        || matches!(status.as_u16(), 408 | 425 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=524 | 529)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_what_they_say_and_codes_refine_the_vague_ones() {
        let kind = |status, body: &str| {
            kind_of(
                StatusCode::from_u16(status).unwrap(),
                &ErrorBody::parse(body.as_bytes(), "application/json", &SentSecrets::default()),
            )
        };
        let with = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#);
        for (status, code, expected) in [
            (404, "", NetErrorKind::NotFound),
            (404, "DENIED", NetErrorKind::NotFound),
            (401, "", NetErrorKind::Unauthorized),
            (403, "DENIED", NetErrorKind::Forbidden),
            (403, "TOOMANYREQUESTS", NetErrorKind::RateLimited),
            (400, "NAME_UNKNOWN", NetErrorKind::NotFound),
            (400, "NAME_INVALID", NetErrorKind::InvalidInput),
            (400, "WHATEVER", NetErrorKind::Protocol),
            (503, "", NetErrorKind::Server),
            (501, "", NetErrorKind::Server),
            (418, "", NetErrorKind::Protocol),
        ] {
            assert_eq!(kind(status, &with(code)), expected, "{status} {code}");
        }
    }

    #[test]
    fn only_statuses_that_may_pass_are_tried_again() {
        let transient = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            is_transient(status, kind_of(status, &ErrorBody::default()))
        };
        for passing in [408, 425, 429, 499, 500, 502, 503, 504, 520, 524, 529] {
            assert!(transient(passing), "{passing}");
        }
        for lasting in [400, 401, 403, 404, 405, 410, 416, 418, 451, 501, 505] {
            assert!(!transient(lasting), "{lasting}");
        }
    }
}
