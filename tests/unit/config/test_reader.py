"""The reader itself: subscribers, faults of sources and services, paths, the whole tree, the flavour without a loop."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aigateway_config import MemoryReading, NotReady, SourceFault, open_volume
from aigateway_config.configuration import Configuration
from aigateway_config.reader import ConfigReader
from aigateway_config.source import Offer, Reading
from aigateway_operator.cli.conversion import REFUSED, Conversion
from tests.eventually import eventually, eventually_async
from tests.unit.config.writer import Writer, keyed_backend, make_mount, make_writer, swap

ROOT = Path(__file__).resolve().parents[3]


class Hand:
    """A source that offers what a test gives it."""

    def __init__(self, name: str = "volume") -> None:
        self.name = name
        self.ignored: Mapping[str, int] = {}
        self._given: asyncio.Queue[tuple[Reading, asyncio.Future[None]]] = asyncio.Queue()

    async def run(self, offer: Offer) -> None:
        while True:
            reading, done = await self._given.get()
            await offer(reading)
            done.set_result(None)

    async def give(self, reading: Reading) -> None:
        """Offer a reading and wait until it was judged."""
        done = asyncio.get_running_loop().create_future()
        await self._given.put((reading, done))
        await asyncio.wait_for(done, 20)


def test_importing_the_documents_loads_nothing_heavy() -> None:
    """The operator needs `documents` alone; neither watchfiles nor asyncio machinery comes with the package."""
    code = (
        "import sys; from aigateway_config import documents; "
        "print([name for name in ('watchfiles', 'yaml', 'redis', 'aiohttp', 'aigateway_config.reader') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT / "operator"
    )
    assert result.stdout.strip() == "[]"


def test_the_mounted_volume_needs_pydantic_and_watchfiles_only() -> None:
    """A pod that reads its volume imports no driver and no YAML parser."""
    code = (
        "import sys; from aigateway_config import ConfigReader, MountedVolume, open_volume; "
        "ConfigReader([MountedVolume('/x')]); drivers = 'yaml redis aiohttp prometheus_client orjson kubernetes kopf'; "
        "print([name for name in drivers.split() if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT / "operator"
    )
    assert result.stdout.strip() == "[]"


def test_every_public_name_can_be_imported() -> None:
    """`__all__` is true, and an unknown name is an AttributeError as anywhere."""
    import aigateway_config

    assert all(getattr(aigateway_config, name) is not None for name in aigateway_config.__all__)
    with pytest.raises(AttributeError):
        _ = aigateway_config.nothing_of_that_name


# -- subscribers


async def test_a_subscriber_is_told_of_what_is_there_and_of_every_change() -> None:
    """At once with (current, None), then (new, old)."""
    writer, hand = make_writer(), Hand()
    told: list[tuple[Configuration, Configuration | None]] = []

    async def note(new: Configuration, old: Configuration | None) -> None:
        told.append((new, old))

    async with ConfigReader([hand]) as reader:
        await hand.give(writer.reading())
        end = reader.subscribe(note)
        writer.put("chat", current="big")

        async def count(number: int) -> None:
            assert len(told) == number

        await eventually_async(lambda: count(1), within_seconds=20)
        await hand.give(writer.write().reading())
        await eventually_async(lambda: count(2), within_seconds=20)
        assert told[0][1] is None
        assert told[1][1] is told[0][0]
        assert told[1][0] is reader.current
        end()
        writer.put("chat", current="small")
        await hand.give(writer.write().reading())
    assert len(told) == 2


async def test_a_subscriber_that_raises_or_hangs_stops_nobody() -> None:
    """Plain and coroutine functions, raising, hanging and blocking: the others and the reader go on."""
    writer, hand = make_writer(), Hand()
    heard: list[str] = []
    release = threading.Event()

    def raises(new: Configuration, old: Configuration | None) -> None:
        raise RuntimeError("mine")

    async def raises_later(new: Configuration, old: Configuration | None) -> None:
        raise RuntimeError("mine too")

    async def hangs(new: Configuration, old: Configuration | None) -> None:
        await asyncio.Event().wait()

    def blocks(new: Configuration, old: Configuration | None) -> None:
        release.wait(20)

    def hears(new: Configuration, old: Configuration | None) -> None:
        heard.append(new.models["chat"].current)

    async with ConfigReader([hand]) as reader:
        for callback in (raises, raises_later, hangs, blocks, hears):
            reader.subscribe(callback)
        for current in ("small", "big", "small"):
            writer.put("chat", current=current)
            await hand.give(writer.write().reading())

            async def told(current: str = current) -> None:
                assert heard[-1:] == [current]

            await eventually_async(told, within_seconds=20)
    release.set()


@pytest.mark.parametrize("plain", [True, False])
async def test_a_subscriber_that_raised_is_told_of_the_next(plain: bool) -> None:
    """One bad moment of a callback does not end its subscription."""
    writer, hand = make_writer(), Hand()
    heard: list[str] = []

    def raises(new: Configuration, old: Configuration | None) -> None:
        heard.append(new.models["chat"].current)
        raise RuntimeError("mine")

    async def raises_in_the_loop(new: Configuration, old: Configuration | None) -> None:
        raises(new, old)

    async with ConfigReader([hand]) as reader:
        reader.subscribe(raises if plain else raises_in_the_loop)
        for current in ("small", "big"):
            writer.put("chat", current=current)
            await hand.give(writer.write().reading())

            async def told(current: str = current) -> None:
                assert heard[-1:] == [current]

            await eventually_async(told, within_seconds=20)


async def test_a_slow_subscriber_skips_to_the_newest() -> None:
    """While it is busy three configurations come: it is told of the last, with the one that it knew."""
    writer, hand = make_writer(), Hand()
    told: list[tuple[int, int | None]] = []
    go_on = asyncio.Event()

    async def slow(new: Configuration, old: Configuration | None) -> None:
        told.append((new.revision, None if old is None else old.revision))
        await go_on.wait()

    async with ConfigReader([hand]) as reader:
        reader.subscribe(slow)
        for current in ("small", "big", "small", "big"):
            writer.put("chat", current=current)
            await hand.give(writer.write().reading())

            async def first() -> None:
                assert told

            await eventually_async(first, within_seconds=20)
        go_on.set()

        async def both() -> None:
            assert told == [(1, None), (4, 1)]

        await eventually_async(both, within_seconds=20)


async def test_a_source_that_fails_is_started_again_and_stops_no_other() -> None:
    """One raises at once, again and again; the volume serves meanwhile."""

    class Failing(Hand):
        runs = 0

        async def run(self, offer: Offer) -> None:
            self.runs += 1
            raise SourceFault("no connection")

    failing, hand = Failing("redis"), Hand()
    async with ConfigReader([failing, hand]) as reader:
        await hand.give(make_writer().reading())
        assert reader.current is not None

        async def again() -> None:
            assert failing.runs >= 2

        await eventually_async(again, within_seconds=20)


async def test_followers_know_a_configuration_before_subscribers_do() -> None:
    """A source that needs what is in force hears of it first, and its failing is its own."""
    order: list[str] = []

    class Following(Hand):
        def follow(self, configuration: Configuration) -> None:
            order.append("follower")
            raise RuntimeError("mine")

    async def note(new: Configuration, old: Configuration | None) -> None:
        order.append("subscriber")

    hand = Following()
    async with ConfigReader([hand]) as reader:
        reader.subscribe(note)
        await hand.give(make_writer().reading())

        async def both() -> None:
            assert order == ["follower", "subscriber"]

        await eventually_async(both, within_seconds=20)


async def test_counters_tell_reloads_and_what_was_refused() -> None:
    """Rejected by reason, what sources ignored by source and reason, and the time of the last success."""
    writer, hand = make_writer(), Hand()
    hand.ignored = {"Unsigned": 3}
    async with ConfigReader([hand]) as reader:
        await hand.give(writer.reading())
        first = reader.counters.last_success
        assert first is not None
        torn = MemoryReading(writer.changed_manifest(revision=2, sha256="0" * 64), MemoryReading(writer.credentials))
        await hand.give(torn)
        await hand.give(torn)
        counters = reader.counters
    assert (counters.reloads, counters.rejected, counters.ignored) == (1, {"DigestMismatch": 2}, {"volume:Unsigned": 3})
    assert counters.last_success == first
    assert "config.yml: DigestMismatch" in str(reader.error)


async def test_parsing_a_large_document_does_not_block_the_loop() -> None:
    """A whole ConfigMap of models is read while the loop goes on ticking: on the loop there would be no tick meanwhile."""
    writer, hand = Writer(), Hand()
    for number in range(2500):
        writer.put(f"model-{number:04d}")
    reading = writer.write().reading()
    assert len(writer.files["config.yml"]) > 700_000
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async with ConfigReader([hand]) as reader:
        ticking = asyncio.create_task(tick())
        await hand.give(reading)
        ticking.cancel()
        assert reader.current is not None
        assert len(reader.current.models) == 2500
    assert ticks >= 5


@dataclass(frozen=True)
class Noted(MemoryReading):
    """A reading that notes which threads read documents from it."""

    threads: set[str] = field(default_factory=set)

    def read(self, name: str) -> bytes | None:
        """Return a file."""
        if name.endswith(".yml"):
            self.threads.add(threading.current_thread().name)
        return super().read(name)


@pytest.mark.parametrize(("count", "place"), [(150, "MainThread"), (500, "aigateway-config_0")])
async def test_only_what_is_quick_to_judge_is_judged_on_the_loop(count: int, place: str) -> None:
    """A fast source's shard of the usual size waits for no other thread; a document that would hold the loop up goes to one."""
    writer, volume, api = Writer(), Hand(), Hand("api")
    for number in range(count):
        writer.put(f"model-{number:04d}")
    async with ConfigReader([volume, api]) as reader:
        await volume.give(MemoryReading({}, MemoryReading(writer.write().credentials)))
        reading = Noted(writer.files)
        await api.give(reading)
        assert reader.current is not None, reader.error
        assert reader.current.models.keys() == writer.models.keys()
    assert reading.threads == {place}


