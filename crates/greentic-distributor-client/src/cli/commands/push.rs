//! `greentic-dist push FILE REF`: a file becomes an artifact.

use std::collections::BTreeMap;
use std::path::PathBuf;

use greentic_dist_types::SafeText;

use super::Context;
use crate::dist_cli::CliError;
use crate::dist_cli::output::human_bytes;
use crate::env;
use crate::oci::{Place, PushKind, PushOptions, PushReport, parse_created};

/// Arguments of `greentic-dist push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// A WebAssembly component or module, a pack, or a catalog
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// `host/name:tag`, `oci-layout:DIR[:TAG]`, or `oci-archive:FILE.tar[:TAG]`
    #[arg(value_name = "REF")]
    pub reference: String,
    /// What it is pushed as [default: told by the file]
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub kind: Option<PushType>,
    /// An annotation of the manifest, `key=value`; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
    /// A further tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Who made it
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// When it was made: Unix seconds or YYYY-MM-DDTHH:MM:SSZ [default: `SOURCE_DATE_EPOCH`, else no instant]
    #[arg(long, value_name = "INSTANT")]
    pub created: Option<String>,
    /// Replace an archive that is there
    #[arg(long)]
    pub force: bool,
    /// Do not ask the registry what it has: it is known to have nothing of it
    #[arg(long)]
    pub assume_missing: bool,
    /// Say what would be pushed, and push nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What a file is pushed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PushType {
    /// A WebAssembly component
    Component,
    /// A WebAssembly core module
    Module,
    /// A Greentic pack
    Pack,
    /// A catalog of providers, one JSON document
    Catalog,
}

impl From<PushType> for PushKind {
    fn from(kind: PushType) -> Self {
        match kind {
            PushType::Component => Self::Component,
            PushType::Module => Self::Module,
            PushType::Pack => Self::Pack,
            PushType::Catalog => Self::Catalog,
        }
    }
}

pub(crate) async fn run(context: &Context<'_>, args: &PushArgs) -> Result<(), CliError> {
    let to = Place::parse(&args.reference)?;
    let epoch = env::text(env::SOURCE_DATE_EPOCH);
    let options = PushOptions {
        kind: args.kind.map(Into::into),
        annotations: annotations(&args.annotations)?,
        author: args.author.clone(),
        created: args.created.as_ref().or(epoch.as_ref()).map(|text| parse_created(text)).transpose()?,
        tags: args.tags.clone(),
        dry_run: args.dry_run,
        replace: args.force,
        assume_missing: args.assume_missing,
    };
    let report = context.client.push(&args.file, &to, &options).await?;
    let output = context.output;
    if output.is_json() {
        return output.document(&report);
    }
    output.line(&report.pinned);
    output.note(&summary(&report));
    Ok(())
}

fn annotations(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut annotations = BTreeMap::new();
    for text in given {
        let shown = SafeText::excerpt(text, 80);
        let Some((key, value)) = text.split_once('=') else {
            return Err(CliError::invalid(&format!("the annotation `{shown}` has no value: write KEY=VALUE")));
        };
        if annotations.insert(key.to_owned(), value.to_owned()).is_some_and(|before| before != value) {
            return Err(CliError::invalid(&format!("the annotation `{shown}` is given twice")));
        }
    }
    Ok(annotations)
}

fn summary(report: &PushReport) -> String {
    let what = format!("{} ({}, {})", kind(report.kind), report.media_type, human_bytes(report.size_bytes));
    let tags = if report.tags.is_empty() { "no tag".to_owned() } else { report.tags.join(", ") };
    match (report.dry_run, report.existed) {
        (true, _) => format!("would push a {what} with {tags}; nothing was sent"),
        (false, true) => format!("a {what} was there already; it has {tags}"),
        (false, false) => {
            format!(
                "pushed a {what} with {tags}: {} blobs sent, {} there already",
                report.blobs_copied, report.blobs_present
            )
        }
    }
}

const fn kind(kind: PushKind) -> &'static str {
    match kind {
        PushKind::Component => "component",
        PushKind::Module => "module",
        PushKind::Pack => "pack",
        PushKind::Catalog => "catalog",
    }
}
