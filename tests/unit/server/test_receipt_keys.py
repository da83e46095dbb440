from __future__ import annotations

import pytest

from solera_core.failures import Failure
from solera_server.receipt_keys import WatchedKeys, read_keys


def write(directory, **files):
    directory.mkdir(exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def test_keys_are_files_as_a_secret_mounts_them(tmp_path):
    """The names are links into a hidden directory, which the kubelet exchanges as a whole."""

    def mount(version, **files):
        write(tmp_path / f"..{version}", **files)
        link = tmp_path / "..new"
        link.symlink_to(f"..{version}")
        link.rename(tmp_path / "..data")
        for path in [path for path in tmp_path.iterdir() if not path.name.startswith("..")]:
            path.unlink()
        for name in files:
            (tmp_path / name).symlink_to(f"..data/{name}")

    mount("one", k1=b"a" * 32, current=b"k1\n", unit=b"u" * 16)
    keys = WatchedKeys(tmp_path)
    assert keys.keys.keys == {"k1": b"a" * 32}
    assert (keys.keys.current, keys.keys.unit) == ("k1", b"u" * 16)
    assert not keys.refresh()
    mount("two", k1=b"a" * 32, k2=b"b" * 32, current=b"k2", unit=b"u" * 16)
    assert keys.refresh()
    assert keys.keys.current == "k2"
    assert set(keys.keys.keys) == {"k1", "k2"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"k1": b"a" * 32}, "current is missing"),
        ({"k1": b"a" * 32, "current": b"k2"}, 'names the key "k2"'),
        ({"k1": b"a" * 31, "current": b"k1"}, "k1: a key has 32 to 1024 bytes"),
        ({"k1": b"a" * 2000, "current": b"k1"}, "k1: a key has 32 to 1024 bytes"),
        ({"k 1": b"a" * 32, "current": b"k 1"}, "k 1: a key's id"),
        ({"k1": b"a" * 32, "current": b"k1", "unit": b"short"}, "unit: a key for units"),
        ({**{f"k{n}": b"a" * 32 for n in range(5)}, "current": b"k1"}, "more than 4 keys"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path, files, message):
    with pytest.raises(Failure, match=message) as raised:
        read_keys(write(tmp_path, **files))
    assert str(tmp_path) in raised.value.message


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Failure, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")


def test_keys_that_became_unreadable_leave_the_old_ones_in_use(tmp_path, caplog):
    keys = WatchedKeys(write(tmp_path, k1=b"a" * 32, current=b"k1"))
    (tmp_path / "current").unlink()
    for _ in range(3):
        assert not keys.refresh()
    assert keys.keys.current == "k1"
    assert [record.message for record in caplog.records] == ["receipt keys not read"]


def test_the_key_of_units_stays_until_the_next_start(tmp_path):
    keys = WatchedKeys(write(tmp_path, k1=b"a" * 32, current=b"k1", unit=b"u" * 16))
    write(tmp_path, unit=b"v" * 16)
    assert not keys.refresh()
    assert keys.keys.unit == b"u" * 16
