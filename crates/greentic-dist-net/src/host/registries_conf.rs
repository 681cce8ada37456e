//! `registries.conf` of the containers tools (podman, skopeo, buildah; containers-registries.conf(5)), understood without
//! touching a file.

use std::fmt;

use greentic_dist_types::{Reference, SafeText, redact_reference};
use toml::{Table, Value};

use super::config::{Capabilities, HostConfig, HostEndpoint};

/// Largest file in bytes.
const FILE_BYTES: usize = 1 << 20;
/// Most `[[registry]]` tables of all files together.
const REGISTRIES: usize = 1_024;
/// Most mirrors of one table.
const MIRRORS: usize = 32;
/// Most unknown keys that are told of.
const UNKNOWN: usize = 32;
/// Keys that are about short names, which are never completed here, and about what is kept elsewhere.
const PASSED_OVER: &[&str] =
    &["unqualified-search-registries", "short-name-mode", "aliases", "additional-layer-store-auth-helper"];

/// One or more parsed files in version 2 of the format.
///
/// What is about short names (`unqualified-search-registries`, `short-name-mode`, `[aliases]`) is read past: a name without a
/// registry is never completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistriesFile {
    registries: Vec<RegistryTable>,
    /// Keys that mean nothing here, sanitised: newer versions of the format may have them. `credential-helpers` is one of them
    /// where it names a helper: logins come from this client's own sources.
    unknown_keys: Vec<String>,
}

/// One `[[registry]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RegistryTable {
    prefix: Prefix,
    /// `None` where it is where the prefix says.
    location: Option<Location>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<MirrorTable>,
    /// The file it stands in.
    source: SafeText,
}

/// One `[[registry.mirror]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MirrorTable {
    location: Location,
    insecure: bool,
    pull: PullFrom,
}

/// `pull-from-mirror`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PullFrom {
    All,
    DigestOnly,
    TagOnly,
}

/// Which names a table is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Prefix {
    /// `host[:port][/path]`.
    Path(Location),
    /// `*.example.com`, as `.example.com`.
    Below(String),
}

/// A host and the path of repositories on it; the path is empty for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Location {
    host: String,
    path: String,
}

/// Why a `registries.conf` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistriesFileError(String);

impl fmt::Display for RegistriesFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RegistriesFileError {}

fn wrong(text: impl Into<String>) -> RegistriesFileError {
    RegistriesFileError(text.into())
}

/// What was written, without what may be a login before the host.
fn shown(text: &str) -> SafeText {
    let host = text.split('/').next().unwrap_or_default();
    let text = host.rsplit_once('@').and_then(|(login, _)| text.get(login.len()..)).unwrap_or(text);
    SafeText::excerpt(&redact_reference(text), 96)
}

