//! Where `registries.conf` and its drop-in files are; `docs/hosts.md` says what in them counts.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use greentic_dist_net::{HostConfig, HostSource, NetError, RegistriesFile};

use crate::hosts::{HostFiles, read_file, unreadable};
use crate::{env, paths};

/// Most entries of a directory of drop-in files.
const ENTRIES: usize = 256;
/// What stands for the standard places where a file may be named.
const SYSTEM: &str = "system";
/// The system's file.
const SYSTEM_FILE: &str = "/etc/containers/registries.conf";

/// The `registries.conf` of the containers tools (podman, skopeo, buildah; containers-registries.conf(5), version 2) with its
/// drop-in files. Read once, by the first request that may be concerned; clones share what was read.
///
/// What cannot be read or understood fails every request to a registry; it is never passed over.
#[derive(Clone, Debug)]
pub struct RegistriesConf {
    place: Place,
    read: Arc<OnceLock<Result<RegistriesFile, NetError>>>,
}

#[derive(Clone, Debug)]
enum Place {
    File(PathBuf),
    System,
}

impl RegistriesConf {
    /// One file, which must exist, and the files `*.conf` in the directory `<file>.d`, where there is one, in the order of their
    /// names. Reads nothing yet.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::File(path.into()), read: Arc::default() }
    }

    /// The places of the containers tools: `~/.config/containers/registries.conf` and its drop-in directory; where there is no
    /// such file, `/etc/containers/registries.conf`, its drop-in directory, and then the user's. What does not exist is nothing.
    /// Reads nothing yet.
    pub fn system() -> Self {
        Self { place: Place::System, read: Arc::default() }
    }

    /// A file as flags and variables name it: `system` is [`RegistriesConf::system`], anything else a path (`./system` for a file
    /// of that name).
    pub fn named(name: &OsStr) -> Self {
        if name == SYSTEM { Self::system() } else { Self::file(name) }
    }

    /// What `GREENTIC_DIST_REGISTRIES_CONF` names, else `CONTAINERS_REGISTRIES_CONF`; `None` where neither is set. The second is the
    /// containers tools' own: always a path.
    pub fn from_env() -> Option<Self> {
        let own = env::value(env::REGISTRIES_CONF).map(|name| Self::named(&name));
        own.or_else(|| env::path(env::CONTAINERS_REGISTRIES_CONF).map(Self::file))
    }

    /// What the files say together.
    ///
    /// # Errors
    /// `Config`, naming the file, and the line or the key.
    pub fn read(&self) -> Result<&RegistriesFile, NetError> {
        let read = self.read.get_or_init(|| self.place.read());
        read.as_ref().map_err(Clone::clone)
    }
}

impl HostSource for RegistriesConf {
    fn host<'a>(&'a self, registry: &'a str) -> greentic_dist_net::BoxFuture<'a, Result<Option<HostConfig>, NetError>> {
        let files = HostFiles::new().registries_conf(self.clone());
        Box::pin(async move { files.host(registry).await })
    }
}

impl Place {
    fn read(&self) -> Result<RegistriesFile, NetError> {
        let (file, drop_ins) = match self {
            Self::File(path) => {
                let missing = || NetError::config(format!("{} does not exist", path.display()));
                (parse(path)?.ok_or_else(missing)?, vec![drop_in_directory(path)])
            }
            Self::System => standard(paths::home().as_deref(), Path::new(SYSTEM_FILE))?,
        };
        let mut all = file;
        for dir in &drop_ins {
            for path in drop_in_files(dir)? {
                // Gone since the directory was listed.
                let Some(later) = parse(&path)? else { continue };
                all.merge(later).map_err(|error| wrong(&path, &error))?;
            }
        }
        Ok(all)
    }
}

/// The first file of the standard places, and the directories that follow it.
fn standard(home: Option<&Path>, system: &Path) -> Result<(RegistriesFile, Vec<PathBuf>), NetError> {
    let users = home.map(|home| home.join(".config").join("containers").join("registries.conf"));
    let users_directory = users.as_deref().map(drop_in_directory);
    if let Some(file) = users.as_deref().map_or(Ok(None), parse)? {
        return Ok((file, users_directory.into_iter().collect()));
    }
    let file = parse(system)?.unwrap_or_default();
    Ok((file, [drop_in_directory(system)].into_iter().chain(users_directory).collect()))
}

