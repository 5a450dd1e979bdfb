"""Attestation documents of AWS Nitro, made up, and a verifier that shares no line with the Rust code: cbor2 decodes, cryptography verifies.

To import: make_pki, make_document, verify_document, Refused. Roots and keys are made from a seed, so that the same seed makes the same documents.

    nitro.py document FOLDER                 # a root, a document, its nonce and public key, as files
    nitro.py made-up                         # writes made-up.json beside this script again: a document, its root and its key, for the fuzzer
    nitro.py mutated COUNT SEED              # so many documents, each changed in some way, as lines of JSON with this verifier's verdict
    nitro.py verify ROOT.pem UNIX [NONCE]    # the verdict on standard input
"""

import datetime
import hashlib
import io
import json
import sys
from pathlib import Path

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ES384 = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
UTC = datetime.timezone.utc
AT = 1_770_000_000
HOUR = 3600
MAX_LEN, MAX_DEPTH, MAX_ENTRIES, MAX_BETWEEN = 64 * 1024, 8, 256, 8


class Refused(Exception):
    """Why a document proves nothing."""


# Certificates


def private_key(name, curve=ec.SECP384R1()):
    """The same for the same name."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(name.encode()).digest()[:31], "big") + 1, curve)


def distinguished_name(text):
    attributes = [(NameOID.COUNTRY_NAME, "US"), (NameOID.ORGANIZATION_NAME, "Test data"), (NameOID.COMMON_NAME, text)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def certificate(subject, key, issuer, issuer_key, *, begin, end, is_ca, path_length=None, usages="right", extended=None, unknown_critical=False):
    moment = lambda unix: datetime.datetime.fromtimestamp(unix, UTC)
    serial = int.from_bytes(hashlib.sha256(f"{subject} {begin} {end}".encode()).digest()[:15], "big") + 1
    public = key.public_key()
    builder = x509.CertificateBuilder(
        distinguished_name(issuer), distinguished_name(subject), public, serial, moment(begin), moment(end)
    ).add_extension(x509.BasicConstraints(is_ca, path_length), True)
    if usages is not None:
        signs = is_ca if usages == "right" else not is_ca
        others = "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only".split()
        usage = x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **dict.fromkeys(others, False))
        builder = builder.add_extension(usage, True)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), False)
    if unknown_critical:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)
    return builder.sign(issuer_key, hashes.SHA384(), ecdsa_deterministic=True)


class Pki:
    """A root, what is between, and a leaf: `root`, `bundle` (the root first) and `leaf` are DER, `key` signs documents."""

    def __init__(self, root, bundle, leaf, key):
        self.root, self.bundle, self.leaf, self.key = root, bundle, leaf, key

    def root_pem(self):
        return x509.load_der_x509_certificate(self.root).public_bytes(Encoding.PEM)


def make_pki(at=AT, between=2, name="pki", root=None, intermediate=None, leaf=None, leaf_curve=None, leaf_signer=None):
    """A chain that is right at the time `at`. `root`, `intermediate` and `leaf` are faults: arguments of `certificate` that replace the right ones; `intermediate`
    is of the last one above the leaf."""
    keys = [private_key(f"{name} {i}") for i in range(between + 1)]
    names = [f"{name} root"] + [f"{name} intermediate {i}" for i in range(1, between + 1)]
    bundle = []
    for i in range(between + 1):
        days = [3650, 30, 7, 2][min(i, 3)] * 24 * HOUR
        right = {"begin": at - days, "end": at + days, "is_ca": True, "path_length": None if i == 0 else between - i}
        fault = dict((root if i == 0 else intermediate if i == between else None) or {})
        above = max(i - 1, 0)
        issued = certificate(names[i], keys[i], fault.pop("issuer", names[above]), keys[above], **(right | fault))
        bundle.append(issued.public_bytes(Encoding.DER))
    key = private_key(f"{name} leaf", leaf_curve or ec.SECP384R1())
    fault = dict(leaf or {})
    right = {"begin": at - HOUR, "end": at + 2 * HOUR, "is_ca": False}
    signer = private_key(leaf_signer) if leaf_signer else keys[-1]
    made = certificate(f"{name} leaf", key, fault.pop("issuer", names[-1]), signer, **(right | fault))
    return Pki(bundle[0], bundle, made.public_bytes(Encoding.DER), key)


# Documents


def head(major, n):
    """RFC 8949 §3, in the least bytes."""
    for limit, code, size in ((24, None, 0), (1 << 8, 24, 1), (1 << 16, 25, 2), (1 << 32, 26, 4), (1 << 64, 27, 8)):
        if n < limit:
            return bytes([major << 5 | (n if code is None else code)]) + (b"" if code is None else n.to_bytes(size, "big"))
    raise ValueError(n)


def to_be_signed(protected, payload):
    """Sig_structure (RFC 9052 §4.4)."""
    return b"\x84\x6aSignature1" + head(2, len(protected)) + protected + b"\x40" + head(2, len(payload)) + payload


def sign(key, protected, payload):
    size = (key.curve.key_size + 7) // 8
    r, s = utils.decode_dss_signature(key.sign(to_be_signed(protected, payload), ES384))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def default_pcrs():
    values = {i: hashlib.sha384(f"register {i}".encode()).digest() for i in range(16)}
    return values | {i: bytes([0 if i in (16, 23) else 0xFF]) * 48 for i in range(16, 24)}


def encode_map(pairs, indefinite):
    """`pairs` of values, so that a key may stand there twice; bytes that are encoded already are of the type Raw."""
    encode = lambda value: bytes(value) if isinstance(value, Raw) else cbor2.dumps(value)
    body = b"".join(encode(key) + encode(value) for key, value in pairs)
    return b"\xbf" + body + b"\xff" if indefinite else head(5, len(pairs)) + body


class Raw(bytes):
    """CBOR that is encoded already."""


def make_document(
    pki,
    *,
    kind="nitrotpm_pcrs",
    pcrs=None,
    nonce=None,
    user_data=None,
    public_key=None,
    module_id="i-0123456789abcdef0-tpm0000000000000000",
    digest="SHA384",
    timestamp=None,
    at=AT,
    fields=None,
    edit=None,
    indefinite=True,
    tagged=False,
    protected=b"\xa1\x01\x38\x22",
    unprotected=b"\xa0",
    signature=None,
):
    """A document as NitroTPM (or, with kind="pcrs", an enclave) makes it. `public_key` is DER. `fields` adds fields or replaces them; `edit` changes the list of
    pairs before it is encoded; `signature` replaces the right one: bytes, or a function of it."""
    pairs = [
        ("module_id", module_id),
        ("digest", digest),
        ("timestamp", at * 1000 if timestamp is None else timestamp),
        (kind, default_pcrs() if pcrs is None else pcrs),
        ("certificate", pki.leaf),
        ("cabundle", list(pki.bundle)),
        ("public_key", public_key),
        ("user_data", user_data),
        ("nonce", nonce),
    ]
    more = dict(fields or {})
    pairs = [(name, more.pop(name, value)) for name, value in pairs] + list(more.items())
    payload = encode_map(edit(pairs) if edit else pairs, indefinite)
    right = sign(pki.key, protected, payload)
    signature = right if signature is None else signature(right) if callable(signature) else signature
    parts = head(2, len(protected)) + protected + unprotected + head(2, len(payload)) + payload + head(2, len(signature)) + signature
    return (b"\xd2" if tagged else b"") + b"\x84" + parts


# The verifier


def must(is_right, why):
    if not is_right:
        raise Refused(why)


def look_at(stream, depth):
    """What cbor2 would take, and is not taken: tags, strings in pieces, simple values that mean nothing, too deep, too many. One value of the stream."""
    first = stream.read(1)
    must(first, "cut off")
    major, minor = first[0] >> 5, first[0] & 31
    must(minor < 28 or minor == 31, "no head")
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(minor, 0)
    more = stream.read(size)
    must(len(more) == size, "cut off")
    n = int.from_bytes(more, "big") if size else minor
    must(major != 6, "tag")
    if major in (2, 3):
        must(minor != 31, "string in pieces")
        must(len(stream.read(n)) == n, "cut off")
    elif major in (4, 5):
        must(depth < MAX_DEPTH, "deep")
        must(minor == 31 or n <= MAX_ENTRIES, "long")
        count = 0
        while minor == 31 or count < n:
            if minor == 31 and stream.getvalue()[stream.tell() : stream.tell() + 1] == b"\xff":
                stream.read(1)
                break
            must(count < MAX_ENTRIES, "long")
            for _ in range(major - 3):
                look_at(stream, depth + 1)
            count += 1
    elif major == 7:
        must(minor in (20, 21, 22, 23, 25, 26, 27), "simple value")
    else:
        must(minor != 31, "no head")


def strict(data):
    stream = io.BytesIO(data)
    look_at(stream, 0)
    must(stream.tell() == len(data), "something follows")
    try:
        return cbor2.loads(data, allow_duplicate_keys=False)
    except cbor2.CBORError as e:
        raise Refused(f"CBOR: {e}") from None


def verify_chain(root, bundle, leaf, at):
    """RFC 5280 §6, as far as these certificates go: each signed by the one before, all of them valid, CAs where they issue, path lengths, usages."""
    must(len(bundle) - 1 <= MAX_BETWEEN, "too many certificates")
    must(bundle[0] == root, "another root")
    must(len(set(bundle + [leaf])) == len(bundle) + 1, "a certificate twice")
    try:
        chain = [x509.load_der_x509_certificate(der) for der in bundle + [leaf]]
        extensions = [one.extensions for one in chain]
        keys = [one.public_key() for one in chain]
    except Exception as e:
        raise Refused(f"certificate: {e}") from None
    moment = datetime.datetime.fromtimestamp(at, UTC)
    known = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)
    for i, (one, its) in enumerate(zip(chain, extensions)):
        must(one.version == x509.Version.v3, "version")
        must(one.not_valid_before_utc <= moment <= one.not_valid_after_utc, f"certificate {i} is not valid at the time")
        must(all(isinstance(e.value, known) for e in its if e.critical), f"certificate {i} has a critical extension")
        find = lambda kind: next((e.value for e in its if isinstance(e.value, kind)), None)
        constraints, usage, extended = find(x509.BasicConstraints), find(x509.KeyUsage), find(x509.ExtendedKeyUsage)
        is_leaf = i == len(chain) - 1
        must(bool(constraints and constraints.ca) != is_leaf, f"certificate {i} is, or is not, a CA's")
        must(usage is None or (usage.digital_signature if is_leaf else usage.key_cert_sign), f"certificate {i} is for something else")
        must(extended is None or i == 0 or ExtendedKeyUsageOID.CLIENT_AUTH in extended, f"certificate {i} is for something else")
        if not is_leaf and constraints.path_length is not None:
            must(len(chain) - 2 - i <= constraints.path_length, f"certificate {i} allows fewer below it")
        if i:
            try:
                one.verify_directly_issued_by(chain[i - 1])
            except (InvalidSignature, ValueError, TypeError) as e:
                raise Refused(f"certificate {i} is not issued by the one above: {e}") from None
    return keys[-1]


def verify_document(document, root, at, *, nonce=None, user_data=None, public_key=None, pcrs=None, module_id=None, kind=None, max_age=None):
    """The document's fields, if it is proven at the Unix time `at` by `root` (DER), and all that is given is in it. Raises Refused."""
    must(len(document) <= MAX_LEN, "too long")
    envelope = strict(document[1:] if document[:1] == b"\xd2" else document)
    must(isinstance(envelope, list) and len(envelope) == 4, "no COSE_Sign1")
    protected, unprotected, payload, signature = envelope
    must(all(isinstance(part, bytes) for part in (protected, payload, signature)) and isinstance(unprotected, dict), "no COSE_Sign1")
    must(strict(protected) == {1: -35} and not unprotected and len(signature) == 96, "no ES384 alone")
    fields = strict(payload)
    must(isinstance(fields, dict) and all(isinstance(name, str) for name in fields), "no map of names")
    of = lambda name, kind: fields[name] if type(fields.get(name)) is kind and (kind is int or fields[name]) else must(False, name)
    must(of("timestamp", int) >= 0, "timestamp")
    of("module_id", str), of("digest", str), of("certificate", bytes)
    must(all(type(one) is bytes and one for one in of("cabundle", list)), "cabundle")
    must(("pcrs" in fields) != ("nitrotpm_pcrs" in fields), "two kinds of registers, or none")
    its_kind = "pcrs" if "pcrs" in fields else "nitrotpm_pcrs"
    registers = of(its_kind, dict)
    must(all(type(i) is int and 0 <= i < 32 and type(v) is bytes and len(v) == 48 for i, v in registers.items()), "registers")
    for name in ("public_key", "user_data", "nonce"):
        must(fields.get(name) is None or type(fields[name]) is bytes, name)

    key = verify_chain(root, fields["cabundle"], fields["certificate"], at)
    must(isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1), "no key on P-384")
    der = utils.encode_dss_signature(int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big"))
    try:
        key.verify(der, to_be_signed(protected, payload), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise Refused("signature") from None

    must(fields["digest"] == "SHA384", "digest")
    must(kind in (None, its_kind), "kind")
    must(module_id in (None, fields["module_id"]), "module_id")
    for name, wanted in (("nonce", nonce), ("user_data", user_data), ("public_key", public_key)):
        must(wanted is None or fields.get(name) == wanted, name)
    for register, wanted in (pcrs or {}).items():
        must(registers.get(register) == wanted, f"register {register}")
    if max_age is not None:
        age = at * 1000 - fields["timestamp"]
        must(-300_000 <= age <= max_age * 1000, "age")
    return fields


def main(command, *arguments):
    if command == "document":
        folder = Path(arguments[0])
        pki, recipient = make_pki(), private_key("recipient")
        public = recipient.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        document = make_document(pki, nonce=b"a nonce", user_data=b"user data", public_key=public)
        for name, content in (("root.pem", pki.root_pem()), ("document.cbor", document), ("nonce", b"a nonce"), ("public.der", public)):
            (folder / name).write_bytes(content)
    elif command == "made-up":
        pki = make_pki()
        scalar = pki.key.private_numbers().private_value.to_bytes(48, "big").hex()
        document = make_document(pki, nonce=b"a nonce", user_data=b"user data", public_key=bytes(91), fields={"new": [1, {"a": b"b"}]})
        made = {"at": AT, "root": pki.root.hex(), "key": scalar, "document": document.hex()}
        text = json.dumps(made, indent=2) + "\n"
        print(text, end="") if "-" in arguments else Path(__file__).with_name("made-up.json").write_text(text)
    elif command == "mutated":
        import mutated

        for case in mutated.cases(int(arguments[0]), int(arguments[1])):
            print(json.dumps(case))
    elif command == "verify":
        root = x509.load_pem_x509_certificate(Path(arguments[0]).read_bytes()).public_bytes(Encoding.DER)
        nonce = bytes.fromhex(arguments[2]) if len(arguments) > 2 else None
        try:
            verify_document(sys.stdin.buffer.read(), root, int(arguments[1]), nonce=nonce)
        except Refused as why:
            sys.exit(f"refused: {why}")
        print("proven")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["help"]))
