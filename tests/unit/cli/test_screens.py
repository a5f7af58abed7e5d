"""What people see: columns, colour on a terminal alone, ages, and one word for the state of an object."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from aigateway_operator.api.conditions import Reason
from aigateway_operator.cli.checkup import State
from aigateway_operator.cli.cluster import current_namespace
from aigateway_operator.cli.conditions import age, condition_of, parse_time, state_of
from aigateway_operator.cli.flags import parse_duration
from aigateway_operator.cli.output import Table, as_json, as_yaml, paint
from aigateway_operator.cli.overview import overview
from aigateway_operator.cli.status import MAX_MODELS, screen
from aigateway_operator.cli.wait import judge

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self) -> bool:
        return True


def make_object(kind: str = "VirtualModel", name: str = "chat", **changes: Any) -> dict[str, Any]:
    """Return an object with a status of its present generation; keywords are conditions (`Ready="False Invalid"`) or parts."""
    status: dict[str, Any] = {"observedGeneration": 2, "revision": 5, "conditions": []}
    for condition in [key for key in changes if key[0].isupper()]:
        verdict, reason = changes.pop(condition).split()
        moved = {"lastTransitionTime": "2026-01-01T11:59:00Z", "observedGeneration": 2, "message": f"about {reason}"}
        status["conditions"].append({"type": condition, "status": verdict, "reason": reason, **moved})
    spec = {"gatewayRef": {"name": "main"}, "use": True} if kind == "VirtualModel" else {}
    metadata = {"name": name, "namespace": "ai", "generation": 2, "uid": f"uid-of-{name}"}
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status} | changes


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape sequence reaches a file, a terminal without colours, or a person who asked for none."""
    monkeypatch.setenv("TERM", "xterm")
    assert paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert paint("x", "", Terminal()) == "x"
    assert paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red", Terminal()) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert paint("x", "red", Terminal()) == "x"


