"""Fields of protobuf messages as bytes, where to make the message itself would cost more."""

from __future__ import annotations


def field(number: int, data: bytes) -> bytes:
    """Encode a field that has a length: bytes, a text, another message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    if value < 0x80:
        return value.to_bytes(1, "little")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
