#!/usr/bin/env python3
"""Recomputes keys, masks and shares of the test vectors: python3 check_masks.py crates/privacy/tests/vectors/protocol.json

Nothing but Python's own library and the standards: X25519 (RFC 7748), HKDF (RFC 5869), ChaCha20 (RFC 8439)."""
import hashlib
import hmac
import json
import struct
import sys

P = 2**255 - 19
FIELDS = {"import": 1, "export": 2, "voltage": 3, "clipped": 4}
MODULUS = 2**61 - 1


def x25519(k, u):
    """RFC 7748, 5."""
    k = int.from_bytes(k, "little") & ~7 & ~(1 << 255) | 1 << 254
    x1 = int.from_bytes(u, "little") & (2**255 - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        e = aa - bb
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def block(key, number, nonce):
    """RFC 8439, 2.3."""
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    start += list(struct.unpack("<8I", key)) + [number] + list(struct.unpack("<3I", nonce))
    s = start[:]

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            s[z] ^= s[x]
            s[z] = (s[z] << n | s[z] >> (32 - n)) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(s, start)))


def mask(key, field, rev, counter):
    nonce = bytes([FIELDS[field]]) + struct.pack(">H", rev) + bytes(9)
    return struct.unpack_from("<Q", block(key, counter // 8, nonce), counter % 8 * 8)[0]


def check(vectors):
    e = vectors["exchange"]
    meter, custodian = bytes.fromhex(e["meter_secret"]), bytes.fromhex(e["custodian_secret"])
    base = bytes([9]) + bytes(31)
    assert x25519(meter, base).hex() == e["meter_public"] and x25519(custodian, base).hex() == e["custodian_public"]
    shared = x25519(meter, x25519(custodian, base))
    extracted = hmac.new(b"gridtally mask 1", shared, hashlib.sha256).digest()
    info = e["meter"].encode() + b"\0" + struct.pack(">I", e["epoch"]) + b"\1"
    key = hmac.new(extracted, info, hashlib.sha256).digest()
    assert key.hex() == e["mask_key"]
    assert hashlib.sha256(b"gridtally mask ratchet 1" + key).hexdigest() == e["next_epoch"]
    for m in vectors["masks"]:
        assert mask(key, m["field"], m["rev"], m["counter"]) == int(m["mask"]), m
    # f(z) = r + s0 z + s1 z^2: three shares give the polynomial, the fourth must lie on it
    points = [(s["party"], s["value"]) for s in vectors["shares"]["shares"]]
    rows = [[pow(z, k, MODULUS) for k in range(3)] + [v] for z, v in points[:3]]
    for i in range(3):
        inverse = pow(rows[i][i], MODULUS - 2, MODULUS)
        rows[i] = [c * inverse % MODULUS for c in rows[i]]
        for j in range(3):
            if j != i:
                rows[j] = [(a - rows[j][i] * b) % MODULUS for a, b in zip(rows[j], rows[i])]
    r, s0, s1 = (row[3] for row in rows)
    assert [s0, s1] == vectors["shares"]["secrets"]
    z, v = points[3]
    assert (r + s0 * z + s1 * z * z) % MODULUS == v
    print(f"good: keys, {len(vectors['masks'])} masks and {len(points)} shares")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        check(json.load(file))
