"""The mounted volume end to end: real folders swapped as a kubelet does, a real watch, a reader on them."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from aigateway_config import watch
from aigateway_config.configuration import Configuration
from aigateway_config.errors import NotReady
from aigateway_config.reader import ConfigReader
from aigateway_config.volume import MountedVolume
from tests.eventually import eventually_async
from tests.unit.config.writer import Mount, Writer, keyed_backend, make_mount, make_writer, swap


@asynccontextmanager
async def reading(mount: Mount, poll_seconds: float = 60) -> AsyncIterator[ConfigReader]:
    """Read a mount; the poll is slow, so that the watch has to notice."""
    async with ConfigReader([MountedVolume(mount.config, mount.credentials, poll_seconds=poll_seconds)]) as reader:
        yield reader


def current(reader: ConfigReader) -> Configuration:
    """Return the configuration in force."""
    assert reader.current is not None
    return reader.current


def open_files() -> list[str]:
    """Return what the open descriptors of this process point to."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue
    return found


async def until_backend(reader: ConfigReader, name: str, within_seconds: float = 20) -> None:
    """Wait until `chat` is served by that backend."""

    async def serves() -> None:
        assert current(reader).models["chat"].current == name, reader.error

    await eventually_async(serves, within_seconds=within_seconds, every_seconds=0.005)


async def test_edits_are_followed_without_the_poll(tmp_path: Path) -> None:
    """Ten swaps of a kubelet, each seen by the watch."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount) as reader:
        await reader.wait_ready(20)
        for number in range(10):
            name = ("big", "small")[number % 2]
            writer.put("chat", current=name)
            swap(mount.config, writer.write().files)
            await until_backend(reader, name)
        assert reader.error is None
        assert reader.counters.reloads == 11


async def test_a_swap_before_the_watch_has_begun_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy node the thread that watches may begin long after the folders were read: what came between is read then."""
    writer, mount, begins = make_writer(), make_mount(tmp_path), threading.Event()

    def begin_late(*folders: Path, **options: Any) -> Any:
        begins.wait(10)
        return watchfiles.watch(*folders, **options)

    monkeypatch.setattr(watch, "watch", begin_late)
    mount.show(writer)
    async with reading(mount) as reader:
        await reader.wait_ready(20)
        await asyncio.sleep(0.1)  # until it waits for the watch, which is all it does now
        writer.put("chat", current="big")
        swap(mount.config, writer.write().files)
        begins.set()
        await until_backend(reader, "big")


async def test_a_swap_is_in_force_within_milliseconds(tmp_path: Path) -> None:
    """From the rename to the subscriber, median of thirty: 8 ms when idle; with watchfiles' own steps it would be over 50."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    told: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

    async def note(new: Configuration, old: Configuration | None) -> None:
        await told.put((new.models["chat"].current, time.monotonic()))

    taken = []
    async with reading(mount) as reader:
        reader.subscribe(note)
        await reader.wait_ready(20)
        await asyncio.wait_for(told.get(), 20)
        for number in range(30):
            writer.put("chat", current=("big", "small")[number % 2])
            writer.write()
            started = time.monotonic()
            swap(mount.config, writer.files)
            _, at = await asyncio.wait_for(told.get(), 20)
            taken.append(at - started)
    print(f"rename → subscriber: median {sorted(taken)[15] * 1000:.1f} ms, max {max(taken) * 1000:.1f} ms")
    assert sorted(taken)[15] < 0.045


async def test_a_rotated_secret_is_followed(tmp_path: Path) -> None:
    """Only the credentials folder is swapped."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount) as reader:
        await reader.wait_ready(20)
        writer.values["openai.api-key"] = "sk-two"
        writer.write()
        swap(mount.credentials, writer.credentials)

        async def rotated() -> None:
            key = current(reader).models["chat"].live.api_key
            assert key is not None
            assert key.get_secret_value() == "sk-two"

        await eventually_async(rotated, within_seconds=20, every_seconds=0.005)


