"""What a NitroTPM's service answers, made up: attestation documents of a chain that is right at the Unix time AT, with what the request wants in them.

Usage: nsm.py AT root                       # the root's certificate (DER) to standard output
       nsm.py AT answer [PCR=HEX…] [--public-key FILE] [--error NAME]   # the answer to the request on standard input
       nsm.py AT document PUBLIC.der [AGE]  # a document for this key, so many seconds old
Registers that are not named are those of nitro.default_pcrs().
"""

import argparse
import io
import sys
import time
from pathlib import Path

import cbor2
import nitro

parser = argparse.ArgumentParser()
parser.add_argument("at", type=int)
parser.add_argument("what", choices=["root", "answer", "document"])
parser.add_argument("words", nargs="*")
parser.add_argument("--public-key", help="what stands in the document instead of the key that was asked for")
parser.add_argument("--error")
arguments = parser.parse_args()
pki = nitro.make_pki(at=arguments.at)
if arguments.what == "root":
    sys.stdout.buffer.write(pki.root)
elif arguments.what == "document":
    public_key, *age = arguments.words
    made = nitro.make_document(pki, public_key=Path(public_key).read_bytes(), at=int(time.time()) - sum(map(int, age)))
    sys.stdout.buffer.write(made)
else:
    # What follows the request in the index was never written.
    request = cbor2.load(io.BytesIO(sys.stdin.buffer.read()))["Attestation"]
    if arguments.public_key:
        request["public_key"] = Path(arguments.public_key).read_bytes()
    pcrs = nitro.default_pcrs() | {int(number): bytes.fromhex(value) for number, value in (word.split("=") for word in arguments.words)}
    answer = {"Attestation": {"document": nitro.make_document(pki, pcrs=pcrs, at=int(time.time()), **request)}}
    sys.stdout.buffer.write(cbor2.dumps({"Error": arguments.error} if arguments.error else answer))
