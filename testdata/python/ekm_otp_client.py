#!/usr/bin/env python3
"""An EKM-OTP client, written to be read: each step is here once. One connection, one kid, HTTP/1.1.

ekm_otp_client.py https://server.example:8443/whoami --kid client1 --secret-file client1.b64 --credential jws"""
import argparse, base64, hashlib, hmac, http.client, io, ipaddress, json, re, socket, struct, sys, time
from urllib.parse import urlsplit

from cryptography import x509
from jwcrypto import jwe, jwk, jws
from OpenSSL import SSL

PROBE = "/.well-known/ekm-otp"  # here the server proves itself, before it is shown a request or a claim
class Failed(Exception): pass
def hmac_sha256(key, data): return hmac.new(key, data, hashlib.sha256).digest()
def b64url(data): return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
def lp(text): return len(text).to_bytes(2, "big") + text.encode("ascii")
def ip(host):
    try: return ipaddress.ip_address(host)
    except ValueError: return None

# --- TLS: the name in SNI, a checked certificate, and nothing exported before the handshake is over
def connect(address, host, options):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION if options.tls12 or options.tls12_only else SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_2_VERSION if options.tls12_only else SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    context.set_verify(SSL.VERIFY_PEER)
    context.load_verify_locations(options.ca) if options.ca else context.set_default_verify_paths()
    context.set_alpn_protos([b"http/1.1"])
    tcp = socket.create_connection(address, timeout=30)
    tcp.settimeout(None)  # pyOpenSSL needs a blocking socket, so the system has to keep the time
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 30, 0))
    tls = SSL.Connection(context, tcp)
    if not ip(host): tls.set_tlsext_host_name(host.encode("ascii"))
    tls.set_connect_state()
    tls.do_handshake()
    # OpenSSL has checked the chain. The name is checked here, for pyOpenSSL has no call for that. The common name does not count.
    names = tls.get_peer_certificate(as_cryptography=True).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    rest = host.partition(".")[2]  # a wildcard stands for the whole first label, above two others at least
    wanted = {host, "*." + rest} if "." in rest else {host}
    dns, ips = names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.IPAddress)
    if not (ip(host) in ips if ip(host) else wanted & {name.lower() for name in dns}):
        raise Failed(f"the certificate is not for {host}")
    # Without it an attacker can give two TLS 1.2 connections the same keying material. A private call: pyOpenSSL has no public one.
    if tls.get_protocol_version() == SSL.TLS1_2_VERSION and SSL._lib.SSL_get_extms_support(tls._ssl) != 1:
        raise Failed("TLS 1.2 without extended master secret")
    return tls

class Stream(io.RawIOBase):
    """The TLS connection as http.client takes a socket: it sends here, and reads each answer from a file of its own."""
    def __init__(self, tls): self.tls, self.sendall = tls, tls.sendall
    def makefile(self, _mode): return io.BufferedReader(Stream(self.tls))
    def readable(self): return True
    def readinto(self, buffer):
        try: return self.tls.recv_into(buffer)
        except SSL.ZeroReturnError: return 0  # a proper end of TLS; a cut connection stays an error

# --- Derivation
def derive(tls, secret, kid, server_name):
    """The channel, and T(use). The context is b"", not None: in TLS 1.2 these two differ."""
    ekm = tls.export_keying_material(b"EXPERIMENTAL-ekm-otp-v1", 48, b"")
    prk = hmac_sha256(secret, b"ekm-otp v1\0" + ekm[:32] + lp(kid) + lp(server_name))
    return ekm[32:], lambda use: hmac_sha256(prk, b"ekm-otp v1 " + use.encode() + b"\x01")  # HKDF-Expand, one block

def go_api_key(tls, secret, client):  # profile go: one block of SP 800-108's counter mode, the counter starting at 0
    return hmac_sha256(secret, bytes(4) + tls.export_keying_material(b"EXPORTER-my_label", 32, client.encode()) + b"\0\0\1\0")

def go_key(tls, secret, context):  # profile go: the context is b"sig_key" or b"enc_key"
    return hmac_sha256(secret, tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, context))

# --- Tokens and the header fields that carry them
def sign(key, header, claims):
    token = jws.JWS(json.dumps(claims))
    token.add_signature(jwk.JWK(kty="oct", k=b64url(key)), protected=json.dumps({"alg": "HS256", **header}))
    return token.serialize(compact=True)

def encrypt(key, kid, token):
    box = jwe.JWE(token, json.dumps({"alg": "dir", "enc": "A256GCM", "cty": "JWT", "typ": "JWT", "kid": kid}))
    box.add_recipient(jwk.JWK(kty="oct", k=b64url(key)))
    return box.serialize(compact=True)

