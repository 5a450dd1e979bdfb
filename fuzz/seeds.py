#!/usr/bin/env python3
"""Writes the seeds of the corpora, fuzz/corpus/TARGET/seed-*, from the test data. What the fuzzers found themselves stays."""

import base64
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import textwrap

FUZZ = pathlib.Path(__file__).resolve().parent
TESTDATA = FUZZ.parent / "testdata"
NUL = b"\0"


def load(name):
    return json.loads((TESTDATA / name).read_text())


def b64url_decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


# -- fields: the fields of one header section, a line each

def fields():
    for path in sorted((TESTDATA / "fields").glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            yield "\n".join(case["fields"]).encode("latin-1")
    for vector in load("v1/vectors.json")["vectors"]:
        yield from (text.encode() for text in vector.values() if text.startswith(("EKM-OTP ", "proof=")))


# -- jose: see the modes in fuzz_targets/jose.rs

def jose():
    tokens = [
        presented["token"]
        for name in ("v1/jose.json", "v1/go.json")
        for case in load(name)["cases"]
        for presented in case["presented"]
        if "token" in presented
    ]
    headers, encrypted = {3: [], 5: []}, bytes([12, 16, 0])
    payload = None
    for token in tokens:
        yield b"t" + token.encode()
        parts = token.split(".")
        if len(parts) == 3:
            yield b"v" + token.rpartition(".")[0].encode()
        try:
            decoded = [b64url_decode(part) for part in parts]
        except ValueError:
            continue
        if len(parts) in headers:
            headers[len(parts)].append(decoded[0])
        if len(parts) == 3:
            yield b"s" + decoded[0] + NUL + decoded[1]
            payload = payload or decoded[1]  # The first one is good.
    # No AES in Python's library: the target encrypts. Each JWE header around a good JWS, and a good JWE header around each JWS.
    good_jws, good_jwe = headers[3][0], headers[5][0]
    for header in dict.fromkeys(headers[5]):
        yield b"e" + encrypted + header + NUL + good_jws + NUL + payload
    for header in dict.fromkeys(headers[3]):
        yield b"e" + encrypted + good_jwe + NUL + header + NUL + payload
    for token in tokens[::20]:
        yield b"e" + encrypted + good_jwe + NUL + token.encode()
    for lengths in ([12, 12, 0], [12, 4, 0], [16, 16, 0], [1, 16, 0], [12, 16, 1], [12, 16, 32]):
        yield b"e" + bytes(lengths) + good_jwe + NUL + good_jws + NUL + payload
    for size in (3023, 3024):  # Tokens of 4096 and 4097 bytes, for the profile go.
        yield b"s" + b'{"alg":"HS256"}' + NUL + b'{"iss":"issuer"}'.ljust(size)
    # The window: up and down in small steps, over its edge, to the highest number.
    up, down, far_up = 0, 1, 2 * 40
    for steps in (
        [(up, 1)] * 4 + [(down, 2)] * 3,
        [(up, 1000), (down, 500), (up, 1023), (down, 1023), (down, 1024), (up, 1024), (down, 1023)],
        [(up, 1), (far_up, 0xFFFF), (down, 1), (down, 1), (down, 1023), (down, 1024)],
    ):
        yield b"w" + b"".join(bytes([kind]) + distance.to_bytes(2, "big") for kind, distance in steps)


# -- keyfile: DER of "ASN.1 Specification for TPM 2.0 Key Files", as it is and as PEM

def tlv(tag, content):
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big") if size > 255 else b"\x81" + bytes([size])
    return bytes([tag]) + length + content


def oid(*arcs):
    def base128(arc):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.insert(0, arc & 0x7F | 0x80)
        return bytes(digits)

    return tlv(0x06, b"".join(base128(arc) for arc in (arcs[0] * 40 + arcs[1], *arcs[2:])))


def integer(number):
    return tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def option(number, content):
    return tlv(0xA0 + number, content)


def tpm2b(content):
    return len(content).to_bytes(2, "big") + content


def words(*numbers):
    return b"".join(number.to_bytes(2, "big") for number in numbers)


TRUE, TPM_TRUE = tlv(0x01, b"\xff"), tlv(0x01, b"\x01")  # tpm2-tools write the latter
OWNER, PERSISTENT, TRANSIENT, PLATFORM = 0x40000001, 0x81000001, 0x80000000, 0x4000000C
SIGN, STORAGE = (0x00040452).to_bytes(4, "big"), (0x00030472).to_bytes(4, "big")  # TPMA_OBJECT
SHA256, AES, CFB, NULL = 0x000B, 0x0006, 0x0043, 0x0010  # TPM_ALG_ID
UNIQUE, PRIVATE = tpm2b(bytes(range(32))), tpm2b(bytes(range(100, 226)))
POINT = tpm2b(bytes(32)) * 2
HMAC = words(0x0008, SHA256) + SIGN + tpm2b(b"") + words(0x0005, SHA256) + UNIQUE
HMAC_WITH_POLICY = words(0x0008, SHA256) + SIGN + tpm2b(bytes(32)) + words(0x0005, SHA256) + UNIQUE
SEALED = words(0x0008, SHA256) + SIGN + tpm2b(b"") + words(NULL) + UNIQUE
SYMMETRIC = words(0x0025, SHA256) + STORAGE + tpm2b(b"") + words(AES, 128, CFB) + UNIQUE
ECC = words(0x0023, SHA256) + STORAGE + tpm2b(b"") + words(AES, 128, CFB, NULL, 0x0003, NULL) + POINT
RSA = words(0x0001, SHA256) + STORAGE + tpm2b(b"") + words(AES, 128, CFB, NULL, 2048) + bytes(4) + tpm2b(bytes(256))


def key(*options, kind=3, parent=OWNER, public=HMAC):
    area = tlv(0x04, tpm2b(public)) + tlv(0x04, PRIVATE)
    return tlv(0x30, oid(2, 23, 133, 10, 1, kind) + b"".join(options) + integer(parent) + area)


def keyfile():
    empty_auth, description = option(0, TRUE), option(4, tlv(0x0C, "client1 \u00e9".encode()))
    policy = tlv(0x30, tlv(0x30, option(0, integer(0x016B)) + option(1, tlv(0x04, bytes(8)))))
    policies = tlv(0x30, tlv(0x30, option(0, tlv(0x0C, b"name")) + option(1, policy)))
    pems = []
    for der in (
        key(empty_auth),
        key(option(0, TPM_TRUE)),
        key(),
        key(empty_auth, description),
        key(empty_auth, option(5, TRUE)),
        key(empty_auth, option(1, policy)),
        key(empty_auth, option(3, policies)),
        key(empty_auth, option(2, tlv(0x04, tpm2b(bytes(20)))), kind=4),
        key(empty_auth, public=SEALED, kind=5),
        *(key(empty_auth, parent=parent) for parent in (PERSISTENT, TRANSIENT, PLATFORM)),
        *(key(empty_auth, public=public) for public in (HMAC_WITH_POLICY, SEALED, SYMMETRIC, ECC, RSA)),
    ):
        yield der
        lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
        pems.append("\n".join(["-----BEGIN TSS2 PRIVATE KEY-----", *lines, "-----END TSS2 PRIVATE KEY-----", ""]).encode())
    yield from pems
    yield pems[0] + pems[1]
    yield pems[0].replace(b"\n", b"\r\n") + b"\n \n"


# -- policy: JSON of "TCG TSS 2.0 JSON Data Types and Policy Language"

def policy():
    def pcr(number, bank, size, **more):
        return {"pcr": number, "hashAlg": bank, "digest": bytes(range(size)).hex(), **more}

    password, clear = {"type": "POLICYAUTHVALUE"}, {"type": "POLICYPASSWORD", "name": "remark"}
    one = {"type": "POLICYPCR", "pcrs": [pcr(23, "TPM2_ALG_SHA256", 32)]}
    banks = {"type": "PolicyPCR", "pcrs": [pcr(7, "sha256", 32), pcr(0, "SHA1", 20), pcr(0, "sha256", 32), pcr(8, "TPM_ALG_SHA384", 48)]}
    now = {"type": "PCR", "currentPCRandBanks": [{"hash": "sha256", "pcrSelect": [0, 7]}, {"hash": "sha1", "pcrSelect": [23]}]}
    digests = [{"hashAlg": "TPM2_ALG_SHA256", "digest": "8fcd2169ab92694e0c633f1ab772842b8241bbc20288981fc7ac1eddc1fddb0e"}]
    for steps in ([one], [banks], [now], [one, password], [password, banks, clear], [{**password, "policyDigests": digests}]):
        for remarks in ({}, {"description": "a policy", "$schema": "s"}):
            yield json.dumps({**remarks, "policy": steps}).encode()
    yield json.dumps({"policyDigests": digests, "policy": [password]}).encode()
    for wrong in ({"type": "POLICYNV", "nvIndex": 1}, {"type": "PCR", "pcrs": []}, {"type": "PCR", "currentPCRs": [7]}, {**one, "nonceTPM": "00"}):
        yield json.dumps({"policy": [wrong]}).encode()


# -- document, quote, cms: a byte for the mode (see the targets), then what real machines attested, and what is made up

def document():
    genuine = load("attestation/nitrotpm-document.json")["attestation"]["nitro"]["document"]
    made_up = bytes.fromhex(load("attestation/made-up.json")["document"])
    enclave = (TESTDATA / "attestation/enclave-document.cose").read_bytes()
    for whole in (bytes.fromhex(genuine), enclave, made_up):
        yield b"\0" + whole
        yield b"\0\xd2" + whole
        # The payload: behind the protected header, no unprotected one, and a head of three bytes; before the signature with its head of two.
        yield b"\1" + whole[10:-98]


def quote():
    file = load("attestation/gcp-tdx-quote.json")
    signed = file["attestation"]["tpm"]["ecc_p256"]
    attest, signature = bytes.fromhex(signed["attest_data"]), bytes.fromhex(signed["signature"])
    yield b"\0" + attest
    yield b"\0" + tpm2b(attest)
    for public in (ECC, RSA, HMAC):
        yield b"\1" + public
        yield b"\1" + tpm2b(public)
    yield b"\2" + signature
    yield b"\2" + words(0x0018, SHA256) + POINT
    yield b"\2" + words(0x0014, SHA256) + tpm2b(bytes(256))
    values = [bytes(20)] + [bytes([i]) * 32 for i in range(9)]
    yield b"\3" + b"".join(values)
    selection = bytes([2, 0, 0, 0, 4, 0, 3, 1, 0, 0, 0, 0, 11, 0, 3, 0x81, 0x3F, 0x80, 0, 0]).ljust(132, NUL)
    digests = [len(value).to_bytes(2, "little") + value.ljust(64, NUL) for value in values]
    lists = [bytes([count, 0, 0, 0]) + b"".join(some).ljust(528, NUL) for count, some in ((8, digests[:8]), (2, digests[8:]))]
    yield b"\3" + selection + bytes([2, 0, 0, 0]) + b"".join(lists)
    yield b"\4" + bytes.fromhex("badcc0de00000001") + tpm2b(bytes(60)) + tpm2b(bytes(68))
    for pem in file["attestation"]["gcp"]["ak_cert_chain"].split("-----END CERTIFICATE-----")[:-1]:
        yield b"\5" + base64.b64decode(pem.split("-----BEGIN CERTIFICATE-----")[1])


def cms():
    for message in load("attestation/messages.json").values():
        yield b"\0" + bytes.fromhex(message)
    yield b"\1a secret"
    for mode, name in ((b"\2", "attestation/rsa.pub"), (b"\3", "attestation/rsa.pem")):
        pem = (TESTDATA / name).read_bytes()
        yield mode + pem
        yield mode + base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def event_log():
    with tempfile.TemporaryDirectory() as folder:
        for variants in ([], ["legacy"], ["locality", "insecure", "later"]):
            log = pathlib.Path(folder) / "log"
            command = [sys.executable, TESTDATA / "attestation/event_log.py", log, *variants]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            yield log.read_bytes()


for target in (fields, jose, keyfile, policy, document, quote, cms, event_log):
    corpus = FUZZ / "corpus" / target.__name__
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target():
        (corpus / f"seed-{hashlib.sha1(seed).hexdigest()}").write_bytes(seed)
