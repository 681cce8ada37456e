//! URLs a registry hands out for what comes next: the location of an upload, the next page of a list.

use greentic_dist_types::Digest;
use http::Method;
use url::Url;

use super::auth::Access;
use crate::exchange::{Collected, Handed, Shared};
use crate::redirect::is_signed;
use crate::target_policy::Guard;
use crate::{NetError, NetErrorKind};

/// Resolves `text`, which an answer named as the `what` of this access, by the rules for all places a registry sends us to.
///
/// A registry behind a TLS proxy that does not know its own scheme names `http://` URLs of itself: those are read as what
/// they mean. Another host is allowed (distribution-spec, "Pushing a blob") and gets no login.
///
/// # Errors
/// `Protocol` for what is no URL; `Refused` where the [`TargetPolicy`](crate::TargetPolicy) forbids it.
pub(super) fn handed(
    transport: &Shared,
    access: &Access,
    answer: &Collected,
    text: &str,
    what: &'static str,
) -> Result<Handed, NetError> {
    let mut url = answer.url.join(text.trim()).map_err(|error| {
        NetError::new(NetErrorKind::Protocol, format!("the registry's {what} is not a URL"))
            .with_source(error)
            .for_request(&Method::GET, &answer.url)
    })?;
    url.set_fragment(None);
    let base = access.registry.url("/")?;
    upgrade(&mut url, &base);
    let same_origin = url.origin() == base.origin();
    let guard = if same_origin {
        Guard::Own
    } else {
        transport
            .policy
            .check(&answer.url, answer.reach, &url, &transport.http)
            .map_err(|why| why.into_error(&format!("the registry's {what}")))?
    };
    let is_own = same_origin && !is_signed(&url);
    Ok(Handed { access: access.clone(), url, guard, is_own })
}

/// Reads an `http://` URL of a registry that is asked over HTTPS as one of HTTPS.
fn upgrade(url: &mut Url, base: &Url) {
    if url.scheme() == "http" && base.scheme() == "https" && url.host() == base.host() {
        // What does not know its scheme does not know its port either, unless it names one.
        let port = url.port().or(base.port());
        // Neither fails: both schemes are web schemes, and there is a host.
        let _ = url.set_scheme("https");
        let _ = url.set_port(port);
    }
}

/// The URL with `digest=` appended; what its query holds stays as it is, since registries keep their state there.
pub(super) fn with_digest(url: &Url, digest: &Digest) -> Url {
    let mut url = url.clone();
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    url.set_query(Some(&query));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgraded(url: &str, base: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        upgrade(&mut url, &Url::parse(base).unwrap());
        url.to_string()
    }

    #[test]
    fn a_scheme_that_a_proxy_hid_is_put_right_for_the_same_host_only() {
        assert_eq!(upgraded("http://r.example/u?s=1", "https://r.example/"), "https://r.example/u?s=1");
        assert_eq!(upgraded("http://r.example:5443/u", "https://r.example:5443/"), "https://r.example:5443/u");
        assert_eq!(upgraded("http://r.example/u", "https://r.example:5443/"), "https://r.example:5443/u");
        assert_eq!(upgraded("http://r.example:80/u", "https://r.example/"), "https://r.example/u");
        assert_eq!(upgraded("http://other.example/u", "https://r.example/"), "http://other.example/u");
        assert_eq!(upgraded("http://r.example/u", "http://r.example/"), "http://r.example/u");
    }

    #[test]
    fn the_digest_is_appended_to_what_the_query_holds_already() {
        let digest = Digest::sha256(b"");
        for (before, after) in [
            ("https://r/u", format!("https://r/u?digest={digest}")),
            ("https://r/u?", format!("https://r/u?digest={digest}")),
            ("https://r/u?_state=a%2Bb%3D%3D&x=y+z", format!("https://r/u?_state=a%2Bb%3D%3D&x=y+z&digest={digest}")),
        ] {
            assert_eq!(with_digest(&Url::parse(before).unwrap(), &digest).as_str(), after);
        }
    }
}
