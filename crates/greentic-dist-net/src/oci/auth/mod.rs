//! Logging in when a registry asks for it: challenge, credential, token, once more.

mod challenge;
mod credential;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greentic_dist_types::Secret;
use http::{HeaderMap, header};
use url::Url;

pub use self::credential::{BoxFuture, Credential, CredentialSource, CredentialTarget, StaticCredentials};

use self::challenge::{Challenge, challenges};
use self::token::{TokenCell, TokenKey, TokenRequest};
use super::Registry;
use crate::config::is_loopback;
use crate::target_policy::{Guard, Reach};
use crate::transport::Transport;
use crate::{NetError, NetErrorKind};

/// Most entries of each table of a registry; beyond it the table starts anew.
const REMEMBERED: usize = 1_024;
/// Longest scope taken from a challenge, in bytes.
const SCOPE_BYTES: usize = 1 << 10;

/// What one registry demanded so far, and what it was given.
#[derive(Debug, Default)]
pub(crate) struct RegistryAuth {
    demand: Mutex<Option<Demand>>,
    /// Scopes a repository was asked for beyond the computed one.
    scopes: Mutex<HashMap<String, String>>,
    credentials: Mutex<HashMap<String, Option<Credential>>>,
    tokens: Mutex<HashMap<TokenKey, Arc<TokenCell>>>,
}

/// The scheme a registry wants.
#[derive(Clone, Debug)]
enum Demand {
    Basic,
    Bearer { realm: Url, guard: Guard, service: Option<String> },
}

/// Access to one repository for one kind of work.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) registry: Arc<Registry>,
    /// Empty for [`Action::Catalog`].
    pub(crate) repository: Arc<str>,
    pub(crate) action: Action,
}

/// What a request is about to do: decides which scope its token is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(dead_code, reason = "the writing operations come next")]
pub(crate) enum Action {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Write blobs and manifests.
    Push,
    /// Write blobs, one of them mounted from this repository of the same registry, which must be readable too.
    PushMounting {
        /// The repository the blob is taken from.
        from: Arc<str>,
    },
    /// Delete manifests, tags or blobs.
    Delete,
    /// List the registry's repositories.
    Catalog,
}

/// What a request was sent with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Used {
    Nothing,
    Basic,
    /// A bearer token the user gave.
    Given,
    /// A token from a token server.
    Token {
        id: u64,
        /// Whether it was there before this request.
        kept: bool,
    },
}

/// How often one request has logged in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    answered: u32,
    renewed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn insert_bounded<K: std::hash::Hash + Eq, V>(table: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut table = lock(table);
    if table.len() >= REMEMBERED && !table.contains_key(&key) {
        table.clear();
    }
    table.insert(key, value);
}

impl Access {
    /// Adds what the registry is known to want. Sends nothing when a token is at hand or nothing was ever demanded.
    ///
    /// # Errors
    /// The token server's or the credential source's.
    pub(crate) async fn authorize(
        &self,
        transport: &Transport,
        headers: &mut HeaderMap,
        round: Round,
    ) -> Result<Used, NetError> {
        let Some(demand) = lock(&self.registry.auth().demand).clone() else { return Ok(Used::Nothing) };
        let credential = self.credential(transport).await?;
        if credential.is_some() {
            self.check_plain_text(transport)?;
        }
        let (value, used) = match (demand, credential) {
            (_, Some(Credential::Bearer(token))) => {
                (credential::sensitive(Secret::new(format!("Bearer {}", token.expose())).expose())?, Used::Given)
            }
            (Demand::Basic, Some(login)) => match login.basic_header() {
                Some(value) => (value?, Used::Basic),
                None => return Ok(Used::Nothing),
            },
            (Demand::Basic, None) => return Ok(Used::Nothing),
            (Demand::Bearer { realm, guard, service }, login) => {
                let login = login.as_ref();
                if login.is_some() {
                    self.check_realm(transport, &realm)?;
                }
                let scopes = self.scopes();
                let request =
                    TokenRequest { realm: &realm, guard, service: service.as_deref(), scopes: &scopes, login };
                let cell = self.cell(&request);
                let (token, kept) = match cell.token(transport, &request, round.answered).await {
                    Ok(token) => token,
                    // Nobody asked for this token yet: the repository may be open to everybody.
                    Err(error) if login.is_none() && round.answered == 0 && !error.is_transient() => {
                        return Ok(Used::Nothing);
                    }
                    Err(error) => return Err(error),
                };
                (token.header.clone(), Used::Token { id: token.id, kept })
            }
        };
        headers.insert(header::AUTHORIZATION, value);
        Ok(used)
    }

