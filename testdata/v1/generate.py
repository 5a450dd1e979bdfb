#!/usr/bin/env python3
"""Writes the test data of the EKM-OTP v1 wire: derivation, server names and header fields.

This is a second implementation, made from the protocol's text alone (standard library
only), so that the Rust code is compared with something other than itself.

All secrets in here are test data and used nowhere else.

    python3 testdata/v1/generate.py            rewrites the files beside it and in ../fields
    python3 testdata/v1/generate.py --check    exits 1 and names each file that differs
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import string
import sys
from pathlib import Path

TESTDATA = Path(__file__).resolve().parent.parent


# ---------------------------------------------------------------- derivation

def hmac_sha256(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf_expand(prk, info, length):
    """RFC 5869 section 2.3, with SHA-256."""
    okm, block, counter = b"", b"", 0
    while len(okm) < length:
        counter += 1
        block = hmac_sha256(prk, block + info + bytes([counter]))
        okm += block
    return okm[:length]


def lp(x):
    """16-bit big-endian length, then x."""
    return len(x).to_bytes(2, "big") + x


def mac_input(ekm, kid, server_name):
    """M = "ekm-otp v1" || 0x00 || X || lp(kid) || lp(server_name), X = EKM[0..32]"""
    m = b"ekm-otp v1" + b"\x00" + ekm[0:32] + lp(kid.encode("ascii")) + lp(server_name.encode("ascii"))
    assert len(m) <= 1024
    return m


def extract(secret, m):
    """PRK = HMAC-SHA256(S, M) = HKDF-Extract(salt S, IKM M), RFC 5869 section 2.2"""
    return hmac_sha256(secret, m)


def t(prk, use):
    """T(use) = HKDF-Expand(PRK, "ekm-otp v1 " || use, 32)"""
    return hkdf_expand(prk, b"ekm-otp v1 " + use.encode("ascii"), 32)


def b64url(data):
    """base64url without padding, RFC 4648 sections 3.2 and 5"""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def self_test():
    """RFC 5869 appendix A.1"""
    prk = extract(bytes(range(13)), b"\x0b" * 22)
    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    okm = hkdf_expand(prk, bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
                         "34007208d5b887185865")


# ---------------------------------------------------------------- inputs

def labelled(label, length):
    """Bytes that look random and never change: SHA-256 of a label and a block number."""
    blocks = (hashlib.sha256(f"ekm-otp test data, {label}, {i}".encode()).digest() for i in range(4))
    return b"".join(blocks)[:length]


def with_byte(data, index, value):
    assert data[index] != value
    return data[:index] + bytes([value]) + data[index + 1:]


KID = "client1"
NAME = "server.example"
PUNCTUATION = "._~@:/+-"
KID_CHARACTERS = string.ascii_letters + string.digits + PUNCTUATION
KID_128 = (KID_CHARACTERS * 2)[:128]
NAME_253 = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])

SECRET = bytes(range(0xA0, 0xC0))
SECRET_16 = labelled("secret of 16 bytes", 16)
SECRET_64 = labelled("secret of 64 bytes", 64)
EKM = bytes(range(48))


# ---------------------------------------------------------------- v1/vectors.json

def vector(name, secret=SECRET, ekm=EKM, kid=KID, server_name=NAME):
    assert 16 <= len(secret) <= 64 and len(ekm) == 48
    assert 1 <= len(kid) <= 128 and set(kid) <= set(KID_CHARACTERS)
    m = mac_input(ekm, kid, server_name)
    prk = extract(secret, m)
    otp, proof, channel = b64url(t(prk, "client otp")), b64url(t(prk, "server proof")), b64url(ekm[32:48])
    return {
        "name": name,
        "secret": secret.hex(),
        "ekm": ekm.hex(),
        "kid": kid,
        "server_name": server_name,
        "mac_input": m.hex(),
        "prk": prk.hex(),
        "otp": otp,
        "proof": proof,
        "channel": channel,
        "authorization": f'EKM-OTP kid="{kid}", channel="{channel}", otp="{otp}"',
        "authentication_info": f'proof="{proof}"',
    }


def vectors():
    random_ekm = labelled("ekm", 48)
    return [
        vector("base"),

        # Secrets. HMAC pads its key with zeros, so S and S || 00 give the same PRK: a registry must know.
        vector("secret_16_bytes", secret=SECRET_16),
        vector("secret_17_bytes_trailing_zero_same_prk_as_16", secret=SECRET_16 + b"\x00"),
        vector("secret_33_bytes", secret=labelled("secret of 33 bytes", 33)),
        vector("secret_63_bytes", secret=labelled("secret of 63 bytes", 63)),
        vector("secret_64_bytes", secret=SECRET_64),
        vector("secret_64_bytes_other_last_byte", secret=with_byte(SECRET_64, 63, SECRET_64[63] ^ 1)),
        vector("secret_32_bytes_other_byte_16", secret=with_byte(SECRET, 16, 0xFF)),
        vector("secret_32_bytes_other_last_byte", secret=with_byte(SECRET, 31, 0xFF)),
        vector("secret_leading_zero_byte", secret=with_byte(SECRET, 0, 0x00)),

        # Exported keying material. Only X enters M; the channel is sent beside it.
        vector("ekm_random", ekm=random_ekm),
        vector("ekm_all_zero", ekm=bytes(48)),
        vector("ekm_all_ff", ekm=b"\xff" * 48),
        vector("ekm_other_last_byte_of_x", ekm=with_byte(EKM, 31, 0xFF)),
        vector("ekm_other_channel_same_otp", ekm=EKM[0:32] + labelled("channel", 16)),
        vector("channel_with_dash_and_underscore", ekm=EKM[0:32] + b"\xfb\xef\xbe\xff\xff\xff" + EKM[38:48]),

        # Key ids
        vector("kid_1_byte", kid="a"),
        vector("kid_128_bytes", kid=KID_128),
        vector("kid_every_allowed_punctuation", kid=PUNCTUATION),
        vector("kid_upper_case_is_another_kid", kid="CLIENT1"),
        vector("kid_e_mail_address", kid="alice@example.org"),
        vector("kid_uri", kid="spiffe://example.org/ns/prod/client-1"),

        # Server names
        vector("ip_literal_no_sni", server_name=""),
        vector("server_name_single_label", server_name="localhost"),
        vector("server_name_253_bytes", server_name=NAME_253),
        vector("punycode_a_label", server_name="xn--bcher-kva.example"),

        # One connection and one secret: M still tells kid and name apart
        vector("same_connection_other_kid", kid="client2"),
        vector("same_connection_other_server_name", server_name="other.example"),
        vector("boundary_between_kid_and_server_name_moved", kid="client1s", server_name="erver.example"),
        vector("longest_mac_input", secret=SECRET_64, ekm=random_ekm, kid=KID_128, server_name=NAME_253),
    ]


# ---------------------------------------------------------------- v1/server-name.json

def server_name(host):
    """The host of a URL as the SNI's N: IP literals have none, names in lower case without the last dot."""
    if host.startswith("["):
        ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
        return ""
    try:
        ipaddress.IPv4Address(host)
        return ""
    except ValueError:
        return host.lower().removesuffix(".")


