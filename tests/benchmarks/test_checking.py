"""What decides whether a run counts, and what is counted as growth: without servers."""

from typing import Any

import orjson
import pytest

from aigateway_config.api_access import ApiAccess
from aigateway_config.api_objects import ConfigMap
from benchmarks.checker import NotCounted, verify
from benchmarks.life import level
from benchmarks.scene import config_map_writes
from benchmarks.seen import Seen
from hack.apiclient import Response
from tests.apiserver.world import gateway_config, virtual_model
from tests.reference_renderer import reference_config_maps


class Stored:
    """A control plane that answers with what it is given."""

    def __init__(self) -> None:
        gateway, model = gateway_config(), virtual_model("chat")
        for number, one in enumerate((gateway, model)):
            one["metadata"] |= {"namespace": "bench", "uid": f"{number}bcdef01-2345", "generation": 2}
            one["status"] = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}]}
        made = reference_config_maps(gateway, [model], revision=7)
        self.maps = [{"metadata": {"name": name}, "data": dict(data)} for name, data in made.items()]
        self.items: dict[str, list[dict[str, Any]]] = {
            "gatewayconfigs": [gateway], "virtualmodels": [model], "configmaps": self.maps,
        }  # fmt: skip

    def request(self, _method: str, path: str, **_: Any) -> Response:
        """Answer a LIST."""
        return Response(200, {"items": self.items[path.rsplit("/", 1)[1]]})


def test_complete_documents_and_true_statuses_count() -> None:
    """The bytes of all documents are returned, whatever revision they are at."""
    stored = Stored()
    expected = sum(len(text) for one in stored.maps for text in one["data"].values())
    assert verify(stored, "bench") == expected  # type: ignore[arg-type]  # it only asks


def _drop_a_model(stored: Stored) -> None:
    data = stored.maps[0]["data"]
    data["config.yml"] = data["config.yml"].replace("gpt-4o-mini", "gpt-4o")


def _forget_the_file(stored: Stored) -> None:
    del stored.maps[0]["data"]["config.yml"]


def _lie_in_status(stored: Stored) -> None:
    stored.items["virtualmodels"][0]["status"]["conditions"][0]["observedGeneration"] = 1


def _name_another_source(stored: Stored) -> None:
    data = stored.maps[0]["data"]
    data["config.manifest.json"] = data["config.manifest.json"].replace("chat/", "chit/")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_drop_a_model, "config.yml of ConfigMap main-config differs"),
        (_forget_the_file, "main-config has no config.yml"),
        (_lie_in_status, "chat is not Ready"),
        (_name_another_source, "config.manifest.json of ConfigMap main-config differs"),
    ],
)
def test_a_run_with_anything_wrong_does_not_count(spoil: Any, says: str) -> None:
    """A byte, a file, a status or a source that is not right makes the run worthless, and the reason is named."""
    stored = Stored()
    spoil(stored)
    with pytest.raises(NotCounted, match=says):
        verify(stored, "bench")  # type: ignore[arg-type]  # it only asks


def test_growth_is_from_the_second_quarter_to_the_last() -> None:
    """Warming up is no growth, one spike is none, a steady climb is."""
    warming = [(float(at), 80.0 if at < 10 else 95.0) for at in range(40)]
    assert level(warming) == 0
    assert level([(at, value + (100 if at == 39 else 0)) for at, value in warming]) == 0
    assert level([(float(at), 80.0 + at) for at in range(40)]) == 20
    assert level([(0.0, 1.0)]) == 0


def test_only_writes_of_config_maps_are_counted_as_such() -> None:
    """Reading them, and writing other kinds, is not."""
    counts = {"update configmaps": 3, "create configmaps": 2, "get configmaps": 9, "patch virtualmodels/status": 7}
    assert config_map_writes(counts) == 5  # type: ignore[arg-type]  # a Counter is a mapping


async def test_the_watch_tells_when_so_many_models_are_written_and_which_document_has_a_text() -> None:
    """Models of all documents are summed, and a text comes with its document's revision."""
    seen = Seen(ApiAccess("https://nowhere", "bench"))  # it is not run
    three, text = seen.expect_models(3), seen.expect('"edited"')
    for shard, (names, revision, body) in enumerate([({"a": "", "b": ""}, 4, "{}"), ({"c": ""}, 5, '{"edited"}')]):
        assert not three.done()
        manifest = orjson.dumps({"revision": revision, "sources": names})
        data = {f"models-{shard:02d}.yml": body.encode(), f"models-{shard:02d}.manifest.json": manifest}
        seen._take(ConfigMap(f"main-models-{shard:02d}", "1", data), float(shard))
    assert three.result() == 1.0
    assert (text.result().file, text.result().revision) == ("models-01.yml", 5)
