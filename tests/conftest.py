"""Fixtures that every folder of tests may ask for: a real control plane, datastores, a namespace of one's own.

Everything is started when the first test asks for it, once a process (so once an xdist worker), on free ports, and ended
with it. Where binaries are missing the tests are skipped loudly, or fail when `CI` is set.
"""

from __future__ import annotations

import logging
import os
import secrets
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from hack.binaries import MissingBinaries, locate
from hack.controlplane import NEEDED, ControlPlane
from hack.node import Cluster
from hack.node.cluster import NEEDS
from hack.stores import MongoServer, RedisServer
from tests import rights
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parent.parent

# In a fresh clone the first property test builds Hypothesis' tables of Unicode, which takes two seconds on a slow machine and
# is no fault of the test's; nor is an example that takes longer than 200 ms there.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def require_binaries(names: Sequence[str]) -> dict[str, Path]:
    """Paths of the named binaries; skips the test when some are missing, or fails it in CI. Downloads nothing."""
    try:
        return locate(names)
    except MissingBinaries as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}", pytrace=False)
        pytest.skip(f"real servers are missing: run `python -m hack binaries`.\n{error}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first: the other workers would wait for one that begins last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def _contexts_as_strict_as_any() -> Iterator[None]:
    """Refusing what Python 3.13 refuses, that of the image, and what older ones do: see `aigateway_config.tls`."""
    make = ssl.create_default_context

    def strict(*arguments: Any, **named: Any) -> ssl.SSLContext:
        context = make(*arguments, **named)
        context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_STRICT) & ~ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", strict)
        yield


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """What a test does to the root logger ends with it: a level that stays would swallow what the next one waits for."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane with the project's CRDs; shared by the tests of this process, so keep to your `namespace`."""
    binaries = require_binaries(NEEDED)
    crds = [ROOT / "crds"] if any((ROOT / "crds").glob("*.yaml")) else []
    with ControlPlane.start(binaries=binaries, crds=crds) as started:
        yield started
        rights.record(started.audit_log)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A control plane with a stand-in node, without our CRDs; shared by the tests of this process."""
    with Cluster.start(binaries=require_binaries(NEEDS)) as started:
        yield started
        rights.record(started.plane.audit_log)


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    """The name of a new namespace whose default ServiceAccount is there; deleted afterwards, without waiting."""
    name = f"test-{secrets.token_hex(4)}"
    made = plane.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert made.status == 201, made.body

    def has_default_service_account() -> None:
        answer = plane.request("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default")
        assert answer.status == 200, answer.body

    eventually(has_default_service_account, within_seconds=30)  # the controller manager may be coming back
    yield name
    plane.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis without password. A test that stops it restarts it."""
    with RedisServer.start(binary=require_binaries(["redis-server"])["redis-server"]) as started:
        yield started


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[MongoServer]:
    """A MongoDB wire server. A test that stops it restarts it."""
    with MongoServer.start(binary=require_binaries(["mongowire"])["mongowire"]) as started:
        yield started
