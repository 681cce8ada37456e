//! The documents beside an artifact that was in the cache: whoever made the entry may have kept none, and anybody may have removed
//! them since.

use std::io;
use std::path::Path;

use greentic_dist_store::{Entry, Sidecar, Store};

use super::asked::Asked;
use super::fetcher::{Fetched, Fetcher, Named};
use crate::blocking;
use crate::dist::{Beside, Listed, chain};

/// An artifact that was found in the cache.
pub(crate) struct Found<'a> {
    /// The reference as given.
    pub(crate) reference: &'a str,
    pub(crate) named: &'a Named,
    pub(crate) entry: &'a Entry,
    /// The component manifest beside it, proven, where the artifact is a component and has one.
    pub(crate) component_manifest: Option<&'a [u8]>,
}

/// Writes the documents that an entry lacks, as they would have been written when it was fetched. Each appears as a whole or not
/// at all. They are for hosts, and the artifact is fine without them: where they cannot be written, nothing fails. Blocks.
pub(crate) fn complete(store: &Store, listed: &Listed, found: &Found<'_>) {
    let Found { reference, named, entry, component_manifest } = *found;
    if !is_lost(&entry.path) {
        return;
    }
    let documents = (listed.beside)(&Beside {
        reference,
        named: named.digest,
        manifest: named.manifest,
        media_type: &named.media_type,
        size_bytes: named.size_bytes,
        now: entry.record.fetched_at,
        component_manifest,
    });
    let written = documents
        .map(|documents| documents.iter().try_for_each(|(sidecar, bytes)| store.put_sidecar(entry, *sidecar, bytes)));
    let why = match written {
        Ok(Ok(())) => return,
        Ok(Err(error)) => chain(&error),
        Err(error) => chain(&error),
    };
    tracing::debug!(pin = %entry.pin, why, "the documents beside a cached artifact were not written");
}

/// Whether the document that every fetcher keeps is missing beside this artifact.
fn is_lost(artifact: &Path) -> bool {
    let metadata = std::fs::symlink_metadata(artifact.with_file_name(Sidecar::Metadata.name()));
    metadata.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

impl Fetcher {
    /// [`complete`], for a fetcher whose artifacts have no documents of their publisher.
    pub(crate) async fn complete(&self, asked: &Asked, fetched: &Fetched) {
        if fetched.from_network {
            return;
        }
        let (store, listed) = (self.store.clone(), self.rules.listed.clone());
        let (reference, path, named) = (asked.text.clone(), fetched.path.clone(), fetched.named.clone());
        let work = move || {
            let pin = named.manifest.unwrap_or(named.digest);
            if is_lost(&path)
                && let Ok(Some(entry)) = store.stat(&pin)
            {
                let found = Found { reference: &reference, named: &named, entry: &entry, component_manifest: None };
                complete(&store, &listed, &found);
            }
            Ok(())
        };
        if let Err(error) = blocking::run(work).await {
            tracing::debug!(why = chain(&error), "the documents beside a cached artifact were not looked at");
        }
    }
}
