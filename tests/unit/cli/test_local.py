"""`aigateway local`: a folder is checked, planned and rendered as a cluster would be, and what was valid stays."""

from __future__ import annotations

import json
import stat
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from aigateway_config import ConfigReader, MountedVolume
from aigateway_operator.api.meta import GatewayKey
from aigateway_operator.cli.exits import Exit
from aigateway_operator.cli.local_folder import ManifestFolder
from aigateway_operator.cli.local_rounds import Round, Rounds
from aigateway_operator.cli.local_serving import choose
from aigateway_operator.errors import SettingsError
from aigateway_operator.local.rendered import FOLDER, Rendered
from aigateway_operator.rules import RuleContext
from tests.cli_suite import BACKEND_KEY, CALLER_KEY, gateway, keys, model, run_cli, write_manifests

MAIN = GatewayKey("default", "main")


class Local:
    """A folder of manifests and the rounds made of it; `restart` forgets everything but the files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.restart()

    def restart(self) -> None:
        context = RuleContext("", (ip_network("127.0.0.0/8"),))
        rendered = Rendered(self.folder / FOLDER)
        self.rounds = Rounds(ManifestFolder(self.folder, "default", context, recursive=False), rendered, context)

    def put(self, file: str, *manifests: dict[str, Any]) -> Round:
        write_manifests(self.folder / file, *manifests)
        return self.rounds.make()

    def put_text(self, file: str, text: str) -> Round:
        (self.folder / file).write_text(text)
        return self.rounds.make()

    def delete(self, file: str) -> Round:
        (self.folder / file).unlink()
        return self.rounds.make()

    def read(self, name: str, volume: str = "config", key: GatewayKey = MAIN) -> bytes:
        return (self.folder / FOLDER / key.namespace / key.name / volume / name).read_bytes()

    @property
    def models(self) -> dict[str, str]:
        """Public name → live backend."""
        entries = json.loads(self.read("config.yml"))["ai-gateway"]["virtual_models"]
        return {name: entry["current"] for name, entry in entries.items()}

    @property
    def revision(self) -> tuple[int, str]:
        manifest = json.loads(self.read("config.manifest.json"))
        return manifest["revision"], manifest["lineage"]


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """A gateway with one model and its keys, rendered."""
    started = Local(tmp_path / "manifests")
    started.put("keys.yaml", keys())
    started.put("gateway.yaml", gateway())
    done = started.put("chat.yaml", model())
    assert not done.refused, done.findings
    return started


async def test_pods_read_what_is_rendered(local: Local) -> None:
    """The pod library takes the folders as mounted volumes: documents verify, and credentials are there."""
    folder = local.folder / FOLDER / "default" / "main"
    async with ConfigReader([MountedVolume(folder / "config", folder / "credentials")]) as reader:
        current = await reader.wait_ready(20)
        assert reader.error is None
    chat = current.models["chat"]
    assert chat.proxy_key is not None
    assert chat.proxy_key.get_secret_value() == CALLER_KEY
    assert chat.live.api_key is not None
    assert chat.live.api_key.get_secret_value() == BACKEND_KEY
    assert current.gateway == "default/main"


def test_everything_rendered_is_for_its_owner_alone(local: Local) -> None:
    """Credentials lie there in plain: no file and no folder is open to others, and git is told to leave them alone."""
    root = local.folder / FOLDER
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in root.rglob("*") if path.is_file() and not path.is_symlink()}
    folders = {stat.S_IMODE(path.lstat().st_mode) for path in root.glob("*/*/*/..2*")}
    assert (modes, folders) == ({0o600}, {0o700})
    assert run_cli("local", str(local.folder), "--once").code == Exit.FINE
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert (root / ".gitignore").read_text() == "*\n"


def test_edit_moves_the_revision_and_nothing_else_does(local: Local) -> None:
    """A round without a change writes nothing; an edit is one more revision of the same lineage, also after a restart."""
    before = local.revision
    assert not any(one.written for one in local.rounds.make().gateways)
    local.restart()
    assert not any(one.written for one in local.rounds.make().gateways)
    assert local.revision == before
    local.put("chat.yaml", model(current="big"))
    assert local.models == {"chat": "big"}
    assert local.revision == (before[0] + 1, before[1])


def test_rotated_secret_changes_credentials_alone(local: Local) -> None:
    """The value is there, the document is the same, the old value is nowhere."""
    document = local.revision
    local.put("keys.yaml", keys(proxy="rotated"))
    assert local.read("keys.proxy", "credentials") == b"rotated"
    assert local.revision == document
    left = [path for path in (local.folder / FOLDER).rglob("*") if path.is_file() and CALLER_KEY in path.read_text()]
    assert left == []


def test_data_of_a_secret_is_decoded(local: Local) -> None:
    """`data` is base64, `stringData` lies over it, as the API server has it."""
    secret = {**keys(), "data": {"proxy": "aWdub3JlZA==", "openai": "ZnJvbS1kYXRh"}, "stringData": {"proxy": "from-text"}}
    local.put("keys.yaml", secret)
    assert local.read("keys.openai", "credentials") == b"from-data"
    assert local.read("keys.proxy", "credentials") == b"from-text"


def test_key_that_no_model_names_any_more_goes_after_two_minutes(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays while a running gateway may still use it, a round is asked for, and then it is gone."""
    bare = model(backends=[{"name": "small", "model": "m"}])
    write_manifests(local.folder / "keys.yaml", keys(proxy="rotated"))
    done = local.put("chat.yaml", bare)
    assert local.read("keys.openai", "credentials") == BACKEND_KEY.encode()
    assert local.read("keys.proxy", "credentials") == b"rotated"
    assert done.wake_after_seconds is not None
    assert 100 < done.wake_after_seconds <= 120
    import time

    later = time.monotonic() + 121
    monkeypatch.setattr("aigateway_operator.cli.local_rounds.time.monotonic", lambda: later)
    local.rounds.make()
    left = {path.name for path in (local.folder / FOLDER / "default" / "main" / "credentials").iterdir()}
    assert {name for name in left if not name.startswith("..")} == {"_manifest.json", "keys.proxy"}


