//! Policies in JSON (TCG "TSS 2.0 JSON Data Types and Policy Language Specification", version 0.7): what of it can be fulfilled here. Names of
//! members, types and algorithms are taken in any case, as tpm2-tss takes them. What is not known is refused: it would change the meaning.

use std::collections::BTreeMap;

use super::command_code::CommandCode;
use super::json_error::PolicyJsonError;
use super::json_nv::nv;
use super::json_pcr::{digest, known_bank, pcrs, register};
use super::json_value::{Json, Object, list, objects};
use super::plan::{PolicyPlan, Step};
use super::signed::SignedPolicy;
use super::tree::{Authorize, PolicyCommand, Secret, Signed};
use super::verifying_key::{Template, VerifyingKey};
use crate::SignatureScheme;
use crate::object::pcr::PcrBank;

/// How deep branches may lie in each other.
const MAX_DEPTH: usize = 8;

impl PolicyPlan {
    /// Reads a policy in the TSS policy language: `POLICYPCR` with `pcrs` (registers and their values) or `currentPCRandBanks` (as they are), and all other
    /// types but those that name things in a store of the feature API, `POLICYACTION`, `POLICYCOUNTERTIMER`, `POLICYCPHASH`, `POLICYPHYSICALPRESENCE`,
    /// `POLICYTEMPLATE` and `POLICYAUTHORIZENV`. Signatures over it (`policyAuthorizations`) change nothing of what it asks for.
    ///
    /// ```
    /// # use ekm_otp_tpm::{PolicyJsonError, PolicyPlan};
    /// let plan = PolicyPlan::from_json(r#"{"description": "a password", "policy": [{"type": "POLICYAUTHVALUE"}]}"#)?;
    /// assert_eq!(plan, PolicyPlan::new().password());
    /// # Ok::<(), PolicyJsonError>(())
    /// ```
    ///
    /// # Errors
    /// As [`PolicyJsonError`] tells: whatever is not taken is named.
    pub fn from_json(text: &str) -> Result<Self, PolicyJsonError> {
        document(root(text)?).map(|(plan, _)| plan)
    }
}

impl SignedPolicy {
    /// Reads the policies that others have signed: a policy in the TSS policy language with `policyAuthorizations`, or systemd's signatures over
    /// registers (`.pcrsig`; systemd-measure(1)).
    ///
    /// # Errors
    /// As [`PolicyJsonError`] tells.
    pub fn from_json(text: &str) -> Result<Vec<Self>, PolicyJsonError> {
        let root = root(text)?;
        if root.has("policy") {
            return match document(root)? {
                (_, signed) if signed.is_empty() => Err(PolicyJsonError::NotSigned),
                (_, signed) => Ok(signed),
            };
        }
        let mut signed = Vec::new();
        for (bank, entries) in root.into_members() {
            let bank = known_bank(&bank).ok_or_else(|| PolicyJsonError::Bank { at: "the signatures".into(), named: bank.clone() })?;
            for mut entry in objects(entries, &bank.to_string())? {
                signed.push(pcr_signature(bank, &mut entry)?);
                entry.finish()?;
            }
        }
        if signed.is_empty() { Err(PolicyJsonError::NotSigned) } else { Ok(signed) }
    }
}

fn root(text: &str) -> Result<Object, PolicyJsonError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root: Json = serde_json::from_str(text).map_err(|e| PolicyJsonError::Syntax(e.to_string()))?;
    Object::of(root, "the policy")
}

/// TPMS_POLICY
fn document(mut root: Object) -> Result<(PolicyPlan, Vec<SignedPolicy>), PolicyJsonError> {
    let plan = plan(root.need("policy")?, "policy", 0)?;
    must_be_possible(&plan, &BTreeMap::new())?;
    if let Some(digests) = root.take("policyDigests") {
        must_come_to(&plan, digests, &root.at)?;
    }
    let mut signed = Vec::new();
    if let Some(authorizations) = root.take("policyAuthorizations") {
        for mut authorization in objects(authorizations, "policyAuthorizations")? {
            signed.push(self::authorization(&plan, &mut authorization)?);
            authorization.finish()?;
        }
    }
    root.finish()?;
    Ok((plan, signed))
}

