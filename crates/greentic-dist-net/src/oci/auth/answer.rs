//! What a registry says to a request, and whether that is worth another one.

use std::fmt;
use std::sync::Arc;

use greentic_dist_types::SafeText;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::challenge::{Challenge, challenges};
use super::token::TokenCell;
use super::{Access, Credential, Demand, Known, Round, Used, lock};
use crate::limit::Lane;
use crate::sent::GivenSecrets;
use crate::target_policy::{Guard, Reach, Refused};
use crate::transport::Transport;
use crate::{NetError, NetErrorKind};

/// A 401, with what is needed to answer it.
pub(crate) struct Refusal {
    /// What was asked: the base of a relative realm.
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) reach: Reach,
    /// Returned when there is nothing left to try.
    pub(crate) error: NetError,
}

/// A login that was given up before the failure it is the source of.
#[derive(Debug)]
struct RejectedLogin {
    named: String,
    error: NetError,
}

impl fmt::Display for RejectedLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was rejected before, and this was tried without it", self.named)
    }
}

impl std::error::Error for RejectedLogin {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Refusal {
    /// What the challenge says about the failure (RFC 6750, 3), where the body says nothing.
    fn into_error(self, challenge: &Challenge, secrets: &GivenSecrets) -> NetError {
        if !self.error.registry_errors().is_empty() {
            return self.error;
        }
        let said = [challenge.parameter("error"), challenge.parameter("error_description")];
        let said: Vec<&str> = said.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        if said.is_empty() {
            return self.error;
        }
        let text = SafeText::new(&secrets.known().blank(&said.join(": "))).to_string();
        self.error.with_detail(text)
    }
}

impl Access {
    /// Takes a registry's 401. `Ok` when the request is worth sending once more.
    ///
    /// # Errors
    /// The refusal itself when there is nothing left to try; `Refused` for a token realm that may not be asked.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        refusal: Refusal,
        used: &Used,
        round: Round,
    ) -> Result<Round, NetError> {
        let offered = challenges(&refusal.headers);
        let bearer = offered.iter().find(|offer| offer.scheme == "bearer" && offer.parameter("realm").is_some());
        if let Some(challenge) = bearer {
            self.answer_bearer(transport, challenge, refusal, used, round).await
        } else if offered.iter().any(|offer| offer.scheme == "basic") {
            self.answer_basic(transport, used, round, refusal.error).await
        } else {
            Err(refusal.error.with_hint("the registry offers no way to log in that this client knows"))
        }
    }

    async fn answer_bearer(
        &self,
        transport: &Transport,
        challenge: &Challenge,
        refusal: Refusal,
        used: &Used,
        round: Round,
    ) -> Result<Round, NetError> {
        let (realm, guard) = self.realm_of(transport, challenge, &refusal.url, refusal.reach)?;
        let fault = challenge.parameter("error").unwrap_or_default();
        // What a registry demands for `/v2/` is about no repository in particular (GHCR names one that does not exist).
        let scope = challenge.parameter("scope").filter(|_| !is_base(&refusal.url));
        let widened = self.take_scope(scope, fault == "insufficient_scope");
        let mut round = Round { answered: round.answered + 1, ..round };
        let worth_it = match used {
            Used::Given => return Err(self.rejected(refusal.into_error(challenge, &transport.secrets))),
            Used::Token { id, kept } => {
                self.forget_token(*id).await;
                let first = !std::mem::replace(&mut round.refetched, true);
                first && (*kept || widened || matches!(fault, "insufficient_scope" | "invalid_token"))
            }
            Used::Basic | Used::Nothing => round.answered == 1,
        };
        if !worth_it {
            let has_login = self.known(transport).await?.usable(&self.action).is_some();
            let error = refusal.into_error(challenge, &transport.secrets);
            return Err(if has_login { self.rejected(error) } else { self.login_needed(error) });
        }
        let service = challenge.parameter("service").map(str::to_owned);
        *lock(&self.registry.auth().demand) = Some(Demand::Bearer { realm, guard, service });
        Ok(round)
    }

    async fn answer_basic(
        &self,
        transport: &Transport,
        used: &Used,
        round: Round,
        refusal: NetError,
    ) -> Result<Round, NetError> {
        let known = self.known(transport).await?;
        let (before, known) = match used {
            // A password may have been changed meanwhile: the source is asked once more.
            Used::Basic if round.answered < 2 => (known.login.clone(), self.ask_anew(transport, &known).await?),
            Used::Given | Used::Basic => return Err(self.rejected(refusal)),
            Used::Token { .. } | Used::Nothing => (None, known),
        };
        let Some(login) = &known.login else { return Err(self.login_needed(refusal)) };
        if matches!(login.credential, Credential::IdentityToken(_)) {
            return Err(self.login_needed(refusal.with_hint(format!(
                "{} is an identity token, and the registry wants a user name and a password",
                login.named()
            ))));
        }
        if round.answered >= 2 || before.is_some_and(|before| before.credential == login.credential) {
            return Err(self.rejected(refusal));
        }
        *lock(&self.registry.auth().demand) = Some(Demand::Basic);
        Ok(Round { answered: round.answered + 1, ..round })
    }

