#!/usr/bin/env python3
"""Writes the test data of the JWS and JWE credentials: jose.json (v1) and go.json (the Go original's wire).

Like generate.py a second implementation, made from the protocol's text alone. Tokens are made here with hmac and
AES-GCM, since a JOSE library refuses to make most faulty ones; every good one is also made and read by jwcrypto. Each
token, good or faulty, is judged by the small strict verifier below, and must get the verdict written beside it.

All secrets in here are test data and used nowhere else.

    pip install jwcrypto==1.6.1
    python3 testdata/v1/generate_jose.py            rewrites jose.json and go.json beside it
    python3 testdata/v1/generate_jose.py --check    exits 1 and names each file that differs
"""

import base64
import hashlib
import hmac
import json
import re
import sys
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True  # no __pycache__ among the test data

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from generate import (CHANNEL, EKM, KID, MAX_FIELD, NAME, PLUS_AND_SLASH, SECRET, b64url, extract, hmac_sha256,
                      labelled, mac_input, padded, standard_alphabet, t, trailing_bit_set)

HERE = Path(__file__).resolve().parent


# ---------------------------------------------------------------- keys and faultless values

def prk(ekm=EKM, kid=KID, server_name=NAME):
    return extract(SECRET, mac_input(ekm, kid, server_name))


PRK = prk()
JWS_KEY, JWE_KEY = t(PRK, "client jws"), t(PRK, "client jwe")

NOW = 1800000000
LEEWAY = LONGEST = 60
WINDOW = 1024
MAX_N = 2**53 - 1

REQUEST = {"method": "GET", "target": "/get?x=1", "authority": NAME}
JWS_HEADER = {"alg": "HS256", "typ": "ekm-otp+jwt", "kid": KID}
JWE_HEADER = {"alg": "dir", "enc": "A256GCM", "cty": "JWT", "typ": "JWT", "kid": KID}
CLAIMS = {"aud": f"https://{NAME}", "htm": "GET", "htu": "/get?x=1", "n": 1, "iat": NOW - 5, "exp": NOW + 25}


def js(value):
    """Compact JSON; bytes are taken as they are, so that a caller can write what json.dumps never would."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def part(value):
    """One part of a token: JSON or bytes are encoded, a string is a part already (perhaps a faulty one)."""
    return value if isinstance(value, str) else b64url(js(value))


def without(value, name):
    return {k: v for k, v in value.items() if k != name}


def swap(value, old, new):
    """The JSON text of a value with one place changed"""
    text, old, new = js(value), old.encode(), new if isinstance(new, bytes) else new.encode()
    assert text.count(old) == 1, old
    return text.replace(old, new)


def spaced(value):
    """The same JSON with white space after it, so that its base64url has unused bits"""
    text = js(value)
    return text + b" " * (1 if len(text) % 3 == 0 else 0)


def with_both(make, last):
    """The first of many whose last part's base64url has both "-" and "_" """
    return next(made for made in map(make, range(999)) if {"-", "_"} <= set(last(made)))


def one_too_many(value):
    """4k + 1 characters of base64url, which no data has"""
    text = js(value)
    return b64url(text + b" " * (-len(text) % 3)) + "A"


def flipped(data, index):
    index %= len(data)
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1:]


def deflated(data):
    """One stored block, RFC 1951 section 3.2.4: what a compressor makes of it depends on the version of zlib."""
    return b"\x01" + len(data).to_bytes(2, "little") + (len(data) ^ 0xFFFF).to_bytes(2, "little") + data


def spread(text):
    """A space in the middle"""
    return text[:8] + " " + text[8:]


# ---------------------------------------------------------------- tokens by hand

def hmac_with(digest):
    return lambda key, data: hmac.new(key, data, digest).digest()


def jws(header=JWS_HEADER, claims=CLAIMS, key=JWS_KEY, mac=hmac_sha256):
    """RFC 7515 section 5.1"""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{b64url(mac(key, signed.encode('latin-1')))}"


def resigned(change):
    """A right JWS, its signature changed after"""
    head, _, signature = jws().rpartition(".")
    changed = change(unb64(signature))
    return f"{head}.{part(changed)}"


def seal(key, iv, plaintext, aad):
    if iv:
        sealed = AESGCM(key).encrypt(iv, plaintext, aad)
        return sealed[:-16], sealed[-16:]
    # No library takes an empty IV, and SP 800-38D forbids it, but its arithmetic has a result: J0 = GHASH(0) = 0, so
    # the key stream begins at block 1. The GHASH of the ciphertext is got from the tag under another IV.
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    ctr = [Cipher(algorithms.AES(key), modes.CTR(block)).encryptor() for block in
           ((1).to_bytes(16, "big"), (2).to_bytes(16, "big"))]
    ciphertext = ctr[0].update(plaintext)
    same, tag = seal(key, bytes(12), ctr[1].update(ciphertext), aad)
    assert same == ciphertext
    blocks = ecb.update((1).to_bytes(16, "big")), ecb.update(bytes(16))
    return ciphertext, bytes(a ^ b ^ c for a, b, c in zip(tag, *blocks))


def fixed_iv(header, plaintext, length=12):
    return labelled("iv " + hashlib.sha256(header.encode() + plaintext).hexdigest(), length)


def jwe_parts(plaintext=None, header=JWE_HEADER, key=JWE_KEY, iv=None, aad=None):
    """RFC 7516 section 5.1 with "dir" and "A256GCM": header, encrypted key, IV, ciphertext, tag"""
    plaintext = jws() if plaintext is None else plaintext
    plaintext, header = plaintext.encode("latin-1") if isinstance(plaintext, str) else plaintext, part(header)
    iv = fixed_iv(header, plaintext) if iv is None else iv
    return [header, b"", iv, *seal(key, iv, plaintext, header.encode() if aad is None else aad)]


def joined(parts):
    return ".".join(part(p) for p in parts)


def jwe(*args, **kwargs):
    return joined(jwe_parts(*args, **kwargs))


def changed(parts, **changes):
    """A JWE, some of its parts changed after encryption; a function is given the right one."""
    named = dict(zip(("header", "encrypted_key", "iv", "ciphertext", "tag"), parts))
    return joined((named | {k: v(named[k]) if callable(v) else v for k, v in changes.items()}).values())


def jwe_with(**changes):
    return changed(jwe_parts(), **changes)


# ---------------------------------------------------------------- the same by jwcrypto

def jwk(key):
    return JWK(kty="oct", k=b64url(key))


def jwcrypto_jws(header, claims, key=JWS_KEY, form=True):
    token = JWS(js(claims))
    token.add_signature(jwk(key), None, js(header).decode(), None)
    return token.serialize(compact=form)