class Client:
    def __init__(self, tls, options, secret, host, authority):
        self.tls, self.options, self.secret, self.authority, self.n = tls, options, secret, authority, 0
        self.http = http.client.HTTPConnection(host)
        self.http.sock, self.http.auto_open = Stream(tls), 0  # 0: never dial again by itself, the credential fits here only
        if options.profile == "v1":
            self.channel, self.t = derive(tls, secret, options.kid, "" if ip(host) else host)

    def credential(self, target):
        kind, kid, claims = self.options.credential, self.options.kid, {} if target == PROBE else dict(self.options.claim)
        if self.options.profile == "go":
            if kind == "otp":
                return {"client": kid, "apikey": base64.b64encode(go_api_key(self.tls, self.secret, kid)).decode()}
            value = sign(go_key(self.tls, self.secret, b"sig_key"), {}, {"iss": kid, "sub": kid, **claims})
            if kind == "jwe": value = encrypt(go_key(self.tls, self.secret, b"enc_key"), kid, value)
            return {"Authorization": "Bearer " + value}
        value = b64url(self.t("client otp"))
        if kind != "otp":  # a token for each request: n never comes twice on a connection
            self.n, now = self.n + 1, int(time.time())
            claims |= {"aud": "https://" + self.authority, "htm": "GET", "htu": target, "n": self.n, "iat": now, "exp": now + 60}
            value = sign(self.t("client jws"), {"typ": "ekm-otp+jwt", "kid": kid}, claims)
        if kind == "jwe": value = encrypt(self.t("client jwe"), kid, value)
        return {"Authorization": f'EKM-OTP kid="{kid}", channel="{b64url(self.channel)}", {kind}="{value}"'}

    def get(self, target):  # -> status, challenge, body, whether the server has proved itself
        self.http.request("GET", target, headers={"Host": self.authority, **self.credential(target)})
        answer, proofs = self.http.getresponse(), []
        if self.options.profile == "v1":  # a wrong proof is an error in any answer
            fields = ", ".join(answer.headers.get_all("Authentication-Info", []))
            proofs = re.findall(r'\bproof\s*=\s*"?([^",\s]*)', fields, re.IGNORECASE)
            right = b64url(self.t("server proof")).encode()
            if proofs and (len(proofs) > 1 or not hmac.compare_digest(proofs[0].encode("latin-1"), right)):
                raise Failed("the server's proof is wrong: it does not hold the secret")
        return answer.status, answer.getheader("WWW-Authenticate", ""), answer.read(), bool(proofs)

# --- The order: connect, derive, let the server prove itself, and only then send the request
def run(options):
    url = urlsplit(options.url)
    if url.scheme != "https" or not url.hostname or "@" in url.netloc: raise Failed("the URL must be https://HOST[:PORT]/PATH")
    host, port = url.hostname.removesuffix("."), url.port or 443  # urlsplit has put it into lower case
    authority = (f"[{host}]" if ":" in host else host) + (f":{port}" if port != 443 else "")
    with open(options.secret_file) as file: text = file.read().strip()
    secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if options.profile == "v1" and not 16 <= len(secret) <= 64: raise Failed("a secret has 16 to 64 bytes")
    if not re.fullmatch(r"[A-Za-z0-9._~@:/+-]{1,128}", options.kid): raise Failed("no such kid can be")
    to, _, to_port = (options.connect or f"{host}:{port}").rpartition(":")
    client = Client(connect((to.strip("[]"), int(to_port)), host, options), options, secret, host, authority)
    if options.profile == "v1":  # the server of profile go proves nothing beyond its certificate
        status, challenge, _, proved = client.get(PROBE)
        if status != 204 or not proved: raise Failed(f"the server did not prove itself, nothing was sent ({status} {challenge})")
    for _ in range(options.repeat):
        status, challenge, body, _ = client.get((url.path or "/") + (f"?{url.query}" if url.query else ""))
        sys.stdout.buffer.write(body)
        print(f"status {status}", file=sys.stderr)
        if not 200 <= status < 300: raise Failed(f"the server answered {status} {challenge}")

if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("url")
    for name in ["kid", "secret-file", "ca", "connect"]: arguments.add_argument("--" + name, required=name in ["kid", "secret-file"])
    arguments.add_argument("--credential", choices=["otp", "jws", "jwe"], default="otp")
    arguments.add_argument("--profile", choices=["v1", "go"], default="v1")
    arguments.add_argument("--claim", metavar="NAME=VALUE", action="append", default=[], type=lambda text: text.split("=", 1))
    for name in ["--tls12", "--tls12-only"]: arguments.add_argument(name, action="store_true")  # -only: to try TLS 1.2
    arguments.add_argument("--repeat", type=int, default=1)
    try: run(arguments.parse_args())
    except (Failed, SSL.Error, OSError, http.client.HTTPException, x509.ExtensionNotFound, ValueError) as error:
        sys.exit(f"ekm_otp_client: {str(error) or type(error).__name__}")
