//! Logging in when a registry asks for it: challenge, credential, token, once more.
//!
//! [`Access::authorize`] gives a request what the registry is known to want; `answer` takes what a registry says to it.

mod answer;
pub(crate) mod challenge;
mod credential;
mod scope;
mod source;
mod token;
mod token_server;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greentic_dist_types::{SafeText, Secret};
use http::{HeaderMap, header};
use tokio::time::Instant;
use url::Url;

pub use self::credential::Credential;
pub use self::source::{
    BoxFuture, CredentialAction, CredentialAnswer, CredentialSource, CredentialTarget, Login, LoginOrigin,
    StaticCredentials,
};

pub(crate) use self::answer::Refusal;
pub(crate) use self::scope::Action;
use self::token::{TokenCell, TokenKey, TokenRequest};
use self::token_server::TokenServer;
use super::Registry;
use crate::config::is_loopback;
use crate::host::Profile;
use crate::target_policy::Guard;
use crate::transport::Transport;
use crate::{NetError, NetErrorKind};

/// Most entries of each table of a registry; beyond it the table starts anew.
const REMEMBERED: usize = 1_024;

/// How long it is taken for granted that there is no login: long enough for the requests of one piece of work, short enough for
/// somebody who logs in meanwhile.
const NO_LOGIN: Duration = Duration::from_secs(10);

/// What one registry demanded so far, and what it was given.
#[derive(Debug, Default)]
pub(crate) struct RegistryAuth {
    demand: Mutex<Option<Demand>>,
    /// Scopes that were demanded beyond the computed ones, by repository and work.
    scopes: Mutex<HashMap<(String, Action), String>>,
    known: Mutex<HashMap<CredentialTarget, Arc<Known>>>,
    tokens: Mutex<HashMap<TokenKey, Arc<TokenCell>>>,
    server: TokenServer,
    /// Whether a registry that refuses without a challenge was asked for one.
    sought: tokio::sync::Mutex<bool>,
    warned_plain_text: AtomicBool,
}

/// The scheme a registry wants.
#[derive(Clone, Debug)]
enum Demand {
    Basic,
    Bearer { realm: Url, guard: Guard, service: Option<String> },
}

/// What the source said about one repository and what is to be done there.
#[derive(Debug)]
struct Known {
    login: Option<Login>,
    remarks: Vec<SafeText>,
    asked_at: Instant,
    /// How the token server rejected the login, when what may be read without it is read without it.
    rejected: Option<NetError>,
}

/// Access to one repository for one kind of work.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) registry: Arc<Registry>,
    /// Empty for [`Action::Catalog`] and for the registry as a whole.
    pub(crate) repository: Arc<str>,
    pub(crate) action: Action,
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
    /// A token was replaced after a 401.
    refetched: bool,
    /// A token was replaced after a 403.
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

