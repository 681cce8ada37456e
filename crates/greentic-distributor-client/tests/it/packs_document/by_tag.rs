use greentic_distributor_client::oci_packs::{
    DefaultRegistryClient, OciPackError, OciPackFetcher, PackFetchOptions, ResolvedPack,
};

/// Fetches what a tag means now. `resolved_digest` is what to write down, and to ask for from then on.
pub async fn by_tag(reference: &str, options: PackFetchOptions) -> Result<ResolvedPack, OciPackError> {
    let options = PackFetchOptions { allow_tags: true, ..options };
    let fetcher: OciPackFetcher<DefaultRegistryClient> = OciPackFetcher::new(options);
    fetcher.fetch_pack_to_cache(reference).await
}
