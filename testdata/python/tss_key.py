#!/usr/bin/env python3
"""Makes and uses key files with tpm2-pytss, for the tests of tpm/: `make` writes one, `use` prints a MAC, a signature or what was sealed in
hexadecimal digits, `convert` prints the key file of two files.

Passwords and secrets stand in arguments: they are test data. A KEY that does not end in .pem names KEY.pub and KEY.priv."""
import argparse, hashlib
from tpm2_pytss import ESAPI
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_RH, TPM2_SE, TPM2_ST, TPMA_OBJECT
from tpm2_pytss.tsskey import TSSPrivKey
from tpm2_pytss.types import (TPM2B_DIGEST, TPM2B_PRIVATE, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPML_PCR_SELECTION, TPMS_SENSITIVE_CREATE,
                              TPMT_PUBLIC, TPMT_SIG_SCHEME, TPMT_SYM_DEF, TPMT_TK_HASHCHECK)

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("action", choices=["make", "use", "convert"])
args.add_argument("tcti")
args.add_argument("key")
args.add_argument("--kind", choices=["hmac", "rsa2048", "p256", "sealed"], help="make: what")
args.add_argument("--secret", help="make: of an HMAC key; without one the TPM makes it")
args.add_argument("--password")
args.add_argument("--policy-digest", type=bytes.fromhex, help="make: its policy's digest, beside which no password does")
args.add_argument("--pcr", action="append", default=[], help="use: the policy's TPM2_PolicyPCRs, one by one")
args.add_argument("--policy-password", action="store_true", help="use: the policy has TPM2_PolicyAuthValue, too")
args.add_argument("--message", help="use: what is MACed or signed")
args = args.parse_args()
password = args.password.encode() if args.password else None
esapi = ESAPI(args.tcti)


def make():
    if args.kind not in ("hmac", "sealed") and args.policy_digest is None:
        return (TSSPrivKey.create_rsa if args.kind == "rsa2048" else TSSPrivKey.create_ecc)(esapi, password=password)
    attributes = "fixedtpm|fixedparent" + ("|sign" if args.kind != "sealed" else "") + ("|noda" if password is None else "")
    attributes += "|sensitivedataorigin" if args.secret is None else ""
    attributes += "|userwithauth" if args.policy_digest is None else ""
    algorithm = {"hmac": "hmac:sha256", "sealed": "keyedhash", "rsa2048": "rsa2048", "p256": "ecc256"}[args.kind]
    template = TPMT_PUBLIC.parse(algorithm, nameAlg="sha256", objectAttributes=attributes, authPolicy=args.policy_digest or b"")
    if args.secret is None:
        return TSSPrivKey.create(esapi, template, password=password)
    # TSSPrivKey.create hands no secret over.
    sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=password or b"", data=args.secret.encode()))
    with TSSPrivKey._getparent(esapi, template.type, TPM2_RH.OWNER) as parent:
        private, public, *_ = esapi.create(parent, sensitive, TPM2B_PUBLIC(template))
    return TSSPrivKey(private, public, empty_auth=password is None)


def read():
    if args.key.endswith(".pem"):
        with open(args.key, "rb") as file:
            return TSSPrivKey.from_pem(file.read())
    parts = []
    for kind, suffix in (TPM2B_PRIVATE, "priv"), (TPM2B_PUBLIC, "pub"):
        with open(f"{args.key}.{suffix}", "rb") as file:
            parts.append(kind.unmarshal(file.read())[0])
    return TSSPrivKey(*parts, empty_auth=password is None)


def use(key):
    handle, session = key.load(esapi, password), ESYS_TR.PASSWORD
    if args.pcr or args.policy_password:
        session = esapi.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL), TPM2_ALG.SHA256)
        for selection in args.pcr:
            esapi.policy_pcr(session, TPM2B_DIGEST(), TPML_PCR_SELECTION.parse(selection))
        if args.policy_password:
            esapi.policy_auth_value(session)
    message = args.message.encode()
    if key.public.publicArea.type == TPM2_ALG.KEYEDHASH and not key.public.publicArea.objectAttributes & TPMA_OBJECT.SIGN_ENCRYPT:
        made = bytes(esapi.unseal(handle, session1=session))
    elif key.public.publicArea.type == TPM2_ALG.KEYEDHASH:
        made = bytes(esapi.hmac(handle, message, TPM2_ALG.SHA256, session1=session))
    else:
        scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.RSASSA if key.public.publicArea.type == TPM2_ALG.RSA else TPM2_ALG.ECDSA)
        scheme.details.any.hashAlg = TPM2_ALG.SHA256
        ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        made = bytes(esapi.sign(handle, hashlib.sha256(message).digest(), scheme, ticket, session1=session))
    esapi.flush_context(handle)
    if session != ESYS_TR.PASSWORD:
        esapi.flush_context(session)
    return made.hex()


if args.action == "make":
    with open(args.key, "wb") as file:
        file.write(make().to_pem())
elif args.action == "convert":
    print(read().to_pem().decode(), end="")
else:
    print(use(read()))
