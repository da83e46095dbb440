"""Write the seeds of the corpus and the model to fuzz with: ``python tests/fuzz/write_corpus.py MODEL_DIRECTORY``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
sys.path.insert(0, str(HERE.parent / "unit" / "server"))


def seeds() -> dict[str, list[bytes]]:
    """Return what each target begins with."""
    from test_server_http import SMUGGLING

    from solera_core.receipts import class_hash

    body = (
        b'{"instances": [{"age": 39.5, "visits": 3, "city": "Porto", "member": true, "since": "2020-03-01"}]}'
    )
    post = b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    lower = post.replace(b"Content-Length", b"content-length").replace(
        b"Host: a", b"host: a\r\nx-request-id: 7"
    )
    tensor = b'{"inputs":[{"name":"age","shape":[1],"datatype":"FP64","data":[1.5]},'
    rest = (
        b'{"name":"visits","shape":[1],"datatype":"INT64","data":[3]},'
        b'{"name":"city","shape":[1],"datatype":"BYTES","data":["Porto"]},'
        b'{"name":"member","shape":[1],"datatype":"BOOL","data":[true]},'
        b'{"name":"since","shape":[1],"datatype":"BYTES","data":["2020-03-01T00:00:00Z"]}]}'
    )
    binary = tensor.replace(b'"data":[1.5]', b'"parameters":{"binary_data_size":8}') + rest
    framed = b"\x01" + len(binary).to_bytes(2, "little") + binary + b"\0\0\0\0\0\0\xf8\x3f"
    chunked = b"POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nT: 1\r\n\r\n"
    return {
        "turn": _plain_requests(tensor + rest[: rest.index(b',{"name":"since"')] + b'],"id":"1"}'),
        "http": [
            post,
            post + post,
            lower + lower,
            chunked,
            b"GET / HTTP/1.0\r\n\r\n",
            *map(_bytes, SMUGGLING),
        ],
        "v1": [
            body,
            b'{"instances": [[1.5, 2, null, false, "2020-03-01T12:30:00+02:00"], ["NaN", 1e3, "", true, "x"]]}',
            b'{"inputs": {"age": [1], "visits": [2], "city": ["a"], "member": [true], "since": ["2020-01-01"]}}',
            body[:-1] + b', "parameters": {"probabilities": true}}',
            b'{"instances": [{"age": 1e400, "visits": 9007199254740993}]}',
            b'{"instances":[[1.5,2,"a",true],[null,-3e0,null,false]]}',
            b'{"parameters":{"probabilities":false},"instances":[{"member":true,"visits":1,"age":0.30000000000000004}]}',
        ],
        "v2": [
            b"\0",
            tensor + rest,
            framed,
            tensor + rest[:-1] + b',"outputs":[{"name":"predict"}],"id":"1"}',
            tensor + rest[: rest.index(b',{"name":"since"')] + b'],"outputs":[{"name":"predict"}],"id":"1"}',
            b'{"inputs":[{"data":[[1,2],[-0.0,3]],"shape":[2,2],"name":"x","datatype":"FP32"}],"outputs":[]}',
        ],
        "model": [b"", bytes(5), bytes(range(40)), b"\x01" * 40, b"\x02\x10\x00\x20\x01" * 8],
        "receipt": [b"", b"AA", hashlib.sha256(str(class_hash("a")).encode()).hexdigest().encode()],
    }


def _plain_requests(tensors: bytes) -> list[bytes]:
    """Return whole requests in the plainest form; ``tensors`` is a body of V2."""
    plain = [
        (b"v1", b'{"instances":[[1.5,2,"a",true],[null,-3e0,null,false]]}'),
        (b"v1", b'{"instances":[{"member":true,"visits":1}],"parameters":{"probabilities":true}}'),
        (b"v2", tensors),
    ]
    heads = (
        b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b",
        b"POST /%b HTTP/1.1\r\nhost: a\r\nx-request-id: 7\r\ntraceparent: 0-1\r\ncontent-length: %d\r\n\r\n%b",
    )
    return [head % (path, len(text), text) for head in heads for path, text in plain]


def _bytes(value: object) -> bytes:
    parts = value if isinstance(value, tuple | list) else getattr(value, "values", (value,))
    return next(part for part in parts if isinstance(part, bytes))


def main() -> None:
    from server_artifacts import write_mixed

    for name, contents in seeds().items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for content in contents:
            (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    directory = Path(sys.argv[1])
    if not (directory / "manifest.json").exists():
        write_mixed(directory)


if __name__ == "__main__":
    main()
