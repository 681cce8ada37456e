//! containerd's `hosts.toml`, understood without touching a file: what it names by path is read by whoever has it.

use std::fmt;
use std::time::Duration;

use greentic_dist_types::{SafeText, Secret};
use toml::{Table, Value};

use super::config::Capabilities;
use super::parse_duration;

/// Largest file in bytes.
const FILE_BYTES: usize = 64 << 10;
/// Most hosts of one file.
const HOSTS: usize = 32;
/// Most entries of one list.
const LIST: usize = 32;
/// Keys an endpoint may have.
const ENDPOINT_KEYS: &[&str] =
    &["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout", "greentic"];

/// A parsed `hosts.toml`. Paths are as written: relative ones are relative to the file's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostsFile {
    /// `server`: where the registry itself is; `None` for the host in the reference.
    pub server: Option<String>,
    /// What the file says at its top level: how the server is reached.
    pub origin: HostsFileEndpoint,
    /// `[host."…"]`, in the file's order: the mirrors.
    pub hosts: Vec<HostsFileEndpoint>,
    /// Keys that mean nothing here, as `host.key`, sanitised: newer versions of the format may have them.
    pub unknown_keys: Vec<String>,
}

/// What a `hosts.toml` says about one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsFileEndpoint {
    /// The URL it stands under; empty for the top level.
    pub url: String,
    /// `capabilities`. Where they are not written: everything that reads, so that nothing is pushed to a mirror by mistake.
    pub capabilities: Capabilities,
    /// `ca`: files with authorities.
    pub ca: Vec<String>,
    /// `client`: files with a certificate and the one with its key, the same one where no other is written.
    pub client: Vec<(String, String)>,
    /// `[host."…".header]`: names and values, in order.
    pub headers: Vec<(String, Secret)>,
    /// `override_path`.
    pub override_path: bool,
    /// `dial_timeout`.
    pub dial_timeout: Option<Duration>,
    /// `greentic.parallel_ranges`.
    pub parallel_ranges: bool,
    /// `greentic.http1_only`.
    pub http1_only: bool,
    /// `greentic.requests_at_once`.
    pub requests_at_once: Option<usize>,
    /// `greentic.prefer_head`.
    pub prefer_head: Option<bool>,
}

impl Default for HostsFileEndpoint {
    fn default() -> Self {
        Self {
            url: String::new(),
            capabilities: Capabilities::READ,
            ca: Vec::new(),
            client: Vec::new(),
            headers: Vec::new(),
            override_path: false,
            dial_timeout: None,
            parallel_ranges: true,
            http1_only: false,
            requests_at_once: None,
            prefer_head: None,
        }
    }
}

/// Why a `hosts.toml` cannot be used. Holds no value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsFileError(String);

impl fmt::Display for HostsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostsFileError {}

fn wrong(text: impl Into<String>) -> HostsFileError {
    HostsFileError(text.into())
}

impl HostsFile {
    /// Parses the text of a `hosts.toml`, at most 64 KiB.
    ///
    /// # Errors
    /// [`HostsFileError`] for text that is no TOML, values of the wrong type, unknown capabilities, and
    /// `skip_verify = true`: certificates are always checked.
    pub fn parse(text: &str) -> Result<Self, HostsFileError> {
        if text.len() > FILE_BYTES {
            return Err(wrong(format!("it is larger than {FILE_BYTES} bytes")));
        }
        // The error's own text shows the line, and a line may hold a secret header.
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count().saturating_add(1);
            wrong(format!("line {line} is not TOML"))
        })?;
        let mut file = Self { origin: endpoint("", &table)?, ..Self::default() };
        for (key, value) in &table {
            match (key.as_str(), value) {
                ("server", Value::String(server)) => file.server = Some(server.clone()),
                ("server", _) => return Err(wrong("`server` is not a string")),
                ("host", Value::Table(hosts)) => file.add_hosts(hosts)?,
                ("host", _) => return Err(wrong("`host` is not a table")),
                (known, _) if ENDPOINT_KEYS.contains(&known) => {}
                (unknown, _) => file.unknown_keys.push(SafeText::excerpt(unknown, 64).to_string()),
            }
        }
        file.unknown_keys.truncate(LIST);
        Ok(file)
    }

    fn add_hosts(&mut self, hosts: &Table) -> Result<(), HostsFileError> {
        if hosts.len() > HOSTS {
            return Err(wrong(format!("it has more than {HOSTS} hosts")));
        }
        for (url, value) in hosts {
            let shown = SafeText::excerpt(&greentic_dist_types::redact_url(url), 96);
            let Value::Table(table) = value else { return Err(wrong(format!("`host.\"{shown}\"` is not a table"))) };
            self.hosts.push(HostsFileEndpoint { url: url.clone(), ..endpoint(shown.as_str(), table)? });
            let unknown = table.keys().filter(|key| !ENDPOINT_KEYS.contains(&key.as_str()));
            self.unknown_keys.extend(unknown.map(|key| format!("{shown}.{}", SafeText::excerpt(key, 64))));
        }
        Ok(())
    }
}

