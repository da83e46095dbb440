import base64
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solera_core.receipts import (
    MAX_ROWS,
    MAX_TOKEN,
    Forged,
    Issuer,
    Malformed,
    ReceiptError,
    UnknownKey,
    class_hash,
    read,
)

KEYS = {"k1": b"a" * 32, "k2": b"b" * 32}
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=40)
fields = st.fixed_dictionaries(
    {
        "arm": names,
        "epoch": st.integers(0, 2**64 - 1),
        "bucket": st.integers(0, 255),
        "time": st.integers(0, 2**40),
        "nonce": st.binary(min_size=8, max_size=8),
    }
)
classes = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=100)
numbers = st.lists(st.floats(allow_nan=False), min_size=1, max_size=100)


def issued(key_id="k1", **changes):
    values = {"arm": "a", "epoch": 3, "bucket": 7, "time": 1_800_000_000, "nonce": b"12345678", "rows": 1}
    return Issuer(key_id, KEYS[key_id], "iris", "iris-v3").issue(**{**values, "classes": [5], **changes})


@given(st.sampled_from(sorted(KEYS)), names, names, fields, classes | numbers)
def test_a_receipt_says_what_was_predicted(key_id, model, version, values, predictions):
    kind = "classes" if isinstance(predictions[0], int) else "numbers"
    rows = len(predictions)
    token = Issuer(key_id, KEYS[key_id], model, version).issue(**values, rows=rows, **{kind: predictions})
    found = read(token, KEYS)
    assert (found.key_id, found.model, found.version) == (key_id, model, version)
    assert {name: getattr(found, name) for name in values} == values
    assert found.rows == rows
    assert list(found.predictions) == predictions[:MAX_ROWS]
    assert found.of_classes == (kind == "classes")
    assert len(token) <= MAX_TOKEN


@given(st.data())
def test_a_changed_receipt_is_refused(data):
    token = issued(rows=3, classes=[1, 2, 3])
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(ReceiptError):
            read(changed, KEYS)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_whatever_else_comes_is_refused_in_words(token):
    with pytest.raises(ReceiptError):
        read(token, KEYS)


@given(st.binary(max_size=120))
def test_whatever_is_behind_the_first_byte_is_read_or_refused(data):
    with pytest.raises(ReceiptError):
        read(base64.urlsafe_b64encode(b"\x01" + data).rstrip(b"=").decode(), KEYS)


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_receipt_that_is_cut_off_is_refused(cut):
    with pytest.raises(ReceiptError):
        read(issued()[:-cut], KEYS)


def test_each_failure_has_its_kind():
    token = issued()
    with pytest.raises(UnknownKey, match='"k1"'):
        read(token, {"k2": KEYS["k2"]})
    with pytest.raises(Forged):
        read(token, {"k1": b"c" * 32})
    with pytest.raises(Malformed, match="at most"):
        read("A" * (MAX_TOKEN + 1), KEYS)
    with pytest.raises(Malformed, match="letters, digits"):
        read(token + "=", KEYS)
    with pytest.raises(Malformed):
        read("", KEYS)
    # The same bytes in another text would be another receipt to whoever remembers texts.
    data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    if len(data) % 3:
        last = token[-1]
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        other = alphabet[alphabet.index(last) + 1]
        with pytest.raises(Malformed, match="base64url"):
            read(token[:-1] + other, KEYS)


def test_both_keys_of_a_rotation_are_taken():
    assert read(issued("k1"), KEYS).key_id == "k1"
    assert read(issued("k2"), KEYS).key_id == "k2"


def test_the_largest_receipt_fits_a_header():
    token = Issuer("k" * 32, b"x" * 32, "m" * 64, "v" * 64).issue(
        arm="a" * 40,
        epoch=2**64 - 1,
        bucket=255,
        time=2**40,
        nonce=b"n" * 8,
        rows=10_000,
        numbers=[math.pi] * 64,
    )
    assert len(token) <= MAX_TOKEN
    assert len(read(token, {"k" * 32: b"x" * 32}).predictions) == MAX_ROWS


def test_classes_of_other_types_are_other_classes():
    assert len({class_hash(label) for label in ("1", 1, True, "true")}) == 4
    assert class_hash("setosa") == class_hash("setosa")


@pytest.mark.parametrize(("key_id", "key"), [("", b"x" * 32), ("a b", b"x" * 32), ("k", b"x" * 31)])
def test_weak_keys_are_refused(key_id, key):
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Issuer(key_id, key, "m", "v")