def jwcrypto_jwe(plaintext, header, key=JWE_KEY, algs=("dir", "A256GCM"), form=True):
    """With our IV (and our content key, where there is one) in place of random ones"""
    plaintext = plaintext.encode() if isinstance(plaintext, str) else plaintext

    def not_random(bits):
        return fixed_iv(part(header), plaintext, bits // 8)
    with mock.patch("jwcrypto.jwa._randombits", not_random):
        return JWE(plaintext, js(header).decode(), algs=list(algs), recipient=jwk(key)).serialize(compact=form)


def jwcrypto_reads(kind, token, sig_key, enc_key):
    """The claims' bytes; raises if a signature or tag is wrong"""
    if kind == "jwe":
        outer = JWE(algs=["dir", "A256GCM"])
        outer.deserialize(token, jwk(enc_key))
        token = outer.payload.decode()
    inner = JWS()
    inner.allowed_algs = ["HS256"]
    inner.deserialize(token, jwk(sig_key))
    return inner.payload


# ---------------------------------------------------------------- a strict verifier

class Verdict(Exception):
    """What the server answers to anything that is not in order"""


def need(condition, verdict="refused"):
    if not condition:
        raise Verdict(verdict)


def unb64(text):
    need(re.fullmatch("[A-Za-z0-9_-]*", text) and len(text) % 4 != 1)
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(b64url(data) == text)
    return data


def json_object(data, verdict="refused"):
    def unique(pairs):
        need(len(dict(pairs)) == len(pairs), verdict)
        return dict(pairs)

    def no_constant(_):  # NaN, Infinity
        raise Verdict(verdict)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except ValueError:
        raise Verdict(verdict) from None
    need(isinstance(value, dict), verdict)
    return value


def open_jws(token, key, headers):
    """The payload's bytes"""
    parts = token.split(".")
    need(len(parts) == 3)
    header, payload, signature = map(unb64, parts)
    need(json_object(header) in headers)
    need(hmac.compare_digest(signature, hmac_sha256(key, token.rpartition(".")[0].encode())))
    return payload


def open_jwe(token, key, header):
    parts = token.split(".")
    need(len(parts) == 5)
    head, encrypted_key, iv, ciphertext, tag = map(unb64, parts)
    need(json_object(head) == header and encrypted_key == b"" and len(iv) == 12 and len(tag) == 16)
    try:
        return AESGCM(key).decrypt(iv, ciphertext + tag, parts[0].encode()).decode("latin-1")
    except InvalidTag:
        raise Verdict("refused") from None


def field(kind, token):
    return f'EKM-OTP kid="{KID}", channel="{CHANNEL}", {kind}="{token}"'


def verify(kind, token, request, seen):
    """The claims of a good credential; seen: the n of this connection"""
    need(len(field(kind, token)) <= MAX_FIELD)
    inner = open_jwe(token, JWE_KEY, JWE_HEADER) if kind == "jwe" else token
    claims = json_object(open_jws(inner, JWS_KEY, [JWS_HEADER]), "claims")
    need(all(isinstance(claims.get(name), str) for name in ("aud", "htm", "htu")), "claims")
    need(all(type(claims.get(name)) is int for name in ("n", "iat", "exp")), "claims")
    n, iat, exp = (claims[name] for name in ("n", "iat", "exp"))
    need(1 <= n <= MAX_N and 0 <= iat <= MAX_N and 0 <= exp <= MAX_N and "nbf" not in claims, "claims")
    need(0 <= exp - iat <= LONGEST and iat <= NOW + LEEWAY and NOW <= exp + LEEWAY, "time")
    need(claims["aud"] == "https://" + request["authority"].lower().removesuffix(":443"), "claims")
    need(claims["htm"] == request["method"] and claims["htu"] == request["target"], "claims")
    need(n > max(seen, default=0) - WINDOW and n not in seen, "claims")
    seen.add(n)
    return claims


def verdict(check, *args):
    try:
        check(*args)
        return "ok"
    except Verdict as other:
        return str(other)


# ---------------------------------------------------------------- v1: cases of both kinds

# A case is first a list of compact JWS; kind "jws" presents them as they are, kind "jwe" presents them encrypted.

def ok(claims=CLAIMS, header=JWS_HEADER):
    token = jws(header, claims)
    assert token == jwcrypto_jws(header, claims)
    read = json.loads(js(claims))
    extra = {k: v for k, v in read.items() if k not in CLAIMS}
    return {"token": token, "expect": "ok", "n": read["n"], "iat": read["iat"], "exp": read["exp"], "claims": extra}


def bad(expect, token):
    return {"token": token, "expect": expect}


def case(name, *presented, request=None):
    return {"name": name, "presented": list(presented)} | ({"request": REQUEST | request} if request else {})


def faults(expect, *named):
    return [case(name, bad(expect, token)) for name, token in named]


def n_is(n):
    return CLAIMS | {"n": n}


def times(iat, exp):
    return CLAIMS | {"iat": NOW + iat, "exp": NOW + exp}


def claim(**changes):
    return jws(claims=CLAIMS | changes)


def for_request(name, aud=CLAIMS["aud"], **request):
    request = REQUEST | request
    return case(name, ok(CLAIMS | {"aud": aud, "htm": request["method"], "htu": request["target"]}), request=request)


def good():
    extra = {"sub": "alice", "jti": "0b9e", "count": 7, "big": 2**53 + 1, "negative": -7, "ratio": 0.5, "yes": True,
             "nothing": None, "list": [1, "two", [3]], "nested": {"aud": "inner", "deeper": {"n": "not ours"}}}
    wide = b'\r\n{\t"kid" : "client1" ,\n "typ":"ekm-otp+jwt",  "alg" :\t"HS256"\r\n}\n '
    return [
        case("minimal", ok()),
        case("extra_claims", ok(CLAIMS | extra)),
        case("extra_claims_before_ours", ok(extra | CLAIMS)),
        case("extra_claims_unicode",
             ok(CLAIMS | {"name": "Zo\u00eb \u2713 \U0001f511", "\u540d\u524d": "\u592a\u90ce"})),
        case("extra_claims_unicode_escaped", ok(swap(CLAIMS, '"n"', r'"name":"Zo\u00eb \ud83d\udd11 \/ \"","n"'))),
        case("extra_claims_empty_name_and_values", ok(CLAIMS | {"": "", "a": {}, "b": []})),
        case("extra_claims_that_look_like_header", ok(CLAIMS | {"alg": "none", "kid": "client2", "crit": ["exp"]})),
        case("extra_claims_names_in_other_case", ok(CLAIMS | {"AUD": "x", "N": 0, "Nbf": NOW})),
        case("extra_claims_nested_64_deep", ok(swap(CLAIMS, '"n"', '"deep":' + "[" * 64 + "]" * 64 + ',"n"'))),
        case("header_other_order", ok(header=dict(reversed(JWS_HEADER.items())))),
        case("header_white_space", ok(header=wide)),
        case("header_escaped_name_and_value",
             ok(header=swap(swap(JWS_HEADER, "alg", r"\u0061lg"), "client1", r"client\u0031"))),
        case("claims_other_order", ok(dict(reversed(CLAIMS.items())))),
        case("claims_white_space", ok(b" " + js(CLAIMS).replace(b",", b" ,\r\n\t").replace(b'":', b'" : ') + b"\n")),
        case("claims_escaped_names_and_values", ok(swap(swap(CLAIMS, '"aud"', r'"\u0061ud"'), "/get", r"\/g\u0065t"))),
        case("n_max", ok(n_is(MAX_N))),
        case("exp_edge_of_leeway", ok(times(-90, -60))),
        case("exp_and_iat_edge_of_leeway", ok(times(-120, -60))),
        case("iat_edge_of_leeway", ok(times(60, 90))),
        case("iat_edge_of_leeway_longest", ok(times(60, 120))),
        case("exp_is_now", ok(times(-30, 0))),
        case("iat_is_now", ok(times(0, 30))),
        case("lifetime_60", ok(times(-30, 30))),
        case("lifetime_0", ok(times(0, 0))),
        case("lifetime_0_edge_of_leeway", ok(times(-60, -60))),
        for_request("target_root", target="/"),
        for_request("target_asterisk", method="OPTIONS", target="*"),
        for_request("target_empty_query", target="/get?"),
        for_request("target_unnormalised", target="//a/./../%67et;v=1?q=%2F&q=a+b&u=http://x/?y"),
        for_request("target_with_quote_and_backslash_escaped", target="/%22%5C?'"),
        for_request("method_post", method="POST"),
        for_request("method_of_our_own", method="M-SEARCH"),
        for_request("authority_port_8443", aud=f"https://{NAME}:8443", authority=f"{NAME}:8443"),
        for_request("authority_port_80", aud=f"https://{NAME}:80", authority=f"{NAME}:80"),
        for_request("authority_port_443", authority=f"{NAME}:443"),
        for_request("authority_port_4430", aud=f"https://{NAME}:4430", authority=f"{NAME}:4430"),
        for_request("authority_upper_case", authority="SERVER.Example"),
        for_request("authority_ipv6", aud="https://[::1]:8443", authority="[::1]:8443"),
        for_request("authority_ipv6_default_port", aud="https://[::1]", authority="[::1]"),
        for_request("authority_ipv4", aud="https://192.0.2.1", authority="192.0.2.1"),
    ]


def window_case(name, *numbers):
    """(n, accepted?) in this order"""
    return case(name, *(ok(n_is(n)) if accepted else bad("claims", claim(n=n)) for n, accepted in numbers))


def window():
    yes, no = True, False
    last = MAX_N
    return [
        window_case("n_in_order", (1, yes), (2, yes), (3, yes)),
        window_case("n_out_of_order", (1025, yes), (2, yes), (1024, yes), (3, yes)),
        window_case("n_with_gaps_down", (5, yes), (3, yes), (1, yes), (2, yes), (4, yes)),
        window_case("n_repeated", (1, yes), (1, no)),
        window_case("n_repeated_later", (1, yes), (2, yes), (3, yes), (2, no), (1, no), (3, no), (4, yes)),
        window_case("n_repeated_out_of_order", (9, yes), (4, yes), (4, no), (5, yes)),
        window_case("n_max_repeated", (last, yes), (last, no)),
        window_case("n_below_window_1025_then_1", (1025, yes), (1, no), (2, yes)),
        window_case("n_below_window_2000_then_900", (2000, yes), (900, no)),
        window_case("n_lower_edge_inside", (2000, yes), (977, yes), (977, no)),
        window_case("n_lower_edge_outside", (2000, yes), (976, no), (977, yes)),
        window_case("n_first_window_lower_edge", (1024, yes), (1, yes), (1, no)),
        window_case("n_max_then_window_below",
                    (last, yes), (last - 1023, yes), (last - 1024, no), (1, no), (last - 1, yes)),
        window_case("n_remembered_at_lower_edge", (1, yes), (1024, yes), (1, no), (3, yes)),
        window_case("n_leaves_window_when_top_moves", (5, yes), (1028, yes), (5, no), (1029, yes), (5, no), (6, yes)),
        window_case("n_remembered_over_moves_of_64",
                    (100, yes), (164, yes), (100, no), (228, yes), (164, no), (165, yes)),
        window_case("n_remembered_over_moves_of_63_and_65", (100, yes), (163, yes), (228, yes), (100, no), (163, no)),
        window_case("n_forgotten_one_window_later", (10, yes), (5000, yes), (4106, yes), (4106, no)),
        window_case("n_moves_by_1024", (7, yes), (1031, yes), (7, no), (8, yes), (1030, yes)),
        window_case("n_moves_by_1025", (7, yes), (1032, yes), (8, no), (9, yes), (1031, yes)),
        case("n_repeated_with_other_claims", ok(), bad("claims", claim(iat=NOW, exp=NOW, jti="other"))),
        case("n_consumed_by_no_refused_one",
             bad("refused", resigned(lambda s: flipped(s, 0))), bad("time", jws(claims=times(-91, -61))),
             bad("claims", claim(aud="https://other.example")), bad("claims", claim(htu="/")),
             bad("claims", claim(nbf=NOW)), ok(), bad("claims", jws())),
        case("n_moved_by_no_refused_one", ok(), bad("refused", jws(claims=n_is(MAX_N), key=JWE_KEY)),
             bad("time", jws(claims=times(61, 90) | {"n": MAX_N})),
             bad("claims", claim(n=MAX_N, htm="POST")), ok(n_is(2))),
    ]


def header_faults():
    h = JWS_HEADER
    text = js(h).decode()
    plus = lambda **members: jws(h | members)
    escaped_dots = js(CLAIMS).replace(b".", b"\\u002e").decode()
    return faults(
        "refused",
        ("alg_none_empty_signature", jws(h | {"alg": "none"}, mac=lambda *_: b"")),
        ("alg_none_upper_case_empty_signature", jws(h | {"alg": "NONE"}, mac=lambda *_: b"")),
        ("alg_none_right_mac", plus(alg="none")),
        ("alg_hs512", jws(h | {"alg": "HS512"}, mac=hmac_with("sha512"))),
        ("alg_hs512_hs256_mac", plus(alg="HS512")),
        ("alg_hs384", jws(h | {"alg": "HS384"}, mac=hmac_with("sha384"))),
        ("alg_lower_case", plus(alg="hs256")),
        ("alg_with_space", plus(alg="HS256 ")),
        ("alg_empty", plus(alg="")),
        ("alg_null", plus(alg=None)),
        ("alg_in_array", plus(alg=["HS256"])),
        ("alg_missing", jws(without(h, "alg"))),
        ("alg_name_upper_case", jws(swap(h, '"alg"', '"ALG"'))),
        ("typ_missing", jws(without(h, "typ"))),
        ("typ_jwt", plus(typ="JWT")),
        ("typ_upper_case", plus(typ="EKM-OTP+JWT")),
        ("typ_with_application", plus(typ="application/ekm-otp+jwt")),
        ("typ_null", plus(typ=None)),
        ("kid_missing", jws(without(h, "kid"))),
        ("kid_other", plus(kid="client2")),
        ("kid_longer", plus(kid="client11")),
        ("kid_upper_case", plus(kid="CLIENT1")),
        ("kid_with_nul", plus(kid="client1\0")),
        ("kid_number", plus(kid=1)),
        ("kid_null", plus(kid=None)),
        ("kid_empty", plus(kid="")),
        ("kid_in_array", plus(kid=[KID])),
        ("crit_empty", plus(crit=[])),
        ("crit_unknown", plus(crit=["exp"], exp=NOW)),
        ("crit_b64_true", plus(crit=["b64"], b64=True)),
        ("crit_b64_false_unencoded_payload", jws(h | {"crit": ["b64"], "b64": False}, escaped_dots)),
        ("b64_true", plus(b64=True)),
        ("b64_false_encoded_payload", plus(b64=False)),
        ("zip", plus(zip="DEF")),
        ("zip_deflated_payload", jws(h | {"zip": "DEF"}, deflated(js(CLAIMS)))),
        ("jwk", plus(jwk={"kty": "oct", "k": b64url(JWS_KEY)})),
        ("jku", plus(jku=f"https://{NAME}/jwks")),
        ("x5u", plus(x5u=f"https://{NAME}/x5u")),
        ("x5c", plus(x5c=[])),
        ("cty", plus(cty="JWT")),
        ("enc", plus(enc="A256GCM")),
        ("unknown_member", plus(note="hello")),
        ("unknown_member_empty_name", plus(**{"": ""})),
        ("claims_in_header", plus(aud=CLAIMS["aud"])),
        ("header_alg_twice_same", jws(swap(h, '"typ"', '"alg":"HS256","typ"'))),
        ("header_alg_twice_none_last", jws(swap(h, '"typ"', '"alg":"none","typ"'))),
        ("header_alg_twice_none_first", jws(swap(h, '"alg"', '"alg":"none","alg"'))),
        ("header_alg_twice_escaped", jws(swap(h, '"typ"', r'"\u0061lg":"HS256","typ"'))),
        ("header_typ_twice", jws(swap(h, '"kid"', '"typ":"JWT","kid"'))),
        ("header_kid_twice_same", jws(swap(h, "}", f',"kid":"{KID}"}}'))),
        ("header_kid_twice_other", jws(swap(h, '"kid"', '"kid":"client2","kid"'))),
        ("header_array", jws(b'["HS256","ekm-otp+jwt","client1"]')),
        ("header_array_of_object", jws(f"[{text}]".encode())),
        ("header_string", jws(js(text))),
        ("header_number", jws(b"1")),
        ("header_null", jws(b"null")),
        ("header_empty", jws(b"")),
        ("header_white_space_only", jws(b"   ")),
        ("header_empty_object", jws(b"{}")),
        ("header_trailing_garbage", jws(f"{text}x".encode())),
        ("header_trailing_nul", jws(f"{text}\0".encode())),
        ("header_two_objects", jws((text + text).encode())),
        ("header_trailing_comma", jws(swap(h, "}", ",}"))),
        ("header_single_quotes", jws(text.replace('"', "'").encode())),
        ("header_comment", jws(swap(h, "{", "{/**/"))),
        ("header_unterminated", jws(text[:-1].encode())),
        ("header_bom", jws(b"\xef\xbb\xbf" + text.encode())),
        ("header_utf_16", jws(text.encode("utf-16-le"))),
        ("header_utf_8_overlong", jws(swap(h, "alg", b"a\xc1\xacg"))),
        ("header_not_utf_8", jws(swap(h, "}", b',"note":"\xff"}'))),
        ("header_padded", jws(padded(spaced(h)))),
        ("header_trailing_bit_set", jws(trailing_bit_set(spaced(h)))),
        ("header_space_in_base64url", jws(spread(b64url(js(h))))),
        ("header_one_character_too_many", jws(one_too_many(h))),
        ("header_not_encoded", jws(text)),
    )


def token_faults():
    """Payload's and signature's encoding, signature, key, number of parts: all refused without a word"""
    signature = resigned
    head, payload, mac = jws().split(".")
    dashed = CLAIMS | {"note": "~~~???>>>~~~???>>>"}
    dashed_token = with_both(lambda i: claim(jti=i), lambda token: token.rpartition(".")[2])
    dashed_head, _, dashed_mac = dashed_token.rpartition(".")
    return faults(
        "refused",
        ("payload_padded", jws(claims=padded(spaced(CLAIMS)))),
        ("payload_trailing_bit_set", jws(claims=trailing_bit_set(spaced(CLAIMS)))),
        ("payload_standard_alphabet", jws(claims=standard_alphabet(js(dashed)))),
        ("payload_space_in_base64url", jws(claims=spread(payload))),
        ("payload_tab_in_base64url", jws(claims=spread(payload).replace(" ", "\t"))),
        ("payload_one_character_too_many", jws(claims=one_too_many(CLAIMS))),
        ("payload_not_encoded", jws(claims=js(CLAIMS).replace(b".", b"\\u002e").decode())),
        ("signature_padded", signature(padded)),
        ("signature_trailing_bit_set", signature(trailing_bit_set)),
        ("signature_standard_alphabet", f"{dashed_head}.{standard_alphabet(unb64(dashed_mac))}"),
        ("signature_space_in_base64url", signature(lambda s: spread(b64url(s)))),
        ("signature_hex", signature(bytes.hex)),
        ("signature_empty", signature(lambda s: b"")),
        ("signature_1_byte", signature(lambda s: s[:1])),
        ("signature_16_bytes", signature(lambda s: s[:16])),
        ("signature_31_bytes", signature(lambda s: s[:31])),
        ("signature_33_bytes", signature(lambda s: s + b"\0")),
        ("signature_twice", signature(lambda s: s + s)),
        ("signature_zero", signature(lambda s: bytes(32))),
        ("signature_first_bit_flipped", signature(lambda s: bytes([s[0] ^ 0x80]) + s[1:])),
        ("signature_last_bit_flipped", signature(lambda s: flipped(s, -1))),
        ("signature_of_sha512_cut_to_32_bytes", jws(mac=lambda k, d: hmac_with("sha512")(k, d)[:32])),
        ("signature_is_plain_sha256", jws(mac=lambda k, d: hashlib.sha256(d).digest())),
        ("signature_over_payload_only", jws(mac=lambda k, d: hmac_sha256(k, d.partition(b".")[2]))),
        ("signature_over_decoded_parts", jws(mac=lambda k, d: hmac_sha256(k, js(JWS_HEADER) + b"." + js(CLAIMS)))),
        ("payload_changed_after_signing", f"{head}.{part(n_is(2))}.{mac}"),
        ("header_changed_after_signing", f"{part(js(JWS_HEADER) + b' ')}.{payload}.{mac}"),
        ("key_jwe", jws(key=JWE_KEY)),
        ("key_otp", jws(key=t(PRK, "client otp"))),
        ("key_server_proof", jws(key=t(PRK, "server proof"))),
        ("key_prk", jws(key=PRK)),
        ("key_raw_secret", jws(key=SECRET)),
        ("key_channel", jws(key=EKM[32:48])),
        ("key_empty", jws(key=b"")),
        ("key_jws_as_base64url_text", jws(key=b64url(JWS_KEY).encode())),
        ("key_of_other_connection", jws(key=t(prk(ekm=labelled("ekm", 48)), "client jws"))),
        ("key_of_other_kid", jws(key=t(prk(kid="client2"), "client jws"))),
        ("key_of_other_server_name", jws(key=t(prk(server_name="other.example"), "client jws"))),
        ("bad_mac_and_expired", jws(claims=times(-91, -61), key=JWE_KEY)),
        ("bad_mac_and_payload_no_json", jws(claims=b"{", key=JWE_KEY)),
        ("empty_token", ""),
        ("one_part", part(CLAIMS)),
        ("two_parts_without_signature", f"{head}.{payload}"),
        ("two_parts_without_header", f"{payload}.{mac}"),
        ("two_dots_only", ".."),
        ("three_parts_payload_detached", f"{head}..{mac}"),
        ("four_parts_last_empty", jws() + "."),
        ("four_parts_first_empty", "." + jws()),
        ("four_parts_other_signature", f"{jws()}.{mac}"),
        ("four_parts_signature_over_three", jws(claims=f"{payload}.{payload}")),
        ("five_parts", f"{jws()}.{payload}.{mac}"),
        ("five_parts_last_empty", jws() + ".."),
        ("two_tokens", f"{jws()}.{jws(claims=n_is(2))}"),
        ("json_serialization_flattened", jwcrypto_jws(JWS_HEADER, CLAIMS, form=False)),
        ("json_serialization_general",
         js({"payload": payload, "signatures": [{"protected": head, "signature": mac}]}).decode()),
        ("space_before_token", " " + jws()),
        ("space_after_token", jws() + " "),
    )


def claims_faults():
    c, text = CLAIMS, js(CLAIMS).decode()
    raw = lambda old, new: jws(claims=swap(c, old, new))
    exp = f'"exp":{c["exp"]}'
    iat = f'"iat":{c["iat"]}'
    wrong = [
        ("aud", ("number", 1), ("array", [c["aud"]]), ("object", {}), ("empty", "")),
        ("htm", ("number", 1), ("array", ["GET"]), ("empty", "")),
        ("htu", ("number", 1), ("array", ["/get?x=1"]), ("empty", "")),
        ("n", ("string", "1"), ("true", True), ("array", [1]), ("zero", 0), ("negative", -1), ("2_53", 2**53),
         ("2_63", 2**63), ("2_64", 2**64), ("2_64_plus_1", 2**64 + 1)),
        ("iat", ("string", str(c["iat"])), ("true", True), ("array", [c["iat"]]), ("negative", -1)),
        ("exp", ("string", str(c["exp"])), ("true", True), ("array", [c["exp"]]), ("negative", -1)),
    ]
    of_each = [f for name, *values in wrong for f in [
        (f"{name}_missing", jws(claims=without(c, name))),
        (f"{name}_null", claim(**{name: None})),
        *((f"{name}_{what}", claim(**{name: value})) for what, value in values)]]
    return faults(
        "claims",
        *of_each,
        ("n_float", raw('"n":1', '"n":1.0')),
        ("n_exponent", raw('"n":1', '"n":1e0')),
        ("n_exponent_upper_case", raw('"n":1', '"n":1E0')),
        ("n_half", raw('"n":1', '"n":1.5')),
        ("n_negative_zero", raw('"n":1', '"n":-0')),
        ("n_leading_zero", raw('"n":1', '"n":01')),
        ("n_plus_sign", raw('"n":1', '"n":+1')),
        ("n_hex", raw('"n":1', '"n":0x1')),
        ("n_400_digits", raw('"n":1', '"n":' + "1" * 400)),
        ("n_name_upper_case", raw('"n"', '"N"')),
        ("iat_float", raw(iat, iat + ".0")),
        ("iat_half", raw(iat, iat + ".5")),
        ("iat_exponent", raw(iat, '"iat":18e8')),
        ("exp_float", raw(exp, exp + ".0")),
        ("exp_exponent", raw(exp, '"exp":18e8')),
        ("exp_huge_exponent", raw(exp, '"exp":1e400')),
        ("times_2_53", claim(iat=MAX_N + 1, exp=MAX_N + 1)),
        ("times_2_63", claim(iat=2**63 - 1, exp=2**63 - 1)),
        ("nbf", claim(nbf=c["iat"])),
        ("nbf_null", claim(nbf=None)),
        ("nbf_string", claim(nbf="")),
        ("nbf_in_the_future", claim(nbf=NOW + 3600)),
        ("nbf_escaped_name", raw('"n"', r'"\u006ebf":1,"n"')),
        ("aud_other_host", claim(aud="https://other.example")),
        ("aud_longer_host", claim(aud=f"https://{NAME}.evil.example")),
        ("aud_shorter_host", claim(aud=f"https://{NAME[:-1]}")),
        ("aud_http", claim(aud=f"http://{NAME}")),
        ("aud_without_scheme", claim(aud=NAME)),
        ("aud_upper_case_host", claim(aud="https://SERVER.example")),
        ("aud_upper_case_scheme", claim(aud=f"HTTPS://{NAME}")),
        ("aud_port_443", claim(aud=f"https://{NAME}:443")),
        ("aud_other_port", claim(aud=f"https://{NAME}:8443")),
        ("aud_empty_port", claim(aud=f"https://{NAME}:")),
        ("aud_trailing_dot", claim(aud=f"https://{NAME}.")),
        ("aud_trailing_slash", claim(aud=f"https://{NAME}/")),
        ("aud_with_target", claim(aud=f"https://{NAME}/get?x=1")),
        ("aud_with_user", claim(aud=f"https://user@{NAME}")),
        ("aud_space_after", claim(aud=f"https://{NAME} ")),
        ("aud_nul_after", claim(aud=f"https://{NAME}\0")),
        ("htm_post", claim(htm="POST")),
        ("htm_head", claim(htm="HEAD")),
        ("htm_lower_case", claim(htm="get")),
        ("htm_space_after", claim(htm="GET ")),
        ("htu_without_query", claim(htu="/get")),
        ("htu_other_query", claim(htu="/get?x=2")),
        ("htu_longer_query", claim(htu="/get?x=1&y=2")),
        ("htu_shorter_query", claim(htu="/get?x=")),
        ("htu_upper_case", claim(htu="/GET?x=1")),
        ("htu_fragment", claim(htu="/get?x=1#f")),
        ("htu_percent_encoded", claim(htu="/%67et?x=1")),
        ("htu_question_mark_encoded", claim(htu="/get%3Fx=1")),
        ("htu_dot_segment", claim(htu="/./get?x=1")),
        ("htu_double_slash", claim(htu="//get?x=1")),
        ("htu_trailing_slash", claim(htu="/get/?x=1")),
        ("htu_relative", claim(htu="get?x=1")),
        ("htu_absolute_form", claim(htu=f"https://{NAME}/get?x=1")),
        ("payload_array", jws(claims=[c])),
        ("payload_array_empty", jws(claims=b"[]")),
        ("payload_string", jws(claims=js(text))),
        ("payload_number", jws(claims=b"1")),
        ("payload_null", jws(claims=b"null")),
        ("payload_empty", jws(claims=b"")),
        ("payload_empty_object", jws(claims=b"{}")),
        ("payload_nested", jws(claims={"claims": c})),
        ("payload_trailing_garbage", raw("}", "}x")),
        ("payload_trailing_nul", raw("}", "}\0")),
        ("payload_two_objects", jws(claims=(text + text).encode())),
        ("payload_trailing_comma", raw("}", ",}")),
        ("payload_unterminated", raw("}", "")),
        ("payload_single_quotes", jws(claims=text.replace('"', "'").encode())),
        ("payload_comment", raw("{", "{/**/")),
        ("payload_nan", raw("}", ',"x":NaN}')),
        ("payload_infinity", raw("}", ',"x":-Infinity}')),
        ("payload_raw_control_character", raw("}", ',"x":"a\nb"}')),
        ("payload_bad_escape", raw("}", r',"x":"\x41"}')),
        ("payload_bom", jws(claims=b"\xef\xbb\xbf" + text.encode())),
        ("payload_utf_16", jws(claims=text.encode("utf-16-le"))),
        ("payload_not_utf_8", raw("}", b',"x":"Zo\xeb"}')),
        ("payload_utf_8_overlong", raw("/get", b"\xc0\xafget")),
        ("payload_utf_8_surrogate", raw("}", b',"x":"\xed\xa0\xbd\xed\xb4\x91"}')),
        ("claim_aud_twice_same", raw('"htm"', f'"aud":"{c["aud"]}","htm"')),
        ("claim_aud_twice_other", raw('"aud"', '"aud":"https://other.example","aud"')),
        ("claim_aud_twice_escaped", raw('"htm"', rf'"\u0061ud":"{c["aud"]}","htm"')),
        ("claim_htu_twice", raw('"n"', '"htu":"/","n"')),
        ("claim_n_twice", raw('"n":1', '"n":2,"n":1')),
        ("claim_exp_twice", raw(exp, f'{exp},"exp":{NOW + 3600}')),
        ("claim_extra_twice_same", raw("}", ',"x":1,"x":1}')),
        ("claim_extra_twice_other", raw("}", ',"sub":"alice","sub":"bob"}')),
        ("order_nbf_and_expired", jws(claims=times(-91, -61) | {"nbf": NOW})),
        ("order_n_string_and_expired", jws(claims=times(-91, -61) | {"n": "1"})),
        ("order_n_zero_and_expired", jws(claims=times(-91, -61) | {"n": 0})),
    )


def time_faults():
    far = 10 * 365 * 86400
    return faults(
        "time",
        ("expired", jws(claims=times(-91, -61))),
        ("expired_lifetime_0", jws(claims=times(-61, -61))),
        ("expired_long_ago", jws(claims=times(-far, -far + 60))),
        ("expired_at_0", jws(claims=CLAIMS | {"iat": 0, "exp": 0})),
        ("not_yet_valid", jws(claims=times(61, 91))),
        ("not_yet_valid_lifetime_0", jws(claims=times(61, 61))),
        ("not_yet_valid_for_10_years", jws(claims=times(far, far + 60))),
        ("not_yet_valid_2_53", jws(claims=CLAIMS | {"iat": MAX_N, "exp": MAX_N})),
        ("lifetime_61", jws(claims=times(0, 61))),
        ("lifetime_61_in_the_past", jws(claims=times(-91, -30))),
        ("lifetime_10_years", jws(claims=times(0, far))),
        ("lifetime_2_53", jws(claims=times(0, 0) | {"exp": MAX_N})),
        ("lifetime_from_0", jws(claims=times(0, 30) | {"iat": 0})),
        ("exp_before_iat", jws(claims=times(0, -1))),
        ("exp_before_iat_by_100", jws(claims=times(55, -45))),
        ("milliseconds", jws(claims=CLAIMS | {"iat": NOW * 1000, "exp": NOW * 1000 + 30})),
        ("order_expired_and_other_aud", jws(claims=times(-91, -61) | {"aud": "https://other.example"})),
        ("order_expired_and_other_htm", jws(claims=times(-91, -61) | {"htm": "POST"})),
    ) + [case("order_expired_and_n_repeated", ok(), bad("time", jws(claims=times(-91, -61))))]


def other_requests():
    """A right token for REQUEST, and a request that it does not fit"""
    requests = [
        ("request_post", {"method": "POST"}),
        ("request_method_lower_case", {"method": "get"}),
        ("request_other_target", {"target": "/get?x=2"}),
        ("request_target_percent_encoded", {"target": "/%67et?x=1"}),
        ("request_target_empty_query_added", {"target": "/get?x=1?"}),
        ("request_target_asterisk", {"target": "*"}),
        ("request_other_port", {"authority": f"{NAME}:8443"}),
        ("request_other_name", {"authority": "other.example"}),
    ]
    return [case(name, bad("claims", jws()), request=request) for name, request in requests]


# ---------------------------------------------------------------- v1: cases of one kind

def jws_only():
    return faults("refused", ("jwe_presented", jwe()), ("jwe_presented_of_empty_plaintext", jwe(b""))) + sizes("jws")


def sizes(kind):
    """The whole field at its longest, one byte more, and a token that is too long alone"""
    def built(length):
        for spaces in range(4):  # base64url never has 4k + 1 characters, so the header's length must help
            header = js(JWS_HEADER if kind == "jws" else JWE_HEADER) + b" " * spaces
            for pad in range(length):
                claims = CLAIMS | {"pad": "a" * pad}
                token = jws(header, claims) if kind == "jws" else jwe(jws(claims=claims), header)
                if len(token) < length:
                    continue
                if len(token) > length:
                    break
                good = ok(claims, header if kind == "jws" else JWS_HEADER)
                assert kind == "jws" or token == jwcrypto_jwe(good["token"], header)
                return good | {"token": token}
        raise AssertionError(length)

    longest = MAX_FIELD - len(field(kind, ""))
    return [case("field_4096_bytes", built(longest))] + faults(
        "refused",
        ("field_4097_bytes", built(longest + 1)["token"]),
        ("token_4097_bytes", built(MAX_FIELD + 1)["token"]))


def jwe_only():
    h = JWE_HEADER
    text, inner = js(h).decode(), jws()
    plain = inner.encode()
    plus = lambda **members: jwe(header=h | members)
    short = JWE_HEADER | {"enc": "A128GCM"}
    cbc = JWE_HEADER | {"enc": "A128CBC-HS256"}
    wrap = JWE_HEADER | {"alg": "A256KW"}
    wide = b'\r\n{ "kid":"client1",\t"typ" : "JWT","cty":"JWT",\n"enc":"A256GCM","alg":"dir" } '
    zipped = h | {"zip": "DEF"}
    zip_def = jwe(deflated(plain), zipped)
    assert jwcrypto_reads("jwe", zip_def, JWS_KEY, JWE_KEY) == js(CLAIMS)
    dashes = (PLUS_AND_SLASH * 2)[:12]
    dashed_tag = with_both(lambda i: jwe_parts(claim(jti=i)), lambda parts: part(parts[4]))
    uneven = next(p for p in (jwe_parts(claim(pad="a" * i)) for i in range(9)) if len(p[3]) % 3)
    right = jwe_parts()
    ciphertext, tag = right[3:]

    def good_outer(name, header, iv=None):
        token = jwe(header=header, iv=iv)
        assert iv is not None or token == jwcrypto_jwe(plain, header)
        return case(name, ok() | {"token": token})

    refused = faults(
        "refused",
        ("alg_missing", jwe(header=without(h, "alg"))),
        ("alg_a256kw", jwcrypto_jwe(plain, wrap, algs=("A256KW", "A256GCM"))),
        ("alg_a256kw_without_encrypted_key", jwe(header=wrap)),
        ("alg_pbes2_with_huge_count", plus(alg="PBES2-HS256+A128KW", p2c=2**31 - 1, p2s="AAAAAAAAAAA")),
        ("alg_ecdh_es", plus(alg="ECDH-ES")),
        ("alg_none", plus(alg="none")),
        ("alg_hs256", plus(alg="HS256")),
        ("alg_upper_case", plus(alg="DIR")),
        ("alg_null", plus(alg=None)),
        ("alg_in_array", plus(alg=["dir"])),
        ("enc_missing", jwe(header=without(h, "enc"))),
        ("enc_a128gcm", jwe(header=short, key=JWE_KEY[:16])),
        ("enc_a128gcm_but_a256gcm", jwe(header=short)),
        ("enc_a256gcm_but_a128gcm", jwe(key=JWE_KEY[:16])),
        ("enc_a192gcm", jwe(header=h | {"enc": "A192GCM"}, key=JWE_KEY[:24])),
        ("enc_a128cbc_hs256", jwcrypto_jwe(plain, cbc, algs=("dir", "A128CBC-HS256"))),
        ("enc_a256cbc_hs512_but_a256gcm", plus(enc="A256CBC-HS512")),
        ("enc_lower_case", plus(enc="A256gcm")),
        ("enc_null", plus(enc=None)),
        ("zip_def", zip_def),
        ("zip_def_plain", jwe(header=zipped)),
        ("zip_empty", plus(zip="")),
        ("zip_without_header", jwe(deflated(plain))),
        ("cty_missing", jwe(header=without(h, "cty"))),
        ("cty_lower_case", plus(cty="jwt")),
        ("cty_other", plus(cty="ekm-otp+jwt")),
        ("cty_with_application", plus(cty="application/jwt")),
        ("cty_null", plus(cty=None)),
        ("typ_missing", jwe(header=without(h, "typ"))),
        ("typ_lower_case", plus(typ="jwt")),
        ("typ_of_the_jws", plus(typ="ekm-otp+jwt")),
        ("kid_missing", jwe(header=without(h, "kid"))),
        ("kid_other", plus(kid="client2")),
        ("kid_other_in_both", jwe(jws(JWS_HEADER | {"kid": "client2"}), h | {"kid": "client2"})),
        ("kid_upper_case", plus(kid="CLIENT1")),
        ("kid_number", plus(kid=1)),
        ("kid_null", plus(kid=None)),
        ("crit_empty", plus(crit=[])),
        ("crit_unknown", plus(crit=["exp"], exp=NOW)),
        ("apu", plus(apu="QWxpY2U")),
        ("epk", plus(epk={"kty": "OKP", "crv": "X25519", "x": b64url(bytes(31) + b"\x09")})),
        ("jwk", plus(jwk={"kty": "oct", "k": b64url(JWE_KEY)})),
        ("jku", plus(jku=f"https://{NAME}/jwks")),
        ("p2c", plus(p2c=1)),
        ("iv_and_tag_in_header", plus(iv=b64url(bytes(12)), tag=b64url(bytes(16)))),
        ("aud_in_header", plus(aud=CLAIMS["aud"])),
        ("unknown_member", plus(note="hello")),
        ("header_alg_twice_same", jwe(header=swap(h, '"enc"', '"alg":"dir","enc"'))),
        ("header_alg_twice_other", jwe(header=swap(h, '"alg"', '"alg":"A256KW","alg"'))),
        ("header_alg_twice_escaped", jwe(header=swap(h, '"enc"', r'"\u0061lg":"dir","enc"'))),
        ("header_enc_twice", jwe(header=swap(h, '"enc"', '"enc":"A128GCM","enc"'))),
        ("header_cty_twice", jwe(header=swap(h, '"cty"', '"cty":"JWT","cty"'))),
        ("header_kid_twice_same", jwe(header=swap(h, "}", f',"kid":"{KID}"}}'))),
        ("header_kid_twice_other", jwe(header=swap(h, '"kid"', '"kid":"client2","kid"'))),
        ("header_array", jwe(header=b'["dir","A256GCM","JWT","JWT","client1"]')),
        ("header_array_of_object", jwe(header=f"[{text}]".encode())),
        ("header_string", jwe(header=js(text))),
        ("header_null", jwe(header=b"null")),
        ("header_empty", jwe(header=b"")),
        ("header_empty_object", jwe(header=b"{}")),
        ("header_of_the_jws", jwe(header=JWS_HEADER)),
        ("header_trailing_garbage", jwe(header=f"{text}x".encode())),
        ("header_bom", jwe(header=b"\xef\xbb\xbf" + text.encode())),
        ("header_utf_8_overlong", jwe(header=swap(h, "alg", b"a\xc1\xacg"))),
        ("header_not_utf_8", jwe(header=swap(h, "}", b',"note":"\xff"}'))),
        ("header_padded", jwe(header=padded(spaced(h)))),
        ("header_trailing_bit_set", jwe(header=trailing_bit_set(spaced(h)))),
        ("header_space_in_base64url", jwe(header=spread(part(h)))),
        ("header_changed_after_encryption", jwe_with(header=js(h) + b" ")),
        ("header_not_authenticated", jwe(aad=b"")),
        ("header_authenticated_before_encoding", jwe(aad=js(h))),
        ("encrypted_key_one_byte", jwe_with(encrypted_key=b"\0")),
        ("encrypted_key_32_bytes", jwe_with(encrypted_key=labelled("encrypted key", 32))),
        ("encrypted_key_is_the_key", jwe_with(encrypted_key=JWE_KEY)),
        ("encrypted_key_padding_only", jwe_with(encrypted_key="====")),
        *((f"iv_{n}_bytes", jwe(iv=labelled("other iv", n))) for n in (0, 8, 11, 13, 16, 32)),
        ("iv_removed", jwe_with(iv=b"")),
        ("iv_one_byte_cut", jwe_with(iv=lambda iv: iv[:11])),
        ("iv_bit_flipped", jwe_with(iv=lambda iv: flipped(iv, 0))),
        ("iv_standard_alphabet", changed(jwe_parts(iv=dashes), iv=standard_alphabet)),
        ("iv_padding_after", jwe_with(iv=lambda iv: b64url(iv) + "====")),
        ("iv_space_in_base64url", jwe_with(iv=lambda iv: spread(b64url(iv)))),
        ("ciphertext_first_bit_flipped", jwe_with(ciphertext=lambda c: flipped(c, 0))),
        ("ciphertext_last_bit_flipped", jwe_with(ciphertext=lambda c: flipped(c, -1))),
        ("ciphertext_one_byte_cut", jwe_with(ciphertext=lambda c: c[:-1])),
        ("ciphertext_one_byte_more", jwe_with(ciphertext=lambda c: c + b"\0")),
        ("ciphertext_empty", jwe_with(ciphertext=b"")),
        ("ciphertext_padded", changed(uneven, ciphertext=padded)),
        ("ciphertext_trailing_bit_set", changed(uneven, ciphertext=trailing_bit_set)),
        ("ciphertext_standard_alphabet", jwe_with(ciphertext=standard_alphabet)),
        ("ciphertext_space_in_base64url", jwe_with(ciphertext=lambda c: spread(b64url(c)))),
        *((f"tag_cut_to_{n}_bytes", jwe_with(tag=lambda tag: tag[:n])) for n in range(16)),
        ("tag_17_bytes", jwe_with(tag=lambda tag: tag + b"\0")),
        ("tag_32_bytes", jwe_with(tag=lambda tag: tag + tag)),
        ("tag_15_bytes_first_moved_to_ciphertext", jwe_with(ciphertext=ciphertext + tag[:1], tag=tag[1:])),
        ("tag_17_bytes_first_from_ciphertext", jwe_with(ciphertext=ciphertext[:-1], tag=ciphertext[-1:] + tag)),
        ("tag_first_bit_flipped", jwe_with(tag=lambda tag: flipped(tag, 0))),
        ("tag_last_bit_flipped", jwe_with(tag=lambda tag: flipped(tag, -1))),
        ("tag_zero", jwe_with(tag=bytes(16))),
        ("tag_padded", jwe_with(tag=padded)),
        ("tag_trailing_bit_set", jwe_with(tag=trailing_bit_set)),
        ("tag_standard_alphabet", changed(dashed_tag, tag=standard_alphabet)),
        ("key_jws", jwe(key=JWS_KEY)),
        ("key_otp", jwe(key=t(PRK, "client otp"))),
        ("key_server_proof", jwe(key=t(PRK, "server proof"))),
        ("key_prk", jwe(key=PRK)),
        ("key_raw_secret", jwe(key=SECRET)),
        ("key_of_other_connection", jwe(key=t(prk(ekm=labelled("ekm", 48)), "client jwe"))),
        ("key_of_other_kid", jwe(key=t(prk(kid="client2"), "client jwe"))),
        ("keys_swapped", jwe(jws(key=JWE_KEY), key=JWS_KEY)),
        ("plaintext_is_the_claims", jwe(js(CLAIMS))),
        ("plaintext_is_the_jws_as_json_string", jwe(js(inner))),
        ("plaintext_is_a_jwe", jwe(jwe())),
        ("plaintext_with_newline_after", jwe(inner + "\n")),
        ("plaintext_with_nul_after", jwe(inner + "\0")),
        ("plaintext_with_byte_ff_after", jwe(inner + "\xff")),
        ("plaintext_with_bom", jwe(b"\xef\xbb\xbf" + plain)),
        ("plaintext_utf_16", jwe(inner.encode("utf-16-le"))),
        ("empty_token", ""),
        ("four_dots_only", "...."),
        ("jws_presented", inner),
        ("jws_presented_with_two_empty_parts", inner + ".."),
        ("three_parts", joined(right[:3])),
        ("four_parts_without_tag", joined(right[:4])),
        ("four_parts_without_encrypted_key", joined(right[:1] + right[2:])),
        ("six_parts_last_empty", jwe() + "."),
        ("six_parts_first_empty", "." + jwe()),
        ("json_serialization_flattened", jwcrypto_jwe(plain, h, form=False)),
        ("space_before_token", " " + jwe()),
        ("space_after_token", jwe() + " "),
    )
    return [
        good_outer("outer_header_other_order", dict(reversed(h.items()))),
        good_outer("outer_header_sorted", dict(sorted(h.items()))),
        good_outer("outer_header_white_space", wide),
        good_outer("outer_header_escaped_name", swap(h, '"alg"', r'"\u0061lg"')),
        good_outer("iv_with_dash_and_underscore", h, iv=dashes),
        good_outer("iv_zero", h, iv=bytes(12)),
        case("iv_repeated", *(ok(n_is(n)) | {"token": jwe(jws(claims=n_is(n)), iv=bytes(12))} for n in (1, 2))),
        *refused,
        *sizes("jwe"),
    ]


# ---------------------------------------------------------------- v1/jose.json

def jwe_of(prefix, item):
    """The same case with each JWS encrypted"""
    presented = []
    for p in item["presented"]:
        token = jwe(p["token"])
        assert p["expect"] != "ok" or token == jwcrypto_jwe(p["token"], JWE_HEADER)
        presented.append(p | {"token": token})
    return item | {"name": prefix + item["name"], "kind": "jwe", "presented": presented}


def renamed(prefix, kind, items):
    return [item | {"name": prefix + item["name"], "kind": kind} for item in items]


SHOWN_NESTED = ("expired", "not_yet_valid", "nbf", "n_missing", "aud_other_host", "htu_other_query", "request_other_target")


def jose_cases():
    right = good() + window()
    faulty = header_faults() + token_faults() + claims_faults() + time_faults() + other_requests()
    # Once the MAC is right, a nested JWS takes the way of any other: of its claims' faults some are enough.
    inner = header_faults() + token_faults() + [c for c in faulty if c["name"] in SHOWN_NESTED]
    cases = (renamed("jws_", "jws", right + faulty + jws_only()) + [jwe_of("jwe_", c) for c in right]
             + renamed("jwe_", "jwe", jwe_only()) + [jwe_of("jwe_inner_", c) for c in inner])
    for c in cases:
        seen = set()
        for p in c["presented"]:
            judged = verdict(verify, c["kind"], p["token"], c.get("request", REQUEST), seen)
            assert judged == p["expect"], (c["name"], judged)
            if judged == "ok":
                claims = json.loads(jwcrypto_reads(c["kind"], p["token"], JWS_KEY, JWE_KEY))
                own = p["claims"] | {name: p[name] for name in ("n", "iat", "exp")}
                assert own == {k: v for k, v in claims.items() if k not in ("aud", "htm", "htu")}
    return [{k: c[k] for k in ("name", "kind", "request", "presented") if k in c} for c in cases]


def jose():
    return {
        "comment": "JWS and JWE credentials of one kid on one connection. presented: tokens of one fresh connection, "
                   "in this order, each with the verdict of a strict server at the time `now` with 60 s of leeway: "
                   "ok, refused (plain 401), time or claims (the error of the 401). The request is `request`, unless "
                   "a case has its own; rule A is not applied. The field is EKM-OTP kid=\"...\", channel=\"...\", "
                   "jws=\"...\" (or jwe), and its limit of 4096 bytes counts. For each good token n, iat, exp and "
                   "the caller's own claims. secret, ekm and keys in hex, channel in base64url. Some tokens hold "
                   "quotes, white space or are empty: escape them in the field, or give them to the token's parser "
                   "directly. All secrets are test data, used nowhere else. Written by testdata/v1/generate_jose.py.",
        "secret": SECRET.hex(), "ekm": EKM.hex(), "kid": KID, "server_name": NAME, "prk": PRK.hex(),
        "jws_key": JWS_KEY.hex(), "jwe_key": JWE_KEY.hex(), "channel": CHANNEL, "request": REQUEST, "now": NOW,
        "cases": jose_cases(),
    }


# ---------------------------------------------------------------- v1/go.json

GO_JWS_HEADER, GO_JWS_HEADER_TYP = {"alg": "HS256"}, {"alg": "HS256", "typ": "JWT"}
GO_CLAIMS = {"iss": "issuer", "sub": "subject"}
GO_SECRET = labelled("secret of profile go", 32)


def go_derivation(name, secret, client, api, sig, enc):
    """api, sig, enc: 32 bytes of EKM each, by label and context. The counter mode's one block has the counter 0."""
    assert len(api) == len(sig) == len(enc) == 32
    block = bytes(4) + api + (256).to_bytes(4, "big")
    return {
        "name": name, "secret": secret.hex(), "client": client,
        "ekm_api": api.hex(), "ekm_sig": sig.hex(), "ekm_enc": enc.hex(),
        "apikey": base64.b64encode(hmac_sha256(secret, block)).decode(),
        "sig_key": hmac_sha256(secret, sig).hex(), "enc_key": hmac_sha256(secret, enc).hex(),
    }


def go_derivations():
    ekms = [labelled(f"go ekm {use}", 32) for use in ("api", "sig", "enc")]
    counting = bytes(range(32))
    check = go_derivation("check_values", b"my_api_key", KID, *[counting] * 3)
    assert check["apikey"] == "qYuQ+qwF5vbpT7Jgmczb7pkIkctNVikEcXiua7jsPKw="
    assert base64.b64encode(bytes.fromhex(check["sig_key"])) == b"lRDvFNv2qk5YjMyqO40Cd2kHhdNSONPapHs+Wsox7gE="
    return [
        go_derivation("cases", GO_SECRET, KID, *ekms),
        check,
        go_derivation("check_values_secret_trailing_zero_same_keys", b"my_api_key\0", KID, *[counting] * 3),
        go_derivation("secret_16_bytes", labelled("go secret of 16 bytes", 16), KID, *ekms),
        go_derivation("secret_64_bytes", labelled("go secret of 64 bytes", 64), KID, *ekms),
        go_derivation("secret_leading_zero_byte", b"\0" + GO_SECRET[1:], KID, *ekms),
        go_derivation("ekm_all_zero", SECRET, KID, *[bytes(32)] * 3),
        go_derivation("ekm_all_ff", SECRET, KID, *[b"\xff" * 32] * 3),
        go_derivation("ekm_one_bit_other", GO_SECRET, KID, *(flipped(ekm, -1) for ekm in ekms)),
        go_derivation("client_other", GO_SECRET, "client_2", labelled("go ekm api client_2", 32), *ekms[1:]),
    ]


GO, GO_OTHER = (d for d in go_derivations() if d["name"] in ("cases", "ekm_one_bit_other"))
SIG, ENC = bytes.fromhex(GO["sig_key"]), bytes.fromhex(GO["enc_key"])

# What the original's README prints: keys and tokens by another hand. Its EKMs are not known.
README_JWS = {
    "sig_key": "XwZghLVmPF/U5I+9yK1ZwxJNptLP6Se74Y1CSMQfJTY=",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpc3N1ZXIiLCJzdWIiOiJzdWJqZWN0In0"
             ".fLSIRp4So0H2Pe9HAyqAgprpE7m5Mdb3JEvkM6SOPhc",
}
README_JWE = {
    "sig_key": "jq4CJ/H08l+m/dfJi96a1OHeId80ZtZvz8xiJpuW+i8=",
    "enc_key": "E1NrJbfb/n4DJvXvngemQLBya4HdO+DkHLblV3cGYFE=",
    "token": "eyJhbGciOiJkaXIiLCJjdHkiOiJKV1QiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoiY2xpZW50XzEiLCJ0eXAiOiJKV1QifQ."
             ".UufNES78x_xBEyb1.SU3IvwAJdRP868vdiWvQTuWomnv-1lSpQn0VvIDkp3bQhTIRgGNIHs3AmeKiGPM6NkHaYa0l_d3KvY766Tk-"
             "Tc5BjkZ2akliC8qbOxvkZqU3pAS9f99vy0XZe4PfvvF_tHaxUcijTFSXScaR.I0drMfegG3lkwV19eD7USw",
}


def go_verify(kind, p, sig_key, enc_key, kid):
    if kind == "apikey":
        return need((p["client"], p["apikey"]) == (GO["client"], GO["apikey"]))
    inner = open_jwe(p["token"], enc_key, JWE_HEADER | {"kid": kid}) if kind == "jwe" else p["token"]
    claims = json_object(open_jws(inner, sig_key, [GO_JWS_HEADER, GO_JWS_HEADER_TYP]))
    need(all(type(claims.get(name, 0)) is int for name in ("exp", "nbf")))
    need(NOW <= claims.get("exp", NOW) + LEEWAY and claims.get("nbf", NOW) <= NOW + LEEWAY)


def go_jws(header=GO_JWS_HEADER, claims=GO_CLAIMS, key=SIG, mac=hmac_sha256):
    return jws(header, claims, key, mac)


def go_ok(claims=GO_CLAIMS, header=GO_JWS_HEADER):
    token = go_jws(header, claims)
    assert token == jwcrypto_jws(header, claims, SIG)
    return {"token": token, "expect": "ok", "claims": json.loads(js(claims))}


def go_api_keys():
    right = GO["apikey"]
    key = base64.b64decode(right)
    spare = trailing_bit_set(key).replace("-", "+").replace("_", "/") + "="
    assert "/" in right or "+" in right
    api = bytes.fromhex(GO["ekm_api"])

    def key_of(data, secret=GO_SECRET):
        return base64.b64encode(hmac_sha256(secret, data)).decode()

    def presented(value, expect="refused", client=GO["client"]):
        return {"client": client, "apikey": value, "expect": expect}

    assert right == key_of(bytes(4) + api + b"\0\0\1\0")
    wrong = [
        ("empty", ""),
        ("unpadded", right.rstrip("=")),
        ("padded_twice", right + "="),
        ("padding_only", "="),
        ("url_safe_alphabet", padded(key)),
        ("trailing_bit_set", spare),
        ("space_inside", spread(right)),
        ("tab_inside", spread(right).replace(" ", "\t")),
        ("space_before_padding", right[:-1] + " ="),
        ("other_case", right.swapcase()),
        ("quoted", f'"{right}"'),
        ("hex", key.hex()),
        ("garbage_after", right + "A"),
        ("twice_with_comma", f"{right}, {right}"),
        ("31_bytes", base64.b64encode(key[:31]).decode()),
        ("33_bytes", base64.b64encode(key + b"\0").decode()),
        ("first_bit_flipped", base64.b64encode(bytes([key[0] ^ 0x80]) + key[1:]).decode()),
        ("last_bit_flipped", base64.b64encode(flipped(key, -1)).decode()),
        ("zero", base64.b64encode(bytes(32)).decode()),
        ("of_other_secret", key_of(bytes(4) + api + b"\0\0\1\0", SECRET)),
        ("of_counter_1", key_of(b"\0\0\0\1" + api + b"\0\0\1\0")),
        ("of_length_in_bytes", key_of(bytes(4) + api + b"\0\0\0\x20")),
        ("of_plain_hmac", key_of(api)),
        ("of_ekm_for_sig_key", key_of(bytes(4) + bytes.fromhex(GO["ekm_sig"]) + b"\0\0\1\0")),
        ("is_sig_key", base64.b64encode(SIG).decode()),
        ("is_ekm", base64.b64encode(api).decode()),
    ]
    return ([case("right", presented(right, "ok")),
             case("right_twice_after_wrong", presented("AAAA"), presented(right, "ok"), presented(right, "ok")),
             case("of_other_client", presented(right, client="client2")),
             case("client_upper_case", presented(right, client=GO["client"].upper())),
             case("client_empty", presented(right, client=""))]
            + [case(name, presented(value)) for name, value in wrong])


def go_good():
    at = lambda **claims: go_ok(GO_CLAIMS | {k: NOW + v for k, v in claims.items()})
    return [
        case("minimal", go_ok()),
        case("typ_jwt", go_ok(header=GO_JWS_HEADER_TYP)),
        case("header_white_space", go_ok(header=b' {\n"typ" : "JWT", "alg":"HS256" }\t')),
        case("extra_claims", go_ok(GO_CLAIMS | {"aud": ["a", "b"], "name": "Zo\u00eb",
                                                "nested": {"exp": 0, "list": [1, 0.5, None]}})),
        case("exp_in_the_future", at(exp=3600)),
        case("exp_in_10_years", at(exp=10 * 365 * 86400)),
        case("exp_2_63", go_ok(GO_CLAIMS | {"exp": 2**63 - 1})),
        case("exp_within_leeway", at(exp=-59)),
        case("nbf_in_the_past", at(nbf=-3600)),
        case("nbf_edge_of_leeway", at(nbf=60)),
        case("iat_nbf_exp", at(iat=-5, nbf=-5, exp=300)),
        case("again_on_the_same_connection", go_ok(), go_ok()),
    ]


def go_faulty():
    h, c = GO_JWS_HEADER, GO_CLAIMS
    head, payload, mac = go_jws().split(".")
    plus = lambda **members: go_jws(h | members)
    with_claims = lambda **claims: go_jws(claims=c | claims)
    raw = lambda old, new: go_jws(claims=swap(c, old, new))
    signature = lambda change: f"{head}.{payload}.{part(change(unb64(mac)))}"
    return faults(
        "refused",
        ("alg_none_empty_signature", go_jws({"alg": "none"}, mac=lambda *_: b"")),
        ("alg_none_right_mac", plus(alg="none")),
        ("alg_hs512", go_jws({"alg": "HS512"}, mac=hmac_with("sha512"))),
        ("alg_hs512_hs256_mac", plus(alg="HS512")),
        ("alg_lower_case", plus(alg="hs256")),
        ("alg_missing", go_jws({"typ": "JWT"})),
        ("typ_lower_case", plus(typ="jwt")),
        ("typ_of_v1", plus(typ="ekm-otp+jwt")),
        ("typ_null", plus(typ=None)),
        ("kid", plus(kid=KID)),
        ("cty", plus(cty="JWT")),
        ("crit_empty", plus(crit=[])),
        ("crit_unknown", plus(crit=["exp"], exp=NOW)),
        ("crit_b64_true", plus(crit=["b64"], b64=True)),
        ("b64_true", plus(b64=True)),
        ("zip", plus(zip="DEF")),
        ("jwk", plus(jwk={"kty": "oct", "k": b64url(SIG)})),
        ("unknown_member", plus(note="hello")),
        ("header_alg_twice_same", go_jws(b'{"alg":"HS256","alg":"HS256"}')),
        ("header_alg_twice_none", go_jws(b'{"alg":"none","alg":"HS256"}')),
        ("header_typ_twice", go_jws(b'{"alg":"HS256","typ":"JWT","typ":"JWT"}')),
        ("header_array", go_jws(b'["HS256"]')),
        ("header_empty", go_jws(b"")),
        ("header_trailing_garbage", go_jws(js(h) + b"x")),
        ("header_not_utf_8", go_jws(b'{"alg":"HS256","note":"\xff"}')),
        ("header_padded", go_jws(padded(spaced(h)))),
        ("header_trailing_bit_set", go_jws(trailing_bit_set(spaced(h)))),
        ("payload_padded", go_jws(claims=padded(spaced(c)))),
        ("payload_trailing_bit_set", go_jws(claims=trailing_bit_set(spaced(c)))),
        ("payload_space_in_base64url", go_jws(claims=spread(payload))),
        ("payload_array", go_jws(claims=[c])),
        ("payload_string", go_jws(claims=b'"subject"')),
        ("payload_null", go_jws(claims=b"null")),
        ("payload_empty", go_jws(claims=b"")),
        ("payload_trailing_garbage", raw("}", "}x")),
        ("payload_not_utf_8", raw("subject", b"\xff")),
        ("claim_sub_twice_same", raw("}", ',"sub":"subject"}')),
        ("claim_sub_twice_other", raw('"sub"', '"sub":"root","sub"')),
        ("claim_exp_twice", raw("}", f',"exp":{NOW - 3600},"exp":{NOW + 3600}}}')),
        ("expired", with_claims(exp=NOW - 61)),
        ("expired_at_0", with_claims(exp=0)),
        ("exp_string", with_claims(exp=str(NOW + 60))),
        ("exp_null", with_claims(exp=None)),
        ("exp_true", with_claims(exp=True)),
        ("nbf_in_the_future", with_claims(nbf=NOW + 61)),
        ("nbf_in_10_years", with_claims(nbf=NOW + 10 * 365 * 86400)),
        ("nbf_2_63", with_claims(nbf=2**63 - 1)),
        ("nbf_string", with_claims(nbf=str(NOW))),
        ("nbf_null", with_claims(nbf=None)),
        ("signature_empty", signature(lambda s: b"")),
        ("signature_31_bytes", signature(lambda s: s[:31])),
        ("signature_33_bytes", signature(lambda s: s + b"\0")),
        ("signature_last_bit_flipped", signature(lambda s: flipped(s, -1))),
        ("signature_padded", signature(padded)),
        ("signature_trailing_bit_set", signature(trailing_bit_set)),
        ("payload_changed_after_signing", f"{head}.{part(c | {'sub': 'root'})}.{mac}"),
        ("key_enc", go_jws(key=ENC)),
        ("key_api", go_jws(key=base64.b64decode(GO["apikey"]))),
        ("key_raw_secret", go_jws(key=GO_SECRET)),
        ("key_empty", go_jws(key=b"")),
        ("key_of_other_connection", go_jws(key=bytes.fromhex(GO_OTHER["sig_key"]))),
        ("two_parts", f"{head}.{payload}"),
        ("four_parts", go_jws() + "."),
        ("json_serialization_flattened", jwcrypto_jws(h, c, SIG, form=False)),
        ("v1_jws", jws()),
        ("v1_header", go_jws(JWS_HEADER)),
    )


def go_jwe_only():
    h, inner = JWE_HEADER, go_jws()
    make = lambda plaintext=inner, header=h, key=ENC, **more: jwe(plaintext, header, key, **more)
    plus = lambda **members: make(header=h | members)
    right = jwe_parts(inner, h, ENC)
    change = lambda **changes: changed(right, **changes)
    in_order = dict(sorted(h.items()))
    assert make(header=in_order) == jwcrypto_jwe(inner, in_order, ENC)
    return [case("header_in_the_original_order", go_ok() | {"token": make(header=in_order)})] + faults(
        "refused",
        ("alg_missing", make(header=without(h, "alg"))),
        ("alg_a256kw", jwcrypto_jwe(inner, h | {"alg": "A256KW"}, ENC, ("A256KW", "A256GCM"))),
        ("alg_a256kw_without_encrypted_key", plus(alg="A256KW")),
        ("enc_missing", make(header=without(h, "enc"))),
        ("enc_a128gcm", make(header=h | {"enc": "A128GCM"}, key=ENC[:16])),
        ("enc_a128gcm_but_a256gcm", plus(enc="A128GCM")),
        ("enc_a128cbc_hs256",
         jwcrypto_jwe(inner, h | {"enc": "A128CBC-HS256"}, ENC, ("dir", "A128CBC-HS256"))),
        ("enc_lower_case", plus(enc="A256gcm")),
        ("zip_def", make(deflated(inner.encode()), h | {"zip": "DEF"})),
        ("zip_def_plain", plus(zip="DEF")),
        ("crit_empty", plus(crit=[])),
        ("crit_unknown", plus(crit=["exp"], exp=NOW)),
        ("cty_missing", make(header=without(h, "cty"))),
        ("cty_other", plus(cty="json")),
        ("typ_missing", make(header=without(h, "typ"))),
        ("typ_other", plus(typ="JOSE")),
        ("kid_missing", make(header=without(h, "kid"))),
        ("kid_unknown", plus(kid="client2")),
        ("kid_number", plus(kid=1)),
        ("apu", plus(apu="QWxpY2U")),
        ("unknown_member", plus(note="hello")),
        ("header_alg_twice_same", make(header=swap(h, '"enc"', '"alg":"dir","enc"'))),
        ("header_enc_twice", make(header=swap(h, '"enc"', '"enc":"A128GCM","enc"'))),
        ("header_kid_twice_other", make(header=swap(h, '"kid"', '"kid":"client2","kid"'))),
        ("header_padded", make(header=padded(spaced(h)))),
        ("header_trailing_bit_set", make(header=trailing_bit_set(spaced(h)))),
        ("header_changed_after_encryption", change(header=js(h) + b" ")),
        ("encrypted_key_32_bytes", change(encrypted_key=labelled("encrypted key", 32))),
        *((f"iv_{n}_bytes", make(iv=labelled("other iv", n))) for n in (0, 11, 13, 16)),
        ("ciphertext_bit_flipped", change(ciphertext=lambda x: flipped(x, 0))),
        *((f"tag_cut_to_{n}_bytes", change(tag=lambda tag: tag[:n])) for n in range(16)),
        ("tag_17_bytes", change(tag=lambda tag: tag + b"\0")),
        ("tag_bit_flipped", change(tag=lambda tag: flipped(tag, -1))),
        ("tag_padded", change(tag=padded)),
        ("tag_trailing_bit_set", change(tag=trailing_bit_set)),
        ("key_sig", make(key=SIG)),
        ("keys_swapped", make(go_jws(key=ENC), key=SIG)),
        ("key_raw_secret", make(key=GO_SECRET)),
        ("key_of_other_connection", make(key=bytes.fromhex(GO_OTHER["enc_key"]))),
        ("plaintext_is_the_claims", make(js(GO_CLAIMS))),
        ("plaintext_empty", make(b"")),
        ("plaintext_is_a_jwe", make(make())),
        ("jws_presented", inner),
        ("four_parts", joined(right[:4])),
        ("six_parts", make() + "."),
        ("json_serialization_flattened", jwcrypto_jwe(inner, h, ENC, form=False)),
        ("v1_jwe", jwe()),
    )


def go_readme():
    """Cases with keys of their own"""
    sig, enc, other = (base64.b64decode(text).hex() for text in
                       (README_JWE["sig_key"], README_JWE["enc_key"], README_JWS["sig_key"]))
    right = {"expect": "ok", "claims": GO_CLAIMS}
    jws_token, jwe_token = README_JWS["token"], README_JWE["token"]
    of_jwe = {"kind": "jwe", "enc_key": enc, "kid": "client_1"}
    return [
        case("jws_of_the_original", right | {"token": jws_token}) | {"kind": "jws", "sig_key": other},
        case("jws_of_the_original_other_connection", bad("refused", jws_token)) | {"kind": "jws", "sig_key": sig},
        case("jwe_of_the_original", right | {"token": jwe_token}) | of_jwe | {"sig_key": sig},
        case("jwe_of_the_original_other_sig_key", bad("refused", jwe_token)) | of_jwe | {"sig_key": other},
    ]


def go_jwe_of(prefix, item):
    presented = []
    for p in item["presented"]:
        token = jwe(p["token"], key=ENC)
        assert p["expect"] != "ok" or token == jwcrypto_jwe(p["token"], JWE_HEADER, ENC)
        presented.append(p | {"token": token})
    return item | {"name": prefix + item["name"], "kind": "jwe", "presented": presented}


def go_cases():
    cases = (renamed("apikey_", "apikey", go_api_keys()) + renamed("jws_", "jws", go_good() + go_faulty())
             + [go_jwe_of("jwe_", c) for c in go_good()] + renamed("jwe_", "jwe", go_jwe_only())
             + [go_jwe_of("jwe_inner_", c) for c in go_faulty()] + go_readme())
    for c in cases:
        keys = [bytes.fromhex(c.get(name, GO[name])) for name in ("sig_key", "enc_key")]
        for p in c["presented"]:
            judged = verdict(go_verify, c["kind"], p, *keys, c.get("kid", KID))
            assert judged == p["expect"], (c["name"], judged)
            if judged == "ok" and c["kind"] != "apikey":
                assert json.loads(jwcrypto_reads(c["kind"], p["token"], *keys)) == p["claims"]
    return [{k: c[k] for k in ("name", "kind", "kid", "sig_key", "enc_key", "presented") if k in c} for c in cases]


def go():
    return {
        "comment": "Profile go, the Go original's wire. derivations: ekm_api, ekm_sig and ekm_enc are what the "
                   "exporter gave for the three labels and contexts; apikey is as in the header; secret, EKMs and "
                   "keys in hex. cases: what is presented on one connection, in this order, at the time `now` with "
                   "60 s of leeway, to a server that knows only `kid` (as client of an api key, as a JWE's kid, and "
                   "as default for a JWS), with the keys of the derivation named cases or the case's own kid and "
                   "keys. For each good token all its claims. Every refusal is the plain 401. All secrets are test "
                   "data, used nowhere else. Written by testdata/v1/generate_jose.py.",
        "kid": KID, "now": NOW, "derivations": go_derivations(), "cases": go_cases(),
    }


# ---------------------------------------------------------------- files

def rendered(content):
    """One case a line"""
    lines = []
    for key, value in content.items():
        if isinstance(value, list):
            names = [item["name"] for item in value]
            assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
            items = ",\n".join("  " + json.dumps(item, separators=(",", ":")) for item in value)
            lines.append(f' "{key}": [\n{items}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def main(arguments):
    if arguments not in ([], ["--check"]):
        print("usage: generate_jose.py [--check]", file=sys.stderr)
        return 64
    status = 0
    for file, content in ((HERE / "jose.json", jose()), (HERE / "go.json", go())):
        data = rendered(content)
        if not arguments:
            file.write_bytes(data)
        elif not file.is_file() or file.read_bytes() != data:
            print(f"testdata/v1/{file.name} differs", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
