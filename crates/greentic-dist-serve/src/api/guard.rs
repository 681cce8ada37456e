//! Who is answered at all: no web page, nobody under another name of this machine, and only those with the token where there is
//! one.

use std::net::{IpAddr, Ipv6Addr};

use greentic_dist_types::{Digest, Secret};
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use hyper::{Request, Version};

use super::{ApiError, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// # Errors
/// 400 for a request that does not name one host, 403 for one of a web page or to a foreign name, 401 without the token.
pub(super) fn check<B>(request: &Request<B>, token: Option<&Secret>) -> Result<(), ApiError> {
    // Only pages send one; programs that pull and push do not.
    if request.headers().contains_key(ORIGIN) || comes_from_another_site(request) {
        return Err(ApiError::from_a_page());
    }
    let named = request.headers().get_all(HOST).iter().count();
    if named > 1 || (named == 0 && request.version() >= Version::HTTP_11) {
        return Err(ApiError::host_missing());
    }
    match token {
        None => check_host(request),
        Some(token) if has_token(request, token) => Ok(()),
        Some(_) => Err(ApiError::unauthorized()),
    }
}

/// Whether a browser says that a page of somebody else asks, also where it sends no `Origin`: for pictures, scripts, links.
fn comes_from_another_site<B>(request: &Request<B>) -> bool {
    let sites = request.headers().get_all(SEC_FETCH_SITE);
    sites.iter().any(|site| site != "none" && site != "same-origin")
}

/// Refuses a `Host`, or a whole URL as the target, that is not this machine: a page in a browser that had its own name point to
/// 127.0.0.1 would send one.
fn check_host<B>(request: &Request<B>) -> Result<(), ApiError> {
    let field = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    if field.into_iter().chain(target).all(is_local) { Ok(()) } else { Err(ApiError::foreign_host()) }
}

/// Whether `host` or `host:port` is a name or an address of this machine alone.
pub(crate) fn is_local(authority: &str) -> bool {
    name_of(authority).is_some_and(|name| {
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// The name or address of `host` or `host:port`, an address of IPv6 without its brackets; nothing for what is neither.
pub(crate) fn name_of(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']')?;
            name.parse::<Ipv6Addr>().ok()?;
            (name, if rest.is_empty() { "" } else { rest.strip_prefix(':')? })
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let is_name = authority.starts_with('[')
        || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let is_port = port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    (is_name && is_port && !name.is_empty() && name.len() <= 255).then_some(name)
}

/// Whether a request carries the token: as a bearer token, or as the password of any user, which is how OCI clients log in.
fn has_token<B>(request: &Request<B>, token: &Secret) -> bool {
    let Some((scheme, value)) = header(request, AUTHORIZATION).and_then(|value| value.split_once(' ')) else {
        return false;
    };
    let given = if scheme.eq_ignore_ascii_case("bearer") {
        Some(Secret::new(value.trim()))
    } else if scheme.eq_ignore_ascii_case("basic") {
        password(value.trim())
    } else {
        None
    };
    // Digests are compared, so that the time it takes tells nothing about the token.
    given.is_some_and(|given| Digest::sha256(given.expose().as_bytes()) == Digest::sha256(token.expose().as_bytes()))
}

fn password(encoded: &str) -> Option<Secret> {
    use base64::Engine as _;
    let decoded = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?).ok()?;
    let decoded = Secret::new(decoded);
    decoded.expose().split_once(':').map(|(_user, password)| Secret::new(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, value: &str) -> Request<()> {
        let host = if name == "host" { value } else { "localhost" };
        let other = if name == "host" { "accept" } else { name };
        Request::builder().header("host", host).header(other, value).body(()).unwrap()
    }

    #[test]
    fn the_token_is_taken_as_bearer_and_as_a_password_and_in_no_other_form() {
        let token = Secret::new("s3cret");
        let takes = |value: &str| check(&request("authorization", value), Some(&token)).is_ok();
        for good in ["Bearer s3cret", "bearer s3cret", "Basic eDpzM2NyZXQ=", "basic OnMzY3JldA=="] {
            assert!(takes(good), "{good}");
        }
        for bad in ["Bearer s3cre", "Bearer s3crets", "Bearer", "Basic czNjcmV0", "Basic !", "Digest s3cret", ""] {
            assert!(!takes(bad), "{bad}");
        }
        assert!(check(&request("host", "localhost"), Some(&token)).is_err());
    }

    #[test]
    fn row_83_pages_and_foreign_names_are_refused() {
        for host in ["127.0.0.1:5000", "localhost", "[::1]:1", "LOCALHOST:2", "127.9.9.9", "localhost:"] {
            assert!(check(&request("host", host), None).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            "[::2]",
            "[::1].evil.example",
            "[::1]evil",
            "127.0.0.1:x.evil.example",
            "127.0.0.1:80@evil.example",
            "localhost:99999",
            "[localhost]",
            "localhost/",
        ] {
            assert!(check(&request("host", host), None).is_err(), "{host}");
        }
        assert!(check(&request("origin", "http://localhost"), None).is_err());
        let page = request("origin", "null");
        assert!(check(&page, Some(&Secret::new("t"))).is_err());
        for (site, refused) in
            [("cross-site", true), ("same-site", true), ("x", true), ("same-origin", false), ("none", false)]
        {
            assert_eq!(check(&request("sec-fetch-site", site), None).is_err(), refused, "{site}");
        }
    }

    #[test]
    fn row_83_a_whole_url_as_the_target_names_this_machine_too() {
        for (target, good) in [
            ("http://127.0.0.1/v2/", true),
            ("http://localhost:5000/v2/", true),
            ("http://evil.example/v2/", false),
            ("http://127.0.0.1@evil.example/", false),
        ] {
            let request = Request::builder().uri(target).header("host", "localhost").body(()).unwrap();
            assert_eq!(check(&request, None).is_ok(), good, "{target}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let with = |version: Version, hosts: &[&str]| {
            let request =
                hosts.iter().fold(Request::builder().version(version), |request, host| request.header("host", *host));
            check(&request.body(()).unwrap(), None).is_ok()
        };
        assert!(with(Version::HTTP_11, &["localhost"]) && with(Version::HTTP_10, &[]));
        assert!(!with(Version::HTTP_11, &[]) && !with(Version::HTTP_11, &["localhost", "localhost"]));
        assert!(!with(Version::HTTP_10, &["localhost", "evil.example"]) && !with(Version::HTTP_10, &["evil.example"]));
    }
}
