import contextlib
import gzip
import io
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from solera_core.failures import Failure, Reason
from solera_core.job import DataDefaults
from solera_core.object_access import named_errors
from solera_trainer.columns import convert, infer_type, texts
from solera_trainer.reading import read_bundled, read_files
from solera_trainer.sources import DataAccess, SourceFile, bundled_name, plain_files, source_files


def read_csv(tmp_path, text, name="x.csv"):
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return read_files(plain_files([path]))


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_csv(tmp_path, name):
    raw = read_csv(tmp_path, '\ufeffa,"b, c",d\n1,"x\ny",NA\n,None,2\n', name)
    assert raw.to_pydict() == {"a": ["1", None], "b, c": ["x\ny", "None"], "d": [None, "2"]}


def test_windows_line_ends_and_a_header_alone(tmp_path):
    assert read_csv(tmp_path, "a,b\r\n1,2\r\n").to_pydict() == {"a": ["1"], "b": ["2"]}
    assert read_csv(tmp_path, "a,b\n").num_rows == 0


BROKEN = {
    "empty": ("", "is empty"),
    "twice": ("a,a\n1,2\n", "two columns with the name a"),
    "unnamed": ("a,,b\n1,2,3\n", "column 2 has no name"),
    "ragged": ("a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, and the first line names 2 columns"),
    "shifted": ("name,age,y\nSmith, John,39,a\nDoe, Jane,50,b\n", "line 2 has 4 fields"),
    "cut": ("name,age,y\nBob,39,a\nJane,5", "line 3 has 2 fields"),
    "after a line within quotes": ('a,b\n"x\ny",2\n3\n', "line 4 has 1 fields"),
    "quotes": ('a,b\n"1,2\n', "is not a readable CSV"),
    "latin": (b"a,b\n\xe9,1\n", "is not UTF-8"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_csv(tmp_path, case):
    text, message = BROKEN[case]
    with pytest.raises(Failure, match=message) as raised:
        read_csv(tmp_path, text)
    assert raised.value.reason == Reason.DATA_UNREADABLE
    assert "x.csv" in raised.value.message


def test_spaces_around_values_are_no_part_of_them(tmp_path):
    raw = read_csv(tmp_path, 'age, hours ,y\n39, 40 , <=50K\n50,\t13," >50K "\n\n 7, NA ,"a ""b"" "\n  \n')
    assert raw.to_pydict() == {
        "age": ["39", "50", "7"],
        "hours": ["40", "13", None],
        "y": ["<=50K", " >50K ", 'a "b" '],
    }
    assert infer_type("hours", raw["hours"]) == "Integer"


def test_a_large_file_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("solera_trainer.reading._RECORDS", 7)
    raw = read_csv(tmp_path, "a,b\n" + "".join(f"{index},x\n" for index in range(50)))
    assert raw["a"].to_pylist() == [str(index) for index in range(50)]


def test_damaged_gzip(tmp_path):
    path = tmp_path / "x.csv.gz"
    data = bytearray(gzip.compress(b"a,y\n" + b"".join(b"%d,%d\n" % (i, i * i % 7) for i in range(5000))))
    for damaged in (data[: len(data) // 2], data[:400] + bytes([data[400] ^ 0xFF]) + data[401:]):
        path.write_bytes(damaged)
        with pytest.raises(Failure) as raised:
            read_files(plain_files([path]))
        assert raised.value.reason == Reason.DATA_UNREADABLE


class Broken(io.RawIOBase):
    """A file whose reading fails, as a store's does."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=0):
        return 1000 if whence == 2 else offset

    def tell(self):
        return 1000

    def readinto(self, _buffer, /):
        raise self.error


TROUBLE = [
    (PermissionError(13, "Access Denied"), Reason.STORE_DENIED),
    (OSError(16, "Please reduce your request rate"), Reason.STORE_UNAVAILABLE),
    (ConnectionResetError(104, "reset"), Reason.STORE_UNAVAILABLE),
    (TimeoutError("read timeout"), Reason.STORE_UNAVAILABLE),
]


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz"])
@pytest.mark.parametrize(("error", "reason"), TROUBLE)
def test_trouble_of_the_store_is_not_called_bad_data(kind, error, reason):
    @contextlib.contextmanager
    def opened():
        with named_errors("s3://bucket/x", "the Secret"):
            yield io.BufferedReader(Broken(error))

    with pytest.raises(Failure, match="s3://bucket/x") as raised:
        read_files([SourceFile("s3://bucket/x", kind, opened)])
    assert raised.value.reason == reason


def test_what_is_not_gzip_or_parquet(tmp_path):
    for name, message in (("x.csv.gz", "CSV"), ("x.parquet", "parquet")):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(Failure, match=f"not a readable {message}"):
            read_files(plain_files([tmp_path / name]))


def test_files_are_joined_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("y,x\n4,3\n")
    raw = read_files(plain_files([tmp_path / "a.csv", tmp_path / "b.csv"]))
    assert raw.to_pydict() == {"x": ["1", "3"], "y": ["2", "4"]}
    (tmp_path / "c.csv").write_text("x,z\n4,3\n")
    with pytest.raises(Failure, match=r"other columns than .*a\.csv: y, z"):
        read_files(plain_files([tmp_path / "a.csv", tmp_path / "c.csv"]))


def test_integers_of_one_file_and_reals_of_another_are_one_column(tmp_path):
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [0.5]}), tmp_path / "b.parquet")
    raw = read_files(plain_files([tmp_path / "a.parquet", tmp_path / "b.parquet"]))
    assert raw["x"].to_pylist() == [1.0, 2.0, 0.5]
    pq.write_table(pa.table({"x": ["text"]}), tmp_path / "c.parquet")
    with pytest.raises(Failure, match="do not agree"):
        read_files(plain_files([tmp_path / "a.parquet", tmp_path / "c.parquet"]))


@pytest.mark.parametrize(
    ("name", "rows", "target"),
    [
        ("iris", 150, "species"),
        ("wine", 178, "cultivar"),
        ("breast_cancer", 569, "diagnosis"),
        ("digits", 1797, "digit"),
        ("diabetes", 442, "progression"),
    ],
)
def test_bundled_sets(name, rows, target):
    raw = read_bundled(name)
    assert raw.num_rows == rows
    assert raw.column_names[-1] == target
    assert all(column.replace("_", "").isalnum() for column in raw.column_names)


TYPES = [
    (["1", "2", None], "Integer"),
    (["1", "2.5"], "Float"),
    (["1e3", "-.5"], "Float"),
    (["007", "12"], "String"),
    (["99999999999999999999"], "String"),
    (["true", "False"], "Boolean"),
    (["true", "no"], "String"),
    (["2026-01-01", "2026-01-02T10:00:00Z"], "DateTime"),
    (["2026-01-01", "2026-13-01"], "String"),
    (["a"], "String"),
    ([None, None], "Float"),
    ([1, None], "Integer"),
    ([2**60], "String"),
    ([1.5], "Float"),
    ([True, None], "Boolean"),
]


@pytest.mark.parametrize(("values", "kind"), TYPES)
def test_inferred_types(values, kind):
    array = pa.chunked_array([pa.array(values, type=pa.string() if values == [None, None] else None)])
    assert infer_type("x", array) == kind


def test_nested_columns_are_refused():
    with pytest.raises(Failure, match=r'column "x" has values of the type .*list'):
        infer_type("x", pa.chunked_array([[[1], [2]]]))


def column(values):
    return pa.chunked_array([pa.array(values)])


def test_conversions():
    assert convert("x", column(["1", None, "2.5"]), "Float").tolist()[::2] == [1.0, 2.5]
    assert math.isnan(convert("x", column(["1", None]), "Float")[1])
    assert convert("x", column([1, 2]), "String").tolist() == ["1", "2"]
    assert convert("x", column(["true", "FALSE"]), "Boolean").tolist() == [1.0, 0.0]
    assert convert("x", column([0, 1]), "Boolean").tolist() == [0.0, 1.0]
    assert convert("x", column(["1970-01-02"]), "DateTime").tolist() == [86400.0]
    assert convert("x", column([None, "a"]), "String").dtype == object


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "x"], "Float"),
        ([1.5], "Integer"),
        ([2, 0], "Boolean"),
        (["soon"], "DateTime"),
        ([5], "DateTime"),
    ],
)
def test_a_value_that_does_not_convert_is_named(values, kind):
    with pytest.raises(Failure, match=rf'column "x" is declared {kind}, and row \d holds') as raised:
        convert("x", column(values), kind)
    assert raised.value.reason == Reason.DATA_UNREADABLE


def test_keys_of_nested_values_are_texts():
    assert texts(pa.chunked_array([[[1], None]])) == ["[1]", "\x00"]


REFUSED = [
    ("http://host/x.csv", Reason.BAD_SPEC),
    ("file:///etc/passwd.csv", Reason.BAD_SPEC),
    ("/etc/passwd.csv", Reason.BAD_SPEC),
    ("S3://bucket/x.csv", Reason.BAD_SPEC),
    ("simplecache::s3://bucket/x.csv", Reason.BAD_SPEC),
    ("zip://x.csv::https://host/x.zip", Reason.BAD_SPEC),
    ("https://other.example.com/x.csv", Reason.HOST_NOT_ALLOWED),
    ("https://data.example.com.evil.org/x.csv", Reason.HOST_NOT_ALLOWED),
    ("https://data.example.com:8443/x.csv", Reason.HOST_NOT_ALLOWED),
    ("https://data.example.com/x.txt", Reason.BAD_SPEC),
]


@pytest.mark.parametrize(("uri", "reason"), REFUSED)
def test_other_uris_are_refused(uri, reason):
    access = DataAccess(DataDefaults(allowed_hosts=("data.example.com",)))
    with pytest.raises(Failure) as raised:
        source_files(uri, access)
    assert raised.value.reason == reason


def test_an_allowed_host_is_not_asked_before_it_is_read():
    access = DataAccess(DataDefaults(allowed_hosts=("Data.example.com",)))
    (file,) = source_files("https://data.example.com/a/x.csv.gz", access)
    assert file.format == "csv.gz"


@pytest.fixture
def volume(tmp_path):
    root = tmp_path / "volume"
    (root / "sales").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "notes.txt"):
        (root / "sales" / name).write_text("x\n1\n")
    return DataAccess(volume=root)


def test_files_of_a_claim(volume):
    assert [file.name for file in source_files("pvc://claim/sales/*.csv", volume)] == [
        "claim/sales/a.csv",
        "claim/sales/b.csv",
    ]
    with pytest.raises(
        Failure, match=r'Did you mean "a\.csv"\? Beside it there are a\.csv, b\.csv'
    ) as raised:
        source_files("pvc://claim/sales/aa.csv", volume)
    assert raised.value.reason == Reason.DATA_NOT_FOUND


def test_a_link_out_of_the_volume_is_refused(volume, tmp_path):
    (tmp_path / "secret.csv").write_text("x\n1\n")
    (volume.volume / "sales" / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(Failure, match="leads out of its volume"):
        source_files("pvc://claim/sales/link.csv", volume)


def test_a_claim_that_is_not_mounted(tmp_path):
    with pytest.raises(Failure, match="is not mounted"):
        source_files("pvc://claim/x.csv", DataAccess(volume=tmp_path / "none"))


def test_names_of_bundled_sets():
    assert bundled_name("sklearn://iris") == "iris"
    assert bundled_name("sklearn://iris/x") is None
    with pytest.raises(Failure, match="there are breast_cancer, diabetes"):
        read_bundled("titanic")
