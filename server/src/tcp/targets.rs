//! The targets of one site.

use std::collections::HashMap;
use std::sync::Arc;

use ekm_otp::tunnel::Target;
use ekm_otp_tower::{VerifiedClaims, VerifiedClient};

use super::settings::TargetConfig;

/// All of them, by what clients call them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets(HashMap<Target, Arc<TargetConfig>>);

impl Targets {
    /// Each name once: what names one twice was refused before.
    pub(crate) fn new(all: &[TargetConfig]) -> Self {
        Self(all.iter().map(|target| (target.target.clone(), Arc::new(target.clone()))).collect())
    }

    /// The target of that name, if it is there for this client. Whoever asks cannot tell one that is not from one that is not theirs.
    pub(super) fn of(&self, name: &Target, client: &VerifiedClient, claims: Option<&VerifiedClaims>) -> Option<&Arc<TargetConfig>> {
        self.0.get(name).filter(|target| target.allow.admits(client, claims))
    }
}
