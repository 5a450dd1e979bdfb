//! The TPM itself, and the key in it.

use ekm_otp::KeyId;
use ekm_otp_tpm::{
    Feature, Health, KeyDescription, KeyFile, KeyHealth, KeyKind, KeySource, Parent, Password, PcrBank, Policy, PolicyPlan, Room, Tcti,
    TpmError, TpmHandle, TpmKey,
};

use super::advice::not_loaded;
use super::device::{self, Trouble};
use super::report::{Fault, Report};
use crate::cli::arguments::{KeyRef, read_key_file, under};
use crate::cli::error::CliError;

/// The TPM's own lines. `None` where it does not answer.
pub(super) async fn check_tpm(report: &mut Report, tcti: &Tcti, tpm: &TpmHandle, has_owner_password: bool) -> Option<Health> {
    let text = tcti.to_string();
    let reached = match device::node(&text).map(device::open) {
        Some(Err(trouble)) => Err(trouble),
        _ => tpm.health().await.map_err(|e| device::unanswered(tcti, e)),
    };
    let health = match reached {
        Ok(health) => health,
        Err(Trouble { fault, finding, advice }) => {
            report.problem("device", fault, finding, advice);
            return None;
        }
    };
    match tcti.managed() {
        Some(managed) => {
            let finding = format!("{text} answers, without the kernel's resource manager: one program at a time, and few keys");
            report.warning("device", finding, format!("use --tcti {managed}"));
        }
        None => report.ok("device", format!("{text} answers")),
    }
    check_version(report, &health);
    check_features(report, &health);
    check_room(report, &health.room);
    check_lockout(report, &health);
    check_hierarchies(report, &health, has_owner_password);
    check_banks(report, &health);
    Some(health)
}

fn check_version(report: &mut Report, health: &Health) {
    let revision = health.revision.map_or_else(String::new, |revision| format!(", revision {}.{:02}", revision / 100, revision % 100));
    let vendor = health.vendor.split_whitespace().collect::<Vec<_>>().join(" ");
    let vendor = if vendor.is_empty() { vendor } else { format!(" ({vendor})") };
    let firmware = health.firmware.map_or_else(String::new, |(high, low)| format!(", firmware {high:08x}.{low:08x}"));
    let finding = format!("TPM {}{revision}, manufacturer {}{vendor}{firmware}", health.family, health.manufacturer);
    if health.family == "2.0" {
        report.ok("tpm", finding);
    } else {
        report.problem("tpm", Fault::Other, finding, "a TPM 2.0 is needed; the firmware's set-up may be able to switch the family");
    }
}

fn check_features(report: &mut Report, health: &Health) {
    let names = |features: Vec<Feature>| features.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let algorithms = || Feature::ALL.into_iter().filter(|feature| *feature != Feature::HmacCommand);
    let missing: Vec<Feature> = algorithms().filter(|feature| !health.has(*feature)).collect();
    if missing.iter().any(|feature| feature.is_essential()) {
        let finding = format!("the TPM has no {}", names(missing));
        report.problem("algorithms", Fault::Other, finding, "nothing goes without them: another TPM is needed");
    } else if missing.is_empty() {
        report.ok("algorithms", names(algorithms().collect()));
    } else {
        let finding = format!("the TPM has no {}", names(missing));
        report.warning("algorithms", finding, "keys that sign with it cannot be made; authentication does not need it");
    }
    if health.has(Feature::HmacCommand) {
        report.ok("hmac-command", "the TPM has TPM2_HMAC");
    } else {
        report.problem(
            "hmac-command",
            Fault::Other,
            "the TPM has no command TPM2_HMAC: many manufacturers leave it out",
            "no key in this TPM can make one-time passwords: use another TPM, or a secret in a file (--secret-file), which protects it less",
        );
    }
}

fn check_room(report: &mut Report, room: &Room) {
    let count = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let objects = format!("{} loaded, {} free", count(room.objects), count(room.objects_free));
    let sessions = format!("{} loaded, {} free", count(room.sessions), count(room.sessions_free));
    let finding = format!("objects: {objects}; sessions: {sessions}");
    let advice = "close other programs that use the TPM, or flush what they left: tpm2_flushcontext -t (objects), -l and -s (sessions)";
    if is_full(room, Room::SESSIONS_NEEDED) {
        report.problem("slots", Fault::Other, format!("no room for a key and its parent, or for a session: {finding}"), advice);
    } else if is_full(room, Room::SESSIONS_NEEDED_WITH_POLICY) {
        report.warning("slots", format!("no room for a key with a policy: {finding}"), advice);
    } else {
        report.ok("slots", finding);
    }
    let finding = format!("keys: {}, room for {} more", count(room.persistent), count(room.persistent_free));
    if room.persistent_free == Some(0) {
        report.warning("persistent", finding, "to make a key persistent, evict another one first: tpm2_evictcontrol -c HANDLE");
    } else {
        report.ok("persistent", finding);
    }
}

