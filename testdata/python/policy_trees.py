#!/usr/bin/env python3
"""Makes random policies in the TSS policy language, and has a TPM tell what each comes to in a trial session, by tpm2-pytss: for the tests of tpm/.

Prints a JSON list of {"policy": …, "digest": hex}. The same seed makes the same policies."""
import hashlib, json, random, sys
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tpm2_pytss import ESAPI
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_EO, TPM2_SE, TPMA_NV, TPMA_OBJECT
from tpm2_pytss.types import (TPM2B_DIGEST, TPM2B_NV_PUBLIC, TPM2B_OPERAND, TPM2B_PUBLIC, TPML_DIGEST, TPML_PCR_SELECTION, TPMS_NV_PUBLIC, TPMT_TK_VERIFIED)

tcti, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
esapi, rng = ESAPI(tcti), random.Random(seed)

# Keys, by the name that the TPM gives them.
KEYS = []
for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())):
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    attributes = TPMA_OBJECT.USERWITHAUTH | TPMA_OBJECT.DECRYPT | TPMA_OBJECT.SIGN_ENCRYPT
    handle = esapi.load_external(TPM2B_PUBLIC.from_pem(pem, objectAttributes=attributes), hierarchy=ESYS_TR.OWNER)
    KEYS.append((pem.decode(), bytes(esapi.tr_get_name(handle))))
    esapi.flush_context(handle)

NV = 0x01800000
nv_public = TPMS_NV_PUBLIC(nvIndex=NV, nameAlg=TPM2_ALG.SHA256, attributes=TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD, dataSize=16)
nv_index = esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(nv_public))
esapi.nv_write(nv_index, bytes(range(16)), auth_handle=ESYS_TR.OWNER)
NV_PUBLIC = {"nvIndex": NV, "nameAlg": "SHA256", "dataSize": 16, "authPolicy": "", "attributes": ["OWNERWRITE", "TPMA_NV_OWNERREAD", "AUTHREAD", "WRITTEN"]}

HASHES = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA384": hashlib.sha384}
SECRETS = {"40000001": ESYS_TR.OWNER, "4000000b": ESYS_TR.ENDORSEMENT, "4000000a": ESYS_TR.LOCKOUT}
LOCALITIES = ["ZERO", "ONE", "TWO", "THREE", "FOUR"]


def some(length):
    return rng.randbytes(length).hex()


def value(bank, pcr):
    """One for each register: two on one way are a contradiction, which is refused."""
    return HASHES[bank](f"{seed} {pcr}".encode()).hexdigest()


def element(path, depth):
    """One element. `path` has what can stand once on a way only: the TPM refuses more."""
    kinds = ["PCR", "AUTHVALUE", "PASSWORD", "SECRET", "NV"] + ["OR"] * (2 if depth < 3 else 0)
    kinds += ["COMMANDCODE"] if "code" not in path else []
    kinds += ["LOCALITY"] if "locality" not in path else []
    kinds += ["NAMEHASH"] if "names" not in path else []
    kinds += ["DUPLICATIONSELECT"] if not path & {"names", "code"} else []
    kinds += ["NVWRITTEN"] if "written" not in path else []
    kind = rng.choice(kinds)
    if kind == "PCR":
        banks = rng.sample(list(HASHES), rng.randint(1, 3))
        pcrs = [(bank, pcr) for bank in banks for pcr in sorted(rng.sample(range(24), rng.randint(1, 4)))]
        return {"type": "POLICYPCR", "pcrs": [{"pcr": pcr, "hashAlg": f"TPM2_ALG_{bank}", "digest": value(bank, pcr)} for bank, pcr in pcrs]}
    if kind == "SECRET":
        return {"type": "POLICYSECRET", "objectName": rng.choice(list(SECRETS)), "policyRef": some(rng.choice([0, 0, 5, 32]))}
    if kind == "NV":
        return {"type": "POLICYNV", "nvPublic": NV_PUBLIC, "operandB": some(rng.randint(1, 8)), "offset": rng.randint(0, 8),
                "operation": rng.choice(["EQ", "NEQ", "UNSIGNED_GE", "SIGNED_LT", "BITSET"])}
    if kind == "COMMANDCODE":
        path.add("code")
        return {"type": "PolicyCommandCode", "code": rng.choice(["TPM2_CC_SIGN", "UNSEAL", "HMAC", 0x14b])}
    if kind == "LOCALITY":
        path.add("locality")
        return {"type": "POLICYLOCALITY", "locality": ["ZERO"] + sorted(rng.sample(LOCALITIES[1:], rng.randint(0, 4)))}
    if kind == "NAMEHASH":
        path.add("names")
        return {"type": "POLICYNAMEHASH", "nameHash": some(32)}
    if kind == "DUPLICATIONSELECT":
        path.update(("names", "code"))
        if rng.random() < 0.5:
            return {"type": "POLICYDUPLICATIONSELECT", "objectName": "000b" + some(32), "newParentName": "000b" + some(32), "includeObject": "YES"}
        return {"type": "POLICYDUPLICATIONSELECT", "newParentName": "000b" + some(32), "includeObject": "NO"}
    if kind == "NVWRITTEN":
        path.add("written")
        return {"type": "POLICYNVWRITTEN", "writtenSet": rng.choice(["YES", "NO"])}
    if kind == "OR":
        count, branches, ways = rng.randint(2, rng.choice([3, 8])), [], set(path)
        for number in range(count):
            way = set(path)
            branches.append({"name": f"branch{number}", "description": "a test's", "policy": elements(way, depth + 1, rng.randint(1, 2))})
            ways |= way
        path |= ways
        return {"type": "POLICYOR", "branches": branches}
    return {"type": f"POLICY{kind}"}


