//! From a request path to what is asked for.

use greentic_dist_types::Digest;

use crate::api::ApiError;
use crate::name;

/// A place of the API, its names checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/manifests/<reference>`; the reference is not checked yet.
    Manifest { repository: String, reference: String },
    /// `/v2/<name>/blobs/<digest>`
    Blob { repository: String, digest: Digest },
    /// `/v2/<name>/blobs/uploads/`
    Uploads { repository: String },
    /// `/v2/<name>/blobs/uploads/<session>`
    Upload { repository: String, session: String },
    /// `/v2/<name>/tags/list`
    Tags { repository: String },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { repository: String, digest: Digest },
}

impl Route {
    /// Reads a path. Percent-encoding is decoded once, before anything is checked.
    ///
    /// # Errors
    /// 404 for a path that is none of the API's, 400 `NAME_INVALID` or `DIGEST_INVALID` for one with a bad part.
    pub(crate) fn parse(path: &str) -> Result<Self, ApiError> {
        let path = percent_decode(path).ok_or_else(ApiError::no_such_path)?;
        let below = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(ApiError::no_such_path)?,
            None => return Err(ApiError::no_such_path()),
        };
        if below == "_catalog" {
            return Ok(Self::Catalog);
        }
        let segments: Vec<&str> = below.split('/').collect();
        let repository = |names: &[&str]| {
            let name = names.join("/");
            if name::is_repository(&name) { Ok(name) } else { Err(ApiError::name_invalid(&name)) }
        };
        match segments.as_slice() {
            [names @ .., "blobs", "uploads"] | [names @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads { repository: repository(names)? })
            }
            [names @ .., "blobs", "uploads", session] => {
                Ok(Self::Upload { repository: repository(names)?, session: (*session).to_owned() })
            }
            [names @ .., "tags", "list"] => Ok(Self::Tags { repository: repository(names)? }),
            [names @ .., "manifests", reference] => {
                Ok(Self::Manifest { repository: repository(names)?, reference: (*reference).to_owned() })
            }
            [names @ .., "blobs", digest] => {
                Ok(Self::Blob { repository: repository(names)?, digest: parse_digest(digest)? })
            }
            [names @ .., "referrers", digest] => {
                Ok(Self::Referrers { repository: repository(names)?, digest: parse_digest(digest)? })
            }
            _ => Err(ApiError::no_such_path()),
        }
    }

    /// The methods this place knows, for `Allow`.
    pub(crate) const fn methods(&self) -> &'static str {
        match self {
            Self::Base | Self::Catalog | Self::Tags { .. } | Self::Referrers { .. } => "GET, HEAD",
            Self::Manifest { .. } => "GET, HEAD, PUT, DELETE",
            Self::Blob { .. } => "GET, HEAD, DELETE",
            Self::Uploads { .. } => "POST",
            Self::Upload { .. } => "GET, PATCH, PUT, DELETE",
        }
    }
}

/// A digest of the API, or 400 `DIGEST_INVALID`.
pub(crate) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error| ApiError::digest_invalid(&error))
}

/// The first value of a parameter in a query, decoded.
pub(crate) fn param(query: Option<&str>, name: &str) -> Option<String> {
    params(query, name).into_iter().next()
}

/// Every value of a parameter in a query, decoded.
pub(crate) fn params(query: Option<&str>, name: &str) -> Vec<String> {
    let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values = pairs.filter(|(key, _)| *key == name);
    values.filter_map(|(_, value)| percent_decode(&value.replace('+', "%20"))).collect()
}

/// Decodes `%XX`. `None` for a broken escape or text that is not UTF-8 afterwards.
fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Encodes a query value: everything but unreserved characters, `/` and `:`.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(char::from_digit(u32::from(byte >> 4), 16).map(|digit| digit.to_ascii_uppercase()));
            out.extend(char::from_digit(u32::from(byte & 15), 16).map(|digit| digit.to_ascii_uppercase()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::sha256(b"x");
        let name = |text: &str| text.to_owned();
        for (path, route) in [
            ("/v2".to_owned(), Route::Base),
            ("/v2/".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/manifests/1".to_owned(), Route::Manifest { repository: name("a/b"), reference: name("1") }),
            (
                "/v2/manifests/manifests/1".to_owned(),
                Route::Manifest { repository: name("manifests"), reference: name("1") },
            ),
            (format!("/v2/a/blobs/{digest}"), Route::Blob { repository: name("a"), digest }),
            (format!("/v2/a/blobs/{digest}").replace(':', "%3A"), Route::Blob { repository: name("a"), digest }),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads { repository: name("a") }),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads { repository: name("a") }),
            ("/v2/a/blobs/uploads/7".to_owned(), Route::Upload { repository: name("a"), session: name("7") }),
            ("/v2/a/tags/list".to_owned(), Route::Tags { repository: name("a") }),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers { repository: name("a"), digest }),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_or_no_name_is_refused() {
        let x = "x".repeat(64);
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2//manifests/1",
            "/v2/A/manifests/1",
            "/v2/../manifests/1",
            "/v2/a%2f..%2fb/manifests/1",
            "/v2/%2e%2e/tags/list",
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/blobs/x%00",
            "/v2/a/blobs/%zz",
            "/v2/a/referrers/latest",
            "/v2/manifests/1",
            "/v2/_catalog/",
            "/v2/a%ff/tags/list",
            &format!("/v2/a/blobs/sha256:{x}"),
        ] {
            assert!(Route::parse(path).is_err(), "{path} was accepted");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(param(Some("a=b&digest=sha256%3Ax"), "digest").as_deref(), Some("sha256:x"));
        assert_eq!(param(Some("n"), "n").as_deref(), Some(""));
        assert_eq!(param(Some("n=1"), "last"), None);
        assert_eq!(param(None, "n"), None);
        assert_eq!(percent_encode("application/x+y z"), "application/x%2By%20z");
    }
}
