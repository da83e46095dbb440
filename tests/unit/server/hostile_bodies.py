"""Reads sound, damaged and cut request bodies with the extension alone; run under the sanitizers."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

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
    b"\\u",
    b"\\ud83d",
    b"\0",
)

V1 = (
    b'{"instances":[[1.5,2,"Porto",true],[null,-3e2,"P\xc3\xb6",false]]}',
    (
        b'{"instances":[{"age":0.1234567890123456,"visits":1,"city":"","member":false},{"member":true,"visits":0}],'
        b'"parameters":{"probabilities":true}}'
    ),
    b'{"instances":[[1,2,"\\u00e9\\ud83d\\ude00\\n\\"",true]]}',
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


HEAD = b"POST /v%d HTTP/1.1\r\nhost: a\r\nx-unit: u\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n"


def learn(intake: Any, protocol: int) -> None:
    """Let the intake know the head of a protocol."""
    raw = HEAD % (protocol, b"abc", 100)
    starts = [raw.index(line) + len(line) for line in (b"x-unit: ", b"x-request-id: ", b"content-length: ")]
    cuts = tuple(
        (start, raw.index(b"\r", start), kind) for start, kind in zip(starts, (3, 2, 1), strict=True)
    )
    intake.learn(raw, cuts, object(), None, protocol)


def turns(chance: random.Random, mixed: Any, plain: Any) -> int:
    """Send sound and damaged requests to an intake, in turns of all sizes; return how many it took."""
    intake = native.Intake(mixed, mixed, 3000, 500)
    taken = 0
    for protocol in (0, 1):
        learn(intake, protocol)
    for number in range(60_000):
        if number % 5000 == 0:
            intake.limit(
                chance.choice((2, 100, 100)), chance.choice((3, 1000, 1000)), chance.choice((1, 50, 50))
            )
        protocol = chance.randint(0, 1)
        body = chance.choice((V1, V2)[protocol])
        if chance.random() < 0.3:
            body = changed(chance, body)
        length = len(body) if chance.random() < 0.9 else chance.choice((0, len(body) + 1, 10**8))
        message = HEAD % (protocol, chance.choice((b"a", b"a b", b"b" * 200)), length) + body
        if chance.random() < 0.2:
            message = changed(chance, message)
        taken += bool(intake.take(message, 0.5, plain))
        if chance.random() < 0.3:
            found = intake.finish()
            if found is not None:
                owners, received, rows, total, numbers = found[2], *found[8:12]
                sizes = {len(owners), len(received), len(rows)}
                if not sum(rows) == total == len(numbers) // 24 or len(sizes) > 1:
                    raise AssertionError(f"a turn does not fit together: {found!r}")
                if any(len(texts) != total for texts in found[12]):
                    raise AssertionError(f"texts do not fit: {found!r}")
    return taken


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
    for protocol in range(100):
        learn(native.Intake(mixed, mixed, 3000, 500), protocol % 2)  # which ends with what it knows
    if turns(chance, mixed, plain=object()) < 5000:
        raise AssertionError("nearly nothing was taken in turns")
    sys.stdout.write(f"{taken} {refused}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
