"""The settings file: what it means, and what a wrong one is answered with."""

import copy
from pathlib import Path

import pytest
import yaml

from solera_operator.settings import Settings, SettingsError

GOOD = {
    "artifactStore": {"uri": "s3://solera"},
    "runtimes": [
        {
            "name": "sklearn-1.9",
            "sklearnVersion": "1.9.1",
            "trainerImage": "trainer:1",
            "serverImage": "server:1",
        }
    ],
}
CHECKOUT = Path(__file__).resolve().parents[2]


def changed(**changes):
    return copy.deepcopy(GOOD) | changes


def runtime(**changes):
    return {**GOOD["runtimes"][0], **changes}


def test_defaults():
    settings = Settings.parse(GOOD)
    assert settings.image_pull_policy == "IfNotPresent"
    assert settings.watch_namespaces == ()
    assert settings.job_ttl_seconds == 3600
    assert settings.log_level == "Info"
    assert settings.data.allowed_hosts == ()
    assert settings.artifact_store.port == 443
    assert settings.network_policy.dns_ports == (53,)


def test_every_key_by_the_name_that_the_file_has():
    settings = Settings.parse(
        {
            "artifactStore": {
                "uri": "s3://solera/prod",
                "endpointUrl": "http://store.example.com:7070/",
                "region": "us-east-1",
                "secretName": "solera-store",
                "caConfigMapName": "store-ca",
            },
            "data": {
                "s3EndpointUrl": "https://data.example.com",
                "region": "eu-west-1",
                "allowedHosts": ["a.example.com", "b.example.com:8443"],
            },
            "runtimes": [runtime(), runtime(name="sklearn-1.10", sklearnVersion="1.10.0", default=True)],
            "imagePullPolicy": "Always",
            "watchNamespaces": ["a", "b"],
            "jobTTLSeconds": 0,
            "networkPolicy": {
                "gatewayNamespaceSelector": {"matchLabels": {"a": "b"}},
                "monitoringNamespaceSelector": {"matchLabels": {"c": "d"}},
                "clientNamespaceSelector": {"matchLabels": {"e": "f"}},
                "storePorts": [7070],
                "dnsPorts": [53, 5353],
            },
            "logLevel": "Debug",
        }
    )
    assert settings.artifact_store.endpoint_url == "http://store.example.com:7070"
    assert settings.artifact_store.port == 7070
    assert settings.data.s3_endpoint_url == "https://data.example.com"
    assert settings.job_ttl_seconds == 0
    assert settings.network_policy.store_ports == (7070,)


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [(None, 443), ("https://s3.example.com", 443), ("http://store", 80), ("http://10.0.0.1:9000", 9000)],
)
def test_port_of_the_store(endpoint, port):
    store = GOOD["artifactStore"] | ({"endpointUrl": endpoint} if endpoint else {})
    assert Settings.parse(changed(artifactStore=store)).artifact_store.port == port


def test_the_only_runtime_is_the_default_one():
    assert Settings.parse(GOOD).default_runtime().name == "sklearn-1.9"


def test_runtimes_by_name():
    settings = Settings.parse(changed(runtimes=[runtime(), runtime(name="new", default=True)]))
    assert settings.default_runtime().name == "new"
    found = settings.runtime("sklearn-1.9")
    assert found is not None
    assert found.trainer_image == "trainer:1"
    assert settings.runtime("withdrawn") is None


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings.parse(GOOD).log_level = "Debug"


