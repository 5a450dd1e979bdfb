"""A KMS for tests: Encrypt and Decrypt with keys of its own, Signature Version 4 verified as sts.py does, and Decrypt for a recipient, whose attestation document it verifies and whose
registers it holds against the key's policy. All keys and secrets here are test data.

Prints its port, then a line for each call: operation, access key id, and what of the request is no secret, in JSON. What happens next is set as cloud/service.py tells.

Usage: kms.py [--root FILE] [--policy FILE] [--der] [--tamper HOW]
"""

import argparse
import base64
import datetime
import json
import os
import secrets
import subprocess
import sys
import tempfile

import signatures

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "..", "cloud"), os.path.join(here, "..", "attestation")]
from service import Refused, now, serve  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--root", help="the certificate (DER) that attestation documents lead to")
parser.add_argument("--policy", help="the policy of the key, or a statement of it")
parser.add_argument("--der", action="store_true", help="answer a recipient in DER, not in BER")
parser.add_argument("--tamper", choices=["message", "key", "plaintext", "nothing"], help="answer a recipient with something wrong")
parser.add_argument("--session", metavar="ID SECRET TOKEN", nargs=3, help="a session that is known, too")
arguments = parser.parse_args()

USERS = {"AKIATESTTESTTESTTEST": ("test/data/only+0123456789abcdefghijklmno", None, "arn:aws:iam::123456789012:user/test")}
if arguments.session:
    session_id, session_secret, session_token = arguments.session
    USERS[session_id] = (session_secret, session_token, "arn:aws:sts::123456789012:assumed-role/app/me")
REGION = "eu-west-1"
ACCOUNT = f"arn:aws:kms:{REGION}:123456789012"
KEYS = {f"{ACCOUNT}:key/{n * 8}-{n * 4}-{n * 4}-{n * 4}-{n * 12}": secrets.token_bytes(32) for n in "12"}
APP, OTHER = KEYS
ALIASES = {"alias/app": APP, "alias/other": OTHER}
# KMS takes documents of the last 5 minutes.
MAX_AGE = 300


def refused(code, message=None, status=400):
    return Refused(status, json.dumps({"__type": code, "message": message}))


def secret_of(key_id):
    if key_id not in USERS:
        raise signatures.Wrong("UnrecognizedClientException", "The security token included in the request is invalid.")
    return USERS[key_id]


def key_of(name):
    for known in KEYS:
        if name in (known, known.rsplit("/", 1)[1]) or ALIASES.get(name.removeprefix(ACCOUNT + ":")) == known:
            return known
    raise refused("NotFoundException", f"Key '{name}' does not exist")


def bound_to(call):
    return json.dumps(call.get("EncryptionContext", {}), sort_keys=True).encode()


def encrypt(call, _):
    key, plaintext = key_of(call["KeyId"]), base64.b64decode(call["Plaintext"], validate=True)
    if not 1 <= len(plaintext) <= 4096:
        raise refused("ValidationException", "plaintext")
    nonce = secrets.token_bytes(12)
    # As KMS's: no text, and its key's name is in it.
    head = b"\x01\x02\x02\x00" + key.encode().ljust(96, b"\0")
    ciphertext = head + nonce + AESGCM(KEYS[key]).encrypt(nonce, plaintext, head + bound_to(call))
    return {"CiphertextBlob": base64.b64encode(ciphertext).decode(), "KeyId": key, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}


