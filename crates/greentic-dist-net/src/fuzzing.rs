//! A door to the parsers of what peers send, for the fuzz targets in `fuzz/` and nobody else. No promise of any kind.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::body::content_range::ContentRange;
use crate::host::RegistriesFile;
use crate::oci::auth::challenge::challenges;
use crate::oci::errcode::ErrorBody;
use crate::oci::link::next_link;
use crate::retry;
use crate::sent::GivenSecrets;
use crate::warning::warnings;

/// A scheme and its parameters.
pub type Challenge = (String, Vec<(String, String)>);

/// Every challenge of `WWW-Authenticate` fields: the scheme and its parameters. `None` for what no HTTP client would hand on.
pub fn www_authenticate(fields: &[&[u8]]) -> Option<Vec<Challenge>> {
    let found = challenges(&headers(&header::WWW_AUTHENTICATE, fields)?);
    Some(found.into_iter().map(|challenge| (challenge.scheme, challenge.parameters)).collect())
}

/// The next page that `Link` fields name. `None` for none, for what is malformed and for what no HTTP client would hand on.
pub fn link(fields: &[&[u8]]) -> Option<String> {
    next_link(&headers(&header::LINK, fields)?).ok()?
}

/// What a client knows that has sent this.
fn given(sent: &str) -> GivenSecrets {
    let given = GivenSecrets::default();
    given.note_secret(sent);
    given
}

/// What is told of `Warning` fields, when this login was sent. `None` for what no HTTP client would hand on.
pub fn warning(fields: &[&[u8]], sent: &str) -> Option<Vec<String>> {
    let told = warnings(&headers(&header::WARNING, fields)?, &given(sent));
    Some(told.iter().map(ToString::to_string).collect())
}

/// First and last byte and the whole of a `Content-Range`.
pub fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    ContentRange::parse(text).map(|range| (range.first, range.last, range.total))
}

/// The wait that `Retry-After` asks for, seen from `Date` or the beginning of 1970.
pub fn retry_after(field: &[u8], date: &[u8]) -> Option<Duration> {
    let mut fields = headers(&header::RETRY_AFTER, &[field])?;
    fields.extend(headers(&header::DATE, &[date])?);
    retry::retry_after(&fields, SystemTime::UNIX_EPOCH)
}

/// Everything an error document would show, when this login was sent.
pub fn error_body(body: &[u8], content_type: &str, sent: &str) -> Vec<String> {
    let said = ErrorBody::parse(body, content_type, &given(sent).known());
    let errors = said.errors.iter().flat_map(|error| [error.code.to_string(), error.message.to_string()]);
    errors.chain(said.text.iter().map(ToString::to_string)).collect()
}

/// What a `registries.conf` says about a registry, and what it says when it is read twice. The reason why it cannot be used.
///
/// # Errors
/// The reason.
pub fn registries_conf(text: &str, registry: &str) -> Result<[String; 2], String> {
    let parse = || RegistriesFile::parse(text, "registries.conf").map_err(|error| error.to_string());
    let said = |file: &RegistriesFile| {
        let config = file.host_config(registry, || Ok::<_, std::convert::Infallible>(None), |_| Ok(None));
        // Its notes name unknown keys, once for each reading.
        config.map(|config| config.map(|config| format!("{:?}", config.without_notes())).unwrap_or_default())
    };
    let (once, mut merged) = (parse()?, parse()?);
    merged.merge(once.clone()).map_err(|error| error.to_string())?;
    let [Ok(once), Ok(merged)] = [said(&once), said(&merged)];
    Ok([once, merged])
}

fn headers(name: &HeaderName, fields: &[&[u8]]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for field in fields {
        map.append(name.clone(), HeaderValue::from_bytes(field).ok()?);
    }
    Some(map)
}