class OnDisk:
    """A reading that is not in memory: what it brings may take as long as a disk does."""

    def __init__(self, noted: Noted) -> None:
        self._noted = noted
        self.names, self.read, self.credentials = noted.names, noted.read, None


@pytest.mark.parametrize("place", ["disk", "memory, with credentials"])
async def test_what_comes_from_files_holds_no_loop_up_however_small_it_is(place: str) -> None:
    """A disk that hangs would stop every request; credentials in memory are what a volume's are in tests."""
    writer, volume, api = make_writer(), Hand(), Hand("api")
    async with ConfigReader([volume, api]) as reader:
        credentials = MemoryReading(writer.credentials)
        if place == "disk":
            await volume.give(MemoryReading({}, credentials))
            await api.give(OnDisk(noted := Noted(writer.files)))
        else:
            await volume.give(noted := Noted(writer.files, credentials))
        assert reader.current is not None, reader.error
    assert noted.threads == {"aigateway-config_0"}


# -- what a configuration answers


async def configuration_of(writer: Writer) -> Configuration:
    """Return the configuration that a reader makes of it."""
    hand = Hand()
    async with ConfigReader([hand]) as reader:
        await hand.give(writer.reading())
        assert reader.current is not None, reader.error
        return reader.current


def full_writer() -> Writer:
    """Return a writer with every section and a model whose name holds dots."""
    values = {"db.password": "mongo-pw", "db.ca": "PEM", "qd.key": "qd-key", "search.key": "s-key"}
    writer = Writer(values={"chat-keys.proxy": "caller-key", "openai.api-key": "sk-one", **values})
    ref = {"name": "db", "key": "password"}
    writer.spec = {
        "storage": {
            "mongodb": {
                "host": "mongo",
                "username": "gateway",
                "passwordSecretRef": ref,
                "tls": {"enabled": True, "caSecretRef": {"name": "db", "key": "ca"}},
            },
            "redis": {"host": "redis"},
            "qdrant": {"host": "qdrant", "apiKeySecretRef": {"name": "qd", "key": "key"}},
        },
        "webSearch": {
            "provider": "searxng",
            "baseUrl": "http://searxng:8080",
            "options": {"some_ref": "kept", "deep": {"a": [1, 2]}},
            "apiKeySecretRef": {"name": "search", "key": "key"},
        },
    }
    writer.put("org/Chat_v2.1", backends=[keyed_backend("openai", parameters={"temperature": 0.2, "stop": ["a"]})])
    writer.put("org/Chat_v2", use=False)
    return writer.write()


