"""`aigateway check --live` says of an edit what the real API server says of it."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aigateway_operator.cli.cluster import Cluster
from aigateway_operator.cli.exits import Exit
from aigateway_operator.kube.client import KubeClient
from tests.apiserver.world import World, gateway_config, virtual_model
from tests.cli_suite import Result, run_cli, write_manifests

pytestmark = pytest.mark.apiserver


def check(world: World, file: str) -> Result:
    """Run the command on the test's namespace."""

    @asynccontextmanager
    async def connect(_args: argparse.Namespace) -> AsyncIterator[Cluster]:
        async with KubeClient.connect(world.plane.kubeconfig, None, user_agent="test", deadline_seconds=10) as client:
            yield client

    return run_cli("check", file, "--live", "-n", world.namespace, connect=connect)


def test_edit_is_judged_against_the_stored_object(world: World, tmp_path: Path) -> None:
    """A removed key is refused in the API server's own words, the stored fault is a warning, a new object is new."""
    world.create(gateway_config(app={"host": "0.0.0.0", "port": 8000}), virtual_model(baseUrl="http://127.0.0.1"))
    edited = [
        gateway_config(app={"host": "0.0.0.0"}),
        virtual_model(baseUrl="http://127.0.0.1", use=False),
        virtual_model("new"),
    ]
    checked = check(world, write_manifests(tmp_path / "new.yaml", *edited))
    assert checked.code == Exit.REFUSED, checked
    sent = {**world.get("GatewayConfig", "main"), "spec": edited[0]["spec"]}
    answer = world.plane.request("PUT", world.path("GatewayConfig", "main"), sent)
    (cause,) = answer.body["details"]["causes"]
    text = cause["message"].partition(": ")[2]
    assert f"{cause['field']}: {text}" in checked.out
    assert "warning: spec.baseUrl: " in checked.out
    assert "1 GatewayConfig, 2 VirtualModels checked: 1 error, 1 warning" in checked.out


def test_kinds_that_are_there_without_objects_are_no_error(world: World, tmp_path: Path) -> None:
    """Everything is new then."""
    assert check(world, write_manifests(tmp_path / "new.yaml", gateway_config())).code == Exit.FINE
