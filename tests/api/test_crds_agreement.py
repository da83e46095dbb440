"""A laptop and a cluster agree: for each value, the types accept it exactly when the API server does.

CEL's regular expressions are RE2, Python's are its own, and both count characters differently from bytes, so the
values here are those at the edges.
"""

from itertools import pairwise

import manifest_tables as tables
import pytest
from api_server import GROUP, Api

from solera_core.spec import Invalid
from solera_operator.api import TrainedModel, read

URIS = [
    "s3://abc/x.csv", "s3://ab/x.csv", "s3://a.b-c/x.parquet", "s3://abc//x.csv", "s3://abc/x.CSV", "s3://abc/.csv",
    "s3://abc/a/b/*.csv.gz", "s3://abc/a b.csv", "s3://abc/ü.csv", "s3://abc/x.csv\n", "s3://abc/x.csv\n.csv",
    "s3://abc/a\\b.csv", "s3://abc/x.csv#y", "s3://abc/x?.csv", "s3://abc/..", "s3://abc/../x.csv", "s3://abc/a..b.csv",
    "s3://abc/./x.csv", "s3://abc/x.csv/", "s3://-abc/x.csv", "s3://user@abc/x.csv", "s3:///x.csv", "s3:/abc/x.csv",
    "https://h/x.csv", "https://h:8080/x.csv", "https://h:123456/x.csv", "https://h/x.csv?a=b", "https://h?x.csv",
    "https://h/x.csv?a=b.csv", "https://h/x?a=b.csv", "https://h/x.csv#f", "https://h/a@b.csv", "https://u@h/x.csv",
    "https://h/x.csv?token=1", "https://h/x.csv?TOKEN=1", "https://h/x.csv?mytoken=1", "https://[::1]/x.csv",
    "https://h/x y.csv", "https://-h/x.csv", "https://H.Example/x.csv", "https://h/x.csv\t", "https:///x.csv",
    "pvc://claim/x.csv", "pvc://claim", "pvc://claim/", "pvc://c.d/a/x.csv", "pvc://c_d/x.csv", "pvc://claim//x.csv",
    "pvc://claim/x.csv?y", "sklearn://iris", "sklearn://iris/", "sklearn://Iris", "sklearn://irisx", "sklearn://",
    "", " s3://abc/x.csv", "s3 ://abc/x.csv", "S3://abc/x.csv", "s3a://abc/x.csv", "a::s3://abc/x.csv",
    "memory://abc/x.csv", "s3://abc/" + "x" * 1011 + ".csv", "s3://abc/" + "x" * 1012 + ".csv",
    "s3://abc/" + "ü" * 1011 + ".csv", "s3://abc/\x7f.csv", "s3://abc/\u2028.csv",
]  # fmt: skip
DURATIONS = [
    "1h", "60m", "59s", "60s", "1m", "1h30m", "30m1h", "1h30", "1.5h", "0h1m", "168h", "168h1s", "10080m", "10081m",
    "-1h", "+1h", "1h ", " 1h", "1h\n", "", "0", "0s", "1d", "1H", "999999h", "9999999h", "1ms", "001m", "1h1h",
]  # fmt: skip
QUANTITIES = [
    "1", "0", "01", "1.5", "1.", ".5", "1Gi", "1GI", "1gi", "1G", "1K", "1k", "1Ki", "500m", "1u", "1e3", "1E3", "1E",
    "-1", "+1", "1 Gi", "", "1Gi\n", "0.5", "999999999999999", "9999999999999999", 1, 0, -1, 1.5, True, None, "1.5Gi",
]  # fmt: skip
DECIMALS = [
    "0.9", "0.90", "1", "1.0", "1.1", "-1", "-0.5", "+0.5", ".5", "0.", "00.5", "0,5", "1e-1", "NaN", "inf", "", " 0.5",
    "0.5\n", "0.1234567890123", "0.123456789012", "0x1", "\u0660.\u0665", 1, 0.5, True, "90",
]  # fmt: skip
NAMES = [
    "a", "1", "a-b", "a--b", "-a", "a-", "a.b", "A", "a_b", "a-v1", "a-v", "v1", "a-v1b", "a-v1-b", "a-v01", "a" * 40,
    "a" * 41, "a" * 64, "xn--ber-goa",
]  # fmt: skip
HOSTNAMES = [
    "a", "a.b", "a.b.", "a..b", ".a", "1.2.3.4", "1a.b", "a.1b", "a.b1", "a-.b", "a.-b", "*.a", "a_b.c", "A.b",
    "a.b:80", "a/b", "http://a.b", "", "x" * 63 + ".y", "ü.de", "a b", "a.b\n", "::1",
]  # fmt: skip
QUEUES = ["a", "A", "a_b", "a.b", "a" * 63, "a" * 64, "", "1", "-", "a-", "a\n"]
COLUMNS = [
    "a",
    "",
    " ",
    "a b",
    "ü" * 128,
    "ü" * 129,
    "a\tb",
    "a\n",
    "\x00",
    "\x7f",
    "😀" * 128,
    "\u2028",
    '"',
    "\\",
]
ESTIMATORS = [
    "sklearn.svm.SVC", "sklearn.SVC", "sklearn..SVC", "sklearn.svm.SVC\n", "sklearn.svm.svc", "sklearn.svm.SVC()",
    "sklearn.svm._x.SVC", "Sklearn.svm.SVC", "xsklearn.svm.SVC", "sklearn.svm.SVC.Other", "sklearn.2.SVC",
]  # fmt: skip
LABEL_KEYS = [
    "a",
    "a/b",
    "a.b/c",
    "A/b",
    "a/B",
    "/b",
    "a/",
    "a/b/c",
    "a_b",
    "-a",
    "a b",
    "a\n",
    "kubernetes.io/os",
]
LABEL_VALUES = ["", "a", "A", "a b", "a_b.c-d", "-a", "a-", "a\n", "x" * 63, "x" * 64, 1, True]
PINS = [
    "iris-v1",
    "iris-v0",
    "iris-v01",
    "iris-v",
    "iris-v1-v2",
    "iris",
    "iris2-v1",
    "Iris-v1",
    "iris-v1\n",
    "-v12",
]


