"""An STS for tests: verifies Signature Version 4 with botocore's own implementation, checks the clock, and fails as it is told to.

Prints its port, then a line for each call: the action and the access key id. All keys and secrets here are test data.

Usage: sts.py [--certificate FILE --private-key FILE] [--lifetime SECONDS] [--clock SECONDS]
What happens next is set as cloud/service.py tells.
"""

import argparse
import datetime
import json
import os
import sys
import urllib.parse

import signatures

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


def secret_of(key_id):
    if key_id in USERS:
        return USERS[key_id], None, "arn:aws:iam::123456789012:user/test"
    if key_id not in sessions:
        raise signatures.Wrong("InvalidClientTokenId", "The security token included in the request is invalid.")
    secret, token, end, arn = sessions[key_id]
    if end < now():
        raise signatures.Wrong("ExpiredToken", "The security token included in the request is expired")
    return secret, token, arn


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
    try:
        key_id, arn = signatures.verify("sts", now(), secret_of, method, target, fields, body)
    except signatures.Wrong as wrong:
        raise refused(403, *wrong.args) from None
    text = body.decode() if method == "POST" else urllib.parse.urlsplit(target).query
    return 200, answer(key_id, arn, dict(urllib.parse.parse_qsl(text, strict_parsing=True)))


serve(call, arguments.certificate, arguments.private_key)
