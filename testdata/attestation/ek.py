"""Certificates as manufacturers of TPMs make them: ek.py FOLDER writes a root, an intermediate, and EK certificates that are right or have one fault each, valid at AT."""

import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from nitro import AT, HOUR, certificate, distinguished_name, private_key

EK, AK = ObjectIdentifier("2.23.133.8.1"), ObjectIdentifier("2.23.133.8.3")
DAY = 24 * HOUR


def moment(unix):
    return datetime.datetime.fromtimestamp(unix, datetime.timezone.utc)


def ek_certificate(key, issuer, issuer_key, usages=(EK,), end=AT + 3650 * DAY):
    """TCG EK Credential Profile: an empty subject, and in the critical alternative name a directory name with manufacturer, model and version."""
    tpm = [("2.23.133.2.1", "id:494E5443"), ("2.23.133.2.2", "SLB9670"), ("2.23.133.2.3", "id:00020008")]
    name = x509.Name([x509.RelativeDistinguishedName([x509.NameAttribute(ObjectIdentifier(oid), text)]) for oid, text in tpm])
    others = "digital_signature content_commitment data_encipherment key_agreement key_cert_sign crl_sign encipher_only decipher_only".split()
    # subjectDirectoryAttributes: a tPMSpecification.
    attributes = bytes.fromhex("301830160605678105021 0310d300b0c03322e3002010002020 08a".replace(" ", ""))
    builder = (
        x509.CertificateBuilder(distinguished_name(issuer), x509.Name([]), key.public_key(), 77, moment(AT - DAY), moment(end))
        .add_extension(x509.SubjectAlternativeName([x509.DirectoryName(name)]), True)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(key_encipherment=True, **dict.fromkeys(others, False)), True)
        .add_extension(x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.9"), attributes), False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)


folder = Path(sys.argv[1])
root_key, intermediate_key = private_key("manufacturer"), private_key("manufacturer's intermediate")
times = {"begin": AT - DAY, "end": AT + 3650 * DAY}
root = certificate("manufacturer", root_key, "manufacturer", root_key, is_ca=True, **times)
intermediate = certificate("intermediate", intermediate_key, "manufacturer", root_key, is_ca=True, path_length=0, **times)
key, ecc = rsa.generate_private_key(public_exponent=65537, key_size=2048), private_key("endorsement", ec.SECP256R1())
made = {
    "root": root.public_bytes(Encoding.DER),
    "intermediate": intermediate.public_bytes(Encoding.DER),
    "rsa": ek_certificate(key, "intermediate", intermediate_key),
    "ecc": ek_certificate(ecc, "intermediate", intermediate_key),
    "silent": ek_certificate(key, "intermediate", intermediate_key, usages=()),
    "server": ek_certificate(key, "intermediate", intermediate_key, usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "attestation": ek_certificate(key, "intermediate", intermediate_key, usages=(AK,)),
    "expired": ek_certificate(key, "intermediate", intermediate_key, end=AT - 1),
    "forged": ek_certificate(key, "intermediate", private_key("nobody")),
}
for name, der in made.items():
    (folder / f"{name}.der").write_bytes(der)
