use futures_util::{StreamExt as _, TryStreamExt as _};
use greentic_dist_net::{Limit, Limits, NetErrorKind, Paged, ReferrersSource, ReferrersUpkeep, Repository, Selector};
use greentic_dist_testkit::real::{DockerRegistry, ready};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::media_type::OCI_MANIFEST;
use greentic_dist_types::{Digest, ManifestKind};

use crate::push::{honest, lines, with_blobs};
use crate::support::{net, quick, repository};

fn subject_of(manifest: &greentic_dist_net::RawManifest, artifact_type: &str) -> String {
    format!(
        r#","artifactType":"{artifact_type}","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{}}}"#,
        manifest.digest(),
        manifest.bytes().len()
    )
}

async fn pages(mut list: Paged<String>) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    while let Some(page) = list.next_page().await {
        all.push(page.unwrap());
    }
    all
}

/// What every registry must do about tags, repositories and deletion.
async fn tags_come_page_by_page(host: &str) -> Repository {
    let net = net();
    let to = repository(&net, &format!("{host}/acme/hello"));
    let manifest = with_blobs(&to, b"layer", "").await;
    to.put_manifest(&manifest).tags(["a", "b", "c"]).send().await.unwrap();
    let other = repository(&net, &format!("{host}/acme/other"));
    let manifest = with_blobs(&other, b"layer", "").await;
    other.put_manifest(&manifest).tag("1").send().await.unwrap();

    let mut tags = to.tags().page_size(1).collect(10).await.unwrap();
    // docker-registry 2.8 sends all tags at once, in no order.
    tags.sort();
    assert_eq!(tags, ["a", "b", "c"]);
    let error = to.tags().page_size(1).collect(2).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
    let registry = net.registry(host).unwrap();
    assert_eq!(registry.catalog().collect(10).await.unwrap(), ["acme/hello", "acme/other"]);
    assert_eq!(pages(registry.catalog().page_size(1)).await.concat(), ["acme/hello", "acme/other"]);
    let version = registry.ping().await.unwrap();
    assert_eq!(version.api_version.unwrap().as_str(), "registry/2.0");
    assert!(!version.wants_login);
    let absent = repository(&net, &format!("{host}/acme/absent")).tags().collect(1).await.unwrap_err();
    assert_eq!(absent.kind(), NetErrorKind::NotFound);
    to
}

#[tokio::test]
async fn an_honest_registry_lists_tags_and_repositories_page_by_page() {
    let registry = honest();
    let repository = tags_come_page_by_page(&registry.host()).await;
    assert_eq!(pages(repository.tags()).await, [["a", "b", "c"]]);
    assert_eq!(pages(repository.tags().page_size(1)).await, [["a"], ["b"], ["c"]]);
    assert_eq!(pages(repository.tags().page_size(2).after("a")).await, [["b", "c"]]);
    registry.stop();
}

#[tokio::test]
async fn a_list_without_end_is_not_held_as_a_whole() {
    // Every page has 1000 names of their own, and leads to another one.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let registry = LyingServer::start(move |request, _| {
        let page = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let names: Vec<String> = (0..1000).map(|number| format!("\"v{page}.{number}\"")).collect();
        let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
        Response::ok(format!(r#"{{"name":"acme/hello","tags":[{0}],"repositories":[{0}]}}"#, names.join(",")))
            .header("Link", format!("<{path}?last={page}>; rel=\"next\""))
    });
    let host = registry.host();
    let net = quick().limits(Limits { list_bytes: 200_000, ..Limits::default() }).build().unwrap();
    let tags = || repository(&net, &format!("{host}/acme/hello")).tags();
    let repositories = || net.registry(&host).unwrap().catalog();
    for list in [tags(), repositories()] {
        let error = list.collect(usize::MAX).await.unwrap_err();
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, Some(Limit::ListBytes)), "{error}");
        assert!(error.hints().concat().contains("--set-limit list-bytes="), "{:?}", error.hints());
    }
    assert_eq!(tags().first(usize::MAX).await.unwrap_err().limit(), Some(Limit::ListBytes));
    // Each page is some 11 kB, and 64 for each of its entries.
    assert_eq!(registry.journal().len(), 9, "three pages for each list");

    let (few, more) = tags().first(2).await.unwrap();
    assert!(few.len() == 2 && more);
    assert_eq!(registry.journal().len(), 10);
    // Whoever holds nothing is not stopped.
    let ten_thousand = tags().into_stream().take(10_000).try_fold(0, |seen, _| std::future::ready(Ok(seen + 1))).await;
    assert_eq!(ten_thousand.unwrap(), 10_000);
}

