//! Policies as key files hold them ("ASN.1 Specification for TPM 2.0 Key Files", policy and authPolicy): sequences of commands, each with its
//! parameters as octets. A tree is one sequence for each way through it; what is read back from all of them is a tree again.

use tss_esapi::structures::Signature;
use tss_esapi::traits::Marshall as _;

use super::tree::{Authorize, Branch, Policy, PolicyCommand, code};
use crate::object::blob::with_size;

/// A command's code and parameters.
pub(crate) type Raw = (u32, Vec<u8>);

/// More ways through a policy than anyone can follow.
pub(super) const MAX_PATHS: usize = 64;
/// Between the names of branches in each other.
pub(super) const BETWEEN: &str = " / ";

/// How a key file states a policy: the sequence that it begins with, and the others, with their names.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    pub(crate) policy: Vec<Raw>,
    pub(crate) others: Vec<(Option<String>, Vec<Raw>)>,
}

/// Why commands are no policy that is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// A command that is not known, or whose parameters are damaged.
    Command(u32),
    /// A branch that comes to none of the digests that TPM2_PolicyOR lists; ways that do not come to the same; too many of them.
    Contradiction,
}

/// One way through a policy.
#[derive(Clone, Default)]
struct Way<'a> {
    steps: Vec<Step<'a>>,
    /// Of the branch of each TPM2_PolicyOR on it, in their order.
    names: Vec<Option<String>>,
}

impl Way<'_> {
    /// The names as a file has them, the last first: the outermost. `None` where no branch has one.
    fn name(&self) -> Option<String> {
        // The mark between them stands in none of them.
        let shown = |name: &Option<String>| name.as_deref().unwrap_or_default().replace(BETWEEN, "/");
        self.names.iter().any(Option::is_some).then(|| self.names.iter().rev().map(shown).collect::<Vec<_>>().join(BETWEEN))
    }
}

#[derive(Clone)]
enum Step<'a> {
    Command(&'a PolicyCommand),
    Or(Vec<[u8; 32]>),
    /// With the signature over what came before; without, where that is for others to say.
    Authorize(&'a Authorize, Option<&'a Signature>),
}

/// The sequences that state a policy. `None` where there are too many.
pub(crate) fn paths_of(policy: &Policy) -> Option<Paths> {
    let mut all = Vec::new();
    ways(&policy.0, [0; 32], &Way::default(), &mut all)?;
    let first = all.first()?;
    // The sequence that a file begins with has no name there: it stands once more among the others where it has one.
    let skipped = usize::from(first.name().is_none());
    let policy_itself = raw(&first.steps);
    let mut others: Vec<_> = all.iter().skip(skipped).map(|way| (way.name(), raw(&way.steps))).collect();
    for authorize in authorizes(policy) {
        for approved in &authorize.approved {
            let mut inner = Vec::new();
            ways(&approved.policy.0, [0; 32], &Way::default(), &mut inner)?;
            for mut way in inner {
                let name = way.name();
                way.steps.push(Step::Authorize(authorize, Some(&approved.signature)));
                others.push((name, raw(&way.steps)));
            }
        }
    }
    (others.len() <= MAX_PATHS).then_some(Paths { policy: policy_itself, others })
}

/// Adds the ways through `commands` to `found`, each behind `before`, from a session that has come to `digest`.
fn ways<'a>(commands: &'a [PolicyCommand], digest: [u8; 32], before: &Way<'a>, found: &mut Vec<Way<'a>>) -> Option<()> {
    // Those of the part that is walked through: a branch splits each.
    let mut these = vec![before.clone()];
    let mut digest = digest;
    for command in commands {
        match command {
            PolicyCommand::Or(branches) => {
                let digests: Vec<_> = branches.iter().map(|branch| branch.digest(digest)).collect();
                let mut split = Vec::new();
                for way in &these {
                    for branch in branches {
                        let Branch::Known { name, policy } = branch else { continue };
                        let mut inner = Vec::new();
                        ways(&policy.0, digest, way, &mut inner)?;
                        split.extend(inner.into_iter().map(|mut way| {
                            way.steps.push(Step::Or(digests.clone()));
                            way.names.push(name.clone());
                            way
                        }));
                    }
                }
                these = split;
            }
            PolicyCommand::Authorize(authorize) => {
                these.iter_mut().for_each(|way| way.steps.push(Step::Authorize(authorize, None)));
            }
            command => these.iter_mut().for_each(|way| way.steps.push(Step::Command(command))),
        }
        digest = command.extend(digest);
        if these.len() > MAX_PATHS {
            return None;
        }
    }
    found.extend(these);
    Some(())
}

