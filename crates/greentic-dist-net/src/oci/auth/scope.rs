//! Which scopes a token is asked for: what the work needs, and what the registry demanded beyond that.

use std::sync::Arc;

use super::{Access, CredentialAction, REMEMBERED, lock};

/// Longest scope taken from a challenge, in bytes.
const SCOPE_BYTES: usize = 1 << 10;

/// What a request is about to do: decides which scope its token is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Write blobs and manifests.
    Push,
    /// Write blobs, one of them mounted from this repository of the same registry, which must be readable too.
    PushMounting {
        /// The repository the blob is taken from.
        from: Arc<str>,
    },
    /// Delete manifests, tags or blobs.
    Delete,
    /// List the registry's repositories.
    Catalog,
}

impl Action {
    /// What a source of logins is told about it.
    pub(super) const fn of_login(&self) -> CredentialAction {
        match self {
            Self::Pull => CredentialAction::Pull,
            Self::Push | Self::PushMounting { .. } => CredentialAction::Push,
            Self::Delete => CredentialAction::Delete,
            Self::Catalog => CredentialAction::Catalog,
        }
    }
}

impl Access {
    /// The scopes to ask for, what was demanded for this work first: some servers read only the first.
    pub(super) fn scopes(&self) -> Vec<String> {
        let key = (self.repository.to_string(), self.action.clone());
        let demanded = lock(&self.registry.auth().scopes).get(&key).cloned();
        let mut scopes = self.computed_scopes();
        if let Some(demanded) = demanded.filter(|demanded| !scopes.contains(demanded)) {
            // A wider scope of the same repository holds the computed one.
            scopes.retain(|own| !includes(&demanded, own));
            scopes.insert(0, demanded);
        }
        scopes
    }

    /// The scopes this work needs, written as the token specification does.
    pub(super) fn computed_scopes(&self) -> Vec<String> {
        let own = |actions: &str| format!("repository:{}:{actions}", self.repository);
        match &self.action {
            // The registry as a whole (`/v2/`) needs no scope.
            Action::Pull | Action::Push | Action::Delete if self.repository.is_empty() => Vec::new(),
            Action::Pull => vec![own("pull")],
            Action::Push => vec![own("pull,push")],
            Action::PushMounting { from } => vec![own("pull,push"), format!("repository:{from}:pull")],
            Action::Delete => vec![own("pull,push,delete")],
            Action::Catalog => vec!["registry:catalog:*".to_owned()],
        }
    }

    /// Remembers a scope that the challenge of a request demanded. True when it is new.
    ///
    /// A demand for this repository itself is followed only where `insufficient` says that the computed scope was not enough:
    /// registries ask for `push` and `delete` wherever they might be needed.
    pub(super) fn take_scope(&self, scope: Option<&str>, insufficient: bool) -> bool {
        let own = format!("repository:{}:", self.repository);
        let Some(scope) = scope.map(str::trim).filter(|scope| {
            !scope.is_empty() && scope.len() <= SCOPE_BYTES && (insufficient || !scope.starts_with(&own))
        }) else {
            return false;
        };
        let mut wanted = scope.to_owned();
        if let Some(own) = self.computed_scopes().iter().find(|computed| resource(computed) == resource(scope)) {
            wanted = union(scope, own);
        }
        if self.scopes().contains(&wanted) {
            return false;
        }
        let mut scopes = lock(&self.registry.auth().scopes);
        if scopes.len() >= REMEMBERED {
            scopes.clear();
        }
        scopes.insert((self.repository.to_string(), self.action.clone()), wanted);
        true
    }
}

/// `repository:name` of `repository:name:pull,push`.
fn resource(scope: &str) -> &str {
    scope.rsplit_once(':').map_or(scope, |(resource, _)| resource)
}

fn actions(scope: &str) -> impl Iterator<Item = &str> {
    scope.rsplit_once(':').map_or("", |(_, actions)| actions).split(',').map(str::trim).filter(|one| !one.is_empty())
}

/// Whether a scope grants all that another one does.
fn includes(wide: &str, narrow: &str) -> bool {
    resource(wide) == resource(narrow) && actions(narrow).all(|action| actions(wide).any(|other| other == action))
}

/// One scope for two of the same resource, the actions of the first one first.
fn union(first: &str, second: &str) -> String {
    let mut all: Vec<&str> = Vec::new();
    for action in actions(first).chain(actions(second)) {
        if !all.contains(&action) {
            all.push(action);
        }
    }
    format!("{}:{}", resource(first), all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_one_resource_are_joined_without_repetition() {
        assert_eq!(union("repository:a/b:push,pull", "repository:a/b:pull"), "repository:a/b:push,pull");
        assert_eq!(union("repository:a/b:delete", "repository:a/b:pull,push"), "repository:a/b:delete,pull,push");
        assert!(includes("repository:a:pull,push", "repository:a:pull"));
        assert!(!includes("repository:a:push", "repository:a:pull"));
        assert!(!includes("repository:a:pull", "repository:a/b:pull"));
        assert_eq!(resource("repository:host:5000/a:pull"), "repository:host:5000/a");
    }
}
