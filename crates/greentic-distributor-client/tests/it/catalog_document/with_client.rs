use std::path::Path;

use greentic_distributor_client::dist::DistClient;
use greentic_distributor_client::provider_registry::{ProviderRegistry, RegistryBases};

/// The packs of all providers, as the registry has them now.
pub async fn packs(bundle: &Path, base: &str, client: DistClient) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let bases = RegistryBases { repo: Some(base.to_owned()), store: None };
    let registry = ProviderRegistry::builder(bundle).client(client).bases(bases).refresh(true).build();
    let found = registry.resolve(None, Some("repo://providers:latest")).await?.ok_or("no reference was given")?;
    if let Some(failure) = &found.refresh_failure {
        eprintln!("the copy of {:?} ago is used: {}", found.age, failure.message);
    }
    Ok(found.catalog()?.providers.iter().map(|provider| provider.reference.clone()).collect())
}
