//! References to provider catalogs: what is located is in the registry that was named or below the base, and no error repeats a
//! password.
#![no_main]

use greentic_distributor_client::fuzzing::catalog_reference;
use greentic_distributor_client::provider_registry::RegistryBases;
use libfuzzer_sys::fuzz_target;

const BASE: &str = "registry.example/base";
const CANARY: &str = "canary0123456789";

fuzz_target!(|text: &str| {
    let bases = RegistryBases { repo: Some(BASE.to_owned()), store: None };
    for text in [text.to_owned(), format!("repo://{text}"), format!("oci://ann:{CANARY}@host/{text}")] {
        match catalog_reference(&text, &bases) {
            Ok(Some(located)) => {
                let (scheme, target) = text.trim().split_once("://").expect("a path is not located");
                let registry = located.split('/').next().unwrap_or_default();
                let is_below_base = scheme.eq_ignore_ascii_case("repo") && located.starts_with(BASE);
                assert!(
                    is_below_base || target.trim_start_matches('/').contains(registry) || registry == "docker.io",
                    "{text:?}: {located}"
                );
                // Located once it is located again where it is.
                assert_eq!(catalog_reference(&format!("oci://{located}"), &bases).ok().flatten(), Some(located));
            }
            Ok(None) => {}
            Err(error) => {
                let told = format!("{error} {error:?}");
                assert!(!told.contains(CANARY), "{told}");
                assert!(!error.to_string().chars().any(char::is_control), "{error}");
            }
        }
    }
});
