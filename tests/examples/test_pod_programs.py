"""Both programs of examples/02-pods keep every rule of a reader, on volumes that are swapped as a kubelet swaps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from hack.kubelet import loopback_address
from hack.process import ServerProcess
from tests.eventually import eventually
from tests.examples.pod_programs import KEYS, LANGUAGES, PORT, RunningProgram, Volumes, command_of, get

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    """Empty folders, as a pod has them whose gateway is not there yet."""
    made = Volumes(tmp_path / "volumes")
    made.swap()
    return made


@pytest.fixture(params=LANGUAGES)
def program(request: pytest.FixtureRequest, volumes: Volumes, tmp_path: Path) -> Iterator[RunningProgram]:
    """A running program of each language, which answers on its status port."""
    command, ip = command_of(request.param), loopback_address()
    environment = {
        "PYTHONPATH": str(ROOT / "operator"),
        "AIGATEWAY_CONFIG_DIR": str(volumes.root / "config"),
        "AIGATEWAY_CREDENTIALS_DIR": str(volumes.root / "credentials"),
        "AIGATEWAY_WORKERS_DIR": str(tmp_path / "workers"),
        "AIGATEWAY_STATUS_HOST": ip,
        "LISTEN_HOST": ip,
    }
    process = ServerProcess(f"{request.param} program", tmp_path / "program.log", environment=environment)
    process.start(command)
    running = RunningProgram(process, ip)
    try:
        eventually(running.answer, within_seconds=30)
        yield running
        text = (tmp_path / "program.log").read_text()
        assert not any(value in text for value in KEYS.values()), "a program must not print what it has read as a secret"
    finally:
        process.terminate()


def runs(program: RunningProgram, expected: Mapping[str, int]) -> None:
    """Wait until the program runs exactly these documents, by file name, in these revisions."""

    def check() -> None:
        answer = program.answer()
        assert {file: one.revision for file, one in answer.documents.items()} == expected, answer

    eventually(check, within_seconds=20)


def loaded(program: RunningProgram, revision: int) -> None:
    """Wait until the program has loaded the credentials of this revision."""

    def check() -> None:
        assert program.answer().credentials == {"_manifest.json": revision}

    eventually(check, within_seconds=20)


def stays(program: RunningProgram, why: str, expected: Mapping[str, int]) -> None:
    """Wait until the program says `why` the newest is not in force, and check that it still runs these revisions."""

    def check() -> None:
        error = program.answer().error
        assert error is not None
        assert why in error, error

    eventually(check, within_seconds=20)
    runs(program, expected)


def first(volumes: Volumes, program: RunningProgram) -> None:
    """Bring the first configuration and wait until it runs."""
    volumes.put_credentials(1, KEYS)
    volumes.put(5)
    volumes.swap()
    runs(program, {"config.yml": 5})


def test_program_without_documents_answers_that_it_has_none(program: RunningProgram) -> None:
    """Not ready, and no lineage: nobody takes it for done."""
    answer = program.answer()
    assert (answer.lineage, answer.documents, answer.credentials, answer.loaded_at) == (None, {}, {}, None)
    assert answer.error
    assert get(program.ip, "/ready", PORT)[0] == 503


def test_first_documents_and_a_flip_are_followed(volumes: Volumes, program: RunningProgram) -> None:
    """Revision and digest of what is served, credentials by their manifest, and the live backend changes with the flip."""
    first(volumes, program)
    assert get(program.ip, "/ready", PORT)[0] == 200
    assert program.models() == {"chat": {"current": "small", "model": "gpt-4o-mini", "keyed": True}}
    volumes.put(6, current="big")
    volumes.swap()
    runs(program, {"config.yml": 6})
    assert program.models() == {"chat": {"current": "big", "model": "gpt-4o", "keyed": False}}
    answer = program.answer()
    manifest = json.loads(volumes.config["config.manifest.json"])
    assert (answer.lineage, answer.documents["config.yml"].digest) == (volumes.lineage, manifest["sha256"])
    assert (answer.credentials, answer.credentials_revision, answer.error) == ({"_manifest.json": 1}, 1, None)


def test_rotated_credentials_are_taken_up_without_a_new_document(volumes: Volumes, program: RunningProgram) -> None:
    """The revision of the credentials rises and that of the document stays."""
    first(volumes, program)
    volumes.put_credentials(2, {**KEYS, "openai.key": "canary-rotated"})
    volumes.swap()
    loaded(program, 2)
    runs(program, {"config.yml": 5})


def _wrong_digest(volumes: Volumes) -> None:
    volumes.put(6, current="big", sha256="0" * 64)


def _half_a_file(volumes: Volumes) -> None:
    volumes.put(6, current="big")
    volumes.config["config.yml"] = volumes.config["config.yml"][:100]


def _unknown_major(volumes: Volumes) -> None:
    volumes.put(6, current="big", schema="2.0")


def _older(volumes: Volumes) -> None:
    volumes.put(4, current="big")


def _no_manifest(volumes: Volumes) -> None:
    volumes.put(6, current="big")
    volumes.config["config.manifest.json"] = b"{"


@pytest.mark.parametrize("spoil", [_wrong_digest, _half_a_file, _unknown_major, _no_manifest])
def test_document_that_cannot_be_trusted_leaves_the_last_good_one(
    volumes: Volumes, program: RunningProgram, spoil: Callable[[Volumes], None]
) -> None:
    """The answer says what is in force and why it is not the newest; the next good one is taken."""
    first(volumes, program)
    spoil(volumes)
    volumes.swap()
    stays(program, "UnsupportedSchema" if spoil is _unknown_major else "config", {"config.yml": 5})
    assert program.models()["chat"]["current"] == "small"
    volumes.put(7, current="big")
    volumes.swap()
    runs(program, {"config.yml": 7})
    assert program.answer().error is None


def test_older_revision_of_the_lineage_is_not_taken(volumes: Volumes, program: RunningProgram) -> None:
    """A folder that goes back in time, as after a restored backup, does not take the pod with it."""
    first(volumes, program)
    _older(volumes)
    volumes.put_credentials(2, KEYS)  # a fence: once this is loaded the older document has been judged
    volumes.swap(config_first=True)
    loaded(program, 2)
    runs(program, {"config.yml": 5})
    assert program.models()["chat"]["current"] == "small"


def test_document_waits_for_the_credentials_it_names(volumes: Volumes, program: RunningProgram) -> None:
    """Not in force while a key is on its way; in force once it is there, or known to be missing."""
    volumes.put_credentials(1, {"callers.chat": KEYS["callers.chat"]})
    volumes.put(5)
    volumes.swap()

    def waiting() -> None:
        assert "openai.key" in (program.answer().error or "")

    eventually(waiting, within_seconds=20)
    assert program.answer().documents == {}
    volumes.put_credentials(2, {"callers.chat": KEYS["callers.chat"]}, missing=["openai.key"])
    volumes.swap()
    runs(program, {"config.yml": 5})
    assert program.models()["chat"]["keyed"] is False


def test_shards_are_each_taken_by_themselves(volumes: Volumes, program: RunningProgram) -> None:
    """One shard changes and the others keep their revision; a shard that is spoilt holds up no other."""
    volumes.shards = 2
    volumes.put_credentials(1, KEYS)
    volumes.put(5)
    volumes.put(5, shard=0)
    volumes.swap()

    def waiting() -> None:
        assert "models-01" in (program.answer().error or "")

    eventually(waiting, within_seconds=20)
    assert program.answer().documents == {}, "half a set of the first lineage must not be served"
    volumes.put(5, shard=1)
    volumes.swap()
    runs(program, {"config.yml": 5, "models-00.yml": 5, "models-01.yml": 5})
    volumes.put(6, shard=0, sha256="0" * 64)
    volumes.put(6, shard=1, current="big")
    volumes.swap()
    stays(program, "models-00", {"config.yml": 5, "models-00.yml": 5, "models-01.yml": 6})


def test_new_lineage_starts_again_at_a_low_revision(volumes: Volumes, program: RunningProgram) -> None:
    """A gateway that was deleted and made again is another one: its first revision replaces the old one's fifth."""
    first(volumes, program)
    volumes.lineage = "lineage-2"
    volumes.put_credentials(1, KEYS)
    volumes.put(1, current="big")
    volumes.swap()
    runs(program, {"config.yml": 1})
    assert program.answer().lineage == "lineage-2"
    assert program.models()["chat"]["current"] == "big"


def test_document_that_vanishes_takes_nothing_away(volumes: Volumes, program: RunningProgram) -> None:
    """A ConfigMap deleted by mistake: an optional source leaves the folder, the pod serves on and says what is missing."""
    first(volumes, program)
    volumes.config.clear()
    volumes.put_credentials(2, KEYS)
    volumes.swap(config_first=True)
    loaded(program, 2)
    stays(program, "config", {"config.yml": 5})
    assert program.models() == {"chat": {"current": "small", "model": "gpt-4o-mini", "keyed": True}}