    /// After a 403: gives up a token that was there before this request, and asks the source of a password once more (ECR says
    /// of one that ran out that it is forbidden). True when that is worth a try.
    pub(crate) async fn renew(&self, transport: &Transport, used: &Used, round: &mut Round) -> bool {
        if round.renewed {
            return false;
        }
        match used {
            Used::Token { id, kept: true } => {
                round.renewed = true;
                self.forget_token(*id).await;
                true
            }
            Used::Basic => {
                round.renewed = true;
                let Ok(known) = self.known(transport).await else { return false };
                // What the source cannot say now does not change what the registry has said.
                let Ok(newer) = self.ask_anew(transport, &known).await else { return false };
                let login = |known: &Known| known.login.as_ref().map(|login| login.credential.clone());
                newer.login.is_some() && login(&newer) != login(&known)
            }
            _ => false,
        }
    }

    /// After a 403 or 404 to a request without a login: some registries answer so instead of with a challenge. True when there
    /// is a login that was not sent yet and a challenge to answer with it.
    ///
    /// The challenge is asked for at `/v2/`, once for each registry, and only where there is a login for it.
    pub(crate) async fn seek_challenge(&self, transport: &Transport, used: &Used, round: &mut Round) -> bool {
        let auth = self.registry.auth();
        if *used != Used::Nothing || round.answered > 0 || lock(&auth.demand).is_some() {
            return false;
        }
        // What the source cannot say is told by the request that needs it; here there is an answer already.
        let Ok(known) = self.known(transport).await else { return false };
        if known.usable(&self.action).is_none() {
            return false;
        }
        let mut sought = auth.sought.lock().await;
        if !*sought {
            *sought = true;
            if let Err(error) = Box::pin(self.ask_base(transport)).await {
                tracing::debug!(%error, "no challenge was found");
            }
        }
        round.answered += 1;
        lock(&auth.demand).is_some()
    }

    /// Asks `/v2/` and takes note of its challenge.
    async fn ask_base(&self, transport: &Transport) -> Result<(), NetError> {
        let mut hop = transport.hop(Method::GET, self.registry.url("/v2/")?, HeaderMap::new(), Lane::Metadata);
        hop.profile = Arc::clone(self.registry.profile());
        hop.errand.op = "ping";
        let reply = transport.follow(hop).await?;
        if reply.status() != StatusCode::UNAUTHORIZED || reply.left_origin {
            return Ok(());
        }
        let offered = challenges(reply.headers());
        let bearer = offered.iter().find(|offer| offer.scheme == "bearer" && offer.parameter("realm").is_some());
        let demand = match bearer {
            Some(challenge) => {
                let (realm, guard) = self.realm_of(transport, challenge, &reply.url, reply.reach)?;
                let service = challenge.parameter("service").map(str::to_owned);
                Demand::Bearer { realm, guard, service }
            }
            None if offered.iter().any(|offer| offer.scheme == "basic") => Demand::Basic,
            None => return Ok(()),
        };
        *lock(&self.registry.auth().demand) = Some(demand);
        Ok(())
    }

    /// Adds to a failure what is known about the login.
    pub(crate) fn explain(&self, mut error: NetError) -> NetError {
        if !matches!(error.kind(), NetErrorKind::Unauthorized | NetErrorKind::Forbidden | NetErrorKind::NotFound) {
            return error;
        }
        let known = self.remembered();
        let login = known.as_deref().and_then(|known| known.usable(&self.action));
        let is_demanding = lock(&self.registry.auth().demand).is_some();
        if error.kind() == NetErrorKind::NotFound && is_demanding {
            let host = self.registry.name();
            error = error.with_hint(match login {
                Some(login) => {
                    format!("it does not exist, or {} may not see it: `{host}` tells no difference", login.named())
                }
                None => format!("it does not exist, or a login is needed to see it: `{host}` tells no difference"),
            });
        }
        let Some(Known { login: Some(login), rejected: Some(rejected), .. }) = known.as_deref() else {
            let remarks = known.iter().flat_map(|known| &known.remarks);
            return remarks.fold(error, |error, remark| error.with_hint(remark.to_string()));
        };
        if std::error::Error::source(&error).is_some() {
            return error;
        }
        error.with_source(RejectedLogin { named: login.named(), error: rejected.clone() })
    }

    /// The token server a challenge names, when it may be asked at all.
    fn realm_of(
        &self,
        transport: &Transport,
        challenge: &Challenge,
        base: &Url,
        reach: Reach,
    ) -> Result<(Url, Guard), NetError> {
        let refused = |why: Refused| why.into_error("the token realm");
        let mut realm = base
            .join(challenge.parameter("realm").unwrap_or_default())
            .map_err(|error| refused("it is not a URL".to_owned().into()).with_source(error))?;
        if realm.fragment().is_some() {
            realm.set_fragment(None);
        }
        let guard = transport
            .policy
            .check_realm(self.registry.name(), base, reach, &realm, &transport.http)
            .map_err(refused)?;
        Ok((realm, guard))
    }

    async fn forget_token(&self, id: u64) {
        let cells: Vec<Arc<TokenCell>> = lock(&self.registry.auth().tokens).values().map(Arc::clone).collect();
        for cell in cells {
            cell.forget(id).await;
        }
    }

    fn rejected(&self, refusal: NetError) -> NetError {
        refusal.with_hint(format!("the login for `{}` was rejected; log in again", self.registry.name()))
    }

    fn login_needed(&self, refusal: NetError) -> NetError {
        refusal.with_hint(format!(
            "`{}` wants a login for this repository, or the repository does not exist; no login is set for it",
            self.registry.name()
        ))
    }
}

/// Whether a request was about the registry as a whole.
fn is_base(url: &Url) -> bool {
    matches!(url.path(), "/v2/" | "/v2")
}
