#!/usr/bin/env python3
"""An EKM-OTP server for interoperability tests: one kid, one name, HTTP/1.1, a thread for each connection. Not for production.

ekm_otp_server.py --certificate server.pem --private-key server.key --kid client1 --secret-file client1.b64 --server-name localhost

GET /whoami answers with kid, credential, profile and the token's extra claims, any other request with `ok`.
"""
import argparse, base64, hmac, io, json, re, socket, struct, sys, threading, time

from jwcrypto import jwe, jwk, jws
from jwcrypto.common import JWException
from OpenSSL import SSL

from ekm_otp_client import Stream, b64url, derive, go_api_key, go_key, ip

LEEWAY, WINDOW, FAILURES, PROBE = 60, 1024, 8, "/.well-known/ekm-otp"
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
PARAMETER = re.compile(rf'({TOKEN})[ \t]*=[ \t]*(?:({TOKEN})|"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*)")')
KID = re.compile(r"[A-Za-z0-9._~@:/+-]{1,128}")

class Answer(Exception):
    """Ends the checks with a status, and for a 401 with the reason that the client may know: by default with none."""
    def __init__(self, status=401, error=None): self.status, self.error = status, error

# --- Strict reading
def unb64url(text, length=None):
    """Canonical: no padding, no other alphabet, unused bits zero."""
    try: data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except ValueError: raise Answer from None
    if b64url(data) != text or length not in (None, len(data)): raise Answer
    return data

def json_object(data):
    """None if it is not one, or has a name twice: the last would win here, and another reader may take the first."""
    twice = []  # for each object, the outermost comes last
    def members(pairs):
        twice.append(len(dict(pairs)) != len(pairs))
        return dict(pairs)
    try: value = json.loads(data.decode("utf-8"), object_pairs_hook=members, parse_constant=int)  # int fails on NaN, which is no JSON
    except (ValueError, RecursionError): return None
    return value if isinstance(value, dict) and not twice[-1] else None

def open_jws(key, header, token):
    """The payload. Header and form are checked here, the MAC by jwcrypto, which may use HS256 alone."""
    parts = token.split(".")
    if len(parts) != 3 or json_object(unb64url(parts[0])) != {"alg": "HS256", **header}: raise Answer
    unb64url(parts[1]), unb64url(parts[2], 32)
    signed = jws.JWS()
    signed.allowed_algs = ["HS256"]
    try: signed.deserialize(token, jwk.JWK(kty="oct", k=b64url(key)), "HS256")
    except JWException: raise Answer from None
    return signed.payload

def open_jwe(key, kid, token):
    """The token in it."""
    parts = token.split(".")
    header = {"alg": "dir", "enc": "A256GCM", "cty": "JWT", "typ": "JWT", "kid": kid}
    if len(parts) != 5 or parts[1] or json_object(unb64url(parts[0])) != header: raise Answer
    unb64url(parts[2], 12), unb64url(parts[3]), unb64url(parts[4], 16)
    box = jwe.JWE(algs=["dir", "A256GCM"])
    try: box.deserialize(token, jwk.JWK(kty="oct", k=b64url(key)))
    except JWException: raise Answer from None
    return box.payload.decode("latin-1")  # what is no base64url is refused by the caller

def parameters(field):
    """The auth-params of a field value without its scheme. Empty list elements do not count."""
    found, rest = {}, field.lstrip(" ")
    while rest:
        match = PARAMETER.match(rest)
        if match:
            name, rest = match[1].lower(), rest[match.end():].lstrip(" \t")
            if name in found: raise Answer
            found[name] = match[2] if match[2] is not None else re.sub(r"\\(.)", r"\1", match[3])
        if rest and rest[0] != ",": raise Answer
        rest = rest[1:].lstrip(" \t")
    if len(found) > 16: raise Answer
    return found