def decrypt(call, caller):
    ciphertext = base64.b64decode(call["CiphertextBlob"], validate=True)
    head, nonce, sealed = ciphertext[:100], ciphertext[100:112], ciphertext[112:]
    key = head[4:].rstrip(b"\0").decode(errors="replace")
    if key not in KEYS:
        raise refused("InvalidCiphertextException")
    if "KeyId" in call and key_of(call["KeyId"]) != key:
        raise refused("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
    document = attested(call["Recipient"]) if "Recipient" in call else None
    if not allows(document):
        raise refused("AccessDeniedException", f"User: {caller} is not authorized to perform: kms:Decrypt on resource: {key}")
    try:
        plaintext = AESGCM(KEYS[key]).decrypt(nonce, sealed, head + bound_to(call))
    except InvalidTag:
        raise refused("InvalidCiphertextException") from None
    answer = {"KeyId": OTHER if arguments.tamper == "key" else key, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
    if document is None or arguments.tamper == "plaintext":
        return answer | {"Plaintext": base64.b64encode(plaintext).decode()}
    if arguments.tamper == "nothing":
        return answer | {"Plaintext": "", "CiphertextForRecipient": ""}
    message = enveloped(plaintext, load_der_public_key(document["public_key"]))
    if arguments.tamper == "message":
        # In the last block of the content, where it stands at the very end.
        message = message[:-1] + bytes([message[-1] ^ 1])
    return answer | {"CiphertextForRecipient": base64.b64encode(message).decode()}


def attested(recipient):
    """What the recipient's attestation document says, verified."""
    import nitro

    if recipient["KeyEncryptionAlgorithm"] != "RSAES_OAEP_SHA_256":
        raise refused("ValidationException", "KeyEncryptionAlgorithm")
    with open(arguments.root, "rb") as root:
        root = root.read()
    try:
        said = nitro.verify_document(base64.b64decode(recipient["AttestationDocument"], validate=True), root, now())
    except nitro.Refused as why:
        raise refused("ValidationException", f"Attestation document is not valid: {why}") from None
    if not -MAX_AGE < now() - said["timestamp"] / 1000 < MAX_AGE:
        raise refused("ValidationException", "Attestation document is too old")
    key = said["public_key"] and load_der_public_key(said["public_key"])
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        raise refused("ValidationException", "Attestation document has no RSA key")
    return said


def allows(document):
    """Whether a statement of the policy allows it; without a policy everything is."""
    if not arguments.policy:
        return True
    registers = {f"kms:RecipientAttestation:NitroTPMPCR{n}": value.hex() for n, value in (document or {}).get("nitrotpm_pcrs", {}).items()}
    with open(arguments.policy) as policy:
        statements = json.load(policy)
    statements = statements.get("Statement", [statements])
    for statement in statements:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        conditions = statement.get("Condition", {})
        if unknown := set(conditions) - {"StringEquals", "StringEqualsIgnoreCase"}:
            raise AssertionError(f"not known here: {unknown}")
        wanted = [pair for condition in conditions.values() for pair in condition.items()]
        values = lambda value: [one.lower() for one in ([value] if isinstance(value, str) else value)]  # noqa: E731
        if statement["Effect"] == "Allow" and "kms:Decrypt" in actions and all(registers.get(name) in values(value) for name, value in wanted):
            return True
    return False


def enveloped(plaintext, public_key):
    """EnvelopedData as KMS makes it, by OpenSSL: the recipient by its subject key identifier, RSAES-OAEP with SHA-256, AES-256-CBC."""
    issuer, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    at, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, public_key, x509.random_serial_number(), at - day, at + day)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
        .sign(issuer, hashes.SHA256())
    )
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.write(certificate.public_bytes(Encoding.PEM))
        file.flush()
        oaep = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"]
        command = ["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-cbc", "-recip", file.name, "-keyid"]
        command += [word for option in oaep for word in ("-keyopt", option)] + ([] if arguments.der else ["-stream"])
        return subprocess.run(command, input=plaintext, stdout=subprocess.PIPE, check=True).stdout


def call(method, target, fields, body):
    try:
        key_id, caller = signatures.verify("kms", now(), secret_of, method, target, fields, body)
    except signatures.Wrong as wrong:
        code, message = wrong.args
        code = {"SignatureDoesNotMatch": "InvalidSignatureException", "InvalidClientTokenId": "UnrecognizedClientException"}.get(code, code)
        raise refused(code, message) from None
    operation = fields["X-Amz-Target"].removeprefix("TrentService.")
    request = json.loads(body)
    print(operation, key_id, json.dumps({name: request[name] for name in request.keys() - {"Plaintext"}}, sort_keys=True), flush=True)
    if fields["Content-Type"] != "application/x-amz-json-1.1" or operation not in ("Encrypt", "Decrypt"):
        raise refused("UnknownOperationException")
    return 200, {"Encrypt": encrypt, "Decrypt": decrypt}[operation](request, caller)


serve(call)