/// What the TPM does not tell is no obstacle.
fn is_full(room: &Room, sessions: u32) -> bool {
    let lacks = |free: Option<u32>, needed: u32| free.is_some_and(|free| free < needed);
    lacks(room.objects_free, Room::OBJECTS_NEEDED) || lacks(room.sessions_free, sessions) || lacks(room.active_sessions_free, sessions)
}

fn check_lockout(report: &mut Report, health: &Health) {
    let lockout = &health.lockout;
    let count = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let tried = format!("{} of {} wrong passwords", count(lockout.failures), count(lockout.max_failures));
    let forgets = match lockout.interval {
        Some(0) => "guessing is not counted".to_owned(),
        interval => format!("one is forgotten every {} s", count(interval)),
    };
    let reset = match lockout.has_password {
        true => "tpm2_dictionarylockout --clear-lockout --auth=LOCKOUT-PASSWORD",
        false => "tpm2_dictionarylockout --clear-lockout",
    };
    let advice = || format!("wait {} s for one more try, or reset it: {reset}", count(lockout.interval));
    if lockout.is_locked {
        let finding = format!("the TPM is locked ({tried}): it refuses every key that has a password, right ones too; others work");
        report.problem("lockout", Fault::NotPermitted, finding, advice());
    } else if lockout.failures.zip(lockout.max_failures).is_some_and(|(failures, max)| failures > 0 && failures + 1 >= max) {
        report.warning("lockout", format!("the next wrong password locks the TPM: {tried}, {forgets}"), advice());
    } else {
        report.ok("lockout", format!("{tried}, {forgets}"));
    }
}

fn check_hierarchies(report: &mut Report, health: &Health, has_owner_password: bool) {
    let state = |state: &ekm_otp_tpm::HierarchyState| match (state.is_enabled, state.has_password) {
        (false, _) => "switched off",
        (true, true) => "has a password",
        (true, false) => "no password",
    };
    let finding = format!("owner: {}; endorsement: {}", state(&health.owner), state(&health.endorsement));
    if !health.owner.is_enabled {
        let advice = "keys cannot be loaded: switch it on in the firmware's set-up, or restart the machine";
        report.problem("hierarchies", Fault::Other, finding, advice);
    } else if health.owner.has_password && !has_owner_password {
        let advice = "keys whose parent is the owner's primary need it: --owner-password-file or TPM_OWNER_AUTH; keys under a persistent \
                      parent do not";
        report.warning("hierarchies", finding, advice);
    } else {
        report.ok("hierarchies", finding);
    }
}

fn check_banks(report: &mut Report, health: &Health) {
    let names: Vec<String> = health.banks.iter().map(|bank| bank.bank.to_string()).collect();
    let names = names.join(", ");
    match health.banks.iter().find(|bank| bank.bank == PcrBank::Sha256) {
        None => {
            let finding = if names.is_empty() { "no bank is switched on".to_owned() } else { format!("on: {names}; sha256 is off") };
            report.warning("pcr", finding, "keys cannot be bound to sha256 registers: switch that bank on in the firmware's set-up");
        }
        Some(bank) if !bank.is_measured => {
            let finding = format!("on: {names}; the sha256 registers 0 to 7 are empty: the boot was not measured");
            let advice = "do not bind keys to them (--pcrs): they would say nothing. With a software TPM this is as it should be; else switch \
                          measured boot on in the firmware's set-up";
            report.warning("pcr", finding, advice);
        }
        Some(_) => report.ok("pcr", format!("on: {names}; the boot was measured")),
    }
}

/// What is asked about a key.
pub(super) struct Asked<'a> {
    pub(super) key: &'a KeyRef,
    /// The profile that names it.
    pub(super) profile: Option<&'a str>,
    pub(super) kid: Option<&'a KeyId>,
    pub(super) password: Option<Password>,
    /// What `--pcrs` or `--policy` states, and which of the two.
    pub(super) stated: Option<(PolicyPlan, &'static str)>,
    pub(super) parent_template: Option<Parent>,
    /// Whether it is to make one-time passwords.
    pub(super) is_for_server: bool,
    /// Whether it is to sign, for a cloud.
    pub(super) is_to_sign: bool,
}

