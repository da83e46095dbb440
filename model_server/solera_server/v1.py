"""The V1 protocol's predict: ``{"instances": […]}`` in, ``{"predictions": […]}`` out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from solera_server.batch import InputError, Layout
from solera_server.codec import Call
from solera_server.encode import json_values
from solera_server.filling import Filling
from solera_server.json_input import expect_object, parse, refuse_unknown, shown
from solera_server.message import Response
from solera_server.request_size import RequestSize
from solera_server.rows import decode_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solera_core.schema import Schema
    from solera_server.limits import Limits
    from solera_server.predictor import Outputs

_FIELDS = frozenset({"instances"})


class V1Codec:
    """Predictions are labels (class names) or numbers, one for each instance."""

    def __init__(self, schema: Schema, limits: Limits) -> None:
        self._layout = Layout(schema.features)
        self._filling = Filling(self._layout)
        self._json_depth = limits.json_depth
        self._size = RequestSize(schema, limits)

    def decode(self, body: bytes, _headers: Mapping[bytes, bytes]) -> Call:
        document = expect_object(parse(body, self._json_depth), "body")
        refuse_unknown(document, _FIELDS, "body")
        if "instances" not in document:
            raise InputError('body: the field "instances" is missing; it is the list of rows to predict')
        instances = document["instances"]
        if not isinstance(instances, list):
            raise InputError(f"instances: expected a list of rows, got {shown(instances)}")
        self._size.check_rows(len(instances), "instances")
        return Call(decode_rows(self._layout, self._filling, instances), ("predict",), _render)


def _render(outputs: Outputs) -> Response:
    return Response(200, orjson.dumps({"predictions": json_values(outputs["predict"])}))