def authority_of(host):
    """Host and port, the host as the server name is normalised; 443 where there is none."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", host)
    if not match or int(match[2] or 443) > 65535: raise Answer(421)
    return match[1].lower().removesuffix("."), int(match[2] or 443)

# --- One connection
class Connection:
    def __init__(self, tls, options):
        self.tls, self.options, self.stream = tls, options, io.BufferedReader(Stream(tls))
        self.failures, self.top, self.seen = 0, 0, set()
        name = (tls.get_servername() or b"").decode("ascii").lower().removesuffix(".")
        self.server_name = "" if ip(name) else name
        if options.profile == "v1":
            self.channel, self.t = derive(tls, options.secret, options.kid, self.server_name)
            _, self.nobody = derive(tls, b"stands for the secret of unknown kids", "nobody", self.server_name)

    def read_head(self):  # -> method, target and fields; None at the end, and for what is no request
        lines = []
        while True:
            line = self.stream.readline(16384)
            if not line.endswith(b"\r\n"): return None
            if line == b"\r\n": break
            lines.append(line[:-2].decode("latin-1"))
            if len(lines) > 100: return None  # enough for a test
        request = re.fullmatch(rf"({TOKEN}) ([!-~]+) HTTP/1\.1", lines[0] if lines else "")
        fields = [re.fullmatch(rf"({TOKEN}):[ \t]*(.*?)[ \t]*", line) for line in lines[1:]]
        if not request or not all(fields): return None
        return request[1], request[2], [(field[1].lower(), field[2]) for field in fields]

    def serve(self):
        while head := self.read_head():
            method, target, fields = head
            named = lambda name: [value for field, value in fields if field == name]
            length, close = named("content-length") or ["0"], "close" in ",".join(named("connection")).lower()
            if named("transfer-encoding") or len(length) > 1 or not re.fullmatch("[0-9]{1,6}", length[0]): return
            self.stream.read(int(length[0]))
            status, body, more = 200, b"ok\n", []
            try:
                verified = self.check_go(named) if self.options.profile == "go" else self.check_v1(method, target, named)
                if self.options.profile == "v1": more.append(f'Authentication-Info: proof="{b64url(verified.pop("proof"))}"')
                path = target.partition("?")[0]
                if self.options.profile == "v1" and path == PROBE: status, body = 204, b""
                elif path == "/whoami": body = json.dumps({**verified, "profile": self.options.profile}).encode() + b"\n"
            except Answer as answer:
                status, body = answer.status, b""
                if status == 405: more.append("Allow: GET")
                if status == 401:
                    error = f', error="{answer.error}"' if answer.error else ""
                    if self.options.profile == "v1": more.append(f'WWW-Authenticate: EKM-OTP realm="python"{error}')
                    self.failures += 1
                    close = close or self.failures >= FAILURES
            if status != 204: more.append(f"Content-Length: {len(body)}")
            if close: more.append("Connection: close")
            self.tls.sendall("\r\n".join([f"HTTP/1.1 {status} ", *more, "", ""]).encode() + (body if method != "HEAD" else b""))
            if close: return

    def check_v1(self, method, target, named):
        """Section 13 of the protocol, in its order."""
        fields, options = named("authorization"), self.options
        if len(fields) != 1 or len(fields[0]) > 4096: raise Answer
        scheme, space, rest = fields[0].partition(" ")
        if scheme.lower() != "ekm-otp" or not space: raise Answer
        found = parameters(rest)
        kinds = [kind for kind in ("otp", "jws", "jwe") if kind in found]
        if len(kinds) != 1 or not KID.fullmatch(found.get("kid", "")) or "channel" not in found: raise Answer
        kind, kid, channel, value = kinds[0], found["kid"], unb64url(found["channel"], 16), found[kinds[0]]
        if kind == "otp": value = unb64url(value, 32)
        if self.server_name != ("" if ip(options.server_name) else options.server_name): raise Answer
        if not hmac.compare_digest(channel, self.channel): raise Answer(401, "channel")
        # An unknown kid is checked with some other secret: it costs the same and is refused whatever it shows.
        t = self.t if kid == options.kid else self.nobody
        if kind == "otp" and not hmac.compare_digest(value, t("client otp")): raise Answer
        if kind == "jwe": value = open_jwe(t("client jwe"), kid, value)
        payload = None if kind == "otp" else open_jws(t("client jws"), {"typ": "ekm-otp+jwt", "kid": kid}, value)
        if kid != options.kid: raise Answer
        # The client is authenticated. There is one kid only, so the connection is pinned to it already.
        if options.credential not in (None, kind): raise Answer(401, "credential")
        hosts = named("host")
        if len(hosts) != 1: raise Answer(400)
        host, port = authority_of(hosts[0])
        if host.strip("[]") != options.server_name: raise Answer(421)
        if not target.startswith("/"): raise Answer(400)
        if target.partition("?")[0] == PROBE and method != "GET": raise Answer(405)
        claims = {}
        if payload is not None:
            aud = f"https://{host}" + (f":{port}" if port != 443 else "")
            claims = self.check_claims(payload, {"aud": aud, "htm": method, "htu": target})
        return {"kid": kid, "credential": kind, "claims": claims, "proof": t("server proof")}

    def check_claims(self, payload, request):
        """The caller's own claims. n is consumed last, by a request that has passed everything else."""
        wrong = Answer(401, "claims")
        claims = json_object(payload)
        if claims is None or not all(type(claims.get(name)) is str for name in request): raise wrong
        if not all(type(claims.get(name)) is int for name in ("n", "iat", "exp")): raise wrong  # True and 1.0 are no int
        n, iat, exp, now = claims["n"], claims["iat"], claims["exp"], time.time()
        if not 1 <= n < 2 ** 53 or "nbf" in claims: raise wrong
        if not 0 <= exp - iat <= 60 or iat > now + LEEWAY or now > exp + LEEWAY: raise Answer(401, "time")
        if any(claims[name] != value for name, value in request.items()): raise wrong
        if n <= self.top - WINDOW or n in self.seen: raise wrong
        self.top = max(self.top, n)
        self.seen = {old for old in self.seen | {n} if old > self.top - WINDOW}
        return {name: value for name, value in claims.items() if name not in (*request, "n", "iat", "exp")}

    def check_go(self, named):
        """The wire of the Go original. Its server proves nothing, and its tokens may be replayed on their connection."""
        bearer, clients, keys, kid = named("authorization"), named("client"), named("apikey"), self.options.kid
        if bearer and (clients or keys) or len(bearer) > 1 or len(clients) > 1 or len(keys) > 1: raise Answer
        if not bearer:
            right = base64.b64encode(go_api_key(self.tls, self.options.secret, kid))
            if not keys or not hmac.compare_digest(keys[0].encode("latin-1"), right) or clients != [kid]: raise Answer
            kind, claims = "otp", {}
        else:
            scheme, _, token = bearer[0].partition(" ")
            if scheme.lower() != "bearer" or len(token) > 4096: raise Answer
            kind = "jwe" if token.count(".") == 4 else "jws"
            if kind == "jwe": token = open_jwe(go_key(self.tls, self.options.secret, b"enc_key"), kid, token)
            claims = json_object(open_jws(go_key(self.tls, self.options.secret, b"sig_key"), {}, token))
            if claims is None: raise Answer
            times = [claims.get("exp", float("inf")), claims.get("nbf", 0)]
            if not all(type(value) in (int, float) for value in times): raise Answer
            if time.time() > times[0] + LEEWAY or time.time() < times[1] - LEEWAY: raise Answer
        if self.options.credential not in (None, kind): raise Answer
        return {"kid": kid, "credential": kind, "claims": claims}