async def test_documents_before_credentials_wait_for_them(tmp_path: Path) -> None:
    """The two volumes of a pod are not swapped together: nothing half comes into force in either order."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount) as reader:
        await reader.wait_ready(20)
        writer.put("chat", current="big", backends=[keyed_backend("fresh", "big")])
        writer.values["fresh.api-key"] = "sk-fresh"
        writer.write()
        swap(mount.config, writer.files)

        async def waits() -> None:
            assert "fresh.api-key" in str(reader.error)

        await eventually_async(waits, within_seconds=20)
        assert current(reader).models["chat"].current == "small"
        swap(mount.credentials, writer.credentials)
        await until_backend(reader, "big")
        assert reader.error is None


async def test_volumes_that_fill_up_later_are_seen(tmp_path: Path) -> None:
    """Optional ConfigMap and Secret: the pod starts with empty folders, says so, and becomes ready when they come."""
    writer, mount = make_writer(), make_mount(tmp_path)
    async with reading(mount) as reader:
        with pytest.raises(NotReady, match=r"config\.manifest\.json is not there"):
            await reader.wait_ready(0.3)
        mount.show(writer)
        await reader.wait_ready(20)


async def test_a_folder_that_is_made_later_is_seen(tmp_path: Path) -> None:
    """A program that is started by hand before its folder is there."""
    writer, mount = make_writer(), Mount(tmp_path / "later" / "config", tmp_path / "later" / "credentials")
    async with reading(mount) as reader:
        with pytest.raises(NotReady):
            await reader.wait_ready(0.2)
        mount.show(writer)
        await reader.wait_ready(20)
        writer.put("chat", current="big")
        swap(mount.config, writer.write().files)
        await until_backend(reader, "big")


async def test_a_folder_that_is_removed_and_made_anew_is_followed(tmp_path: Path) -> None:
    """The watch is on the folder that was: the poll notices another one. Models are served meanwhile."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount, poll_seconds=0.2) as reader:
        await reader.wait_ready(20)
        judged = asyncio.Event()
        reader.watch(judged.set)
        mount.config.rename(tmp_path / "gone")
        writer.put("chat", current="big")
        writer.write()
        await asyncio.wait_for(judged.wait(), 20)
        assert current(reader).models["chat"].current == "small"
        mount.show(writer)
        await until_backend(reader, "big")


async def test_a_plain_folder_works_and_a_half_written_file_is_waited_out(tmp_path: Path) -> None:
    """Without `..data` a file may be seen half written: its digest says so, and the rest makes it good."""
    writer, mount = make_writer(), make_mount(tmp_path)
    for folder, files in ((mount.config, writer.files), (mount.credentials, writer.credentials)):
        for name, content in files.items():
            (folder / name).write_bytes(content)
    async with reading(mount) as reader:
        await reader.wait_ready(20)
        writer.put("chat", current="big")
        writer.write()
        (mount.config / "config.manifest.json").write_bytes(writer.files["config.manifest.json"])
        (mount.config / "config.yml").write_bytes(writer.files["config.yml"][:100])

        async def torn() -> None:
            assert "DigestMismatch" in str(reader.error)

        await eventually_async(torn, within_seconds=20)
        assert current(reader).models["chat"].current == "small"
        (mount.config / "config.yml").write_bytes(writer.files["config.yml"])
        await until_backend(reader, "big")
        assert reader.error is None


async def test_a_plain_folder_is_read_again_although_it_looks_the_same(tmp_path: Path) -> None:
    """Half written and finished within one tick of the file system's clock: same name, size and time, other content."""
    writer, mount = make_writer(), make_mount(tmp_path)
    path = mount.config / "config.yml"
    for folder, files in ((mount.config, writer.files), (mount.credentials, writer.credentials)):
        for name, content in files.items():
            (folder / name).write_bytes(content)
    path.write_bytes(b" " * len(writer.files["config.yml"]))
    os.utime(path, (1, 1))
    async with reading(mount) as reader:

        async def torn() -> None:
            assert "DigestMismatch" in str(reader.error)

        await eventually_async(torn, within_seconds=20)
        path.write_bytes(writer.files["config.yml"])
        os.utime(path, (1, 1))
        await reader.wait_ready(20)


async def test_a_file_that_could_not_be_read_is_tried_again_without_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO, or no descriptor left for a moment: nothing in the folder moves when it is over."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    fail, opened = True, Path.open

    def flaky(path: Path, *args: Any, **kwargs: Any) -> Any:
        if fail and path.name == "config.yml":
            raise OSError(24, "Too many open files")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", flaky)
    async with reading(mount) as reader:
        with pytest.raises(NotReady, match="Too many open files"):
            await reader.wait_ready(0.5)
        fail = False
        await reader.wait_ready(20)