fn endpoint(shown: &str, table: &Table) -> Result<HostsFileEndpoint, HostsFileError> {
    let about = |key: &str, why: &str| {
        wrong(if shown.is_empty() { format!("`{key}` {why}") } else { format!("`{key}` of `{shown}` {why}") })
    };
    let mut endpoint = HostsFileEndpoint::default();
    for (key, value) in table {
        let texts = || texts(value).ok_or_else(|| about(key, "is neither a string nor a short list of strings"));
        let flag = || value.as_bool().ok_or_else(|| about(key, "is neither true nor false"));
        match key.as_str() {
            "capabilities" => {
                endpoint.capabilities = Capabilities::NONE;
                for name in texts()? {
                    let known = &mut endpoint.capabilities;
                    match name {
                        "pull" => known.pull = true,
                        "resolve" => known.resolve = true,
                        "push" => known.push = true,
                        "referrers" => known.referrers = true,
                        other => {
                            let other = SafeText::excerpt(other, 32);
                            return Err(about(
                                key,
                                &format!("has `{other}`; known are pull, resolve, push, referrers"),
                            ));
                        }
                    }
                }
            }
            "ca" => endpoint.ca = texts()?.into_iter().map(str::to_owned).collect(),
            "client" => endpoint.client = pairs(value).ok_or_else(|| about(key, "is no list of files or of pairs"))?,
            "skip_verify" if flag()? => {
                return Err(about(
                    key,
                    "is not supported: certificates are always checked; name their authority with `ca`",
                ));
            }
            "header" => endpoint.headers = headers(value).ok_or_else(|| about(key, "is no table of strings"))?,
            "override_path" => endpoint.override_path = flag()?,
            "dial_timeout" => {
                let timeout = value.as_str().and_then(parse_duration).filter(|timeout| !timeout.is_zero());
                endpoint.dial_timeout = Some(timeout.ok_or_else(|| about(key, "is no duration like `300ms` or `5s`"))?);
            }
            "greentic" => {
                own_keys(&mut endpoint, value).map_err(|(inner, why)| about(&format!("greentic.{inner}"), why))?;
            }
            _ => {}
        }
    }
    Ok(endpoint)
}

/// What containerd has no key for: a table that it reads past.
fn own_keys(endpoint: &mut HostsFileEndpoint, value: &Value) -> Result<(), (String, &'static str)> {
    let table = value.as_table().ok_or((String::new(), "is not a table"))?;
    for (key, value) in table {
        let flag = || value.as_bool().ok_or((key.clone(), "is neither true nor false"));
        match key.as_str() {
            "parallel_ranges" => endpoint.parallel_ranges = flag()?,
            "http1_only" => endpoint.http1_only = flag()?,
            "prefer_head" => endpoint.prefer_head = Some(flag()?),
            "requests_at_once" => {
                let requests = value.as_integer().and_then(|number| usize::try_from(number).ok());
                endpoint.requests_at_once =
                    Some(requests.filter(|number| *number > 0).ok_or((key.clone(), "is no number of at least 1"))?);
            }
            other => return Err((SafeText::excerpt(other, 64).to_string(), "is no known key")),
        }
    }
    Ok(())
}

