//! A registry as a whole: whether it is one, and which repositories it has.

use std::sync::Arc;

use greentic_dist_types::{Reference, SafeText};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use super::Registry;
use super::auth::{Access, Action};
use super::pagination::{PAGE, Paged};
use super::tags::{json, keep};
use crate::exchange::{Ask, Collected, Shared, Target};
use crate::{NetError, NetErrorKind};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// A registry; made by [`Net::registry`](crate::Net::registry). Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegistryHandle {
    transport: Shared,
    registry: Arc<Registry>,
}

/// What a registry says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryVersion {
    /// `Docker-Distribution-API-Version`, e.g. `registry/2.0`. Many registries do not send it.
    pub api_version: Option<SafeText>,
    /// Whether it demanded a login.
    pub wants_login: bool,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl RegistryHandle {
    pub(crate) const fn new(transport: Shared, registry: Arc<Registry>) -> Self {
        Self { transport, registry }
    }

    /// The registry as references write it.
    pub fn name(&self) -> &str {
        self.registry.reference_name()
    }

    /// Asks `GET /v2/` (end-1): whether this is a registry, and whether the login at hand, where one is demanded, is good.
    ///
    /// One request, up to three with a login. Cancel-safe. A token for nothing in particular is what many registries give to
    /// everybody: that this works does not say that a repository may be read.
    ///
    /// # Errors
    /// `Unauthorized` when a login is demanded and there is none, or it was rejected; `Unsupported` when no registry answers
    /// there; otherwise by cause.
    pub async fn ping(&self) -> Result<RegistryVersion, NetError> {
        let ask = Ask::new(Method::GET, self.target(Action::Pull, "/v2/"), &[StatusCode::OK]);
        let answer = self.transport.tell(&ask).await.map_err(|error| match error.status() {
            Some(404 | 405 | 410) => error
                .with_kind(NetErrorKind::Unsupported)
                .with_hint(format!("`{}` does not answer as an OCI registry", self.name())),
            _ => error,
        })?;
        Ok(RegistryVersion {
            api_version: answer.header(API_VERSION).map(SafeText::new),
            wants_login: answer
                .elsewhere
                .as_ref()
                .map_or(&self.registry, |access| &access.registry)
                .auth()
                .is_demanded(),
        })
    }

    /// The repositories of the registry, in its order. Sends nothing yet.
    ///
    /// Most public registries keep this list to themselves: the first page then fails with `Unsupported`, and so does one that
    /// a good login may not see. A page that only wants a login fails with `Unauthorized`.
    pub fn catalog(&self) -> Paged<String> {
        let mut ask = Ask::new(Method::GET, self.target(Action::Catalog, "/v2/_catalog"), PAGE);
        ask.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let (transport, registry) = (Shared::clone(&self.transport), Arc::clone(&self.registry));
        let read = move |answer: &Collected| {
            let body: Body = json(answer)?;
            let legal = |name: &String| Reference::new(registry.reference_name(), name, None, None).is_ok();
            Ok(keep(
                body.repositories.unwrap_or_default(),
                legal,
                "repositories",
                &transport,
                registry.reference_name(),
            ))
        };
        Paged::new(&self.transport, ask, read, refused)
    }

    fn target(&self, action: Action, path: &str) -> Target {
        Target::Registry(
            Access { registry: Arc::clone(&self.registry), repository: "".into(), action },
            path.to_owned(),
        )
    }
}

/// What it means that a catalog was refused.
fn refused(error: NetError, ask: &Ask) -> NetError {
    let Some(access) = ask.registry() else { return error };
    let asks_for_a_login = error.status() == Some(401) && !access.registry.auth().is_demanded();
    if !matches!(error.status(), Some(401 | 403 | 404 | 405 | 501)) || asks_for_a_login {
        return error;
    }
    let detail = format!("`{}` does not list its repositories", access.registry.reference_name());
    error.with_kind(NetErrorKind::Unsupported).with_detail(detail)
}
