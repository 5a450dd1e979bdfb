//! The made-up documents and the second verifier, in Python.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::testdata;

/// Its environment is made where it is missing.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = testdata("../python");
    let made = Command::new(folder.join("setup.sh")).arg("cloud").stdin(Stdio::null()).output().expect("testdata/python/setup.sh");
    let why = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "testdata/python/setup.sh failed, and nothing is tested without it:\n{why}");
    folder.join(".venv-cloud/bin/python")
});

/// Runs nitro.py, or code that imports it.
pub fn python(arguments: &[&str], folder: &Path) -> Vec<u8> {
    let output = Command::new(&*PYTHON)
        .arg("-B")
        .args(arguments)
        .env("PYTHONPATH", testdata(""))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("Python");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
