use async_trait::async_trait;
use greentic_distributor_client::oci_packs::{
    OciPackError, OciPackFetcher, PackFetchOptions, PulledImage, PulledLayer, Reference, RegistryClient,
    RegistryClientError, ResolvedPack,
};

/// A client that has one pack.
pub struct OnePack(Vec<u8>);

#[async_trait]
impl RegistryClient for OnePack {
    fn default_client() -> Self {
        Self(b"a pack".to_vec())
    }

    async fn pull(&self, reference: &Reference, _types: &[&str]) -> Result<PulledImage, RegistryClientError> {
        if reference.repository() != "acme/pack" {
            let text = format!("manifest unknown: {}", reference.whole());
            return Err(RegistryClientError::GenericError(Some(text)));
        }
        let media_type = "application/vnd.greentic.gtpack.v1+zip".to_owned();
        let layer = PulledLayer { media_type, data: self.0.clone(), digest: None };
        Ok(PulledImage { digest: None, layers: vec![layer] })
    }
}

/// Fetches from it.
pub async fn own_client(reference: &str, options: PackFetchOptions) -> Result<ResolvedPack, OciPackError> {
    OciPackFetcher::<OnePack>::new(options).fetch_pack_to_cache(reference).await
}
