//! `greentic-dist auth login|logout|ls|status`: logins of tenants and of registries.

use clap::{Args, Subcommand};
use greentic_dist_net::{Credential, CredentialSource, CredentialTarget};
use greentic_dist_types::{SafeText, Secret};
use serde_json::{Value, json};

use super::Context;
use crate::credentials::{
    CredentialChain, DockerConfig, HelperError, HelperName, RegistryLoginError, RegistryLogins, SavedLogin, Scope,
    Secrets,
};
use crate::dist_cli::output::Output;
use crate::dist_cli::{CliError, prompt};
use crate::private_file::PrivateFileError;
use crate::store_auth::{StoreAuth, StoreAuthError, StoreAuthErrorKind};

/// Commands on logins.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Save the login of a tenant or of a registry
    Login(AuthLoginArgs),
    /// Forget a login
    Logout(AuthLogoutArgs),
    /// List the saved logins, without their secrets
    Ls,
    /// Tell which login a registry would be given, and where it is from
    Status(AuthStatusArgs),
}

/// Whose login it is.
#[derive(Debug, Args)]
pub struct AuthSubject {
    /// A tenant of the store, or a registry: a name with a dot or a colon, or `localhost`
    #[arg(value_name = "TENANT|REGISTRY")]
    pub name: String,
    /// The name is a tenant's, though it has a dot
    #[arg(long)]
    pub tenant: bool,
}

/// Arguments of `greentic-dist auth login`. `Debug` shows no secret.
#[derive(Args)]
pub struct AuthLoginArgs {
    #[command(flatten)]
    subject: AuthSubject,
    /// User name at the registry; without it a token is sent as it is
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the token from the standard input
    #[arg(long)]
    token_stdin: bool,
    /// Read the password from the standard input
    #[arg(long, requires = "username", conflicts_with = "token_stdin")]
    password_stdin: bool,
    /// The token; other users can see it while the command runs, so prefer --token-stdin or the prompt
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["token_stdin", "password_stdin"])]
    token: Option<String>,
    /// Keep a registry's login in the program `docker-credential-NAME`
    #[arg(long, value_name = "NAME", requires = "username")]
    helper: Option<String>,
}

impl std::fmt::Debug for AuthLoginArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthLoginArgs")
            .field("subject", &self.subject)
            .field("username", &self.username)
            .field("helper", &self.helper)
            .finish_non_exhaustive()
    }
}

/// Arguments of `greentic-dist auth logout`.
#[derive(Debug, Args)]
pub struct AuthLogoutArgs {
    /// Whose login it is
    #[command(flatten)]
    pub subject: AuthSubject,
}

/// Arguments of `greentic-dist auth status`.
#[derive(Debug, Args)]
pub struct AuthStatusArgs {
    /// `host[:port]`, or `host[:port]/repository`; without it every registry with a saved login is told
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, command: AuthCommand) -> Result<(), CliError> {
    if context.authfile.is_some() && !matches!(command, AuthCommand::Status(_)) {
        let mut error =
            CliError::invalid("`--authfile` is a file that logins are taken from; this is about the saved ones");
        error
            .hints
            .push("leave it out; `auth status --authfile FILE REGISTRY` tells which login a file has".to_owned());
        return Err(error);
    }
    match command {
        AuthCommand::Login(args) => login(context, args).await,
        AuthCommand::Logout(args) => logout(context, &args.subject).await,
        AuthCommand::Ls => list(context).await,
        AuthCommand::Status(args) => status(context, args.registry.as_deref()).await,
    }
}

/// A name, understood.
enum Subject {
    Tenant(String),
    Registry(Scope),
}

impl AuthSubject {
    fn understand(&self) -> Result<Subject, CliError> {
        if self.tenant || (self.name != "localhost" && !self.name.contains(['.', ':'])) {
            return Ok(Subject::Tenant(self.name.trim().to_owned()));
        }
        registry_named(&self.name).map(Subject::Registry)
    }
}

