//! The tags of a repository.

use greentic_dist_types::{Reference, SafeText};
use http::{HeaderValue, Method, header};
use serde::Deserialize;

use super::pagination::{PAGE, Paged};
use super::repository::Repository;
use crate::exchange::{Ask, Collected, Shared};
use crate::{NetError, NetErrorKind};

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// The tags of the repository, in the registry's order. Sends nothing yet.
    ///
    /// `null` and a missing list are no tags. What is no legal tag is left out with a warning: it could not be asked for. The
    /// first page fails with `NotFound` when there is no such repository.
    pub fn tags(&self) -> Paged<String> {
        self.list_tags(false)
    }

    /// The tags of the repository as [`Repository::tags`] has them, unless the registry says that they are those of another
    /// repository: then the list ends with an error of kind `Protocol` instead of a warning. Proxies that rename what they serve
    /// fail so.
    pub fn tags_strictly(&self) -> Paged<String> {
        self.list_tags(true)
    }

    fn list_tags(&self, strictly: bool) -> Paged<String> {
        let mut ask = Ask::new(Method::GET, self.target(format!("/v2/{}/tags/list", self.repository())), PAGE);
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let repository = self.clone();
        let mut warned = false;
        let read = move |answer: &Collected| {
            let body: Body = json(answer)?;
            let asked = answer.elsewhere.as_ref().map_or(repository.repository(), |access| &access.repository);
            let is_other = |name: &&str| *name != asked && *name != repository.repository();
            if let Some(name) = body.name.as_deref().filter(is_other).filter(|_| strictly || !warned) {
                let text = "the list of tags is of a repository with another name";
                if strictly {
                    let detail = format!("{text}, `{}`", SafeText::excerpt(name, 96));
                    let error = NetError::new(NetErrorKind::Protocol, detail);
                    return Err(error.for_request(&Method::GET, &answer.url));
                }
                // A proxy that lists its upstream under another name: the tags are what was asked for.
                warned = true;
                repository.transport().warn(repository.registry(), SafeText::new(text));
            }
            let tags = body.tags.unwrap_or_default();
            let legal =
                |tag: &String| Reference::new(repository.registry(), repository.repository(), Some(tag), None).is_ok();
            Ok(keep(tags, legal, "tags", repository.transport(), repository.registry()))
        };
        Paged::new(self.transport(), ask, read, |error, _| error)
    }
}

/// The names that are legal; a warning says that there were others.
pub(super) fn keep(
    mut names: Vec<String>,
    is_legal: impl Fn(&String) -> bool,
    what: &'static str,
    transport: &Shared,
    registry: &str,
) -> Vec<String> {
    let all = names.len();
    names.retain(is_legal);
    let dropped = all.saturating_sub(names.len());
    if dropped > 0 {
        let text = format!("{dropped} of the listed {what} are left out: their names are not legal");
        transport.warn(registry, SafeText::new(&text));
    }
    names
}

/// The JSON of a page.
///
/// # Errors
/// `Protocol`.
pub(super) fn json<'a, T: Deserialize<'a>>(answer: &'a Collected) -> Result<T, NetError> {
    let malformed =
        || NetError::new(NetErrorKind::Protocol, "the answer is no such list").for_request(&Method::GET, &answer.url);
    match answer.body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(&answer.body).map_err(|error| malformed().with_source(error)),
        Some(b'<') => {
            Err(malformed().with_hint("the answer is a web page: is there a proxy or a login page in between?"))
        }
        _ => Err(malformed()),
    }
}
