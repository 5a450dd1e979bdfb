"""An STS for tests: verifies Signature Version 4 with botocore's own implementation, checks the clock, and fails as it is told to.

Prints its port, then a line for each call: the action and the access key id. All keys and secrets here are test data.

Usage: sts.py [--certificate FILE --private-key FILE] [--lifetime SECONDS] [--clock SECONDS]
What happens next is set as cloud/service.py tells.
"""

import argparse
import datetime
import hashlib
import json
import os
import re
import sys
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cloud"))
from service import Refused, control, now, serve  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--certificate")
parser.add_argument("--private-key")
parser.add_argument("--lifetime", type=int, default=0, help="of sessions, instead of what is asked for")
parser.add_argument("--clock", type=int, default=0, help="seconds that this service's clock is ahead")
arguments = parser.parse_args()

USERS = {
    "AKIATESTTESTTESTTEST": "test/data/only+0123456789abcdefghijklmno",
    "AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # as AWS's own documents write it
}
sessions = {}  # access key id -> (secret, token, end, ARN)
control["clock"] = arguments.clock


def refused(status, code, message):
    return Refused(status, f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>")


def who(method, path, headers, body):
    """Whose request it is: its signature is computed again by botocore and compared."""
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/sts/aws4_request, SignedHeaders=([\w;-]+), Signature=([0-9a-f]{64})",
        headers.get("Authorization", ""),
    )
    if not match:
        raise refused(403, "MissingAuthenticationToken", "no signature")
    key_id, day, region, signed, signature = match.groups()
    signed = signed.split(";")
    if not {"host", "x-amz-date"} <= set(signed):
        raise refused(403, "SignatureDoesNotMatch", "host and date must be signed")
    stamp = headers["X-Amz-Date"]
    age = now() - datetime.datetime.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
    if age > 300:
        raise refused(403, "SignatureDoesNotMatch", f"Signature expired: {stamp} is now earlier than the service's time")
    if age < -300:
        raise refused(403, "SignatureDoesNotMatch", f"Signature not yet current: {stamp} is still later than the service's time")
    if key_id in USERS:
        secret, token, arn = USERS[key_id], None, "arn:aws:iam::123456789012:user/test"
    elif key_id in sessions:
        secret, token, end, arn = sessions[key_id]
        if end < now():
            raise refused(403, "ExpiredToken", "The security token included in the request is expired")
    else:
        raise refused(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    if headers.get("X-Amz-Security-Token") != token:
        raise refused(403, "InvalidClientTokenId", "The security token included in the request is invalid")
    request = AWSRequest(method, f"https://{headers['Host']}{path}", {name: headers[name] for name in signed}, body)
    request.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials(USERS.get(key_id) or secret, secret), "sts", region)
    auth.payload = lambda request: hashlib.sha256(body).hexdigest()
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != signature or day != stamp[:8]:
        raise refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
    return key_id, arn


def session(arn, seconds):
    number = len(sessions) + 1
    key_id, secret, token = f"ASIATESTTESTTEST{number:04}", f"test data, secret of session {number}", f"test/data/token/{number}=="
    seconds = arguments.lifetime or seconds
    end = now() + seconds
    sessions[key_id] = (secret, token, end, arn)
    until = datetime.datetime.fromtimestamp(end, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"<Credentials><AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
        f"<SessionToken>{token}</SessionToken><Expiration>{until}</Expiration></Credentials>"
    )


def answer(key_id, arn, form):
    action = form["Action"]
    print(action, key_id, json.dumps(form, sort_keys=True), flush=True)
    if form["Version"] != "2011-06-15":
        raise refused(400, "NoSuchVersion", "version")
    seconds = int(form.get("DurationSeconds", 3600))
    if action == "GetCallerIdentity":
        result = f"<Arn>{arn}</Arn><UserId>AIDATEST</UserId><Account>123456789012</Account>"
    elif action == "GetSessionToken":
        if not 900 <= seconds <= 129600:
            raise refused(400, "ValidationError", "DurationSeconds must be from 900 to 129600")
        result = session(arn, seconds)
    elif action == "AssumeRole":
        if not form["RoleArn"].endswith(":role/app"):
            raise refused(403, "AccessDenied", f"User: {arn} is not authorized to perform: sts:AssumeRole on resource: {form['RoleArn']}")
        role = f"arn:aws:sts::123456789012:assumed-role/app/{form['RoleSessionName']}"
        result = session(role, seconds) + f"<AssumedRoleUser><Arn>{role}</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>"
    else:
        raise refused(400, "InvalidAction", action)
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>test</RequestId></ResponseMetadata></{action}Response>"
    )


def call(method, target, fields, body):
    key_id, arn = who(method, target, fields, body)
    text = body.decode() if method == "POST" else urllib.parse.urlsplit(target).query
    return 200, answer(key_id, arn, dict(urllib.parse.parse_qsl(text, strict_parsing=True)))


serve(call, arguments.certificate, arguments.private_key)
