//! Following redirects by our own rules.

use std::sync::Arc;

use greentic_dist_types::{SafeText, redact_url};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use url::Url;

use crate::payload::Payload;
use crate::sent::{GivenSecrets, SentSecrets};
use crate::target_policy::Guard;
use crate::trace::Errand;
use crate::transport::{Hop, Reply, Transport};
use crate::{Limit, NetError, NetErrorKind};

/// Header fields that never cross to another origin.
const PRIVATE_HEADERS: &[HeaderName] = &[header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// Query parameters of URLs that are signed: a credential beside a signature is refused by object stores.
const SIGNATURES: &[&str] = &["X-Amz-Signature", "X-Goog-Signature", "Signature", "sig"];

/// The source of the error for a redirect to another server, where nobody but the one that was asked is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only the server that was asked may answer this")]
struct LeadsElsewhere;

impl NetError {
    /// Whether a redirect to another server was not followed, because only the one that was asked is believed.
    pub(crate) fn leads_elsewhere(&self) -> bool {
        std::error::Error::source(self).is_some_and(<dyn std::error::Error>::is::<LeadsElsewhere>)
    }
}

/// Most hops that an error names.
const SHOWN_HOPS: usize = 8;
/// Characters of each.
const HOP_CHARS: usize = 120;

impl Transport {
    /// Sends `hop` and follows its redirects, at most [`Limits::redirects`](crate::Limits) of them.
    ///
    /// Credentials, configured headers and client certificates are dropped for good at the first step to another origin
    /// (scheme, host and port). No `Referer` and no
    /// cookie is ever sent.
    ///
    /// # Errors
    /// `Refused`, with the hops, for a redirect the [`TargetPolicy`](crate::TargetPolicy) forbids, a loop, or one too many;
    /// otherwise as [`Transport::send`].
    pub(crate) async fn follow(&self, mut hop: Hop) -> Result<Reply, NetError> {
        let mut way = Way { start: hop.url.clone(), further: Vec::new(), secrets: self.secrets.clone() };
        let mut reach = None;
        loop {
            let mut reply = self.send(hop.clone()).await?;
            reply.left_origin = way.start.origin() != hop.url.origin();
            let Some(next) = location(&reply, &hop, &way)? else { return Ok(reply) };
            let reach = *reach.get_or_insert(reply.reach);
            let refused = |why: &str| way.refuse(&reply.method, why, Some(&next));
            let leads_elsewhere = next.origin() != way.start.origin();
            if hop.stays && leads_elsewhere && matches!(next.scheme(), "http" | "https") {
                return Err(refused("it leads to another server").with_source(LeadsElsewhere));
            }
            if hop.url.scheme() == "https" && next.scheme() == "http" {
                let why = format!("{} would leave HTTPS", redact_url(next.as_str()));
                return Err(refused(&why));
            }
            let checked = self.policy.check(&way.start, reach, &next, &self.http);
            hop.guard = checked.map_err(|why| why.advise(refused(why.why())))?;
            if way.leads_through(&next) {
                return Err(refused("it leads in a circle"));
            }
            if way.further.len() >= self.limits.redirects {
                let (limit, most) = (Limit::Redirects, self.limits.get(Limit::Redirects));
                return Err(refused(&format!("there were more than {most}")).with_limit(limit, limit.advice(most)));
            }
            if next.origin() != way.start.origin() || is_signed(&next) {
                for name in PRIVATE_HEADERS {
                    hop.headers.remove(name);
                }
            }
            if next.origin() != way.start.origin() {
                hop.profile = hop.profile.elsewhere();
            }
            hop.url = next.clone();
            way.further.push(next);
            reply.drain(self).await;
        }
    }

    /// A hop to a URL the caller named.
    pub(crate) fn hop(&self, method: Method, url: Url, headers: HeaderMap, lane: crate::limit::Lane) -> Hop {
        let (body, guard) = (Payload::NONE, Guard::Own);
        let profile = Arc::clone(&self.profile);
        let (header_timeout, errand) = (self.timeouts.headers, Errand::default());
        Hop { method, url, headers, body, guard, profile, lane, header_timeout, errand, stays: false }
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
fn location(reply: &Reply, hop: &Hop, way: &Way) -> Result<Option<Url>, NetError> {
    let reads = matches!(hop.method, Method::GET | Method::HEAD);
    let repeats = matches!(reply.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if !is_redirect(reply.status()) || !(reads || (repeats && hop.body.can_be_sent_again())) {
        return Ok(None);
    }
    let refused = || way.refuse(&reply.method, "it has no usable `Location`", None);
    let text = reply.header(header::LOCATION).ok_or_else(refused)?;
    let mut next = reply.url.join(text.trim()).map_err(|error| refused().with_source(error))?;
    next.set_fragment(None);
    Ok(Some(next))
}

/// The URLs one request was led through.
struct Way {
    start: Url,
    /// Those of the redirects that were followed, in their order.
    further: Vec<Url>,
    secrets: GivenSecrets,
}

impl Way {
    fn leads_through(&self, url: &Url) -> bool {
        self.start == *url || self.further.contains(url)
    }

    /// The error for a redirect that is not followed; `next` is where it leads.
    fn refuse(&self, method: &Method, why: &str, next: Option<&Url>) -> NetError {
        let sent = self.secrets.known();
        let way: Vec<&Url> = std::iter::once(&self.start).chain(&self.further).chain(next).collect();
        let detail = format!("a redirect was refused ({why}; the way: {})", shown(&way, &sent));
        NetError::new(NetErrorKind::Refused, detail).for_request(method, &self.start).blanked(&sent)
    }
}

/// The hops of a way, without secrets: the first and the last ones where there are many.
fn shown(way: &[&Url], sent: &SentSecrets) -> String {
    let half = SHOWN_HOPS / 2;
    let hop = |url: &&Url| match url.scheme() {
        // Blanked before it is cut: a part of a secret is not found.
        "http" | "https" => SafeText::excerpt(&redact_url(&sent.blank(url.as_str())), HOP_CHARS).to_string(),
        scheme => format!("{}:…", SafeText::excerpt(scheme, 24)),
    };
    let left_out = way.len().saturating_sub(SHOWN_HOPS);
    let (first, last) = way.split_at(if left_out > 0 { half } else { way.len() });
    let mut hops: Vec<String> = first.iter().map(hop).collect();
    if left_out > 0 {
        hops.push(format!("({left_out} more)"));
    }
    hops.extend(last.iter().skip(left_out).map(hop));
    hops.join(" -> ")
}

pub(crate) fn is_signed(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| SIGNATURES.iter().any(|known| known.eq_ignore_ascii_case(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_shown_without_secrets_and_not_at_any_length() {
        let url = |text: &str| Url::parse(text).unwrap();
        let given = GivenSecrets::default();
        given.note_secret("canary-5d");
        let sent = given.known();
        let start = url("https://r.example/v2/a/blobs/x?token=canary-5d&n=1");
        let echo = url("https://user:canary-5d@cdn.example/canary-5d/x#y");
        let script = url("javascript:alert(1)");
        assert_eq!(
            shown(&[&start, &echo, &script], &sent),
            "https://r.example/v2/a/blobs/x?token=…&n=1 -> https://cdn.example/[redacted]/x -> javascript:…"
        );
        let long = url(&format!("https://h.example/{}", "a".repeat(4_000)));
        let many = shown(&vec![&long; 1_000], &SentSecrets::default());
        assert!(many.contains(" -> (992 more) -> "), "{many}");
        assert!(many.chars().count() < 8 * (HOP_CHARS + 8) + 32, "{}", many.chars().count());
        let nine: Vec<Url> = (0..9).map(|hop| url(&format!("https://h/{hop}"))).collect();
        let nine = shown(&nine.iter().collect::<Vec<_>>(), &SentSecrets::default());
        assert_eq!(nine.matches(" -> ").count(), 8, "{nine}");
        assert!(nine.contains("https://h/3 -> (1 more) -> https://h/5"), "{nine}");
    }

    #[test]
    fn signed_urls_are_known_by_their_parameters() {
        for signed in ["https://s3/x?X-Amz-Signature=1", "https://az/x?a=b&sig=1", "https://cf/x?Signature=1"] {
            assert!(is_signed(&Url::parse(signed).unwrap()), "{signed}");
        }
        assert!(!is_signed(&Url::parse("https://s3/x?design=1").unwrap()));
    }
}