/// A string, or a list of strings.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) if list.len() <= LIST => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// `"both.pem"`, `["both.pem", …]` or `[["certificate.pem", "key.pem"], …]`.
fn pairs(value: &Value) -> Option<Vec<(String, String)>> {
    let both = |file: &str| (file.to_owned(), file.to_owned());
    match value {
        Value::String(file) => Some(vec![both(file)]),
        Value::Array(list) if list.len() <= LIST => list
            .iter()
            .map(|entry| match entry {
                Value::String(file) => Some(both(file)),
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(file)] => Some(both(file)),
                    [Value::String(certificate), Value::String(key)] if key.is_empty() => Some(both(certificate)),
                    [Value::String(certificate), Value::String(key)] => Some((certificate.clone(), key.clone())),
                    _ => None,
                },
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn headers(value: &Value) -> Option<Vec<(String, Secret)>> {
    let mut headers = Vec::new();
    for (name, value) in value.as_table()? {
        headers.extend(texts(value)?.into_iter().map(|value| (name.clone(), Secret::from(value))));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        HostsFile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_file_is_read_in_its_order() {
        let file = HostsFile::parse(
            r#"
            server = "https://registry-1.docker.io"
            ca = "origin.pem"
            dial_timeout = "5s"
            future = 1

            [host."https://z.example:5000/prefix"]
              capabilities = ["pull", "resolve"]
              ca = ["a.pem", "/etc/b.pem"]
              client = [["c.pem", "c.key"], ["both.pem", ""]]
              override_path = true
              skip_verify = false
              odd = true
              [host."https://z.example:5000/prefix".header]
                X-One = "canary"
                X-Two = ["canary", "b"]

            [host."http://a.example"]
              client = "pair.pem"
            "#,
        )
        .unwrap();
        assert_eq!(file.server.as_deref(), Some("https://registry-1.docker.io"));
        assert_eq!(
            (file.origin.ca.as_slice(), file.origin.dial_timeout),
            (&["origin.pem".to_owned()][..], Some(Duration::from_secs(5)))
        );
        let [first, second] = file.hosts.as_slice() else { panic!("{file:?}") };
        assert_eq!((first.url.as_str(), second.url.as_str()), ("https://z.example:5000/prefix", "http://a.example"));
        assert_eq!(first.capabilities, Capabilities { resolve: true, ..Capabilities::PULL });
        assert_eq!(second.capabilities, Capabilities::READ, "nothing is pushed where it is not written");
        let pair = |one: &str, two: &str| (one.to_owned(), two.to_owned());
        assert_eq!(first.client, [pair("c.pem", "c.key"), pair("both.pem", "both.pem")]);
        assert_eq!(second.client, [pair("pair.pem", "pair.pem")]);
        let names: Vec<_> = first.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(names, [("X-One", "canary"), ("X-Two", "canary"), ("X-Two", "b")]);
        assert!(first.override_path && !second.override_path);
        assert_eq!(file.unknown_keys, ["future", "https://z.example:5000/prefix.odd"]);
        assert!(!format!("{file:?}").contains("canary"));
    }

    #[test]
    fn what_containerd_has_no_key_for_stands_in_a_table_that_it_reads_past() {
        let file = HostsFile::parse(
            "[greentic]\nprefer_head = true\n[host.\"https://m\".greentic]\nparallel_ranges = false\nhttp1_only = true\nrequests_at_once = 4\n",
        )
        .unwrap();
        let mirror = &file.hosts[0];
        assert_eq!((mirror.parallel_ranges, mirror.http1_only, mirror.requests_at_once), (false, true, Some(4)));
        assert_eq!(
            (file.origin.prefer_head, file.origin.parallel_ranges, mirror.prefer_head),
            (Some(true), true, None)
        );
        assert!(file.unknown_keys.is_empty());
    }

    #[test]
    fn nothing_is_a_file_that_changes_nothing() {
        assert_eq!(HostsFile::parse("# empty\n").unwrap(), HostsFile::default());
    }

    #[test]
    fn what_would_weaken_tls_is_refused_and_says_what_to_do() {
        let why = refused("[host.\"https://m.example\"]\nskip_verify = true\n");
        assert!(why.contains("skip_verify") && why.contains("m.example") && why.contains("`ca`"), "{why}");
        assert!(refused("skip_verify = true").contains("always checked"));
    }

    #[test]
    fn wrong_values_are_named_and_secrets_are_not_shown() {
        for (text, named) in [
            ("server = 1", "server"),
            ("host = 1", "host"),
            ("[host]\n\"https://m\" = 1", "m"),
            ("capabilities = [\"pul\"]", "pul"),
            ("capabilities = 1", "capabilities"),
            ("ca = [1]", "ca"),
            ("client = [[\"a\",\"b\",\"c\"]]", "client"),
            ("override_path = \"yes\"", "override_path"),
            ("dial_timeout = \"soon\"", "dial_timeout"),
            ("dial_timeout = 5", "dial_timeout"),
            ("header = \"canary\"", "header"),
            ("greentic = 1", "greentic"),
            ("[greentic]\nhttp1_only = 1", "greentic.http1_only"),
            ("[greentic]\nrequests_at_once = 0", "greentic.requests_at_once"),
            ("[greentic]\nrange = 1", "greentic.range"),
            ("[header]\nX = 1", "header"),
            ("[host.\"https://u:canary@m.example\"]\ncapabilities = 1", "m.example"),
            ("\n\n[header]\nX = \"canary", "line 4"),
        ] {
            let why = refused(text);
            assert!(why.contains(named) && !why.contains("canary"), "{text}: {why}");
        }
        assert!(refused(&"#".repeat(FILE_BYTES + 1)).contains("larger"));
        let many: Vec<_> = (0..=HOSTS).map(|n| format!("[host.\"https://m{n}\"]")).collect();
        assert!(refused(&many.join("\n")).contains("32 hosts"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
            drop(HostsFile::parse(&text));
        }

        #[test]
        fn any_text_with_the_right_shape_is_read_without_a_panic(key in "[a-z_]{1,14}", value in "[\"\\[\\]a-z0-9, =.{}]{0,40}") {
            drop(HostsFile::parse(&format!("{key} = {value}\n[host.\"https://m\"]\n{key} = {value}\n")));
        }
    }
}
