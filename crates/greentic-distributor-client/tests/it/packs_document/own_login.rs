use greentic_distributor_client::oci_packs::{
    DefaultRegistryClient, OciPackError, PackFetchOptions, ResolvedPack, fetch_pack_to_cache_with_options_and_client,
};

/// Fetches with this login and no other.
pub async fn own_login(
    reference: &str,
    user: &str,
    token: &str,
    options: PackFetchOptions,
) -> Result<ResolvedPack, OciPackError> {
    let client = DefaultRegistryClient::with_basic_auth(user, token);
    fetch_pack_to_cache_with_options_and_client(reference, options, client).await
}
