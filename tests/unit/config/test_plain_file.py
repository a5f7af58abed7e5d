"""A plain `config.yml` without manifest: what it becomes, that it is followed, and that rubbish costs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_config import ConfigReader, NotReady, PlainFile
from aigateway_config.plain import as_documents
from aigateway_operator.api.gatewayconfig import GatewayConfigSpec
from aigateway_operator.render.files import render_config
from aigateway_operator.render.settings import render_settings
from tests.eventually import eventually_async

PLAIN = Path(__file__).resolve().parents[2] / "data" / "config.yml"


async def test_a_plain_file_is_read_with_its_secrets() -> None:
    """The repository's own example: models, keys, passwords, parameters beside a backend's keys."""
    async with ConfigReader([PlainFile(PLAIN)]) as reader:
        configuration = await reader.wait_ready(20)
    plain = yaml.safe_load(PLAIN.read_text())
    assert set(configuration.models) == set(plain["ai-gateway"]["virtual_models"])
    resolved: Any = configuration.resolved()
    for name, entry in plain["ai-gateway"]["virtual_models"].items():
        assert resolved["ai-gateway"]["virtual_models"][name] == entry
    assert resolved["storage"]["mongodb"]["password"] == plain["storage"]["mongodb"]["password"]
    assert resolved["app"] == plain["app"]


async def test_a_plain_file_is_followed_and_rubbish_keeps_the_last_good(tmp_path: Path) -> None:
    """Saved by an editor, half saved, deleted, saved again. Each is told by what is wrong with it: a save may be read twice,
    first while the file is still empty, so that what is judged next need not be what was saved last.
    """
    path = tmp_path / "config.yml"
    path.write_text("ai-gateway: {virtual_models: {}}\napp: {port: 1}\n")
    saves = [
        ("app: {port: 2}", 2, "None"),
        ("", 2, "is no mapping of "),
        ("app: {port: [", 2, "line 1: "),
        ("app: 7", 2, "is no mapping of "),
        ("app: {port: 3}", 3, "None"),
    ]
    async with ConfigReader([PlainFile(path, poll_seconds=0.2)]) as reader:
        await reader.wait_ready(20)
        for content, port, fault in saves:
            path.write_text(content)

            async def serves(port: int = port, fault: str = fault) -> None:
                assert reader.current is not None
                assert (reader.current.app.port, fault in str(reader.error)) == (port, True), reader.error

            await eventually_async(serves, within_seconds=20)
        path.unlink()

        async def says_so() -> None:
            assert "config.yml" in str(reader.error)

        await eventually_async(says_so, within_seconds=20)
        assert reader.current is not None
        assert reader.current.app.port == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "mine.yml: No such file or directory"),
        ("app: {port: [hunter2\n", "mine.yml, line 2: expected ',' or ']'"),
        ("- hunter2", "mine.yml is no mapping of app, storage, web_search, ai-gateway and log"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_with_the_reason_alone(
    tmp_path: Path, content: str | None, words: str
) -> None:
    """No traceback, no wait for ever, no talk of ConfigMaps, and nothing of what the file holds."""
    if content is not None:
        (tmp_path / "mine.yml").write_text(content)
    async with ConfigReader([PlainFile(tmp_path / "mine.yml")]) as reader:
        with pytest.raises(NotReady) as refused:
            await reader.wait_ready(0.3)
    assert words in str(refused.value)
    assert "ConfigMap" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_defaults_are_those_of_the_resource() -> None:
    """What an empty file becomes is what the operator renders of an empty GatewayConfig: two places, one meaning."""
    rendered = json.loads(render_config(render_settings(GatewayConfigSpec()), []).content)
    assert as_documents({}, {}) == rendered
    stores: Any = {"mongodb": {"host": "m"}, "redis": {"host": "r"}, "qdrant": {"host": "q"}}
    spec = GatewayConfigSpec.model_validate({"storage": stores})
    assert (
        as_documents({"storage": stores}, {})["storage"]
        == json.loads(render_config(render_settings(spec), []).content)["storage"]
    )
