//! This test program, started again to be another process, and to be killed.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use greentic_dist_store::{Proof, Store};
use greentic_dist_types::{BundleId, BundleLifecycleState as State};

use crate::support::*;

const ROLE: &str = "STORE_TEST_ROLE";
const ROOT: &str = "STORE_TEST_ROOT";

/// The artifact that child processes work on.
pub(crate) fn big() -> Artifact {
    artifact(&(0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
}

/// Writes `bytes` from `from` on, the way several connections bring them: pieces from the front and from the back in turn.
pub(crate) fn scatter(ingest: &mut greentic_dist_store::Ingest, bytes: &[u8], from: usize) {
    let mut pieces: std::collections::VecDeque<(usize, &[u8])> = bytes[from..]
        .chunks(70_000)
        .scan(from, |at, piece| Some((std::mem::replace(at, *at + piece.len()), piece)))
        .collect();
    while let Some(front) = pieces.pop_front() {
        for (at, piece) in std::iter::once(front).chain(pieces.pop_back()) {
            ingest.write_shared_at(u64::try_from(at).unwrap(), &piece.to_vec()).unwrap();
        }
    }
}

/// A running copy of this program.
pub(crate) struct Child {
    process: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

/// The command that plays `role` on the cache `root`.
pub(crate) fn command(role: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child::the_part_of_a_child_process", "--exact", "--nocapture"]);
    command.env(ROLE, role).env(ROOT, root);
    command
}

impl Child {
    pub(crate) fn start(role: &str, root: &Path, vars: &[(&str, &str)]) -> Self {
        Self::spawn(command(role, root).envs(vars.iter().copied()))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    pub(crate) fn wait_for_line(&mut self, wanted: &str) {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the child ended without saying {wanted:?}");
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for a good end and gives everything it said.
    pub(crate) fn finish(&mut self) -> String {
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        assert!(self.process.wait().unwrap().success(), "{said}");
        said
    }
}

/// Does nothing in an ordinary run.
#[test]
fn the_part_of_a_child_process() {
    let (Ok(role), Some(root)) = (std::env::var(ROLE), std::env::var_os(ROOT)) else { return };
    let store = Store::with_options(
        root,
        if role == "synced" || role == "promise" { greentic_dist_store::StoreOptions::default() } else { unsynced() },
    );
    let artifact = big();
    match role.as_str() {
        "bring" | "synced" => {
            let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
            if matches!(store.open(&artifact.pin, Proof::Stamped), Ok(Some(_))) {
                println!("found it");
                return;
            }
            let mut ingest = store.ingest(&lock, artifact.expected()).unwrap();
            let offset = usize::try_from(ingest.offset()).unwrap();
            for chunk in artifact.bytes[offset..].chunks(100_000) {
                ingest.write(chunk).unwrap();
            }
            store.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
            println!("brought it from {offset}");
        }
        "scattered" => {
            let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
            let mut ingest = store.ingest(&lock, artifact.expected()).unwrap();
            let from = usize::try_from(ingest.offset()).unwrap();
            scatter(&mut ingest, &artifact.bytes, from);
            store.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
            println!("brought it from {from}");
        }
        "scattered half" => {
            let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
            let mut ingest = store.ingest(&lock, artifact.expected()).unwrap();
            ingest.write(&artifact.bytes[..100_000]).unwrap();
            ingest.write_shared_at(300_000, &artifact.bytes[300_000..].to_vec()).unwrap();
            println!("half way");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        "promise" => {
            let entry = artifact.publish_in(&store).entry;
            let lock = store.lock(&artifact.pin, &mut |_| ()).unwrap();
            store.mark_advisory("feed", "1", 1).unwrap();
            store.make_durable(&entry).unwrap();
            let records = store.lock_bundles(&mut |_| ()).unwrap();
            store.put_bundle(&records, &crate::bundles::bundle_of(artifact.pin, State::Staged)).unwrap();
            drop((records, lock));
            println!("promised");
            let id = BundleId::of(artifact.pin);
            store.change_bundle(&id, Some(State::Staged), State::Warming).unwrap();
        }
        "hold" => {
            let _lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
            println!("holding");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        "half" => {
            let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
            let mut ingest = store.ingest(&lock, artifact.expected()).unwrap();
            ingest.write(&artifact.bytes[..250_000]).unwrap();
            println!("half way");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        "staged" => {
            let _staged = artifact.stage_in(&store);
            println!("staged");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        "quarantine" => crate::endpoints::quarantine_ten(&store),
        "read" => {
            println!(
                "{:?}",
                store.open(&artifact.pin, Proof::Full).map(|open| open.is_some()).map_err(|error| *error.kind())
            );
        }
        other => panic!("there is no role {other}"),
    }
}