/// TPML_POLICYELEMENTS
fn plan(elements: Json, at: &str, depth: usize) -> Result<PolicyPlan, PolicyJsonError> {
    if depth > MAX_DEPTH {
        return Err(PolicyJsonError::Depth(MAX_DEPTH));
    }
    let mut plan = PolicyPlan::new();
    for mut element in objects(elements, at)? {
        let step = step(&mut element, depth)?;
        if matches!(step, Step::Command(PolicyCommand::Authorize(_))) && !plan.is_empty() {
            return Err(PolicyJsonError::NotFirst(element.at));
        }
        plan = plan.and(step);
        if let Some(digests) = element.take("policyDigests") {
            // Within a branch they go on from what stands before it, which is not seen from here.
            if depth == 0 {
                must_come_to(&plan, digests, &element.at)?;
            }
        }
        element.finish()?;
    }
    Ok(plan)
}

/// No way through it wants one register to have two values.
fn must_be_possible<'a>(plan: &'a PolicyPlan, before: &BTreeMap<(PcrBank, u8), &'a [u8]>) -> Result<(), PolicyJsonError> {
    let mut given = before.clone();
    for (bank, register, value) in plan.common_registers() {
        let Some(value) = value else { continue };
        if given.insert((bank, register), value).is_some_and(|before| before != value) {
            return Err(PolicyJsonError::TwoValues(format!("{bank}:{register}")));
        }
    }
    for step in plan.steps() {
        if let Step::Or(branches) = step {
            branches.iter().try_for_each(|(_, branch)| must_be_possible(branch, &given))?;
        }
    }
    Ok(())
}

/// TPMT_POLICYELEMENT
fn step(element: &mut Object, depth: usize) -> Result<Step, PolicyJsonError> {
    let named = element.need("type")?.text(&element.at, "type")?;
    let upper = named.to_ascii_uppercase();
    let at = element.at.clone();
    let command = match upper.strip_prefix("POLICY").unwrap_or(&upper) {
        "PCR" => return pcrs(element).map(Step::Pcrs),
        "OR" => return branches(element, depth).map(Step::Or),
        "AUTHVALUE" => PolicyCommand::AuthValue,
        "PASSWORD" => PolicyCommand::Password,
        "COMMANDCODE" => PolicyCommand::CommandCode(command_code(element.need("code")?, &at)?),
        "LOCALITY" => PolicyCommand::Locality(locality(element.need("locality")?, &at)?),
        "NAMEHASH" => PolicyCommand::NameHash(sha256(element.need("nameHash")?.bytes(&at, "nameHash")?, &at)?),
        "DUPLICATIONSELECT" => {
            let object = element.take("objectName").map(|name| name.bytes(&at, "objectName")).transpose()?.unwrap_or_default();
            let new_parent = element.need("newParentName")?.bytes(&at, "newParentName")?;
            let includes = element.take("includeObject").map(|truth| truth.truth(&at, "includeObject")).transpose()?;
            let includes_object = includes.unwrap_or(!object.is_empty());
            PolicyCommand::DuplicationSelect { object, new_parent, includes_object }
        }
        "NVWRITTEN" => PolicyCommand::NvWritten(element.need("writtenSet")?.truth(&at, "writtenSet")?),
        "SECRET" => PolicyCommand::Secret(Secret { policy_ref: policy_ref(element)?, ..secret(element)? }),
        "SIGNED" => PolicyCommand::Signed(Signed { key: verifying_key(element, "publicKey")?, policy_ref: policy_ref(element)? }),
        "AUTHORIZE" => {
            let (key, policy_ref) = (verifying_key(element, "keyName")?, policy_ref(element)?);
            PolicyCommand::Authorize(Authorize { key, policy_ref, approved: Vec::new() })
        }
        "NV" => PolicyCommand::Nv(nv(element)?),
        _ => return Err(PolicyJsonError::Type { at, named }),
    };
    Ok(Step::Command(command))
}

/// TPML_POLICYBRANCHES
fn branches(element: &mut Object, depth: usize) -> Result<Vec<(Option<String>, PolicyPlan)>, PolicyJsonError> {
    let at = format!("{}.branches", element.at);
    let mut branches = Vec::new();
    for mut branch in objects(element.need("branches")?, &at)? {
        let name = branch.take("name").map(|name| name.text(&branch.at, "name")).transpose()?;
        let policy = plan(branch.need("policy")?, &format!("{}.policy", branch.at), depth + 1)?;
        branch.take("policyDigests");
        branch.finish()?;
        branches.push((name.filter(|name| !name.is_empty()), policy));
    }
    if (2..=8).contains(&branches.len()) { Ok(branches) } else { Err(PolicyJsonError::Branches(at)) }
}