PATHS: list[tuple[str | list[str], Any]] = [
    ("app.port", 8000),
    ("storage.mongodb.tls.enabled", True),
    ("storage.redis.password_ref", None),
    ("ai-gateway.virtual_models.org/Chat_v2.1.current", "small"),
    ("ai-gateway.virtual_models.org/Chat_v2.use", False),
    ("ai-gateway.virtual_models.org/Chat_v2.1.small.parameters.temperature", 0.2),
    (["ai-gateway", "virtual_models", "org/Chat_v2.1", "small", "model"], "gpt-4o-mini"),
    (["ai-gateway", "virtual_models", "org/Chat_v2", "1"], "nowhere"),
    ("web_search.options.deep.a", [1, 2]),
    ("app.port.more", "nowhere"),
    ("", "nowhere"),
    ("app.", "nowhere"),
    ("nothing", "nowhere"),
    ([], "whole"),
]


@pytest.mark.parametrize(("path", "value"), PATHS)
async def test_paths_lead_to_values(path: str | list[str], value: Any) -> None:
    """Dotted paths, names that hold dots, sequences of keys, null as a value, and the default for what leads nowhere."""
    configuration = await configuration_of(full_writer())
    found = configuration.get(path, "nowhere")
    assert found == (configuration.as_dict() if value == "whole" else value)


