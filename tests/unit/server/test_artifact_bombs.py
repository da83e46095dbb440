"""
Artifacts that would fill memory or time: a real server ends and says why, soon, and with little memory.

Their digests are right: the file itself is the attack.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
import zipfile
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import sparse
from server_artifacts import Trained, write_iris
from server_process import running, serve_arguments
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier

from solera_core import artifact, model_bombs, model_file
from solera_core.failures import ArtifactCorrupt
from solera_server.load import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Members = dict[str, bytes]

# Ends as the server does, and says first how much memory it had at most. (What the system says of a child
# that has ended counts the parent's memory, too.)
MEASURED = (
    sys.executable,
    "-c",
    (
        "import json, re, sys; from solera_server.cli import main; code = main(); "
        "status = open('/proc/self/status').read(); "
        "peak = int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]); "
        "print(json.dumps({'event': 'peak', 'kib': peak}), file=sys.stderr, flush=True); sys.exit(code)"
    ),
)
SECONDS = 60.0
"""Each takes one or two on a machine that does nothing else."""
PEAK_KIB = 400 * 1024
"""What a server with scikit-learn takes is half of it."""


@pytest.fixture
def copy(iris: Trained, tmp_path: Path) -> Path:
    return _copied(iris.directory, tmp_path / "iris")


def _copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


async def refused(directory: Path, message: str) -> None:
    """Start a server with the directory's artifact; it must end, having said ``message``, never serving."""
    digest = artifact.sha256_digest((directory / artifact.MANIFEST).read_bytes())
    started = monotonic()
    async with running(*serve_arguments(directory, "--digest", digest), command=MEASURED) as server:
        code = await server.exit_code(SECONDS)
        events = server.events
    assert monotonic() - started < SECONDS
    assert code == 65, events
    assert "serving" not in {event["event"] for event in events}
    assert message in json.dumps(events, ensure_ascii=False), events
    assert "ArtifactCorrupt" in json.dumps(events), events
    [peak] = [event["kib"] for event in events if event["event"] == "peak"]
    assert peak < PEAK_KIB, f"{peak} KiB"


def rewrite(directory: Path, change: Callable[[Members], Any], compression: int = zipfile.ZIP_STORED) -> None:
    path = directory / artifact.MODEL
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    artifact.write_manifest(directory)


def write_skops_schema(directory: Path, data: bytes) -> None:
    rewrite(directory, lambda members: members.update({"schema.json": data}))


def array_of(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def arrays(data: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members.update({name: data for name in members if name.endswith(".npy")})

    return change


async def test_compressed_members(copy: Path) -> None:
    huge = np.zeros(50_000_000).tobytes()
    rewrite(copy, arrays(array_of("<f8", "(50000000,)", huge)), zipfile.ZIP_DEFLATED)
    assert (copy / artifact.MODEL).stat().st_size < 3_000_000
    await refused(copy, "has the compressed member")


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("<f8", "(2199023255552,)"),
        ("<f8", "(4294967296, 4294967296)"),
        ("|S0", "(1099511627776,)"),
        ("|V0", "(1099511627776,)"),
        ("|S1099511627", "(1000,)"),
        ("<f8", "(-1,)"),
    ],
)
async def test_arrays_that_declare_what_they_have_not(copy: Path, descr: str, shape: str) -> None:
    rewrite(copy, arrays(array_of(descr, shape)))
    await refused(copy, "model.skops")


async def test_a_sparse_matrix_that_unpacks_a_thousandfold(tmp_path: Path) -> None:
    directory = write_iris(tmp_path / "model", KNeighborsClassifier()).directory
    zeros = np.zeros(60_000_000)
    buffer = io.BytesIO()
    matrix = sparse.csr_matrix((zeros, np.zeros(60_000_000, np.int32), [0, 60_000_000]), shape=(1, 4))
    sparse.save_npz(buffer, matrix)
    del zeros, matrix
    rewrite(directory, arrays(buffer.getvalue()))
    assert (directory / artifact.MODEL).stat().st_size < 10_000_000
    await refused(directory, "unpack beyond bounds")


async def test_members_without_number(copy: Path) -> None:
    entry = zipfile.ZipInfo("1.npy")
    record = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0)
    count = 2_000_000
    with zipfile.ZipFile(copy / artifact.MODEL, "w") as archive:
        archive.writestr("schema.json", b"{}")
        start = archive.fp.tell()  # type: ignore[union-attr] # it is open
    data = (copy / artifact.MODEL).read_bytes()[:start] + (record + entry.filename.encode()) * count
    size = count * (len(record) + len(entry.filename))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, size, start, 0)
    (copy / artifact.MODEL).write_bytes(data + end)
    artifact.write_manifest(copy)
    await refused(copy, "its list of members has more than")


async def test_thousands_of_members(copy: Path) -> None:
    rewrite(copy, lambda members: members.update({f"a{n}.npy": b"" for n in range(model_file.MAX_MEMBERS)}))
    await refused(copy, f"has more than {model_file.MAX_MEMBERS} members")


