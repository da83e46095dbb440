"""
What is fuzzed: each target takes bytes from anywhere and raises only when the server has a defect.

Used by run.py (atheris, guided by coverage) and by tests/unit/server/test_fuzz_corpus.py, which feeds the corpus
through every target.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
from plain_heads import Beside

from solera_core import receipts
from solera_core.artifact import MODEL
from solera_core.failures import ArtifactCorrupt
from solera_core.schema import DATETIME, FLOAT, INTEGER
from solera_server.batch import InputError
from solera_server.compiled.pipeline import compile_model
from solera_server.compiled.refusals import NotCompilable
from solera_server.connection import Connection
from solera_server.http_server import HttpServer
from solera_server.limits import Limits
from solera_server.load import load
from solera_server.message import Request, Response
from solera_server.router import Route, Router
from solera_server.v1 import V1Codec
from solera_server.v2 import V2Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from solera_core.schema import Schema

LIMITS = Limits(body_bytes=4096, header_bytes=1024, header_count=24, rows=50, cells=500, scores=500)
_LENGTH = b"inference-header-content-length"


class Targets:
    """The targets by name, for a model of the artifact in ``directory``, which must be one that compiles."""

    def __init__(self, directory: Path) -> None:
        loaded = load(directory, None)
        if loaded.predictor.kind != "compiled":
            raise AssertionError(f"not compiled: {loaded.predictor.reason}")
        self._schema = loaded.schema
        self._predictor = loaded.predictor
        self._v1 = V1Codec(loaded.schema, LIMITS, loaded.predictor.outputs)
        self._v2 = V2Codec("m", "1", loaded.schema, loaded.predictor.outputs, LIMITS)
        # The extension reads no bodies with a DateTime: of these it does.
        features = tuple(item for item in loaded.schema.features if item.type != DATETIME)
        numbers = tuple(item for item in features if item.type in (FLOAT, INTEGER))
        self._plain = [replace(loaded.schema, features=chosen) for chosen in (features, numbers)]
        texts, outputs = self._plain[0], self._predictor.outputs
        v1, v2 = V1Codec(texts, LIMITS, outputs), V2Codec("m", "1", texts, outputs, LIMITS)
        self._beside = Beside(v1, v2, LIMITS)
        self._model = ModelFile(directory / MODEL)
        self._warm = _server()
        self.by_name: dict[str, Callable[[bytes], None]] = {
            "http": self.http,
            "v1": self.v1,
            "v2": self.v2,
            "turn": self.turn,
            "model": self.model,
            "receipt": self.receipt,
        }

    def http(self, data: bytes) -> None:
        """The same answers however the bytes are cut, and whether the heads are known or not."""
        whole = _converse(_server(), [data])
        single = _converse(_server(), [data[i : i + 1] for i in range(len(data))])
        known = _converse(self._warm, [data])
        again = _converse(self._warm, [data])
        # Which of two defects is told first may depend on how the bytes are cut.
        if not _outcome(whole) == _outcome(single) == _outcome(known) == _outcome(again):
            raise AssertionError(f"four readings: {whole!r}, {single!r}, {known!r}, {again!r}")
        _check_responses(whole)

    def v1(self, data: bytes) -> None:
        self._predict(self._v1, data, {})
        for schema in self._plain:
            _decoded_alike(V1Codec(schema, LIMITS, self._predictor.outputs), schema, data)

    def v2(self, data: bytes) -> None:
        """The first byte says whether binary tensors follow, and then the length of the JSON stands in two."""
        if data[:1] == b"\x01":
            length = int.from_bytes(data[1:3], "little")
            self._predict(self._v2, data[3:], {_LENGTH: str(length).encode()})
            return
        self._predict(self._v2, data, {})
        for schema in self._plain:
            _decoded_alike(V2Codec("m", "1", schema, self._predictor.outputs, LIMITS), schema, data)

    def turn(self, data: bytes) -> None:
        """What the intake takes of a known head with a body, the parser and the careful way read alike."""
        if not self._beside.agree(data):
            self._beside.parsed(data)  # which may be learnt, or may not
            self._beside.agree(data)

    def model(self, data: bytes) -> None:
        """A model file with foreign values in its tree and its arrays: it is understood or refused."""
        tree, arrays = self._model.changed(data)
        with tempfile.NamedTemporaryFile(suffix=".skops") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("schema.json", tree)
                for name, content in arrays.items():
                    archive.writestr(name, content)
            file.flush()
            try:
                predictor = compile_model(Path(file.name), self._schema)
            except (NotCompilable, ArtifactCorrupt):
                return
        # What compiles must stay within its arrays, whatever it computes.
        call = self._v1.decode(EXAMPLE, {})
        with contextlib.suppress(InputError):
            predictor.predict(call.batch, predictor.outputs)

    def receipt(self, data: bytes) -> None:
        with contextlib.suppress(receipts.ReceiptError):
            receipts.read(data.decode("latin-1"), {"k1": b"0" * 32})

    def _predict(self, codec: Any, body: bytes, headers: Mapping[bytes, bytes]) -> None:
        try:
            call = codec.decode(body, headers)
            outputs = self._predictor.predict(call.batch, call.outputs)
        except InputError:
            return
        response = call.render(outputs)
        if _LENGTH not in dict(response.headers):
            orjson.loads(response.body)


def _decoded_alike(codec: V1Codec | V2Codec, schema: Schema, body: bytes) -> None:
    """The extension's reading of a body and the careful one: the same values, or the same refusal."""
    found = []
    for decode in (codec.decode, codec.decode_carefully):
        try:
            call = decode(body, {})
        except InputError as error:
            found.append((error.status, error.message))
            continue
        batch = call.batch
        place = batch.where(batch.rows - 1, len(schema.features) - 1)
        texts = list(map(repr, batch.texts))
        found.append((batch.rows, batch.numbers.tobytes(), texts, place, call.outputs))
    if found[0] != found[1]:
        raise AssertionError(f"quick: {found[0]!r}, careful: {found[1]!r}")


