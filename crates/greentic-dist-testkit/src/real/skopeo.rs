//! `skopeo`: pushes what we pull, and says by itself what a registry holds.

use std::fs;
use std::path::Path;

use greentic_dist_types::Digest;
use tempfile::TempDir;

use crate::fixture::{self, Artifact};
use crate::process::{Outcome, Run};

/// Runs `skopeo` with these arguments and a policy that takes every image.
pub fn skopeo<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Outcome {
    let dir = TempDir::new().expect("a temporary directory");
    let policy = dir.path().join("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("write the policy");
    let run = Run::new("skopeo").arg("--policy").arg(policy).args(args);
    run.env("TMPDIR", dir.path()).env("XDG_RUNTIME_DIR", dir.path()).output()
}

/// Copies `from` to `to`, both as skopeo writes places, over plain HTTP where a registry is concerned: an index with all its
/// manifests, and every byte as it is. The login is for whichever of both is a registry.
///
/// # Errors
/// What skopeo said.
pub fn skopeo_copy(from: &str, to: &str, login: Option<(&str, &str)>) -> Result<(), String> {
    let mut args: Vec<String> = ["copy", "--quiet", "--all", "--preserve-digests"].map(String::from).into();
    for (side, place) in [("src", from), ("dest", to)] {
        if place.starts_with("docker://") {
            args.push(format!("--{side}-tls-verify=false"));
            args.extend(login.map(|(user, password)| format!("--{side}-creds={user}:{password}")));
        }
    }
    args.extend([from.to_owned(), to.to_owned()]);
    let outcome = skopeo(args);
    if outcome.code == Some(0) { Ok(()) } else { Err(outcome.stderr) }
}

/// Pushes the image `tag` of the OCI image layout `layout` to `reference` (`host/name:tag`).
///
/// # Errors
/// What skopeo said.
pub fn skopeo_push(layout: &Path, tag: &str, reference: &str, login: Option<(&str, &str)>) -> Result<(), String> {
    skopeo_copy(&format!("oci:{}:{tag}", layout.display()), &format!("docker://{reference}"), login)
}

/// Pulls `reference` (`host/name:tag`) into the OCI image layout `layout`, as `tag`.
///
/// # Errors
/// What skopeo said.
pub fn skopeo_pull(reference: &str, layout: &Path, tag: &str, login: Option<(&str, &str)>) -> Result<(), String> {
    skopeo_copy(&format!("docker://{reference}"), &format!("oci:{}:{tag}", layout.display()), login)
}

/// Pushes an artifact, or an index over several, to `reference` (`host/name:tag`). Panics with what skopeo said when it cannot.
pub fn skopeo_push_artifacts(artifacts: &[Artifact], reference: &str, login: Option<(&str, &str)>) {
    let layout = TempDir::new().expect("a temporary directory");
    fixture::oci_layout(layout.path(), artifacts, "it");
    skopeo_push(layout.path(), "it", reference, login).unwrap_or_else(|words| panic!("push {reference}: {words}"));
}

/// The digest of what `reference` (`host/name:tag`) stands for, as skopeo sees it over plain HTTP.
pub fn skopeo_digest(reference: &str) -> Digest {
    let raw = skopeo(["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    Digest::sha256(raw.expect_code(0).stdout.as_bytes())
}