def test_members_that_share_their_bytes(copy: Path) -> None:
    path = copy / artifact.MODEL
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("big.npy", b"\0" * 1_000_000)
        [big] = [item for item in archive.infolist() if item.filename == "big.npy"]
        for number in range(100):
            again = zipfile.ZipInfo(f"again{number}.npy")
            again.header_offset, again.CRC = big.header_offset, big.CRC
            again.file_size = again.compress_size = big.file_size
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    with pytest.raises(ArtifactCorrupt, match="members that overlap"):
        model_file.check_archive(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"protocol":2,"content":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "cannot be read"),
        (b"[" + b"[]," * 33_000_000 + b"[]]", "lists and objects"),
        (b'{"a":"' + b"x" * (model_file.MAX_SCHEMA_BYTES + 1) + b'"}', "schema.json of more than"),
    ],
    ids=["deep", "100 MB of lists", "too large"],
)
async def test_the_schema_of_the_model(copy: Path, text: bytes, message: str) -> None:
    write_skops_schema(copy, text)
    await refused(copy, message)


def _laughs(kind: str, depth: int = 60) -> dict[str, Any]:
    """Return a list of two lists, each of which is the same list of two lists, and so on."""
    base = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    node: dict[str, Any] = {**base, "__id__": 1000, "content": []}
    for number in range(1, depth):
        again = {**base, "__id__": 999 + number}
        node = {**base, "__id__": 1000 + number, "content": [node, again]}
    if kind == "list":
        return node
    two = {"__class__": "int", "__module__": "builtins", "__loader__": "JsonNode", "content": "2"}
    shape = {
        "__class__": "tuple",
        "__module__": "builtins",
        "__loader__": "TupleNode",
        "content": [two] * depth,
    }
    return {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "json",
        "content": node["content"],
        "shape": shape,
    }


@pytest.mark.parametrize("kind", ["list", "matrix of objects"])
async def test_lists_that_hold_each_other(copy: Path, kind: str) -> None:
    def change(members: Members) -> None:
        schema = json.loads(members["schema.json"])
        schema["content"]["content"]["memory"] = _laughs(kind)
        members["schema.json"] = json.dumps(schema).encode()

    rewrite(copy, change)
    # Only scikit-learn's loader would look into it.
    rewrite(copy, lambda members: members.update({"schema.json": _unknown(members["schema.json"])}))
    await refused(copy, "hold each other too often")


def _unknown(schema: bytes) -> bytes:
    """Return the schema with an object that no compiled form knows."""
    document = json.loads(schema)
    document["__class__"] = "OneVsRestClassifier"
    document["__module__"] = "sklearn.multiclass"
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", [artifact.SCHEMA, artifact.EXAMPLES, artifact.METRICS, artifact.PROVENANCE])
async def test_a_document_that_is_too_large(copy: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with (copy / name).open("r+b") as stream:
        stream.truncate(artifact.MAX_DOCUMENT_BYTES + 1)
    with monkeypatch.context() as patch:
        patch.setattr(artifact, "MAX_DOCUMENT_BYTES", 2**40)
        artifact.write_manifest(copy)
    await refused(copy, f"manifest.json gives {name} a size of")


@pytest.mark.parametrize("name", [artifact.SCHEMA, artifact.EXAMPLES])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" + b"{}," * 20_000_000 + b"{}]", "lists and objects"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"1" * 5_000_000, "is not readable JSON"),
    ],
    ids=["60 MB of objects", "deep", "a number of five million digits"],
)
async def test_a_document_that_would_grow(copy: Path, name: str, data: bytes, message: str) -> None:
    (copy / name).write_bytes(data)
    artifact.write_manifest(copy)
    await refused(copy, f"{name} ")
    with pytest.raises(ArtifactCorrupt, match=message):
        artifact.read_json(copy, name)


async def test_a_manifest_that_is_too_large(copy: Path) -> None:
    with (copy / artifact.MANIFEST).open("r+b") as stream:
        stream.truncate(200_000_000)
    await refused(copy, "manifest.json has more than")


async def test_memory_that_runs_out_is_said(copy: Path) -> None:
    program = (
        "import sys, numpy; from solera_server import cli, run; "
        "run.load = lambda *_: numpy.empty(2**50); sys.exit(cli.main())"
    )
    async with running(*serve_arguments(copy), command=(sys.executable, "-c", program)) as server:
        assert await server.exit_code(SECONDS) == 65
    assert "OutOfMemory" in {event.get("reason") for event in server.events}, server.events


def test_matrices_of_estimators_are_within_the_bounds(tmp_path: Path) -> None:
    trained = write_iris(tmp_path / "model", GradientBoostingClassifier(n_estimators=30))
    model_bombs.check_contents(trained.directory / artifact.MODEL)
    assert load(trained.directory, trained.digest).predictor.kind == "compiled"
