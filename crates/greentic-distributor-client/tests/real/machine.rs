//! A user's machine: a home and a cache of its own, and the built command in them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture::Artifact;
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_types::Digest;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Machine(TempDir);

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        Self(dir)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir().join("cache")
    }

    /// The command with these arguments: it sees this machine and nothing of the one the tests run on.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        Run::new(env!("CARGO_BIN_EXE_greentic-dist"))
            .args(args)
            .dir(self.dir())
            .env("HOME", self.dir().join("home"))
            .env("GREENTIC_CACHE_DIR", self.cache())
    }

    /// Runs the command to its end.
    pub(crate) fn dist<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        self.command(args).output()
    }

    /// Pulls, expects success, and reads the file whose path was printed.
    #[track_caller]
    pub(crate) fn pull(&self, reference: &str) -> Vec<u8> {
        let outcome = self.dist(["pull", reference]);
        outcome.expect_code(0);
        fs::read(outcome.line()).unwrap()
    }

    /// Where the artifact is once it is in the cache.
    pub(crate) fn path_of(&self, artifact: &Artifact) -> PathBuf {
        self.cache().join(artifact.manifest_digest.to_hex()).join("component.wasm")
    }

    /// What the files of the artifact's entry hold: the record, the manifest and the artifact.
    pub(crate) fn entry_of(&self, artifact: &Artifact) -> [Vec<u8>; 3] {
        let entry = self.cache().join(artifact.manifest_digest.to_hex());
        ["entry.json", "manifest.json", "component.wasm"].map(|name| fs::read(entry.join(name)).unwrap())
    }

    /// The file in which the artifact's bytes are while they come.
    pub(crate) fn partial_of(&self, artifact: &Artifact) -> PathBuf {
        self.cache().join("partial").join(format!("sha256-{}.part", artifact.layer_digest().to_hex()))
    }

    /// The pins of the entries of the cache, as the names of its directories have them.
    pub(crate) fn entries(&self) -> Vec<String> {
        let is_pin = |name: &String| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut pins: Vec<String> = names(&self.cache()).into_iter().filter(is_pin).collect();
        pins.sort();
        pins
    }

    /// Panics unless every entry proves itself from its name alone: the manifest hashes to the name, the artifact to the
    /// layer the manifest names.
    #[track_caller]
    pub(crate) fn assert_entries_prove_themselves(&self) {
        for pin in self.entries() {
            let entry = self.cache().join(&pin);
            let manifest = fs::read(entry.join("manifest.json")).unwrap();
            assert_eq!(Digest::sha256(&manifest).to_hex(), pin);
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            let artifact = fs::read(entry.join("component.wasm")).unwrap();
            assert_eq!(manifest["layers"][0]["digest"], Digest::sha256(&artifact).to_string());
            let record: Value = serde_json::from_slice(&fs::read(entry.join("entry.json")).unwrap()).unwrap();
            assert_eq!(record["digest"], format!("sha256:{pin}"));
        }
    }

    /// Files below this machine, its home and cache included, in which these bytes stand.
    pub(crate) fn files_with(&self, canary: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir().to_owned()];
        while let Some(dir) = dirs.pop() {
            for name in names(&dir) {
                let path = dir.join(name);
                let meta = fs::symlink_metadata(&path).unwrap();
                if meta.is_dir() {
                    dirs.push(path);
                } else if meta.is_file() && contains(&fs::read(&path).unwrap(), canary.as_bytes()) {
                    found.push(path);
                }
            }
        }
        found
    }
}

/// The names in a directory; none where there is no such directory.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(dir) else { return Vec::new() };
    listing.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
}

fn contains(bytes: &[u8], canary: &[u8]) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary)
}
