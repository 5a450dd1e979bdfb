"""Signature Version 4, verified with botocore's own implementation, for the services of AWS that the tests play."""

import datetime
import hashlib
import re

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


class Wrong(Exception):
    """A signature that is refused: the code and the message that AWS has for it."""


def verify(service, now, secret_of, method, target, fields, body):
    """Whose request it is: its signature is computed again and compared. `secret_of(access key id)` gives secret, session token, and what is returned."""
    match = re.fullmatch(
        rf"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{{8}})/([\w-]+)/{service}/aws4_request, SignedHeaders=([\w;-]+), Signature=([0-9a-f]{{64}})",
        fields.get("Authorization", ""),
    )
    if not match:
        raise Wrong("MissingAuthenticationToken", "no signature")
    key_id, day, region, signed, signature = match.groups()
    signed = signed.split(";")
    if not {"host", "x-amz-date"} <= set(signed):
        raise Wrong("SignatureDoesNotMatch", "host and date must be signed")
    stamp = fields["X-Amz-Date"]
    age = now - datetime.datetime.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
    if age > 300:
        raise Wrong("SignatureDoesNotMatch", f"Signature expired: {stamp} is now earlier than the service's time")
    if age < -300:
        raise Wrong("SignatureDoesNotMatch", f"Signature not yet current: {stamp} is still later than the service's time")
    secret, token, who = secret_of(key_id)
    if fields.get("X-Amz-Security-Token") != token:
        raise Wrong("InvalidClientTokenId", "The security token included in the request is invalid")
    request = AWSRequest(method, f"https://{fields['Host']}{target}", {name: fields[name] for name in signed}, body)
    request.context["timestamp"] = stamp
    auth = SigV4Auth(Credentials(secret, secret), service, region)
    auth.payload = lambda request: hashlib.sha256(body).hexdigest()
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != signature or day != stamp[:8]:
        raise Wrong("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
    return key_id, who