def manifest_with(path, value):
    """Return a valid manifest in which `path` (of keys and indices) holds `value`."""
    manifest = tables.base("classification")
    manifest["spec"]["training"]["data"].pop("secretName")
    here = manifest
    for part, following in pairwise(path):
        if isinstance(here, list):
            here = here[part]
        else:
            here = here.setdefault(part, [] if isinstance(following, int) else {})
    here[path[-1]] = value
    return manifest


TRAINING = ("spec", "training")
PLACES = {
    "uri": ((*TRAINING, "data", "uri"), URIS),
    "deadline": ((*TRAINING, "deadline"), DURATIONS),
    "rollback window": (("spec", "serving", "rollbackWindow"), DURATIONS),
    "quantity": ((*TRAINING, "pod", "resources", "limits", "memory"), QUANTITIES),
    "gate": (("spec", "gates", 0, "min"), DECIMALS),
    "name": (("metadata", "name"), NAMES),
    "hostname": (("spec", "serving", "gateway"), [{"name": "g", "hostname": name} for name in HOSTNAMES]),
    "queue": ((*TRAINING, "queueName"), QUEUES),
    "secret": (
        ("spec", "serving", "pod", "imagePullSecrets"),
        [[{"name": name}] for name in [*QUEUES, *NAMES]],
    ),
    "target": ((*TRAINING, "data", "target"), COLUMNS),
    "column": ((*TRAINING, "data", "columns"), [[{"name": name, "type": "Float"}] for name in COLUMNS]),
    "estimator": ((*TRAINING, "candidates", 0, "estimator"), ESTIMATORS),
    "label key": (("spec", "serving", "pod", "nodeSelector"), [{key: "x"} for key in LABEL_KEYS]),
    "label value": (("spec", "serving", "pod", "nodeSelector"), [{"x": value} for value in LABEL_VALUES]),
    "pin": (("spec", "serving", "pin"), [{"version": name} for name in PINS]),
    "seed": ((*TRAINING, "seed"), [0, -1, 2**31 - 1, 2**31, 2**63, "0", True, 0.5, [], None]),
    "metric": ((*TRAINING, "validation", "metric"), ["f1_macro", "r2", "", "F1_macro", "f1_macro ", 1, None]),
    "resource": (
        (*TRAINING, "pod", "resources", "limits"),
        [{name: 1} for name in ["cpu", "CPU", "a.b/c", "a/", "memory ", "nvidia.com/gpu", "pods", ""]]
        + [{}, None, []],
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_types_accept_what_the_api_server_accepts(api: Api, place):
    path, values = PLACES[place]
    disagreements = []
    accepted = 0
    for value in values:
        manifest = manifest_with(path, value)
        answer = api.create(f"{GROUP}/namespaces/default/trainedmodels", manifest, dry_run=True)
        assert answer.status_code in {201, 400, 422}, answer.text
        # What the types read later is what the API server has stored.
        found = read(TrainedModel, answer.json() if answer.is_success else manifest)
        accepted += answer.is_success
        if answer.is_success == isinstance(found, Invalid):
            told = found if isinstance(found, Invalid) else answer.json()["message"]
            disagreements.append(f"{value!r}: API server {answer.status_code}; {told}")
        before = read(TrainedModel, manifest)
        if answer.is_success and isinstance(before, Invalid):
            disagreements.append(f"{value!r}: accepted by the API server, refused on a laptop: {before}")
    assert not disagreements, "\n".join(disagreements)
    assert 0 < accepted < len(values), "the values hold none that is right, or none that is wrong"