impl RegistriesFile {
    /// Parses the text of a `registries.conf`, at most 1 MiB and 1024 registries. `source` is what the file is called when it is
    /// the reason for something.
    ///
    /// # Errors
    /// [`RegistriesFileError`] for text that is no TOML (with its line), version 1 of the format, values that are wrong (with
    /// their key and the registry they are about), and a prefix that stands there twice.
    pub fn parse(text: &str, source: &str) -> Result<Self, RegistriesFileError> {
        if text.len() > FILE_BYTES {
            return Err(wrong(format!("it is larger than {FILE_BYTES} bytes")));
        }
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count().saturating_add(1);
            wrong(format!("line {line} is not TOML"))
        })?;
        let mut file = Self::default();
        for (key, value) in &table {
            match (key.as_str(), value) {
                ("registry", Value::Array(registries)) => file.add_registries(registries, source)?,
                ("registry", _) => return Err(wrong("`registry` is not a list of tables: write `[[registry]]`")),
                ("registries", _) => {
                    return Err(wrong(
                        "it is written in version 1 of the format; write `[[registry]]` tables (version 2)",
                    ));
                }
                ("credential-helpers", Value::Array(helpers)) if helpers.iter().all(is_auth_file) => {}
                (known, _) if PASSED_OVER.contains(&known) => {}
                (unknown, _) => file.unknown_keys.push(SafeText::excerpt(unknown, 64).to_string()),
            }
        }
        file.unknown_keys.truncate(UNKNOWN);
        Ok(file)
    }

    /// Adds what a later file says: a table with the same prefix takes the place of the earlier one, as a whole.
    ///
    /// # Errors
    /// [`RegistriesFileError`] when there are more than 1024 registries then.
    pub fn merge(&mut self, later: Self) -> Result<(), RegistriesFileError> {
        self.registries.retain(|table| !later.registries.iter().any(|newer| newer.prefix == table.prefix));
        self.registries.extend(later.registries);
        self.unknown_keys.extend(later.unknown_keys);
        self.unknown_keys.truncate(UNKNOWN);
        if self.registries.len() > REGISTRIES {
            return Err(wrong(format!("with the files before it there are more than {REGISTRIES} registries")));
        }
        Ok(())
    }

    /// How a registry, written as in references, is reached; `None` when nothing is said about it anywhere.
    ///
    /// `otherwise` is what counts where no table is for the registry as a whole. `endpoint` is how a host is reached that a location
    /// names, where that is known from elsewhere: its certificates, its headers. Certificates are checked whatever `insecure`
    /// says; it stands for plain HTTP where nobody speaks TLS.
    ///
    /// # Errors
    /// Those of `otherwise` and `endpoint`.
    pub fn host_config<E>(
        &self,
        registry: &str,
        otherwise: impl FnOnce() -> Result<Option<HostConfig>, E>,
        mut endpoint: impl FnMut(&str) -> Result<Option<HostEndpoint>, E>,
    ) -> Result<Option<HostConfig>, E> {
        let host = normal(registry);
        let mut parts = self.parts_of(&host).peekable();
        let mut config = match self.table_of_host(&host) {
            Some(table) => {
                let said = self.config_of(table, registry, &mut endpoint)?;
                if said.reads_only { HostConfig::new(registry).part("", said) } else { said }
            }
            None => match otherwise()? {
                Some(config) => config,
                None if parts.peek().is_none() => return Ok(None),
                None => HostConfig::new(registry),
            },
        };
        for (path, table) in parts {
            config = config.part(path, self.config_of(table, registry, &mut endpoint)?);
        }
        let keys = self.unknown_keys.iter();
        Ok(Some(keys.fold(config, |config, key| {
            config.note(format!("the registries.conf has the key `{key}`, which means nothing here"))
        })))
    }

    /// A configuration from elsewhere, with nothing but what is blocked here.
    pub fn with_blocks(&self, config: HostConfig) -> HostConfig {
        let host = normal(config.registry());
        let whole = self.table_of_host(&host).filter(|table| table.blocked);
        if whole.is_none() && !self.parts_of(&host).any(|(_, table)| table.blocked) {
            return config;
        }
        let plain = config.clone();
        let config = whole.map_or(config.clone(), |table| config.blocked(table.named()));
        self.parts_of(&host).fold(config, |config, (path, table)| {
            let part = plain.clone();
            config.part(path, if table.blocked { part.blocked(table.named()) } else { part })
        })
    }

    /// The table for a host as a whole: its own, else the longest wildcard.
    fn table_of_host(&self, host: &str) -> Option<&RegistryTable> {
        let length = |table: &&RegistryTable| match &table.prefix {
            Prefix::Path(prefix) => (prefix.path.is_empty() && prefix.host == host).then_some(usize::MAX),
            Prefix::Below(suffix) => {
                let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
                name.ends_with(suffix.as_str()).then_some(suffix.len())
            }
        };
        self.registries.iter().filter(|table| length(table).is_some()).max_by_key(length)
    }

    /// The tables for some of a host's repositories, with their paths.
    fn parts_of<'a>(&'a self, host: &str) -> impl Iterator<Item = (&'a str, &'a RegistryTable)> + use<'a> {
        let host = host.to_owned();
        self.registries.iter().filter_map(move |table| match &table.prefix {
            Prefix::Path(prefix) if prefix.host == host && !prefix.path.is_empty() => Some((&*prefix.path, table)),
            _ => None,
        })
    }

    /// The table that blocks what is at a location.
    fn blocks(&self, at: &Location) -> Option<&RegistryTable> {
        let is_in =
            |path: &str| at.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let part = self.parts_of(&at.host).filter(|(path, _)| is_in(path)).max_by_key(|(path, _)| path.len());
        part.map(|(_, table)| table).or_else(|| self.table_of_host(&at.host)).filter(|table| table.blocked)
    }

    /// What a table says, for a registry it is for.
    fn config_of<E>(
        &self,
        table: &RegistryTable,
        registry: &str,
        endpoint: &mut impl FnMut(&str) -> Result<Option<HostEndpoint>, E>,
    ) -> Result<HostConfig, E> {
        let (config, host) = (HostConfig::new(registry), normal(registry));
        let own = table.place(&host);
        let location = table.location_for(&host);
        if let Some(by) = Some(table).filter(|table| table.blocked).or_else(|| self.blocks(&location)) {
            return Ok(config.blocked(by.named()));
        }
        let is_elsewhere = location != own;
        let mut config = config.reads_only(is_elsewhere);
        if is_elsewhere || table.insecure {
            config = config.origin(location.endpoint(table.insecure, endpoint)?.capabilities(Capabilities::ALL));
        }
        for mirror in &table.mirrors {
            if let Some(by) = self.blocks(&mirror.location) {
                config = config.note(format!(
                    "the mirror {} is not asked: it is blocked by {}",
                    mirror.location,
                    by.named()
                ));
                continue;
            }
            let endpoint = mirror.location.endpoint(mirror.insecure, endpoint)?;
            config = config.mirror(match mirror.pull {
                PullFrom::All => endpoint.capabilities(Capabilities::READ),
                PullFrom::DigestOnly => endpoint.capabilities(Capabilities::PULL),
                PullFrom::TagOnly => {
                    endpoint.capabilities(Capabilities { resolve: true, ..Capabilities::PULL }).named_only(true)
                }
            });
        }
        Ok(config)
    }

    fn add_registries(&mut self, registries: &[Value], source: &str) -> Result<(), RegistriesFileError> {
        if registries.len() > REGISTRIES {
            return Err(wrong(format!("it has more than {REGISTRIES} registries")));
        }
        for (number, value) in registries.iter().enumerate() {
            let about = |why: String| wrong(format!("`[[registry]]` {}: {why}", number.saturating_add(1)));
            let Value::Table(table) = value else { return Err(about("it is not a table".to_owned())) };
            let (table, unknown) = registry_table(table, source).map_err(about)?;
            if self.registries.iter().any(|known| known.prefix == table.prefix) {
                return Err(about(format!("the prefix `{}` is there twice", table.prefix)));
            }
            self.unknown_keys.extend(unknown.into_iter().map(|key| format!("{}.{key}", table.prefix)));
            self.registries.push(table);
        }
        Ok(())
    }
}

