//! What the tests here share: a machine, an honest registry, runtimes of a moment, processes of their own. The tests are the
//! crate: each file of `tests/it` is one program that uses the client, and makes its calls in the shape in which it makes them.
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "it is for tests")]

use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture::Artifact;
use greentic_dist_testkit::process::Run;
use greentic_dist_testkit::serve::{Registry, RunningRegistry};
use tempfile::TempDir;

/// What tells a test that it is the part of a child process.
const CHILD: &str = "COMPAT_TEST_CHILD";

/// A directory with everything a program has of its own.
#[derive(Debug)]
pub struct Machine(TempDir);

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// An empty one.
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    /// A path below it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where its cache is to be.
    pub fn cache(&self) -> PathBuf {
        self.at("cache")
    }

    /// A file with this content, and its directories.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().expect("a path below the machine")).expect("create directories");
        fs::write(&path, bytes).expect("write a file");
        path
    }
}

/// A registry of this project on a loopback port, with each artifact under its `repository:tag`.
pub fn serve(artifacts: &[(&str, &Artifact)]) -> RunningRegistry {
    let registry = Registry::in_memory();
    for (name, artifact) in artifacts {
        for blob in artifact.blobs() {
            registry.put_blob(blob.bytes.clone()).expect("keep a blob");
        }
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        registry
            .put_manifest(repository, &[tag], &artifact.media_type, &artifact.manifest_bytes)
            .expect("keep a manifest");
    }
    registry.start(([127, 0, 0, 1], 0).into()).expect("a free port")
}

/// Runs a future in a runtime of its own, as programs do that are not asynchronous themselves.
pub fn short_lived<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// This test program again, in a process of its own in which only the test of this name runs; in it [`is_child`] is true.
pub fn child(test: &str) -> Run {
    Run::new(std::env::current_exe().expect("the path of this program"))
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
}

/// Whether this is a process that [`child`] started.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The bytes of a file. Panics when there is none.
pub fn bytes_at(path: impl AsRef<Path>) -> Vec<u8> {
    fs::read(path).expect("read a file")
}