fn registry_named(text: &str) -> Result<Scope, CliError> {
    Scope::parse(text).ok_or_else(|| {
        let shown = SafeText::excerpt(&greentic_dist_types::redact_reference(text), 96);
        CliError::invalid(&format!("`{shown}` is no registry: write `host[:port]`, or `host[:port]/path`"))
    })
}

fn store(context: &Context<'_>) -> StoreAuth {
    let options = context.client.options();
    StoreAuth::new(&options.store_auth_path, &options.store_state_path)
}

async fn login(context: &Context<'_>, args: AuthLoginArgs) -> Result<(), CliError> {
    match args.subject.understand()? {
        Subject::Tenant(tenant) => {
            if args.username.is_some() {
                return Err(CliError::invalid("the user name of a tenant is its own: leave out --username"));
            }
            let what = format!("Token of `{tenant}`: ");
            let token = secret(context, &args, &what)?;
            let auth = store(context);
            auth.save_login(&tenant, token.expose()).await.map_err(|error| from_store(&error))?;
            let place = auth.auth_path().display().to_string();
            saved(context.output, "tenant", &tenant, &place, None)
        }
        Subject::Registry(scope) => login_registry(context, &args, scope).await,
    }
}

async fn login_registry(context: &Context<'_>, args: &AuthLoginArgs, scope: Scope) -> Result<(), CliError> {
    let helper = match args.helper.as_deref().map(HelperName::parse) {
        Some(None) => {
            return Err(CliError::invalid("the name of a helper has 1 to 64 letters, digits, `.`, `_` and `-`"));
        }
        Some(Some(name)) => Some(name),
        None => None,
    };
    if args.username.is_none() && args.token.is_none() && !args.token_stdin {
        let message = format!("give the user name for `{scope}` (--username), or a token (--token-stdin)");
        return Err(CliError::invalid(&message));
    }
    let user = args.username.as_deref().map(|name| format!(" of `{name}`")).unwrap_or_default();
    let secret = secret(context, args, &format!("Password{user} at `{scope}`: "))?;
    if !args.username.as_deref().is_none_or(is_name) || secret.expose().chars().any(char::is_control) {
        return Err(CliError::invalid("a user name has no colon, and neither it nor a secret has control characters"));
    }
    let credential = match &args.username {
        Some(username) => Credential::Basic { username: username.clone(), password: secret.clone() },
        None => Credential::Bearer(secret.clone()),
    };
    check(context, &scope, credential).await?;
    let logins = RegistryLogins::from_env();
    let place = logins.path().display().to_string();
    let (secrets, kept_by) = match (args.username.clone(), helper) {
        (Some(username), Some(name)) => {
            name.store(&scope, &username, &secret).map_err(|error| from_helper(&error))?;
            let kept_by = name.to_string();
            (Secrets::Helper { name, username }, Some(kept_by))
        }
        (Some(username), None) => (Secrets::Password { username, password: secret }, None),
        (None, _) => (Secrets::Token(secret), None),
    };
    logins.save(&SavedLogin { scope: scope.clone(), secrets }).map_err(|error| from_registry(&error))?;
    saved(context.output, "registry", &scope.to_string(), &place, kept_by.as_deref())
}

/// Whether a text can be a user name (RFC 7617).
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(':') && !name.chars().any(char::is_control)
}

/// Asks the registry whether the login is good, unless no socket may be opened.
async fn check(context: &Context<'_>, scope: &Scope, credential: Credential) -> Result<(), CliError> {
    let output = context.output;
    if context.client.options().offline {
        output.note("offline: the login is saved without asking the registry");
        return Ok(());
    }
    if !context.client.check_login(scope.host(), credential).await? {
        output.note(&format!(
            "`{}` wants no login for its base; whether this one is good shows when it is used",
            scope.host()
        ));
    }
    Ok(())
}

