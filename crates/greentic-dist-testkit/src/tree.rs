//! Snapshots of a directory, compared in words a person can read.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use greentic_dist_types::{Algorithm, Hasher};

/// What a directory held at one moment: every path below it with its kind, size, content and mode.
///
/// The directory `locks/` directly below the root is left out: taking a lock is no change of a cache. A directory that does
/// not exist is an empty snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TreeSnapshot(BTreeMap<String, Node>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { size: u64, digest: String, mode: u32 },
    Link { target: String },
    Other,
}

impl TreeSnapshot {
    /// Reads the whole tree below `dir`.
    pub fn of(dir: &Path) -> Self {
        Self::ignoring(dir, &["locks"])
    }

    /// Reads the tree below `dir` without the named top-level directories or files.
    pub fn ignoring(dir: &Path, ignored: &[&str]) -> Self {
        let mut nodes = BTreeMap::new();
        walk(dir, "", ignored, &mut nodes);
        Self(nodes)
    }

    /// The relative paths, sorted.
    pub fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The relative paths of the regular files, sorted.
    pub fn files(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, node)| matches!(node, Node::File { .. })).map(|(path, _)| path.as_str()).collect()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line per difference, `+` for what only `later` has, `-` for what only `self` has, `!` for what changed.
    pub fn diff(&self, later: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, node) in &self.0 {
            match later.0.get(path) {
                None => lines.push(format!("- {path}: {node}")),
                Some(now) if now != node => lines.push(format!("! {path}: {node} became {now}")),
                Some(_) => {}
            }
        }
        for (path, node) in &later.0 {
            if !self.0.contains_key(path) {
                lines.push(format!("+ {path}: {node}"));
            }
        }
        lines
    }

    /// Panics with the differences when the directory is not as it was.
    #[track_caller]
    pub fn assert_unchanged(&self, dir: &Path) {
        let diff = self.diff(&Self::of(dir));
        assert!(diff.is_empty(), "{} changed:\n{}", dir.display(), diff.join("\n"));
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { mode } => write!(f, "directory, mode {mode:o}"),
            Self::File { size, digest, mode } => write!(f, "{size} bytes, {digest}, mode {mode:o}"),
            Self::Link { target } => write!(f, "link to {target}"),
            Self::Other => f.write_str("neither file, directory nor link"),
        }
    }
}

fn walk(dir: &Path, prefix: &str, ignored: &[&str], nodes: &mut BTreeMap<String, Node>) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound && prefix.is_empty() => return,
        Err(error) => panic!("read {}: {error}", dir.display()),
    };
    for entry in entries {
        let entry = entry.expect("read a directory entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if prefix.is_empty() && ignored.contains(&name.as_str()) {
            continue;
        }
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        // A file that vanishes between the listing and the look is a file that is not there.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        let node = if meta.is_symlink() {
            let target = fs::read_link(entry.path()).map(|target| target.display().to_string()).unwrap_or_default();
            Node::Link { target }
        } else if meta.is_dir() {
            walk(&entry.path(), &path, ignored, nodes);
            Node::Directory { mode: mode(&meta) }
        } else if meta.is_file() {
            Node::File { size: meta.len(), digest: digest(&entry.path()), mode: mode(&meta) }
        } else {
            Node::Other
        };
        nodes.insert(path, node);
    }
}

#[cfg(unix)]
fn mode(meta: &fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777
}

#[cfg(not(unix))]
fn mode(meta: &fs::Metadata) -> u32 {
    u32::from(meta.permissions().readonly())
}

fn digest(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else { return "unreadable".to_owned() };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hasher.finish().short(),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) => return format!("unreadable: {error}"),
        }
    }
}
