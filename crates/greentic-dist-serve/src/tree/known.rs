//! What was found out by hashing, for as long as the files are as they were.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use greentic_dist_types::Digest;

use super::{Artifact, Name};

/// Most artifacts remembered; beyond it the table starts anew.
const REMEMBERED: usize = 100_000;

/// Artifacts by name, and the names by the digests of their manifest and content. Two artifacts may have the same content.
#[derive(Debug, Default)]
pub(super) struct Known {
    artifacts: HashMap<Name, Arc<Artifact>>,
    names: HashMap<Digest, HashSet<Name>>,
}

impl Known {
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Artifact>> {
        self.artifacts.get(name).map(Arc::clone)
    }

    /// The names under which a manifest or content was seen.
    pub(super) fn names(&self, digest: Digest) -> Vec<Name> {
        self.names.get(&digest).into_iter().flatten().cloned().collect()
    }

    pub(super) fn remember(&mut self, artifact: &Arc<Artifact>) {
        self.forget(&artifact.name);
        if self.artifacts.len() >= REMEMBERED {
            *self = Self::default();
        }
        self.artifacts.insert(artifact.name.clone(), Arc::clone(artifact));
        for digest in [artifact.content, artifact.manifest_digest] {
            self.names.entry(digest).or_default().insert(artifact.name.clone());
        }
    }

    pub(super) fn forget(&mut self, name: &Name) {
        let Some(artifact) = self.artifacts.remove(name) else { return };
        for digest in [artifact.content, artifact.manifest_digest] {
            if let Some(names) = self.names.get_mut(&digest) {
                names.remove(name);
                if names.is_empty() {
                    self.names.remove(&digest);
                }
            }
        }
    }
}
