//! What a whole client traces and logs, on all its threads: enough to follow it, and no secret.

use std::net::{IpAddr, Ipv4Addr};

use greentic_dist_testkit::scenario::{Auth, Lie, Part, Scenario, blob_host};
use greentic_dist_testkit::trace::Trace;
use greentic_distributor_client::dist::DistErrorKind;
use greentic_distributor_client::oci::{CopyOptions, Place, PushOptions};

use crate::support::{CANARY, Home, assert_delivers, sample};

#[test]
fn row_60_quirk_s11_a_pull_a_copy_and_a_refused_push_trace_no_secret_on_any_thread() {
    let trace = Trace::new();
    let recorder = trace.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // For as long as the thread lives, those for blocking work included.
        .on_thread_start(move || std::mem::forget(recorder.record()))
        .build()
        .unwrap();
    let store = blob_host(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 60)), &sample());
    let layer = sample().layer_digest();
    let signed = format!("{}/blob/{layer}?X-Amz-Signature={CANARY}", store.url());
    let redirect = Lie::RedirectBlobTo { status: 307, url: signed };
    let home = Home::new();
    for auth in [Auth::basic("alice", CANARY), Auth::bearer("alice", CANARY)] {
        let registry = Scenario::new(sample()).auth(auth).lie(redirect.clone()).start();
        let client = home.with_login(&registry.host(), CANARY);
        let (pulled, reference) = (client.clone(), registry.reference());
        let artifact =
            runtime.block_on(async { tokio::spawn(async move { pulled.resolve_ref(&reference).await }).await });
        assert_delivers(&artifact.unwrap().unwrap(), &sample());
        client.remove(&client.list_cache()).unwrap();

        registry.be_honest();
        let file = home.outside().join("hello.wasm");
        std::fs::write(&file, sample().layer_bytes()).unwrap();
        let from = Place::parse(&registry.reference()).unwrap();
        let layout = home.outside().join(format!("layout-{}", registry.server().addr().port()));
        let to = Place::parse(&format!("oci-layout:{}", layout.display())).unwrap();
        let pushing = client.clone();
        let (copied, refused) = runtime
            .block_on(async {
                tokio::spawn(async move {
                    let copied = pushing.copy(&from, &to, &CopyOptions::default()).await;
                    // This registry takes nothing.
                    (copied, pushing.push(&file, &from, &PushOptions::default()).await)
                })
                .await
            })
            .unwrap();
        copied.unwrap();
        assert!(!format!("{:?}", refused.unwrap_err()).contains(CANARY));

        registry.lie(Lie::status(Part::All, 401));
        let (denied, reference) = (home.with_login(&registry.host(), "wrong"), registry.reference());
        let denied =
            runtime.block_on(async { tokio::spawn(async move { denied.resolve_ref(&reference).await }).await });
        assert_eq!(denied.unwrap().unwrap_err().kind(), DistErrorKind::Auth);
        assert!(registry.journal().any_header_contains(CANARY), "the login was sent");
    }
    let stored = store.journal().lines();
    assert!(!stored.is_empty() && stored.iter().all(|line| line.contains(CANARY)), "the signed URL was used");
    drop(runtime);
    let spans = trace.spans("oci.request");
    assert!(
        spans.len() > 12 && spans.iter().any(|span| span.field("repository") == Some("acme/hello")),
        "{}",
        trace.text()
    );
    assert!(!trace.text().contains(CANARY), "{}", trace.text());
}