@pytest.mark.parametrize("restart", [False, True], ids=["running", "after a restart"])
def test_broken_rule_is_named_and_the_last_good_stays(local: Local, restart: bool) -> None:
    """File, line, place and rule; the model is served as before, a new good one beside it too."""
    before = local.read("config.yml")
    if restart:
        local.restart()
    done = local.put("chat.yaml", model(current="huge"))
    found = [finding for finding in done.findings if finding.rule == "R4"]
    assert [(Path(one.file).name, one.line > 0, one.path) for one in found] == [("chat.yaml", True, "spec.current")]
    assert done.refused
    assert local.read("config.yml") == before
    local.put("more.yaml", model("more"))
    assert local.models == {"chat": "small", "more": "small"}
    assert not local.put("chat.yaml", model(current="big")).refused
    assert local.models == {"chat": "big", "more": "small"}


def test_broken_settings_keep_the_last_good(local: Local) -> None:
    """An unknown key of a GatewayConfig is refused as at admission, and models go on to change."""
    done = local.put("gateway.yaml", gateway(app={"prot": 1}))
    assert any("Cannot add new key 'prot' to fixed structure at spec.app" in str(finding) for finding in done.findings)
    local.put("chat.yaml", model(current="big"))
    assert local.models == {"chat": "big"}


def test_key_of_the_fixed_structure_must_not_go(local: Local) -> None:
    """Rules on edits hold: the folder is compared with what it was."""
    local.put("gateway.yaml", gateway(app={"port": 8001}))
    done = local.put("gateway.yaml", gateway(app={}))
    assert any("Cannot delete key 'port' from spec.app. Structure is fixed." in str(finding) for finding in done.findings)
    assert json.loads(local.read("config.yml"))["app"]["port"] == 8001


@pytest.mark.parametrize("text", ["a: [1, 2", "kind: VirtualModel\n", "- just a list\n", "\xff"], ids=range(4))
def test_file_that_cannot_be_read_keeps_its_objects(local: Local, text: str) -> None:
    """Half-written YAML deletes nothing; the file is named, and other files are followed."""
    (local.folder / "chat.yaml").write_bytes(text.encode("latin-1"))
    done = local.rounds.make()
    assert [Path(finding.file).name for finding in done.findings] == ["chat.yaml"]
    assert any("chat.yaml" in kept for kept in done.kept)
    assert local.models == {"chat": "small"}
    local.put("more.yaml", model("more"))
    assert local.models == {"chat": "small", "more": "small"}
    local.put("chat.yaml", model(current="big"))
    assert local.models == {"chat": "big", "more": "small"}


def test_file_that_never_could_be_read_holds_up_what_is_rendered(local: Local) -> None:
    """After a restart nobody knows what was in it, so what is rendered stays as it is; a new gateway is rendered."""
    before = local.read("config.yml")
    local.restart()
    (local.folder / "chat.yaml").write_text("a: [1, 2")
    done = local.put("other.yaml", gateway("other"), model("more", "other"))
    assert done.held == [MAIN]
    assert local.read("config.yml") == before
    assert "more" in local.read("config.yml", key=GatewayKey("default", "other")).decode()
    done = local.put("chat.yaml", model(current="big"))
    assert done.held == []
    assert local.models == {"chat": "big"}


def test_deleted_file_takes_its_model_along(local: Local) -> None:
    """Absence from a folder that was read completely is a deletion."""
    local.put("more.yaml", model("more"))
    local.delete("chat.yaml")
    assert local.models == {"more": "small"}


