"""Names: what Kubernetes allows, with messages that say what to write."""

import re
from typing import Annotated

from pydantic import Field

from solera_core.spec.rules import Rule, Rules, matches

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


MODEL_NAME_RULES = (
    Rule(
        message=f"write at most {MODEL_NAME_MAX} characters, since children get longer names",
        cel=f"self.size() <= {MODEL_NAME_MAX}",
        check=lambda name: len(name) <= MODEL_NAME_MAX,
    ),
    matches(
        MODEL_NAME,
        "write lower-case letters, digits and '-', beginning with a letter, since it names a Service",
    ),
    Rule(
        message="a name may not end in -v<digits>, which is how versions are called: rename '{}'",
        cel="!self.matches('-v[0-9]+$')",
        check=lambda name: re.search(r"-v[0-9]+$", name) is None,
        shown_cel="self",
        shown=lambda name: name,
    ),
)
"""Rules about the name of a TrainedModel."""