/// The key's lines. `None` where it cannot be used, or where a try would count as a wrong password.
pub(super) async fn check_key(
    report: &mut Report,
    asked: Asked<'_>,
    tpm: &TpmHandle,
    health: Option<&Health>,
    tcti: &Tcti,
) -> Option<TpmKey> {
    let file = match asked.key {
        KeyRef::Handle(..) => None,
        KeyRef::File(path) => match read_key_file(path).and_then(|file| under(file, asked.parent_template, path)) {
            Ok(file) => {
                let finding = format!("{}: {}, policy: {}", path.display(), file.describe().algorithm, file.policy());
                tell_kind(report, "key-file", finding, &file.describe(), asked.is_for_server);
                match (file.description(), asked.kid) {
                    (Some(description), Some(kid)) if description != kid.as_str() => {
                        let finding = format!("the key was made for the key id {description}, not {kid}");
                        report.warning("key-id", finding, format!("is it the right file? The server must know its secret as {kid}"));
                    }
                    (Some(description), _) => report.ok("key-id", format!("made for the key id {description}")),
                    (None, _) => {}
                }
                Some(file)
            }
            Err(e) => {
                let advice = "a key file is made with `key create` or `key import`, or with tpm2_encodeobject";
                report.problem("key-file", Fault::of(&e), e.to_string(), advice);
                return None;
            }
        },
    };
    let health = health?;
    // A software TPM is cleared of leftovers when a key is loaded into it: a diagnosis leaves what it has found.
    if is_full(&health.room, Room::SESSIONS_NEEDED) && tcti.to_string().starts_with("swtpm:") {
        report.warning("key-tpm", "not looked at: the TPM has no free slot", "see above");
        return None;
    }
    let of_file = match asked.key {
        KeyRef::Handle(_, known) => Some(&known.policy),
        KeyRef::File(_) => file.as_ref().map(KeyFile::policy),
    };
    let stated = match (asked.stated, of_file.filter(|policy| !policy.is_empty())) {
        (None, _) => None,
        (Some((_, flag)), Some(policy)) => {
            let finding = format!("{flag}: the file states its policy itself: {policy}");
            report.problem("key-policy", Fault::Other, finding, format!("leave {flag} out"));
            return None;
        }
        (Some((plan, flag)), None) => match stated_policy(tpm, &plan, file.as_ref(), asked.password.is_some()).await {
            Ok(policy) => Some((policy, flag)),
            Err(e) => {
                let advice = match e {
                    TpmError::PcrChanged(_) => "firmware, boot loader or their configuration changed. If that is right, make the key anew",
                    _ => "name registers of a bank that is on (see pcr)",
                };
                let e = CliError::from(e);
                report.problem("key-policy", Fault::of(&e), format!("{flag} {plan}: {e}"), advice);
                return None;
            }
        },
    };
    let flag = stated.as_ref().map(|(_, flag)| *flag);
    let source = match (file, asked.key, stated.map(|(policy, _)| policy)) {
        (Some(file), _, Some(policy)) => KeySource::from(file.with_policy(policy)),
        (Some(file), _, None) => KeySource::from(file),
        (None, KeyRef::Handle(handle, known), stated) => known.with_policy(*handle, stated.unwrap_or_else(|| known.policy.clone())),
        (None, KeyRef::File(_), _) => return None,
    };
    let parent = match &source {
        KeySource::File { file, .. } => Some(file.parent()),
        KeySource::Handle { .. } => None,
    };
    let has_password = asked.password.is_some();
    let key = tpm.load(source.with_password(asked.password));
    let facts = match key.health().await {
        Ok(facts) => facts,
        Err(e) => {
            let advice = not_loaded(&e, asked.key, asked.profile);
            let e = CliError::from(e);
            report.problem("key-tpm", Fault::of(&e), e.to_string(), advice);
            return None;
        }
    };
    if !facts.is_loaded {
        let finding = "not tried: the key's parent may have a password, none was given, and a try would count as a wrong one";
        report.warning("key-tpm", finding, "give it with --parent-password-file or TPM_PARENT_AUTH");
        return None;
    }
    match parent {
        Some(Parent::H2Primary) => report.ok("key-tpm", "this TPM loads it, under the owner's primary (H-2)"),
        Some(Parent::EndorsementKey(_)) => report.ok("key-tpm", "this TPM loads it, under its endorsement key"),
        Some(Parent::ToolsPrimary(_)) => report.ok("key-tpm", "this TPM loads it, under the owner's primary of --parent-template"),
        Some(Parent::Persistent(handle)) => report.ok("key-tpm", format!("this TPM loads it, under 0x{handle:08x}")),
        None => {
            let finding = format!("at its handle: {}", facts.description.algorithm);
            tell_kind(report, "key-tpm", finding, &facts.description, asked.is_for_server);
        }
    }
    let is_open = check_policy(report, &facts, flag);
    // Where guessing is not counted, nothing is lost by it.
    let is_known_open = !has_password
        && !facts.is_guarded
        && facts.policy.is_empty()
        && key.works_without_password(0).await.is_ok_and(|works| works == Some(true));
    let may_need_password = facts.may_need_password && !is_known_open;
    if may_need_password && !has_password {
        report.ok("key-password", "it has a password, or may have one; none was given (--password-file, TPM_KEY_AUTH), and none is tried");
    } else if may_need_password {
        report.ok("key-password", "it has a password, or may have one, and one was given");
    } else {
        report.ok("key-password", "none is needed");
    }
    let is_right_kind =
        facts.description.kind.is_some_and(|kind| if asked.is_to_sign { kind.signs() } else { kind == KeyKind::HmacSha256 });
    let is_locked = facts.is_guarded && health.lockout.is_locked;
    (is_open && is_right_kind && !is_locked && (has_password || !may_need_password)).then_some(key)
}

