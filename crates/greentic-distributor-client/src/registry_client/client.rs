//! The client that asks registries itself, and the one login it may be given.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use greentic_dist_net::{
    BoxFuture, Credential, CredentialAnswer, CredentialSource, CredentialTarget, FetchedImage, HttpRule, Login,
    NetError, Selector,
};
use greentic_dist_types::{Descriptor, LayerRule, ManifestKind, Reference, Secret};

use super::{PulledImage, PulledLayer, RegistryClientError};
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
    /// that is the registry's own; never to a mirror, to another host, or over plain HTTP to another machine.
    pub fn with_basic_auth(username: impl Into<String>, password: impl Into<String>) -> Self {
        let credential = Credential::Basic { username: username.into(), password: Secret::new(password) };
        Self { login: Some(Arc::new(OneLogin { credential, registries: Mutex::default() })), ..Self::default() }
    }

    /// A client that also speaks plain HTTP to these registries, `host` for every port or `host:port`. Registries of this
    /// machine need not be named.
    pub fn with_insecure_registries(registries: Vec<String>) -> Self {
        Self { plain_http: registries, ..Self::default() }
    }

    /// A client that reaches registries as `client` does: its hosts and mirrors, logins, certificates, timeouts, retries,
    /// limits, platform, and its reporter. Its cache directory, and whether it is offline, are the fetcher's own.
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
        if let Some(login) = &self.login {
            let mut registries = login.registries.lock().unwrap_or_else(PoisonError::into_inner);
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
        let FetchedImage { index, manifest } = repository.image(selector, &client.inner.platform).await?;
        let named = index.map_or(manifest.digest, |index| index.digest);
        let ManifestKind::Image(image) = manifest.kind else {
            return Err(RegistryClientError::GenericError(Some(format!(
                "`{shown}` did not lead to an image manifest"
            ))));
        };
        let wanted: Vec<&Descriptor> = image.layers.iter().filter(|layer| rule.accepts(&layer.media_type)).collect();
        let total = wanted.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size_bytes));
        let limit_bytes = client.inner.max_artifact_bytes;
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

/// One login, for the registries of the references that were asked for.
#[derive(Debug)]
struct OneLogin {
    credential: Credential,
    /// As references write them, in small letters. As many as a caller names.
    registries: Mutex<HashSet<String>>,
}

impl CredentialSource for OneLogin {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asked = registries.contains(&target.host.to_ascii_lowercase());
        let login = is_asked.then(|| Login::explicit(self.credential.clone()));
        Box::pin(std::future::ready(Ok(login.into())))
    }
}