    /// Takes a registry's 401. `Ok` when the request is worth sending once more.
    ///
    /// `refusal` is that 401 as an error, returned when there is nothing left to try.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        headers: &HeaderMap,
        reach: Reach,
        used: &Used,
        round: Round,
        refusal: NetError,
    ) -> Result<Round, NetError> {
        let offered = challenges(headers);
        let bearer = offered.iter().find(|offer| offer.scheme == "bearer" && offer.parameter("realm").is_some());
        if let Some(challenge) = bearer {
            self.answer_bearer(transport, challenge, reach, used, round, refusal).await
        } else if offered.iter().any(|offer| offer.scheme == "basic") {
            self.answer_basic(transport, used, round, refusal).await
        } else {
            Err(refusal.with_hint("the registry offers no way to log in that this client knows"))
        }
    }

    async fn answer_bearer(
        &self,
        transport: &Transport,
        challenge: &Challenge,
        reach: Reach,
        used: &Used,
        round: Round,
        refusal: NetError,
    ) -> Result<Round, NetError> {
        let base = self.registry.url("/")?;
        let (realm, guard) = realm_of(transport, challenge, &base, reach)?;
        let widened = self.take_scope(challenge.parameter("scope"));
        match used {
            Used::Given => return Err(self.rejected(refusal)),
            Used::Token { id, .. } => self.forget_token(*id).await,
            Used::Basic | Used::Nothing => {}
        }
        if round.answered >= 2 || (round.answered == 1 && !widened) {
            return Err(match self.credential(transport).await? {
                Some(_) => self.rejected(refusal),
                None => self.login_needed(refusal),
            });
        }
        let service = challenge.parameter("service").map(str::to_owned);
        *lock(&self.registry.auth().demand) = Some(Demand::Bearer { realm, guard, service });
        Ok(Round { answered: round.answered + 1, ..round })
    }

    async fn answer_basic(
        &self,
        transport: &Transport,
        used: &Used,
        round: Round,
        refusal: NetError,
    ) -> Result<Round, NetError> {
        let before = match used {
            // A password may have been changed meanwhile: the source is asked once more.
            Used::Basic => self.forget_credential(),
            Used::Given => return Err(self.rejected(refusal)),
            Used::Token { .. } | Used::Nothing => None,
        };
        let Some(login) = self.credential(transport).await? else { return Err(self.login_needed(refusal)) };
        if round.answered >= 2 || before.as_ref() == Some(&login) {
            return Err(self.rejected(refusal));
        }
        *lock(&self.registry.auth().demand) = Some(Demand::Basic);
        Ok(Round { answered: round.answered + 1, ..round })
    }

    /// After a 403: gives up a token that was there before this request. True when a fresh one is worth a try.
    pub(crate) async fn renew(&self, used: &Used, round: &mut Round) -> bool {
        match used {
            Used::Token { id, kept: true } if !round.renewed => {
                round.renewed = true;
                self.forget_token(*id).await;
                true
            }
            _ => false,
        }
    }

    /// The scopes to ask for: what this repository was asked for before, then the computed one.
    fn scopes(&self) -> Vec<String> {
        let demanded = lock(&self.registry.auth().scopes).get(&*self.repository).cloned();
        demanded.into_iter().chain(self.computed_scopes()).collect()
    }

    /// The scopes this work needs, written as the token specification does.
    fn computed_scopes(&self) -> Vec<String> {
        let own = |actions: &str| format!("repository:{}:{actions}", self.repository);
        match &self.action {
            Action::Pull => vec![own("pull")],
            Action::Push => vec![own("pull,push")],
            Action::PushMounting { from } => vec![own("pull,push"), format!("repository:{from}:pull")],
            Action::Delete => vec![own("pull,push,delete")],
            Action::Catalog => vec!["registry:catalog:*".to_owned()],
        }
    }

    /// Remembers a scope a challenge of this repository demanded. True when it is new.
    ///
    /// A demand for this repository is not followed: the computed scopes already ask for all this work needs.
    fn take_scope(&self, scope: Option<&str>) -> bool {
        let own = format!("repository:{}:", self.repository);
        let Some(scope) =
            scope.filter(|scope| !scope.trim().is_empty() && scope.len() <= SCOPE_BYTES && !scope.starts_with(&own))
        else {
            return false;
        };
        let known = lock(&self.registry.auth().scopes).get(&*self.repository).is_some_and(|known| known == scope);
        if !known {
            insert_bounded(&self.registry.auth().scopes, self.repository.to_string(), scope.to_owned());
        }
        !known
    }

    /// The login for this repository: remembered, else asked of the source.
    async fn credential(&self, transport: &Transport) -> Result<Option<Credential>, NetError> {
        let Some(source) = &transport.credentials else { return Ok(None) };
        if let Some(known) = lock(&self.registry.auth().credentials).get(&*self.repository) {
            return Ok(known.clone());
        }
        let target =
            CredentialTarget { host: self.registry.name().to_owned(), repository: self.repository.to_string() };
        let found = source.credential(&target).await?;
        insert_bounded(&self.registry.auth().credentials, self.repository.to_string(), found.clone());
        Ok(found)
    }

    /// The login for this repository, when it was asked for already.
    pub(crate) fn known_login(&self) -> Option<Credential> {
        lock(&self.registry.auth().credentials).get(&*self.repository).cloned().flatten()
    }

    fn forget_credential(&self) -> Option<Credential> {
        lock(&self.registry.auth().credentials).remove(&*self.repository).flatten()
    }

    /// Passwords and tokens of a user travel in clear text only on this machine, unless the user said otherwise.
    fn check_plain_text(&self, transport: &Transport) -> Result<(), NetError> {
        if !self.registry.is_plain() || self.registry.is_loopback() || transport.policy.passwords_over_http() {
            return Ok(());
        }
        let host = self.registry.name();
        let detail = format!("the login for {host} was not sent: the connection is plain HTTP");
        Err(NetError::new(NetErrorKind::Refused, detail))
    }

    /// A login goes to the token server of its own registry and to no other.
    fn check_realm(&self, transport: &Transport, realm: &Url) -> Result<(), NetError> {
        let name = self.registry.name();
        let asking = realm.host_str().unwrap_or_default();
        let base = self.registry.url("/")?;
        if !transport.policy.may_send_credentials(name, &base, realm) {
            let detail = format!(
                "the login for {name} was not sent: the registry names the token server of another host, {asking}"
            );
            let hint = format!("if `{asking}` really is the token server of `{name}`, trust it for this registry");
            return Err(NetError::new(NetErrorKind::Refused, detail).with_hint(hint));
        }
        if realm.scheme() == "http" && !is_loopback(realm) && !transport.policy.passwords_over_http() {
            let detail = format!("the login for {name} was not sent: the token server {asking} speaks plain HTTP");
            return Err(NetError::new(NetErrorKind::Refused, detail));
        }
        Ok(())
    }

    fn cell(&self, request: &TokenRequest<'_>) -> Arc<TokenCell> {
        let key = request.key();
        let mut tokens = lock(&self.registry.auth().tokens);
        if tokens.len() >= REMEMBERED && !tokens.contains_key(&key) {
            tokens.clear();
        }
        Arc::clone(tokens.entry(key).or_insert_with(|| Arc::new(TokenCell::new(self.registry.name()))))
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

/// The token server a challenge names, when it may be asked at all.
fn realm_of(transport: &Transport, challenge: &Challenge, base: &Url, reach: Reach) -> Result<(Url, Guard), NetError> {
    let refused = |why: String| NetError::new(NetErrorKind::Refused, format!("the token realm was refused ({why})"));
    let mut realm = base
        .join(challenge.parameter("realm").unwrap_or_default())
        .map_err(|error| refused("it is not a URL".into()).with_source(error))?;
    if realm.fragment().is_some() {
        realm.set_fragment(None);
    }
    let guard = transport.policy.check(base, reach, &realm, &transport.http).map_err(refused)?;
    Ok((realm, guard))
}