impl RegistryAuth {
    /// Whether the registry demanded a login so far.
    pub(crate) fn is_demanded(&self) -> bool {
        lock(&self.demand).is_some()
    }
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
        let known = self.known(transport).await?;
        let login = known.usable(&self.action);
        if login.is_some() {
            self.check_plain_text(transport)?;
        }
        let (value, used) = match (demand, login.map(|login| &login.credential)) {
            (_, Some(Credential::Bearer(token))) => {
                (credential::sensitive(Secret::new(format!("Bearer {}", token.expose())).expose())?, Used::Given)
            }
            (Demand::Basic, Some(login @ Credential::Basic { .. })) => match login.basic_header() {
                Some(value) => (value?, Used::Basic),
                None => return Ok(Used::Nothing),
            },
            // An identity token means nothing to a registry itself.
            (Demand::Basic, Some(Credential::IdentityToken(_)) | None) => return Ok(Used::Nothing),
            (Demand::Bearer { realm, guard, service }, _) => {
                let server = Server { realm, guard, service };
                match Box::pin(self.token(transport, &server, known, round)).await? {
                    Some((token, kept)) => (token.header.clone(), Used::Token { id: token.id, kept }),
                    None => return Ok(Used::Nothing),
                }
            }
        };
        headers.insert(header::AUTHORIZATION, value);
        Ok(used)
    }

    /// A token for this work, and whether it was there already. `None` when the request should be tried without one.
    ///
    /// A login that its token server rejects is asked of its source once more. One that was only found on this machine then
    /// makes way for anonymous access, where nothing is to be written.
    async fn token(
        &self,
        transport: &Transport,
        server: &Server,
        mut known: Arc<Known>,
        round: Round,
    ) -> Result<Option<(token::Token, bool)>, NetError> {
        let scopes = self.scopes();
        let mut asked_again = false;
        loop {
            let login = known.usable(&self.action);
            if login.is_some() {
                self.check_realm(transport, &server.realm)?;
            }
            let profile = &self.profile_for(&server.realm)?;
            let request = TokenRequest {
                realm: &server.realm,
                guard: server.guard,
                profile,
                service: server.service.as_deref(),
                scopes: &scopes,
                login: login.map(|login| &login.credential),
            };
            let cell = self.cell(&request);
            let error = match cell.token(transport, &self.registry.auth().server, &request, round.answered).await {
                Ok(token) => return Ok(Some(token)),
                Err(error) => error,
            };
            let Some(login) = login else {
                // Nobody asked for this token yet: the repository may be open to everybody.
                if round.answered == 0 && !error.is_transient() {
                    return Ok(None);
                }
                return Err(error);
            };
            if !matches!(error.kind(), NetErrorKind::Unauthorized | NetErrorKind::Forbidden) {
                return Err(error);
            }
            if !asked_again {
                asked_again = true;
                let newer = self.ask_anew(transport, &known).await?;
                if newer.usable(&self.action).is_some_and(|newer| newer.credential != login.credential) {
                    known = newer;
                    continue;
                }
                known = newer;
            }
            let Some(login) = known.usable(&self.action) else { continue };
            if self.action != Action::Pull || login.origin == LoginOrigin::Explicit {
                return Err(error);
            }
            let text = format!("{} was rejected ({error}); going on without it", login.named());
            transport.warn(self.registry.name(), SafeText::new(&text));
            let (login, remarks) = (known.login.clone(), known.remarks.clone());
            let rejected = Known { login, remarks, asked_at: known.asked_at, rejected: Some(error) };
            known = self.remember(rejected);
        }
    }

    /// What is known about this repository and this work: remembered, else asked of the source.
    async fn known(&self, transport: &Transport) -> Result<Arc<Known>, NetError> {
        match self.remembered() {
            Some(known) if known.is_current() => Ok(known),
            _ => self.ask_source(transport).await,
        }
    }

    async fn ask_source(&self, transport: &Transport) -> Result<Arc<Known>, NetError> {
        let CredentialAnswer { login, warnings, remarks } = match &transport.credentials {
            Some(source) => source.credential(&self.target()).await?,
            None => CredentialAnswer::none(),
        };
        // Before it goes anywhere: no answer to it can come first.
        if let Some(login) = &login {
            transport.secrets.note_login(&login.credential);
        }
        for warning in warnings {
            transport.warn(self.registry.name(), warning);
        }
        Ok(self.remember(Known { login, remarks, asked_at: Instant::now(), rejected: None }))
    }

    /// Tells the source that its login was rejected, and asks again.
    async fn ask_anew(&self, transport: &Transport, known: &Known) -> Result<Arc<Known>, NetError> {
        if let (Some(source), Some(login)) = (&transport.credentials, &known.login) {
            source.reject(&self.target(), login);
        }
        self.ask_source(transport).await
    }

    fn remember(&self, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        insert_bounded(&self.registry.auth().known, self.target(), Arc::clone(&known));
        known
    }

    fn target(&self) -> CredentialTarget {
        CredentialTarget::new(self.registry.name(), &*self.repository).to(self.action.of_login())
    }

    /// What the source said, when it was asked for this already.
    fn remembered(&self) -> Option<Arc<Known>> {
        lock(&self.registry.auth().known).get(&self.target()).map(Arc::clone)
    }

    /// Passwords and tokens of a user travel in clear text only on this machine, unless the user said otherwise.
    fn check_plain_text(&self, transport: &Transport) -> Result<(), NetError> {
        if !self.registry.is_plain() || self.registry.is_loopback() {
            return Ok(());
        }
        let host = self.registry.name();
        if transport.policy.passwords_over_http(host) {
            if !self.registry.auth().warned_plain_text.swap(true, Ordering::Relaxed) {
                let text = "the login is sent in clear text: the connection is plain HTTP";
                transport.warn(host, SafeText::new(text));
            }
            return Ok(());
        }
        let detail = format!("the login for {host} was not sent: the connection is plain HTTP");
        let hint = format!("ask `{host}` over HTTPS, or let its login go in clear text: --allow-http-login {host}");
        Err(NetError::new(NetErrorKind::Refused, detail).with_hint(hint))
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
            let port = realm.port().map(|port| format!(":{port}")).unwrap_or_default();
            let hint = format!(
                "if `{asking}` really is the token server of `{name}`, trust it: --trust-realm {name}={asking}{port}"
            );
            return Err(NetError::new(NetErrorKind::Refused, detail).with_hint(hint));
        }
        if realm.scheme() == "http"
            && !is_loopback(realm)
            && !transport.policy.passwords_over_http(name)
            && !transport.policy.allows_http_realm(name)
        {
            let detail = format!("the login for {name} was not sent: the token server {asking} speaks plain HTTP");
            let hint = format!("let the login for `{name}` go there in clear text: --allow-http-login {name}");
            return Err(NetError::new(NetErrorKind::Refused, detail).with_hint(hint));
        }
        Ok(())
    }

    /// How connections to a token server are made: as those to the registry when it is the same origin.
    fn profile_for(&self, realm: &Url) -> Result<Arc<Profile>, NetError> {
        let profile = self.registry.profile();
        let is_own = self.registry.url("/")?.origin() == realm.origin();
        Ok(if is_own { Arc::clone(profile) } else { profile.elsewhere() })
    }

    fn cell(&self, request: &TokenRequest<'_>) -> Arc<TokenCell> {
        let key = request.key();
        let mut tokens = lock(&self.registry.auth().tokens);
        if tokens.len() >= REMEMBERED && !tokens.contains_key(&key) {
            tokens.clear();
        }
        Arc::clone(tokens.entry(key).or_insert_with(|| Arc::new(TokenCell::new(self.registry.name()))))
    }
}

/// The token server a registry named.
struct Server {
    realm: Url,
    guard: Guard,
    service: Option<String>,
}

impl Known {
    /// Whether the source need not be asked again.
    fn is_current(&self) -> bool {
        match &self.login {
            Some(login) => !login.is_expired(),
            None => self.asked_at.elapsed() < NO_LOGIN,
        }
    }

    /// The login, unless it was rejected and this work may be done without one.
    fn usable(&self, action: &Action) -> Option<&Login> {
        let passed_over = self.rejected.is_some() && *action == Action::Pull;
        self.login.as_ref().filter(|_| !passed_over)
    }
}