def test_columns_are_aligned_and_colour_does_not_shift_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A painted cell is as wide as it looks; a screen that is too narrow cuts the line."""
    monkeypatch.setenv("TERM", "xterm")
    table = Table(("NAME", "STATE", "NOTE"))
    table.add("a", ("Ready", "green"), "x")
    table.add("longer", ("Off", "dim"), "y")
    plain = list(table.lines(io.StringIO()))
    assert plain == ["NAME     STATE   NOTE", "a        Ready   x", "longer   Off     y"]
    painted = list(table.lines(Terminal()))
    assert painted[1] == "a        \x1b[32mReady\x1b[0m   x"
    assert list(table.lines(io.StringIO(), width=12)) == ["NAME     ST…", "a        Re…", "longer   Of…"]


def test_a_message_goes_on_below_itself_where_the_screen_ends() -> None:
    """What to do stands at its end; off a screen it is one line, for `grep`."""
    table = Table(("MODEL", "MESSAGE"))
    table.add("chat", "Secret 'keys' does not exist in namespace 'ai'. Create it, or correct spec.proxyKeySecretRef.")
    table.add("b", "fine")
    assert list(table.lines(io.StringIO(), width=50)) == [
        "MODEL   MESSAGE",
        "chat    Secret 'keys' does not exist in namespace",
        "        'ai'. Create it, or correct",
        "        spec.proxyKeySecretRef.",
        "b       fine",
    ]
    assert list(table.lines(io.StringIO(), width=30)) == [
        "MODEL   MESSAGE",
        "chat",
        "    Secret 'keys' does not",
        "    exist in namespace 'ai'.",
        "    Create it, or correct",
        "    spec.proxyKeySecretRef.",
        "b       fine",
    ]
    assert len(list(table.lines(io.StringIO()))) == 3


def test_words_of_a_fixed_set_are_printed_in_both_formats() -> None:
    """States and reasons are members of enums, which the YAML writer does not know by itself."""
    words = {"state": State.WRONG, "reason": Reason.NOT_ASKED}
    assert yaml.safe_load(as_yaml(words)) == json.loads(as_json(words)) == {"state": "wrong", "reason": "NotAsked"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d"), (-5, "0s")]
)
def test_ages_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    """Short, and never negative where clocks differ."""
    assert age(NOW - timedelta(seconds=seconds), NOW) == text
    assert age(None, NOW) == "-"


@pytest.mark.parametrize("value", ["1970-01-01T00:00:00Z", "", None, "yesterday", 5, "2026-01-01T00:00:00"])
def test_placeholder_of_a_fresh_object_is_no_time(value: object) -> None:
    """The default status says 1970: that is `never`, and what is broken is so too."""
    assert parse_time(value) is None


@pytest.mark.parametrize(
    ("obj", "state"),
    [
        (make_object(Ready="True Ready"), "Ready"),
        (make_object(Ready="True Ready", spec={"use": False}), "Off"),
        (make_object(Ready="False Invalid"), "NotReady"),
        (make_object(Ready="Unknown Pending"), "NotReady"),
        (make_object(), "Pending"),
        (make_object(status=None), "Pending"),
        (make_object(status={"observedGeneration": 2, "conditions": "?"}), "Pending"),
        (make_object(Ready="True Ready", metadata={"name": "x", "namespace": "ai", "generation": 3}), "Pending"),
        (make_object(metadata={"name": "x", "namespace": "ai", "deletionTimestamp": "…"}), "Deleting"),
    ],
)
def test_state_of_an_object_in_one_word(obj: dict[str, Any], state: str) -> None:
    """An answer of another generation is no answer, whatever it says."""
    assert state_of(obj) == state


def test_condition_that_is_not_there_is_unknown() -> None:
    """A status without conditions is not an error."""
    found = condition_of(make_object(), "Ready")
    assert (found.status, found.reason, found.true) == ("Unknown", "Pending", False)


def test_screen_lists_no_more_models_than_a_screen_holds_and_says_so() -> None:
    """Ten thousand broken models do not scroll the gateways away; programs get all of them."""
    models = [make_object(name=f"m{n:03d}", Ready="False Invalid") for n in range(MAX_MODELS + 7)]
    seen = overview([make_object("GatewayConfig", "main", Ready="True Ready")], models, [])
    lines = list(screen(seen, NOW, io.StringIO()))
    assert sum("about Invalid" in line for line in lines) == MAX_MODELS
    assert "… and 7 more; all of them with -o json." in lines
    assert len(seen.as_data()["models"]) == MAX_MODELS + 7
    assert any(line.endswith("VirtualModel ai/m000: Ready=False Invalid") and " 60s ago" in line for line in lines)


def test_screen_shows_what_later_versions_report() -> None:
    """Pods, datastores and credentials are shown once a status has them; a dash stands until then."""
    full = {"pods": "2/3", "rollout": {"credentialsRevision": 4}, "datastores": [{"name": "redis", "state": "Up"}]}
    config = make_object("GatewayConfig", "main", Ready="True Ready")
    rows = [
        list(screen(overview([{**config, "status": {**config["status"], **extra}}], [], []), NOW, io.StringIO()))[1].split(
            "   "
        )
        for extra in ({}, full)
    ]
    assert [part.strip() for part in rows[0] if part.strip()] == ["ai", "main", "Ready", "5", "-", "none", "-", "-"]
    assert [part.strip() for part in rows[1] if part.strip()] == ["ai", "main", "Ready", "5", "4", "none", "2/3", "redis Up"]


def test_screen_shows_pods_by_what_they_run_and_stores_with_since_and_why() -> None:
    """The numbers of status.rollout, names of those behind, and of each store how long it has been so."""
    rollout = {
        "revision": 7,
        "desired": 5,
        "updated": 2,
        "unknown": 1,
        "stragglers": ["gateway-1", "gateway-2"],
        "restartRequired": ["app.port"],
        "lastDurationMilliseconds": 120,
    }
    stores = [
        {"name": "mongodb", "state": "Up", "reason": "Answering", "message": "Takes writes.", "since": "2026-01-01T09:00:00Z"},
        {"name": "redis", "state": "Down", "reason": "Refused", "message": "Nothing listens.", "since": "2026-01-01T11:58:00Z"},
    ]
    config = make_object("GatewayConfig", "main", Ready="True Ready", Propagated="False Stragglers")
    config["status"] |= {"rollout": rollout, "datastores": stores}
    seen = overview([config], [], [])
    lines = [" ".join(line.split()) for line in screen(seen, NOW, io.StringIO())]
    assert "ai main Stragglers 7 2 2 1 120 ms gateway-1, gateway-2; restart for app.port" in lines
    assert "ai main mongodb Up 3h Answering" in lines
    assert "ai main redis Down 2m Refused Nothing listens." in lines
    [data] = seen.as_data()["gateways"]
    assert data["rollout"]["behind"] == 2
    assert data["stores"][1] == stores[1]


def test_screen_of_a_status_that_is_not_ours_is_no_fault() -> None:
    """Whatever stands there, the rest is shown."""
    config = make_object("GatewayConfig", "main", Ready="True Ready")
    config["status"] |= {"rollout": {"desired": 2, "stragglers": "all"}, "datastores": ["redis", {"name": 3}]}
    assert overview([config], [], []).gateways[0].rollout is not None


def test_documents_of_somebody_else_are_not_shown_as_the_gateways() -> None:
    """A ConfigMap of the right name with another owner is not what pods read."""
    gateway = make_object("GatewayConfig", "main", Ready="True Ready")

    def config_map(owner: str) -> dict[str, Any]:
        metadata = {"name": "main-config", "namespace": "ai", "ownerReferences": [{"uid": owner}]}
        return {"metadata": metadata, "data": {"config.yml": "{}", "config.manifest.json": '{"revision": 3}'}}

    [mine] = overview([gateway], [], [config_map("uid-of-main")]).gateways
    assert [(one.file, one.revision, one.bytes) for one in mine.documents] == [("config.yml", 3, 2)]
    [theirs] = overview([gateway], [], [config_map("uid-of-somebody")]).gateways
    assert theirs.documents == ()


def test_status_of_one_gateway_leaves_the_others_out() -> None:
    """Models and changes of other gateways are noise when one was asked for."""
    others = make_object(name="b", Ready="False Invalid", spec={"gatewayRef": {"name": "other"}})
    gateways = [make_object("GatewayConfig", name, Ready="True Ready") for name in ("main", "other")]
    seen = overview(gateways, [make_object(name="a", Ready="False Invalid"), others], [], "main")
    assert [one.name for one in seen.gateways] == ["main"]
    assert [one.name for one in seen.models] == ["a"]
    assert {one.name for one in seen.changes} == {"main", "a"}


@pytest.mark.parametrize(
    ("gateway_status", "reached", "reason"),
    [
        ({"rollout": {"revision": 5}}, True, "Propagated"),
        ({"rollout": {"revision": 4}}, False, "Progressing"),
        ({}, False, "Progressing"),
    ],
)
def test_model_has_propagated_once_its_gateway_proved_its_revision(
    gateway_status: dict[str, Any], reached: bool, reason: str
) -> None:
    """Pods that run revision 4 do not have a model of revision 5, though the gateway's condition is True."""
    model = make_object(Programmed="True Programmed")
    gateway = make_object("GatewayConfig", "main", Propagated="True Propagated")
    gateway["status"] |= gateway_status
    found = judge(model, gateway, "propagated")
    assert (found.reached, found.reason, found.hopeless) == (reached, reason, False)