def elements(path, depth, count):
    made = []
    # TPM2_PolicyAuthorize begins anew, so that it stands first where a policy does.
    if depth == 0 and rng.random() < 0.25:
        pem, name = rng.choice(KEYS)
        made.append({"type": "POLICYAUTHORIZE", "keyPEM": pem, "keyName": name.hex(), "policyRef": some(rng.choice([0, 7]))})
    if rng.random() < 0.2:
        pem, name = rng.choice(KEYS)
        made.append({"type": "POLICYSIGNED", "keyPEM": pem, "publicKey": name.hex(), "policyRef": some(rng.choice([0, 3]))})
    return made + [element(path, depth) for _ in range(count)]


def run(session, policy):
    """Fulfils nothing: a trial session takes every command."""
    for one in policy:
        kind = one["type"].upper().removeprefix("POLICY")
        if kind == "PCR":
            order = list(dict.fromkeys(pcr["hashAlg"] for pcr in one["pcrs"]))
            of_bank = [sorted((pcr["pcr"], pcr["digest"]) for pcr in one["pcrs"] if pcr["hashAlg"] == bank) for bank in order]
            values = b"".join(bytes.fromhex(digest) for bank in of_bank for _, digest in bank)
            names = "+".join(f"{bank.removeprefix('TPM2_ALG_').lower()}:{','.join(str(pcr) for pcr, _ in of)}" for bank, of in zip(order, of_bank))
            esapi.policy_pcr(session, hashlib.sha256(values).digest(), TPML_PCR_SELECTION.parse(names))
        elif kind == "AUTHVALUE":
            esapi.policy_auth_value(session)
        elif kind == "PASSWORD":
            esapi.policy_password(session)
        elif kind == "SECRET":
            esapi.policy_secret(SECRETS[one["objectName"]], session, policy_ref=bytes.fromhex(one["policyRef"]), expiration=0)
        elif kind == "NV":
            esapi.policy_nv(ESYS_TR.OWNER, nv_index, session, TPM2B_OPERAND(bytes.fromhex(one["operandB"])), getattr(TPM2_EO, one["operation"]), one["offset"])
        elif kind == "COMMANDCODE":
            esapi.policy_command_code(session, {"TPM2_CC_SIGN": 0x15d, "UNSEAL": 0x15e, "HMAC": 0x155, 0x14b: 0x14b}[one["code"]])
        elif kind == "LOCALITY":
            esapi.policy_locality(session, sum(1 << LOCALITIES.index(name) for name in one["locality"]))
        elif kind == "NAMEHASH":
            esapi.policy_name_hash(session, bytes.fromhex(one["nameHash"]))
        elif kind == "DUPLICATIONSELECT":
            esapi.policy_duplication_select(session, bytes.fromhex(one.get("objectName", "")), bytes.fromhex(one["newParentName"]), one["includeObject"] == "YES")
        elif kind == "NVWRITTEN":
            esapi.policy_nv_written(session, one["writtenSet"] == "YES")
        elif kind == "SIGNED":
            sign(session, one)
        elif kind == "AUTHORIZE":
            ticket = TPMT_TK_VERIFIED(tag=0x8022, hierarchy=0x40000007, digest=b"")
            esapi.policy_authorize(session, b"", bytes.fromhex(one["keyName"]), ticket, policy_ref=bytes.fromhex(one["policyRef"]))
        elif kind == "OR":
            esapi.policy_or(session, TPML_DIGEST([TPM2B_DIGEST(digest) for digest in one["digests"]]))


def sign(session, one):
    from tpm2_pytss.types import TPMT_SIGNATURE
    attributes = TPMA_OBJECT.USERWITHAUTH | TPMA_OBJECT.DECRYPT | TPMA_OBJECT.SIGN_ENCRYPT
    handle = esapi.load_external(TPM2B_PUBLIC.from_pem(one["keyPEM"].encode(), objectAttributes=attributes), hierarchy=ESYS_TR.OWNER)
    # No signature is looked at in a trial session.
    is_rsa = one["keyPEM"] == KEYS[0][0]
    signature = TPMT_SIGNATURE(sigAlg=TPM2_ALG.RSASSA if is_rsa else TPM2_ALG.ECDSA)
    if is_rsa:
        signature.signature.rsassa.hash, signature.signature.rsassa.sig = TPM2_ALG.SHA256, b"\0" * 256
    else:
        signature.signature.ecdsa.hash = TPM2_ALG.SHA256
        signature.signature.ecdsa.signatureR, signature.signature.ecdsa.signatureS = b"\1" * 32, b"\1" * 32
    esapi.policy_signed(handle, session, signature, policy_ref=bytes.fromhex(one["policyRef"]), expiration=0)
    esapi.flush_context(handle)


def digest(before, policy):
    """What a trial session comes to that runs `policy` behind `before`, whose branches are told already."""
    told = []
    for one in policy:
        if one["type"] == "POLICYOR":
            one = {**one, "digests": [digest(before + told, branch["policy"]) for branch in one["branches"]]}
        told.append(one)
    session = esapi.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.TRIAL, None, TPM2_ALG.SHA256)
    run(session, before + told)
    came_to = bytes(esapi.policy_get_digest(session))
    esapi.flush_context(session)
    return came_to


trees = []
for _ in range(count):
    policy = elements(set(), 0, rng.randint(1, 3))
    trees.append({"policy": {"description": "a random one", "policy": policy}, "digest": digest([], policy).hex()})
json.dump(trees, sys.stdout)
