"""An STS for tests: verifies Signature Version 4 with botocore's own implementation, checks the clock, and fails as it is told to.

Prints its port, then a line for each call: the action and the access key id. All keys and secrets here are test data.

Usage: sts.py [--certificate FILE --private-key FILE] [--lifetime SECONDS] [--clock SECONDS]
POST /control with a JSON object sets what happens next: {"fail": [[STATUS, CODE, {FIELD: VALUE}], …], "delay": SECONDS, "clock": SECONDS}.
"""

import argparse
import datetime
import hashlib
import http.server
import json
import re
import ssl
import sys
import threading
import time
import urllib.parse
from email.utils import formatdate

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

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
control = {"fail": [], "delay": 0, "clock": arguments.clock}
lock = threading.Lock()


def now():
    return time.time() + control["clock"]


class Refused(Exception):
    def __init__(self, status, code, message, headers=()):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers)


def who(method, path, headers, body):
    """Whose request it is: its signature is computed again by botocore and compared."""
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/sts/aws4_request, SignedHeaders=([\w;-]+), Signature=([0-9a-f]{64})",
        headers.get("Authorization", ""),
    )
    if not match:
        raise Refused(403, "MissingAuthenticationToken", "no signature")
    key_id, day, region, signed, signature = match.groups()
    signed = signed.split(";")
    if not {"host", "x-amz-date"} <= set(signed):
        raise Refused(403, "SignatureDoesNotMatch", "host and date must be signed")
    stamp = headers["X-Amz-Date"]
    age = now() - datetime.datetime.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
    if age > 300:
        raise Refused(403, "SignatureDoesNotMatch", f"Signature expired: {stamp} is now earlier than the service's time")
    if age < -300:
        raise Refused(403, "SignatureDoesNotMatch", f"Signature not yet current: {stamp} is still later than the service's time")
    if key_id in USERS:
        secret, token, arn = USERS[key_id], None, "arn:aws:iam::123456789012:user/test"
    elif key_id in sessions:
        secret, token, end, arn = sessions[key_id]
        if end < now():
            raise Refused(403, "ExpiredToken", "The security token included in the request is expired")
    else:
        raise Refused(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    if headers.get("X-Amz-Security-Token") != token:
        raise Refused(403, "InvalidClientTokenId", "The security token included in the request is invalid")
    request = AWSRequest(method, f"https://{headers['Host']}{path}", {name: headers[name] for name in signed}, body)
    request.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials(USERS.get(key_id) or secret, secret), "sts", region)
    auth.payload = lambda request: hashlib.sha256(body).hexdigest()
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != signature or day != stamp[:8]:
        raise Refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
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
        raise Refused(400, "NoSuchVersion", "version")
    seconds = int(form.get("DurationSeconds", 3600))
    if action == "GetCallerIdentity":
        result = f"<Arn>{arn}</Arn><UserId>AIDATEST</UserId><Account>123456789012</Account>"
    elif action == "GetSessionToken":
        if not 900 <= seconds <= 129600:
            raise Refused(400, "ValidationError", "DurationSeconds must be from 900 to 129600")
        result = session(arn, seconds)
    elif action == "AssumeRole":
        if not form["RoleArn"].endswith(":role/app"):
            raise Refused(403, "AccessDenied", f"User: {arn} is not authorized to perform: sts:AssumeRole on resource: {form['RoleArn']}")
        role = f"arn:aws:sts::123456789012:assumed-role/app/{form['RoleSessionName']}"
        result = session(role, seconds) + f"<AssumedRoleUser><Arn>{role}</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>"
    else:
        raise Refused(400, "InvalidAction", action)
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>test</RequestId></ResponseMetadata></{action}Response>"
    )


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return formatdate(now() if timestamp is None else timestamp, usegmt=True)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/control":
            control.update(json.loads(body))
            return self.reply(200, "")
        time.sleep(control["delay"])
        with lock:
            try:
                if control["fail"]:
                    status, code, headers = control["fail"].pop(0)
                    print("failed", code, flush=True)
                    raise Refused(status, code, "as told", headers)
                key_id, arn = who(self.command, self.path, self.headers, body)
                text = body.decode() if self.command == "POST" else urllib.parse.urlsplit(self.path).query
                form = dict(urllib.parse.parse_qsl(text, strict_parsing=True))
                self.reply(200, answer(key_id, arn, form))
            except Refused as refused:
                text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{refused.code}</Code><Message>{refused}</Message></Error></ErrorResponse>"
                self.reply(refused.status, text, refused.headers)

    do_GET = do_POST

    def reply(self, status, text, headers=None):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if arguments.certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.certificate, arguments.private_key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
server.serve_forever()
