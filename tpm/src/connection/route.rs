//! Which way through a policy can be taken now: of each TPM2_PolicyOR the branch that can be fulfilled, the first of those that show the fewest passwords, since a
//! wrong one counts; of what is signed for a TPM2_PolicyAuthorize the first that is. What keeps the others shut is told.

use std::collections::BTreeMap;

use tss_esapi::constants::PropertyTag;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::structures::{Digest, Signature, VerifiedTicket};

use super::live::Live;
use super::loaded::Loaded;
use crate::object::pcr::is_empty;
use crate::object::policy::{Authorize, Branch, CommandCode, Policy, PolicyCommand, Secret, Values, command_code};
use crate::{TpmError, VerifyingKey};

/// TPM2_Duplicate wants a branch that names it (TCG part 1, 19.2: DUP role).
const DUPLICATE: u32 = 0x14b;

/// What is run one after the other to fulfil a policy.
pub(crate) struct Route(pub(super) Vec<Act>);

pub(super) enum Act {
    Command(PolicyCommand),
    Or(Vec<[u8; 32]>),
    /// With the TPM's word that the signature over this policy is right.
    Authorize {
        key: VerifyingKey,
        policy_ref: Vec<u8>,
        approved: [u8; 32],
        ticket: VerifiedTicket,
    },
}

/// Why a way cannot be taken.
type Closed = Option<String>;

impl Route {
    pub(crate) fn needs_password(&self) -> bool {
        self.0.iter().any(|act| matches!(act, Act::Command(PolicyCommand::AuthValue | PolicyCommand::Password)))
    }

    /// What may be refused, and counted against whoever shows it.
    fn shown(acts: &[Act]) -> usize {
        let is_shown =
            |act: &&Act| matches!(act, Act::Command(PolicyCommand::AuthValue | PolicyCommand::Password | PolicyCommand::Secret(_)));
        acts.iter().filter(is_shown).count()
    }
}

/// The use that a way is looked for.
struct Use<'a> {
    key: &'a Loaded,
    code: Option<u32>,
    /// How many policies that are signed lie around the one that is walked through.
    depth: usize,
}

/// A signed policy may wait for another one, which may wait for the first.
const MAX_DEPTH: usize = 4;

impl Live {
    /// The way to run `operation` with the key.
    pub(crate) fn route(&mut self, key: &Loaded, operation: &'static str) -> Result<Route, TpmError> {
        self.route_through(&key.policy.clone(), key, operation)
    }

    pub(crate) fn route_through(&mut self, policy: &Policy, key: &Loaded, operation: &'static str) -> Result<Route, TpmError> {
        let wanted = Use { key, code: command_code(operation), depth: 0 };
        if policy.is_linear() {
            // Without a choice the TPM itself says what is wrong with a password or a register.
            for command in policy.0.iter().filter(|command| needs_a_look(command)) {
                if let Some(why) = self.closed(command, &wanted)? {
                    return Err(TpmError::PolicyClosed(why));
                }
            }
            return Ok(Route(policy.0.iter().cloned().map(Act::Command).collect()));
        }
        let mut acts = Vec::new();
        match self.walk(policy, [0; 32], &wanted, &mut acts)? {
            None => Ok(Route(acts)),
            Some(why) => Err(TpmError::PolicyClosed(why)),
        }
    }

    /// Adds what fulfils `policy` to `acts`, from a session that has come to `before`.
    fn walk(&mut self, policy: &Policy, before: [u8; 32], wanted: &Use<'_>, acts: &mut Vec<Act>) -> Result<Closed, TpmError> {
        let mut digest = before;
        let is_named = wanted.code == Some(DUPLICATE) && policy.0.iter().any(names_duplication);
        for command in &policy.0 {
            let closed = match command {
                PolicyCommand::Or(branches) => self.choose(branches, digest, is_named, wanted, acts)?,
                PolicyCommand::Authorize(authorize) => self.authorize(authorize, wanted, acts)?,
                command => {
                    let closed = self.closed(command, wanted)?;
                    acts.push(Act::Command(command.clone()));
                    closed
                }
            };
            if closed.is_some() {
                return Ok(closed);
            }
            digest = command.extend(digest);
        }
        Ok(None)
    }

