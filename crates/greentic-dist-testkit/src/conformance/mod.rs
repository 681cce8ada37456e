//! What a registry must do: checks over plain HTTP, in the spirit of the distribution-spec's own conformance workflows.
//!
//! [`run`] asks a registry everything and returns one [`Outcome`] for each check. Every check brings its own content into its own
//! repository, so that none depends on another. A registry that deviates knowingly is tested with [`deviating`]: the
//! deviations are listed, and one that is gone fails the test just as a new one does.
//!
//! What is checked is the specification's *must*, and beyond it what this project's own registry promises (`ETag`s, the
//! optional endpoints): a deviation listed for another registry may be one that the specification allows.

mod content;
mod discovery;
mod management;
mod pull;
mod push;
mod push_manifest;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::raw_client::{self, Answer};

/// What is wrong with an answer.
pub type Problem = String;

/// The workflow of the specification a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workflow {
    /// Reading manifests and blobs.
    Pull,
    /// Writing manifests and blobs.
    Push,
    /// Lists: tags, repositories, referrers.
    Discovery,
    /// Deletion.
    Management,
}

type Run = fn(&Target) -> Result<(), Problem>;
/// A check with its name.
type Named = (&'static str, Run);

/// One thing a registry must do.
#[derive(Clone, Copy)]
pub struct Check {
    /// A name that says it.
    pub name: &'static str,
    /// Where it belongs.
    pub workflow: Workflow,
    run: Run,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The check.
    pub name: &'static str,
    /// Where it belongs.
    pub workflow: Workflow,
    /// What was wrong.
    pub problem: Option<Problem>,
}

/// The registry under test, and a repository of its own for each check.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    addr: SocketAddr,
    repository: String,
}

/// Requests of all runs of this process get repositories of their own.
static RUNS: AtomicU32 = AtomicU32::new(0);

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).field("workflow", &self.workflow).finish_non_exhaustive()
    }
}

/// Every check.
pub fn checks() -> Vec<Check> {
    let of = |workflow, list: &[Named]| {
        list.iter().map(|(name, run)| Check { name, workflow, run: *run }).collect::<Vec<_>>()
    };
    let mut all = of(Workflow::Pull, pull::CHECKS);
    all.extend(of(Workflow::Push, push::CHECKS));
    all.extend(of(Workflow::Push, push_manifest::CHECKS));
    all.extend(of(Workflow::Discovery, discovery::CHECKS));
    all.extend(of(Workflow::Management, management::CHECKS));
    all
}

/// Asks a registry on loopback, which speaks plain HTTP and wants no login, everything.
pub fn run(addr: SocketAddr) -> Vec<Outcome> {
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let outcome = |(index, check): (usize, Check)| {
        let target = Target { addr, repository: format!("conformance/run-{run}/check-{index}") };
        Outcome { name: check.name, workflow: check.workflow, problem: (check.run)(&target).err() }
    };
    checks().into_iter().enumerate().map(outcome).collect()
}

/// What is not as listed: checks that failed and are no deviation, and deviations that are none any more. Empty when all is well.
pub fn deviating(outcomes: &[Outcome], deviations: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for outcome in outcomes {
        let listed = deviations.iter().find(|(name, _)| *name == outcome.name);
        match (&outcome.problem, listed) {
            (Some(problem), None) => wrong.push(format!("{}: {problem}", outcome.name)),
            (None, Some((_, reason))) => {
                wrong.push(format!("{}: passes, and is listed as deviating ({reason})", outcome.name));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    for (name, _) in deviations {
        if !outcomes.iter().any(|outcome| outcome.name == *name) {
            wrong.push(format!("{name}: listed as deviating, and no check has that name"));
        }
    }
    wrong
}

impl Target {
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Problem> {
        raw_client::exchange(self.addr, method, target, headers, body)
            .map_err(|error| format!("{method} {target}: the answer cannot be read: {error}"))
    }

    fn get(&self, target: &str) -> Result<Answer, Problem> {
        self.ask("GET", target, &[], b"")
    }

    /// `/v2/<repository>/<rest>`
    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    /// Another repository of the same check.
    fn other(&self, name: &str) -> Self {
        Self { addr: self.addr, repository: format!("{}/{name}", self.repository) }
    }
}

/// Whether an answer has one of these statuses.
fn expect(answer: &Answer, statuses: &[u16], what: &str) -> Result<(), Problem> {
    if statuses.contains(&answer.status) {
        return Ok(());
    }
    let mut said = answer.text();
    said.truncate(said.char_indices().nth(120).map_or(said.len(), |(at, _)| at));
    Err(format!("{what}: answered {} and not {statuses:?}: {said}", answer.status))
}

fn same<T: PartialEq + fmt::Debug>(actual: &T, wanted: &T, what: &str) -> Result<(), Problem> {
    if actual == wanted { Ok(()) } else { Err(format!("{what}: {actual:?} and not {wanted:?}")) }
}

/// Whether the answer's errors have this code.
fn expect_code(answer: &Answer, code: &str, what: &str) -> Result<(), Problem> {
    let json = answer.json();
    let errors = json.get("errors").and_then(serde_json::Value::as_array);
    let told = errors.is_some_and(|errors| errors.iter().any(|error| error["code"] == code));
    if told { Ok(()) } else { Err(format!("{what}: no error {code} in {}", answer.text())) }
}

/// The request target a `Location` names: as it is, or without its scheme and host.
fn location(answer: &Answer) -> Result<String, Problem> {
    let text = answer.header("location");
    let path = text.split_once("://").map_or(text, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    if path.is_empty() { Err("the answer has no Location".to_owned()) } else { Ok(path.to_owned()) }
}

/// The target with a parameter more.
fn with(target: &str, parameter: &str) -> String {
    let separator = if target.contains('?') { '&' } else { '?' };
    format!("{target}{separator}{parameter}")
}
