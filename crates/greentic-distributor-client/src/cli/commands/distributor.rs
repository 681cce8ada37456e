//! `greentic-dist distributor resolve|status|warm`: one question to a distributor over HTTP, for people who debug a runtime.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::value_parser;
use greentic_dist_types::SafeText;
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use crate::dist::DistError;
use crate::dist_cli::CliError;
use crate::types::{ArtifactLocation, ComponentStatus, DistributorEnvironmentId, EnvId, TenantCtx, TenantId};
use crate::{
    DistributorClient, DistributorClientConfig, DistributorError, HttpDistributorClient, ResolveComponentRequest,
    env as variables,
};

/// Commands on a distributor.
#[derive(Debug, clap::Subcommand)]
pub enum DistributorCommand {
    /// Where a component is, and whether it is ready
    Resolve {
        /// The pack that asks for it
        #[arg(value_name = "PACK", value_parser = NonEmptyStringValueParser::new())]
        pack: String,
        /// The component
        #[arg(value_name = "COMPONENT", value_parser = NonEmptyStringValueParser::new())]
        component: String,
        /// Its version
        #[arg(value_name = "VERSION", value_parser = NonEmptyStringValueParser::new())]
        version: String,
        /// Whom to ask.
        #[command(flatten)]
        at: DistributorArgs,
    },
    /// Whether a pack is ready
    Status {
        /// The pack
        #[arg(value_name = "PACK", value_parser = NonEmptyStringValueParser::new())]
        pack: String,
        /// Ask in the first form, which has no secrets
        #[arg(long)]
        v1: bool,
        /// Whom to ask.
        #[command(flatten)]
        at: DistributorArgs,
    },
    /// Ask to have a pack ready
    Warm {
        /// The pack
        #[arg(value_name = "PACK", value_parser = NonEmptyStringValueParser::new())]
        pack: String,
        /// Whom to ask.
        #[command(flatten)]
        at: DistributorArgs,
    },
}