fn policy_ref(element: &mut Object) -> Result<Vec<u8>, PolicyJsonError> {
    let at = element.at.clone();
    element.take("policyRef").map_or(Ok(Vec::new()), |bytes| bytes.bytes(&at, "policyRef"))
}

/// TPM2_CC
fn command_code(code: Json, at: &str) -> Result<CommandCode, PolicyJsonError> {
    let wrong = || PolicyJsonError::Kind { at: format!("{at}.code"), wanted: "the name or code of a command that uses an object" };
    match code {
        Json::Number(number) => u32::try_from(number).map(CommandCode).map_err(|_| wrong()),
        Json::Text(text) => text.parse().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// TPMA_LOCALITY: its bits, by name or as a number.
fn locality(locality: Json, at: &str) -> Result<u8, PolicyJsonError> {
    let wrong =
        || PolicyJsonError::Kind { at: format!("{at}.locality"), wanted: "localities: ZERO to FOUR in a list, or their bits as a number" };
    let bit = |named: Json| {
        let Json::Text(named) = named else { return None };
        let upper = named.to_ascii_uppercase();
        let name = upper.rsplit('_').next().unwrap_or_default();
        ["ZERO", "ONE", "TWO", "THREE", "FOUR"].iter().position(|known| *known == name).map(|bit| 1 << bit)
    };
    match locality {
        Json::Number(number) => u8::try_from(number).ok(),
        Json::List(names) => names.into_iter().map(bit).try_fold(0, |bits, bit| Some(bits | bit?)),
        named => bit(named),
    }
    .ok_or_else(wrong)
}

/// TPMS_POLICYSECRET: by name, or by the feature API's path of a hierarchy.
fn secret(element: &mut Object) -> Result<Secret, PolicyJsonError> {
    let at = element.at.clone();
    let name = match (element.take("objectName"), element.take("objectPath")) {
        (Some(name), None) => name.bytes(&at, "objectName")?,
        (None, Some(path)) => {
            let path = path.text(&at, "objectPath")?;
            let known = [("/HS", 0x01), ("/HE", 0x0b), ("/HN", 0x07), ("/LOCKOUT", 0x0a)].into_iter().find(|(known, _)| *known == path);
            vec![0x40, 0, 0, known.ok_or_else(|| PolicyJsonError::Path { at: at.clone(), path })?.1]
        }
        _ => return Err(PolicyJsonError::Secret(at)),
    };
    let handle = <[u8; 4]>::try_from(name.as_slice()).ok().map(u32::from_be_bytes);
    Ok(Secret { handle, name, policy_ref: Vec::new() })
}

/// A key by its PEM: under the name that is given, or the one that the feature API gives it.
fn verifying_key(element: &mut Object, name: &'static str) -> Result<VerifyingKey, PolicyJsonError> {
    let at = element.at.clone();
    if let Some(path) = element.take("keyPath") {
        return Err(PolicyJsonError::Path { at: at.clone(), path: path.text(&at, "keyPath")? });
    }
    element.take("publicKeyHint");
    let pem = element.need("keyPEM")?.text(&at, "keyPEM")?;
    let scheme = rsa_scheme(element)?;
    let read = |template| VerifyingKey::of_template(&pem, template).map_err(|why| PolicyJsonError::Key { at: at.clone(), why });
    match element.take(name).map(|bytes| bytes.bytes(&at, name)).transpose()? {
        None => read(if scheme == SignatureScheme::RsaSsa { Template::FeatureApiRsaSsa } else { Template::FeatureApi }),
        Some(named) => {
            let keys = Template::ALL.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
            keys.into_iter().find(|key| key.name() == named).ok_or(PolicyJsonError::KeyName { at, member: name })
        }
    }
}

/// TPMT_RSA_SCHEME, with SHA-256; RSAPSS where nothing is said.
fn rsa_scheme(element: &mut Object) -> Result<SignatureScheme, PolicyJsonError> {
    let at = element.at.clone();
    let only_sha256 = |hash: Option<Json>, member: &'static str| match hash.map(|hash| hash.text(&at, member)).transpose()? {
        Some(named) if known_bank(&named) != Some(PcrBank::Sha256) => Err(PolicyJsonError::Bank { at: at.clone(), named }),
        _ => Ok(()),
    };
    only_sha256(element.take("keyPEMhashAlg"), "keyPEMhashAlg")?;
    let Some(scheme) = element.take("rsaScheme") else { return Ok(SignatureScheme::RsaPss) };
    let mut scheme = Object::of(scheme, &format!("{at}.rsaScheme"))?;
    let named = scheme.need("scheme")?.text(&at, "rsaScheme.scheme")?.to_ascii_uppercase();
    if let Some(details) = scheme.take("details") {
        let mut details = Object::of(details, &format!("{at}.rsaScheme.details"))?;
        only_sha256(details.take("hashAlg"), "rsaScheme.details.hashAlg")?;
        details.finish()?;
    }
    scheme.finish()?;
    match named.trim_start_matches("TPM2_ALG_") {
        "RSASSA" => Ok(SignatureScheme::RsaSsa),
        "RSAPSS" => Ok(SignatureScheme::RsaPss),
        _ => Err(PolicyJsonError::Kind { at: format!("{at}.rsaScheme"), wanted: "RSASSA or RSAPSS" }),
    }
}

/// TPMS_POLICYAUTHORIZATION
fn authorization(plan: &PolicyPlan, object: &mut Object) -> Result<SignedPolicy, PolicyJsonError> {
    let at = object.at.clone();
    let kind = object.need("type")?.text(&at, "type")?;
    if kind != "pem" {
        return Err(PolicyJsonError::Kind {
            at: format!("{at}.type"),
            wanted: "\"pem\": signatures by keys in a store of the feature API are not taken",
        });
    }
    let (pem, policy_ref) = (object.need("key")?.text(&at, "key")?, policy_ref(object)?);
    let key = VerifyingKey::from_pem(&pem).map_err(|why| PolicyJsonError::Key { at: at.clone(), why })?;
    let hash = object.take("hashAlg").map(|hash| hash.text(&at, "hashAlg")).transpose()?;
    if let Some(named) = hash.filter(|named| known_bank(named) != Some(PcrBank::Sha256)) {
        return Err(PolicyJsonError::Bank { at, named });
    }
    let scheme = match (rsa_scheme(object)?, key.scheme()) {
        (_, SignatureScheme::Ecdsa) => SignatureScheme::Ecdsa,
        (scheme, _) => scheme,
    };
    let signature = object.need("signature")?.bytes(&at, "signature")?;
    let policy = plan.given().ok_or(PolicyJsonError::NoValues)?;
    Ok(SignedPolicy::new(policy, key.pem(), policy_ref, scheme, signature))
}

/// One of systemd's signatures: over the policy of these registers, by the key of this fingerprint.
fn pcr_signature(bank: PcrBank, entry: &mut Object) -> Result<SignedPolicy, PolicyJsonError> {
    use base64::Engine as _;
    let at = entry.at.clone();
    let numbers = list(entry.need("pcrs")?, &format!("{at}.pcrs"))?;
    let registers = numbers.into_iter().map(|number| register(number, &at)).collect::<Result<Vec<_>, _>>()?;
    let fingerprint = entry.need("pkfp")?.bytes(&at, "pkfp")?;
    let digest = sha256(entry.need("pol")?.bytes(&at, "pol")?, &at)?;
    let signature = entry.need("sig")?.text(&at, "sig")?;
    let signature = base64::engine::general_purpose::STANDARD.decode(signature.trim());
    let signature = signature.map_err(|_| PolicyJsonError::Kind { at: format!("{at}.sig"), wanted: "base64" })?;
    Ok(SignedPolicy::of_registers(bank, registers, fingerprint, digest, signature))
}

fn sha256(bytes: Vec<u8>, at: &str) -> Result<[u8; 32], PolicyJsonError> {
    let wrong = |_| PolicyJsonError::Digest { at: at.to_owned(), len: 32, bank: PcrBank::Sha256 };
    bytes.try_into().map_err(wrong)
}

/// TPML_DIGEST_VALUES: what the policy so far comes to. Those of other hashes than SHA-256 are for keys that are named by them.
fn must_come_to(plan: &PolicyPlan, digests: Json, at: &str) -> Result<(), PolicyJsonError> {
    for mut digest_value in objects(digests, &format!("{at}.policyDigests"))? {
        let named = digest_value.need("hashAlg")?.text(&digest_value.at, "hashAlg")?;
        if known_bank(&named) == Some(PcrBank::Sha256) {
            let stated = digest(&mut digest_value, PcrBank::Sha256)?;
            if plan.given().is_none_or(|policy| policy.digest()[..] != stated) {
                return Err(PolicyJsonError::PolicyDigest(digest_value.at));
            }
        }
    }
    Ok(())
}
