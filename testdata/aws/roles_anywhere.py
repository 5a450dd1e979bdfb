"""An IAM Roles Anywhere for tests: verifies what it is sent by an implementation of its own, written from Amazon's description of the signing process
("Signing process for Roles Anywhere authentication"), with `cryptography` for certificates and signatures.

Prints its port, then a line of JSON for each request that it took. All names and keys are test data.

Usage: roles_anywhere.py --anchor FILE [--lifetime SECONDS] [--clock SECONDS] [--region REGION] [--tamper WHAT]
--tamper changes each request before it is looked at, as somebody in between would: body, query, serial, signature, raw, chain, algorithm, certificate.
What happens next is set as cloud/service.py tells.
"""

import argparse
import base64
import datetime
import hashlib
import json
import os
import re
import sys
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cloud"))
from service import Refused, control, now, serve  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--anchor", required=True)
parser.add_argument("--lifetime", type=int, default=0, help="of sessions, instead of what is asked for")
parser.add_argument("--clock", type=int, default=0, help="seconds that this service's clock is ahead")
parser.add_argument("--region", default="eu-west-1")
parser.add_argument("--tamper")
arguments = parser.parse_args()
anchor = x509.load_pem_x509_certificate(open(arguments.anchor, "rb").read())
control["clock"] = arguments.clock
sessions = 0


def refused(message, status=403, kind="AccessDeniedException"):
    return Refused(status, {"message": message}, {"x-amzn-ErrorType": kind})


def issued_by(certificate, issuer):
    try:
        certificate.verify_directly_issued_by(issuer)
        return True
    except (ValueError, TypeError, InvalidSignature):
        return False


def must_lead_to_anchor(leaf, chain):
    moment = datetime.datetime.fromtimestamp(now(), datetime.timezone.utc)
    at = leaf
    for issuer in [*chain, anchor]:
        if not at.not_valid_before_utc <= moment <= at.not_valid_after_utc:
            raise refused("Untrusted certificate. Certificate expired or not yet valid")
        if not issued_by(at, issuer):
            raise refused("Untrusted certificate. Insufficient certificate")
        at = issuer
    if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise refused("Untrusted certificate. The end entity is a CA")


def canonical(method, path, query, headers, signed, body):
    names = [name.strip().lower() for name in signed]
    if names != sorted(names):
        raise refused("signed headers out of order")
    pairs = sorted(tuple(quote(part, safe="-_.~") for part in pair.partition("=")[::2]) for pair in query.split("&") if pair)
    lines = [method, quote(path, safe="/-_.~"), "&".join(f"{name}={value}" for name, value in pairs)]
    lines += [f"{name}:{' '.join(headers[name].split())}" for name in names]
    lines += ["", ";".join(names), hashlib.sha256(body).hexdigest()]
    return "\n".join(lines)