impl RegistryTable {
    /// What its prefix stands for on a host it is for.
    fn place(&self, host: &str) -> Location {
        match &self.prefix {
            Prefix::Path(prefix) => prefix.clone(),
            Prefix::Below(_) => Location { host: host.to_owned(), path: String::new() },
        }
    }

    /// Where the repositories are of a host it is for.
    fn location_for(&self, host: &str) -> Location {
        let Some(location) = &self.location else { return self.place(host) };
        // The port of a host below a wildcard stays as it is where the location leaves room for it.
        let port = match &self.prefix {
            Prefix::Below(_) if location.path.is_empty() && !location.host.contains(':') => host.rsplit_once(':'),
            _ => None,
        };
        match port {
            Some((_, port)) => Location { host: format!("{}:{port}", location.host), path: String::new() },
            None => location.clone(),
        }
    }

    fn named(&self) -> String {
        format!("`{}` in {}", self.prefix, self.source)
    }
}

impl Location {
    fn endpoint<E>(
        &self,
        insecure: bool,
        known: &mut impl FnMut(&str) -> Result<Option<HostEndpoint>, E>,
    ) -> Result<HostEndpoint, E> {
        let api_host = if self.host == "docker.io" { "registry-1.docker.io" } else { &self.host };
        let endpoint = known(&self.host)?.unwrap_or_else(|| HostEndpoint::new(api_host));
        Ok(endpoint.http_too(insecure).namespace_query(false).repository_path(&self.path))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(location) => location.fmt(f),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// A host as two spellings of it are compared: `host:443` is `host`.
fn normal(registry: &str) -> String {
    let registry = registry.to_ascii_lowercase();
    match registry.strip_suffix(":443") {
        // The end of an IPv6 address is no port.
        Some(host) if !host.starts_with('[') || host.ends_with(']') => host.to_owned(),
        _ => registry,
    }
}

fn is_auth_file(helper: &Value) -> bool {
    helper.as_str() == Some("containers-auth.json")
}

/// A table and its keys that mean nothing here.
fn registry_table(table: &Table, source: &str) -> Result<(RegistryTable, Vec<String>), String> {
    let mut unknown = Vec::new();
    let (mut prefix, mut location) = (None, None);
    let (mut insecure, mut blocked, mut by_digest) = (false, false, false);
    let mut mirrors: &[Value] = &[];
    for (key, value) in table {
        match key.as_str() {
            // An empty one is none, as the containers tools have it.
            "prefix" => prefix = Some(text(key, value)?).filter(|text| !text.is_empty()),
            "location" => location = Some(text(key, value)?).filter(|text| !text.is_empty()),
            "insecure" => insecure = flag(key, value)?,
            "blocked" => blocked = flag(key, value)?,
            "mirror-by-digest-only" => by_digest = flag(key, value)?,
            "mirror" => {
                mirrors = value.as_array().ok_or("`mirror` is not a list of tables: write `[[registry.mirror]]`")?;
            }
            other => unknown.push(SafeText::excerpt(other, 64).to_string()),
        }
    }
    let location = location.map(|text| Location::parse(text).map_err(|why| format!("`location` {why}"))).transpose()?;
    let prefix = match (prefix, &location) {
        (Some(prefix), _) => Prefix::parse(prefix).map_err(|why| format!("`prefix` {why}"))?,
        (None, Some(location)) => Prefix::Path(location.clone()),
        (None, None) => return Err("it has neither `prefix` nor `location`".to_owned()),
    };
    if mirrors.len() > MIRRORS {
        return Err(format!("`{prefix}` has more than {MIRRORS} mirrors"));
    }
    let mirror = |(number, value): (usize, &Value)| {
        let about = |why: String| format!("`{prefix}`, mirror {}: {why}", number.saturating_add(1));
        let table = value.as_table().ok_or_else(|| about("it is not a table".to_owned()))?;
        mirror_table(table, by_digest, &mut unknown).map_err(about)
    };
    let mirrors = mirrors.iter().enumerate().map(mirror).collect::<Result<_, _>>()?;
    let source = SafeText::excerpt(source, 256);
    Ok((RegistryTable { prefix, location, insecure, blocked, mirrors, source }, unknown))
}

fn mirror_table(table: &Table, by_digest: bool, unknown: &mut Vec<String>) -> Result<MirrorTable, String> {
    let (mut location, mut insecure, mut pull) = (None, false, None);
    for (key, value) in table {
        match key.as_str() {
            "location" => {
                location = Some(Location::parse(text(key, value)?).map_err(|why| format!("`location` {why}"))?);
            }
            "insecure" => insecure = flag(key, value)?,
            "pull-from-mirror" => {
                pull = match text(key, value)? {
                    "" => None,
                    "all" => Some(PullFrom::All),
                    "digest-only" => Some(PullFrom::DigestOnly),
                    "tag-only" => Some(PullFrom::TagOnly),
                    other => {
                        let other = SafeText::excerpt(other, 32);
                        return Err(format!("`{key}` is `{other}`; known are all, digest-only, tag-only"));
                    }
                };
            }
            other => unknown.push(format!("mirror.{}", SafeText::excerpt(other, 64))),
        }
    }
    let location = location.ok_or("it has no `location`")?;
    let pull = match (pull, by_digest) {
        (Some(_), true) => {
            return Err("`pull-from-mirror` cannot be set where `mirror-by-digest-only` is".to_owned());
        }
        (None, true) => PullFrom::DigestOnly,
        (pull, false) => pull.unwrap_or(PullFrom::All),
    };
    Ok(MirrorTable { location, insecure, pull })
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("`{key}` is not a string"))
}

fn flag(key: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("`{key}` is neither true nor false"))
}

