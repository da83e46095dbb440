"""The platform's manifests: complete, restricted, and rendered again only when an input changes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from solera_cluster import network, platform_components, platform_render, versions
from solera_cluster.errors import ClusterError
from solera_cluster.platform_render import Rendering


def documents(component: str) -> list[dict[str, Any]]:
    files = sorted((platform_render.FOLDER / component).rglob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]


def deployments() -> list[Any]:
    return [
        pytest.param(document, id=document["metadata"]["name"])
        for component in ("coredns", "object-store")
        for document in documents(component)
        if document.get("kind") == "Deployment"
    ]


@pytest.mark.parametrize("deployment", deployments())
def test_our_own_pods_meet_the_restricted_standard(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        assert set(context["capabilities"].get("add", [])) <= {"NET_BIND_SERVICE"}
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])


@pytest.mark.parametrize("component", platform_components.COMPONENTS, ids=lambda component: component.name)
def test_every_image_named_is_built_for_the_component(component: platform_components.Component) -> None:
    text = "\n".join(path.read_text() for path in (platform_render.FOLDER / component.name).rglob("*.yaml"))
    named = {found["name"] for found in platform_render._IMAGE.finditer(text)}
    assert named <= set(component.images)


def test_the_dns_service_has_the_address_that_kubelets_give_to_pods() -> None:
    [service] = [document for document in documents("coredns") if document["kind"] == "Service"]
    assert service["spec"]["clusterIP"] == network.DNS_ADDRESS


def test_images_and_values_are_filled_in() -> None:
    text = 'a:\n  image: solera-envoy\n  image: "solera-envoy"\n- image: other\n  path: ${WHERE}\n'
    completed = platform_render.complete(text, {"envoy": "localhost/solera-envoy:1"}, {"WHERE": "/x"})
    reference = "image: localhost/solera-envoy:1"
    assert completed == f"a:\n  {reference}\n  {reference}\n- image: other\n  path: /x\n"


def test_without_values_dollar_signs_are_the_manifests_own() -> None:
    assert platform_render.complete("x: ${PATH}\n", {}, {}) == "x: ${PATH}\n"


def test_an_image_or_value_that_is_not_given_is_named() -> None:
    with pytest.raises(ClusterError, match="solera-envoy, which is not among"):
        platform_render.complete("image: solera-envoy\n", {}, {})
    with pytest.raises(ClusterError, match="WHERE"):
        platform_render.complete("path: ${WHERE}\n", {}, {"ELSE": "x"})


def rendering(**changes: Any) -> Rendering:
    [component] = platform_components.select(["coredns"])
    defaults: dict[str, Any] = {
        "component": component,
        "variant": "",
        "images": {"coredns": "a:1"},
        "values": {},
    }
    return Rendering(**(defaults | changes))


def test_the_key_follows_every_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_render, "FOLDER", tmp_path)
    file = tmp_path / "coredns" / "a.yaml"
    file.parent.mkdir()
    file.write_text("a: 1\n")
    wanted = versions.load()
    first = rendering().key(wanted)
    assert rendering().key(wanted) == first
    keys = {
        first,
        rendering(images={"coredns": "a:2"}).key(wanted),
        rendering(variant="kind").key(wanted),
        rendering(values={"A": "1"}).key(wanted),
    }
    file.write_text("a: 2\n")
    keys.add(rendering().key(wanted))
    assert len(keys) == 5


def test_an_unknown_component_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="no component dns; write one of: coredns, metrics-server"):
        platform_components.select(["dns"])


def test_components_come_in_installing_order() -> None:
    names = [component.name for component in platform_components.select(["gateway", "envoy-gateway"])]
    assert names == ["envoy-gateway", "gateway"]
