//! The tokens a client keeps, against a simple model of them: over random sequences of work, waits, revocations, logins and demands
//! the servers see exactly the requests the model foretells, each with the token it foretells.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greentic_dist_net::{
    BoxFuture, Credential, CredentialAnswer, CredentialSource, CredentialTarget, Login, Net, NetError, RawManifest,
    Selector, TargetPolicy,
};
use greentic_dist_testkit::{LyingServer, Request, Response, fixture};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::{quick, repository};

/// How many requests are sent at once.
const AT_ONCE: usize = 4;
/// The unit of waits, in seconds: no number of them ends within 15 s before the end of a token's life.
const STEP: u64 = 35;
/// What token servers say of a life and when the token is not used any more, both in seconds: a life is at least a minute and at
/// most a day, and its last tenth (at least 5 s) is not used.
const LIVES: [(u64, u64); 6] = [(0, 54), (30, 54), (300, 270), (600, 540), (86_400, 77_760), (9_999_999_999, 77_760)];
const USERS: [(&str, &str); 2] = [("ann", "Basic YW5uOng="), ("bob", "Basic Ym9iOng=")];
const REPOSITORIES: [&str; 2] = ["acme/one", "acme/two"];

/// Work that is one request where nobody asks for a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Pull,
    /// A read where something is about to be pushed: the right to push holds the one to pull.
    PullForPushing,
    Push,
    Delete,
    Catalog,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    registry: usize,
    repository: usize,
    work: Work,
}

#[derive(Clone, Debug)]
enum Step {
    One(Job),
    /// The same work several times at once.
    Many(Job),
    Wait(u64),
    /// A registry takes none of the tokens there are.
    Revoke(usize),
    /// A registry names another realm or service from now on.
    Demand(usize, usize),
    LogIn(usize),
    Life(usize),
}

impl Job {
    fn scope(self) -> String {
        let actions = match self.work {
            Work::Pull => "pull",
            Work::PullForPushing | Work::Push => "pull,push",
            Work::Delete => "pull,push,delete",
            Work::Catalog => return "registry:catalog:*".to_owned(),
        };
        format!("repository:{}:{actions}", REPOSITORIES[self.repository])
    }

    fn line(self, token: Option<usize>) -> String {
        let name = REPOSITORIES[self.repository];
        let request = match self.work {
            Work::Pull | Work::PullForPushing => format!("GET /v2/{name}/manifests/1"),
            Work::Push => format!("PUT /v2/{name}/manifests/1"),
            Work::Delete => format!("DELETE /v2/{name}/manifests/1"),
            Work::Catalog => "GET /v2/_catalog".to_owned(),
        };
        format!("registry {} {request} {token:?}", self.registry)
    }