/// The secret of a login: from the standard input, the command line, or the terminal.
fn secret(context: &Context<'_>, args: &AuthLoginArgs, what: &str) -> Result<Secret, CliError> {
    if args.token_stdin || args.password_stdin {
        return prompt::from_stdin();
    }
    if let Some(token) = &args.token {
        context.output.note(
            "warning: a token on the command line can be seen by other users and stays in the history of the shell; \
             use --token-stdin, or leave it out to be asked",
        );
        return Ok(Secret::new(token.as_str()));
    }
    context.reporter.finish();
    prompt::from_terminal(what)
}

fn saved(output: &Output, kind: &str, name: &str, place: &str, helper: Option<&str>) -> Result<(), CliError> {
    if output.is_json() {
        return output.document(&json!({
            "login": { "kind": kind, "name": name, "path": place, "helper": helper }
        }));
    }
    let kept_by = helper.map(|name| format!(" in docker-credential-{name}")).unwrap_or_default();
    output.note(&format!("the login for `{name}` is saved{kept_by} ({place})"));
    Ok(())
}

async fn logout(context: &Context<'_>, subject: &AuthSubject) -> Result<(), CliError> {
    let output = context.output;
    let (kind, name, removed) = match subject.understand()? {
        Subject::Tenant(tenant) => {
            let removed = store(context).remove_login(&tenant).await.map_err(|error| from_store(&error))?;
            ("tenant", tenant, removed)
        }
        Subject::Registry(scope) => {
            let logins = RegistryLogins::from_env();
            let helper = logins.list().map_err(|error| from_registry(&error))?.into_iter().find_map(|login| {
                match (login.scope == scope, login.secrets) {
                    (true, Secrets::Helper { name, .. }) => Some(name),
                    _ => None,
                }
            });
            // First the secret, then the memory of it: what fails in between can be tried again.
            if let Some(helper) = helper {
                helper.erase(&scope).map_err(|error| from_helper(&error))?;
            }
            let removed = logins.remove(&scope).map_err(|error| from_registry(&error))?;
            ("registry", scope.to_string(), removed.is_some())
        }
    };
    if output.is_json() {
        return output.document(&json!({ "kind": kind, "name": name, "removed": removed }));
    }
    let name = SafeText::excerpt(&name, 255);
    output.note(&if removed {
        format!("the login for `{name}` is forgotten")
    } else {
        format!("no login was saved for `{name}`")
    });
    Ok(())
}

/// The end of a secret that is long enough to be told apart by it and not known by it.
fn ending(secret: &str) -> String {
    let count = secret.chars().count();
    let shown = if count >= 16 { 4 } else { 0 };
    format!("…{}", secret.chars().skip(count - shown).collect::<String>())
}

async fn list(context: &Context<'_>) -> Result<(), CliError> {
    let auth = store(context);
    let tenants = auth.logins().await.map_err(|error| from_store(&error))?;
    let logins = RegistryLogins::from_env();
    let registries = logins.list().map_err(|error| from_registry(&error))?;
    let mut documents: Vec<Value> = Vec::new();
    let mut line = |kind: &str,
                    name: &str,
                    username: Option<&str>,
                    what: &str,
                    secret: Option<&str>,
                    path: &std::path::Path| {
        let (secret, shown) = (secret.map(ending), |text: &str| SafeText::excerpt(text, 255).to_string());
        if context.output.is_json() {
            documents.push(json!({
                "kind": kind, "name": name, "username": username, "type": what, "secret": secret, "path": path.display().to_string(),
            }));
        } else {
            let user = username.map(|name| format!(" {}", shown(name))).unwrap_or_default();
            let secret = secret.map(|end| format!(" {}", shown(&end))).unwrap_or_default();
            context.output.line(&format!("{kind} {}{user} {what}{secret}", shown(name)));
        }
    };
    for login in &tenants {
        line("tenant", &login.tenant, None, "token", Some(&login.token), auth.auth_path());
    }
    for SavedLogin { scope, secrets } in &registries {
        let name = scope.to_string();
        match secrets {
            Secrets::Password { username, password } => {
                line("registry", &name, Some(username), "password", Some(password.expose()), logins.path());
            }
            Secrets::Token(token) => line("registry", &name, None, "token", Some(token.expose()), logins.path()),
            Secrets::Helper { name: helper, username } => {
                line("registry", &name, Some(username), &format!("helper:{helper}"), None, logins.path());
            }
        }
    }
    if context.output.is_json() { context.output.document(&json!({ "logins": documents })) } else { Ok(()) }
}