#[tokio::test]
async fn lists_and_blobs_are_streams_that_ask_for_nothing_before_they_are_polled() {
    let registry = honest();
    let to = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&to, b"a layer", "").await;
    to.put_manifest(&manifest).tags(["a", "b", "c"]).send().await.unwrap();
    let asked = |path: &str| registry.journal().iter().filter(|one| one.line().contains(path)).count();

    let mut tags = to.tags().page_size(1).into_stream();
    assert_eq!(asked("/tags/list"), 0);
    let first: Vec<String> = (&mut tags).take(2).try_collect().await.unwrap();
    assert_eq!(
        (first, asked("/tags/list")),
        (vec!["a".to_owned(), "b".to_owned()], 2),
        "a page for each, and none ahead"
    );
    let rest: Vec<String> = (&mut tags).try_collect().await.unwrap();
    assert_eq!(rest, ["c"]);
    assert!(tags.next().await.is_none(), "a stream that is over may be polled");
    let mut absent = repository(&net(), &format!("{}/acme/absent", registry.host())).tags().into_stream();
    assert_eq!(absent.next().await.unwrap().unwrap_err().kind(), NetErrorKind::NotFound);
    assert!(absent.next().await.is_none(), "it ends with an error");

    let ManifestKind::Image(image) = manifest.kind() else { panic!("an image") };
    let layer = image.layers.first().unwrap();
    let whole = to.blob(layer).open().await.unwrap().into_stream();
    assert_eq!(whole.try_collect::<Vec<_>>().await.unwrap().concat(), b"a layer");
    let unverified = to.blob(layer).open_unverified().await.unwrap().into_stream();
    assert_eq!(unverified.try_collect::<Vec<_>>().await.unwrap().concat(), b"a layer");
    let part = to.blob(layer).open_range(2..5).await.unwrap().into_stream();
    assert_eq!(part.try_collect::<Vec<_>>().await.unwrap().concat(), b"lay");
}

#[tokio::test]
async fn docker_registry_lists_tags_and_repositories_page_by_page() {
    if !ready("docker_registry_lists_tags_and_repositories_page_by_page", &["docker-registry"]) {
        return;
    }
    tags_come_page_by_page(&DockerRegistry::open().host()).await;
}

#[tokio::test]
async fn the_registry_keeps_the_referrers_where_it_can() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let subject = with_blobs(&repository, b"layer", "").await;
    repository.put_manifest(&subject).tag("1").send().await.unwrap();
    let mut referrers = Vec::new();
    for (layer, kind) in [(&b"one"[..], "a/sbom"), (b"two", "a/signature")] {
        let referrer = with_blobs(&repository, layer, &subject_of(&subject, kind)).await;
        let pushed = repository.put_manifest(&referrer).send().await.unwrap();
        assert_eq!(pushed.referrers, ReferrersUpkeep::Registry);
        referrers.push(referrer.descriptor());
    }
    referrers.sort_by_key(|descriptor| descriptor.digest);
    let before = registry.journal().len();
    let all = repository.referrers(subject.digest(), None).await.unwrap();
    assert_eq!(all.source, ReferrersSource::Api);
    assert_eq!(all.pages.collect(10).await.unwrap(), referrers);
    let some = repository.referrers(subject.digest(), Some("a/sbom")).await.unwrap();
    let some = some.pages.collect(10).await.unwrap();
    assert_eq!(some.iter().map(|one| one.artifact_type.as_deref()).collect::<Vec<_>>(), [Some("a/sbom")]);
    assert_eq!(
        lines(&registry)[before..],
        [
            format!("GET /v2/acme/hello/referrers/{}", subject.digest()),
            format!("GET /v2/acme/hello/referrers/{}?artifactType=a%2Fsbom", subject.digest()),
        ]
    );
    // Nobody refers to it: an empty list, no error.
    let none = repository.referrers(&some[0].digest, None).await.unwrap();
    assert_eq!(none.pages.collect(10).await.unwrap(), []);
    assert_eq!(repository.delete_manifest(&some[0].digest).await.unwrap(), ReferrersUpkeep::Registry);
    let left = repository.referrers(subject.digest(), None).await.unwrap().pages.collect(10).await.unwrap();
    assert_eq!(left.len(), 1);
    registry.stop();
}