def test_model_that_is_not_programmed_has_not_propagated() -> None:
    """What keeps it is told, not the pods."""
    model = make_object(Programmed="False TooLarge")
    gateway = make_object("GatewayConfig", "main", Propagated="True Propagated")
    assert judge(model, gateway, "propagated").reason == "TooLarge"
    assert judge(make_object(Programmed="True Programmed"), None, "propagated").reached is False


def test_object_that_is_being_deleted_is_not_waited_for() -> None:
    """It will not become ready again."""
    found = judge(make_object(metadata={"name": "x", "namespace": "ai", "deletionTimestamp": "…"}), None, "ready")
    assert (found.reached, found.hopeless, found.reason) == (False, True, "Deleting")


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), ("60s", 60), ("500ms", 0.5), ("2m", 120), ("1.5h", 5400), ("0", 0)])
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    """Seconds without a unit."""
    assert parse_duration(text) == seconds


CONTEXTS = """
current-context: one
contexts:
- {name: one, context: {cluster: c, user: u, namespace: team}}
- {name: two, context: {cluster: c, user: u}}
"""


def test_namespace_is_that_of_the_context_as_for_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--kubeconfig before $KUBECONFIG, which may name several files, before the default; `default` where none is said."""
    (tmp_path / "one").write_text(CONTEXTS)
    (tmp_path / "other").write_text("current-context: two\n")
    (tmp_path / "broken").write_text("a: [")
    assert current_namespace(tmp_path / "one", None) == "team"
    assert current_namespace(tmp_path / "one", "two") == "default"
    assert current_namespace(tmp_path / "missing", None) == "default"
    assert current_namespace(tmp_path / "broken", None) == "default"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(tmp_path / name) for name in ("broken", "other", "one")))
    assert current_namespace(None, None) == "default", "current-context of the first file that has one wins"
    assert current_namespace(None, "one") == "team"
