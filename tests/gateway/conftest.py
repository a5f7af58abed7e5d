"""Fixtures of the gateway's tests: a stub upstream and a gateway in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.programs import Volume
from tests.gateway_runs import RunningGateway, make_backend, make_configuration, make_model
from tests.stub_upstream import StubUpstream


@pytest.fixture(scope="module")
def shared_stub() -> Iterator[StubUpstream]:
    """One stub a module."""
    with StubUpstream() as stub:
        yield stub


@pytest.fixture
def stub(shared_stub: StubUpstream) -> StubUpstream:
    """A stub that behaves and has not been asked anything yet."""
    shared_stub.forget()
    return shared_stub


@pytest.fixture
def volume(tmp_path: Path, stub: StubUpstream) -> Volume:
    """A volume in `tmp_path` whose live backend is `a`, the stub's `up-a`."""
    made = Volume(tmp_path, stub.base_url)
    made.write("a")
    return made


@pytest.fixture(scope="module")
def shared_gateway(shared_stub: StubUpstream) -> Iterator[RunningGateway]:
    """One gateway a module, with a model of every kind."""
    url = shared_stub.base_url
    small = make_backend(url, parameters={"temperature": 0.2, "stop": ["END"]})
    big = make_backend(url, name="big", model="up-big", api_key_ref=None, api_key=None)
    configuration = make_configuration(
        make_model("chat", small, big),
        make_model("org/Keyless_v2.1", big, key="key-keyless"),
        make_model("off", small, key="key-chat", use=False),
        make_model("no-proxy-key", small, key=None),
        make_model("no-backend-key", make_backend(url, api_key=None), key="key-chat"),
    )
    with RunningGateway(configuration, max_request_bytes=100_000) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway: RunningGateway) -> RunningGateway:
    """The module's gateway."""
    return shared_gateway