@pytest.mark.parametrize("restart", [False, True], ids=["running", "after a restart"])
def test_emptied_folder_deletes_nothing(local: Local, restart: bool) -> None:
    """A folder without any manifest is a mistake or a moment of `git checkout`, not a wish."""
    if restart:
        local.restart()
    for file in ("keys.yaml", "gateway.yaml"):
        (local.folder / file).unlink()
    done = local.delete("chat.yaml")
    assert done.refused
    assert local.models == {"chat": "small"}


def test_deleted_gateway_leaves_no_secret_and_no_number_twice(local: Local) -> None:
    """Its files go; made anew it has the same lineage, so revisions go on where they were."""
    revision, lineage = local.revision
    done = local.delete("gateway.yaml")
    assert done.removed == [MAIN]
    assert not [path for path in (local.folder / FOLDER).rglob("*") if path.is_file() and CALLER_KEY in path.read_text()]
    local.restart()
    local.put("gateway.yaml", gateway())
    assert local.models == {"chat": "small"}
    assert local.revision == (revision + 1, lineage)
    credentials = json.loads(local.read("_manifest.json", "credentials"))
    assert credentials["credentialsRevision"] > 1


def test_rendered_file_edited_by_hand_is_put_right(local: Local) -> None:
    """What does not verify is rendered anew."""
    good = json.loads(local.read("config.yml"))
    (local.folder / FOLDER / "default" / "main" / "config" / "config.yml").write_text("{}")
    local.rounds.make()
    assert json.loads(local.read("config.yml")) == good


def test_shards_share_a_folder(local: Local) -> None:
    """Every shard is there with credentials of its own, and a restart finds them all again."""
    other = GatewayKey("default", "wide")
    models = [model(f"m{number}", "wide") for number in range(8)]
    local.put("wide.yaml", gateway("wide", delivery={"shards": 3}), *models)
    found = [json.loads(local.read(f"models-0{shard}.yml", key=other)) for shard in range(3)]
    assert sorted(name for one in found for name in one["ai-gateway"]["virtual_models"]) == [f"m{n}" for n in range(8)]
    local.restart()
    assert not any(one.written for one in local.rounds.make().gateways)


def test_first_of_two_with_one_public_name_stays(local: Local) -> None:
    """A file that comes first in the alphabet does not take the name of a model that is served."""
    done = local.put("a.yaml", model("newer", modelName="chat", current="big"))
    assert any("ModelNameConflict" in finding.reason for finding in done.findings)
    assert local.models == {"chat": "small"}


def test_command_prints_events_for_programs(local: Local) -> None:
    """A JSON object a line; 1 if anything is wrong; no value of a Secret."""
    write_manifests(local.folder / "bad.yaml", model("bad", current="huge"))
    shown = run_cli("local", str(local.folder), "--once", "-o", "json")
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.code == Exit.REFUSED
    assert [event["event"] for event in events] == ["started", "finding", "rendered"]
    assert events[0]["allowAddresses"] == ["127.0.0.0/8", "::1/128"]
    assert (events[1]["name"], events[1]["rule"]) == ("bad", "R4")
    assert (events[2]["gateway"], events[2]["models"]) == ("default/main", ["chat"])
    assert not any(secret in shown.out + shown.err for secret in (CALLER_KEY, BACKEND_KEY))


def test_loopback_is_allowed_here_unless_something_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model server on one's own machine is what it is for; an empty variable takes it back."""
    write_manifests(tmp_path / "all.yaml", gateway(), keys(), model(baseUrl="http://127.0.0.1:11434/v1"))
    assert run_cli("local", str(tmp_path), "--once").code == Exit.FINE
    monkeypatch.setenv("AIGATEWAY_ALLOW_ADDRESSES", "")
    refused = run_cli("local", str(tmp_path), "--once")
    assert refused.code == Exit.REFUSED
    assert "127.0.0.1" in refused.out


def test_two_at_once_on_one_folder_are_refused(local: Local) -> None:
    """They would write over each other."""
    with Rendered(local.folder / FOLDER).held():
        refused = run_cli("local", str(local.folder), "--once")
    assert refused.code == Exit.USAGE
    assert "another `aigateway local`" in refused.err


def test_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """As for every command: 2, and what to do."""
    refused = run_cli("local", str(tmp_path / "none"))
    assert (refused.code, "Name a folder" in refused.err) == (Exit.USAGE, True)


def test_gateway_to_serve_is_the_only_one_or_is_named() -> None:
    """Nothing is guessed among several."""
    one, two, same = GatewayKey("a", "x"), GatewayKey("a", "y"), GatewayKey("b", "x")
    assert choose([one], None) == one
    assert choose([], None) is None
    assert choose([one], "y") is None
    assert choose([one, two, same], "b/x") == same
    for keys_, wanted in (([one, two], None), ([one, same], "x")):
        with pytest.raises(SettingsError, match="--gateway"):
            choose(keys_, wanted)
