//! The clouds' SDKs, and servers that verify what they are sent, in Python.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::text;

/// The Python that has them. Its environment is made where it is missing.
pub static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = testdata("python");
    let made = Command::new(folder.join("setup.sh")).arg("cloud").stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
    assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{}", text(&made.stderr));
    folder.join(".venv-cloud/bin/python")
});

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
