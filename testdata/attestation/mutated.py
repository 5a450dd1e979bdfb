"""Documents that are each changed in one way, from a seed; the verdict on each is the verifier's in nitro.py. Used by `nitro.py mutated COUNT SEED`."""

import random

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID
from nitro import AT, HOUR, Raw, Refused, default_pcrs, head, make_document, make_pki, private_key, verify_document

NONCE, USER_DATA, PUBLIC_KEY = b"a nonce of 20 bytes.", b"user data", bytes(range(91))


class World:
    """The chains, made once."""

    def __init__(self):
        self.right = make_pki()
        self.other = make_pki(name="other")
        self.chains = {
            "chain_without_intermediates": make_pki(between=0),
            "chain_of_one": make_pki(between=1),
            "chain_of_five": make_pki(between=5),
            "leaf_expired": make_pki(leaf={"end": AT - 1}),
            "leaf_ends_now": make_pki(leaf={"end": AT}),
            "leaf_not_yet_valid": make_pki(leaf={"begin": AT + 1}),
            "leaf_begins_now": make_pki(leaf={"begin": AT}),
            "intermediate_expired": make_pki(intermediate={"end": AT - HOUR}),
            "intermediate_not_yet_valid": make_pki(intermediate={"begin": AT + HOUR}),
            "root_expired": make_pki(root={"end": AT - HOUR}),
            "root_not_yet_valid": make_pki(root={"begin": AT + HOUR}),
            "root_may_not_sign": make_pki(root={"usages": "wrong"}),
            "intermediate_is_no_ca": make_pki(intermediate={"is_ca": False, "path_length": None, "usages": None}),
            "intermediate_may_not_sign": make_pki(intermediate={"usages": "wrong"}),
            "intermediate_without_usage": make_pki(intermediate={"usages": None}),
            "intermediate_of_another_issuer": make_pki(intermediate={"issuer": "pki elsewhere"}),
            "intermediate_for_servers": make_pki(intermediate={"extended": [ExtendedKeyUsageOID.SERVER_AUTH]}),
            "path_too_long": make_pki(between=3, root={"path_length": 2}),
            "path_just_long_enough": make_pki(between=3, root={"path_length": 3}),
            "leaf_is_a_ca": make_pki(leaf={"is_ca": True}),
            "leaf_may_not_sign": make_pki(leaf={"usages": "wrong"}),
            "leaf_without_usage": make_pki(leaf={"usages": None}),
            "leaf_for_servers": make_pki(leaf={"extended": [ExtendedKeyUsageOID.SERVER_AUTH]}),
            "leaf_for_clients": make_pki(leaf={"extended": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]}),
            "leaf_with_a_critical_extension": make_pki(leaf={"unknown_critical": True}),
            "leaf_of_another_issuer": make_pki(leaf={"issuer": "pki elsewhere"}),
            "leaf_signed_by_another": make_pki(leaf_signer="nobody"),
            "leaf_on_p256": make_pki(leaf_curve=ec.SECP256R1()),
            "leaf_on_p521": make_pki(leaf_curve=ec.SECP521R1()),
        }
        self.document = make_document(self.right, nonce=NONCE, user_data=USER_DATA, public_key=PUBLIC_KEY)
        self.second = make_document(self.right, nonce=b"another nonce", user_data=USER_DATA)


def document(world, **more):
    return make_document(world.right, **({"nonce": NONCE, "user_data": USER_DATA, "public_key": PUBLIC_KEY} | more))


# Bytes of the whole: nothing of it is signed anew.


def bytes_flipped(rng, world):
    data = bytearray(world.document)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def bytes_of_the_signature_flipped(rng, world):
    data = bytearray(world.document)
    data[-96 + rng.randrange(96)] ^= 1 << rng.randrange(8)
    return bytes(data)


def bytes_lost_or_more(rng, world):
    data, at = world.document, rng.randrange(len(world.document))
    size = rng.choice([1, 2, 16, 100])
    return rng.choice([data[:at], data[:at] + data[at + size :], data[:at] + rng.randbytes(size) + data[at:], data + rng.randbytes(size), data[:at] + data[at : at + size] + data[at:]])


def parts_of_two(rng, world):
    first, second = cbor2.loads(world.document), cbor2.loads(world.second)
    parts = [rng.choice(pair) for pair in zip(first, second)]
    return cbor2.dumps(parts)


# The envelope.


