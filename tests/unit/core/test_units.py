from hypothesis import given
from hypothesis import strategies as st

from solera_core.units import BUCKETS, GROUPS, UnitSample, bucket, group, merge_samples, unit_hash

ARMS = [("a", 1), ("b", 1), ("b", 2)]
# Small hashes are frequent, so that thresholds fall far.
hashes = st.integers(0, 2**64 - 1) | st.integers(0, 63).flatmap(lambda bits: st.integers(0, 2**bits))
seen = st.lists(st.tuples(st.sampled_from(ARMS), hashes), max_size=60, unique=True)


def sample(units, limit):
    """Return the sample of units by its definition: the largest threshold that keeps few enough."""
    halvings = 0
    while sum(number < 2 ** (64 - halvings) for _, number in units) > limit:
        halvings += 1
    members = {}
    for arm, number in units:
        if number < 2 ** (64 - halvings):
            members.setdefault(arm, set()).add(number)
    return UnitSample(halvings, {arm: frozenset(numbers) for arm, numbers in members.items()})


@given(seen, st.integers(1, 10), st.randoms())
def test_samples_of_parts_merge_into_the_sample_of_all(units, limit, random):
    parts = [[], [], []]
    for unit in units:
        for part in random.sample(parts, random.randint(1, 3)):  # several servers may see one unit
            part.append(unit)
    merged = merge_samples((sample(part, limit) for part in parts), limit)
    assert merged == sample(units, limit)
    one, two, three = (sample(part, limit) for part in parts)
    assert merge_samples([one, merge_samples([three, two], limit)], limit) == merged


def test_no_sample_is_the_empty_one():
    assert merge_samples([]) == UnitSample()
    assert UnitSample().threshold == 2**64


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=16, max_size=64))
def test_a_unit_has_one_hash_under_a_key_and_its_parts_are_within_bounds(unit, key):
    number = unit_hash(unit, key)
    assert number == unit_hash(unit, key)
    assert 0 <= number < 2**64
    assert 0 <= bucket(number) < BUCKETS
    assert 0 <= group(number) < GROUPS


def test_another_key_gives_other_hashes():
    assert unit_hash(b"user-7", b"k" * 16) != unit_hash(b"user-7", b"l" * 16)
    # Written down: counters of servers of different releases are added up.
    assert unit_hash(b"user-7", b"k" * 16) == 0x91F6A6F6CF5F7E1B
