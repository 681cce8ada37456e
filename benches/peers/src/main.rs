//! `oci-client` 0.18 doing what `greentic-dist` does, the way its documentation shows, streaming wherever it can.
//!
//!     oci-client-peer pull REFERENCE DIR          manifest, and every layer into a file of DIR, 16 at once
//!     oci-client-peer digest REFERENCE            what a tag means
//!     oci-client-peer set DIR AT_ONCE REFERENCE…  many one-layer artifacts, so many at once
//!     oci-client-peer push REFERENCE FILE         an artifact with the file as its only layer
//!
//! Plain HTTP, or HTTPS where `PEER_CA` names a certificate to trust. It checks digests as the library does, and syncs nothing.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const CONFIG: &[u8] = b"{}";

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut config =
        ClientConfig { protocol: ClientProtocol::Http, use_monolithic_push: true, ..ClientConfig::default() };
    if let Some(path) = std::env::var_os("PEER_CA") {
        config.protocol = ClientProtocol::Https;
        config.extra_root_certificates =
            vec![Certificate { encoding: CertificateEncoding::Pem, data: std::fs::read(path)? }];
    }
    let client = Client::new(config);
    match arguments.as_slice() {
        ["pull", reference, dir] => {
            tokio::fs::create_dir_all(dir).await?;
            pull(&client, reference, Path::new(dir)).await
        }
        ["set", dir, at_once, references @ ..] => {
            tokio::fs::create_dir_all(dir).await?;
            let pulls = references.iter().map(|reference| pull(&client, reference, Path::new(dir)));
            stream::iter(pulls).buffer_unordered(at_once.parse()?).try_collect::<()>().await
        }
        ["digest", reference] => {
            let digest = client.fetch_manifest_digest(&reference.parse()?, &RegistryAuth::Anonymous).await?;
            println!("{digest}");
            Ok(())
        }
        ["push", reference, file] => push(&client, reference, PathBuf::from(file)).await,
        _ => Err("see the head of main.rs".into()),
    }
}

async fn pull(client: &Client, reference: &str, dir: &Path) -> Outcome {
    let reference: Reference = reference.parse()?;
    client.auth(&reference, &RegistryAuth::Anonymous, RegistryOperation::Pull).await?;
    let (manifest, _digest) = client.pull_image_manifest(&reference, &RegistryAuth::Anonymous).await?;
    let layers = manifest.layers.iter().map(|layer| {
        let (client, reference) = (client.clone(), reference.clone());
        async move {
            let name = layer.digest.replace(':', "-");
            let mut file = File::create(dir.join(name)).await?;
            client.pull_blob(&reference, layer, &mut file).await?;
            file.flush().await?;
            Outcome::Ok(())
        }
    });
    stream::iter(layers).buffer_unordered(16).try_collect::<()>().await
}

async fn push(client: &Client, reference: &str, path: PathBuf) -> Outcome {
    let reference: Reference = reference.parse()?;
    client.auth(&reference, &RegistryAuth::Anonymous, RegistryOperation::Push).await?;
    let (digest, size) = digest_of(&path).await?;
    let bytes = ReaderStream::with_capacity(File::open(&path).await?, 1 << 20);
    let bytes = bytes.map_err(|error| OciDistributionError::GenericError(Some(error.to_string())));
    client.push_blob_stream(&reference, bytes, &digest, Some(size)).await?;
    let config = format!("sha256:{}", hex(&Sha256::digest(CONFIG)));
    client.push_blob(&reference, CONFIG.to_vec(), &config).await?;
    let descriptor = |media_type: &str, digest: String, size: u64| OciDescriptor {
        media_type: media_type.to_owned(),
        digest,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    };
    let manifest = OciImageManifest {
        config: descriptor("application/vnd.wasm.config.v0+json", config, CONFIG.len() as u64),
        layers: vec![descriptor("application/wasm", digest, size)],
        annotations: Some(BTreeMap::new()),
        ..OciImageManifest::default()
    };
    client.push_manifest(&reference, &OciManifest::Image(manifest)).await?;
    Ok(())
}

async fn digest_of(path: &Path) -> Result<(String, u64), Box<dyn Error + Send + Sync>> {
    let (mut file, mut hash, mut size) = (File::open(path).await?, Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok((format!("sha256:{}", hex(&hash.finalize())), size));
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
