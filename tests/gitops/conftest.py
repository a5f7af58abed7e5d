"""Fixtures of the GitOps tests: Argo CD's Lua, and the fixtures of tests/apiserver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apiserver.conftest import kubeconfig, start_operator, world
from tests.conftest import require_binaries
from tests.gitops.argolua import ArgoLua

__all__ = ["kubeconfig", "lua", "start_operator", "world"]


@pytest.fixture(scope="session")
def lua() -> Iterator[ArgoLua]:
    """Argo CD's interpreter."""
    with ArgoLua(require_binaries(["argolua"])["argolua"]) as started:
        yield started
