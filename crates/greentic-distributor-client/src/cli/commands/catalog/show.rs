//! A provider catalog on the terminal and as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greentic_dist_types::SafeText;
use serde_json::{Value, json};

use crate::dist_cli::output::{Output, human_bytes};
use crate::provider_registry::{Catalog, CatalogOrigin, ResolvedCatalog};

/// Widest column of ids and categories, in characters; longer ones move the rest of their line.
const COLUMN: usize = 32;

/// Everything that is known.
pub(super) fn document(found: &ResolvedCatalog) -> Value {
    let failure = found.refresh_failure.as_ref();
    json!({
        "path": found.path,
        "reference": found.requested_reference,
        "resolved_reference": found.resolved_reference,
        "source": found.source.name(),
        "origin": found.origin.map(origin),
        "digest": found.manifest_digest,
        "content_digest": found.layer_digest,
        "size_bytes": found.size_bytes,
        "media_type": found.media_type,
        "stale": found.is_stale,
        "vouched": found.is_vouched,
        "fetched_at": found.fetched_at.and_then(seconds),
        "checked_at": found.checked_at.and_then(seconds),
        "age_seconds": found.age.map(|age| age.as_secs()),
        "refresh_failure": failure.map(|failure| json!({ "code": failure.kind.code(), "message": failure.message, "hints": failure.hints })),
        "registry_version": found.catalog().ok().and_then(|catalog| catalog.registry_version.as_ref()),
        "categories": found.catalog().ok().map(|catalog| catalog.categories.iter().map(|one| &one.id).collect::<Vec<_>>()),
        "item_count": found.item_count(),
        "items": found.catalog().ok().map(|_| found.ids().collect::<Vec<_>>()),
        "unreadable": found.catalog().err().map(|error| error.to_string()),
    })
}

/// The providers, one object each.
pub(super) fn providers(catalog: &Catalog) -> Value {
    let one = |provider: &crate::provider_registry::Provider| {
        json!({
            "id": provider.id,
            "label": provider.label.fallback,
            "i18n_key": provider.label.i18n_key,
            "category": provider.category,
            "reference": provider.reference,
        })
    };
    catalog.providers.iter().map(one).collect()
}

/// A line for each provider.
pub(super) fn list(output: &Output, catalog: &Catalog) {
    let category = |one: &crate::provider_registry::Provider| one.category.clone().unwrap_or_else(|| "-".to_owned());
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0).min(COLUMN);
    let ids = width(&mut catalog.providers.iter().map(|one| one.id.chars().count()));
    let categories = width(&mut catalog.providers.iter().map(|one| category(one).chars().count()));
    for provider in &catalog.providers {
        output.line(&format!("{:ids$}  {:categories$}  {}", provider.id, category(provider), provider.reference));
    }
}

pub(super) fn print(output: &Output, found: &ResolvedCatalog) {
    output.line(&format!("path: {}", found.path.display()));
    let texts = [
        ("reference", found.requested_reference.as_deref()),
        ("resolved", found.resolved_reference.as_deref()),
        ("digest", found.manifest_digest.as_deref()),
        ("content digest", found.layer_digest.as_deref()),
        ("media type", found.media_type.as_deref()),
    ];
    for (what, text) in texts {
        if let Some(text) = text {
            output.line(&format!("{what}: {}", SafeText::excerpt(text, 1_024)));
        }
    }
    if let Some(bytes) = found.size_bytes {
        output.line(&format!("size: {}", human_bytes(bytes)));
    }
    let origin = found.origin.filter(|origin| *origin == CatalogOrigin::File).map_or("", |_| ", put in from a file");
    output.line(&format!("source: {}{origin}", found.source.name()));
    if let Some(age) = found.age {
        output.line(&format!("checked: {} ago", human_age(age)));
    }
    if found.is_vouched {
        output.line("proof: none, it is a copy of an earlier version; `catalog update` has the registry prove it");
    }
    if let Some(failure) = &found.refresh_failure {
        output.line(&format!("stale: {}", failure.message));
    }
    let catalog = match found.catalog() {
        Ok(catalog) => catalog,
        Err(error) => return output.line(&format!("providers: unknown ({error})")),
    };
    output.line(&format!("providers: {}", catalog.providers.len()));
    for category in &catalog.categories {
        let count = catalog.providers_in(&category.id).count();
        output.line(&format!("category {}: {count} ({})", category.id, category.label.shown()));
    }
}

const fn origin(origin: CatalogOrigin) -> &'static str {
    match origin {
        CatalogOrigin::Registry => "registry",
        CatalogOrigin::File => "file",
    }
}

fn seconds(at: SystemTime) -> Option<u64> {
    at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// A span for people, in its largest unit: `3 h`.
fn human_age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_in_their_largest_unit() {
        for (seconds, shown) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 days")] {
            assert_eq!(human_age(Duration::from_secs(seconds)), shown);
        }
    }
}
