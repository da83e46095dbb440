"""Receipts: what was predicted, in a token that only Solera can make, so that a label can be counted later.

A token is base64url without padding over these bytes (integers big endian, texts behind their length in one
byte), the last 16 of which are the beginning of an HMAC-SHA256 over all others:

    1, key id, model, version, arm, weight epoch (8), bucket (1), time in seconds (8), nonce (8),
    kind (1), rows of the request (4), predictions held (1), predictions (4 or 8 each)

A predicted class is held as four bytes of a hash of its name, a predicted number as a 64-bit float. Receipts
are not encrypted: they hold no unit and no feature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FORMAT = 1
MAX_ROWS = 64
"""A receipt holds the predictions of the first rows of a request."""
MAX_TOKEN = 1400
MAC_BYTES = 16
MIN_KEY_BYTES = 32
KEY_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,30}[A-Za-z0-9])?")

_CLASSES, _NUMBERS = 0, 1
_MIDDLE = struct.Struct(">QBQ8sBIB")
_TOKEN = re.compile(r"[A-Za-z0-9_-]*")
_CONTEXT = b"solera receipt 1\x00"
_LENGTHS = (32, 64, 64, 48)


class ReceiptError(Exception):
    """A token that is no receipt of ours; the message says why."""


class Malformed(ReceiptError):  # noqa: N818 - names the token
    """The token has not the form of a receipt."""


class UnknownKey(ReceiptError):  # noqa: N818 - see Malformed
    """The receipt was made with a key that is not, or no longer, known here."""


class Forged(ReceiptError):  # noqa: N818 - see Malformed
    """The receipt was changed, or made by somebody else."""


@dataclass(frozen=True)
class Receipt:
    """What a token says. `time` is in seconds since 1970; `nonce` has 8 bytes.

    `predictions` are the first ones of `rows`: hashes of classes (int), or numbers (float).
    """

    key_id: str
    model: str
    version: str
    arm: str
    epoch: int
    bucket: int
    time: int
    nonce: bytes
    rows: int
    predictions: tuple[int, ...] | tuple[float, ...]

    @property
    def of_classes(self) -> bool:
        """Whether the predictions are classes."""
        return not any(isinstance(one, float) for one in self.predictions)


def class_hash(label: str | int | bool) -> int:
    """Return the 32-bit hash by which a receipt holds a class, of a class's JSON text."""
    text = json.dumps(label, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4])


class Issuer:
    """Makes receipts of one model and version with one key: what never changes is encoded once."""

    def __init__(self, key_id: str, key: bytes, model: str, version: str) -> None:
        if not KEY_ID.fullmatch(key_id) or len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a key has an id of at most 32 letters, and at least {MIN_KEY_BYTES} bytes")
        self._key = key
        self._prefix = bytes([FORMAT]) + b"".join(
            _text(text, limit) for text, limit in zip((key_id, model, version), _LENGTHS, strict=False)
        )

    def issue(
        self,
        *,
        arm: str,
        epoch: int,
        bucket: int,
        time: int,
        nonce: bytes,
        rows: int,
        classes: Sequence[int] | None = None,
        numbers: Sequence[float] | None = None,
    ) -> str:
        """Return a token for a request of `rows` rows, with the first 64 hashes of classes or numbers."""
        if classes is not None:
            held = classes[:MAX_ROWS]
            kind, packed = _CLASSES, struct.pack(f">{len(held)}I", *held)
        else:
            kept = (numbers or ())[:MAX_ROWS]
            kind, packed = _NUMBERS, struct.pack(f">{len(kept)}d", *kept)
        count = len(packed) // (4 if kind == _CLASSES else 8)
        middle = _MIDDLE.pack(epoch, bucket, time, nonce, kind, rows, count)
        body = self._prefix + _text(arm, _LENGTHS[3]) + middle + packed
        return base64.urlsafe_b64encode(body + _mac(self._key, body)).rstrip(b"=").decode("ascii")


def read(token: str, keys: Mapping[str, bytes]) -> Receipt:
    """Return what a token says, if it was made with one of the keys.

    Raises Malformed, UnknownKey, Forged.
    """
    if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise Malformed(f"a receipt has at most {MAX_TOKEN} letters, digits, - and _")
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise Malformed("a receipt is base64url without padding") from None
    # One receipt is one text: unused bits of the last letter are zero.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != token.encode():
        raise Malformed("a receipt is base64url without padding")
    body, mac = data[:-MAC_BYTES], data[-MAC_BYTES:]
    receipt = _parsed(body)
    key = keys.get(receipt.key_id)
    if key is None:
        raise UnknownKey(f'the receipt was made with the key "{receipt.key_id}", which is not in use')
    if not hmac.compare_digest(mac, _mac(key, body)):
        raise Forged("the receipt was not made by this model's servers")
    return receipt


def _parsed(body: bytes) -> Receipt:
    if not body or body[0] != FORMAT:
        raise Malformed("the token is not a receipt of format 1")
    position, texts = 1, []
    for limit in _LENGTHS:
        length = body[position] if position < len(body) else limit + 1
        text = body[position + 1 : position + 1 + length]
        if length > limit or len(text) != length or not text.isascii():
            raise Malformed("the receipt is cut off, or a name in it is too long")
        texts.append(text.decode("ascii"))
        position += 1 + length
    if len(body) < position + _MIDDLE.size:
        raise Malformed("the receipt is cut off")
    epoch, bucket, time, nonce, kind, rows, count = _MIDDLE.unpack_from(body, position)
    packed = body[position + _MIDDLE.size :]
    width = {_CLASSES: 4, _NUMBERS: 8}.get(kind)
    if width is None or count != min(rows, MAX_ROWS) or len(packed) != count * width:
        raise Malformed("the receipt does not hold as many predictions as it says")
    letter = "I" if kind == _CLASSES else "d"
    predictions = struct.unpack(f">{count}{letter}", packed)
    key_id, model, version, arm = texts
    return Receipt(key_id, model, version, arm, epoch, bucket, time, nonce, rows, predictions)


def _text(text: str, limit: int) -> bytes:
    data = text.encode("ascii")
    if len(data) > limit:
        raise ValueError(f'"{text}" is longer than {limit} letters')
    return bytes([len(data)]) + data


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + body, "sha256")[:MAC_BYTES]
