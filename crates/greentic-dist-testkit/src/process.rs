//! Runs programs in an environment of their own, kills them at a chosen moment, and looks at their memory.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest life of a program, unless a test says otherwise. A test that meets it has found a hang.
const LIMIT: Duration = Duration::from_mins(2);
/// Pause between two looks at a running program.
const LOOK: Duration = Duration::from_micros(500);

/// A program to run.
///
/// Of this process's environment it sees `PATH` alone; `HOME` is an empty directory of its own, unless a test gives it one.
#[derive(Clone, Debug)]
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// Its peak resident memory in bytes (`VmHWM`) as last seen while it ran; it was looked at about every half
    /// millisecond. `None` where that cannot be seen.
    pub peak_rss_bytes: Option<u64>,
}

/// A program that is running. It and what it started are killed when dropped.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    stdout: File,
    stderr: File,
    limit: Duration,
    peak: u64,
    _home: TempDir,
}

impl Run {
    /// The program at a path, or the installed one of that name.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), dir: None, stdin: None, limit: LIMIT }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// What it reads from its standard input. Default: nothing.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// The same command as the last arguments of another program, e.g. `strace`.
    #[must_use]
    pub fn below<A: AsRef<OsStr>>(mut self, program: &str, args: impl IntoIterator<Item = A>) -> Self {
        let own = std::mem::take(&mut self.args);
        let inner = std::mem::replace(&mut self.program, PathBuf::from(program));
        self.args(args).arg(inner).args(own)
    }

    /// How long it may run before that is a failure. Default: two minutes.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end. Panics when that does not come within the limit.
    pub fn output(&self) -> Outcome {
        self.spawn().wait()
    }

    /// Starts it; what it writes is collected.
    pub fn spawn(&self) -> Spawned {
        let home = TempDir::new().expect("a temporary directory");
        let program = find(&self.program).unwrap_or_else(|| panic!("{} is not installed", self.program.display()));
        let (stdout, stderr) = (collector(), collector());
        let stream = |file: &File| Stdio::from(file.try_clone().expect("clone a file"));
        let mut command = Command::new(&program);
        command.args(&self.args).env_clear().env("HOME", home.path());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(self.input()).stdout(stream(&stdout)).stderr(stream(&stderr));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        // A group of its own, so that what it starts can be ended with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", program.display()));
        Spawned { child, stdout, stderr, limit: self.limit, peak: 0, _home: home }
    }
}

impl Run {
    fn input(&self) -> Stdio {
        let Some(text) = &self.stdin else { return Stdio::null() };
        let mut file = collector();
        file.write_all(text).and_then(|()| file.rewind()).expect("write the input of a program");
        file.into()
    }
}

impl Spawned {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end. Panics, and kills it, when that does not come within its limit.
    pub fn wait(mut self) -> Outcome {
        let status = self.watch(&mut || false).expect("a program that nobody stops ends by itself");
        self.outcome(status)
    }

    /// Kills it with SIGKILL as soon as `when` says so, which is asked about every half millisecond. Panics when it ends
    /// before.
    pub fn kill_when(self, when: impl FnMut() -> bool) -> Outcome {
        let outcome = self.kill_if(when);
        assert_eq!(outcome.code, None, "the program ended before it could be killed: {outcome:?}");
        outcome
    }

    /// As [`Spawned::kill_when`]; a program that ends before is just waited for.
    pub fn kill_if(mut self, mut when: impl FnMut() -> bool) -> Outcome {
        let status = self.watch(&mut when).unwrap_or_else(|| {
            kill_group(&mut self.child);
            self.child.wait().expect("wait for the killed")
        });
        self.outcome(status)
    }

    /// Looks at the program until it ends or `stop` says so; `None` in the latter case.
    fn watch(&mut self, stop: &mut dyn FnMut() -> bool) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            self.peak = self.peak.max(peak_rss_bytes(self.child.id()).unwrap_or(0));
            if let Some(status) = self.child.try_wait().expect("look at a child") {
                return Some(status);
            }
            if stop() {
                return None;
            }
            assert!(started.elapsed() < self.limit, "a program did not end within {:?}", self.limit);
            std::thread::sleep(LOOK);
        }
    }

    fn outcome(mut self, status: ExitStatus) -> Outcome {
        Outcome {
            code: status.code(),
            stdout: collected(&mut self.stdout),
            stderr: collected(&mut self.stderr),
            peak_rss_bytes: Some(self.peak).filter(|peak| *peak > 0),
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // One that ended and was waited for may have left its number to somebody else.
        if let Ok(None) = self.child.try_wait() {
            kill_group(&mut self.child);
            drop(self.child.wait());
        }
    }
}

impl Outcome {
    /// Panics with everything the program said unless it ended with `code`.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "exit code\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The only line of stdout. Panics when it is not exactly one.
    #[track_caller]
    pub fn line(&self) -> &str {
        let line = self.stdout.strip_suffix('\n').unwrap_or_default();
        assert!(!line.is_empty() && !line.contains('\n'), "not one line: {:?}\nstderr: {}", self.stdout, self.stderr);
        line
    }

    /// Stdout as JSON. Panics when it is no document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Whether `text` stands in anything it wrote.
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

/// The peak resident memory of a running process in bytes; `None` when it cannot be told.
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Where a program is: at its path, in `PATH`, or where administration programs are that an ordinary `PATH` leaves out.
pub fn find(program: impl AsRef<Path>) -> Option<PathBuf> {
    let program = program.as_ref();
    if program.components().count() > 1 {
        return Some(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(admin).map(|dir| dir.join(program)).find(|path| is_executable(path))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

/// Kills a child that was not waited for yet, and everything in its group.
fn kill_group(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    drop(child.kill());
}

/// A file for one stream of a program: unlike a pipe it never fills up, and nobody waits for whoever inherited it.
fn collector() -> File {
    tempfile::tempfile().expect("a temporary file")
}

fn collected(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read what a program wrote");
    String::from_utf8_lossy(&bytes).into_owned()
}
