"""Who may reach a server and whom it may reach: the policies evaluated on sample traffic."""

import pytest
from owned_objects import BARE_SETTINGS, BARE_SPEC, SETTINGS, all_objects, trained_model
from policy_evaluation import Peer, allowed

from solera_operator.settings import Settings


def policies_and_servers(spec, settings):
    objects = all_objects(trained_model(spec), settings)
    labels = objects["deployment"]["spec"]["template"]["metadata"]["labels"]
    trainer = objects["train-job"]["spec"]["template"]["metadata"]["labels"]
    return [objects["network-policy"]], Peer("models", labels), Peer("models", trainer)


FULL, SERVER, TRAINER = policies_and_servers(None, SETTINGS)
BARE, _, _ = policies_and_servers(BARE_SPEC, BARE_SETTINGS)

NEIGHBOUR = Peer("models", {"app": "shop"})
STRANGER = Peer("elsewhere", {"app": "shop"})
GATEWAY = Peer("gateways", {"app": "proxy"})
ENVOY = Peer("envoy-gateway-system", {"app": "envoy"})
PROMETHEUS = Peer("monitoring", {"app": "prometheus"})
OUTSIDE = Peer()

IN = [
    # (who, port, with gateway and monitoring in the settings, with neither)
    (NEIGHBOUR, 8080, True, True),
    (TRAINER, 8080, True, True),
    (STRANGER, 8080, False, False),
    (GATEWAY, 8080, True, False),
    (ENVOY, 8080, True, False),
    (PROMETHEUS, 8080, False, False),
    (OUTSIDE, 8080, False, False),
    (PROMETHEUS, 8081, True, False),
    (NEIGHBOUR, 8081, False, True),
    (GATEWAY, 8081, False, False),
    (STRANGER, 8081, False, False),
    (NEIGHBOUR, 22, False, False),
]


@pytest.mark.parametrize(
    ("source", "port", "full", "bare"), IN, ids=lambda v: str(getattr(v, "namespace", v))
)
def test_in(source, port, full, bare):
    assert allowed(FULL, source, SERVER, port) is full
    assert allowed(BARE, source, SERVER, port) is bare


OUT = [
    # (whom, port, protocol, store at port 9000, store at 443)
    (Peer("kube-system", {"k8s-app": "kube-dns"}), 53, "UDP", True, True),
    (Peer("kube-system", {"k8s-app": "kube-dns"}), 53, "TCP", True, True),
    (OUTSIDE, 9000, "TCP", True, False),
    (OUTSIDE, 443, "TCP", False, True),
    (Peer("object-store", {"app": "store"}), 9000, "TCP", True, False),
    (OUTSIDE, 6443, "TCP", False, False),
    (OUTSIDE, 9000, "UDP", False, False),
    (NEIGHBOUR, 5432, "TCP", False, False),
]


@pytest.mark.parametrize(("target", "port", "protocol", "full", "bare"), OUT)
def test_out(target, port, protocol, full, bare):
    assert allowed(FULL, SERVER, target, port, protocol) is full
    assert allowed(BARE, SERVER, target, port, protocol) is bare


def test_training_pods_are_not_restricted_by_the_servers_policy():
    assert allowed(FULL, TRAINER, OUTSIDE, 5432)


def test_servers_of_other_models_are_not_selected():
    other = Peer("models", {**SERVER.labels, "solera.dev/model": "iris"})
    assert allowed(FULL, STRANGER, other, 8080)


def test_ports_and_clients_of_the_settings():
    settings = Settings.parse(
        {
            "artifactStore": {"uri": "s3://solera", "endpointUrl": "http://store.example.com"},
            "runtimes": [{"name": "x", "sklearnVersion": "1.9.1", "trainerImage": "t", "serverImage": "s"}],
            "networkPolicy": {
                "clientNamespaceSelector": {"matchLabels": {"team": "shop"}},
                "storePorts": [7070],
                "dnsPorts": [5353],
            },
        }
    )
    policies, server, _ = policies_and_servers(BARE_SPEC, settings)
    assert allowed(policies, Peer("shop", {}, {"team": "shop"}), server, 8080)
    assert not allowed(policies, Peer("shop", {}, {"team": "shop"}), server, 8081)
    assert not allowed(policies, Peer("shop", {}, {"team": "other"}), server, 8080)
    assert allowed(policies, server, OUTSIDE, 7070)
    assert allowed(policies, server, OUTSIDE, 5353, "UDP")
    assert not allowed(policies, server, OUTSIDE, 80)
    assert not allowed(policies, server, OUTSIDE, 53, "UDP")