async def test_without_a_watch_the_poll_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No inotify left on the node: slower, and nothing else."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watch, "watch", fail)
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount, poll_seconds=0.1) as reader:
        await reader.wait_ready(20)
        writer.put("chat", current="big")
        swap(mount.config, writer.write().files)
        await until_backend(reader, "big")


async def test_swaps_without_a_pause_are_followed_to_the_last(tmp_path: Path) -> None:
    """A hundred swaps as fast as they go, folders removed under the reader: the last one is in force, no error stays."""
    writer, mount = make_writer("chat", "a", "b", shards=2), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount) as reader:
        await reader.wait_ready(20)

        def storm() -> None:
            for number in range(100):
                writer.put("chat", current=("small", "big")[number % 2])
                writer.put("a", current=("small", "big")[number % 2])
                swap(mount.config, writer.write().files)

        await asyncio.to_thread(storm)
        await until_backend(reader, "big")

        async def calm() -> None:
            assert current(reader).documents["models-01.yml"].revision == writer.revision
            assert reader.error is None

        await eventually_async(calm, within_seconds=20)
        assert "Missing" not in reader.counters.rejected


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Threads and inotify instances end with the reader."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)

    def inotify() -> int:
        return sum("inotify" in target for target in open_files())

    threads, handles = threading.active_count(), inotify()

    async def one_watches() -> None:  # the thread begins and ends a moment after the reader
        assert inotify() == handles + 1

    for _ in range(5):
        async with reading(mount) as reader:
            await reader.wait_ready(20)
            await eventually_async(one_watches, within_seconds=20)

    async def ended() -> None:
        assert (threading.active_count(), inotify()) == (threads, handles), threading.enumerate()

    await eventually_async(ended, within_seconds=20)


async def test_no_descriptor_is_held_on_folders_that_the_kubelet_removes(tmp_path: Path) -> None:
    """An open file in a removed folder would keep its blocks; after a reading none is open."""
    writer, mount = make_writer(), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount) as reader:
        await reader.wait_ready(20)
        assert [path for path in open_files() if path.startswith(str(tmp_path))] == []


async def test_what_the_status_says_is_what_is_in_force(tmp_path: Path) -> None:
    """Revision and digest per document, credentials by manifest, changed addresses that need a restart."""
    writer, mount = make_writer("a", shards=2), make_mount(tmp_path)
    mount.show(writer)
    async with reading(mount) as reader:
        assert reader.answer().lineage is None
        await reader.wait_ready(20)
        answer = json.loads(reader.answer().model_dump_json(by_alias=True))
        assert answer["error"] is None
        assert answer["restartRequired"] == []
        assert answer["documents"]["models-01.yml"] == {
            "revision": 1,
            "digest": json.loads(writer.files["models-01.manifest.json"])["sha256"],
        }
        assert answer["credentials"] == {"_manifest-00.json": 1, "_manifest-01.json": 1, "_manifest.json": 1}
        assert answer["credentialsRevision"] == 1
        writer.spec = {"app": {"port": 9000}}
        swap(mount.config, writer.write().files)

        async def told() -> None:
            assert reader.answer().restart_required == ["app.port"]

        await eventually_async(told, within_seconds=20)
        writer.spec = {}
        swap(mount.config, writer.write().files)

        async def taken_back() -> None:
            assert reader.answer().restart_required == []

        await eventually_async(taken_back, within_seconds=20)


def test_a_writer_of_tests_moves_revisions_with_content_only() -> None:
    """The tests' own operator: what is equal is not written again."""
    writer: Writer = make_writer("a", shards=2)
    before = dict(writer.files)
    writer.write()
    assert writer.files == before
    assert writer.revision == 1


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mistyped path looks like a ConfigMap that is late, unless the path is said; it is read when it appears."""
    writer, mount = make_writer(), make_mount(tmp_path)
    absent = Mount(tmp_path / "mistyped", mount.credentials)
    mount.show(writer)
    async with reading(absent, poll_seconds=0.05) as reader:
        with pytest.raises(NotReady):
            await reader.wait_ready(0.3)
        assert f"folder {absent.config} is not there" in caplog.text
        assert str(mount.credentials) not in caplog.text
        mount.config.rename(absent.config)
        await reader.wait_ready(20)
