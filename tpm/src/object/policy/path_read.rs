//! Policies from key files: sequences of commands back into a tree ([`path`](super::path) makes them).

use super::command_code::CommandCode;
use super::path::{BETWEEN, MAX_PATHS, PathError, Paths, Raw};
use super::tree::{Approved, Authorize, Branch, NvComparison, Policy, PolicyCommand, Secret, Signed, code};
use super::verifying_key::{VerifyingKey, signature_from};
use crate::object::blob::{public_from, with_size};
use crate::object::pcr::PcrCommand;

/// The policy that sequences state: the first, then the others, of which those that end in a signed TPM2_PolicyAuthorize may be what that was waiting
/// for.
pub(crate) fn paths_from(paths: &Paths) -> Result<Policy, PathError> {
    if paths.others.len() > MAX_PATHS {
        return Err(PathError::Contradiction);
    }
    let mut policy = tree(&paths.policy, None)?;
    let mut signed = Vec::new();
    for (name, commands) in &paths.others {
        let other = tree(commands, name.as_deref())?;
        match <[PolicyCommand; 1]>::try_from(other.0) {
            Ok([PolicyCommand::Authorize(authorize)]) if policy.digest() != PolicyCommand::Authorize(authorize.clone()).extend([0; 32]) => {
                signed.push(authorize);
            }
            Ok([PolicyCommand::Authorize(authorize)]) => signed.push(authorize),
            Ok(other) => merge(&mut policy, Policy(other.into()))?,
            Err(other) => merge(&mut policy, Policy(other))?,
        }
    }
    // One may wait for what another approves. Each may do so in several places, and all of them together must not be many.
    let mut places = 0;
    for authorize in signed.into_iter().rev() {
        let before = places;
        approve(&mut policy, &authorize, &mut places);
        if places == before || places > MAX_PATHS {
            return Err(PathError::Contradiction);
        }
    }
    Ok(policy)
}

