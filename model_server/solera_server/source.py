"""
Where the model comes from: a directory, or an artifact in a store that is fetched and verified first.

The store's client is large; it runs in a process of its own, so that the server does not keep it.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from solera_core.failures import Failure, Reason

log = logging.getLogger(__name__)

_BY_DIGEST = re.compile(r"sha256[-:]([0-9a-f]{64})")


class FetchFailed(Exception):  # noqa: N818 - it is no error of this process
    """The artifact could not be fetched; the process that tried has said why and ended with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Source:
    """
    ``text`` is a directory, ``file:///directory``, or the URI of an artifact, ``s3://bucket/path/sha256-…``.

    Raises Failure (BadSpec) when it is none of them, or nothing tells the digest of an artifact in a store.
    """

    def __init__(self, text: str, digest: str | None) -> None:
        self.text = text
        self.digest = digest
        self._uri: str | None = None
        self._temporary: Path | None = None
        self._fetching: subprocess.Popen[bytes] | None = None
        scheme, separator, rest = text.partition("://")
        if not separator:
            self.directory = Path(text)
        elif scheme == "file" and rest.startswith("/"):
            self.directory = Path(unquote(urlsplit(text).path))
        elif scheme == "s3" and rest.strip("/"):
            self._uri = text.rstrip("/")
            self.digest = digest or _digest_of(self._uri)
            # Made now, so that everybody has its name; filled by ``fetch``.
            self._temporary = Path(tempfile.mkdtemp(prefix="solera-model-"))
            self.directory = self._temporary / "model"
        else:
            raise Failure(
                Reason.BAD_SPEC,
                f'--model "{text}": write a directory, file:///directory or s3://bucket/path.',
            )

    @property
    def model_name(self) -> str:
        """What the place is named after: its directory; in a store of Solera's, the model."""
        if self._uri is None:
            return self.directory.resolve().name
        parts = self._uri.split("/")
        return parts[-3] if len(parts) > 5 and parts[-2] == "artifacts" else parts[-1]

    def fetch(self) -> None:
        """
        Bring the artifact into ``directory``, if it is in a store.

        Raises FetchFailed.
        """
        if self._uri is None:
            return
        command = [sys.executable, "-m", "solera_server", "fetch"]
        options = ["--uri", self._uri, "--digest", str(self.digest), "--out", str(self.directory)]
        # A session of its own: a Ctrl-C at the terminal is for this process alone, which then ends the other.
        self._fetching = subprocess.Popen([*command, *options], start_new_session=True)
        try:
            code = self._fetching.wait()
        except BaseException:
            self.discard()
            raise
        if code != 0:
            raise FetchFailed(code)

    def discard(self) -> None:
        """Remove what was fetched, or end its fetching; what has been read is not needed any more."""
        if self._fetching is not None and self._fetching.poll() is None:
            self._fetching.kill()
            self._fetching.wait()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _digest_of(uri: str) -> str:
    last = uri.rpartition("/")[2]
    found = _BY_DIGEST.fullmatch(last)
    if found is None:
        raise Failure(
            Reason.BAD_SPEC,
            f'--model "{uri}": give --digest sha256:…, since "{last}" is not sha256- and its 64 digits.',
        )
    return f"sha256:{found[1]}"