    async fn run(self, net: &Net, hosts: &[String; 2]) -> Result<(), NetError> {
        let host = &hosts[self.registry];
        let repository = repository(net, &format!("{host}/{}", REPOSITORIES[self.repository]));
        match self.work {
            Work::Pull => {
                // Each its own question: the same one asked at the same time would be sent once.
                static ASKED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
                let etag = format!("\"{}\"", ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                let known = greentic_dist_types::Digest::sha256(b"another");
                repository.manifest_if_changed("1", Some(&etag), &known).await.map(drop)
            }
            Work::PullForPushing => repository.for_pushing().await?.manifest(Selector::Tag("1")).await.map(drop),
            Work::Push => {
                let manifest = RawManifest::new(fixture::component().manifest_bytes).unwrap();
                repository.put_manifest(&manifest).tag("1").send().await.map(drop)
            }
            Work::Delete => repository.delete_tag("1").await,
            Work::Catalog => net.registry(host)?.catalog().collect(10).await.map(drop),
        }
    }
}

/// A realm and a service, as a registry demands them.
fn demanded(demand: usize) -> (String, String) {
    (format!("/token/{}", demand / 2), format!("s{}", demand % 2))
}

/// Two registries that share a token server.
#[derive(Debug, Default)]
struct World {
    demands: [usize; 2],
    /// The first token each registry takes.
    taken_from: [usize; 2],
    expires_in: u64,
    /// The scopes of each token.
    granted: Vec<String>,
    lines: Vec<String>,
}

impl World {
    fn issue(&mut self, request: &Request) -> Response {
        let scopes: Vec<&str> =
            request.query.iter().filter(|(name, _)| name == "scope").map(|(_, scope)| scope.as_str()).collect();
        let (service, login) = (request.param("service").unwrap(), request.header("authorization").unwrap());
        let number = self.granted.len();
        self.granted.push(scopes.join(" "));
        self.lines.push(format!("{} {service} {} {login} -> {number}", request.path, scopes.join(" ")));
        Response::ok(format!(r#"{{"token":"{number}","expires_in":{}}}"#, self.expires_in))
    }

    fn serve(&mut self, registry: usize, tokens: &str, request: &Request) -> Response {
        let shown = request.header("authorization").map(|shown| shown.strip_prefix("Bearer ").unwrap());
        let shown: Option<usize> = shown.map(|token| token.parse().unwrap());
        self.lines.push(format!("registry {registry} {} {} {shown:?}", request.method, request.path));
        let granted = shown.filter(|token| *token >= self.taken_from[registry]).map(|token| &self.granted[token]);
        let is_allowed = granted.is_some_and(|granted| {
            let (resource, actions) = granted.rsplit_once(':').unwrap();
            let needed = match request.method.as_str() {
                _ if request.path == "/v2/_catalog" => return granted == "registry:catalog:*",
                "GET" => "pull",
                "PUT" => "push",
                _ => "delete",
            };
            let name = request.path.strip_prefix("/v2/").unwrap().strip_suffix("/manifests/1").unwrap();
            resource == format!("repository:{name}") && actions.split(',').any(|action| action == needed)
        });
        if !is_allowed {
            let (realm, service) = demanded(self.demands[registry]);
            return Response::bearer_challenge(&format!("{tokens}{realm}"), &service, "");
        }
        match request.method.as_str() {
            _ if request.path == "/v2/_catalog" => Response::ok(r#"{"repositories":[]}"#),
            "GET" => Response::ok(fixture::component().manifest_bytes).header("Content-Type", fixture::MANIFEST_TYPE),
            "PUT" => Response::status(201, ""),
            _ => Response::status(202, ""),
        }
    }
}

/// What the client is expected to know.
#[derive(Clone, Debug, Default)]
struct Model {
    now: u64,
    user: usize,
    /// What each registry was heard to demand.
    heard: [Option<usize>; 2],
    /// A token and when it is used no more, by registry, demand, scope and user.
    tokens: HashMap<(usize, usize, String, usize), (usize, u64)>,
    /// The life of the tokens issued now, in seconds of use.
    life: u64,
    issued: usize,
}

impl Model {
    /// The requests one job takes, and whether it is done in the end.
    fn run(&mut self, job: Job, world: &World) -> (Vec<String>, bool) {
        let (mut lines, mut has_asked, mut has_replaced) = (Vec::new(), false, false);
        loop {
            let (mut sent, mut was_kept) = (None, false);
            if let Some(demand) = self.heard[job.registry] {
                let key = (job.registry, demand, job.scope(), self.user);
                let kept = self.tokens.get(&key).filter(|(_, until)| self.now < *until).map(|(number, _)| *number);
                was_kept = kept.is_some() && !has_asked;
                sent = Some(kept.unwrap_or_else(|| {
                    let ((realm, service), number) = (demanded(demand), self.issued);
                    self.issued += 1;
                    lines.push(format!("{realm} {service} {} {} -> {number}", key.2, USERS[self.user].1));
                    self.tokens.insert(key, (number, self.now + self.life));
                    number
                }));
            }
            lines.push(job.line(sent));
            let is_worth_another = match sent {
                Some(token) if token >= world.taken_from[job.registry] => return (lines, true),
                Some(refused) => {
                    self.tokens.retain(|_, (number, _)| *number != refused);
                    was_kept && !std::mem::replace(&mut has_replaced, true)
                }
                None => !has_asked,
            };
            if !is_worth_another {
                return (lines, false);
            }
            self.heard[job.registry] = Some(world.demands[job.registry]);
            has_asked = true;
        }
    }
}

/// The login of whoever is there now. It is asked for anew each time.
#[derive(Debug, Default)]
struct Present(Mutex<usize>);

impl CredentialSource for Present {
    fn credential<'a>(&'a self, _: &'a CredentialTarget) -> BoxFuture<'a, Result<CredentialAnswer, NetError>> {
        let username = USERS[*self.0.lock().unwrap()].0.into();
        let login = Login::explicit(Credential::Basic { username, password: "x".into() }).expiring_at(Instant::now());
        Box::pin(std::future::ready(Ok(Some(login).into())))
    }
}

async fn check(steps: Vec<Step>) {
    let world = Arc::new(Mutex::new(World::default()));
    let tokens = {
        let world = Arc::clone(&world);
        LyingServer::start(move |request, _| world.lock().unwrap().issue(request))
    };
    let registries = [0, 1].map(|number| {
        let (world, tokens) = (Arc::clone(&world), tokens.url());
        LyingServer::start(move |request, _| world.lock().unwrap().serve(number, &tokens, request))
    });
    let hosts = registries.each_ref().map(LyingServer::host);
    let policy = hosts.iter().fold(TargetPolicy::new(), |policy, host| policy.trust_realm(host, tokens.host()));
    let present = Arc::new(Present::default());
    let net = quick().credentials(Arc::<Present>::clone(&present)).target_policy(policy).build().unwrap();
    let mut model = Model { life: LIVES[0].1, ..Model::default() };
    for (index, step) in steps.iter().enumerate() {
        match *step {
            Step::One(job) | Step::Many(job) => {
                let (mut expected, is_done) = model.run(job, &world.lock().unwrap());
                // Of several that meet two dead tokens, some fail and some do not: as they meet.
                let at_once = if matches!(step, Step::Many(_)) && is_done { AT_ONCE } else { 1 };
                let jobs = (0..at_once).map(|_| job.run(&net, &hosts));
                let results = futures_util::future::join_all(jobs).await;
                assert!(results.iter().all(|result| result.is_ok() == is_done), "{index}, {step:?}: {results:?}");
                let mut seen = std::mem::take(&mut world.lock().unwrap().lines);
                if at_once > 1 {
                    // Each is sent to the registry, and one of them asks for the token.
                    let own = expected.iter().filter(|line| line.starts_with("registry ")).cloned().collect::<Vec<_>>();
                    expected.extend((1..at_once).flat_map(|_| own.clone()));
                    expected.sort();
                    seen.sort();
                }
                assert_eq!(seen, expected, "{index}, {step:?}");
            }
            Step::Wait(steps) => {
                model.now += steps * STEP;
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(steps * STEP)).await;
                tokio::time::resume();
            }
            Step::Revoke(registry) => {
                let mut world = world.lock().unwrap();
                world.taken_from[registry] = world.granted.len();
            }
            Step::Demand(registry, demand) => world.lock().unwrap().demands[registry] = demand,
            Step::LogIn(user) => {
                model.user = user;
                *present.0.lock().unwrap() = user;
            }
            Step::Life(life) => {
                (world.lock().unwrap().expires_in, model.life) = LIVES[life];
            }
        }
    }
}

fn job() -> impl Strategy<Value = Job> {
    let work = prop_oneof![
        Just(Work::Pull),
        Just(Work::PullForPushing),
        Just(Work::Push),
        Just(Work::Delete),
        Just(Work::Catalog)
    ];
    (0..2_usize, 0..2_usize, work).prop_map(|(registry, repository, work)| Job { registry, repository, work })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => job().prop_map(Step::One),
        2 => job().prop_map(Step::Many),
        2 => prop_oneof![Just(1), 2..16_u64, Just(2_221), Just(2_222)].prop_map(Step::Wait),
        1 => (0..2_usize).prop_map(Step::Revoke),
        1 => (0..2_usize, 0..4_usize).prop_map(|(registry, demand)| Step::Demand(registry, demand)),
        1 => (0..USERS.len()).prop_map(Step::LogIn),
        1 => (0..LIVES.len()).prop_map(Step::Life),
    ]
}

fn run(steps: Vec<Step>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn tokens_are_asked_for_kept_shared_and_given_up_as_the_model_says(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(steps);
    }
}

#[test]
fn each_part_of_the_model_is_met_once() {
    let [one, two] = [0, 1].map(|repository| Job { registry: 0, repository, work: Work::Pull });
    let push = Job { work: Work::Push, ..one };
    let mut steps = vec![Step::Many(one), Step::One(push), Step::One(Job { work: Work::PullForPushing, ..one })];
    // Another repository, another registry with the same token server, another user, and back.
    steps.extend([Step::One(two), Step::One(Job { registry: 1, ..one }), Step::LogIn(1), Step::Many(one)]);
    steps.extend([Step::LogIn(0), Step::One(one), Step::One(push)]);
    // Within its life, beyond it, and with one beyond the longest.
    steps.extend([Step::Wait(1), Step::One(one), Step::Wait(1), Step::Life(5), Step::Many(one)]);
    steps.extend([Step::Wait(2_221), Step::One(one), Step::Wait(1), Step::One(one)]);
    // Refused before its time: by itself, with another demand, and under a demand whose own token is refused, too.
    steps.extend([
        Step::Revoke(0),
        Step::Many(one),
        Step::Demand(0, 3),
        Step::One(one),
        Step::Revoke(0),
        Step::Many(one),
    ]);
    steps.extend([Step::Demand(0, 0), Step::Revoke(0), Step::One(one), Step::Demand(0, 3), Step::Revoke(0)]);
    steps.extend([Step::One(one), Step::Many(one), Step::One(Job { work: Work::Catalog, ..one })]);
    run(steps);
}