impl Prefix {
    fn parse(written: &str) -> Result<Self, String> {
        let Some(name) = written.strip_prefix("*.") else { return Location::parse(written).map(Self::Path) };
        let name = name.to_ascii_lowercase();
        if name.contains([':', '/', '*', '[']) || Reference::new(&name, "x", None, None).is_err() {
            return Err(format!("`{}` is no wildcard like `*.example.com`", shown(written)));
        }
        Ok(Self::Below(format!(".{name}")))
    }
}

impl Location {
    /// `host[:port][/path]`.
    fn parse(written: &str) -> Result<Self, String> {
        let text = written.trim_end_matches('/');
        if text.contains("://") {
            return Err(format!("`{}` has a scheme; it is a host, and a path where there is one", shown(written)));
        }
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let last = path.rsplit('/').next().unwrap_or_default();
        if last.contains([':', '@']) {
            let why = "names a tag or a digest; what is said here counts for whole repositories";
            return Err(format!("`{}` {why}", shown(written)));
        }
        let sample = if path.is_empty() { "x" } else { path };
        if Reference::new(host, sample, None, None).is_err() {
            return Err(format!("`{}` is no host with a path like `example.com/team`", shown(written)));
        }
        // Docker Hub is one registry, whichever of its names is written.
        let host = match normal(host).as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            _ => normal(host),
        };
        Ok(Self { host, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> RegistriesFile {
        RegistriesFile::parse(text, "the file").unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        RegistriesFile::parse(text, "the file").unwrap_err().to_string()
    }

    fn config(file: &RegistriesFile, registry: &str) -> Option<HostConfig> {
        file.host_config(registry, || Ok::<_, std::convert::Infallible>(None), |_| Ok(None)).unwrap()
    }

    /// The example of the manual page, with the other keys of the format.
    const EXAMPLE: &str = r#"
        unqualified-search-registries = ["example.com"]
        short-name-mode = "permissive"
        credential-helpers = ["containers-auth.json"]

        [[registry]]
        prefix = "example.com/foo"
        insecure = false
        blocked = false
        location = "internal-registry-for-example.com/bar"

        [[registry.mirror]]
        location = "example-mirror-0.local/mirror-for-foo"

        [[registry.mirror]]
        location = "example-mirror-1.local/mirrors/foo"
        insecure = true

        [[registry]]
        location = "registry.com"

        [[registry.mirror]]
        location = "mirror.registry.com"

        [aliases]
        "alpine" = "docker.io/library/alpine"
    "#;

    #[test]
    fn the_example_of_the_manual_page_is_understood() {
        let file = parsed(EXAMPLE);
        assert!(file.unknown_keys.is_empty());
        let shown = format!("{:?}", config(&file, "example.com").unwrap());
        for part in ["\"foo\"", "internal-registry-for-example.com", "mirror-for-foo", "mirrors/foo", "http_too: true"]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let registry = config(&file, "registry.com").unwrap();
        assert_eq!((registry.mirrors.len(), registry.parts.len()), (1, 0));
        assert_eq!(registry.mirrors[0].capabilities, Capabilities::READ);
        assert!(registry.origin.is_none() && !registry.mirrors[0].namespace_query);
        for nothing in ["alpine", "docker.io", "other.com", "sub.registry.com", "registry.com:5000"] {
            assert_eq!(config(&file, nothing).map(|config| config.registry), None, "{nothing}");
        }
        assert_eq!(
            config(&file, "registry.com:443").unwrap().mirrors.len(),
            1,
            "the port of HTTPS is no other registry"
        );
    }

    #[test]
    fn a_wildcard_is_for_every_host_below_it_and_the_most_particular_table_counts() {
        let file = parsed(
            r#"
            [[registry]]
            prefix = "*.example.com"
            blocked = true
            [[registry]]
            prefix = "*.eu.example.com"
            [[registry.mirror]]
            location = "eu.mirror"
            [[registry]]
            prefix = "a.eu.example.com"
            location = "a.internal"
            "#,
        );
        assert!(config(&file, "x.example.com").unwrap().blocked.unwrap().contains("`*.example.com` in the file"));
        assert!(config(&file, "x.y.example.com:5000").unwrap().blocked.is_some());
        assert!(config(&file, "example.com").is_none() && config(&file, "notexample.com").is_none());
        let wild = config(&file, "b.eu.example.com").unwrap();
        assert_eq!((wild.blocked, wild.mirrors[0].url.as_str()), (None, "eu.mirror"));
        let own = config(&file, "a.eu.example.com").unwrap();
        let (path, part) = &own.parts[0];
        assert_eq!((path.as_str(), part.reads_only), ("", true));
        assert_eq!(part.origin.as_ref().unwrap().url, "a.internal");
    }

    #[test]
    fn a_host_below_a_wildcard_keeps_its_port_where_the_location_has_room_for_it() {
        let at = |location: &str| {
            let file = parsed(&format!("[[registry]]\nprefix = \"*.example.com\"\nlocation = \"{location}\"\n"));
            let config = config(&file, "b.example.com:5000").unwrap();
            let origin = config.parts[0].1.origin.clone().unwrap();
            (origin.url, origin.repository_path.unwrap())
        };
        assert_eq!(at("internal"), ("internal:5000".to_owned(), String::new()));
        assert_eq!(at("internal:80"), ("internal:80".to_owned(), String::new()));
        assert_eq!(at("internal/team"), ("internal".to_owned(), "team".to_owned()));
    }

    #[test]
    fn which_requests_a_mirror_is_for_is_said_in_two_ways() {
        let file = parsed(
            r#"
            [[registry]]
            location = "a.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "one.example"
            [[registry]]
            location = "b.example"
            [[registry.mirror]]
            location = "one.example"
            pull-from-mirror = "digest-only"
            [[registry.mirror]]
            location = "two.example"
            pull-from-mirror = "tag-only"
            [[registry.mirror]]
            location = "three.example"
            pull-from-mirror = "all"
            [[registry.mirror]]
            location = "four.example"
            pull-from-mirror = ""
            "#,
        );
        assert_eq!(config(&file, "a.example").unwrap().mirrors[0].capabilities, Capabilities::PULL);
        let mirrors = config(&file, "b.example").unwrap().mirrors;
        let tags = Capabilities { resolve: true, ..Capabilities::PULL };
        assert_eq!(
            mirrors.iter().map(|mirror| (mirror.capabilities, mirror.named_only)).collect::<Vec<_>>(),
            [(Capabilities::PULL, false), (tags, true), (Capabilities::READ, false), (Capabilities::READ, false)]
        );
    }

    #[test]
    fn a_later_file_takes_the_place_of_tables_with_the_same_prefix_as_a_whole() {
        let mut file =
            parsed("[[registry]]\nlocation = \"a.example\"\nblocked = true\n[[registry]]\nlocation = \"b.example\"\n");
        let later = "[[registry]]\nprefix = \"A.example:443\"\nlocation = \"c.example/x\"\n";
        file.merge(RegistriesFile::parse(later, "the later").unwrap()).unwrap();
        let config = config(&file, "a.example").unwrap();
        assert_eq!((config.blocked, config.parts[0].1.origin.clone().unwrap().url), (None, "c.example".to_owned()));
        let many: Vec<_> = (0..REGISTRIES).map(|n| format!("[[registry]]\nlocation = \"h{n}.example\"\n")).collect();
        assert!(file.merge(parsed(&many.concat())).unwrap_err().to_string().contains("more than 1024"));
    }

    #[test]
    fn what_is_blocked_is_blocked_as_a_location_and_as_a_mirror_and_beside_another_configuration() {
        let file = parsed(
            r#"
            [[registry]]
            prefix = "evil.example/bad"
            blocked = true
            [[registry]]
            prefix = "a.example"
            location = "evil.example/bad/x"
            [[registry]]
            prefix = "b.example"
            [[registry.mirror]]
            location = "evil.example/bad"
            [[registry.mirror]]
            location = "evil.example/badge"
            "#,
        );
        assert!(config(&file, "a.example").unwrap().blocked.unwrap().contains("`evil.example/bad`"));
        let config = config(&file, "b.example").unwrap();
        assert_eq!(config.mirrors.len(), 1);
        assert!(config.notes[0].contains("evil.example/bad is not asked"), "{:?}", config.notes);
        let elsewhere = HostConfig::new("evil.example").mirror(HostEndpoint::new("https://m.example"));
        let both = file.with_blocks(elsewhere);
        assert_eq!((both.mirrors.len(), both.blocked), (1, None));
        assert!(both.parts[0].1.blocked.is_some());
        let other = file.with_blocks(HostConfig::new("b.example"));
        assert!(other.parts.is_empty() && other.mirrors.is_empty());
    }

    #[test]
    fn docker_hub_is_asked_at_its_api_host_under_every_name() {
        let file = parsed("[[registry]]\nprefix = \"index.docker.io/library\"\ninsecure = true\n");
        let config = config(&file, "docker.io").unwrap();
        let (path, part) = &config.parts[0];
        assert_eq!((path.as_str(), part.origin.clone().unwrap().url.as_str()), ("library", "registry-1.docker.io"));
        assert!(!part.reads_only);
    }

    #[test]
    fn wrong_values_are_named_with_the_registry_they_are_about() {
        for (text, named) in [
            ("\n\n[[registry]]\nlocation = \"x", "line 4"),
            ("[registries.search]\nregistries = [\"a\"]", "version 1"),
            ("[registry]\nlocation = \"a.example\"", "[[registry]]"),
            ("registry = [1]", "`[[registry]]` 1"),
            ("[[registry]]\nblocked = true", "neither `prefix` nor `location`"),
            ("[[registry]]\nlocation = 1", "`location` is not a string"),
            ("[[registry]]\nlocation = \"https://a.example\"", "has a scheme"),
            ("[[registry]]\nlocation = \"a.example/x:1\"", "tag or a digest"),
            ("[[registry]]\nlocation = \"a.example/x@sha256:00\"", "tag or a digest"),
            ("[[registry]]\nlocation = \"a.example/UP\"", "no host with a path"),
            ("[[registry]]\nlocation = \"u:canary@a.example\"", "no host"),
            ("[[registry]]\nlocation = \"*.example.com\"", "no host"),
            ("[[registry]]\nprefix = \"*.example.com:5000\"", "wildcard"),
            ("[[registry]]\nprefix = \"*.example.com/foo\"", "wildcard"),
            ("[[registry]]\nprefix = \"a.*.com\"", "no host"),
            ("[[registry]]\nprefix = \"*.\"", "wildcard"),
            ("[[registry]]\nlocation = \"a.example\"\ninsecure = \"yes\"", "`insecure`"),
            ("[[registry]]\nlocation = \"a.example\"\nblocked = 1", "`blocked`"),
            ("[[registry]]\nlocation = \"a.example\"\nmirror = 1", "[[registry.mirror]]"),
            ("[[registry]]\nlocation = \"a.example\"\nmirror = [1]", "`a.example`, mirror 1"),
            ("[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\ninsecure = true", "has no `location`"),
            (
                "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"some\"",
                "`some`",
            ),
            (
                "[[registry]]\nlocation = \"a.example\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"all\"",
                "cannot be set",
            ),
            ("[[registry]]\nlocation = \"a.example\"\n[[registry]]\nprefix = \"A.example/\"", "twice"),
        ] {
            let why = refused(text);
            assert!(why.contains(named) && !why.contains("canary"), "{text}: {why}");
        }
        assert!(refused(&"#".repeat(FILE_BYTES + 1)).contains("larger"));
        let mirrors = "[[registry.mirror]]\nlocation = \"m\"\n".repeat(MIRRORS + 1);
        assert!(refused(&format!("[[registry]]\nlocation = \"a.example\"\n{mirrors}")).contains("more than 32"));
        assert!(refused(&"[[registry]]\n".repeat(REGISTRIES + 1)).contains("more than 1024"));
        assert!(
            refused(&format!("x = {}", "[".repeat(100_000))).contains("line 1"),
            "a depth that no parser should follow"
        );
    }

    #[test]
    fn keys_of_newer_versions_are_told_of_and_helpers_that_are_not_asked() {
        let text = "future = 1\ncredential-helpers = [\"secretservice\"]\n[[registry]]\nlocation = \"a.example\"\nodd = 1\n[[registry.mirror]]\nlocation = \"b.example\"\nnew = 1\n";
        let keys = parsed(text).unknown_keys;
        assert_eq!(keys, ["future", "credential-helpers", "a.example.odd", "a.example.mirror.new"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
            drop(RegistriesFile::parse(&text, "x"));
        }

        #[test]
        fn any_text_with_the_right_shape_is_read_and_asked_without_a_panic(
            key in "(prefix|location|insecure|blocked|mirror|mirror-by-digest-only|[a-z-]{1,10})",
            value in "[\"\\[\\]a-z0-9, =.{}:/*@]{0,40}",
            host in "[a-z0-9.:\\[\\]]{0,20}",
        ) {
            let text = format!("[[registry]]\n{key} = {value}\n[[registry.mirror]]\nlocation = \"m\"\n");
            if let Ok(file) = RegistriesFile::parse(&text, "x") {
                drop(config(&file, &host));
            }
        }

        #[test]
        fn the_longest_prefix_counts_whatever_the_order(paths in prop::collection::hash_set("[a-c](/[a-c]){0,3}", 1..6), asked in "[a-c](/[a-c]){0,4}") {
            let tables: Vec<String> = paths.iter().map(|path| format!("[[registry]]\nprefix = \"r.example/{path}\"\nblocked = true\n")).collect();
            let file = parsed(&tables.concat());
            let below = |path: &&String| asked == **path || asked.starts_with(&format!("{path}/"));
            let longest = paths.iter().filter(below).max_by_key(|path| path.len());
            let blocked = file.blocks(&Location { host: "r.example".to_owned(), path: asked.clone() });
            prop_assert_eq!(
                blocked.map(|table| table.prefix.to_string()),
                longest.map(|path| format!("r.example/{path}"))
            );
        }
    }
}
