"""
The V1 protocol's predict: ``{"instances": […]}`` in, ``{"predictions": […]}`` out.

``{"inputs": {name: […]}}`` brings the same values as columns, as TensorFlow Serving has it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from solera_server.batch import Batch, InputError, Layout
from solera_server.codec import Call
from solera_server.encode import Kept, class_name, json_values, single_label, split
from solera_server.json_input import expect_object, parse, refuse_unknown, shown
from solera_server.message import Response
from solera_server.plain_bodies import PlainBodies
from solera_server.predictor import PREDICT, PREDICT_PROBA
from solera_server.request_size import RequestSize
from solera_server.rows import decode_columns, decode_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solera_core.schema import Schema
    from solera_server.limits import Limits
    from solera_server.predictor import Outputs

_FIELDS = frozenset({"instances", "inputs", "parameters"})
_PROBABILITIES = "probabilities"
_PARAMETERS = frozenset({_PROBABILITIES})
_NO_PROBABILITIES = f"parameters.{_PROBABILITIES}: this model gives no probabilities"
_LABELS: tuple[str, ...] = (PREDICT,)
_BOTH: tuple[str, ...] = (PREDICT, PREDICT_PROBA)


class V1Codec:
    """
    Predictions are labels (class names) or numbers, one for each instance.

    ``outputs`` are the names that the predictor offers: with predict_proba among them a request may ask for
    probabilities, which come by the names of the classes.
    """

    def __init__(self, schema: Schema, limits: Limits, outputs: tuple[str, ...] = _LABELS) -> None:
        self._layout = Layout(schema.features)
        self._json_depth = limits.json_depth
        self._size = RequestSize(schema, limits)
        self.plain = PlainBodies(self._layout, self._size.rows, limits.json_depth)
        self._probabilities = PREDICT_PROBA in outputs
        self._classes = [class_name(label) for label in schema.target.classes or ()]

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> Call:
        plain = self.plain.read_v1(body)
        if plain is None:
            return self.decode_carefully(body, headers)
        rows, numbers, texts, with_probabilities, _ = plain
        if with_probabilities and not self._probabilities:
            return self.decode_carefully(body, headers)
        batch = Batch(rows, self.plain.matrix(rows, numbers), texts, partial(self._where, body))
        if with_probabilities:
            return Call(batch, _BOTH, self._render_probabilities)
        return Call(batch, _LABELS, _render)

    def wanted(self, asked: bool) -> tuple[str, ...]:
        """Return the outputs that are wanted; ``asked`` says whether probabilities are among them."""
        if asked and not self._probabilities:
            raise InputError(_NO_PROBABILITIES)
        return _BOTH if asked else _LABELS

    def bodies(
        self,
        outputs: Outputs,
        wanted: tuple[str, ...],
        stops: Sequence[int] | None,
        _ids: Sequence[str | None] | None,
    ) -> list[bytes]:
        """Return the bodies of the answers to requests that were predicted together (see PlainCodec)."""
        if stops is None and wanted == _LABELS:
            values = json_values(outputs[PREDICT])
            return _BODIES.of(values) or [_body([value]) for value in values]
        render = _render if wanted == _LABELS else self._render_probabilities
        ends = stops or range(1, len(outputs[PREDICT]) + 1)
        return [render(own).body for own in split(outputs, ends)]

    def _where(self, body: bytes, row: int, feature: int) -> str:
        return self.decode_carefully(body, {}).batch.where(row, feature)

    def decode_carefully(self, body: bytes, _headers: Mapping[bytes, bytes]) -> Call:
        """Decode without the quick way; the calls are equal. Raises InputError."""
        document = expect_object(parse(body, self._json_depth), "body")
        if len(document) == 1 and "instances" in document:
            return Call(self._rows(document["instances"]), _LABELS, _render)
        refuse_unknown(document, _FIELDS, "body")
        with_probabilities = self._wants_probabilities(document)
        if "inputs" in document:
            batch = self._columns(document)
        elif "instances" in document:
            batch = self._rows(document["instances"])
        else:
            raise InputError('body: the field "instances" is missing; it is the list of rows to predict')
        if with_probabilities:
            return Call(batch, _BOTH, self._render_probabilities)
        return Call(batch, _LABELS, _render)

    def _rows(self, instances: Any) -> Batch:
        if not isinstance(instances, list):
            raise InputError(f"instances: expected a list of rows, got {shown(instances)}")
        self._size.check_rows(len(instances), "instances")
        return decode_rows(self._layout, instances)

    def _columns(self, document: dict[str, Any]) -> Batch:
        if "instances" in document:
            raise InputError("body: has both instances (rows) and inputs (columns); send one of them")
        inputs = document["inputs"]
        if not isinstance(inputs, dict):
            raise InputError(
                "inputs: expected an object with a list of values for each feature, "
                f"got {shown(inputs)}; send rows as instances"
            )
        return decode_columns(self._layout, inputs, self._size)

    def _wants_probabilities(self, document: dict[str, Any]) -> bool:
        if "parameters" not in document:
            return False
        parameters = expect_object(document["parameters"], "parameters")
        refuse_unknown(parameters, _PARAMETERS, "parameters")
        wanted = parameters.get(_PROBABILITIES, False)
        if not isinstance(wanted, bool):
            raise InputError(f"parameters.{_PROBABILITIES}: expected true or false, got {shown(wanted)}")
        if wanted and not self._probabilities:
            raise InputError(_NO_PROBABILITIES)
        return wanted

    def _render_probabilities(self, outputs: Outputs) -> Response:
        values = json_values(outputs[PREDICT_PROBA])
        width = len(self._classes)
        rows = [
            dict(zip(self._classes, values[start : start + width], strict=True))
            for start in range(0, len(values), width)
        ]
        labels = json_values(outputs[PREDICT])
        return Response(200, orjson.dumps({"predictions": labels, _PROBABILITIES: rows}))


def _render(outputs: Outputs) -> Response:
    predictions = outputs[PREDICT]
    label = single_label(predictions)
    if label is not None:
        return Response(200, _BODIES[label])
    return Response(200, _body(json_values(predictions)))


def _body(values: Sequence[Any]) -> bytes:
    return orjson.dumps({"predictions": values})


_BODIES = Kept(lambda label: _body((label,)))
"""Of answers with a label alone."""