    fn choose(
        &mut self,
        branches: &[Branch],
        before: [u8; 32],
        is_named: bool,
        wanted: &Use<'_>,
        acts: &mut Vec<Act>,
    ) -> Result<Closed, TpmError> {
        let mut reasons = Vec::new();
        let len = acts.len();
        let mut best: Option<Vec<Act>> = None;
        for (at, branch) in branches.iter().enumerate() {
            let (name, policy) = match branch {
                Branch::Known { name, policy } => {
                    (name.as_ref().map_or_else(|| format!("branch {}", at + 1), |name| format!("{name:?}")), policy)
                }
                Branch::Unknown(_) => {
                    reasons.push(format!("branch {}: it is not told what it asks for", at + 1));
                    continue;
                }
            };
            let closed = match wanted.code {
                Some(DUPLICATE) if !is_named && !mentions_duplication(policy) => Some("it is not for moving the key".to_owned()),
                _ => self.walk(policy, before, wanted, acts)?,
            };
            let way: Vec<Act> = acts.drain(len..).collect();
            match closed {
                None if best.as_ref().is_none_or(|best| Route::shown(&way) < Route::shown(best)) => best = Some(way),
                None => {}
                Some(why) => reasons.push(format!("{name}: {why}")),
            }
            if best.as_ref().is_some_and(|best| Route::shown(best) == 0) {
                break;
            }
        }
        if let Some(way) = best {
            acts.extend(way);
            acts.push(Act::Or(branches.iter().map(|branch| branch.digest(before)).collect()));
            return Ok(None);
        }
        Ok(Some(format!("none of {} branches is open ({})", branches.len(), reasons.join("; "))))
    }

    fn authorize(&mut self, authorize: &Authorize, wanted: &Use<'_>, acts: &mut Vec<Act>) -> Result<Closed, TpmError> {
        if wanted.depth == MAX_DEPTH {
            return Ok(Some(format!("more than {MAX_DEPTH} signed policies wait for each other")));
        }
        let given = self.settings.signed_policies.clone();
        let has_given = !given.is_empty();
        let registers = given.iter().flat_map(|signed| signed.registers());
        let now: Values = registers
            .filter_map(|(bank, register)| Some(((bank, register), self.read_pcr(bank, register).ok()?)))
            .collect::<BTreeMap<_, _>>();
        let given = given.iter().filter_map(|signed| signed.for_key(authorize, &now));
        let held = authorize.approved.iter().map(|approved| (approved.policy.clone(), approved.signature.clone()));
        let mut reasons = Vec::new();
        for (policy, signature) in given.chain(held) {
            let len = acts.len();
            // First: what nobody signed is not looked into.
            let Some(ticket) = self.ticket(&authorize.key, authorize.signed_digest(policy.digest()), signature)? else {
                reasons.push("its signature is not this key's over this policy: it is stale, or somebody else's".to_owned());
                continue;
            };
            let inner = Use { key: wanted.key, code: wanted.code, depth: wanted.depth + 1 };
            let closed = match self.walk(&policy, [0; 32], &inner, acts)? {
                Some(why) => Some(why),
                None => {
                    let (key, policy_ref) = (authorize.key.clone(), authorize.policy_ref.clone());
                    acts.push(Act::Authorize { key, policy_ref, approved: policy.digest(), ticket });
                    return Ok(None);
                }
            };
            acts.truncate(len);
            reasons.extend(closed);
        }
        Ok(Some(match reasons.as_slice() {
            [] if has_given => "a policy is wanted that its key has signed, and of those that are given none is signed by this key, with this reference (--policy-ref), and \
                                for what the registers hold now"
                .to_owned(),
            [] => "a policy is wanted that its key has signed, and none is given (--signed-policy)".to_owned(),
            reasons => format!("of the policies that are signed none can be fulfilled ({})", reasons.join("; ")),
        }))
    }

