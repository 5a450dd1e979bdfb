//! The clouds' SDKs, and servers that verify what they are sent, in Python.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::Value;

use super::text;

/// The Python that has them. Its environment is made where it is missing.
pub static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| environment(&["cloud"], ".venv-cloud"));

/// The Python of the other tests, which has jwcrypto.
pub fn peers() -> PathBuf {
    environment(&[], ".venv")
}

fn environment(arguments: &[&str], name: &str) -> PathBuf {
    let folder = testdata("python");
    let made = Command::new(folder.join("setup.sh")).args(arguments).stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
    assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{}", text(&made.stderr));
    folder.join(name).join("bin/python")
}

pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

/// A server in Python that tells its port, or more, in its first line, and then what it was asked. Killed when dropped.
pub struct Peer {
    /// The first line.
    pub first: String,
    process: Child,
    /// It ends with this.
    _input: ChildStdin,
    told: Mutex<Receiver<String>>,
}

impl Peer {
    pub fn start(script: &str, flags: &[&str], folder: &Path) -> Self {
        let mut process = Command::new(&*PYTHON)
            .arg("-B")
            .arg(testdata(script))
            .args(flags)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let first = lines.next().unwrap_or_else(|| panic!("{script} did not start")).expect("a line");
        let (teller, told) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| teller.send(line)));
        Self { first, _input: process.stdin.take().expect("its input"), process, told: Mutex::new(told) }
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.first)
    }

    /// What it was asked since the last call. An answer is told before it is given.
    pub fn told(&self) -> Vec<String> {
        // What has passed through its pipe has not yet passed through the reader: it is asked to say something more.
        std::thread::sleep(std::time::Duration::from_millis(50));
        self.told.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs Python code.
pub fn python(code: &str, arguments: &[&str], variables: &[(&str, &str)], folder: &Path) -> Output {
    Command::new(&*PYTHON)
        .args(["-B", "-c", code])
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("Python")
}

/// A command that stays. Ended when dropped.
pub struct Running {
    process: Child,
    told: Vec<String>,
}

impl Running {
    /// Waits for so many lines on standard output.
    pub fn start(command: &mut Command, lines: usize) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let told: Vec<String> = output.lines().map_while(Result::ok).take(lines).collect();
        if told.len() < lines {
            let mut why = String::new();
            let _ = process.stderr.take().expect("its errors").read_to_string(&mut why);
            panic!("it ended: {why}");
        }
        Self { process, told }
    }

    /// The variables that it tells.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = self.told.iter().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    pub fn variable(&self, name: &str) -> String {
        self.variables().into_iter().find(|(known, _)| known == name).expect("the variable").1
    }

    pub fn end(&mut self) -> (Option<i32>, String) {
        let sent = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        let mut told = String::new();
        let _ = self.process.stderr.take().expect("its errors").read_to_string(&mut told);
        (self.process.wait().expect("its end").code(), told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sets what a server does next.
pub fn control(peer: &Peer, what: &str) {
    let code = "import sys, urllib.request as r; r.urlopen(sys.argv[1] + '/control', sys.argv[2].encode())";
    let set = python(code, &[&peer.url("http"), what], &[], Path::new("."));
    assert!(set.status.success(), "{}", text(&set.stderr));
}

/// A result that is JSON.
pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{:?}: {}", output.status.code(), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

/// Seconds from now on, by this machine's clock, to a time as RFC 3339 has it.
pub fn left_until(time: &Value) -> i64 {
    let seconds = |of: &str| -> i64 {
        let told = Command::new("date").args(["-u", "+%s", "-d", of]).output().expect("date");
        text(&told.stdout).trim().parse().expect("a time")
    };
    seconds(time.as_str().expect("a text")) - seconds("now")
}

/// Exit code, and what was told, which is one line.
pub fn failed(output: &Output) -> (Option<i32>, String) {
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
    let told = text(&output.stderr);
    assert_eq!(told.lines().count(), 1, "{told}");
    (output.status.code(), told)
}