#[tokio::test]
async fn this_client_keeps_the_referrers_where_the_registry_does_not() {
    if !ready("this_client_keeps_the_referrers_where_the_registry_does_not", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let subject = with_blobs(&repository, b"layer", "").await;
    repository.put_manifest(&subject).tag("1").send().await.unwrap();
    let none = repository.referrers(subject.digest(), None).await.unwrap();
    assert_eq!(none.source, ReferrersSource::Tag);
    assert_eq!(none.pages.collect(10).await.unwrap(), []);
    let mut pushed = Vec::new();
    for (layer, kind) in [(&b"one"[..], "a/sbom"), (b"two", "a/signature")] {
        let referrer = with_blobs(&repository, layer, &subject_of(&subject, kind)).await;
        assert_eq!(repository.put_manifest(&referrer).send().await.unwrap().referrers, ReferrersUpkeep::Tag);
        pushed.push(referrer.descriptor());
    }
    let all = repository.referrers(subject.digest(), None).await.unwrap().pages.collect(10).await.unwrap();
    assert_eq!(all, pushed);
    let some = repository.referrers(subject.digest(), Some("a/signature")).await.unwrap();
    assert_eq!(some.pages.collect(10).await.unwrap(), pushed[1..]);
    // Deleting a referrer takes it off the list, to the last one.
    for left in [1, 0] {
        let one = repository.referrers(subject.digest(), None).await.unwrap().pages.collect(10).await.unwrap();
        assert_eq!(repository.delete_manifest(&one[0].digest).await.unwrap(), ReferrersUpkeep::Tag);
        let rest = repository.referrers(subject.digest(), None).await.unwrap().pages.collect(10).await.unwrap();
        assert_eq!(rest.len(), left);
    }
}

#[tokio::test]
async fn a_tag_a_blob_and_a_manifest_are_deleted_each_for_itself() {
    let registry = honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&repository, b"layer", "").await;
    repository.put_manifest(&manifest).tags(["a", "b"]).send().await.unwrap();
    repository.delete_tag("a").await.unwrap();
    assert_eq!(repository.tags().collect(10).await.unwrap(), ["b"]);
    assert_eq!(repository.delete_tag("a").await.unwrap_err().kind(), NetErrorKind::NotFound);
    repository.manifest(Selector::Digest(*manifest.digest())).await.unwrap();
    assert_eq!(repository.delete_tag("../x").await.unwrap_err().kind(), NetErrorKind::InvalidInput);
    assert_eq!(repository.delete_manifest(manifest.digest()).await.unwrap(), ReferrersUpkeep::NotNeeded);
    assert_eq!(repository.delete_manifest(manifest.digest()).await.unwrap_err().kind(), NetErrorKind::NotFound);
    assert_eq!(repository.tags().collect(10).await.unwrap(), Vec::<String>::new());
    let digest = Digest::sha256(b"layer");
    assert_eq!(repository.head_blob(&digest).await.unwrap().unwrap().size_bytes, Some(5));
    repository.delete_blob(&digest).await.unwrap();
    assert_eq!(repository.head_blob(&digest).await.unwrap(), None);
    assert_eq!(repository.delete_blob(&digest).await.unwrap_err().kind(), NetErrorKind::NotFound);
    registry.stop();
}
