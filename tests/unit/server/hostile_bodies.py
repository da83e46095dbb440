"""Reads sound, damaged and cut request bodies with the extension alone; run under the sanitizers."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import solera_native as native

NAMES = ("age", "visits", "city", "member")
PIECES = (
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"0",
    b"-",
    b".",
    b"e9",
    b"null",
    b"\xc3",
    b"\xff",
    b"\\",
    b"\0",
)

V1 = (
    b'{"instances":[[1.5,2,"Porto",true],[null,-3e2,"P\xc3\xb6",false]]}',
    (
        b'{"instances":[{"age":0.1234567890123456,"visits":1,"city":"","member":false},{"member":true,"visits":0}],'
        b'"parameters":{"probabilities":true}}'
    ),
    b'{"instances":[%b]}' % b",".join([b'[12345678901234567e-30,9007199254740992,"x",true]'] * 70),
)
V2 = (
    (
        b'{"id":"\xc3\xa9","inputs":[{"name":"age","shape":[2,1],"datatype":"FP32","data":[[1e-45],[null]]},'
        b'{"data":["a","b"],"datatype":"BYTES","name":"city","shape":[2]},'
        b'{"name":"member","shape":[2],"datatype":"BOOL","data":[true,false]},'
        b'{"name":"visits","shape":[2],"datatype":"INT8","parameters":{"a":1,"b":"c"},"data":[-128,127]}],'
        b'"outputs":[{"name":"predict"},{"name":"predict_proba","parameters":null}],"model_name":"m"}'
    ),
)
MATRIX = (
    b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP64","data":[1,2.5,0.30000000000000004,4e-310]}]}',
    b'{"inputs":[{"data":[[1,2],[3,4]],"name":"x","shape":[2,2],"datatype":"UINT8"}],"outputs":[]}',
)


def changed(chance: random.Random, body: bytes) -> bytes:
    """Return the body with one to three changes."""
    for _ in range(chance.choice((1, 1, 1, 1, 2, 3))):
        at = chance.randint(0, len(body))
        kind = chance.randint(0, 3)
        if kind == 0:
            body = body[:at]
        elif kind == 1:
            body = body[:at] + chance.choice(PIECES) + body[at + chance.randint(0, 2) :]
        elif kind == 2:
            start = chance.randint(0, len(body))
            body = body[:at] + body[start : start + chance.randint(1, 30)] + body[at:]
        else:
            body = body[:at] + bytes([chance.randint(0, 255)]) + body[at + 1 :]
    return body


def main(corpus: Path) -> None:
    mixed = native.BodyReader(NAMES, b"FiSb", "m", ("predict", "predict_proba"), 100)
    numbers = native.BodyReader(("x0", "x1"), b"FF", "m", (), 100)
    readers = ((mixed.read_v1, V1), (mixed.read_v2, V2), (numbers.read_v2, MATRIX))
    taken = refused = 0
    for read, sound in readers:
        for body in sound:
            if read(body) is None:
                raise AssertionError(f"not plain: {body!r}")
            for end in range(len(body)):
                if read(body[:end]) is not None:
                    raise AssertionError(f"half a body is taken: {body[:end]!r}")
    kept = [path.read_bytes() for folder in ("v1", "v2") for path in sorted((corpus / folder).iterdir())]
    chance = random.Random(0)
    for number in range(60_000):
        read, sound = readers[number % 3]
        body = changed(chance, chance.choice(kept if number % 7 == 0 else sound))
        found = read(body)
        taken += found is not None
        refused += found is None
    sys.stdout.write(f"{taken} {refused}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
