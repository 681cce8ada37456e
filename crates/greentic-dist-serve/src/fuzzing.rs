//! A door to the parsers of what peers send, for the fuzz targets in `fuzz/` and nobody else. No promise of any kind.

use std::path::{Path, PathBuf};

use crate::api;
use crate::range::{self, Asked};
use crate::route::{self, Route};
use crate::tree::TreeLayout;

/// What a path names: a repository, where it names one, and what of it. `None` for what is refused.
pub fn path(path: &str) -> Option<(Option<String>, String)> {
    Some(match Route::parse(path).ok()? {
        Route::Base => (None, String::new()),
        Route::Catalog => (None, "_catalog".to_owned()),
        Route::Manifest { repository, reference } => (Some(repository), format!("manifests/{reference}")),
        Route::Blob { repository, digest } => (Some(repository), format!("blobs/{digest}")),
        Route::Uploads { repository } => (Some(repository), "blobs/uploads/".to_owned()),
        Route::Upload { repository, session } => (Some(repository), format!("blobs/uploads/{session}")),
        Route::Tags { repository } => (Some(repository), "tags/list".to_owned()),
        Route::Referrers { repository, digest } => (Some(repository), format!("referrers/{digest}")),
    })
}

/// Every value of a parameter in a query.
pub fn params(query: &str, name: &str) -> Vec<String> {
    route::params(Some(query), name)
}

/// A value as it stands in a query.
pub fn encode(value: &str) -> String {
    route::percent_encode(value)
}

/// First and last byte that a `Range` asks for, of so many; `None` for the whole, `Some(None)` for nothing there is.
pub fn range(field: &str, total: u64) -> Option<Option<(u64, u64)>> {
    match range::asked(Some(field), total) {
        Asked::Whole => None,
        Asked::Nothing => Some(None),
        Asked::Part { first, last } => Some(Some((first, last))),
    }
}

/// First and last byte that the `Content-Range` of a chunk names.
pub fn chunk(field: &str) -> Option<(u64, u64)> {
    api::chunk_range(field)
}

/// The name in a `Host`, and whether it is this machine's.
pub fn host(authority: &str) -> Option<(&str, bool)> {
    api::host_name(authority).map(|name| (name, api::is_local(authority)))
}

/// The files that the question for a component leads to, in either layout, below the directory that is served.
///
/// # Errors
/// What the peer is told.
pub fn component(question: &[u8]) -> Result<[PathBuf; 2], String> {
    let name = api::asked_component(question)?;
    Ok([TreeLayout::Flat, TreeLayout::ByIdAndVersion].map(|layout| name.path(Path::new(""), layout)))
}
