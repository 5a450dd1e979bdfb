"""Google's token endpoint, IAM service account credentials and STS for tests: verifies what it is sent with google-auth and PyJWT, and fails as it is told to.

Prints its port, then a line of JSON for each call that it took. All names and keys are test data.

Usage: token_services.py [--public-key FILE] [--jwks FILE] [--key-id ID] [--lifetime SECONDS] [--clock SECONDS]
What happens next is set as cloud/service.py tells.
"""

import argparse
import json
import os
import sys
import time
import urllib.parse

import jwt
from google.auth import jwt as google_jwt

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cloud"))
from service import Refused, control, now, serve  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--public-key")
parser.add_argument("--jwks")
parser.add_argument("--key-id")
parser.add_argument("--lifetime", type=int, default=3599)
parser.add_argument("--clock", type=int, default=0)
arguments = parser.parse_args()
public = open(arguments.public_key).read() if arguments.public_key else None
jwks = json.load(open(arguments.jwks)) if arguments.jwks else None
control["clock"] = arguments.clock
issued = 0

ACCOUNT = "sa@project.iam.gserviceaccount.com"
TOKEN_URI = "https://oauth2.googleapis.com/token"
PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/tpm"


def oauth(code, description, status=400):
    return Refused(status, {"error": code, "error_description": description})


def claims_of(token, audience):
    """google-auth verifies the signature; life and key id, which it lets pass, are looked at here."""
    header = jwt.get_unverified_header(token)
    if header.get("typ") != "JWT" or header["alg"] != "RS256" or header.get("kid", "") != (arguments.key_id or ""):
        raise oauth("invalid_grant", "Invalid JWT Signature.")
    try:
        claims = google_jwt.decode(token, certs=public, verify=False)
        jwt.decode(token, public, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False, "verify_aud": False})
        if abs(control["clock"]) < 5:
            google_jwt.decode(token, certs=public, audience=audience)
    except (ValueError, jwt.InvalidTokenError) as e:
        raise oauth("invalid_grant", "Invalid JWT Signature.") from e
    if type(claims["iat"]) is not int or type(claims["exp"]) is not int:
        raise oauth("invalid_grant", "Invalid JWT: times are integers")
    if not (claims["iat"] - 300 <= now() <= claims["exp"] and 0 < claims["exp"] - claims["iat"] <= 3600):
        raise oauth("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.")
    if audience is not None and claims.get("aud") != audience:
        raise oauth("invalid_grant", "Invalid JWT: Failed audience check.")
    if claims["iss"] != ACCOUNT:
        raise oauth("invalid_grant", "Invalid grant: account not found")
    return claims


def fresh(prefix):
    global issued
    issued += 1
    return f"{prefix}.test-data.{issued}"


def id_token(audience, email):
    return jwt.encode({"aud": audience, "email": email, "iat": int(now()), "exp": int(now()) + arguments.lifetime, "n": fresh("x")}, "test data " * 4, "HS256")


def token(form):
    if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
        raise oauth("unsupported_grant_type", "grant_type")
    claims = claims_of(form["assertion"], TOKEN_URI)
    if "sub" in claims and claims["sub"] != "alice@example.test":
        raise oauth("unauthorized_client", "Client is unauthorized to retrieve access tokens using this method.", 401)
    if "target_audience" in claims:
        return {"id_token": id_token(claims["target_audience"], ACCOUNT)}, {"id": claims["target_audience"]}
    told = {"scope": claims["scope"], "sub": claims.get("sub")}
    return {"access_token": fresh("ya29"), "expires_in": arguments.lifetime, "token_type": "Bearer"}, told


def impersonated(path, headers, body):
    email, _, operation = path.rpartition("/")[2].partition(":")
    kind, _, bearer = headers["Authorization"].partition(" ")
    try:
        claims = claims_of(bearer, None)
    except Refused as e:
        raise Refused(401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": e.body["error_description"]}}) from e
    if kind != "Bearer" or claims["sub"] != ACCOUNT or "cloud-platform" not in claims["scope"]:
        raise Refused(401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "token"}})
    if email != "other@project.iam.gserviceaccount.com":
        message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
        raise Refused(403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": message}})
    call = json.loads(body)
    told = {"operation": operation, **call}
    if operation == "generateAccessToken":
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now() + int(call["lifetime"].rstrip("s"))))
        return {"accessToken": fresh("ya29.other"), "expireTime": end}, told
    return {"token": id_token(call["audience"], email)}, told


def exchanged(form):
    """STS: the subject token is verified against the uploaded key set."""
    if form["subject_token_type"] != "urn:ietf:params:oauth:token-type:jwt" or form["audience"] != PROVIDER:
        raise oauth("invalid_request", "type or audience")
    header = jwt.get_unverified_header(form["subject_token"])
    keys = [jwt.PyJWK(key) for key in jwks["keys"] if key["kid"] == header["kid"]]
    if not keys:
        raise oauth("invalid_grant", "no such key")
    try:
        claims = jwt.decode(
            form["subject_token"], keys[0], algorithms=["RS256", "ES256"], audience=PROVIDER, issuer="https://machines.example.test"
        )
    except jwt.InvalidTokenError as e:
        raise oauth("invalid_grant", str(e)) from e
    answer = {
        "access_token": fresh("federated"),
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": arguments.lifetime,
    }
    return answer, {"subject": claims["sub"], "alg": header["alg"]}


def answer(method, target, fields, body):
    if target.startswith("/v1/projects/-/serviceAccounts/"):
        given, told = impersonated(target, fields, body)
    else:
        form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        given, told = {"/token": token, "/sts": exchanged}[target](form)
    print(json.dumps(told), flush=True)
    return 200, given


serve(answer)