async def test_of_two_ways_the_longest_name_wins() -> None:
    """Model `a.b` and backend `b` of model `a`: the path names the model; a sequence of keys names the backend."""
    writer = Writer()
    writer.put("a", current="b", backends=[keyed_backend("openai", "b")])
    writer.put("a.b")
    configuration = await configuration_of(writer.write())
    entry = configuration.get("ai-gateway.virtual_models.a.b")
    backend = configuration.get(["ai-gateway", "virtual_models", "a", "b"])
    assert isinstance(entry, dict)
    assert isinstance(backend, dict)
    assert entry["current"] == "small"
    assert backend["model"] == "gpt-4o-mini"
    assert configuration.get("ai-gateway.virtual_models.a.b.model") == "gpt-4o-mini"


async def test_what_is_handed_out_is_a_copy() -> None:
    """Whoever changes an answer changes nothing that others see."""
    configuration = await configuration_of(full_writer())
    before = copy.deepcopy(configuration.as_dict())
    for tree in (configuration.as_dict(), configuration.resolved()):
        tree["app"]["port"] = 1  # type: ignore[index,call-overload]  # JSON of unknown shape
        tree["web_search"]["options"]["deep"]["a"].append(3)  # type: ignore[index,call-overload,union-attr]
        tree["ai-gateway"]["virtual_models"].clear()  # type: ignore[index,call-overload,union-attr]
    found = configuration.get("web_search.options")
    assert isinstance(found, dict)
    found.clear()
    assert configuration.as_dict() == before
    with pytest.raises(TypeError):
        configuration.models["org/Chat_v2"].backends["x"] = None  # type: ignore[index]
    with pytest.raises(AttributeError):
        configuration.app = None  # type: ignore[misc,assignment]


async def test_the_tree_is_what_the_documents_say() -> None:
    """`as_dict` gives back the rendered config.yml, key by key."""
    writer = full_writer()
    assert (await configuration_of(writer)).as_dict() == json.loads(writer.files["config.yml"])


