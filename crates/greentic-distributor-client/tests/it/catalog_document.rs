//! The examples of `docs/provider-catalog.md`, compiled and run, and the document held against them.
#![expect(unreachable_pub, clippy::print_stderr, reason = "as a reader would write them")]

mod by_path;
mod with_client;

use std::fs;

use greentic_distributor_client::provider_registry::Catalog;

use crate::catalog_support::{Shop, cache_of, document};
use crate::support::Home;

const DOCUMENT: &str = include_str!("../../../../docs/provider-catalog.md");

fn examples(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    DOCUMENT.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_snippet_of_the_document_is_one_that_is_run_here() {
    let snippets = [include_str!("catalog_document/by_path.rs"), include_str!("catalog_document/with_client.rs")];
    assert_eq!(examples("rust"), snippets);
}

#[test]
fn a_shipped_file_is_the_catalog_of_a_run_without_a_network() {
    let home = Home::new();
    let shipped = home.path().join("shipped.json");
    fs::write(&shipped, document(&["x"])).unwrap();
    let path = by_path::by_path(home.path(), &shipped).unwrap().unwrap();
    assert_eq!(path.parent(), Some(cache_of(home.path()).as_path()));
    assert_eq!(fs::read(path).unwrap(), document(&["x"]));
}

#[tokio::test]
async fn the_packs_are_listed_also_when_the_registry_is_gone() {
    let shop = Shop::new();
    let base = format!("{}/acme", shop.registry.host());
    let expected = ["oci://ghcr.io/acme/packs/a:latest", "oci://ghcr.io/acme/packs/b:latest"];
    assert_eq!(with_client::packs(shop.bundle(), &base, shop.home.client()).await.unwrap(), expected);
    // The name is what the copy is kept under, whatever it leads to.
    assert_eq!(with_client::packs(shop.bundle(), "127.0.0.1:1/gone", shop.home.client()).await.unwrap(), expected);
}

#[test]
fn the_documents_that_are_shown_are_catalogs_of_the_same_provider() {
    let shown = examples("json");
    assert_eq!(shown.len(), 3);
    for text in shown {
        let catalog = Catalog::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let [provider] = catalog.providers.as_slice() else { panic!("{text}") };
        assert_eq!((provider.id.as_str(), provider.label.fallback.as_str()), ("mail", "Mail"));
        assert_eq!(provider.reference, "oci://ghcr.io/acme/packs/messaging/mail:latest");
    }
}
