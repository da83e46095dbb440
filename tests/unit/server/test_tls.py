"""TLS of the model port: real handshakes, certificates that change while connections run, and attacks."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import socket
import ssl
import subprocess
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_http import answers, only, post, until
from server_process import Process, running, serve_arguments

from solera_core.failures import Failure
from solera_server import tls
from solera_server.certificate_expiry import expiry
from solera_server.certificates import Certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server_artifacts import Trained

BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
RIGHT = {"predictions": ["setosa"]}


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))


def write_pair(directory: Path, name: str, days: int = 3) -> Files:
    """A self-signed certificate for 127.0.0.1 with ``name`` as its common name."""
    directory.mkdir(parents=True, exist_ok=True)
    files = Files(directory / "tls.crt", directory / "tls.key")
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            f"-days {days} -subj /CN={name} -addext subjectAltName=IP:127.0.0.1 "
            f"-keyout {files.key} -out {files.certificate}"
        ).split(),
        check=True,
        capture_output=True,
    )
    return files


class Mounted:
    """A Secret's volume as the kubelet makes it: links to ..data, which is a link to a dated directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        self.files = Files(root / "tls.crt", root / "tls.key")
        self.write("one")
        for name in ("tls.crt", "tls.key"):
            (root / name).symlink_to(f"..data/{name}")

    def write(self, name: str, *, break_key: bool = False) -> None:
        self._count += 1
        directory = self._root / f"..2026_{self._count}"
        written = write_pair(directory, name)
        if break_key:
            written.key.write_text("no key\n")
        link = self._root / "..data_tmp"
        link.symlink_to(directory.name)
        link.replace(self._root / "..data")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    root = tmp_path / "mount"
    root.mkdir()
    return Mounted(root)


@asynccontextmanager
async def serving(iris: Trained, files: Files, *more: str) -> AsyncIterator[Process]:
    async with running(*serve_arguments(iris.directory, "--name", "iris", *files.options, *more)) as server:
        await server.event("serving")
        yield server
        if server.process.returncode is None:
            server.process.send_signal(signal.SIGINT)
            assert await server.exit_code(20) == 0


async def port_of(server: Process) -> int:
    return int((await server.event("serving"))["port"])


