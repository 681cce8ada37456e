//! Where the repositories of a registry are: its mirrors, parts of it that are reached another way, and other names.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::auth::Action;
use super::registry::Registry;
use crate::host::{HostEndpoint, check_path};

/// Most repositories remembered of one mirror; beyond it the table starts anew.
const NAMED: usize = 1_024;

/// What is configured for a registry, or for a part of it.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) mirrors: Vec<Arc<Registry>>,
    /// The longest path first.
    parts: Vec<Part>,
    /// Why nothing may be asked of it.
    pub(super) blocked: Option<String>,
}

impl Routes {
    pub(super) fn new(mirrors: Vec<Arc<Registry>>, mut parts: Vec<Part>, blocked: Option<String>) -> Self {
        // Stable: of two parts with one path the first counts.
        parts.sort_by_key(|part| std::cmp::Reverse(part.path.len()));
        Self { mirrors, parts, blocked }
    }

    /// The part a repository is in.
    pub(super) fn part_of(&self, repository: &str) -> Option<&Part> {
        self.parts.iter().find(|part| below(repository, &part.path).is_some())
    }
}

/// The repositories at and below a path, reached in their own way.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: String,
    pub(super) reads_only: bool,
    pub(super) registry: Arc<Registry>,
}

impl Part {
    /// Whether what is done is done there.
    pub(super) fn is_for(&self, action: &Action) -> bool {
        *action == Action::Pull || !self.reads_only
    }

    pub(super) fn blocked(&self) -> Option<&String> {
        self.registry.known_block()
    }
}

/// The names repositories have at an endpoint.
#[derive(Debug)]
pub(super) struct Rename {
    from: String,
    to: String,
}

impl Rename {
    /// What an endpoint of the part at `path` calls its repositories; `None` when by their own names.
    ///
    /// # Errors
    /// Why its path is none.
    pub(super) fn of(path: &str, endpoint: &HostEndpoint) -> Result<Option<Self>, String> {
        let Some(to) = endpoint.repository_path.as_deref().filter(|to| *to != path) else { return Ok(None) };
        if !to.is_empty() {
            check_path(to)?;
        }
        Ok(Some(Self { from: path.to_owned(), to: to.to_owned() }))
    }

    /// The other name of a repository; `None` when there is none.
    pub(super) fn of_repository(&self, repository: &str) -> Option<String> {
        let rest = below(repository, &self.from)?;
        let name = match (self.to.as_str(), rest) {
            ("", rest) => rest.to_owned(),
            (to, "") => to.to_owned(),
            (to, rest) => format!("{to}/{rest}"),
        };
        check_path(&name).is_ok().then_some(name)
    }
}

/// What follows a path in the name of a repository at or below it, without the slash between.
fn below<'a>(repository: &'a str, path: &str) -> Option<&'a str> {
    if path.is_empty() {
        return Some(repository);
    }
    let rest = repository.strip_prefix(path)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The repositories in which a mirror has said what a name means.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<HashSet<String>>);

impl Named {
    pub(super) fn contains(&self, repository: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(repository)
    }

    pub(super) fn add(&self, repository: &str) {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() >= NAMED {
            named.clear();
        }
        named.insert(repository.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(path: &str, to: &str, repository: &str) -> Option<String> {
        let endpoint = HostEndpoint::new("m.example").repository_path(to);
        Rename::of(path, &endpoint)
            .unwrap()
            .map_or(Some(repository.to_owned()), |rename| rename.of_repository(repository))
    }

    #[test]
    fn a_repository_is_below_a_path_at_a_slash_and_nowhere_else() {
        assert_eq!(below("a/b", ""), Some("a/b"));
        assert_eq!(below("a/b", "a"), Some("b"));
        assert_eq!(below("a/b", "a/b"), Some(""));
        assert_eq!(below("ab/c", "a"), None);
        assert_eq!(below("a", "a/b"), None);
    }

    #[test]
    fn a_repository_has_the_name_it_has_there_or_none() {
        assert_eq!(renamed("", "ghcr", "acme/hello").as_deref(), Some("ghcr/acme/hello"));
        assert_eq!(renamed("foo", "bar/x", "foo/image").as_deref(), Some("bar/x/image"));
        assert_eq!(renamed("foo", "bar", "foo").as_deref(), Some("bar"));
        assert_eq!(renamed("foo", "", "foo/image").as_deref(), Some("image"));
        assert_eq!(renamed("foo", "foo", "foo/image").as_deref(), Some("foo/image"));
        assert_eq!(renamed("foo", "", "foo"), None, "nothing would be left of the name");
        assert_eq!(renamed("", "x", &"a/".repeat(120).trim_end_matches('/').repeat(2)), None, "a name too long");
        assert!(Rename::of("", &HostEndpoint::new("m.example").repository_path("../x")).is_err());
    }
}
