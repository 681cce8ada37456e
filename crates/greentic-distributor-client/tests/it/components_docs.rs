//! The examples of `docs/oci_components.md`: the code below is theirs, and does what they say.

use greentic_dist_testkit::scenario::Scenario;
use greentic_distributor_client::oci_components::{
    ComponentResolveOptions, ComponentsExtension, ComponentsMode, OciComponentError, OciComponentResolver,
};
use greentic_distributor_client::runner_api::{DigestFetchOptions, DigestFetcher, RunnerApiError};

use crate::components::options;
use crate::support::{Home, registry, sample};

const DOCUMENT: &str = include_str!("../../../../docs/oci_components.md");

async fn bring_all(
    pack_manifest: &[u8],
    options: ComponentResolveOptions,
) -> Result<Vec<std::path::PathBuf>, Box<dyn std::error::Error>> {
    let resolver: OciComponentResolver = OciComponentResolver::new(options);
    let Some(extension) = ComponentsExtension::from_pack_manifest(pack_manifest)? else { return Ok(Vec::new()) };
    let components = resolver.resolve_refs(&extension).await?;
    Ok(components.into_iter().map(|component| component.path).collect())
}

async fn bring_one(resolver: &OciComponentResolver, refs: Vec<String>) -> Result<Vec<u8>, OciComponentError> {
    let extension = ComponentsExtension { refs, mode: ComponentsMode::Lazy };
    let known = resolver.resolve_refs(&extension).await?;
    let first = resolver.fetch(&known[0]).await?;
    Ok(std::fs::read(first.path).unwrap_or_default())
}

async fn layer(options: DigestFetchOptions, reference: &str) -> Result<std::path::PathBuf, RunnerApiError> {
    let fetcher: DigestFetcher = DigestFetcher::new(options);
    let cached = fetcher.ensure_cached(reference).await?;
    assert_eq!(cached.metadata.digest, reference.rsplit_once('@').unwrap_or_default().1);
    Ok(cached.path)
}

/// The fenced blocks of the document in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    DOCUMENT.split(&fence).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[test]
fn the_examples_of_the_document_are_the_code_of_this_file() {
    let trimmed =
        |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    let this = trimmed(include_str!("components_docs.rs"));
    let examples = blocks("rust");
    assert_eq!(examples.len(), 3);
    for example in examples {
        for part in trimmed(example).split("\nasync fn ").map(|part| part.trim_start_matches("async fn ")) {
            assert!(this.contains(part), "{part}");
        }
    }
}

#[test]
fn the_documented_extension_is_read() {
    let example = blocks("json").remove(0);
    let extension = ComponentsExtension::from_pack_manifest(example.as_bytes()).unwrap().unwrap();
    assert_eq!((extension.refs.len(), extension.mode), (2, ComponentsMode::Eager));
    assert!(extension.refs[0].contains("@sha256:") && extension.refs[1].ends_with(":1.2"));
}

#[test]
fn the_documented_media_types_and_limits_are_the_defaults() {
    let (_, list) = DOCUMENT.split_once("By default:\n\n").unwrap();
    let types: Vec<_> = list.lines().map_while(|line| line.split('`').nth(1)).collect();
    assert_eq!(types, ComponentResolveOptions::default().preferred_layer_media_types);
}

#[tokio::test]
async fn the_documented_calls_bring_components_and_blobs() {
    let (home, registry) = (Home::new(), registry());
    let manifest = format!(r#"{{"extensions":{{"greentic.components":{{"refs":["{}"]}}}}}}"#, registry.pinned());
    let paths = bring_all(manifest.as_bytes(), options(&home)).await.unwrap();
    assert!(std::fs::read(&paths[0]).unwrap() == registry.artifact().layer_bytes());
    assert!(bring_all(b"{}", options(&home)).await.unwrap().is_empty());

    let (elsewhere, registry) = (Home::new(), Scenario::new(sample()).start());
    let resolver = OciComponentResolver::new(options(&elsewhere));
    let bytes = bring_one(&resolver, vec![registry.reference()]).await.unwrap();
    assert!(bytes == registry.artifact().layer_bytes());

    let blobs =
        DigestFetchOptions { cache_dir: elsewhere.path().join("cache/digests"), ..DigestFetchOptions::default() };
    let path = layer(blobs, &registry.pinned_to(registry.artifact().layer_digest())).await.unwrap();
    assert!(std::fs::read(path).unwrap() == registry.artifact().layer_bytes());
}
