//! The client that asks registries itself, and the one login it may be given.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use greentic_dist_net::{
    BoxFuture, Credential, CredentialAnswer, CredentialSource, CredentialTarget, FetchedImage, HttpRule, Login,
    NetError, Selector,
};
use greentic_dist_types::{Descriptor, LayerRule, Manifest, ManifestKind, Reference, Secret};

use super::{PulledImage, PulledLayer, RegistryClientError};
use crate::credentials::CredentialChain;
use crate::dist::resolve::oci::image_of;
use crate::dist::{DistClient, DistClientBuilder, DistError};

/// The client of this crate: HTTPS, plain HTTP for registries of this machine, the logins of this user.
///
/// A fetcher that has it streams artifacts to the disk, verified on the way, in memory that does not grow with their size.
/// Cheap to clone; clones share connections. Making one does no I/O. `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct DefaultRegistryClient {
    login: Option<Arc<OneLogin>>,
    plain_http: Vec<String>,
    /// Whose settings are used instead of the default ones.
    like: Option<DistClient>,
    /// For [`pull`](Self::pull_into_memory) alone; a fetcher has its own, with its own options.
    direct: Arc<OnceLock<DistClient>>,
}

impl DefaultRegistryClient {
    /// A client with one login, used in place of those of this machine.
    ///
    /// It is sent to the registry that a reference names and that asked for it, and to the token server of that registry where
    /// that is the registry's own; never to a mirror, to another host, or over plain HTTP to another machine. So whoever writes
    /// the references decides who sees it: for those of somebody else there is
    /// [`with_registry_login`](Self::with_registry_login).
    pub fn with_basic_auth(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::with_login(username.into(), password.into(), Scope::Asked(Mutex::default()))
    }

    /// A client with a login for one registry, written as in references (`host` or `host:port`). Others are asked with the logins
    /// of this machine.
    pub fn with_registry_login(
        registry: impl Into<String>,
        username: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        let registry = registry.into().to_ascii_lowercase();
        Self::with_login(username.into(), password.into(), Scope::Only(registry, CredentialChain::new()))
    }

    fn with_login(username: String, password: String, scope: Scope) -> Self {
        let credential = Credential::Basic { username, password: Secret::new(password) };
        Self { login: Some(Arc::new(OneLogin { credential, scope })), ..Self::default() }
    }

    /// A client that also speaks plain HTTP to these registries, `host` for every port or `host:port`. Registries of this
    /// machine need not be named.
    pub fn with_insecure_registries(registries: Vec<String>) -> Self {
        Self { plain_http: registries, ..Self::default() }
    }

    /// A client that reaches registries as `client` does: its hosts and mirrors, logins, certificates, timeouts, retries,
    /// limits, platform, and its reporter and observer. Its cache directory, and whether it is offline, are the fetcher's own.
    pub fn like(client: &DistClient) -> Self {
        Self { like: Some(client.clone()), ..Self::default() }
    }

    /// How a fetcher reaches registries.
    pub(crate) fn builder(&self) -> DistClientBuilder {
        let mut builder = self.like.as_ref().map_or_else(DistClient::builder, DistClientBuilder::like);
        if let Some(login) = &self.login {
            builder = builder.credentials(Arc::clone(login) as _);
        }
        if !self.plain_http.is_empty() {
            builder = builder.http_rule(HttpRule::Also(self.plain_http.clone()));
        }
        builder
    }

    /// Notes that a reference is asked for, whose registry may have the login.
    pub(crate) fn expect(&self, reference: &Reference) {
        if let Some(Scope::Asked(registries)) = self.login.as_ref().map(|login| &login.scope) {
            let mut registries = registries.lock().unwrap_or_else(PoisonError::into_inner);
            registries.insert(reference.registry().to_ascii_lowercase());
        }
    }

    /// The accepted layers of what a reference names, in the order of the manifest.
    pub(crate) async fn pull_into_memory(
        &self,
        reference: &Reference,
        accepted: &[&str],
        tarballs: bool,
    ) -> Result<PulledImage, RegistryClientError> {
        let shown = reference.to_string();
        let accepted: Vec<String> = accepted.iter().map(|&name| name.to_owned()).collect();
        let rule = LayerRule::new(&[], &accepted).with_tarballs(tarballs);
        self.expect(reference);
        let client = self.direct.get_or_init(|| self.builder().build());
        let repository = client.inner.net(&shown).map_err(Box::new)?.repository(reference);
        let selector = match reference.digest() {
            Some(digest) => Selector::Digest(digest),
            None => Selector::Tag(reference.tag_or_latest()),
        };
        let found = repository.manifest(selector).await?;
        let is_wanted = |layer: &&Descriptor| rule.accepts(&layer.media_type);
        let content =
            |image: &Manifest| image.layers.iter().filter(is_wanted).map(|layer| layer.digest).collect::<Vec<_>>();
        let FetchedImage { index, manifest, .. } = image_of(&client.inner, &repository, found, content).await?;
        let named = index.map_or(manifest.digest, |index| index.digest);
        let ManifestKind::Image(image) = manifest.kind else {
            return Err(RegistryClientError::GenericError(Some(format!(
                "`{shown}` did not lead to an image manifest"
            ))));
        };
        let wanted: Vec<&Descriptor> = image.layers.iter().filter(is_wanted).collect();
        let total = wanted.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size_bytes));
        let limit_bytes = client.inner.limits.artifact_bytes;
        if total > limit_bytes {
            return Err(Box::new(DistError::TooLarge { reference: shown, limit_bytes }).into());
        }
        let mut layers = Vec::with_capacity(wanted.len());
        for layer in wanted {
            let mut stream = repository.blob(layer).open().await?;
            let mut data = Vec::new();
            while let Some(chunk) = stream.next().await {
                data.extend_from_slice(&chunk?);
            }
            let digest = Some(layer.digest.to_string());
            layers.push(PulledLayer { media_type: layer.media_type.clone(), data, digest });
        }
        Ok(PulledImage { digest: Some(named.to_string()), layers })
    }
}

impl fmt::Debug for DefaultRegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultRegistryClient")
            .field("login", &self.login.is_some())
            .field("plain_http", &self.plain_http)
            .finish_non_exhaustive()
    }
}

/// One login.
#[derive(Debug)]
struct OneLogin {
    credential: Credential,
    scope: Scope,
}

/// Whose login it is.
#[derive(Debug)]
enum Scope {
    /// That of the registries of the references that were asked for, in small letters. As many as a caller names.
    Asked(Mutex<HashSet<String>>),
    /// That of this registry; for others there are those of this machine.
    Only(String, CredentialChain),
}

impl CredentialSource for OneLogin {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let host = target.host.to_ascii_lowercase();
        let is_meant = match &self.scope {
            Scope::Asked(registries) => registries.lock().unwrap_or_else(PoisonError::into_inner).contains(&host),
            Scope::Only(registry, others) if *registry != host => return others.credential(target),
            Scope::Only(..) => true,
        };
        let login = is_meant.then(|| Login::explicit(self.credential.clone()));
        Box::pin(std::future::ready(Ok(login.into())))
    }
}
