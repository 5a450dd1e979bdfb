"""A firmware's event log (TCG PC Client Platform Firmware Profile, 10), and the values of registers that it leads to.

    python3 event_log.py LOG [VARIANT…]    writes the log to LOG, prints the values as JSON: bank → register → hexadecimal digits

Variants: `legacy` has SHA-1 alone; `locality` starts from locality 3; `insecure` has Secure Boot off; `shim` has another shim; `later` one event more in register 4. With `events`, what is
printed is what extends the registers of a TPM so, event by event: N:sha1=…,sha256=….
"""

import hashlib
import json
import struct
import sys

BANKS = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C}
# TCG_EVENTTYPE
POST_CODE, NO_ACTION, SEPARATOR, EVENT_TAG, CRTM_VERSION, IPL = 1, 3, 4, 6, 8, 0xD
VARIABLE_DRIVER, VARIABLE_BOOT, APPLICATION = 0x80000001, 0x80000002, 0x80000003
GPT, EFI_ACTION, BLOB, AUTHORITY = 0x80000006, 0x80000007, 0x80000008, 0x800000E0
GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


def text(text):
    return text.encode() + b"\0"


def variable(name, data):
    return GLOBAL_VARIABLE + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def application(path):
    name = path.encode("utf-16-le") + b"\0\0"
    nodes = bytes.fromhex("02010c00d041030a00000000") + struct.pack("<BBH", 4, 4, 4 + len(name)) + name + bytes.fromhex("7fff0400")
    return struct.pack("<QQQQ", 0x10000000, 0x20000, 0, len(nodes)) + nodes


def events(variants):
    """Register, type, what is hashed, what is told."""
    secure = b"\0" if "insecure" in variants else b"\1"
    shim = b"another shim" if "shim" in variants else b"a shim"
    version = "2026.11".encode("utf-16-le") + b"\0\0"
    yield 0, CRTM_VERSION, version, version
    yield 0, BLOB, b"the firmware itself", struct.pack("<QQ", 0xFF000000, 0x1000)
    for name, data in [("SecureBoot", secure), ("PK", b"a platform key"), ("KEK", b"key exchange keys"), ("db", b"allowed"), ("dbx", b"forbidden")]:
        yield 7, VARIABLE_DRIVER, variable(name, data), variable(name, data)
    boot = variable("BootOrder", b"\0\0")
    yield 1, VARIABLE_BOOT, boot, boot
    for register in range(8):
        yield register, SEPARATOR, b"\0" * 4, b"\0" * 4
    action = b"Calling EFI Application from Boot Option"
    yield 4, EFI_ACTION, action, action
    authority = variable("db", b"the certificate that allowed it")
    yield 7, AUTHORITY, authority, authority
    yield 4, APPLICATION, shim, application("\\EFI\\debian\\shimx64.efi")
    table = b"EFI PART" + bytes(84) + struct.pack("<Q", 1) + bytes(128)
    yield 5, GPT, table, table
    yield 4, APPLICATION, b"a boot loader", application("\\EFI\\debian\\grubx64.efi")
    yield 8, IPL, b"linux /vmlinuz root=/dev/vda1", text("kernel_cmdline: /vmlinuz root=/dev/vda1")
    yield 9, IPL, b"a kernel", text("(hd0,gpt1)/vmlinuz")
    yield 12, EVENT_TAG, b"a tagged event", struct.pack("<II", 0x8F3B22EC, 4) + b"data"
    if "later" in variants:
        yield 4, APPLICATION, b"another program", application("\\EFI\\tool.efi")


def main():
    path, variants = sys.argv[1], sys.argv[2:]
    banks = {"sha1": 4} if "legacy" in variants else BANKS
    locality = 3 if "locality" in variants else 0
    values = {}
    log = b""
    extended = []
    if "legacy" not in variants:
        sizes = b"".join(struct.pack("<HH", number, hashlib.new(name).digest_size) for name, number in BANKS.items())
        header = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 105, 2, len(BANKS)) + sizes + b"\0"
        log += struct.pack("<II20sI", 0, NO_ACTION, b"", len(header)) + header
    if locality:
        data = b"StartupLocality\0" + bytes([locality])
        digests = b"".join(struct.pack("<H", number) + bytes(hashlib.new(name).digest_size) for name, number in BANKS.items())
        log += struct.pack("<III", 0, NO_ACTION, len(BANKS)) + digests + struct.pack("<I", len(data)) + data
    for register, kind, hashed, told in events(variants):
        digests = {name: hashlib.new(name, hashed).digest() for name in banks}
        for name, digest in digests.items():
            first = bytes(len(digest) - 1) + bytes([locality if register == 0 else 0])
            old = values.setdefault(name, {}).get(register, first)
            values[name][register] = hashlib.new(name, old + digest).digest()
        extended.append(f"{register}:" + ",".join(f"{name}={digest.hex()}" for name, digest in digests.items()))
        if "legacy" in variants:
            log += struct.pack("<II", register, kind) + digests["sha1"]
        else:
            log += struct.pack("<III", register, kind, len(BANKS))
            log += b"".join(struct.pack("<H", BANKS[name]) + digest for name, digest in digests.items())
        log += struct.pack("<I", len(told)) + told
    with open(path, "wb") as file:
        file.write(log)
    if "events" in variants:
        print("\n".join(extended))
        return
    print(json.dumps({name: {register: value.hex() for register, value in sorted(of.items())} for name, of in values.items()}))


main()
