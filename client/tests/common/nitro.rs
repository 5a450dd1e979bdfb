//! A NitroTPM whose documents Python makes (testdata/attestation/nsm_faults.py).

use std::io::Write as _;
use std::process::{Command, Stdio};

use ekm_otp_swtpm::{NitroTpm, Swtpm};

use super::cloud::{PYTHON, testdata};
use super::text;

/// One that makes documents at this Unix time, with this fault, if any. All but the vendor's command runs on the software TPM.
pub fn nitro_tpm(swtpm: &Swtpm, at: u64, fault: Option<&'static str>) -> NitroTpm {
    NitroTpm::on(swtpm, move |request| {
        let mut python = Command::new(&*PYTHON)
            .arg("-B")
            .arg(testdata("attestation/nsm_faults.py"))
            .arg(at.to_string())
            .args(fault)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python");
        python.stdin.take().expect("its input").write_all(request).expect("writing");
        let made = python.wait_with_output().expect("its output");
        assert!(made.status.success(), "{}", text(&made.stderr));
        made.stdout
    })
}
