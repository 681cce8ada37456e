//! One repository of one registry: where every pull starts.

use std::sync::Arc;

use greentic_dist_types::{Descriptor, Digest};
use http::{HeaderValue, Method, StatusCode, header};

use super::auth::{Access, Action};
use super::blob::BlobRequest;
use super::registry::Registry;
use crate::exchange::{Ask, Shared, Target};
use crate::limit::Lane;
use crate::{NetError, RateLimit};

/// Which manifest of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selector<'a> {
    /// What the tag points to now.
    Tag(&'a str),
    /// Exactly this content.
    Digest(Digest),
}

impl From<Digest> for Selector<'_> {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A repository to pull from; made by [`Net::repository`](crate::Net::repository). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    transport: Shared,
    access: Access,
}

impl Repository {
    pub(crate) fn new(transport: Shared, registry: Arc<Registry>, repository: &str) -> Self {
        Self { transport, access: Access { registry, repository: repository.into(), action: Action::Pull } }
    }

    /// The registry as references write it.
    pub fn registry(&self) -> &str {
        self.access.registry.reference_name()
    }

    /// How many mirrors the registry has: as many more tries may find somebody who does not lie. 0 before its first request.
    pub fn mirrors(&self) -> usize {
        self.known().known_mirrors()
    }

    /// What the registry's own host said last about its limit of requests, on any answer to this client; `None` while it said
    /// nothing. Sends nothing.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        let url = self.access.registry.url("/").ok()?;
        self.transport.hosts.of(&url).tally().rate_limit()
    }

    /// The repository's name.
    pub fn repository(&self) -> &str {
        &self.access.repository
    }

    /// The content a descriptor names, about to be fetched. Sends nothing yet, and nothing at all where the descriptor carries
    /// the content itself.
    pub fn blob(&self, descriptor: &Descriptor) -> BlobRequest {
        let path = format!("/v2/{}/blobs/{}", self.access.repository, descriptor.digest);
        let mut ask = Ask::new(Method::GET, self.target(path), &[StatusCode::OK, StatusCode::PARTIAL_CONTENT]);
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        ask.lane = Lane::Body;
        BlobRequest::new(Arc::clone(&self.transport), ask, descriptor)
    }

    /// This repository where pushes go: at the first mirror that takes them, else at the registry's own host. A push is several
    /// requests, all of them to one host, and what is asked before it is asked there too: what a mirror has says nothing about
    /// what the registry has. Sends nothing. Uploads come here by themselves.
    ///
    /// # Errors
    /// `Config`, and those of the [`HostSource`](crate::HostSource).
    pub async fn for_pushing(&self) -> Result<Self, NetError> {
        let access = self.access_for(Action::Push);
        let registry = access.registry.answering(&self.transport, &access).await?;
        let mirrors = registry.mirrors(&self.transport).await?;
        let taking = |mirror: &&Arc<Registry>| mirror.capabilities().is_some_and(|can| can.push);
        let named = |mirror: &Arc<Registry>| Some((Arc::clone(mirror), mirror.renamed(&access.repository)?.into()));
        let taking = mirrors.iter().filter(taking).find_map(named);
        let (registry, repository) = taking.unwrap_or((registry, Arc::clone(&access.repository)));
        let access = Access { registry, repository, ..access };
        Ok(Self { transport: Arc::clone(&self.transport), access })
    }

    /// This repository where something is about to be deleted: at the registry's own host, with the right to delete. What is
    /// asked before a deletion is asked there, too. Sends nothing. Deletions come here by themselves.
    #[must_use]
    pub fn for_deleting(&self) -> Self {
        Self { transport: Arc::clone(&self.transport), access: self.access_for(Action::Delete) }
    }

    pub(crate) const fn transport(&self) -> &Shared {
        &self.transport
    }

    pub(crate) fn known(&self) -> &Registry {
        self.access.registry.known_answering(&self.access.repository, &self.access.action)
    }

    pub(crate) fn target(&self, path: String) -> Target {
        Target::Registry(self.access.clone(), path)
    }

    /// The work this handle is for.
    pub(crate) fn action(&self) -> Action {
        self.access.action.clone()
    }

    pub(crate) fn access_for(&self, action: Action) -> Access {
        Access { action, ..self.access.clone() }
    }

    /// A path of this repository's registry, asked for with what `action` needs.
    pub(crate) fn target_for(&self, action: Action, path: String) -> Target {
        Target::Registry(self.access_for(action), path)
    }
}
