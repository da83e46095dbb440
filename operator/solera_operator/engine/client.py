"""
A thin, typed client of the Kubernetes API: objects are dicts as JSON has them, errors are types.

The credentials come from `kubernetes.aio.config`; the generated API classes are not used, since they
build a model object for every field of every object that is read.
"""

import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
import orjson

from solera_operator.engine import credentials as credential_sources
from solera_operator.engine.credentials import Credentials
from solera_operator.engine.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
    from_status,
    no_answer,
)
from solera_operator.engine.metrics import Metrics
from solera_operator.engine.resource import WELL_KNOWN, Resource, names

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "KubeClient",
    "NotFound",
    "Object",
    "Resource",
    "Unauthorized",
    "Unavailable",
]

Object = dict[str, Any]
WatchEvent = tuple[str, Object]

_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 90.0  # bookmarks come about once a minute: longer silence is a dead connection


class KubeClient:
    """
    One session to one API server.

    All methods raise the types of `errors`; `Unavailable` is worth another try, the others are not.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        resources: Iterable[Resource] = (),
        field_manager: str = "solera",
        request_timeout: float = 30.0,
        user_agent: str = "solera-operator",
        metrics: Metrics | None = None,
    ) -> None:
        """`resources` are kinds beside those of `resource.WELL_KNOWN` that create and apply may meet."""
        self.credentials = credentials
        self.field_manager = field_manager
        self.metrics = metrics or Metrics()
        self._resources = {(known.api_version, known.kind): known for known in (*WELL_KNOWN, *resources)}
        self._timeout = aiohttp.ClientTimeout(total=request_timeout, sock_connect=_CONNECT_SECONDS)
        self._user_agent = user_agent
        self._session = self.new_session()

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        resources: Iterable[Resource] = (),
        field_manager: str = "solera",
        request_timeout: float = 30.0,
        metrics: Metrics | None = None,
    ) -> "KubeClient":
        """Load credentials (see `credentials.load`) and open a session. Makes no request yet."""
        return cls(
            await credential_sources.load(kubeconfig, context),
            resources=resources,
            field_manager=field_manager,
            request_timeout=request_timeout,
            metrics=metrics,
        )

    def new_session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Open another session with the same credentials; the caller closes it."""

        async def authorize(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            header = await self.credentials.authorization()
            if header is not None:
                request.headers["Authorization"] = header
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.credentials.tls or True),
            headers={"User-Agent": self._user_agent},
            proxy=self.credentials.proxy,
            middlewares=(authorize, *middlewares),
            read_bufsize=2**20,
        )

    async def close(self) -> None:
        await self._session.close()
        await self.credentials.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def resource_of(self, obj: Mapping[str, Any]) -> Resource:
        """Find the Resource of an object by its apiVersion and kind. Raises KeyError when it is not known."""
        key = (obj["apiVersion"], obj["kind"])
        try:
            return self._resources[key]
        except KeyError:
            raise KeyError(f"{key[0]} {key[1]} is not known to this client: name it in `resources`") from None

    async def get(
        self, resource: Resource, namespace: str | None, name: str, *, metadata_only: bool = False
    ) -> Object | None:
        """Read one object (or its metadata alone); None when there is none."""
        accept = _METADATA if metadata_only else _JSON
        try:
            return await self._json("get", resource, "GET", resource.path(namespace, name), accept=accept)
        except NotFound:
            return None

    async def list_pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        *,
        field_selector: str | None = None,
        limit: int = 500,
        metadata_only: bool = False,
    ) -> AsyncIterator[tuple[list[Object], str]]:
        """
        Read a collection page by page: (objects, resourceVersion of the whole list).

        Raises Gone when a page comes too late for its continue token: begin again.
        """
        params = _selectors(label_selector, field_selector) | {"limit": str(limit)}
        path, accept = resource.path(namespace), _METADATA_LIST if metadata_only else _JSON
        while True:
            page = await self._json("list", resource, "GET", path, params=params, accept=accept)
            items = page.get("items") or []
            for item in items:  # items of a typed list do not say what they are
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
            yield items, page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return
            params["continue"] = token

    async def list_all(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        *,
        field_selector: str | None = None,
        metadata_only: bool = False,
    ) -> list[Object]:
        """Read a whole collection into memory: for small ones."""
        pages = self.list_pages(
            resource, namespace, label_selector, field_selector=field_selector, metadata_only=metadata_only
        )
        return [item async for items, _ in pages for item in items]

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        *,
        resource_version: str,
        field_selector: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the server's, sent with the request
    ) -> AsyncIterator[WatchEvent]:
        """
        Stream changes after a resourceVersion: (ADDED | MODIFIED | DELETED | BOOKMARK, object).

        Ends when the server closes the stream (after `timeout` seconds; by default 4 to 6 minutes, so that
        many watches do not end together). Raises Gone when the version is too old, Unavailable when the
        connection breaks.
        """
        seconds = random.uniform(240, 360) if timeout is None else timeout  # noqa: S311 - jitter, no secret
        params = _selectors(label_selector, field_selector) | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        limit = aiohttp.ClientTimeout(
            total=seconds + 15, sock_connect=_CONNECT_SECONDS, sock_read=min(_SILENCE_SECONDS, seconds + 10)
        )
        path = resource.path(namespace)
        async with self._send("watch", resource, "GET", path, params=params, timeout=limit) as response:
            try:
                async for line in _lines(response.content):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise from_status(event["object"].get("code", 500), event["object"])
                    yield event["type"], event["object"]
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                raise no_answer(failure) from failure

    async def create(self, obj: Mapping[str, Any]) -> Object:
        """Create by POST. Raises AlreadyExists when the name is taken."""
        resource = self.resource_of(obj)
        return await self._json(
            "create", resource, "POST", resource.path(names(obj)[0]), params=self._writing(), body=obj
        )

    async def apply(self, obj: Mapping[str, Any], *, force: bool = False) -> Object:
        """Server-side apply as our field manager. Without `force`, others' fields raise Conflict."""
        resource = self.resource_of(obj)
        params = self._writing() | {"force": "true" if force else "false"}
        path = resource.path(*names(obj))
        return await self._json(
            "apply", resource, "PATCH", path, params=params, body=obj, content_type=_APPLY_PATCH
        )

    async def replace(self, obj: Mapping[str, Any]) -> Object:
        """Replace by PUT; a resourceVersion in the metadata is a precondition. Raises Conflict."""
        resource = self.resource_of(obj)
        return await self._json(
            "update", resource, "PUT", resource.path(*names(obj)), params=self._writing(), body=obj
        )

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> Object:
        """Merge patch of the object itself; a resourceVersion in the body's metadata is a precondition."""
        path = resource.path(namespace, name)
        return await self._json(
            "patch", resource, "PATCH", path, params=self._writing(), body=body, content_type=_MERGE_PATCH
        )

    async def patch_status(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        resource_version: str,
    ) -> Object:
        """
        Merge patch of the status: `body` is what goes under `status` (None removes a field).

        Raises Conflict when the object is no longer at this resourceVersion.
        """
        patch = {"metadata": {"resourceVersion": resource_version}, "status": body}
        path = resource.path(namespace, name, "status")
        return await self._json(
            "patch_status",
            resource,
            "PATCH",
            path,
            params=self._writing(),
            body=patch,
            content_type=_MERGE_PATCH,
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> bool:
        """Delete; False when it was gone already. Raises Conflict when uid or resourceVersion do not fit."""
        wanted = {"uid": uid, "resourceVersion": resource_version}
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if preconditions := {field: value for field, value in wanted.items() if value is not None}:
            body["preconditions"] = preconditions
        try:
            await self._json("delete", resource, "DELETE", resource.path(namespace, name), body=body)
        except NotFound:
            return False
        return True

    def _writing(self) -> dict[str, str]:
        return {"fieldManager": self.field_manager, "fieldValidation": "Strict"}

    async def _json(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Object:
        """Make one request and read its whole answer, all within the time limit."""
        sent = self._send(
            verb, resource, method, path, params=params, body=body, content_type=content_type, accept=accept
        )
        async with sent as response:
            try:
                answer: Object = orjson.loads(await response.read())
            except (aiohttp.ClientError, TimeoutError, OSError) as failure:
                raise no_answer(failure) from failure
            return answer

    @asynccontextmanager
    async def _send(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's own type
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            response = await self._session.request(
                method,
                self.credentials.server + path,
                params=params,
                data=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=timeout or self._timeout,
                server_hostname=self.credentials.tls_server_name,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            self.metrics.api_requests.labels(verb, resource.label, "0").inc()
            raise no_answer(failure) from failure
        async with response:
            self.metrics.api_requests.labels(verb, resource.label, str(response.status)).inc()
            if response.status >= 400:
                raise await _failure(response)
            yield response


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    wanted = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in wanted.items() if value}


async def _failure(response: aiohttp.ClientResponse) -> ApiError:
    try:
        text = await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as failure:
        return no_answer(failure)
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:  # a proxy's page, or the server's plain-text answer while it starts
        body = {"message": text[:500].decode(errors="replace").strip() or response.reason}
    if not isinstance(body, dict):
        body = {"message": str(body)[:500]}
    after = response.headers.get("Retry-After", "")
    return from_status(response.status, body, retry_after=float(after) if after.isdecimal() else None)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a stream into lines of any length (aiohttp's own iteration limits them)."""
    pending = bytearray()
    async for chunk in content.iter_any():
        searched = len(pending)
        pending += chunk
        start = 0
        while (end := pending.find(b"\n", max(start, searched))) >= 0:
            if end > start:
                yield bytes(pending[start:end])
            start = end + 1
        del pending[:start]
