//! URLs as they may be shown: no user info, no query values that could be a signature or a token.

use crate::SafeText;

/// Query parameters whose values are names, not secrets.
const SHOWN_PARAMETERS: &[&str] =
    &["n", "last", "ns", "artifactType", "digest", "mount", "from", "tag", "scope", "service"];

/// The URL without user info and fragment, every query value replaced by `…` unless its name is known to be harmless,
/// sanitised and cut for display.
///
/// Works on any text, parsable or not: redaction must not depend on the input being well formed.
pub fn redact_url(url: &str) -> String {
    let without_fragment = url.split('#').next().unwrap_or_default();
    let (address, query) = match without_fragment.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (without_fragment, None),
    };
    let mut out = String::with_capacity(address.len());
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = match rest.find(['/', '\\']) {
                Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
                None => (rest, ""),
            };
            out.push_str(scheme);
            out.push_str("://");
            out.push_str(host_of(authority));
            out.push_str(path);
        }
        None => out.push_str(address),
    }
    if let Some(query) = query {
        for (index, pair) in query.split('&').enumerate() {
            out.push(if index == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                Some((name, value)) if SHOWN_PARAMETERS.contains(&name) => {
                    out.push_str(name);
                    out.push('=');
                    out.push_str(value);
                }
                Some((name, _)) => {
                    out.push_str(name);
                    out.push_str("=…");
                }
                None => out.push('…'),
            }
        }
    }
    SafeText::new(&out).to_string()
}

/// What follows the last at sign of an authority, written as it is or encoded: an encoded one is a mistake, and what stands before
/// it as much a login as before any other.
fn host_of(authority: &str) -> &str {
    let after = |mark: &str| authority.rfind(mark).and_then(|at| authority.get(at + mark.len()..));
    ["@", "%40"].into_iter().filter_map(after).min_by_key(|host| host.len()).unwrap_or(authority)
}

/// A reference as typed, fit to be shown: as [`redact_url`], and what stands before an at sign is cut when a path or
/// another at sign follows it (`user:password@host/name`).
pub fn redact_reference(reference: &str) -> String {
    let shown = redact_url(reference);
    if reference.contains("://") {
        return shown;
    }
    // No reference has an encoded at sign.
    let is_encoded = shown.contains("%40");
    match shown.replace("%40", "@").rsplit_once('@') {
        Some((before, rest)) if is_encoded || rest.contains('/') || before.contains('@') => format!("…@{rest}"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_references_without_a_scheme_are_not_shown_and_pins_stay() {
        assert_eq!(redact_reference("user:canary@ghcr.io/a:1"), "…@ghcr.io/a:1");
        assert_eq!(redact_reference("canary@b@c"), "…@c");
        assert_eq!(redact_reference("ftp://user:canary@host/x"), "ftp://host/x");
        assert_eq!(redact_reference("ghcr.io/a@sha256:ab"), "ghcr.io/a@sha256:ab");
        assert_eq!(redact_reference("oci://ghcr.io/a@sha256:ab"), "oci://ghcr.io/a@sha256:ab");
        assert_eq!(redact_reference("dir?/x"), "dir?…");
        assert_eq!(redact_reference("user:canary%40ghcr.io/a:1"), "…@ghcr.io/a:1");
        assert_eq!(redact_reference("user:canary%40ghcr.io"), "…@ghcr.io");
    }

    #[test]
    fn signatures_user_info_and_fragments_are_not_shown() {
        assert_eq!(
            redact_url("https://user:canary@cdn.example/b?X-Amz-Signature=canary&digest=sha256:ab&canary#canary"),
            "https://cdn.example/b?X-Amz-Signature=…&digest=sha256:ab&…"
        );
        assert_eq!(redact_url("https://a@b@host/x"), "https://host/x");
        assert_eq!(redact_url("https://user:canary%40host/x%40y"), "https://host/x%40y");
        assert_eq!(redact_url("https://user:can%40ary@host/x"), "https://host/x");
        assert_eq!(redact_url("https://user:can@ary%40host:1/x"), "https://host:1/x");
        assert_eq!(redact_url("not a url?token=canary"), "not a url?token=…");
    }

    #[test]
    fn an_at_sign_in_the_path_stays() {
        assert_eq!(redact_url("https://host/v2/x@y/z"), "https://host/v2/x@y/z");
    }
}