def server_names():
    cases = [
        ("lower_case", "server.example", "server.example"),
        ("upper_case", "SERVER.EXAMPLE", "server.example"),
        ("mixed_case", "Server.Example", "server.example"),
        ("trailing_dot", "server.example.", "server.example"),
        ("upper_case_and_trailing_dot", "SERVER.Example.", "server.example"),
        ("single_label", "localhost", "localhost"),
        ("single_label_trailing_dot", "LocalHost.", "localhost"),
        ("many_labels", "a.b.c.d.server.example", "a.b.c.d.server.example"),
        ("hyphen_and_digits", "node-07.3rd.example", "node-07.3rd.example"),
        ("a_label_kept", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a_label_upper_case", "XN--BCHER-KVA.Example", "xn--bcher-kva.example"),
        ("253_bytes", NAME_253, NAME_253),
        ("253_bytes_and_trailing_dot", NAME_253 + ".", NAME_253),
        ("name_that_begins_like_ipv4", "192.0.2.1.example", "192.0.2.1.example"),
        ("ipv4", "192.0.2.1", ""),
        ("ipv4_loopback", "127.0.0.1", ""),
        ("ipv6", "[2001:db8::1]", ""),
        ("ipv6_upper_case", "[2001:DB8::A]", ""),
        ("ipv6_loopback", "[::1]", ""),
        ("ipv6_full", "[2001:0db8:0000:0000:0000:0000:0000:0001]", ""),
        ("ipv6_with_ipv4_inside", "[::ffff:192.0.2.1]", ""),
    ]
    for name, host, expected in cases:
        assert server_name(host) == expected, name
    return [{"name": name, "input": host, "server_name": n} for name, host, n in cases]


# ---------------------------------------------------------------- fields: one credential, spelt in many ways

BASE = vector("base")
OTP_BYTES = t(bytes.fromhex(BASE["prk"]), "client otp")
CHANNEL_BYTES = EKM[32:48]
PROOF_BYTES = t(bytes.fromhex(BASE["prk"]), "server proof")
OTP, CHANNEL, PROOF = BASE["otp"], BASE["channel"], BASE["proof"]

# Bytes whose base64 holds both "+" and "/" (in base64url "-" and "_")
PLUS_AND_SLASH = b"\xfb\xef\xbe\xff\xff\xff"
MAX_FIELD = 4096


def quoted(name, value):
    return f'{name}="{value}"'


P_KID, P_CHANNEL, P_OTP = quoted("kid", KID), quoted("channel", CHANNEL), quoted("otp", OTP)
P_PROOF = quoted("proof", PROOF)


def credential(*parameters):
    return "EKM-OTP " + ", ".join(parameters)


def with_kid(parameter):
    return credential(parameter, P_CHANNEL, P_OTP)


def with_channel(value):
    return credential(P_KID, quoted("channel", value), P_OTP)


def with_otp(value):
    return credential(P_KID, P_CHANNEL, quoted("otp", value))


def with_extra(parameter):
    """An unknown parameter after a faultless credential"""
    return credential(P_KID, P_CHANNEL, P_OTP, parameter)


def padded(data):
    return base64.urlsafe_b64encode(data).decode("ascii")


def standard_alphabet(data):
    """Unpadded base64 with + and /, RFC 4648 section 4"""
    text = base64.b64encode(data).rstrip(b"=").decode("ascii")
    assert "+" in text and "/" in text
    return text


def trailing_bit_set(data):
    """The same bytes, not canonical: the last character's lowest unused bit is 1, RFC 4648 section 3.5"""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    text = b64url(data)
    last = alphabet.index(text[-1])
    assert len(data) % 3 != 0 and last % 2 == 0
    return text[:-1] + alphabet[last + 1]


def field_of_length(length):
    """A legal credential, filled up by an unknown parameter"""
    empty = with_extra('pad=""')
    return with_extra(quoted("pad", "a" * (length - len(empty))))


def compact(*parts):
    return ".".join(b64url(p) for p in parts)


def compact_json(value):
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def jws_shape():
    header = compact_json({"alg": "HS256", "typ": "ekm-otp+jwt", "kid": KID})
    claims = compact_json({"aud": f"https://{NAME}", "htm": "GET", "htu": "/", "n": 1,
                           "iat": 1700000000, "exp": 1700000060})
    return compact(header, claims, labelled("signature of nothing", 32))


def jwe_shape():
    header = compact_json({"alg": "dir", "enc": "A256GCM", "cty": "JWT", "typ": "JWT", "kid": KID})
    return compact(header, b"", labelled("iv", 12), labelled("ciphertext of nothing", 96), labelled("tag", 16))


P_JWS, P_JWE = quoted("jws", jws_shape()), quoted("jwe", jwe_shape())


# ---------------------------------------------------------------- fields/authorization-refused.json

def refused(name, why, *fields, kind="malformed"):
    return {"name": name, "fields": list(fields), "kind": kind, "why": why}


def refused_field():
    """RFC 9110 sections 11.4 (credentials) and 11.6.2 (Authorization)"""
    good = BASE["authorization"]
    parameters = ", ".join([P_KID, P_CHANNEL, P_OTP])
    basic = "Basic dXNlcjpwYXNz"
    return [
        refused("missing_field", "no Authorization field", kind="missing"),
        refused("other_scheme_basic", "another scheme", basic, kind="missing"),
        refused("other_scheme_bearer", "another scheme", "Bearer abcdef", kind="missing"),
        refused("other_scheme_with_our_parameters", "another scheme", f"Bearer {parameters}", kind="missing"),
        refused("other_scheme_that_begins_like_ours", "the scheme is compared whole", f"EKM-OTP2 {parameters}",
                kind="missing"),
        refused("other_scheme_that_ours_begins_with", "the scheme is compared whole", f"EKM {parameters}",
                kind="missing"),
        refused("other_scheme_with_underscore", "the scheme has a hyphen", f"EKM_OTP {parameters}", kind="missing"),
        refused("other_scheme_then_ours_in_one_field", "Authorization is no list, its scheme is Basic",
                f"{basic}, {good}", kind="missing"),
        refused("empty_field", "no scheme", ""),
        refused("scheme_only", "no parameters", "EKM-OTP"),
        refused("scheme_and_trailing_space_only", "no parameters", "EKM-OTP "),
        refused("scheme_and_commas_only", "no parameters but empty elements", "EKM-OTP , ,"),
        refused("scheme_followed_by_tab", "1*SP after the scheme", f"EKM-OTP\t{parameters}"),
        refused("token68_with_padding", "token68 instead of parameters", "EKM-OTP YWJjZA=="),
        refused("token68_without_padding", "token68 instead of parameters", "EKM-OTP YWJj"),
        refused("token68_then_parameters", "token68 and parameters", f"EKM-OTP YWJjZA==, {parameters}"),
        refused("two_fields_same_value", "exactly one Authorization field", good, good),
        refused("two_fields_basic_first", "exactly one Authorization field", basic, good),
        refused("two_fields_basic_second", "exactly one Authorization field", good, basic),
        refused("two_fields_empty_second", "exactly one Authorization field", good, ""),
        refused("credential_split_over_two_fields", "exactly one Authorization field",
                credential(P_KID, P_CHANNEL), P_OTP),
        refused("field_over_4096_bytes", "4097 bytes, else faultless", field_of_length(MAX_FIELD + 1)),
    ]


def refused_parameter_sets():
    """Which parameters there are: RFC 9110 section 11.2, each name once, in any case"""
    return [
        refused("kid_missing", "kid is mandatory", credential(P_CHANNEL, P_OTP)),
        refused("channel_missing", "channel is mandatory", credential(P_KID, P_OTP)),
        refused("credential_missing", "none of otp, jws, jwe", credential(P_KID, P_CHANNEL)),
        refused("kid_as_extended_parameter_only", "kid* is an unknown name, so kid is missing",
                with_kid(f"kid*=UTF-8''{KID}")),
        refused("otp_twice", "duplicate", credential(P_KID, P_CHANNEL, P_OTP, P_OTP)),
        refused("otp_twice_other_value", "duplicate",
                credential(P_KID, P_CHANNEL, P_OTP, quoted("otp", b64url(bytes(32))))),
        refused("otp_twice_other_case", "names are compared in any case",
                credential(P_KID, P_CHANNEL, P_OTP, quoted("OTP", OTP))),
        refused("channel_twice", "duplicate", credential(P_KID, P_CHANNEL, P_CHANNEL, P_OTP)),
        refused("kid_twice", "duplicate", credential(P_KID, P_KID, P_CHANNEL, P_OTP)),
        refused("kid_twice_other_value", "duplicate", with_extra(quoted("kid", "client2"))),
        refused("kid_twice_other_case", "names are compared in any case", with_extra(quoted("KID", KID))),
        refused("unknown_parameter_twice", "duplicate", credential(P_KID, P_CHANNEL, P_OTP, "x=1", "x=2")),
        refused("unknown_parameter_twice_other_case", "names are compared in any case",
                credential(P_KID, P_CHANNEL, P_OTP, "x=1", "X=1")),
        refused("otp_and_jws", "exactly one of otp, jws, jwe", with_extra(P_JWS)),
        refused("otp_and_jwe", "exactly one of otp, jws, jwe", with_extra(P_JWE)),
        refused("jws_and_jwe", "exactly one of otp, jws, jwe", credential(P_KID, P_CHANNEL, P_JWS, P_JWE)),
        refused("otp_and_jws_and_jwe", "exactly one of otp, jws, jwe",
                credential(P_KID, P_CHANNEL, P_OTP, P_JWS, P_JWE)),
    ]


def refused_kids():
    """kid: 1 to 128 of A-Z a-z 0-9 . _ ~ @ : / + -"""
    kids = [
        ("kid_empty", "1 to 128 bytes", ""),
        ("kid_129_bytes", "1 to 128 bytes", KID_128 + "x"),
        ("kid_with_space", "character not allowed", "client 1"),
        ("kid_with_leading_space", "character not allowed, nothing is trimmed", " client1"),
        ("kid_with_trailing_space", "character not allowed, nothing is trimmed", "client1 "),
        ("kid_with_tab", "character not allowed", "client\t1"),
        ("kid_with_quote_by_quoted_pair", 'the value is cli"ent1', 'cli\\"ent1'),
        ("kid_with_backslash_by_quoted_pair", "the value is cli\\ent1", "cli\\\\ent1"),
        ("kid_with_comma", "character not allowed", "client,1"),
        ("kid_with_percent", "character not allowed, nothing is decoded", "client%31"),
        ("kid_with_star", "character not allowed", "client*"),
        ("kid_non_ascii_latin_1", "obs-text is legal in a quoted-string, not in a kid", "cli\xe9nt1"),
        ("kid_non_ascii_utf_8", "obs-text is legal in a quoted-string, not in a kid", "cli\xc3\xa9nt1"),
        ("kid_with_nul", "control character", "client1\x00"),
        ("kid_with_line_feed", "control character", "client1\n"),
    ]
    return [refused(name, why, with_kid(quoted("kid", value))) for name, why, value in kids]


def refused_values():
    """channel: 16 bytes, otp: 32 bytes, both canonical unpadded base64url (RFC 4648 sections 3.2, 3.5, 5)"""
    slashed = PLUS_AND_SLASH * 6
    channels = [
        ("channel_empty", "16 bytes", ""),
        ("channel_15_bytes", "16 bytes", b64url(CHANNEL_BYTES[:15])),
        ("channel_17_bytes", "16 bytes", b64url(CHANNEL_BYTES + b"\x30")),
        ("channel_one_character_left_over", "21 characters: no whole number of bytes", CHANNEL[:21]),
        ("channel_padded", "unpadded", padded(CHANNEL_BYTES)),
        ("channel_standard_alphabet", "+ and / are not in base64url", standard_alphabet(slashed[:16])),
        ("channel_trailing_bit_set", "not canonical", trailing_bit_set(CHANNEL_BYTES)),
        ("channel_with_space_inside", "not in the alphabet", CHANNEL[:11] + " " + CHANNEL[11:]),
        ("channel_with_leading_space", "not in the alphabet", " " + CHANNEL),
        ("channel_with_space_in_place_of_a_character", "not in the alphabet", CHANNEL[:11] + " " + CHANNEL[12:]),
        ("channel_non_ascii", "not in the alphabet", CHANNEL[:11] + "\xe9" + CHANNEL[12:]),
        ("channel_hex", "base64url, not hex", CHANNEL_BYTES.hex()),
    ]
    otps = [
        ("otp_empty", "32 bytes", ""),
        ("otp_31_bytes", "32 bytes", b64url(OTP_BYTES[:31])),
        ("otp_33_bytes", "32 bytes", b64url(OTP_BYTES + b"\x00")),
        ("otp_one_character_left_over", "45 characters: no whole number of bytes", OTP + "AA"),
        ("otp_padded", "unpadded", padded(OTP_BYTES)),
        ("otp_standard_alphabet", "+ and / are not in base64url", standard_alphabet(slashed[:32])),
        ("otp_trailing_bit_set", "not canonical", trailing_bit_set(OTP_BYTES)),
        ("otp_with_space_inside", "not in the alphabet", OTP[:20] + " " + OTP[20:]),
        ("otp_with_trailing_space", "not in the alphabet", OTP + " "),
        ("otp_non_ascii", "not in the alphabet", OTP[:20] + "\xe9" + OTP[21:]),
        ("otp_hex", "base64url, not hex", OTP_BYTES.hex()),
    ]
    return ([refused(name, why, with_channel(value)) for name, why, value in channels]
            + [refused(name, why, with_otp(value)) for name, why, value in otps])


def refused_syntax():
    """RFC 9110 sections 5.6.2 (token), 5.6.3 (white space), 5.6.4 (quoted-string), 11.2 (auth-param)"""
    syntax = [
        ("quoted_string_unterminated", "no closing quote", with_otp(OTP)[:-1]),
        ("quoted_string_unterminated_in_the_middle", "no closing quote", with_kid(f'kid="{KID}')),
        ("quoted_string_of_one_quote", "no closing quote", with_extra('x="')),
        ("quoted_string_ends_in_lone_backslash", "nothing after the backslash", with_extra('x="a\\')),
        ("quoted_string_closing_quote_escaped", "no closing quote", with_extra('x="a\\"')),
        ("quoted_string_with_control_character", "not qdtext", with_extra('x="a\x01b"')),
        ("quoted_string_with_carriage_return_line_feed", "not qdtext", with_extra('x="a\r\nb"')),
        ("quoted_string_with_nul", "not qdtext", with_extra('x="a\x00b"')),
        ("quoted_string_with_del", "not qdtext", with_extra('x="a\x7fb"')),
        ("quoted_pair_of_control_character", "not a quoted-pair", with_extra('x="a\\\x01b"')),
        ("quoted_pair_of_del", "not a quoted-pair", with_extra('x="a\\\x7fb"')),
        ("comma_missing", "parameters are separated by commas", f"EKM-OTP {P_KID} {P_CHANNEL}, {P_OTP}"),
        ("comma_and_space_missing", "parameters are separated by commas", f"EKM-OTP {P_KID}, {P_CHANNEL}{P_OTP}"),
        ("semicolon_as_separator", "parameters are separated by commas", f"EKM-OTP {P_KID}; {P_CHANNEL}; {P_OTP}"),
        ("vertical_tab_as_white_space", "OWS is SP and HTAB", f"EKM-OTP {P_KID},\x0b{P_CHANNEL}, {P_OTP}"),
        ("no_break_space_as_white_space", "OWS is SP and HTAB", f"EKM-OTP {P_KID},\xa0{P_CHANNEL}, {P_OTP}"),
        ("obsolete_line_folding", "OWS is SP and HTAB", f"EKM-OTP {P_KID},\r\n {P_CHANNEL}, {P_OTP}"),
        ("parameter_without_equals_sign", "name only", with_extra("x")),
        ("parameter_without_equals_sign_kid", "name only", with_kid("kid")),
        ("parameter_without_value", "nothing after =", with_extra("x=")),
        ("parameter_without_value_kid", "nothing after =", with_kid("kid=")),
        ("parameter_without_name", "nothing before =", with_extra("=x")),
        ("parameter_with_two_equals_signs", "= is not a token character", with_extra("x==y")),
        ("parameter_name_not_a_token", "@ is not a token character", with_extra('x@y="1"')),
        ("parameter_name_quoted", "a name is a token", with_kid(f'"kid"="{KID}"')),
        ("parameter_name_non_ascii", "a name is a token", with_extra('x\xe9="1"')),
        ("garbage_after_quoted_string", "a comma or the end", with_kid(P_KID + "x")),
        ("garbage_after_quoted_string_and_space", "a comma or the end", with_kid(P_KID + " x")),
        ("garbage_after_the_last_parameter", "a comma or the end", with_otp(OTP) + " x"),
        ("quoted_string_after_quoted_string", "values are not joined", with_kid('kid="cli""ent1"')),
        ("single_quoted_value", "' is a token character, not a quote, and not for a kid", with_kid(f"kid='{KID}'")),
        ("token_with_forbidden_character", "( is not a token character", with_kid("kid=client(1)")),
        ("token_with_at_sign", "allowed in a kid, but only in a quoted-string", with_kid("kid=client@1")),
        ("token_with_slash", "allowed in a kid, but only in a quoted-string", with_kid("kid=client/1")),
        ("token_with_backslash", "quoted-pair is only for a quoted-string", with_kid("kid=cl\\ient1")),
        ("token_with_quote_inside", "a value is a token or a quoted-string", with_kid('kid=cli"ent1"')),
        ("token_with_space", "a comma or the end", with_kid("kid=client 1")),
        ("token_non_ascii", "obs-text is only for a quoted-string", with_extra("x=\xe9")),
        ("second_challenge_appended", "Authorization is no list", with_extra("Basic abc=")),
        ("second_credential_of_ours_appended", "Authorization is no list", with_extra(BASE["authorization"])),
    ]
    return [refused(name, why, field) for name, why, field in syntax]


def authorization_refused():
    return (refused_field() + refused_parameter_sets() + refused_kids() + refused_values() + refused_syntax())


# ---------------------------------------------------------------- fields/authorization-accepted.json

def accepted(name, field, v=BASE):
    return {"name": name, "fields": [field], "kid": v["kid"], "channel": v["channel"], "otp": v["otp"]}


def authorization_accepted():
    parameters = ", ".join([P_KID, P_CHANNEL, P_OTP])
    tokens = f"kid={KID}, channel={CHANNEL}, otp={OTP}"
    punctuation = vector("", kid="Client-7" + PUNCTUATION)
    token_punctuation = vector("", kid="client._~+-1")
    long_kid = vector("", kid=KID_128)
    dashes = vector("", ekm=EKM[0:32] + PLUS_AND_SLASH + EKM[38:48])
    return [
        accepted("canonical", BASE["authorization"]),
        # The scheme and the names in any case: RFC 9110 sections 11.1 and 11.2
        accepted("scheme_lower_case", f"ekm-otp {parameters}"),
        accepted("scheme_mixed_case", f"Ekm-oTP {parameters}"),
        accepted("names_upper_case", credential(quoted("KID", KID), quoted("CHANNEL", CHANNEL), quoted("OTP", OTP))),
        accepted("names_mixed_case", credential(quoted("Kid", KID), quoted("chAnnel", CHANNEL), quoted("oTp", OTP))),
        # token or quoted-string: section 11.2
        accepted("token_form", f"EKM-OTP {tokens}"),
        accepted("token_form_for_kid_only", with_kid(f"kid={KID}")),
        accepted("token_form_no_white_space", "EKM-OTP " + tokens.replace(" ", "")),
        # Order means nothing
        accepted("order_otp_channel_kid", credential(P_OTP, P_CHANNEL, P_KID)),
        accepted("order_channel_kid_otp", credential(P_CHANNEL, P_KID, P_OTP)),
        # White space: sections 5.6.1 (OWS around commas), 5.6.3 (BWS around =), 11.4 (1*SP after the scheme)
        accepted("no_white_space_after_commas", f"EKM-OTP {P_KID},{P_CHANNEL},{P_OTP}"),
        accepted("spaces_around_commas", f"EKM-OTP {P_KID}  ,   {P_CHANNEL} , {P_OTP}"),
        accepted("tabs_around_commas", f"EKM-OTP {P_KID}\t,\t{P_CHANNEL} \t,\t {P_OTP}"),
        accepted("bad_white_space_around_equals_sign",
                 f'EKM-OTP kid = "{KID}", channel\t=\t"{CHANNEL}", otp= \t"{OTP}"'),
        accepted("bad_white_space_around_equals_sign_token_form",
                 f"EKM-OTP kid = {KID} , channel ={CHANNEL}, otp= {OTP}"),
        accepted("spaces_after_scheme", f"EKM-OTP    {parameters}"),
        # quoted-pair: section 5.6.4
        accepted("quoted_pair_in_kid", with_kid('kid="cl\\ient1"')),
        accepted("quoted_pair_for_every_character_of_kid", with_kid(quoted("kid", "".join("\\" + c for c in KID)))),
        accepted("quoted_pair_in_channel_and_otp",
                 credential(P_KID, quoted("channel", "\\" + CHANNEL), quoted("otp", OTP[:-1] + "\\" + OTP[-1]))),
        # Unknown parameters are ignored, but must be well-formed
        accepted("unknown_parameter_token_form", with_extra("x=1")),
        accepted("unknown_parameter_first", credential("x=1", P_KID, P_CHANNEL, P_OTP)),
        accepted("unknown_parameter_with_every_token_character",
                 with_extra("!#$%&'*+-.^_`|~0aZ=!#$%&'*+-.^_`|~0aZ")),
        accepted("unknown_parameter_quoted_empty", with_extra('x=""')),
        accepted("unknown_parameter_with_comma_and_escaped_quote",
                 credential(P_KID, 'note="a, b=\\"c\\", otp=\\"d\\" \\\\"', P_CHANNEL, P_OTP)),
        accepted("unknown_parameter_with_tab", with_extra('note="a\tb\\\tc"')),
        accepted("unknown_parameter_with_obs_text", credential('note="\x80caf\xe9\\\xff"', P_KID, P_CHANNEL, P_OTP)),
        accepted("unknown_parameters_several", credential("a=1", P_KID, 'b="2"', P_CHANNEL, "c=3", P_OTP, 'd="4"')),
        accepted("unknown_parameter_realm_and_proof", with_extra('realm="r", proof="p"')),
        accepted("unknown_parameter_extended_kid", with_extra("kid*=UTF-8''client2")),
        # Empty list elements: section 5.6.1.2
        accepted("empty_element_first", f"EKM-OTP ,{parameters}"),
        accepted("empty_element_doubled_comma", f"EKM-OTP {P_KID},, {P_CHANNEL}, ,{P_OTP}"),
        accepted("empty_element_last", f"EKM-OTP {parameters},"),
        accepted("empty_elements_everywhere", f"EKM-OTP , ,{P_KID},\t, {P_CHANNEL}, ,, {P_OTP}, ,"),
        # Other credentials, each read as it is
        accepted("kid_with_every_allowed_punctuation", punctuation["authorization"], punctuation),
        accepted("kid_in_token_form_with_punctuation",
                 token_punctuation["authorization"].replace('"', ""), token_punctuation),
        accepted("kid_128_bytes", long_kid["authorization"], long_kid),
        accepted("channel_with_dash_and_underscore", dashes["authorization"], dashes),
        accepted("field_of_4096_bytes", field_of_length(MAX_FIELD)),
    ]


# ---------------------------------------------------------------- fields/authentication-info.json

def info(name, fields, proof=PROOF):
    return {"name": name, "fields": fields, "proof": proof}


def authentication_info():
    """#auth-param without a scheme, RFC 7615 section 3; several fields are one list, RFC 9110 section 5.3"""
    token = f"proof={PROOF}"
    upper = quoted("PROOF", PROOF)
    slashed = standard_alphabet((PLUS_AND_SLASH * 6)[:32])
    found = [
        ("canonical", [P_PROOF]),
        ("token_form", [token]),
        ("name_upper_case", [upper]),
        ("name_mixed_case", [quoted("Proof", PROOF)]),
        ("bad_white_space_around_equals_sign", [f'proof \t= "{PROOF}"']),
        ("quoted_pair_in_proof", [f'proof="\\{PROOF}"']),
        ("unknown_parameter_before", [f'nextnonce="abc", {P_PROOF}']),
        ("unknown_parameter_after_without_white_space", [f"{P_PROOF},qop=auth"]),
        ("unknown_parameters_around", [f'rspauth="a, proof=\\"b\\"" ,\t{token} , cnonce="\xe9"']),
        ("empty_elements", [f", ,{P_PROOF},,"]),
        ("two_fields_proof_in_the_first", [P_PROOF, 'nextnonce="abc"']),
        ("two_fields_proof_in_the_second", ['nextnonce="abc"', P_PROOF]),
        ("two_fields_one_empty", ["", P_PROOF]),
    ]
    absent = [
        ("missing_field", []),
        ("empty_field", [""]),
        ("proof_missing", ['nextnonce="abc"']),
        ("proof_only_inside_another_value", [f'note="proof={PROOF}"']),
        ("proof_under_longer_name", [quoted("server-proof", PROOF)]),
        ("proof_twice", [f"{P_PROOF}, {P_PROOF}"]),
        ("proof_twice_other_case", [f"{P_PROOF}, {upper}"]),
        ("proof_twice_other_value", [f"{P_PROOF}, {quoted('proof', b64url(bytes(32)))}"]),
        ("two_fields_same_proof", [P_PROOF, P_PROOF]),
        ("two_fields_other_proof", [P_PROOF, quoted("proof", b64url(bytes(32)))]),
        ("two_fields_one_malformed", [P_PROOF, 'nextnonce="abc']),
        ("proof_empty", ['proof=""']),
        ("proof_without_value", ["proof="]),
        ("proof_without_equals_sign", ["proof"]),
        ("proof_31_bytes", [quoted("proof", b64url(PROOF_BYTES[:31]))]),
        ("proof_33_bytes", [quoted("proof", b64url(PROOF_BYTES + b"\x00"))]),
        ("proof_padded", [quoted("proof", padded(PROOF_BYTES))]),
        ("proof_trailing_bit_set", [quoted("proof", trailing_bit_set(PROOF_BYTES))]),
        ("proof_standard_alphabet", [quoted("proof", slashed)]),
        ("proof_hex", [quoted("proof", PROOF_BYTES.hex())]),
        ("proof_with_space_inside", [quoted("proof", PROOF[:20] + " " + PROOF[20:])]),
        ("proof_unterminated", [P_PROOF[:-1]]),
        ("proof_ends_in_lone_backslash", [P_PROOF[:-1] + "\\"]),
        ("proof_single_quoted", [f"proof='{PROOF}'"]),
        ("proof_without_name", [PROOF]),
        ("garbage_after_proof", [P_PROOF + " x"]),
        ("comma_missing", [f"{P_PROOF} qop=auth"]),
        ("semicolon_as_separator", [f"{P_PROOF}; qop=auth"]),
        ("control_character_in_unknown_parameter", [f'{P_PROOF}, note="a\x01b"']),
        ("scheme_before_proof", [f"EKM-OTP {P_PROOF}"]),
    ]
    return [info(name, fields) for name, fields in found] + [info(name, fields, None) for name, fields in absent]


# ---------------------------------------------------------------- fields/www-authenticate.json

def challenge(name, realm, error, *fields):
    return {"name": name, "fields": list(fields), "realm": realm, "error": error}


def www_authenticate():
    """#challenge, RFC 9110 sections 11.3 and 11.6.1"""
    ours = 'EKM-OTP realm="demo"'
    ours_channel = 'EKM-OTP realm="demo", error="channel"'
    digest = 'Digest realm="d", qop="auth, auth-int", nonce=abc'
    return [
        challenge("ours_alone", "demo", None, ours),
        challenge("ours_error_channel", "demo", "channel", ours_channel),
        challenge("ours_error_time", "demo", "time", 'EKM-OTP realm="demo", error="time"'),
        challenge("ours_error_credential", "demo", "credential", 'EKM-OTP realm="demo", error="credential"'),
        challenge("ours_error_before_realm", "demo", "channel", 'EKM-OTP error="channel", realm="demo"'),
        challenge("ours_after_basic", "demo", None, f'Basic realm="other", {ours}'),
        challenge("ours_before_bearer", "demo", "channel", f'{ours_channel}, Bearer realm="other"'),
        challenge("error_of_bearer_is_not_ours", "demo", None, f'{ours}, Bearer error="invalid_token"'),
        challenge("ours_between_digest_and_bearer", "demo", "channel",
                  f'{digest}, {ours_channel}, Bearer realm="other", error="invalid_token"'),
        challenge("ours_after_token68", "demo", None, f"Negotiate abcd==, {ours}"),
        challenge("ours_after_scheme_without_parameters", "demo", "channel", f"Negotiate, {ours_channel}"),
        challenge("ours_before_scheme_without_parameters", "demo", None, f"{ours}, Negotiate"),
        challenge("two_fields_ours_second", "demo", "channel", 'Basic realm="other"', ours_channel),
        challenge("two_fields_ours_first", "demo", None, ours, 'Basic realm="other", charset="UTF-8"'),
        challenge("scheme_lower_case", "demo", None, 'ekm-otp realm="demo"'),
        challenge("scheme_mixed_case", "demo", None, 'Ekm-oTP realm="demo"'),
        challenge("names_upper_case", "demo", "channel", 'EKM-OTP REALM="demo", ERROR="channel"'),
        challenge("token_form", "demo", "channel", "EKM-OTP realm=demo, error=channel"),
        challenge("realm_with_comma_and_quoted_pairs", 'a "b", c', None, 'EKM-OTP realm="a \\"b\\", \\c"'),
        challenge("realm_empty", "", None, 'EKM-OTP realm=""'),
        challenge("white_space", "demo", "channel", 'EKM-OTP   realm = "demo" \t,\terror\t="channel"'),
        challenge("empty_elements", "demo", "channel", ', ,EKM-OTP realm="demo",, error="channel", ,'),
        challenge("unknown_parameter", "demo", "channel", 'EKM-OTP realm="demo", x="a, b", error="channel", y=1'),

        # None of ours, or not to be trusted
        challenge("missing_field", None, None),
        challenge("empty_field", None, None, ""),
        challenge("other_schemes_only", None, None, 'Basic realm="other", Bearer error="invalid_token"'),
        challenge("other_scheme_that_begins_like_ours", None, None, 'EKM-OTP2 realm="demo"'),
        challenge("ours_only_inside_a_quoted_string", None, None, 'Basic realm="x, EKM-OTP realm=\\"demo\\""'),
        challenge("unterminated_realm", None, None, 'EKM-OTP realm="demo'),
        challenge("unterminated_error", None, None, 'EKM-OTP realm="demo", error="channel'),
        challenge("comma_missing", None, None, 'EKM-OTP realm="demo" error="channel"'),
        challenge("realm_twice", None, None, 'EKM-OTP realm="demo", Realm="demo"'),
        challenge("error_twice", None, None, 'EKM-OTP realm="demo", error="channel", error="time"'),
        challenge("realm_without_value", None, None, "EKM-OTP realm="),
        challenge("realm_with_control_character", None, None, 'EKM-OTP realm="de\x01mo"'),
        challenge("token68_of_ours", None, None, "EKM-OTP abcd=="),
    ]


# ---------------------------------------------------------------- files

SECRETS = "All secrets are test data, used nowhere else."
BYTES = "Strings are latin-1: each character U+0000 to U+00FF is one byte of the field value."
WRITTEN = "Written by testdata/v1/generate.py."


def contents():
    """(path below testdata, comment, name of the list, list)"""
    return [
        ("v1/vectors.json",
         f"EKM-OTP v1 derivation: secret, ekm, mac_input and prk in hex; otp, proof and channel in canonical "
         f"unpadded base64url; server_name is empty where no SNI was sent. {SECRETS} {WRITTEN}",
         "vectors", vectors()),
        ("v1/server-name.json",
         f"How the host of a URL (IPv6 in brackets) becomes server_name. Empty: an IP literal, no SNI. {WRITTEN}",
         "cases", server_names()),
        ("fields/authorization-refused.json",
         f"Authorization fields of one request that a strict parser refuses without knowing any key. kind: missing "
         f"= no credential of ours at all, malformed = any other fault. "
         f"{BYTES} {WRITTEN}",
         "cases", authorization_refused()),
        ("fields/authorization-accepted.json",
         f"Legal spellings of the Authorization field, and what must be read from each. {BYTES} {SECRETS} {WRITTEN}",
         "cases", authorization_accepted()),
        ("fields/authentication-info.json",
         f"Authentication-Info fields of one response, and the proof to read from them; null: to be treated as "
         f"no valid proof. {BYTES} {WRITTEN}",
         "cases", authentication_info()),
        ("fields/www-authenticate.json",
         f"WWW-Authenticate fields of one response, and realm and error of the EKM-OTP challenge among them; realm "
         f"null: none of ours, or malformed. {BYTES} {WRITTEN}",
         "cases", www_authenticate()),
    ]


def rendered():
    for path, comment, key, items in contents():
        names = [item["name"] for item in items]
        assert len(names) == len(set(names)), path
        yield path, json.dumps({"comment": comment, key: items}, indent=1, ensure_ascii=True) + "\n"


def write():
    for path, text in rendered():
        (TESTDATA / path).parent.mkdir(exist_ok=True)
        (TESTDATA / path).write_bytes(text.encode("ascii"))
    return 0


def check():
    status = 0
    for path, text in rendered():
        file = TESTDATA / path
        if not file.is_file() or file.read_bytes() != text.encode("ascii"):
            print(f"testdata/{path} differs", file=sys.stderr)
            status = 1
    return status


def main(arguments):
    self_test()
    if arguments == []:
        return write()
    if arguments == ["--check"]:
        return check()
    print("usage: generate.py [--check]", file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
