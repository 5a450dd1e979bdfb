"""A NitroTPM's vendor command: standard input holds the request (CBOR, and whatever follows it in the buffer), standard output gets the answer.

    nsm_faults.py UNIX [FAULT]    a document of that time, under the root of nitro.make_pki(UNIX)

Faults: `public_key`, `nonce`, `user_data`: another one than was asked for; `refused`: an error instead of a document; `damaged`: a document that is none.
"""

import io
import sys
from pathlib import Path

import cbor2

sys.path.insert(0, str(Path(__file__).parent))
import nitro

at, fault = int(sys.argv[1]), (sys.argv[2:] + [None])[0]
asked = cbor2.load(io.BytesIO(sys.stdin.buffer.read()))["Attestation"]
assert set(asked) == {"user_data", "nonce", "public_key"}, asked
if fault == "refused":
    answer = {"Error": "InvalidArgument"}
else:
    if fault in asked:
        asked[fault] = b"another one"
    document = b"no document" if fault == "damaged" else nitro.make_document(nitro.make_pki(at), at=at, **asked)
    answer = {"Attestation": {"document": document}}
sys.stdout.buffer.write(cbor2.dumps(answer))
