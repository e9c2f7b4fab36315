#!/usr/bin/env python3
"""Checks an evidence bundle of a tamper-evident log: python3 check_evidence.py BUNDLE.json

Nothing but Python's own library and the standards: Ed25519 (RFC 8032), Merkle trees (RFC 6962), signed notes (C2SP)."""
import base64
import hashlib
import json
import sys

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def x_of(y, sign):
    """The x coordinate of a point (RFC 8032, 5.1.3), or None."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return P - x if x % 2 != sign else x


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    x = x_of(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


def add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    u, v = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(n, a):
    total = (0, 1, 1, 0)
    while n:
        if n & 1:
            total = add(total, a)
        a, n = add(a, a), n >> 1
    return total


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (x_of(BASE_Y, 0), BASE_Y, 1, x_of(BASE_Y, 0) * BASE_Y % P)


def is_signed(key, message, signature):
    """Ed25519 (RFC 8032, 5.1.7)."""
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L or len(signature) != 64:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def root_of(leaf, index, size, path):
    """RFC 9162, 2.1.3.2: the root that a path leads to, or None."""
    if index >= size:
        return None
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


def check(bundle):
    """What is wrong with a bundle, or None."""
    body, signatures = bundle["checkpoint"].split("\n\n")
    text = body + "\n"
    origin, size, root = body.split("\n")
    lines = [line[2:].rsplit(" ", 1) for line in signatures.splitlines() if line.startswith("\u2014 ")]

    def signed(key, kind, message):
        for name, data in lines:
            data = base64.b64decode(data)
            hint = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]
            if data[:4] == hint and is_signed(key, message(data), data[-64:]):
                return True
        return False

    if not signed(bytes.fromhex(bundle["key"]), 1, lambda _: text.encode()):
        return "the head is not signed by the log's key"
    cosigned = lambda data: b"cosignature/v1\ntime %d\n" % int.from_bytes(data[4:12], "big") + text.encode()
    if bundle.get("witness") and not signed(bytes.fromhex(bundle["witness"]), 4, cosigned):
        return "the head is not cosigned by the witness"
    leaf = hashlib.sha256(b"\x00" + bundle["entry"].encode()).digest()
    path = [bytes.fromhex(h) for h in bundle["path"]]
    if root_of(leaf, bundle["index"], int(size), path) != base64.b64decode(root):
        return "the entry is not in the tree of the head"
    print(f"good: entry {bundle['index']} of {size} in {origin}")
    return None


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        wrong = check(json.load(file))
    sys.exit(wrong)
