"""The page as HTML: one document with its style and script inside, and nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

import orjson

from solera_core.schema import BOOLEAN, DATETIME, FLOAT, INTEGER, STRING
from solera_server.message import Response
from solera_server.page.card import facts
from solera_server.tensors import ADVERTISED

if TYPE_CHECKING:
    from solera_core.schema import Feature
    from solera_server.load import LoadedModel

_HINTS = {
    FLOAT: "a number",
    INTEGER: "a whole number",
    DATETIME: "2026-03-01T12:00:00Z",
    STRING: "text",
    BOOLEAN: "true or false",
}
_SHOWN_CATEGORIES = 8
MAX_SHOWN = 200
"""Features in the form and in the table; the others are sent as the stored example has them."""


def page(loaded: LoadedModel, name: str, version: str, *, where: str) -> Response:
    """Return the page; ``where`` says, in words, what answers its form."""
    example = loaded.card.example
    features = loaded.schema.features
    shown, others = features[:MAX_SHOWN], features[MAX_SHOWN:]
    data = {
        "model": name,
        "explains": loaded.explainer is not None,
        "why_not": loaded.not_explained,
        "classes": loaded.schema.target.classes,
        "target": loaded.schema.target.name,
        "features": [
            {"name": feature.name, "type": feature.type, "datatype": ADVERTISED.get(feature.type, "BYTES")}
            for feature in features
        ],
        "example": {feature.name: example.get(feature.name) for feature in others},
    }
    more = f"{len(others)} more features are not shown; the form sends them as the example has them."
    listed = any(feature.categories for feature in shown)
    script, style = _part("page.js"), _part("page.css")
    body = Template(_part("page.html")).substitute(
        title=escape(name),
        version=escape(version),
        where=escape(where),
        more=f'<p class="note">{more}</p>' if others else "",
        style=style,
        script=script,
        data=_data(data),
        fields="\n".join(_field(index, feature, example) for index, feature in enumerate(shown)),
        categories='<th scope="col">categories in training</th>' if listed else "",
        schema="\n".join(_row(feature, listed=listed) for feature in shown),
        card="\n".join(
            f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in facts(loaded, name, version)
        ),
    )
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept"),
    )
    return Response(200, body.encode(), b"text/html; charset=utf-8", headers)


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(value: Any) -> str:
    """Return JSON that can stand inside a script element: no "<" begins a tag there."""
    text = orjson.dumps(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _field(index: int, feature: Feature, example: dict[str, Any]) -> str:
    """Return one line of the form: the field, and a box for a missing value where one may be missing."""
    value = example.get(feature.name)
    label = f'<label for="f{index}">{escape(feature.name)}</label>'
    off = " disabled" if value is None and feature.nullable else ""
    if feature.type == BOOLEAN:
        options = "".join(
            f'<option value="{text}"{" selected" if value is chosen else ""}>{text}</option>'
            for text, chosen in (("true", True), ("false", False))
        )
        entry = f'<select id="f{index}"{off}>{options}</select>'
    else:
        shown = "" if value is None else escape(str(value))
        listed = f' list="l{index}"' if feature.type == STRING and feature.categories else ""
        mode = ' inputmode="decimal"' if feature.type in (FLOAT, INTEGER) else ""
        entry = (
            f'<input id="f{index}" type="text" value="{shown}" placeholder="{escape(_HINTS[feature.type])}" '
            f'autocomplete="off" spellcheck="false"{mode}{listed}{off}>'
        )
        if listed:
            choices = "".join(
                f'<option value="{escape(text)}"></option>' for text in feature.categories or ()
            )
            entry += f'<datalist id="l{index}">{choices}</datalist>'
    missing = ""
    if feature.nullable:
        checked = " checked" if off else ""
        missing = (
            f'<label class="missing"><input type="checkbox" id="m{index}"{checked}>'
            f'<span>missing<span class="sr"> {escape(feature.name)}</span></span></label>'
        )
    kind = "field" if missing else "field needed"
    return f'<div class="{kind}">{label}{entry}{missing}</div>'


def _row(feature: Feature, *, listed: bool) -> str:
    """Return one line of the table; ``listed`` says whether it has a column of categories."""
    categories = list(feature.categories or ())
    text = ", ".join(categories[:_SHOWN_CATEGORIES])
    if len(categories) > _SHOWN_CATEGORIES:
        text += f" and {len(categories) - _SHOWN_CATEGORIES} more"
    missing = "may be missing" if feature.nullable else "needed"
    cells = (feature.name, feature.type, missing, *([text] if listed else []))
    first, *rest = (escape(cell) for cell in cells)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