fn authorizes(policy: &Policy) -> Vec<&Authorize> {
    let mut found = Vec::new();
    for command in &policy.0 {
        match command {
            PolicyCommand::Authorize(authorize) => {
                found.push(authorize);
                found.extend(authorize.approved.iter().flat_map(|approved| authorizes(&approved.policy)));
            }
            PolicyCommand::Or(branches) => found.extend(branches.iter().flat_map(|branch| match branch {
                Branch::Known { policy, .. } => authorizes(policy),
                Branch::Unknown(_) => Vec::new(),
            })),
            _ => {}
        }
    }
    found
}

fn raw(steps: &[Step<'_>]) -> Vec<Raw> {
    steps.iter().map(Step::raw).collect()
}

impl Step<'_> {
    fn raw(&self) -> Raw {
        match self {
            Self::Or(digests) => {
                let count = u32::try_from(digests.len()).unwrap_or_default().to_be_bytes().to_vec();
                (code::OR, digests.iter().fold(count, |list, digest| [list, with_size(digest)].concat()))
            }
            Self::Authorize(authorize, signature) => {
                // TPM_ALG_NULL where there is none.
                let signature = signature.and_then(|signature| signature.marshall().ok()).unwrap_or_else(|| vec![0, 0x10]);
                (code::AUTHORIZE, [authorize.key.blob(), with_size(&authorize.policy_ref), signature].concat())
            }
            Self::Command(command) => match command {
                PolicyCommand::Pcr(pcr) => (code::PCR, [with_size(&pcr.digest), pcr.marshalled_selection()].concat()),
                PolicyCommand::AuthValue => (code::AUTH_VALUE, Vec::new()),
                PolicyCommand::Password => (code::PASSWORD, Vec::new()),
                PolicyCommand::CommandCode(command) => (code::COMMAND_CODE, command.0.to_be_bytes().to_vec()),
                PolicyCommand::Locality(locality) => (code::LOCALITY, vec![*locality]),
                PolicyCommand::NameHash(names) => (code::NAME_HASH, with_size(names)),
                PolicyCommand::DuplicationSelect { object, new_parent, includes_object } => {
                    let names = [with_size(object), with_size(new_parent)].concat();
                    (code::DUPLICATION_SELECT, [names, vec![u8::from(*includes_object)]].concat())
                }
                PolicyCommand::NvWritten(is_written) => (code::NV_WRITTEN, vec![u8::from(*is_written)]),
                PolicyCommand::Secret(secret) => {
                    let handle = secret.handle.unwrap_or_default().to_be_bytes();
                    (code::SECRET, [handle.to_vec(), with_size(&secret.name), with_size(&secret.policy_ref)].concat())
                }
                // The format names the key and the reference only: how a use is signed is for its user.
                PolicyCommand::Signed(signed) => (code::SIGNED, [signed.key.blob(), with_size(&signed.policy_ref), vec![0, 0x10]].concat()),
                PolicyCommand::Nv(nv) => {
                    let (index, end) = (nv.index.to_be_bytes(), [nv.offset.to_be_bytes(), nv.operation.to_be_bytes()].concat());
                    (code::NV, [index.to_vec(), with_size(&nv.name), with_size(&nv.operand), end].concat())
                }
                PolicyCommand::Authorize(_) | PolicyCommand::Or(_) => unreachable!("they are steps of their own"),
            },
        }
    }
}