def verified(method, target, headers, body):
    """The call's parameters, if all is right."""
    match = re.fullmatch(
        r"(AWS4-X509-(RSA|ECDSA)-SHA256) Credential=(\d+)/(\d{8})/([\w-]+)/(\w+)/aws4_request, SignedHeaders=([\w;-]+), Signature=([0-9a-f]+)",
        headers.get("Authorization", ""),
    )
    if not match:
        raise refused("no signature that is understood")
    algorithm, kind, serial, day, region, service, signed, signature = match.groups()
    signed, signature = signed.split(";"), bytes.fromhex(signature)
    wanted = {"content-type", "host", "x-amz-date", "x-amz-x509"} | ({"x-amz-x509-chain"} if headers.get("X-Amz-X509-Chain") else set())
    if not wanted <= set(signed):
        raise refused("not signed: " + " ".join(sorted(wanted - set(signed))))
    if (region, service) != (arguments.region, "rolesanywhere"):
        raise refused("signed for another region or service")
    stamp = headers["X-Amz-Date"]
    if day != stamp[:8] or abs(now() - datetime.datetime.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()) > 300:
        raise refused("Signature not within the time: " + stamp)
    leaf = x509.load_der_x509_certificate(base64.b64decode(headers["X-Amz-X509"], validate=True))
    chain = [x509.load_der_x509_certificate(base64.b64decode(one, validate=True)) for one in headers.get("X-Amz-X509-Chain", "").split(",") if one]
    if len(chain) > 5:
        raise refused("too many certificates", 400, "ValidationException")
    if leaf.serial_number != int(serial):
        raise refused("the serial number is another one's")
    must_lead_to_anchor(leaf, chain)
    path, _, query = target.partition("?")
    text = canonical(method, path, query, headers, signed, body)
    scope = f"{day}/{region}/{service}/aws4_request"
    to_sign = "\n".join([algorithm, stamp, scope, hashlib.sha256(text.encode()).hexdigest()]).encode()
    key = leaf.public_key()
    try:
        if kind == "RSA" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, to_sign, padding.PKCS1v15(), hashes.SHA256())
        elif kind == "ECDSA" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, to_sign, ec.ECDSA(hashes.SHA256()))
        else:
            raise refused("the algorithm is not the key's")
    except (InvalidSignature, ValueError):
        raise refused("The signature does not match")
    call = json.loads(body)
    if not 900 <= call["durationSeconds"] <= 43200:
        raise refused("durationSeconds", 400, "ValidationException")
    if call["trustAnchorArn"].endswith(":trust-anchor/disabled"):
        raise refused("Trust anchor disabled")
    return call, leaf


def tampered(method, target, headers, body):
    what = arguments.tamper
    name, _, rest = headers["Authorization"].partition(" ")
    signature = rest.rpartition("=")[2]
    if what == "body":
        body = body.replace(b"role/app", b"role/adm")
    elif what == "query":
        target += "?x=1"
    elif what == "serial":
        rest = re.sub(r"Credential=\d+", "Credential=1", rest)
    elif what == "signature":
        rest = rest.replace(signature, signature[:-1] + ("0" if signature[-1] != "0" else "1"))
    elif what == "raw":
        r, s = decode_dss_signature(bytes.fromhex(signature))
        rest = rest.replace(signature, f"{r:064x}{s:064x}")
    elif what == "chain":
        del headers["x-amz-x509-chain"]
        rest = rest.replace(";x-amz-x509-chain", "")
    elif what == "algorithm":
        name = "AWS4-X509-RSA-SHA256" if "ECDSA" in name else "AWS4-X509-ECDSA-SHA256"
    elif what == "certificate":
        headers["x-amz-x509"] = headers["x-amz-x509-chain"].split(",")[0]
    headers["authorization"] = f"{name} {rest}"
    return method, target, headers, body


def answer(method, target, fields, body):
    global sessions
    request = method, target, fields, body
    method, target, fields, body = tampered(*request) if arguments.tamper else request
    if target.partition("?")[0] != "/sessions":
        raise refused("no such operation", 404, "UnknownOperationException")
    call, leaf = verified(method, target, fields, body)
    print(json.dumps(call), flush=True)
    sessions += 1
    end = datetime.datetime.fromtimestamp(now() + (arguments.lifetime or call["durationSeconds"]), datetime.timezone.utc)
    name = call.get("roleSessionName", str(leaf.serial_number))
    credentials = {
        "accessKeyId": f"ASIATESTANYWHERE{sessions:04}",
        "secretAccessKey": f"test data, secret of session {sessions}",
        "sessionToken": f"test/data/anywhere/{sessions}==",
        "expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    user = {"arn": f"arn:aws:sts::123456789012:assumed-role/app/{name}", "assumedRoleId": f"AROATEST:{name}"}
    one = {"assumedRoleUser": user, "credentials": credentials, "packedPolicySize": 1, "roleArn": call["roleArn"]}
    return 201, {"credentialSet": [one], "subjectArn": "arn:aws:rolesanywhere:eu-west-1:123456789012:subject/s"}


serve(answer)
