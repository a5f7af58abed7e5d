"""`aigateway apply` on the real API server: server-side apply that owns what files say, repeats nothing, and prunes its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from aigateway_operator.cli.exits import Exit
from tests.apiserver.world import World, gateway_config, virtual_model
from tests.cli_suite import Result, run_cli, write_manifests

pytestmark = pytest.mark.apiserver


def apply(world: World, file: Path, *more: str) -> Result:
    """Run the command as the release `gw` on the test's namespace."""
    connection = ("--kubeconfig", str(world.plane.kubeconfig), "-n", world.namespace)
    return run_cli("apply", str(file), "--as", "gw", "--timeout", "10s", *connection, *more)


def test_apply_repeats_nothing_takes_fields_back_and_prunes_its_own(world: World, tmp_path: Path) -> None:
    """A second apply is no write; an edit by hand of what the files say is undone; a model of somebody else stays."""
    file = tmp_path / "all.yaml"
    models = [virtual_model("chat"), virtual_model("draft")]
    write_manifests(file, *models, gateway_config())
    assert apply(world, file, "--prune").code == Exit.FINE
    world.create(virtual_model("foreign"))
    # The API server stores the default status with the first write after a create; with an operator that is its own.
    assert apply(world, file).code == Exit.FINE
    before = [world.get("VirtualModel", name)["metadata"]["resourceVersion"] for name in ("chat", "draft", "foreign")]
    assert apply(world, file, "--prune").code == Exit.FINE
    after = [world.get("VirtualModel", name)["metadata"]["resourceVersion"] for name in ("chat", "draft", "foreign")]
    assert after == before

    world.patch("VirtualModel", "chat", {"spec": {"use": False}})
    write_manifests(file, models[0], gateway_config())
    done = apply(world, file, "--prune")
    assert done.code == Exit.FINE, done
    assert world.get("VirtualModel", "chat")["spec"]["use"] is True
    assert [world.exists("VirtualModel", name) for name in ("draft", "foreign")] == [False, True]


def test_what_the_api_server_refuses_is_told_in_its_words(world: World, tmp_path: Path) -> None:
    """A key that pods were told of must not go, whoever takes it away."""
    file = tmp_path / "all.yaml"
    write_manifests(file, gateway_config(app={"host": "0.0.0.0", "port": 8000}))
    assert apply(world, file).code == Exit.FINE
    write_manifests(file, gateway_config(app={"host": "0.0.0.0"}))
    done = apply(world, file)
    assert done.code == Exit.REFUSED
    assert "GatewayConfig/main" in done.out
    assert "Cannot delete key 'port' from spec.app" in done.out