/// Which distributor, and for whom.
#[derive(Debug, clap::Args)]
pub struct DistributorArgs {
    /// Its address [default: `GREENTIC_DISTRIBUTOR_URL`]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The tenant
    #[arg(long, value_name = "ID", default_value = "default")]
    pub tenant: String,
    /// The environment
    #[arg(long, value_name = "ID", default_value = "dev")]
    pub environment: String,
    /// Longest time for the whole question, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// Whom to ask, in the terms of the API.
struct Asked {
    client: HttpDistributorClient,
    url: String,
    tenant: TenantCtx,
    environment: DistributorEnvironmentId,
}

impl DistributorArgs {
    fn ask(&self, offline: bool) -> Result<Asked, CliError> {
        if offline {
            return Err(CliError::offline(
                "a distributor is asked over a socket, and offline mode forbids every socket",
            ));
        }
        let (named, url) = match (&self.url, variables::text(variables::DISTRIBUTOR_URL)) {
            (Some(url), _) => ("--url", url.clone()),
            (None, Some(url)) => (variables::DISTRIBUTOR_URL, url),
            (None, None) => {
                let mut error = CliError::invalid("no distributor was named");
                error.hints.push("give --url, or set GREENTIC_DISTRIBUTOR_URL".to_owned());
                return Err(error);
            }
        };
        let id = |what: &str, text: &str| {
            let shown = SafeText::excerpt(text, 60);
            CliError::invalid(&format!("`{shown}` is no {what}: letters, digits, `.`, `_` and `-`"))
        };
        let env = EnvId::new(&self.environment).map_err(|_grammar| id("environment", &self.environment))?;
        let tenant = TenantId::new(&self.tenant).map_err(|_grammar| id("tenant", &self.tenant))?;
        let tenant = TenantCtx::new(env, tenant);
        let environment = DistributorEnvironmentId::from(self.environment.as_str());
        let config = DistributorClientConfig {
            base_url: Some(url.clone()),
            environment_id: environment.clone(),
            tenant: tenant.clone(),
            auth_token: variables::text(variables::DISTRIBUTOR_TOKEN),
            extra_headers: None,
            request_timeout: Some(Duration::from_secs(self.timeout)),
        };
        let client = HttpDistributorClient::new(config).map_err(|error| unusable(named, &error))?;
        Ok(Asked { client, url, tenant, environment })
    }
}

pub(crate) async fn run(context: &Context<'_>, command: DistributorCommand) -> Result<(), CliError> {
    let offline = context.client.options().offline;
    match command {
        DistributorCommand::Resolve { pack, component, version, at } => {
            let asked = at.ask(offline)?;
            let request = ResolveComponentRequest {
                tenant: asked.tenant.clone(),
                environment_id: asked.environment.clone(),
                pack_id: pack,
                component_id: component.clone(),
                version: version.clone(),
                extra: Value::Null,
            };
            let answer = asked.client.resolve_component(request).await;
            let answer = answer.map_err(|error| asked.failed(error, &format!("{component} {version}")))?;
            show(context, &answer, || {
                let status = match &answer.status {
                    ComponentStatus::Ready => "ready".to_owned(),
                    ComponentStatus::Pending => "pending".to_owned(),
                    ComponentStatus::Failed { reason } => format!("failed: {}", SafeText::excerpt(reason, 300)),
                };
                let (kind, place) = match &answer.artifact {
                    ArtifactLocation::FilePath { path } => ("file", path),
                    ArtifactLocation::OciReference { reference } => ("reference", reference),
                    ArtifactLocation::DistributorInternal { handle } => ("handle", handle),
                };
                let digest = SafeText::excerpt(answer.digest.as_str(), 300);
                let place = SafeText::excerpt(place, 1_024);
                let secrets = answer.secret_requirements.iter().flatten();
                let mut lines =
                    vec![format!("status: {status}"), format!("digest: {digest}"), format!("{kind}: {place}")];
                lines.extend(secrets.map(|secret| format!("secret: {}", SafeText::excerpt(secret.key.as_str(), 300))));
                lines
            })
        }
        DistributorCommand::Status { pack, v1: true, at } => {
            let asked = at.ask(offline)?;
            let answer = asked.client.get_pack_status(&asked.tenant, &asked.environment, &pack).await;
            let answer = answer.map_err(|error| asked.failed(error, &pack))?;
            show(context, &answer, || vec![SafeText::excerpt(&answer.to_string(), 4_096).to_string()])
        }
        DistributorCommand::Status { pack, v1: false, at } => {
            let asked = at.ask(offline)?;
            let answer = asked.client.get_pack_status_v2(&asked.tenant, &asked.environment, &pack).await;
            let answer = answer.map_err(|error| asked.failed(error, &pack))?;
            show(context, &answer, || {
                let mut lines = vec![format!("status: {}", SafeText::excerpt(&answer.status, 300))];
                let secrets = answer.secret_requirements.iter().flatten();
                lines.extend(secrets.map(|secret| format!("secret: {}", SafeText::excerpt(secret.key.as_str(), 300))));
                if !answer.extra.is_null() {
                    lines.push(format!("extra: {}", SafeText::excerpt(&answer.extra.to_string(), 4_096)));
                }
                lines
            })
        }
        DistributorCommand::Warm { pack, at } => {
            let asked = at.ask(offline)?;
            let answer = asked.client.warm_pack(&asked.tenant, &asked.environment, &pack).await;
            answer.map_err(|error| asked.failed(error, &pack))?;
            show(context, &json!({ "pack": pack, "warmed": true }), || {
                vec![format!("asked for {}", SafeText::excerpt(&pack, 300))]
            })
        }
    }
}

fn show<T: Serialize>(
    context: &Context<'_>,
    document: &T,
    lines: impl FnOnce() -> Vec<String>,
) -> Result<(), CliError> {
    if context.output.is_json() {
        return context.output.document(document);
    }
    for line in lines() {
        context.output.line(&line);
    }
    Ok(())
}

impl Asked {
    /// The failure of a question about `what`.
    fn failed(&self, error: DistributorError, what: &str) -> CliError {
        let what = SafeText::excerpt(what, 200);
        let who = greentic_dist_types::redact_url(&self.url);
        match error {
            DistributorError::NotFound => CliError::missing(&format!("the distributor {who} does not have `{what}`")),
            DistributorError::PermissionDenied => {
                let mut error = CliError::auth(&format!("the distributor {who} refuses to tell about `{what}`"));
                error.hints.push("set GREENTIC_DISTRIBUTOR_TOKEN".to_owned());
                error
            }
            DistributorError::Http(error) => {
                let mut failure = CliError::from_dist(&DistError::from_net(&who, error));
                failure.message = format!("cannot ask the distributor {who} about `{what}`");
                failure
            }
            DistributorError::Status { status, .. } => {
                let message = format!("the distributor {who} does not answer about `{what}`: {error}");
                match status.as_u16() {
                    // It did not like the question.
                    400 | 409 | 413 | 414 | 422 => CliError::invalid(&message),
                    408 | 425 | 429 | 500.. => CliError::temporary(&message),
                    _ => CliError::internal(&message),
                }
            }
            other => CliError::internal(&format!(
                "the answer of the distributor {who} about `{what}` cannot be used: {other}"
            )),
        }
    }
}

/// A configuration no question can be asked with.
fn unusable(named: &str, error: &DistributorError) -> CliError {
    let why = match error {
        DistributorError::InvalidResponse(why) => why.clone(),
        other => other.to_string(),
    };
    CliError::invalid(&format!("the distributor of {named} cannot be asked: {why}"))
}