fn drop_in_directory(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".d");
    name.into()
}

/// The drop-in files of a directory in the order of their names; none where there is no directory.
fn drop_in_files(dir: &Path) -> Result<Vec<PathBuf>, NetError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(dir, error)),
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        // Other files and directories may lie there.
        if path.extension() == Some(OsStr::new("conf")) && !path.is_dir() {
            files.push(path);
        }
        if files.len() > ENTRIES {
            return Err(wrong(dir, &format!("it has more than {ENTRIES} files")));
        }
    }
    files.sort();
    Ok(files)
}

/// What one file says; `None` when it does not exist.
fn parse(path: &Path) -> Result<Option<RegistriesFile>, NetError> {
    let Some(bytes) = read_file(path).map_err(|error| unreadable(path, error))? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_error| wrong(path, &"it is not UTF-8"))?;
    RegistriesFile::parse(&text, &path.display().to_string()).map(Some).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> NetError {
    NetError::config(format!("{} cannot be used: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, location: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("[[registry]]\nlocation = \"{location}\"\nblocked = true\n")).unwrap();
    }

    /// Which of these hosts the standard places say something about.
    fn known(home: &Path, system: &Path, hosts: &[&'static str]) -> Vec<&'static str> {
        let (mut all, dirs) = standard(Some(home), system).unwrap();
        for path in dirs.iter().flat_map(|dir| drop_in_files(dir).unwrap()) {
            all.merge(parse(&path).unwrap().unwrap()).unwrap();
        }
        let is_known =
            |host: &&&str| all.host_config(host, || Ok::<_, NetError>(None), |_| Ok(None)).unwrap().is_some();
        hosts.iter().filter(is_known).copied().collect()
    }

    #[test]
    fn the_users_file_hides_the_systems_files_and_drop_in_files_of_both_count_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let (home, system) = (dir.path().join("home"), dir.path().join("etc").join("registries.conf"));
        let users = home.join(".config/containers/registries.conf");
        let hosts = ["a.example", "b.example", "c.example", "d.example", "e.example"];
        assert!(known(&home, &system, &hosts).is_empty(), "nothing is there");
        write(&system, "a.example");
        write(&drop_in_directory(&system).join("10.conf"), "b.example");
        write(&drop_in_directory(&users).join("10.conf"), "c.example");
        write(&drop_in_directory(&users).join("10.toml"), "e.example");
        assert_eq!(known(&home, &system, &hosts), ["a.example", "b.example", "c.example"]);
        write(&users, "d.example");
        assert_eq!(known(&home, &system, &hosts), ["c.example", "d.example"]);
    }

    #[test]
    fn drop_in_files_are_read_in_the_order_of_their_names_and_the_last_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("registries.conf");
        write(&file, "a.example");
        let drop_ins = drop_in_directory(&file);
        fs::create_dir_all(drop_ins.join("sub.conf")).unwrap();
        for (name, blocked) in [("20.conf", "false"), ("10.conf", "true")] {
            let text = format!("[[registry]]\nlocation = \"a.example\"\nblocked = {blocked}\n");
            fs::write(drop_ins.join(name), text).unwrap();
        }
        let config = HostFiles::new().registries_conf(RegistriesConf::file(&file)).read("a.example").unwrap().unwrap();
        assert!(format!("{config:?}").contains("blocked: None"), "{config:?}");
        fs::write(drop_ins.join("30.conf"), "[[registry]]\nblocked = true\n").unwrap();
        let error = RegistriesConf::file(&file).read().unwrap_err().to_string();
        assert!(error.contains("30.conf") && error.contains("neither"), "{error}");
        for number in 0..=ENTRIES {
            fs::write(drop_ins.join(format!("x{number}.conf")), "").unwrap();
        }
        assert!(RegistriesConf::file(&file).read().unwrap_err().to_string().contains("more than 256 files"));
    }

    #[test]
    fn a_file_that_is_named_must_be_there_and_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = RegistriesConf::file(dir.path().join("none")).read().unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
        assert!(RegistriesConf::file(dir.path()).read().is_err(), "a directory");
        assert!(matches!(RegistriesConf::named(OsStr::new("system")).place, Place::System));
        assert!(matches!(RegistriesConf::named(OsStr::new("./system")).place, Place::File(_)));
    }
}
