//! Following redirects by our own rules.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use url::Url;

use crate::payload::Payload;
use crate::sent::SentSecrets;
use crate::target_policy::Guard;
use crate::trace::Errand;
use crate::transport::{Hop, Reply, Transport};
use crate::{NetError, NetErrorKind};

/// Header fields that never cross to another origin.
const PRIVATE_HEADERS: &[HeaderName] = &[header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// Query parameters of URLs that are signed: a credential beside a signature is refused by object stores.
const SIGNATURES: &[&str] = &["X-Amz-Signature", "X-Goog-Signature", "Signature", "sig"];

impl Transport {
    /// Sends `hop` and follows its redirects, at most [`Limits::redirects`](crate::Limits) of them.
    ///
    /// Credentials, configured headers and client certificates are dropped for good at the first step to another origin
    /// (scheme, host and port). No `Referer` and no
    /// cookie is ever sent.
    ///
    /// # Errors
    /// `Refused` for a redirect the [`TargetPolicy`](crate::TargetPolicy) forbids, a loop, or one too many; otherwise as
    /// [`Transport::send`].
    pub(crate) async fn follow(&self, mut hop: Hop) -> Result<Reply, NetError> {
        let start = hop.url.clone();
        let authorization = hop.headers.get(header::AUTHORIZATION).cloned();
        let mut reach = None;
        let mut seen: Vec<Url> = Vec::new();
        loop {
            let mut reply = self.send(hop.clone()).await?;
            reply.left_origin = start.origin() != hop.url.origin();
            reply.authorization.clone_from(&authorization);
            let Some(next) = location(&reply, &hop)? else { return Ok(reply) };
            let reach = *reach.get_or_insert(reply.reach);
            let refused = |why: String| {
                NetError::new(NetErrorKind::Refused, format!("a redirect was refused ({why})"))
                    .for_request(&reply.method, &start)
                    .blanked(&SentSecrets::of(authorization.as_ref()))
            };
            if hop.url.scheme() == "https" && next.scheme() == "http" {
                return Err(refused(format!("{} would leave HTTPS", greentic_dist_types::redact_url(next.as_str()))));
            }
            hop.guard = self.policy.check(&start, reach, &next, &self.http).map_err(refused)?;
            seen.push(std::mem::replace(&mut hop.url, next.clone()));
            if seen.contains(&next) {
                return Err(refused("it leads in a circle".into()));
            }
            if seen.len() > self.limits.redirects {
                return Err(refused(format!("there were more than {}", self.limits.redirects)));
            }
            if next.origin() != start.origin() || is_signed(&next) {
                for name in PRIVATE_HEADERS {
                    hop.headers.remove(name);
                }
            }
            if next.origin() != start.origin() {
                hop.profile = hop.profile.elsewhere();
            }
            reply.drain(self).await;
        }
    }

    /// A hop to a URL the caller named.
    pub(crate) fn hop(&self, method: Method, url: Url, headers: HeaderMap, lane: crate::limit::Lane) -> Hop {
        let (body, guard) = (Payload::NONE, Guard::Own);
        let profile = Arc::clone(&self.profile);
        let (header_timeout, errand) = (self.timeouts.headers, Errand::default());
        Hop { method, url, headers, body, guard, profile, lane, header_timeout, errand }
    }
}

/// Whether a status is a redirect: 300, 304 to 306 and unknown 3xx are none.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    use StatusCode as S;
    [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT].contains(&status)
}

/// Where an answer redirects to; `None` when it is no redirect, or none for this request.
///
/// Only 307 and 308 say that a write is to be made again as it was; 301 to 303 would make a GET of it (RFC 9110, 15.4).
fn location(reply: &Reply, hop: &Hop) -> Result<Option<Url>, NetError> {
    let reads = matches!(hop.method, Method::GET | Method::HEAD);
    let repeats = matches!(reply.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if !is_redirect(reply.status()) || !(reads || (repeats && hop.body.can_be_sent_again())) {
        return Ok(None);
    }
    let refused = || {
        let detail = "a redirect was refused (it has no usable `Location`)";
        NetError::new(NetErrorKind::Refused, detail).for_request(&reply.method, &reply.url)
    };
    let text = reply.header(header::LOCATION).ok_or_else(refused)?;
    let mut next = reply.url.join(text.trim()).map_err(|error| refused().with_source(error))?;
    next.set_fragment(None);
    Ok(Some(next))
}

pub(crate) fn is_signed(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| SIGNATURES.iter().any(|known| known.eq_ignore_ascii_case(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_urls_are_known_by_their_parameters() {
        for signed in ["https://s3/x?X-Amz-Signature=1", "https://az/x?a=b&sig=1", "https://cf/x?Signature=1"] {
            assert!(is_signed(&Url::parse(signed).unwrap()), "{signed}");
        }
        assert!(!is_signed(&Url::parse("https://s3/x?design=1").unwrap()));
    }
}
