"""The salt of a split."""

from solera_core.salt import split_salt


def test_the_salt_depends_on_model_and_seed_only():
    assert split_salt("iris", 7) != split_salt("iris", 8) != split_salt("iris2", 8)
    assert split_salt("iris", 7) == split_salt("iris", 7)
    assert len(split_salt("iris", 7)) == 64
