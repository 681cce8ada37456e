//! `fixture://name`: a file of the configured fixture directory, and nothing outside it.

use std::path::{Component, Path, PathBuf};

use greentic_dist_types::SafeText;

use crate::dist::DistError;
use crate::dist::client::Inner;

/// The file of a fixture: `<fixture_dir>/<name>.wasm`. Names with `..`, a drive or an absolute path are refused, and so are
/// symlinks that lead out of the directory.
pub(crate) fn locate(inner: &Inner, name: &str) -> Result<PathBuf, DistError> {
    let shown = || SafeText::new(name);
    let root = inner.options.fixture_dir.as_ref().ok_or_else(|| {
        DistError::InvalidInput(format!(
            "`fixture://{}` needs a fixture directory: set {}",
            shown(),
            crate::env::FIXTURE_DIR
        ))
    })?;
    let relative = Path::new(name.trim_start_matches('/'));
    if relative.as_os_str().is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(DistError::InvalidInput(format!("`fixture://{}` leaves the fixture directory", shown())));
    }
    let mut path = root.join(relative);
    if path.extension().is_none_or(|extension| extension != "wasm") {
        let mut file_name = path.file_name().unwrap_or_default().to_owned();
        file_name.push(".wasm");
        path.set_file_name(file_name);
    }
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => DistError::NotFound { reference: format!("fixture://{name}") },
        _ => DistError::io(&path, error),
    };
    let real_root = root.canonicalize().map_err(missing)?;
    let real = path.canonicalize().map_err(missing)?;
    if !real.starts_with(&real_root) {
        return Err(DistError::InvalidInput(format!("`fixture://{}` leads out of the fixture directory", shown())));
    }
    Ok(path)
}
