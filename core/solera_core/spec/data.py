"""Where training data comes from, which columns it has and how it is split."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field, Strict

from solera_core.spec.base import SpecModel
from solera_core.spec.names import ColumnName, ObjectName
from solera_core.spec.rules import ListMap, Rule, Rules, cel_string
from solera_core.spec.task import BUNDLED_SETS

_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^/].*"
_HTTPS = r"https://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/[^* ]+"
_PVC = r"pvc://[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[^/].*"
_BUNDLED = rf"sklearn://({'|'.join(BUNDLED_SETS)})"
_FILE = r"[^?#]+\.(parquet|csv|csv\.gz)(\?.*)?"
_SCHEMES = "s3://bucket/key, https://host/path, pvc://claim/path or sklearn://set"


def _uri_rule(scheme: str, pattern: str, message: str) -> Rule:
    """Return the rule that a URI of `scheme` has the form `pattern`."""
    prefix, compiled = f"{scheme}://", re.compile(pattern)
    return Rule(
        message=message,
        cel=f"!self.startsWith('{prefix}') || self.matches({cel_string(f'^(?:{pattern})$')})",
        check=lambda uri: not uri.startswith(prefix) or compiled.fullmatch(uri) is not None,
    )


def _never(part: str, message: str) -> Rule:
    """Return the rule that a URI holds nothing that matches `part`."""
    compiled = re.compile(part)
    return Rule(
        message=message,
        cel=f"!self.matches({cel_string(part)})",
        check=lambda uri: compiled.search(uri) is None,
    )


URI_RULES = (
    Rule(
        message=f"write one of {_SCHEMES} (schemes in lower case), not '{{}}'",
        cel="self.matches('^(s3|https|pvc|sklearn)://')",
        check=lambda uri: re.match(r"(s3|https|pvc|sklearn)://", uri) is not None,
        shown_cel="self",
        shown=lambda uri: uri,
    ),
    _never(r"::", "chained URIs (::) are not read: name the file itself"),
    _never(r"[\x00-\x1f\x7f\\]", "leave out control characters and backslashes"),
    _never(
        r"^[a-z0-9]+://[^/]*@",
        "leave user and password out of the URI: put them into the Secret in secretName",
    ),
    _never(r"/\.\.?(/|$)", "leave out the path parts '.' and '..'"),
    _never(
        r"(?i)[?&](x-amz-[a-z-]+|signature|sig|token|access_token|awsaccesskeyid)=",
        "leave signatures and tokens out of the URI: put credentials into the Secret in secretName",
    ),
    _uri_rule("s3", _S3, "write s3://<bucket>/<key>, with * for any part of a name"),
    _uri_rule("https", _HTTPS, "write https://<host>/<path> of one file, without * and spaces"),
    _uri_rule("pvc", _PVC, "write pvc://<claim>/<path>, the path from the root of the volume"),
    _uri_rule("sklearn", _BUNDLED, f"write sklearn:// and one of {', '.join(BUNDLED_SETS)}"),
    Rule(
        message="leave ? and # out: only https URIs have a query",
        cel="self.startsWith('https://') || !self.matches('[?#]')",
        check=lambda uri: uri.startswith("https://") or re.search(r"[?#]", uri) is None,
    ),
    Rule(
        message="name files that end in .parquet, .csv or .csv.gz",
        cel=f"!self.matches('^(s3|https|pvc)://') || self.matches({cel_string(f'^{_FILE}$')})",
        check=lambda uri: re.match(r"(s3|https|pvc)://", uri) is None or re.fullmatch(_FILE, uri) is not None,
    ),
)


class ColumnType(StrEnum):
    """Type of a feature, as the server checks it and the trainer converts it."""

    FLOAT = "Float"
    INTEGER = "Integer"
    STRING = "String"
    BOOLEAN = "Boolean"
    DATE_TIME = "DateTime"


class Column(SpecModel):
    """A feature with its type."""

    name: ColumnName
    """Name of the column in the data."""
    type: ColumnType
    """Type of its values; a value that does not convert fails the training."""


class SplitMethod(StrEnum):
    """How rows are told into training and test rows."""

    RANDOM = "Random"
    STRATIFIED = "Stratified"
    GROUP = "Group"
    TIME = "Time"


class Split(SpecModel):
    """Which rows are held out. A row is told by a salted hash, so it never changes sides as data grows."""

    rules = (
        Rule(
            message="method {} needs column: the column whose equal values stay together (Group) or that "
            "orders the rows (Time)",
            cel="!has(self.method) || !(self.method in ['Group', 'Time']) || has(self.column)",
            check=lambda self: (
                self.method not in {SplitMethod.GROUP, SplitMethod.TIME} or self.column is not None
            ),
            at="column",
            shown_cel="self.method",
            shown=lambda self: str(self.method),
        ),
    )

    method: SplitMethod | None = None
    """Random and Stratified hash the row (or `column`); Stratified also fails when a class lacks train or
    test rows. Group hashes `column`, so rows with equal values stay together. Time holds out the latest rows
    by `column`. When absent: Stratified for Classification, Random for Regression."""
    test_percent: Annotated[int, Strict(), Field(ge=5, le=50)] = 20
    """Share of the rows that are held out, in percent."""
    seed: Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)] = 0
    """Salts the hash; another seed holds out other rows. Not used by Time."""
    column: ColumnName | None = None
    """Group, Time: the column that they need. Random, Stratified: a key that identifies a row, hashed instead
    of the whole row. It is never a feature."""


class Checks(SpecModel):
    """What the data must be like; otherwise the training fails before anything is fitted."""

    min_rows: Annotated[int, Strict(), Field(ge=1, le=10**9)] | None = None
    """Least number of rows, before the split."""
    max_missing_percent: Annotated[int, Strict(), Field(ge=0, le=100)] | None = None
    """Largest share of missing values that a feature may have, in percent."""


class Data(SpecModel):
    """The data set that a model is trained on."""

    rules = (
        Rule(
            message="the target is not a feature: leave it out of columns",
            cel="!has(self.columns) || self.columns.all(column, column.name != self.target)",
            check=lambda self: all(column.name != self.target for column in self.columns or ()),
            at="columns",
        ),
        Rule(
            message="the split column is not a feature: leave it out of columns",
            cel="!has(self.columns) || !has(self.split) || !has(self.split.column) || "
            "self.columns.all(column, column.name != self.split.column)",
            check=lambda self: all(column.name != self.split.column for column in self.columns or ()),
            at="columns",
        ),
        Rule(
            message="the split column may not be the target: name a column of keys, groups or times",
            cel="!has(self.split) || !has(self.split.column) || self.split.column != self.target",
            check=lambda self: self.split.column != self.target,
            at="split.column",
        ),
        Rule(
            message="secretName is for s3 and https data: leave it out with pvc and sklearn",
            cel="!has(self.secretName) || self.uri.matches('^(s3|https)://')",
            check=lambda self: self.secret_name is None or self.uri.startswith(("s3://", "https://")),
            at="secretName",
        ),
    )

    uri: Annotated[str, Field(min_length=1, max_length=1024), Rules(*URI_RULES)]
    """Parquet or CSV files: s3://bucket/key (with * for any part of a name), https://host/path (the
    operator's settings list the hosts), pvc://claim/path (a claim in this namespace); or sklearn://set for
    one of the sets inside scikit-learn. The format follows from the ending: .parquet, .csv, .csv.gz."""
    secret_name: ObjectName | None = None
    """Secret of this namespace with credentials, mounted as files in the Job; Solera never reads it. Keys for
    s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and optionally AWS_SESSION_TOKEN, AWS_REGION,
    AWS_ENDPOINT_URL. For https: username and password, or token."""
    target: ColumnName
    """The column that the model predicts."""
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=512), ListMap("name")] | None = None
    """The features and their types: exactly these are used, and a missing one fails the training. When
    absent, all columns but the target and the split column are features; their types are inferred at the
    first training and recorded with the version."""
    split: Split = Split()
    """Which rows are held out for the evaluation."""
    checks: Checks | None = None
    """What the data must be like. When absent, only what the training itself needs is checked."""