def envelope(rng, world):
    parts = cbor2.loads(world.document)
    protected, _, payload, signature = parts
    whole = world.document
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
    fixed = lambda r, s: cbor2.dumps([protected, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")])
    return rng.choice(
        [
            lambda: b"\xd2" + whole,
            lambda: b"\xd2\xd2" + whole,
            lambda: b"\xd8\x12" + whole,
            lambda: b"\xd8\x3d" + b"\xd2" + whole,
            lambda: b"\xc1" + whole,
            lambda: b"\x9f" + whole[1:] + b"\xff",
            lambda: cbor2.dumps(parts + [b""]),
            lambda: cbor2.dumps(parts[:3]),
            lambda: cbor2.dumps(dict(enumerate(parts))),
            lambda: cbor2.dumps([protected, {4: b"kid"}, payload, signature]),
            lambda: cbor2.dumps([protected, None, payload, signature]),
            lambda: cbor2.dumps([protected, [], payload, signature]),
            lambda: cbor2.dumps([protected, {}, None, signature]),
            lambda: cbor2.dumps([b"", {}, payload, signature]),
            lambda: cbor2.dumps([protected, {}, payload, signature[:-1]]),
            lambda: cbor2.dumps([protected, {}, payload, signature + b"\0"]),
            lambda: cbor2.dumps([protected, {}, payload, utils.encode_dss_signature(r, s)]),
            lambda: fixed(s, r),
            lambda: fixed(r, n - s),
            lambda: fixed(0, 0),
            lambda: fixed(0, s),
            lambda: fixed(r, 0),
            lambda: fixed(n, s),
            lambda: fixed(r, n),
            lambda: fixed(1, 1),
            # The same length in more bytes than it takes: another way to write the same.
            lambda: b"\x84\x44" + protected + b"\xa0\x5a" + len(payload).to_bytes(4, "big") + payload + head(2, 96) + signature,
        ]
    )()


def protected_header(rng, world):
    header = rng.choice(
        [{1: -7}, {1: -36}, {1: -35, 4: b"kid"}, {1: -35, 2: [1]}, {}, {1: "ES384"}, {"1": -35}, {2: -35}, [1, -35], {1: 35}, {1: None}]
    )
    return document(world, protected=rng.choice([cbor2.dumps(header), b"\xa1\x18\x01\x38\x22", b"\xbf\x01\x38\x22\xff", b"\xa1\x01\x39\x00\x22", b"", b"\xa0"]))


# What is signed, and signed anew.


def nested(depth):
    return Raw(b"\x81" * depth + b"\x00")


UNKNOWN = [
    1, -1, 2**63, 2**64 - 1, -(2**64), b"bytes", "text", None, True, False, [], {}, [1, [2, {"a": b"b"}]], {"a": {"b": 1}}, {1: 2, "1": 3}, 1.5, 1e300,
    cbor2.undefined, Raw(b"\xf9\x3c\x00"), Raw(b"\xfa\x3f\x80\x00\x00"), Raw(b"\x9f\x01\x02\xff"), Raw(b"\xbf\x61a\x01\xff"), Raw(b"\x18\x01"),
    Raw(b"\x5f\x41a\x41b\xff"), Raw(b"\x7f\x61a\xff"), Raw(b"\xc1\x00"), Raw(b"\xd8\x20\x61a"), Raw(b"\xf8\x20"), Raw(b"\xe0"), Raw(b"\xf8\x14"), Raw(b"\xff"), Raw(b"\x1c"),
    Raw(b"\x62\xc3\x28"), Raw(b"\xa2\x61a\x00\x61a\x01"), Raw(b"\x82\x00"), nested(6), nested(7), nested(8), nested(500),
    Raw(b"\x98\xff" + b"\x00" * 255), Raw(b"\x99\x01\x00" + b"\x00" * 256), Raw(b"\x99\x01\x01" + b"\x00" * 257), Raw(b"\x9f" + b"\x00" * 257 + b"\xff"),
]  # fmt: skip


def unknown_fields(rng, world):
    return document(world, fields={rng.choice(["new", "zz", "", "Nonce", "nitrotpm"]): rng.choice(UNKNOWN)}, indefinite=rng.random() < 0.5)


def field_changed(rng, world):
    name = rng.choice(["module_id", "digest", "timestamp", "nitrotpm_pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce"])
    values = [None, 0, 1, -1, 2**64 - 1, b"", b"x", "", "x", "SHA384", "SHA256", "sha384", [], [b""], {}, {0: b"\0" * 48}, {"0": b"\0" * 48}, {0: b"\0" * 32}, True, 1.0, Raw(b"\xf7")]
    return document(world, fields={name: rng.choice(values)})


def field_lost_twice_or_moved(rng, world):
    def edit(pairs):
        at = rng.randrange(len(pairs))
        return rng.choice(
            [
                lambda: pairs[:at] + pairs[at + 1 :],
                lambda: pairs + [pairs[at]],
                lambda: pairs[:at] + [(pairs[at][0], None)] + pairs[at:],
                lambda: rng.sample(pairs, len(pairs)),
                lambda: pairs[::-1],
                lambda: [(1, pairs[0][1])] + pairs[1:],
                lambda: [(b"module_id", pairs[0][1])] + pairs,
                lambda: pairs + [("pcrs", default_pcrs())],
                lambda: [("pcrs", value) if name == "nitrotpm_pcrs" else (name, value) for name, value in pairs],
            ]
        )()

    return document(world, edit=edit, indefinite=rng.random() < 0.5)


def registers(rng, world):
    pcrs = default_pcrs()
    at = rng.randrange(24)
    pcrs |= rng.choice([{at: bytes(48)}, {at: bytes(47)}, {at: bytes(49)}, {at: bytes(32)}, {at: None}, {at: "text"}, {31: bytes(48)}, {32: bytes(48)}, {256: bytes(48)}, {-1: bytes(48)}, {}])
    for _ in range(rng.choice([0, 0, 1, 23])):
        pcrs.pop(rng.choice(list(pcrs)), None)
    return document(world, pcrs=pcrs, kind=rng.choice(["nitrotpm_pcrs", "nitrotpm_pcrs", "pcrs"]))


def signed_by_another(rng, world):
    key = private_key(rng.choice(["pki leaf", "pki 0", "pki 2", "other leaf"]))
    pki = make_pki()
    pki.key = key
    return make_document(pki, nonce=NONCE, user_data=USER_DATA, public_key=PUBLIC_KEY)


# The certificates.


def chains(rng, world):
    return make_document(world.chains[rng.choice(sorted(world.chains))], nonce=NONCE, user_data=USER_DATA, public_key=PUBLIC_KEY)


def bundle_changed(rng, world):
    bundle, other = world.right.bundle, world.other.bundle
    same_name = make_pki(root={"path_length": 5})
    changed = rng.choice(
        [
            bundle[1:], bundle[:1], bundle[:-1], bundle[:1] + bundle[2:], [bundle[0], bundle[2], bundle[1]], bundle[::-1], bundle + [bundle[-1]], bundle + [world.right.leaf],
            bundle + other[1:], [bundle[0]] + other[1:], other[:1] + bundle[1:], other, same_name.bundle[:1] + bundle[1:], [bundle[0]] + bundle, [bundle[0]] + bundle[1:] * 4,
            bundle[:2] + [bundle[2] + b"\0"], bundle[:2] + [b"\x30\x00"], bundle,
        ]
    )  # fmt: skip
    return document(world, fields={"cabundle": list(changed)})


def certificate_bytes_flipped(rng, world):
    """Signed anew over certificates that are damaged: here the certificates' own signatures have to tell."""
    chain = list(world.right.bundle) + [world.right.leaf]
    which = rng.randrange(len(chain))
    damaged = bytearray(chain[which])
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    chain[which] = bytes(damaged)
    return document(world, fields={"cabundle": chain[:-1], "certificate": chain[-1]})


KINDS = [
    bytes_flipped, bytes_of_the_signature_flipped, bytes_lost_or_more, parts_of_two, envelope, envelope, protected_header, unknown_fields, unknown_fields, field_changed, field_changed,
    field_lost_twice_or_moved, registers, signed_by_another, chains, chains, bundle_changed, certificate_bytes_flipped,
]  # fmt: skip


def expectations(rng):
    """Mostly right ones."""
    expected = {"nonce": NONCE} if rng.random() < 0.8 else {}
    if rng.random() < 0.1:
        wrong = rng.choice([("nonce", NONCE[:-1]), ("nonce", NONCE[:-1] + b"!"), ("nonce", b"!" + NONCE[1:]), ("nonce", b""), ("user_data", b"other"), ("public_key", PUBLIC_KEY[::-1])])
        expected |= dict([wrong])
    if rng.random() < 0.3:
        register = rng.randrange(26)
        expected["pcrs"] = {register: default_pcrs().get(register, bytes(48)) if rng.random() < 0.9 else bytes(48)}
    return expected


def cases(count, seed):
    rng, world = random.Random(seed), World()
    root = world.right.root
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        data, expected, at = kind(rng, world), expectations(rng), AT + rng.choice([0, 0, 0, 0, 0, 1, -HOUR - 1, 3 * HOUR])
        # The chains with faults have roots of their own, by the same key.
        trusted = root
        if kind is chains:
            trusted = cbor2.loads(cbor2.loads(data)[2])["cabundle"][0]
        try:
            verify_document(data, trusted, at, **expected)
            verdict = None
        except Refused as why:
            verdict = str(why)
        shown = {name: value.hex() for name, value in expected.items() if name != "pcrs"}
        shown["pcrs"] = {register: value.hex() for register, value in expected.get("pcrs", {}).items()}
        yield {"kind": kind.__name__, "document": data.hex(), "root": trusted.hex(), "at": at, "expected": shown, "refused": verdict}