/// Puts what is approved where it is waited for, and counts the places. It is not put into itself: what is approved and waits for its own key is never
/// fulfilled.
fn approve(policy: &mut Policy, authorize: &Authorize, places: &mut usize) {
    for command in &mut policy.0 {
        match command {
            PolicyCommand::Authorize(waiting) => {
                for approved in &mut waiting.approved {
                    approve(&mut approved.policy, authorize, places);
                }
                if waiting.key == authorize.key && waiting.policy_ref == authorize.policy_ref {
                    waiting.approved.extend(authorize.approved.iter().cloned());
                    *places += 1;
                }
            }
            PolicyCommand::Or(branches) => {
                for branch in branches {
                    if let Branch::Known { policy, .. } = branch {
                        approve(policy, authorize, places);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Adds another way to a policy: both come to the same, and differ in which branch they take.
fn merge(policy: &mut Policy, other: Policy) -> Result<(), PathError> {
    if policy.digest() != other.digest() || policy.0.len() != other.0.len() {
        return Err(PathError::Contradiction);
    }
    for (here, there) in policy.0.iter_mut().zip(other.0) {
        match (here, there) {
            (PolicyCommand::Or(here), PolicyCommand::Or(there)) if here.len() == there.len() => {
                for (at, there) in there.into_iter().enumerate() {
                    add_branch(here, at, there);
                }
            }
            (PolicyCommand::Authorize(here), PolicyCommand::Authorize(there)) if here.key == there.key => {
                here.approved.extend(there.approved)
            }
            (here, there) if *here == there => {}
            _ => return Err(PathError::Contradiction),
        }
    }
    Ok(())
}

/// Adds what is known of one branch. Two that come to the same, such as the password by either of its commands, are told apart by what they ask for only: the
/// second takes the next place of that digest.
fn add_branch(branches: &mut [Branch], at: usize, branch: Branch) {
    let Branch::Known { name, policy } = branch else { return };
    let digest = branches[at].digest([0; 32]);
    for here in branches.iter_mut().skip(at) {
        match here {
            Branch::Known { name: known, policy: other } => {
                let mut merged = other.clone();
                if merge(&mut merged, policy.clone()).is_ok() {
                    *known = known.take().or(name);
                    *other = merged;
                    return;
                }
            }
            Branch::Unknown(unknown) if *unknown == digest => {
                *here = Branch::Known { name, policy };
                return;
            }
            Branch::Unknown(_) => {}
        }
    }
}

/// One sequence as a tree: what stands before a TPM2_PolicyOR is its one known branch, what stands before a TPM2_PolicyAuthorize is what was signed.
fn tree(commands: &[Raw], name: Option<&str>) -> Result<Policy, PathError> {
    let mut names: Vec<&str> = name.map(|name| name.split(BETWEEN).collect()).unwrap_or_default();
    let mut policy = Policy::default();
    for (number, parameters) in commands {
        let damaged = || PathError::Command(*number);
        let mut rest = parameters.as_slice();
        let command = match *number {
            code::OR => {
                let digests = digests(&mut rest).ok_or_else(damaged)?;
                let digest = policy.digest();
                let taken = digests.iter().position(|listed| *listed == digest).ok_or(PathError::Contradiction)?;
                let mut branches: Vec<_> = digests.into_iter().map(Branch::Unknown).collect();
                // The innermost comes first, and is named last.
                let name = names.pop().filter(|name| !name.is_empty()).map(str::to_owned);
                branches[taken] = Branch::Known { name, policy: std::mem::take(&mut policy) };
                PolicyCommand::Or(branches)
            }
            code::AUTHORIZE => {
                let (key, policy_ref) = (key(&mut rest).ok_or_else(damaged)?, sized(&mut rest).ok_or_else(damaged)?.to_vec());
                let signature = match std::mem::take(&mut rest) {
                    [] | [0, 0x10] => None,
                    signature => Some(signature_from(signature).ok_or_else(damaged)?),
                };
                let before = std::mem::take(&mut policy);
                let waits_for_itself = before.0.iter().any(
                    |command| matches!(command, PolicyCommand::Authorize(inner) if inner.key == key && inner.policy_ref == policy_ref),
                );
                if waits_for_itself {
                    return Err(PathError::Contradiction);
                }
                let approved = match signature {
                    Some(signature) => vec![Approved { policy: before, signature }],
                    None if before.is_empty() => Vec::new(),
                    None => return Err(damaged()),
                };
                PolicyCommand::Authorize(Authorize { key, policy_ref, approved })
            }
            _ => command(*number, &mut rest).ok_or_else(damaged)?,
        };
        if !rest.is_empty() {
            return Err(damaged());
        }
        policy.0.push(command);
    }
    Ok(policy)
}

fn command(number: u32, rest: &mut &[u8]) -> Option<PolicyCommand> {
    Some(match number {
        code::PCR => PolicyCommand::Pcr(PcrCommand::parse(std::mem::take(rest))?),
        code::AUTH_VALUE => PolicyCommand::AuthValue,
        code::PASSWORD => PolicyCommand::Password,
        code::COMMAND_CODE => PolicyCommand::CommandCode(CommandCode(u32::from_be_bytes(take(rest)?))),
        code::LOCALITY => PolicyCommand::Locality(take::<1>(rest)?[0]),
        code::NAME_HASH => PolicyCommand::NameHash(sized(rest)?.try_into().ok()?),
        code::DUPLICATION_SELECT => {
            let (object, new_parent) = (sized(rest)?.to_vec(), sized(rest)?.to_vec());
            PolicyCommand::DuplicationSelect { object, new_parent, includes_object: yes_no(rest)? }
        }
        code::NV_WRITTEN => PolicyCommand::NvWritten(yes_no(rest)?),
        code::SECRET => {
            let handle = Some(u32::from_be_bytes(take(rest)?)).filter(|handle| *handle != 0);
            PolicyCommand::Secret(Secret { handle, name: sized(rest)?.to_vec(), policy_ref: sized(rest)?.to_vec() })
        }
        code::SIGNED => {
            let (key, policy_ref) = (key(rest)?, sized(rest)?.to_vec());
            // A signature for one use is of no use for the next.
            *rest = &[];
            PolicyCommand::Signed(Signed { key, policy_ref })
        }
        code::NV => {
            let index = u32::from_be_bytes(take(rest)?);
            let (name, operand) = (sized(rest)?.to_vec(), sized(rest)?.to_vec());
            let (offset, operation) = (u16::from_be_bytes(take(rest)?), u16::from_be_bytes(take(rest)?));
            PolicyCommand::Nv(NvComparison { index, name, operand, offset, operation })
        }
        _ => return None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

fn yes_no(rest: &mut &[u8]) -> Option<bool> {
    match take(rest)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// A TPM2B's contents.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(u16::from_be_bytes(take(rest)?));
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// TPM2B_PUBLIC
fn key(rest: &mut &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::of(public_from(&with_size(sized(rest)?)).ok()?)
}

/// TPML_DIGEST, of two to eight.
fn digests(rest: &mut &[u8]) -> Option<Vec<[u8; 32]>> {
    let count = Some(u32::from_be_bytes(take(rest)?)).filter(|count| (2..=8).contains(count))?;
    (0..count).map(|_| sized(rest)?.try_into().ok()).collect()
}

#[cfg(test)]
mod tests {
    use tss_esapi::interface_types::algorithm::HashingAlgorithm;
    use tss_esapi::structures::{EccParameter, EccSignature, Signature};

    use super::*;
    use crate::object::policy::paths_of;

    /// Of the vectors of tpm2-tss; a public key, no secret.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGrFjxBLlFFiZOvemP50H4xCQpL3b\n\
                       yeJqGISIHmNSPpTGS9K5kGoKw3gdR2DXsO97RkIZbpHKiA41PJ2KnXDS1Q==\n-----END PUBLIC KEY-----\n";

    fn code(number: u32) -> PolicyCommand {
        PolicyCommand::CommandCode(CommandCode(number))
    }

    fn branch(name: &str, commands: Vec<PolicyCommand>) -> Branch {
        Branch::Known { name: Some(name.to_owned()), policy: Policy(commands) }
    }

    fn approved(commands: Vec<PolicyCommand>) -> Approved {
        let number = |byte| EccParameter::try_from(vec![byte; 32]).expect("a number");
        let signature = EccSignature::create(HashingAlgorithm::Sha256, number(1), number(2)).expect("a signature");
        Approved { policy: Policy(commands), signature: Signature::EcDsa(signature) }
    }

    fn read_again(policy: &Policy) -> Policy {
        paths_from(&paths_of(policy).expect("few ways")).expect("it is read")
    }

    #[test]
    fn branches_and_what_is_approved_survive_a_file() {
        let key = VerifyingKey::from_pem(KEY).expect("a key");
        let inner = PolicyCommand::Or(vec![branch("x", vec![code(1)]), branch("y", vec![code(2), code(3)])]);
        let or = Policy(vec![PolicyCommand::Or(vec![branch("a", vec![code(4)]), branch("b", vec![inner.clone(), code(5)])])]);
        assert_eq!(read_again(&or), or);
        // What stands before branches is a part of each when it is read.
        let behind = Policy(vec![code(9), inner.clone()]);
        let again = read_again(&behind);
        assert_eq!(again.digest(), behind.digest());
        assert_eq!(again.to_string().matches("0x9").count(), 2, "{again}");

        let authorize = |approved| PolicyCommand::Authorize(Authorize { key: key.clone(), policy_ref: vec![7], approved });
        let signed = Policy(vec![authorize(vec![approved(vec![code(6)]), approved(vec![inner])]), code(8)]);
        let again = read_again(&signed);
        assert_eq!(again.digest(), signed.digest());
        let PolicyCommand::Authorize(read) = &again.0[0] else { panic!("{again}") };
        // The ways through an approved policy are approved each.
        assert_eq!(read.approved.len(), 3);
        assert!(read.approved.contains(&approved(vec![code(6)])));
        // As the format has it: the key at the beginning of `policy`, without a signature, and at the end of each `authPolicy`.
        let paths = paths_of(&signed).expect("few ways");
        assert_eq!((paths.policy[0].0, paths.others.len()), (code::AUTHORIZE, 3));
        assert!(
            paths.policy[0].1.ends_with(&[7, 0, 0x10])
                && paths.others.iter().all(|(_, way)| way.last().is_some_and(|last| last.0 == code::AUTHORIZE))
        );
    }

    #[test]
    fn names_stay_with_their_branches_whatever_they_are_and_wherever_one_has_none() {
        let unnamed = |commands| Branch::Known { name: None, policy: Policy(commands) };
        let inner = || PolicyCommand::Or(vec![unnamed(vec![code(1)]), unnamed(vec![code(2)])]);
        let outer = Policy(vec![PolicyCommand::Or(vec![branch("new", vec![code(3)]), branch("old", vec![inner()])])]);
        assert_eq!(read_again(&outer), outer);
        let mixed = Policy(vec![PolicyCommand::Or(vec![unnamed(vec![inner()]), branch("b", vec![code(4)])])]);
        assert_eq!(read_again(&mixed), mixed);
        // One behind the other: the first is in each branch of the second when it is read.
        let named = |a, b, n| PolicyCommand::Or(vec![branch(a, vec![code(n)]), branch(b, vec![code(n + 1)])]);
        let again = read_again(&Policy(vec![named("a", "b", 10), named("c / d", "", 20)]));
        let shown = again.to_string();
        assert!(again.branch("c/d").is_some() && shown.matches("(a: ").count() == 2 && shown.matches("(b: ").count() == 2, "{shown}");
    }

    #[test]
    fn what_approves_itself_is_refused_when_it_is_read_and_what_many_approve_is_bounded() {
        let key = VerifyingKey::from_pem(KEY).expect("a key");
        let authorize = |approved| PolicyCommand::Authorize(Authorize { key: key.clone(), policy_ref: vec![7], approved });
        let itself = Policy(vec![authorize(vec![approved(vec![authorize(Vec::new())])])]);
        assert_eq!(paths_from(&paths_of(&itself).expect("few ways")), Err(PathError::Contradiction));
        // Each waits for the one before, twice: together they would be 2^20.
        let other = |n: u8| PolicyCommand::Authorize(Authorize { key: key.clone(), policy_ref: vec![n], approved: Vec::new() });
        let waiting = Policy(vec![other(0)]);
        let mut paths = paths_of(&waiting).expect("few ways");
        for n in 0..20 {
            for extra in [1, 2] {
                let step = Policy(vec![PolicyCommand::Authorize(Authorize {
                    key: key.clone(),
                    policy_ref: vec![n],
                    approved: vec![approved(vec![other(n + 1), code(extra)])],
                })]);
                paths.others.extend(paths_of(&step).expect("few ways").others);
            }
        }
        assert_eq!(paths_from(&paths), Err(PathError::Contradiction));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let or = Policy(vec![PolicyCommand::Or(vec![branch("a", vec![code(4)]), branch("b", vec![code(5)])])]);
        let good = || paths_of(&or).expect("few ways");
        // A branch that is none of those listed; a way to somewhere else; a list of one; a signature without what is signed.
        let mut other = good();
        other.policy[0].1[3] ^= 0x40;
        assert_eq!(paths_from(&other), Err(PathError::Contradiction));
        let mut elsewhere = good();
        elsewhere.others.push((None, vec![(code::AUTH_VALUE, Vec::new())]));
        assert_eq!(paths_from(&elsewhere), Err(PathError::Contradiction));
        let one = Paths { policy: vec![(code::OR, [&[0, 0, 0, 1, 0, 32][..], &[0; 32]].concat())], others: Vec::new() };
        assert_eq!(paths_from(&one), Err(PathError::Command(code::OR)));
        let cut = Paths { policy: vec![(code::AUTHORIZE, vec![0, 0])], others: Vec::new() };
        assert_eq!(paths_from(&cut), Err(PathError::Command(code::AUTHORIZE)));
        // More ways than are written: 8 times 8 and one more.
        let wide = |n: u32| PolicyCommand::Or((0..8).map(|i| branch("", vec![code(100 * n + i)])).collect());
        assert!(paths_of(&Policy(vec![wide(1), wide(2), wide(3)])).is_none());
    }
}