WRONG = [
    # (document, path in the message, what it must say)
    ({}, "artifactStore", "Field required; write artifactStore with at least `uri: s3://<bucket>`"),
    (
        changed(artifactStore={"uri": "gs://bucket"}),
        "artifactStore.uri",
        "'gs://bucket'; write s3://<bucket>",
    ),
    (changed(artifactStore={"uri": "s3://B"}), "artifactStore.uri", "has the wrong form"),
    (
        changed(artifactStore={"uri": "s3://solera", "endpointUrl": "store:9000"}),
        "artifactStore.endpointUrl",
        "expected an http:// or https:// address",
    ),
    (
        changed(artifactStore={"uri": "s3://solera", "endpointUrl": "http://store/path"}),
        "artifactStore.endpointUrl",
        "scheme, host and port only",
    ),
    (
        changed(artifactStore={"uri": "s3://solera", "secretname": "x"}),
        "artifactStore.secretname",
        "unknown key; remove it or correct its spelling",
    ),
    (changed(data={"allowedHosts": ["https://x"]}), "data.allowedHosts[0]", "write a list of host names"),
    (changed(runtimes=[]), "runtimes", "write at least one runtime"),
    (
        changed(runtimes=[runtime(sklearnVersion=1.9)]),
        "runtimes[0].sklearnVersion",
        "found 1.9; write three numbers",
    ),
    (
        changed(runtimes=[runtime(), runtime(name="b", trainerImage="")]),
        "runtimes[1].trainerImage",
        "found ''",
    ),
    (changed(runtimes=[runtime(serverImage="a b")]), "runtimes[0].serverImage", "found 'a b'"),
    (changed(runtimes=[runtime(name="Upper")]), "runtimes[0].name", "found 'Upper'"),
    (changed(runtimes=[runtime(), runtime()]), "", "every name must be given once"),
    (
        changed(runtimes=[runtime(), runtime(name="b")]),
        "",
        "`default: true` in exactly one of them (now: none)",
    ),
    (
        changed(runtimes=[runtime(default=True), runtime(name="b", default=True)]),
        "",
        "(now: sklearn-1.9, b)",
    ),
    (changed(imagePullPolicy="Sometimes"), "imagePullPolicy", "'Always', 'IfNotPresent' or 'Never'"),
    (changed(watchNamespaces="all"), "watchNamespaces", "write a list of namespace names"),
    (changed(watchNamespaces=["*"]), "watchNamespaces[0]", "found '*'"),
    (changed(jobTTLSeconds=-1), "jobTTLSeconds", "write whole seconds between 0 and 2592000"),
    (changed(logLevel="verbose"), "logLevel", "found 'verbose'"),
    (changed(networkPolicy={"storePorts": [0]}), "networkPolicy.storePorts[0]", "write a list of TCP ports"),
    (changed(networkPolicy={"dnsPorts": []}), "networkPolicy.dnsPorts", "write a list of ports"),
    (
        changed(networkPolicy={"clientNamespaceSelector": {"matchLabels": {}}}),
        "networkPolicy.clientNamespaceSelector.matchLabels",
        "at least 1 item",
    ),
    (changed(leaseSeconds=6), "leaseSeconds", "unknown key"),
    (changed(log_level="Debug"), "log_level", "unknown key"),
]


@pytest.mark.parametrize(("document", "path", "text"), WRONG)
def test_a_wrong_value_is_answered_with_where_what_and_what_to_write(document, path, text, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(SettingsError) as caught:
        Settings.load(file)
    [line] = [line for line in str(caught.value).splitlines() if line.startswith(f"{file}: {path}")][:1]
    assert text in line


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(SettingsError) as caught:
        Settings.parse({"artifactStore": {"uri": "x"}, "runtimes": [runtime(name="A")], "logLevel": 3})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping with artifactStore and runtimes, found NoneType"),
        ("- a", "expected a mapping with artifactStore and runtimes, found list"),
        ("a: [", "is not YAML"),
        ("a: \xff", "is not YAML"),
    ],
)
def test_a_file_that_is_no_mapping(text, message, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.load(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        Settings.load(tmp_path / "missing.yaml")


def shipped():
    return sorted((CHECKOUT / "manifests").rglob("settings.yaml"))


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.parent.name)
def test_settings_that_are_shipped_can_be_read(path):
    assert Settings.load(path).default_runtime().sklearn_version


def test_settings_are_shipped():
    assert {path.parent.name for path in shipped()} == {"base", "namespaced", "local"}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"name": "sklearn-1.3"},
            "runtimes[0].name: this operator has no catalogue of 'sklearn-1.3'; it has: sklearn-1.9 (",
        ),
        (
            {"sklearnVersion": "1.9.0"},
            "runtimes[0].sklearnVersion: found '1.9.0'; sklearn-1.9 is scikit-learn 1.9.1: write '1.9.1'",
        ),
    ],
)
def test_a_runtime_that_the_operator_has_no_catalogue_of(wrong, text, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(changed(runtimes=[runtime(**wrong)])))
    with pytest.raises(SettingsError) as caught:
        Settings.load(file)
    assert str(caught.value).startswith(f"{file}: {text}")


def test_every_runtime_without_catalogue_is_named(tmp_path):
    file = tmp_path / "settings.yaml"
    runtimes = [runtime(name="a", default=True), runtime(), runtime(name="b")]
    file.write_text(yaml.safe_dump(changed(runtimes=runtimes)))
    with pytest.raises(SettingsError) as caught:
        Settings.load(file)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "runtimes[0].name",
        "runtimes[2].name",
    ]
