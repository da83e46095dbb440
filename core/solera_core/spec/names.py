"""Names: what Kubernetes allows, with messages that say what to write."""

import re
from typing import Annotated

from pydantic import Field

from solera_core.spec.rules import Rules, matches

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
MODEL_NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
MODEL_NAME_MAX = 40
DIGEST = r"sha256:[0-9a-f]{64}"

_LABEL_TEXT = "write lower-case letters, digits and '-', beginning and ending with a letter or digit"
_SUBDOMAIN_TEXT = "write lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"

LabelName = Annotated[str, Field(min_length=1, max_length=63), Rules(matches(LABEL, _LABEL_TEXT))]
"""A DNS label: the name of a namespace, of a queue, of an item in one of Solera's lists."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253), Rules(matches(SUBDOMAIN, _SUBDOMAIN_TEXT))]
"""A DNS subdomain: the name of a Secret, a ServiceAccount and most other objects."""

VersionName = Annotated[
    str,
    Field(min_length=4, max_length=63),
    Rules(
        matches(
            rf"{MODEL_NAME}-v[1-9][0-9]*",
            "write the name of a ModelVersion: <model>-v<number>, such as iris-v6",
        )
    ),
]

Digest = Annotated[
    str,
    Field(min_length=71, max_length=71),
    Rules(matches(DIGEST, "write sha256: and 64 lower-case hexadecimal digits")),
]

ColumnName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A column of the data: anything without control characters. (A pattern, since lists of them are long.)"""


def model_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a TrainedModel, or None."""
    if len(name) > MODEL_NAME_MAX:
        return f"write at most {MODEL_NAME_MAX} characters (children get longer names), not {len(name)}"
    if re.fullmatch(MODEL_NAME, name) is None:
        return f"write lower-case letters, digits and '-', beginning with a letter, not '{name}'"
    if re.search(r"-v[0-9]+$", name):
        return f"the name may not end in -v<digits>, which is how versions are called: rename '{name}'"
    return None
