//! Host configuration in containerd's directories: `hosts.toml`, and Docker's certificate files; and what counts when the
//! containers tools' `registries.conf` says something, too.
//!
//! `docs/hosts.md` says what is read. A registry's directory is read once by each client, before its first request.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use greentic_dist_net::{
    BoxFuture, Capabilities, HostConfig, HostEndpoint, HostSource, HostsFile, HostsFileEndpoint, NetError,
};
use greentic_dist_types::Secret;

use crate::registries_conf::RegistriesConf;
use crate::{blocking, env, regular_file};

/// Largest file that is read, in bytes: authorities of a whole platform fit.
const FILE_BYTES: u64 = 4 << 20;
/// Most entries of a directory with certificates.
const ENTRIES: usize = 256;

/// A tree of host configurations as containerd reads it from `/etc/containerd/certs.d`.
///
/// For a registry the first of these directories counts: `<host>_<port>_`, `<host>:<port>` (or `<host>`), `_default`. In it
/// `hosts.toml` is read, or, where there is none, `*.crt` as authorities and `*.cert` with `*.key` as client certificates.
/// What cannot be read or understood fails the requests to that registry; it is never passed over.
#[derive(Clone, Debug)]
pub struct HostsDir(PathBuf);

impl HostsDir {
    /// The tree below `root`, which must exist. Reads nothing yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The configuration of a registry; `None` when the tree has none.
    ///
    /// # Errors
    /// `Config`, naming the file.
    pub fn read(&self, registry: &str) -> Result<Option<HostConfig>, NetError> {
        match self.named(registry)? {
            Some(config) => Ok(Some(config)),
            None => self.read_first(registry, [DEFAULT.to_owned()]),
        }
    }

    /// The configuration of a registry that has a directory of its own.
    fn named(&self, registry: &str) -> Result<Option<HostConfig>, NetError> {
        self.read_first(registry, directories(registry))
    }

    fn read_first(
        &self,
        registry: &str,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Option<HostConfig>, NetError> {
        // A tree that was named by mistake would be missed in silence.
        fs::metadata(&self.0).map_err(|error| unreadable(&self.0, error))?;
        for name in names {
            let dir = self.0.join(name);
            match fs::metadata(&dir) {
                Ok(found) if found.is_dir() => return read_dir(registry, &dir).map(Some),
                Ok(_) => return Err(unreadable(&dir, ErrorKind::NotADirectory.into())),
                Err(error) if is_absent(&dir, &error) => {}
                Err(error) => return Err(unreadable(&dir, error)),
            }
        }
        Ok(None)
    }
}

impl HostSource for HostsDir {
    fn host<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<HostConfig>, NetError>> {
        let files = HostFiles::new().hosts_dir(self.clone());
        Box::pin(async move { files.host(registry).await })
    }
}

/// Where configurations of registries are kept: a tree of directories, `registries.conf`, both or neither.
///
/// A registry that has a directory of its own in the tree is reached as that says; any other one as `registries.conf` says,
/// where it says something; and the rest as the tree's `_default` says. What `registries.conf` blocks stays blocked in any case. A
/// host that `registries.conf` names as a location or a mirror, and that has a directory of its own in the tree, is reached as that
/// says: with its certificates, its headers, at its server.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HostFiles {
    tree: Option<HostsDir>,
    conf: Option<RegistriesConf>,
}

impl HostFiles {
    /// Neither.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the environment names: `GREENTIC_DIST_HOSTS_DIR`; `GREENTIC_DIST_REGISTRIES_CONF`, else
    /// `CONTAINERS_REGISTRIES_CONF`. Reads no file.
    pub fn from_env() -> Self {
        Self { tree: env::path(env::HOSTS_DIR).map(HostsDir::new), conf: RegistriesConf::from_env() }
    }

    /// The tree of directories.
    pub fn hosts_dir(mut self, tree: HostsDir) -> Self {
        self.tree = Some(tree);
        self
    }

    /// The `registries.conf`.
    pub fn registries_conf(mut self, conf: RegistriesConf) -> Self {
        self.conf = Some(conf);
        self
    }

    /// Whether nothing is named.
    pub const fn is_empty(&self) -> bool {
        self.tree.is_none() && self.conf.is_none()
    }

    /// The configuration of a registry; `None` when there is none.
    ///
    /// # Errors
    /// `Config`, naming the file.
    pub fn read(&self, registry: &str) -> Result<Option<HostConfig>, NetError> {
        let Some(conf) = &self.conf else {
            return self.tree.as_ref().map_or(Ok(None), |tree| tree.read(registry));
        };
        let conf = conf.read()?;
        let own = |host: &str| self.tree.as_ref().map_or(Ok(None), |tree| tree.named(host));
        if let Some(config) = own(registry)? {
            return Ok(Some(conf.with_blocks(config)));
        }
        let default = || self.tree.as_ref().map_or(Ok(None), |tree| tree.read(registry));
        conf.host_config(registry, default, |host| {
            Ok(own(host)?.as_ref().and_then(HostConfig::origin_endpoint).cloned())
        })
    }
}

impl HostSource for HostFiles {
    fn host<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<HostConfig>, NetError>> {
        let (files, registry) = (self.clone(), registry.to_owned());
        Box::pin(async move {
            let read = blocking::run(move || Ok(files.read(&registry))).await;
            read.unwrap_or_else(|error| Err(NetError::config("the host configuration was not read").with_source(error)))
        })
    }
}

/// The directory of registries that have none of their own.
const DEFAULT: &str = "_default";