# --- TLS
def handle(context, tcp, options):
    tls = SSL.Connection(context, tcp)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 30, 0))
        tls.set_accept_state()
        tls.do_handshake()  # ends with the client's Finished, so nothing is sent before it
        if tls.get_protocol_version() == SSL.TLS1_2_VERSION and SSL._lib.SSL_get_extms_support(tls._ssl) != 1:
            raise ValueError("TLS 1.2 without extended master secret")
        Connection(tls, options).serve()
        tls.shutdown()
    except (SSL.Error, OSError, ValueError) as error:
        print(f"connection ended: {str(error) or type(error).__name__}", file=sys.stderr, flush=True)
    finally:
        tcp.close()

def main():
    arguments = argparse.ArgumentParser(description="EKM-OTP server in Python, for tests")
    arguments.add_argument("--listen", default="127.0.0.1:0")
    for name in ["certificate", "private-key", "kid", "secret-file", "server-name"]: arguments.add_argument("--" + name, required=True)
    arguments.add_argument("--profile", choices=["v1", "go"], default="v1")
    arguments.add_argument("--credential", choices=["otp", "jws", "jwe"], help="the only kind that is taken")
    for name in ["--tls12", "--tls12-only"]: arguments.add_argument(name, action="store_true")  # -only: to try TLS 1.2
    options = arguments.parse_args()
    with open(options.secret_file) as file: text = file.read().strip()
    options.secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION if options.tls12 or options.tls12_only else SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_2_VERSION if options.tls12_only else SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # TLS 1.2 must not be resumed
    context.use_certificate_chain_file(options.certificate)
    context.use_privatekey_file(options.private_key)
    context.set_alpn_select_callback(lambda _, offered: b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS)
    host, _, port = options.listen.rpartition(":")
    with socket.create_server((host, int(port))) as listener:
        print(f"listening on {host}:{listener.getsockname()[1]}", flush=True)
        while True:
            tcp, _ = listener.accept()
            threading.Thread(target=handle, args=(context, tcp, options), daemon=True).start()

if __name__ == "__main__":
    main()