async def test_resolved_puts_secrets_in_place() -> None:
    """As a program expects that reads one plain file: no *_ref left, parameters beside the backend's own keys."""
    resolved: Any = (await configuration_of(full_writer())).resolved()
    model = resolved["ai-gateway"]["virtual_models"]["org/Chat_v2.1"]
    assert model["proxy_key"] == "caller-key"
    assert model["small"] == {
        "model": "gpt-4o-mini",
        "base_url": "https://api.example.com/v1",
        "api_key": "sk-one",
        "temperature": 0.2,
        "stop": ["a"],
    }
    assert resolved["storage"]["mongodb"]["password"] == "mongo-pw"
    assert resolved["storage"]["mongodb"]["tls"] == {"enabled": True, "ca": "PEM"}
    assert "password" not in resolved["storage"]["redis"]
    assert resolved["storage"]["qdrant"]["api_key"] == "qd-key"
    assert resolved["web_search"]["api_key"] == "s-key"
    assert resolved["web_search"]["options"]["some_ref"] == "kept"
    assert "_ref" not in json.dumps({**resolved, "web_search": None})


async def test_what_is_resolved_can_be_imported() -> None:
    """`aigateway import` takes the resolved tree back without refusing anything."""
    resolved = (await configuration_of(full_writer())).resolved()
    conversion = Conversion("main", None)
    del resolved["storage"]["mongodb"]["tls"]  # type: ignore[union-attr,call-overload,arg-type,index]  # import takes no CA as text
    conversion.convert(resolved)
    assert [remark for remark in conversion.remarks if remark.what == REFUSED] == []


async def test_no_repr_shows_a_secret() -> None:
    """Logs and tracebacks print objects."""
    configuration = await configuration_of(full_writer())
    texts = [repr(configuration), str(configuration), *(repr(model) for model in configuration.models.values())]
    texts += [
        repr(configuration.models["org/Chat_v2.1"].live),
        repr(configuration.secrets),
        repr(configuration.secret("db.password")),
    ]
    for value in ("caller-key", "sk-one", "mongo-pw", "qd-key", "s-key"):
        assert value not in " ".join(texts)


# -- without an event loop


def test_a_program_without_a_loop_follows_the_volume(tmp_path: Path) -> None:
    """`with open_volume(…)`: ready on entering, follows edits, tells subscribers, ends its thread."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    before = set(threading.enumerate())
    told: list[str] = []
    with open_volume(mount.config, mount.credentials, timeout_seconds=5) as reader:
        assert reader.current is not None
        reader.subscribe(lambda new, old: told.append(new.models["chat"].current))
        writer.put("chat", current="big")
        swap(mount.config, writer.write().files)

        def follows() -> None:
            assert told[-1:] == ["big"]

        eventually(follows, within_seconds=20)
        assert reader.error is None
        assert reader.answer().documents["config.yml"].revision == 2

    def ended() -> None:
        assert set(threading.enumerate()) <= before

    eventually(ended, within_seconds=20)
    assert reader.current is not None
    assert reader.current.models["chat"].current == "big"


def test_a_program_without_a_loop_is_told_why_there_is_nothing(tmp_path: Path) -> None:
    """NotReady says what is missing, and no thread stays behind."""
    before = set(threading.enumerate())
    with pytest.raises(NotReady, match="mount ConfigMap"):
        open_volume(tmp_path, timeout_seconds=0.2).__enter__()

    def ended() -> None:
        assert set(threading.enumerate()) <= before

    eventually(ended, within_seconds=20)


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    """The first Python block of the library's README, on a mounted volume."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    text = (ROOT / "operator" / "aigateway_config" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 12
    for path, folder in (("/etc/aigateway/config", mount.config), ("/etc/aigateway/credentials", mount.credentials)):
        assert path in code
        code = code.replace(path, str(folder))
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT / "operator"
    )
    assert result.returncode == 0, result.stderr
    assert "chat" in result.stdout