EXAMPLE = (
    b'{"instances": [{"age": 39.5, "visits": 3, "city": "Porto", "member": true, "since": "2020-03-01"}]}'
)


_FOREIGN: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, -(2**70), 0.5, 1e308, "", "nan", "../x", "sklearn.tree._tree.Tree",
    [], {}, [0], {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode"},
)  # fmt: skip


class ModelFile:
    """
    A skops file whose parts can be changed.

    Changes are five bytes each: what kind; where, in two; what to put there, in two.
    """

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self._tree = archive.read("schema.json")
            names = sorted(archive.namelist())
            self._arrays = {name: archive.read(name) for name in names if name != "schema.json"}

    def changed(self, data: bytes) -> tuple[bytes, dict[str, bytes]]:
        """Return the tree and the arrays with the changes in ``data``, at most eight."""
        tree, arrays = orjson.loads(self._tree), dict(self._arrays)
        places = list(_places(tree))
        for start in range(0, min(len(data), 40) - 4, 5):
            kind, where, what = data[start], *struct.unpack("<HH", data[start + 1 : start + 5])
            if kind % 2:
                name = sorted(arrays)[where % len(arrays)]
                content = bytearray(arrays[name])
                content[(what >> 4) * 7 % len(content)] = (kind * 31 + what) % 256
                arrays[name] = bytes(content)
            else:
                holder, key = places[where % len(places)]
                other, other_key = places[what % len(places)]
                value = other[other_key] if kind % 4 else _FOREIGN[what % len(_FOREIGN)]
                holder[key] = orjson.loads(orjson.dumps(value)) if not isinstance(value, int) else value
        return json.dumps(tree).encode(), arrays


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) for every value of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


# -- a connection without a network ----------------------------------------------------------------------


class _Transport:
    """Takes what a connection writes; it has the methods of asyncio's that the connection calls."""

    def __init__(self) -> None:
        self.written = io.BytesIO()
        self.ended = False

    def write(self, data: bytes) -> None:
        if not self.ended:
            self.written.write(data)

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    abort = close

    def is_closing(self) -> bool:
        return self.ended

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        raise AssertionError("every answer is given at once, and so nothing ever waits")

    def resume_reading(self) -> None:
        """Reading never pauses here."""

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default


def _echo(request: Request) -> Response:
    return Response(200, b"%b|%d|%b" % (request.path, len(request.body), request.body))


def _server() -> HttpServer:
    echo = Route(_echo, "test", reads_json=True, reads_binary=True)
    routes = {b"/": {b"GET": Route(_echo, "test")}, b"/e": {b"POST": echo, b"GET": Route(_echo, "test")}}
    return HttpServer(Router(routes, lambda path: f"nothing at {path}"), LIMITS)


def _converse(server: HttpServer, pieces: list[bytes]) -> bytes:
    connection, transport = Connection(server), _Transport()
    connection.connection_made(cast("Any", transport))
    for piece in pieces:
        connection.data_received(piece)
    written = transport.written.getvalue()
    connection.connection_lost(None)
    return written


def _outcome(written: bytes) -> list[bytes]:
    """Return what was answered: whole answers without their dates, and of refusals the class of the status."""
    answers = []
    for part in written.split(b"HTTP/1.1 ")[1:]:
        head, _, body = part.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"date: ")]
        answers.append(b"\n".join([*lines, body]) if head.startswith(b"2") else head[:1])
    return answers


def _check_responses(written: bytes) -> None:
    if written and not written.startswith(b"HTTP/1.1 "):
        raise AssertionError(f"not a response: {written[:60]!r}")
    if b"HTTP/1.1 500" in written or b"Traceback" in written:
        raise AssertionError(f"a defect of the server: {written!r}")