/// The directories a registry may have for itself, the most particular first.
fn directories(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    // A host is a name or an address, see `Reference`; this keeps a path out of it whatever happens there.
    if registry.contains(['/', '\\']) || registry.starts_with('.') {
        return names;
    }
    let port_at = registry.rfind(':').filter(|at| !registry.get(*at..).is_some_and(|rest| rest.contains(']')));
    if let Some((host, port)) = port_at.and_then(|at| Some((registry.get(..at)?, registry.get(at.checked_add(1)?..)?)))
    {
        names.push(format!("{host}_{port}_"));
    }
    names.push(registry.to_owned());
    names
}

fn read_dir(registry: &str, dir: &Path) -> Result<HostConfig, NetError> {
    let path = dir.join("hosts.toml");
    let Some(bytes) = read_file(&path).map_err(|error| unreadable(&path, error))? else {
        return docker_files(registry, dir);
    };
    let wrong = |error: &dyn std::fmt::Display| NetError::config(format!("{} cannot be used: {error}", path.display()));
    let text = String::from_utf8(bytes).map_err(|_error| wrong(&"it is not UTF-8"))?;
    let file = HostsFile::parse(&text).map_err(|error| wrong(&error))?;
    let server = file.server.as_deref().unwrap_or(match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    });
    let origin = endpoint(server, &file.origin, dir)?.capabilities(Capabilities::ALL);
    let mut config = HostConfig::new(registry).origin(origin);
    for host in &file.hosts {
        config = config.mirror(endpoint(&host.url, host, dir)?.capabilities(host.capabilities));
    }
    Ok(file.unknown_keys.iter().fold(config, |config, key| {
        config.note(format!("{} has the key `{key}`, which means nothing here", path.display()))
    }))
}

fn endpoint(url: &str, said: &HostsFileEndpoint, dir: &Path) -> Result<HostEndpoint, NetError> {
    let mut endpoint = HostEndpoint::new(url).override_path(said.override_path);
    for file in &said.ca {
        endpoint = endpoint.root_certificates_pem(named(dir, file)?);
    }
    for (certificate, key) in &said.client {
        endpoint = endpoint.client_certificate_pem(named(dir, certificate)?, named_key(&dir.join(key))?);
    }
    endpoint = endpoint.parallel_ranges(said.parallel_ranges).http1_only(said.http1_only);
    if let Some(requests) = said.requests_at_once {
        endpoint = endpoint.requests_at_once(requests);
    }
    if let Some(prefer) = said.prefer_head {
        endpoint = endpoint.prefer_head(prefer);
    }
    if let Some(timeout) = said.dial_timeout {
        endpoint = endpoint.connect_timeout(timeout);
    }
    Ok(said.headers.iter().fold(endpoint, |endpoint, (name, value)| endpoint.header(name, value.clone())))
}

/// Docker's way: `*.crt` are authorities, `x.cert` with `x.key` is a client certificate.
fn docker_files(registry: &str, dir: &Path) -> Result<HostConfig, NetError> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| unreadable(dir, error))?.take(ENTRIES) {
        files.push(entry.map_err(|error| unreadable(dir, error))?.path());
    }
    files.sort();
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let mut endpoint = HostEndpoint::new(host).capabilities(Capabilities::ALL);
    for file in &files {
        let lone = |other: &str| NetError::config(format!("{} has no `.{other}` beside it", file.display()));
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => endpoint = endpoint.root_certificates_pem(file_of(file)?),
            Some("cert") => {
                let key = file.with_extension("key");
                if !files.contains(&key) {
                    return Err(lone("key"));
                }
                endpoint = endpoint.client_certificate_pem(file_of(file)?, named_key(&key)?);
            }
            Some("key") if !files.contains(&file.with_extension("cert")) => return Err(lone("cert")),
            _ => {}
        }
    }
    Ok(HostConfig::new(registry).origin(endpoint))
}

fn named(dir: &Path, file: &str) -> Result<Vec<u8>, NetError> {
    file_of(&dir.join(file))
}

fn named_key(path: &Path) -> Result<Secret, NetError> {
    let text = String::from_utf8(file_of(path)?);
    text.map(Secret::new).map_err(|_secret| NetError::config(format!("{} is no PEM file", path.display())))
}

fn file_of(path: &Path) -> Result<Vec<u8>, NetError> {
    let read = read_file(path).map_err(|error| unreadable(path, error))?;
    read.ok_or_else(|| NetError::config(format!("{} does not exist", path.display())))
}

/// Whether there is nothing of that name. A link to nowhere is something: whoever made it meant something by it.
fn is_absent(path: &Path, error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err()
}

/// A whole small file; `None` when it does not exist.
pub(crate) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match regular_file::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(path, &error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {FILE_BYTES} bytes")));
    }
    Ok(Some(bytes))
}

pub(crate) fn unreadable(path: &Path, error: io::Error) -> NetError {
    NetError::config(format!("the host configuration {} cannot be read", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_directory_counts() {
        assert_eq!(directories("ghcr.io"), ["ghcr.io"]);
        assert_eq!(directories("10.0.0.1:5000"), ["10.0.0.1_5000_", "10.0.0.1:5000"]);
        assert_eq!(directories("[::1]:5000"), ["[::1]_5000_", "[::1]:5000"]);
        assert_eq!(directories("[::1]"), ["[::1]"]);
        for odd in ["../x", "a/b", "a\\b", ".."] {
            assert!(directories(odd).is_empty(), "{odd}");
        }
    }
}
