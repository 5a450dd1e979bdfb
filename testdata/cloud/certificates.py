"""Certificates for tests: a root, an intermediate CA, and one for each public key that is named. The CAs' keys live in this process only.

Usage: certificates.py PUBLIC.pem… writes root.pem, intermediate.pem and intermediate.der, and beside each PUBLIC.pem: PUBLIC.crt (the certificate alone), PUBLIC.chain.crt
(with the intermediate), PUBLIC.der, PUBLIC.direct.crt (issued by the root), PUBLIC.expired.crt.
"""

import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test data"), x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, is_ca, begin=NOW - DAY, end=NOW + DAY, serial=None):
    usage = {"key_cert_sign": is_ca, "crl_sign": is_ca, "digital_signature": not is_ca}
    others = "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only".split()
    return (
        x509.CertificateBuilder(name(issuer), name(subject), key, serial or x509.random_serial_number(), begin, end)
        .add_extension(x509.BasicConstraints(is_ca, None), True)
        .add_extension(x509.KeyUsage(**usage, **dict.fromkeys(others, False)), True)
        .sign(issuer_key, hashes.SHA256())
    )


root_key, intermediate_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
root = certificate("root", root_key.public_key(), "root", root_key, True)
intermediate = certificate("intermediate", intermediate_key.public_key(), "root", root_key, True)
Path("root.pem").write_bytes(root.public_bytes(Encoding.PEM))
Path("intermediate.pem").write_bytes(intermediate.public_bytes(Encoding.PEM))
Path("intermediate.der").write_bytes(intermediate.public_bytes(Encoding.DER))
for path in map(Path, sys.argv[1:]):
    key = load_pem_public_key(path.read_bytes())
    # A serial number of 160 bits (RFC 5280 §4.1.2.2), with the highest bit that may be set.
    leaf = certificate(path.stem, key, "intermediate", intermediate_key, False, serial=(1 << 158) + 12345678901234567890)
    direct = certificate(path.stem, key, "root", root_key, False)
    expired = certificate(path.stem, key, "root", root_key, False, NOW - 3 * DAY, NOW - 2 * DAY)
    path.with_suffix(".crt").write_bytes(leaf.public_bytes(Encoding.PEM))
    path.with_suffix(".chain.crt").write_bytes(leaf.public_bytes(Encoding.PEM) + intermediate.public_bytes(Encoding.PEM))
    path.with_suffix(".der").write_bytes(leaf.public_bytes(Encoding.DER))
    path.with_suffix(".direct.crt").write_bytes(direct.public_bytes(Encoding.PEM))
    path.with_suffix(".expired.crt").write_bytes(expired.public_bytes(Encoding.PEM))
