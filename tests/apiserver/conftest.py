"""Fixtures of the tests on the real API server: a namespace as a world, and operators that work in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aigateway_operator.settings import Settings
from hack.controlplane import ControlPlane
from tests.apiserver.world import World
from tests.delivery import Fleet, Record, fleet, record
from tests.operators import InProcess, operator_kubeconfig

StartOperator = Callable[..., InProcess]


@pytest.fixture(scope="session")
def kubeconfig(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with the operator's own token; RBAC is that of hack/manifests/operator.yaml."""
    return operator_kubeconfig(plane, tmp_path_factory.mktemp("kubeconfig"))


@pytest.fixture
def world(plane: ControlPlane, namespace: str) -> World:
    """A fresh namespace."""
    return World(plane, namespace)


@pytest.fixture
def start_operator(kubeconfig: Path, namespace: str) -> Iterator[StartOperator]:
    """Starts operators that work in the test's namespace; all are stopped after the test, cleanly or the test fails."""
    started: list[InProcess] = []

    def start(**settings: Any) -> InProcess:
        chosen = {"namespaces": (namespace,), "lease_namespace": "aigateway-system", "lease_name": namespace, **settings}
        chosen = {"kubeconfig": kubeconfig, "health_host": "127.0.0.1", "health_port": 0, **chosen}
        operator = InProcess(Settings(**chosen)).start()
        started.append(operator)
        return operator

    yield start
    for operator in started:
        operator.stop()


@pytest.fixture
def operator(start_operator: StartOperator) -> InProcess:
    """A running operator for the test's namespace."""
    return start_operator()


@pytest.fixture
def pods(world: World, tmp_path: Path) -> Iterator[Fleet]:
    """Pods on a quick kubelet."""
    with fleet(world, tmp_path / "pods") as made:
        yield made


@pytest.fixture
def told(world: World) -> Iterator[Record]:
    """Every status that is written during the test."""
    with record(world) as made:
        yield made
