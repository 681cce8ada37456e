//! `greentic-dist catalog resolve|show|ls|update`: the provider catalog of a bundle.

use std::path::PathBuf;

use serde_json::json;

use super::super::Context;
use super::show;
use crate::dist::DistErrorKind;
use crate::dist_cli::CliError;
use crate::dist_cli::exit::reason_of;
use crate::env;
use crate::provider_registry::{
    Catalog, CatalogError, CatalogSource, ProviderRegistry, ProviderRegistryError, ResolvedCatalog,
};

/// The catalog that is asked for where nothing is said.
const PUBLISHED: &str = "oci://ghcr.io/greenticai/registries/providers:latest";

/// Which catalog, for which bundle.
#[derive(Debug, clap::Args)]
pub struct CatalogPlaceArgs {
    /// The same as `--provider-registry`
    #[arg(value_name = "REF", conflicts_with = "provider_registry")]
    pub reference: Option<String>,
    /// `oci://`, `repo://`, `store://`, `file://` or a path [default: `GTC_PROVIDER_REGISTRY_REF`, else
    /// `oci://ghcr.io/greenticai/registries/providers:latest`]
    #[arg(long, value_name = "REF")]
    pub provider_registry: Option<String>,
    /// A catalog that is used as it is, before any reference [default: `GREENTIC_OPERATOR_WIZARD_CATALOG`, unless a reference is
    /// given]
    #[arg(long, value_name = "FILE")]
    pub catalog_file: Option<PathBuf>,
    /// The bundle that keeps the copy, below its `.greentic/cache/provider-registry`
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
}

/// Arguments of `greentic-dist catalog resolve|show|ls`.
#[derive(Debug, clap::Args)]
pub struct CatalogLookArgs {
    /// Which catalog
    #[command(flatten)]
    pub place: CatalogPlaceArgs,
    /// Ask the registry also when there is a copy, which is used when that fails; `--offline` wins
    #[arg(long, alias = "provider-registry-refresh")]
    pub refresh: bool,
}

/// What is asked for: a file, or a reference.
enum Wanted {
    File(PathBuf),
    Reference(String),
}

impl CatalogPlaceArgs {
    /// A flag beats every variable, and a file beats a reference of the same rank.
    fn wanted(&self) -> Wanted {
        let flag = self.provider_registry.as_ref().or(self.reference.as_ref());
        let file =
            || self.catalog_file.clone().or_else(|| flag.is_none().then(|| env::path(env::WIZARD_CATALOG)).flatten());
        let reference =
            || flag.cloned().or_else(|| env::text(env::PROVIDER_REGISTRY_REF).filter(|text| !text.trim().is_empty()));
        match file() {
            Some(file) => Wanted::File(file),
            None => Wanted::Reference(reference().unwrap_or_else(|| PUBLISHED.to_owned())),
        }
    }

    fn registry(&self, context: &Context<'_>) -> crate::provider_registry::ProviderRegistryBuilder {
        ProviderRegistry::builder(&self.bundle).client(context.client.clone())
    }
}

/// Finds the catalog; that there is none is an error here, as is a file that cannot be read.
async fn find(registry: &ProviderRegistry, wanted: &Wanted) -> Result<ResolvedCatalog, CliError> {
    let found = match wanted {
        Wanted::File(path) => registry.resolve(Some(path.clone()), None).await,
        Wanted::Reference(reference) => registry.resolve(None, Some(reference)).await,
    };
    let found = found.map_err(|error| CliError::from_provider_registry(&error))?;
    let found = found.ok_or_else(|| CliError::invalid("the provider registry reference is blank"))?;
    match found.catalog() {
        Err(error @ CatalogError::Unreadable { .. }) => Err(no_catalog(&found, error)),
        _ => Ok(found),
    }
}

pub(super) async fn resolve(context: &Context<'_>, args: &CatalogLookArgs) -> Result<(), CliError> {
    let found = look(context, args).await?;
    if context.output.is_json() {
        return context.output.document(&show::document(&found));
    }
    context.output.line(&found.path.display().to_string());
    Ok(())
}

pub(super) async fn show(context: &Context<'_>, args: &CatalogLookArgs) -> Result<(), CliError> {
    let found = look(context, args).await?;
    if context.output.is_json() {
        return context.output.document(&show::document(&found));
    }
    show::print(context.output, &found);
    Ok(())
}

pub(super) async fn ls(context: &Context<'_>, args: &CatalogLookArgs) -> Result<(), CliError> {
    let found = look(context, args).await?;
    let catalog = readable(&found)?;
    if context.output.is_json() {
        return context.output.document(&show::providers(catalog));
    }
    show::list(context.output, catalog);
    Ok(())
}

pub(super) async fn update(context: &Context<'_>, args: &CatalogPlaceArgs) -> Result<(), CliError> {
    let (output, wanted) = (context.output, args.wanted());
    let before = find(&args.registry(context).offline(true).quiet().build(), &wanted).await.ok();
    let found = find(&args.registry(context).refresh(true).without_fallback().build(), &wanted).await?;
    if let Some(failure) = &found.refresh_failure {
        let shown = found.requested_reference.as_deref().unwrap_or_default();
        let message = format!("the provider registry `{shown}` could not be refreshed");
        let failed = CliError::of_kind(failure.kind, &message, failure.causes.clone());
        let reference = found.requested_reference.clone();
        return Err(CliError { reference, hints: failure.hints.clone(), ..failed });
    }
    // Digests of manifests, which differ where only an annotation does.
    let digest = |found: &ResolvedCatalog| found.manifest_digest.clone().or_else(|| found.layer_digest.clone());
    let (previous, now) = (before.as_ref().and_then(digest), digest(&found));
    let is_changed = found.source == CatalogSource::Network && previous != now;
    if output.is_json() {
        let mut document = show::document(&found);
        if let Some(object) = document.as_object_mut() {
            object.insert("changed".to_owned(), json!(is_changed));
            object.insert("previous_digest".to_owned(), json!(previous));
        }
        return output.document(&document);
    }
    let now = now.unwrap_or_else(|| found.path.display().to_string());
    output.line(&format!("{} {now}", if is_changed { "changed" } else { "unchanged" }));
    if found.source == CatalogSource::File {
        output.note("a file is read as it is; there is no registry to ask");
    }
    Ok(())
}

async fn look(context: &Context<'_>, args: &CatalogLookArgs) -> Result<ResolvedCatalog, CliError> {
    find(&args.place.registry(context).refresh(args.refresh).build(), &args.place.wanted()).await
}

fn readable(found: &ResolvedCatalog) -> Result<&Catalog, CliError> {
    found.catalog().map_err(|error| no_catalog(found, error))
}

fn no_catalog(found: &ResolvedCatalog, error: CatalogError) -> CliError {
    CliError::from_provider_registry(&ProviderRegistryError::not_a_catalog(&found.path, error))
}

impl CliError {
    /// The failure of a resolve of a provider catalog.
    fn from_provider_registry(error: &ProviderRegistryError) -> Self {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        causes.dedup();
        let reference = error.reference().map(ToOwned::to_owned);
        let reason = reason_of(error);
        Self { hints: error.hints(), reference, reason, ..Self::of_kind(error.kind(), &error.summary(), causes) }
    }

    fn of_kind(kind: DistErrorKind, message: &str, causes: Vec<String>) -> Self {
        Self {
            code: kind.exit_code(),
            message: message.to_owned(),
            kind: kind.code(),
            causes,
            hints: Vec::new(),
            reference: None,
            retryable: kind == DistErrorKind::Temporary,
            reason: None,
            partial: None,
        }
    }
}