    /// TPM2_VerifySignature. `None` where it is not a signature of this digest by this key.
    fn ticket(&mut self, key: &VerifyingKey, digest: [u8; 32], signature: Signature) -> Result<Option<VerifiedTicket>, TpmError> {
        let handle = self.load_verifying(key)?;
        let verified =
            self.ask("TPM2_VerifySignature", true, |c| c.verify_signature(handle, Digest::try_from(digest.to_vec())?, signature));
        self.flush(handle.into())?;
        match verified {
            Ok(ticket) => Ok(Some(ticket)),
            // Format one, about a parameter (TCG part 2, 6.6.2): TPM_RC_SIGNATURE, TPM_RC_SCHEME, TPM_RC_SIZE, TPM_RC_VALUE.
            Err(TpmError::Command { code, .. }) if code >> 16 == 0 && code & 0xc0 == 0xc0 => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// A public key, under the owner hierarchy: under the null hierarchy, the TPM's word would not count.
    pub(super) fn load_verifying(&mut self, key: &VerifyingKey) -> Result<KeyHandle, TpmError> {
        let load = self.context.execute_without_session(|c| c.load_external_public(key.public.clone(), Hierarchy::Owner));
        let handle = load.map_err(|e| TpmError::of("TPM2_LoadExternal for a policy's key", e))?;
        match self.must_be_named(handle.into(), &key.public) {
            Ok(()) => Ok(handle),
            Err(error) => self.flush(handle.into()).and(Err(error)),
        }
    }

    /// Why one command cannot be fulfilled, as far as that can be known before.
    fn closed(&mut self, command: &PolicyCommand, wanted: &Use<'_>) -> Result<Closed, TpmError> {
        let key = wanted.key;
        Ok(match command {
            PolicyCommand::Pcr(pcr) if self.is_fulfilled(pcr) => None,
            PolicyCommand::Pcr(pcr) => {
                let mut are_empty = true;
                for (bank, registers) in &pcr.selection {
                    for register in registers {
                        are_empty &= self.read_pcr(*bank, *register).is_ok_and(|value| is_empty(&value));
                    }
                }
                Some(format!(
                    "PCR {pcr} {}",
                    if are_empty { "has another value: nothing is measured into it now" } else { "has another value" }
                ))
            }
            PolicyCommand::AuthValue | PolicyCommand::Password if key.has_password => None,
            PolicyCommand::AuthValue | PolicyCommand::Password => {
                Some("the key's password is wanted (--password-file or TPM_KEY_AUTH)".to_owned())
            }
            PolicyCommand::CommandCode(code) if Some(code.0) == wanted.code => None,
            PolicyCommand::CommandCode(code) => Some(format!("it is for {code} only")),
            PolicyCommand::Locality(bits) if *bits < 32 && bits & 1 != 0 => None,
            locality @ PolicyCommand::Locality(_) => Some(format!("it is {locality}, and this is locality 0")),
            PolicyCommand::NameHash(_) if wanted.code == Some(DUPLICATE) => None,
            names @ PolicyCommand::NameHash(_) => Some(format!("it is {names}")),
            PolicyCommand::DuplicationSelect { .. } if wanted.code == Some(DUPLICATE) => None,
            PolicyCommand::DuplicationSelect { .. } => Some(format!("it is for {} only", CommandCode(DUPLICATE))),
            PolicyCommand::NvWritten(_) => Some("it is for NV indices, and this is a key".to_owned()),
            PolicyCommand::Nv(nv) => Some(format!(
                "it looks at the NV index 0x{:08x}, for which the TSS library of this program has no command (tss-esapi 7.7: TPM2_PolicyNV)",
                nv.index
            )),
            PolicyCommand::Signed(signed) => {
                let has_signer = self.settings.policy_signers.iter().any(|signer| signer.public_pem().trim() == signed.key.pem().trim());
                let told = if self.settings.policy_signers.is_empty() {
                    "and the private key is not given (--policy-signing-key)"
                } else {
                    "and by another key than is given"
                };
                (!has_signer).then(|| format!("its use must be signed, {told}"))
            }
            PolicyCommand::Secret(secret) => self.secret_closed(secret)?,
            PolicyCommand::Authorize(_) | PolicyCommand::Or(_) => None,
        })
    }

    fn secret_closed(&mut self, secret: &Secret) -> Result<Closed, TpmError> {
        let Some(handle) = self.secret_handle(secret)? else {
            return Ok(Some("the object whose password is wanted is at no persistent handle".to_owned()));
        };
        if self.secret_password(handle).is_some() {
            return Ok(None);
        }
        // TPMA_PERMANENT (TCG part 2, 8.6): ownerAuthSet, endorsementAuthSet, lockoutAuthSet.
        let bit = match handle {
            0x4000_0001 => 0,
            0x4000_000b => 1,
            0x4000_000a => 2,
            0x8100_0000..=0x81ff_ffff => return self.guarded(handle),
            _ => return Ok(None),
        };
        let is_set = self.property(PropertyTag::Permanent).is_some_and(|permanent| permanent & (1 << bit) != 0);
        Ok(is_set.then(|| format!("the password of 0x{handle:08x} is wanted (--policy-secret 0x{handle:08x}=FILE)")))
    }

    /// The empty password is shown to nothing that counts it.
    fn guarded(&mut self, handle: u32) -> Result<Closed, TpmError> {
        let mut object = self.persistent(handle)?;
        let read = self.read_public(object.into());
        self.context.tr_close(&mut object).map_err(|e| TpmError::of("closing a persistent key", e))?;
        let is_guarded = !read?.object_attributes().no_da();
        Ok(is_guarded.then(|| format!("the password of 0x{handle:08x} is wanted (--policy-secret 0x{handle:08x}=FILE)")))
    }

    /// Where it is whose password is wanted: what a file says of that is a hint.
    pub(super) fn secret_handle(&mut self, secret: &Secret) -> Result<Option<u32>, TpmError> {
        if let Ok(hierarchy) = <[u8; 4]>::try_from(secret.name.as_slice()) {
            return Ok(Some(u32::from_be_bytes(hierarchy)));
        }
        let handles: Vec<u32> = match secret.handle {
            Some(handle) => vec![handle],
            None => self.handles(0x8100_0000)?.into_iter().map(Into::into).collect(),
        };
        for handle in handles {
            let mut object = match self.persistent(handle) {
                Ok(object) => object,
                Err(TpmError::NoKey { .. }) => continue,
                Err(other) => return Err(other),
            };
            let name = self.context.tr_get_name(object).map_err(|e| TpmError::of("asking for a key's name", e));
            self.context.tr_close(&mut object).map_err(|e| TpmError::of("closing a persistent key", e))?;
            if name?.value() == secret.name {
                return Ok(Some(handle));
            }
        }
        Ok(None)
    }

    pub(super) fn secret_password(&self, handle: u32) -> Option<crate::Password> {
        let given = self.settings.secrets.iter().find(|(of, _)| *of == handle).map(|(_, password)| password.clone());
        given.or_else(|| self.settings.owner_password.clone().filter(|_| handle == 0x4000_0001))
    }
}

/// What the TPM would take, and refuse the key's use for later, or has no words for.
fn needs_a_look(command: &PolicyCommand) -> bool {
    !matches!(command, PolicyCommand::Pcr(_) | PolicyCommand::AuthValue | PolicyCommand::Password)
}

fn names_duplication(command: &PolicyCommand) -> bool {
    matches!(command, PolicyCommand::CommandCode(CommandCode(DUPLICATE)) | PolicyCommand::DuplicationSelect { .. })
}

fn mentions_duplication(policy: &Policy) -> bool {
    policy.0.iter().any(|command| {
        names_duplication(command)
            || match command {
                PolicyCommand::Or(branches) => {
                    branches.iter().any(|branch| matches!(branch, Branch::Known { policy, .. } if mentions_duplication(policy)))
                }
                // What is approved may be.
                PolicyCommand::Authorize(_) => true,
                _ => false,
            }
    })
}
