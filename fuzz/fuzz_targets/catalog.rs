//! Provider catalogs, in JSON and in YAML: what is read names each provider once and visibly, and reasons are clean.
#![no_main]

use std::collections::BTreeSet;

use greentic_distributor_client::fuzzing::is_kept_as_catalog;
use greentic_distributor_client::provider_registry::Catalog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    match Catalog::from_slice(document) {
        Ok(catalog) => {
            assert!(is_kept_as_catalog(document), "what can be read can be kept");
            let mut seen = BTreeSet::new();
            for provider in &catalog.providers {
                assert!(seen.insert(&provider.id));
                assert_eq!(catalog.provider(&provider.id), Some(provider));
                for name in [&provider.id, &provider.reference] {
                    assert!(!name.trim().is_empty() && !name.chars().any(char::is_control), "{name:?}");
                }
                assert!(!provider.label.shown().as_str().chars().any(char::is_control));
            }
            assert_eq!(Catalog::from_slice(document).as_ref(), Ok(&catalog));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error}"),
    }
});
