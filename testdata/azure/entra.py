"""Entra's token endpoint for tests: verifies assertions with PyJWT against the certificates that are registered, and fails as it is told to.

Prints its port, then a line of JSON for each token that it gave. All names and keys are test data.

Usage: entra.py --registered CERTIFICATE… [--certificate FILE --private-key FILE] [--lifetime SECONDS]
What happens next is set as cloud/service.py tells.
"""

import argparse
import base64
import json
import os
import sys
import time
import urllib.parse

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cloud"))
from service import Refused, control, now, serve  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--registered", nargs="+", required=True)
parser.add_argument("--certificate")
parser.add_argument("--private-key")
parser.add_argument("--lifetime", type=int, default=3599)
arguments = parser.parse_args()
control["lifetime"] = arguments.lifetime
registered = [x509.load_pem_x509_certificate(open(path, "rb").read()) for path in arguments.registered]
seen = set()

SCHEME = "https" if arguments.certificate else "http"
TENANT = "45243fbe-b73f-4f7d-8213-a104a99e428e"
CLIENT = "cffeaee2-5617-4784-8a4b-b647efd676e1"


def aadsts(number, text, error="invalid_client", status=401):
    body = {"error": error, "error_description": f"AADSTS{number}: {text} Trace ID: test", "error_codes": [number]}
    return Refused(status, body)


def thumbprint(certificate, algorithm):
    return base64.urlsafe_b64encode(certificate.fingerprint(algorithm)).rstrip(b"=").decode()


def verified(assertion, audience):
    header = jwt.get_unverified_header(assertion)
    name, algorithm = {"PS256": ("x5t#S256", hashes.SHA256()), "RS256": ("x5t", hashes.SHA1())}[header["alg"]]
    if header["typ"] != "JWT" or {"x5t", "x5t#S256"} & set(header) != {name}:
        raise aadsts(5002738, "Invalid JWT header.")
    # As the standard has it, without padding; msal's has some.
    found = [one for one in registered if thumbprint(one, algorithm) == header[name].rstrip("=")]
    if not found:
        raise aadsts(700027, "The certificate with identifier used to sign the client assertion is not registered on application.")
    certificate = found[0]
    if not certificate.not_valid_before_utc.timestamp() <= now() <= certificate.not_valid_after_utc.timestamp():
        raise aadsts(7000222, "The provided client secret keys or certificates are expired.")
    if "x5c" in header and base64.b64decode(header["x5c"][0]) != certificate.public_bytes(Encoding.DER):
        raise aadsts(5002738, "Invalid JWT header: x5c.")
    options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": ["aud", "iss", "sub", "exp", "jti"]}
    try:
        claims = jwt.decode(assertion, certificate.public_key(), algorithms=[header["alg"]], audience=audience, issuer=CLIENT, options=options)
    except jwt.InvalidTokenError as e:
        raise aadsts(700027, f"Client assertion failed signature validation: {e}.") from e
    # Whole seconds: what a clock told, not what a float came to.
    if any(not isinstance(claims.get(name), int) for name in ("iat", "nbf", "exp")) or not claims["jti"]:
        raise aadsts(50027, "Invalid JWT token.")
    if claims["sub"] != CLIENT:
        raise aadsts(700016, "Application with identifier was not found in the directory.")
    if not claims["nbf"] - 300 <= now() <= claims["exp"] + 300:
        raise aadsts(700024, "Client assertion is not within its valid time range.")
    return header, claims


def token(host, path, form):
    tenant = path.split("/")[1]
    if tenant != TENANT:
        raise aadsts(90002, f"Tenant '{tenant}' not found.", "invalid_request", 400)
    if form["client_id"] != [CLIENT]:
        raise aadsts(700016, "Application with identifier was not found in the directory.", "unauthorized_client", 400)
    wanted = {"grant_type": "client_credentials", "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
    if any(form[name] != [value] for name, value in wanted.items()) or len(form["scope"]) != 1:
        raise aadsts(900144, "The request body is wrong.", "invalid_request", 400)
    if not all(scope.endswith("/.default") for scope in form["scope"][0].split()):
        raise aadsts(1002012, "The provided value for scope is not valid.", "invalid_scope", 400)
    header, claims = verified(form["client_assertion"][0], f"{SCHEME}://{host}/{TENANT}/oauth2/v2.0/token")
    told = {"alg": header["alg"], "scope": form["scope"][0], "life": claims["exp"] - claims["iat"]}
    told["again"], told["x5c"] = claims["jti"] in seen, len(header.get("x5c", []))
    seen.add(claims["jti"])
    print(json.dumps(told), flush=True)
    return {"token_type": "Bearer", "expires_in": control["lifetime"], "ext_expires_in": control["lifetime"], "access_token": f"test-data.token.{time.time_ns()}"}


def answer(method, target, fields, body):
    if method == "GET" and target.split("?")[0].endswith("/.well-known/openid-configuration"):
        base = f"{SCHEME}://{fields['Host']}/{TENANT}"
        return 200, {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "issuer": f"{base}/v2.0",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        }
    return 200, token(fields["Host"], target, urllib.parse.parse_qs(body.decode(), strict_parsing=True))


serve(answer, arguments.certificate, arguments.private_key)
