"""The two protocols of explanations: what a request may say, and how an answer is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from solera_server import binary_tensors
from solera_server.batch import InputError
from solera_server.encode import class_name, json_values
from solera_server.json_input import expect_object, parse, refuse_unknown, shown
from solera_server.message import LENGTH_HEADER, Response
from solera_server.v1 import V1Codec
from solera_server.v2 import V2Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from solera_core.schema import Schema
    from solera_server.batch import Batch
    from solera_server.explain.explainer import Explainer, Explanation
    from solera_server.limits import Limits

_CLASSES = "classes"
PREDICTED, ALL = "predicted", "all"
OUTPUTS = ("predict", "contributions", "base_value", "output", "features", "classes", "scale", "method")
"""The tensors of an answer in V2."""


@dataclass(frozen=True, slots=True)
class Question:
    """A decoded request: which rows, whether for all classes, and how the answer is written."""

    batch: Batch
    every: bool
    render: Callable[[Explanation], Response]


class Shown:
    """An explanation as both protocols tell it: of the predicted class, or of all."""

    def __init__(self, explanation: Explanation, classes: tuple[Any, ...] | None, *, every: bool) -> None:
        self.predictions = explanation.predictions
        self.base = np.broadcast_to(explanation.base, explanation.output.shape)
        self.output = explanation.output
        self.contributions = explanation.contributions
        if classes is None or not every:
            rows = np.arange(len(explanation.output))
            chosen = np.zeros(len(rows), dtype=np.intp)
            if classes is not None:
                places = {value: place for place, value in enumerate(classes)}
                chosen = np.array([places[value] for value in self.predictions.tolist()], dtype=np.intp)
            self.base = self.base[rows, chosen]
            self.output = self.output[rows, chosen]
            self.contributions = self.contributions[rows, :, chosen]


class ExplainV1:
    """``{"instances": […], "parameters": {"classes": "all"}}``: a request to predict, and which classes."""

    def __init__(self, schema: Schema, explainer: Explainer, limits: Limits) -> None:
        self._codec = V1Codec(schema, limits)
        self._names = [feature.name for feature in schema.features]
        self._classes = schema.target.classes
        self._json_depth = limits.json_depth
        self._method = {"scale": explainer.scale, "method": explainer.method}

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> Question:
        document = expect_object(parse(body, self._json_depth), "body")
        every = False
        if "parameters" in document:
            parameters = expect_object(document.pop("parameters"), "parameters")
            refuse_unknown(parameters, frozenset({_CLASSES}), "parameters")
            every = _wants_all(parameters)
            # What is left is a request to predict.
            body = orjson.dumps(document)
        batch = self._codec.decode(body, headers).batch
        return Question(batch, every, lambda explanation: self._render(explanation, every))

    def _render(self, explanation: Explanation, every: bool) -> Response:
        shown_ = Shown(explanation, self._classes, every=every)
        predictions = json_values(shown_.predictions)
        parts = zip(
            predictions,
            _json(shown_.base),
            _json(shown_.output),
            _json(shown_.contributions),
            strict=True,
        )
        by_class = every and self._classes is not None
        explanations = [self._by_class(*part[1:]) if by_class else self._single(*part) for part in parts]
        return Response(
            200,
            orjson.dumps({"predictions": predictions, "explanations": explanations, **self._method}),
        )

    def _single(self, prediction: Any, base: Any, output: Any, contributions: list[Any]) -> dict[str, Any]:
        found = {
            "base_value": base,
            "output": output,
            "contributions": dict(zip(self._names, contributions, strict=True)),
        }
        return found if self._classes is None else {"class": prediction, **found}

    def _by_class(self, base: list[Any], output: list[Any], contributions: list[list[Any]]) -> dict[str, Any]:
        return {
            "classes": {
                class_name(value): {
                    "base_value": base[place],
                    "output": output[place],
                    "contributions": {
                        name: of_feature[place]
                        for name, of_feature in zip(self._names, contributions, strict=True)
                    },
                }
                for place, value in enumerate(self._classes or ())
            }
        }


class ExplainV2:
    """An inference request whose outputs are OUTPUTS; ``parameters.classes`` chooses the classes."""

    def __init__(self, name: str, version: str, schema: Schema, explainer: Explainer, limits: Limits) -> None:
        self._codec = V2Codec(name, version, schema, OUTPUTS, limits)
        self._json_depth = limits.json_depth
        self._classes = schema.target.classes
        self._facts = {
            "features": _texts([feature.name for feature in schema.features]),
            "classes": _texts([class_name(value) for value in self._classes or ()]),
            "scale": _texts([explainer.scale]),
            "method": _texts([explainer.method]),
        }

    def decode(self, body: bytes, headers: Mapping[bytes, bytes]) -> Question:
        call = self._codec.decode(body, headers)
        announced = headers.get(LENGTH_HEADER)
        if announced is not None:
            body, _ = binary_tensors.split_body(body, announced)
        document = expect_object(parse(body, self._json_depth), "body")
        every = _wants_all(document.get("parameters") or {})

        def render(explanation: Explanation) -> Response:
            found = Shown(explanation, self._classes, every=every)
            return call.render(
                {
                    "predict": found.predictions,
                    "contributions": found.contributions,
                    "base_value": found.base,
                    "output": found.output,
                    **self._facts,
                }
            )

        return Question(call.batch, every, render)


def _wants_all(parameters: Mapping[str, Any]) -> bool:
    wanted = parameters.get(_CLASSES, PREDICTED)
    if wanted not in (PREDICTED, ALL):
        raise InputError(f'parameters.classes: expected "{PREDICTED}" or "{ALL}", got {shown(wanted)}')
    return bool(wanted == ALL)


def _texts(values: list[str]) -> NDArray[Any]:
    return np.array(values, dtype=object)


def _json(array: NDArray[Any]) -> Any:
    """Return an array as nested lists. What adds up to a finite output is finite."""
    return array.tolist()