async fn status(context: &Context<'_>, registry: Option<&str>) -> Result<(), CliError> {
    let scopes = if let Some(text) = registry {
        vec![registry_named(text)?]
    } else {
        let logins = RegistryLogins::from_env().list().map_err(|error| from_registry(&error))?;
        logins.into_iter().map(|login| login.scope).collect()
    };
    let chain: Box<dyn CredentialSource> = match &context.authfile {
        Some(file) => Box::new(DockerConfig::at(file)),
        None => Box::new(CredentialChain::new()),
    };
    let mut documents = Vec::with_capacity(scopes.len());
    for scope in scopes {
        let target = CredentialTarget::new(scope.host(), scope.path());
        let answer = chain
            .credential(&target)
            .await
            .map_err(|error| CliError::from_dist(&crate::dist::DistError::from_net(&scope.to_string(), error)))?;
        for note in answer.warnings.iter().chain(&answer.remarks) {
            context.output.note(&format!("warning: {note}"));
        }
        let (kind, username) = match answer.login.as_ref().map(|login| &login.credential) {
            Some(Credential::Basic { username, .. }) => ("password", Some(username.as_str())),
            Some(Credential::IdentityToken(_)) => ("identity_token", None),
            Some(_) => ("token", None),
            None => ("none", None),
        };
        let place = answer.login.as_ref().map(|login| login.place.clone());
        if context.output.is_json() {
            let notes: Vec<&str> = answer.warnings.iter().chain(&answer.remarks).map(SafeText::as_str).collect();
            documents.push(json!({
                "registry": scope.to_string(), "type": kind, "username": username, "source": place, "notes": notes,
            }));
            continue;
        }
        let user = username.map(|name| format!(" of {}", SafeText::excerpt(name, 255))).unwrap_or_default();
        context.output.line(&match place {
            Some(place) => format!("{scope}: {}{user} from {}", kind.replace('_', " "), SafeText::excerpt(&place, 500)),
            None => format!("{scope}: no login; it is asked anonymously"),
        });
    }
    if context.output.is_json() { context.output.document(&json!({ "registries": documents })) } else { Ok(()) }
}

/// A failure of the login file of tenants.
fn from_store(error: &StoreAuthError) -> CliError {
    match error.kind() {
        StoreAuthErrorKind::Busy => CliError::with_causes(7, "temporary", error),
        StoreAuthErrorKind::Io => CliError::with_causes(10, "internal", error),
        _ => CliError::with_causes(5, "auth", error),
    }
}

/// A failure of the file of registry logins.
fn from_registry(error: &RegistryLoginError) -> CliError {
    let mut failure = match error {
        RegistryLoginError::File(PrivateFileError::Busy { .. }) => CliError::with_causes(7, "temporary", error),
        RegistryLoginError::File(PrivateFileError::Io { .. }) => CliError::with_causes(10, "internal", error),
        RegistryLoginError::File(PrivateFileError::Refused { .. }) | RegistryLoginError::Malformed { .. } => {
            CliError::with_causes(5, "auth", error)
        }
    };
    if failure.code == 5 {
        failure.hints.push("move the file away and log in again".to_owned());
    }
    failure
}

fn from_helper(error: &HelperError) -> CliError {
    let mut failure = CliError::with_causes(5, "auth", error);
    if matches!(error, HelperError::Missing { .. }) {
        failure.hints.push("install it, or save the login without --helper".to_owned());
    }
    failure
}
