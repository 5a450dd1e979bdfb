//! What one process of the client costs, as far as it can be counted: times are in docs/performance.md.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{CLIENT, server_binary};

fn has(binary: &Path, symbol: &str) -> bool {
    Command::new("grep").args(["-qaF", symbol]).arg(binary).status().expect("grep").success()
}

/// Else each process first collects entropy, for longer than all the rest takes.
#[test]
fn no_binary_brings_a_collector_of_the_cpu_s_jitter() {
    for binary in [PathBuf::from(CLIENT), server_binary()] {
        assert!(has(&binary, "CRYPTO_sysrand"), "{}: AWS-LC's symbols are not where this test looks", binary.display());
        assert!(!has(&binary, "jent_read_entropy"), "{}: is AWS_LC_SYS_NO_JITTER_ENTROPY=1 not set?", binary.display());
    }
}