fn tell_kind(report: &mut Report, check: &'static str, finding: String, description: &KeyDescription, is_for_server: bool) {
    match description.kind {
        Some(KeyKind::HmacSha256) => report.ok(check, finding),
        Some(_) if !is_for_server => report.ok(check, finding),
        _ => {
            let advice = "one-time passwords need an HMAC-SHA256 key: `key create --kind hmac`, or `key import` of the server's secret";
            report.problem(check, Fault::Other, finding, advice);
        }
    }
}

fn check_policy(report: &mut Report, facts: &KeyHealth, flag: Option<&str>) -> bool {
    if !facts.changed.is_empty() {
        let finding =
            format!("these registers (PCR) are not as when the key was made: {}; it needs: {}", facts.changed.join(", "), facts.policy);
        let advice =
            "firmware, boot loader or their configuration changed. If that is right, make the key anew; else find out what changed";
        report.problem("key-policy", Fault::NotPermitted, finding, advice);
    } else if !facts.policy_fits {
        let finding = match (facts.policy.is_empty(), flag) {
            (true, _) => "the key has a policy, and nothing says which".to_owned(),
            (false, Some(flag)) => format!("the registers of {flag} are not as when the key was made, or it is bound to others"),
            (false, None) => format!("the key's policy is another than its file says: {}", facts.policy),
        };
        let advice = "name the registers that it is bound to with --pcrs BANK:LIST. If they are the right ones, they have changed since it \
                      was made";
        report.problem("key-policy", Fault::NotPermitted, finding, advice);
    } else {
        report.ok("key-policy", facts.policy.to_string());
    }
    facts.changed.is_empty() && facts.policy_fits
}

/// The policy that is stated and that the key asks for; where it asks for another one, that of the registers as they are.
async fn stated_policy(tpm: &TpmHandle, plan: &PolicyPlan, file: Option<&KeyFile>, has_password: bool) -> Result<Policy, TpmError> {
    if let Some(asked) = file.and_then(|file| file.describe().auth_policy) {
        match tpm.policy_for(plan.clone(), &asked).await {
            Err(TpmError::OtherPolicy { .. }) => {}
            found => return found,
        }
    }
    tpm.policy(plan.clone(), has_password).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_tpm_is_known_and_a_silent_one_is_not_full() {
        let room = |objects, sessions, active| Room {
            objects_free: objects,
            sessions_free: sessions,
            active_sessions_free: active,
            ..Room::default()
        };
        for (room, is_full_at_all, is_full_for_policies) in [
            (Room::default(), false, false),
            (room(Some(2), Some(2), Some(2)), false, false),
            (room(Some(1), Some(2), Some(2)), true, true),
            (room(Some(2), Some(1), Some(2)), false, true),
            (room(Some(2), Some(0), Some(2)), true, true),
            (room(Some(2), Some(2), Some(0)), true, true),
        ] {
            assert_eq!(is_full(&room, Room::SESSIONS_NEEDED), is_full_at_all, "{room:?}");
            assert_eq!(is_full(&room, Room::SESSIONS_NEEDED_WITH_POLICY), is_full_for_policies, "{room:?}");
        }
    }
}