def trusting_nobody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def presented(port: int) -> bytes:
    """The certificate of a new handshake."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting_nobody())
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


def in_file(files: Files) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


async def ask_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post("/v1/models/iris:predict", BODY, close=False))
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    answer = only(answers(head + await reader.readexactly(length)))
    assert json.loads(answer.body) == RIGHT


async def test_a_client_that_checks_is_served(iris: Trained, mounted: Mounted) -> None:
    async with serving(iris, mounted.files) as server:
        event = await server.event("serving")
        assert event["url"].startswith("https://")
        context = ssl.create_default_context(cafile=str(mounted.files.certificate))
        async with httpx.AsyncClient(verify=context) as client:
            for _ in range(3):
                answer = await client.post(
                    f"https://127.0.0.1:{event['port']}/v1/models/iris:predict", content=BODY
                )
                assert answer.json() == RIGHT
        async with httpx.AsyncClient() as client:
            management = await server.management_url()
            assert (await client.get(f"{management}/readyz")).text == "ok\n", "probes stay without TLS"
            metrics = (await client.get(f"{management}/metrics")).text
        line = next(
            line
            for line in metrics.splitlines()
            if line.startswith("solera_server_certificate_expires_seconds")
        )
        assert abs(float(line.split()[-1]) - (time.time() + 3 * 86400)) < 600


async def test_versions_and_alpn(iris: Trained, mounted: Mounted) -> None:
    async with serving(iris, mounted.files) as server:
        port = await port_of(server)
        context = trusting_nobody()
        context.set_alpn_protocols(["h2", "http/1.1"])
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version = context.maximum_version = version
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            writer.close()


def test_older_versions_are_not_spoken(tmp_path: Path) -> None:
    """No client of this machine may be able to ask for them, so the context is looked at."""
    files = write_pair(tmp_path, "one")
    context = Certificates(files.certificate, files.key).pair.context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_new_certificate_is_taken_while_connections_run(
    iris: Trained, mounted: Mounted, workers: str
) -> None:
    async with serving(iris, mounted.files, "--workers", workers) as server:
        port = await port_of(server)
        first = in_file(mounted.files)
        assert await presented(port) == first
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting_nobody())
        await ask_tls(reader, writer)

        mounted.write("two")
        second = in_file(mounted.files)
        assert second != first
        await becomes(port, second)
        await ask_tls(reader, writer)

        mounted.write("three", break_key=True)
        await server.event("the new certificate cannot be used; the old one stays")
        assert {await presented(port) for _ in range(8)} == {second}
        await ask_tls(reader, writer)

        mounted.write("four")
        await becomes(port, in_file(mounted.files))
        writer.close()


async def becomes(port: int, certificate: bytes) -> None:
    """Wait until handshakes see a certificate, at whatever worker they end up."""
    for _ in range(100):
        if {await presented(port) for _ in range(8)} == {certificate}:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the old certificate is still presented")


async def test_plain_http_is_ended_cleanly(iris: Trained, mounted: Mounted) -> None:
    async with serving(iris, mounted.files) as server:
        port = await port_of(server)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/models/iris:predict", BODY))
        async with asyncio.timeout(5):
            rest = await reader.read()
        assert len(rest) < 20, "at most an alert of TLS"
        writer.close()
        metrics = f"{await server.management_url()}/metrics"
        async with httpx.AsyncClient() as client:
            text = (await client.get(metrics)).text
        failed = [line for line in text.splitlines() if line.startswith("solera_server_tls_handshake_fail")]
        assert failed[0].endswith(" 1.0")
        assert await presented(port) == in_file(mounted.files)


async def test_a_handshake_that_does_not_end_is_ended(iris: Trained, mounted: Mounted) -> None:
    async with serving(iris, mounted.files, "--receive-timeout", "0.5") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(server))
        writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        async with asyncio.timeout(5):
            assert len(await reader.read()) < 20
        writer.close()


async def test_a_flood_of_handshakes_keeps_nobody_out(iris: Trained, mounted: Mounted) -> None:
    """More connections that say nothing than handshakes may be under way; they make room after a second."""
    async with serving(iris, mounted.files) as server:
        port = await port_of(server)
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * tls.HANDSHAKES)]
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting_nobody())
                await ask_tls(reader, writer)
                writer.close()
            descriptors = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
            assert descriptors < 2 * tls.HANDSHAKES, "the rest waits in the kernel's queue"
        finally:
            for one in silent:
                one.close()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_with_tls_drains_without_loss(iris: Trained, mounted: Mounted, workers: str) -> None:
    async with serving(iris, mounted.files, "--workers", workers, "--drain-delay", "0.3") as server:
        port = await port_of(server)
        answered = 0
        failed: list[str] = []

        async def keep_asking() -> None:
            nonlocal answered
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting_nobody())
                except ConnectionRefusedError:
                    return
                except OSError as error:
                    failed.append(f"handshake: {error!r}")
                    return
                try:
                    writer.write(post("/v1/models/iris:predict", BODY))
                    assert json.loads(only(answers(await reader.read())).body) == RIGHT
                    answered += 1
                except (OSError, AssertionError) as error:
                    failed.append(repr(error))
                finally:
                    writer.close()

        tasks = [asyncio.create_task(keep_asking()) for _ in range(8)]
        await until(lambda: answered >= 100, seconds=30)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert failed == []
        assert await server.exit_code(20) == 0


async def test_a_last_answer_reaches_a_client_that_sends_on(iris: Trained, mounted: Mounted) -> None:
    async with serving(iris, mounted.files, "--max-body-bytes", "1000") as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", await port_of(server), ssl=trusting_nobody()
        )
        writer.write(post("/v1/models/iris:predict", b"x" * 500_000))
        async with asyncio.timeout(10):
            answer = only(answers(await reader.read()))
        assert answer.status == 413
        writer.close()


@pytest.mark.parametrize("missing", ["--tls-cert", "--tls-key"])
async def test_both_files_must_be_named(iris: Trained, mounted: Mounted, missing: str) -> None:
    given = list(mounted.files.options)
    index = given.index(missing)
    del given[index : index + 2]
    async with running(*serve_arguments(iris.directory, *given)) as server:
        assert await server.exit_code() == 64
    assert "give both" in server.events[-1]["event"]


async def test_a_bad_pair_is_said_before_anything_is_loaded(iris: Trained, mounted: Mounted) -> None:
    mounted.write("x", break_key=True)
    async with running(*serve_arguments(iris.directory, *mounted.files.options)) as server:
        assert await server.exit_code() == 64
    assert server.events[-1]["reason"] == "BadSpec"
    assert str(mounted.files.key) in server.events[-1]["event"]


# -- the pair --------------------------------------------------------------------------------------


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    one, two = write_pair(tmp_path / "one", "one"), write_pair(tmp_path / "two", "two")
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", str(one.key), "-aes128", "-passout", "pass:x", "-out", str(encrypted)],
        check=True,
        capture_output=True,
    )
    junk, damaged = tmp_path / "junk.pem", tmp_path / "damaged.key"
    junk.write_text("nothing of the kind\n")
    damaged.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    chain = tmp_path / "chain.pem"
    body = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    chain.write_text(one.certificate.read_text() + body)
    of_another_kind = tmp_path / "rsa.key"
    rsa = ["openssl", "genpkey", "-algorithm", "RSA", "-out", str(of_another_kind)]
    subprocess.run(rsa, check=True, capture_output=True)
    for certificate, key, words in (
        (one.certificate, two.key, "the key does not belong to the certificate"),
        (one.certificate, of_another_kind, "the key does not belong to the certificate"),
        (one.key, one.certificate, "the two files are swapped"),
        (one.key, one.key, f"{one.key} holds no certificate in PEM form"),
        (junk, one.key, f"{junk} holds no certificate in PEM form"),
        (one.certificate, junk, f"{junk} holds no private key in PEM form"),
        (one.certificate, one.certificate, f"{one.certificate} holds no private key in PEM form"),
        (one.certificate, damaged, f"{damaged}: the private key cannot be read"),
        (chain, one.key, f"{chain}: a certificate cannot be read"),
        (tmp_path / "absent", one.key, "No such file"),
        (one.certificate, encrypted, "the key is encrypted"),
    ):
        with pytest.raises(Failure) as caught:
            Certificates(certificate, key)
        assert words in caught.value.message
        assert caught.value.message.startswith(f"--tls-cert {certificate}, --tls-key {key}: ")


def test_files_written_one_after_the_other_are_taken_when_they_fit(tmp_path: Path) -> None:
    """cert-manager's and others' way without links: between the two writes the pair does not fit."""
    files, new = write_pair(tmp_path / "here", "one"), write_pair(tmp_path / "new", "two")
    certificates = Certificates(files.certificate, files.key)
    first = certificates.pair
    assert not certificates.check()
    files.certificate.write_bytes(new.certificate.read_bytes())
    assert not certificates.check()
    assert certificates.pair is first
    files.key.write_bytes(new.key.read_bytes())
    assert certificates.check()
    assert certificates.pair.certificate == new.certificate.read_bytes()
    files.key.unlink()
    assert not certificates.check()
    assert certificates.pair.certificate == new.certificate.read_bytes()


@pytest.mark.parametrize("days", [1, 400, 20_000])
def test_expiry_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    """20,000 days reach beyond 2050, from where certificates write their dates in another form."""
    files = write_pair(tmp_path, "x", days)
    said = subprocess.run(
        ["openssl", "x509", "-in", str(files.certificate), "-noout", "-enddate"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert expiry(files.certificate.read_bytes()) == ssl.cert_time_to_seconds(said.strip().partition("=")[2])


@settings(max_examples=200)
@given(st.data())
def test_damaged_certificates_are_refused_in_words(data: st.DataObject) -> None:
    der = bytearray(_DER)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, 120))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(der)))
    pem = ssl.DER_cert_to_PEM_cert(bytes(der[:cut])).encode()
    try:
        found: float | str = expiry(pem)
    except ValueError as error:
        found = str(error)
    assert isinstance(found, float) or found.startswith("the certificate cannot be read: ")


def _der() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        return in_file(write_pair(Path(directory), "x"))


_DER = _der()


async def test_a_lack_of_descriptors_is_said_once_and_not_at_each_try(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    files = write_pair(tmp_path, "full")
    monkeypatch.setattr(tls, "_PAUSE_SECONDS", 0.001)
    tries = asyncio.Semaphore(0)

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            tries.release()
            raise OSError(errno.EMFILE, "Too many open files")

    listening = Full()
    listening.bind(("127.0.0.1", 0))
    listening.setblocking(False)
    certificates = Certificates(files.certificate, files.key)
    listener = tls.TlsListener([listening], certificates, asyncio.Protocol, 1.0, lambda: None)
    listener.start(8)
    try:
        with socket.create_connection(listening.getsockname()):
            for _ in range(5):
                await asyncio.wait_for(tries.acquire(), 10)
    finally:
        listener.close()
    assert [one.getMessage() for one in caplog.records] == ["cannot accept a connection"]
