//! A TPM and its lines.

use std::time::Duration;

use ekm_otp_tpm::{Health, Tcti, TpmHandle};

use super::report::Report;
use super::tpm;
use crate::cli::arguments::TpmArgs;
use crate::cli::error::CliError;

/// A TPM that was looked at.
pub(super) struct Looked {
    pub(super) tcti: Tcti,
    pub(super) tpm: TpmHandle,
    /// `None` where it does not answer.
    pub(super) health: Option<Health>,
}

impl Looked {
    /// The TPM's lines.
    pub(super) async fn at(report: &mut Report, arguments: &TpmArgs, deadline: Duration) -> Result<Self, CliError> {
        let (tcti, tpm) = (arguments.tcti()?, arguments.open_with(None)?.with_deadline(deadline));
        let has_owner_password =
            arguments.owner_password_file.is_some() || std::env::var_os("TPM_OWNER_AUTH").is_some_and(|password| !password.is_empty());
        let health = tpm::check_tpm(report, &tcti, &tpm, has_owner_password).await;
        Ok(Self { tcti, tpm, health })
    }
}
