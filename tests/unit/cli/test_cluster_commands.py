"""The suite of cluster commands on a cluster in memory, and what only a cluster in memory can do: refuse, vanish."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from aigateway_operator.cli.exits import Exit
from aigateway_operator.errors import Forbidden, NotFound, Unavailable
from aigateway_operator.kube.resources import CONFIG_MAPS, SECRETS, VIRTUAL_MODELS
from tests.cli_suite import ClusterCommands, gateway, keys, model, write_manifests
from tests.unit.cli.conftest import FakeStage


class TestInMemory(ClusterCommands):
    """See tests/cli_suite.py."""


@pytest.mark.parametrize("command", [("status",), ("diff",)])
def test_kind_that_is_not_installed_is_told_with_the_command_that_installs_it(
    stage: FakeStage, command: tuple[str, ...]
) -> None:
    """A cluster without our CRDs is no crash and no empty screen."""
    stage.cluster.faults[VIRTUAL_MODELS] = NotFound("GET … was answered 404", status=404)
    done = stage.run(*command, "-n", "ai")
    assert done.code == Exit.CLUSTER
    assert "VirtualModel (ai-gateway.io) is not known to the cluster" in done.err
    assert "aigateway crds" in done.err


@pytest.mark.parametrize(
    "command",
    [
        ("status", "-n", "Bad Name"),
        ("status", "a/../b"),
        ("diff", "-n", "a/b"),
        ("mount", "main", "-n", "x" * 64),
        ("mount", "Main"),
        ("mount", "x" * 64),
        ("wait", "vmodel/a b"),
        ("wait", "gwc/.."),
    ],
)
def test_a_name_that_nothing_can_have_is_wrong_usage(stage: FakeStage, command: tuple[str, ...]) -> None:
    """Not a question to the API server, which would be asked for another path and answers 400 without a remedy."""
    stage.create(gateway())
    done = stage.run(*command)
    assert done.code == Exit.USAGE
    assert re.search(r"is no name of a \w+: lower-case letters, digits", done.err), done.err


def test_names_with_dots_are_names(stage: FakeStage) -> None:
    """Those of our objects may have them; an empty namespace, as a script passes it, is the context's."""
    stage.create(gateway(), model("gpt-4.1"))
    stage.settle()
    assert stage.run("wait", "vmodel/gpt-4.1", "-n", "ai", "--for", "accepted", "--timeout", "0").code == Exit.FINE
    assert stage.run("mount", "v1.main", "-n", "ai").code == Exit.USAGE
    assert "is not in namespace 'ai'" in stage.run("mount", "v1.main", "-n", "ai").err
    assert stage.run("status", "-n", "").code == Exit.FINE


def test_that_there_was_nothing_to_compare_is_said(stage: FakeStage, tmp_path: Path) -> None:
    """A mistyped namespace, or a template that came out empty, must not look like a rollout that is done."""
    stage.create(gateway(), keys(), model())
    stage.settle()
    elsewhere = stage.run("diff", "-n", "elsewhere", "-o", "json")
    assert (elsewhere.code, elsewhere.out.strip()) == (Exit.FINE, "[]")
    assert "there is no GatewayConfig in namespace 'elsewhere'" in elsewhere.err
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert "in the files" in stage.run("diff", str(tmp_path / "empty.yaml"), "-n", "ai").err
    assert "note" not in stage.run("diff", "-n", "ai").err


def test_secrets_that_may_not_be_read_are_not_compared_and_that_is_said(stage: FakeStage) -> None:
    """Without the right to read Secrets documents are still compared, and no credential is shown as gone."""
    stage.create(gateway(), keys(), model())
    stage.settle()
    stage.cluster.faults[SECRETS] = Forbidden("GET … was answered 403", status=403)
    same = stage.run("diff", "-n", "ai")
    assert (same.code, same.out) == (Exit.FINE, "")
    assert "credentials are not compared" in same.err
    assert "SecretNotFound" not in same.err, "what may not be read is not said to be missing"
    stage.edit("VirtualModel", "chat", use=False)
    differs = stage.run("diff", "-n", "ai")
    assert differs.code == Exit.REFUSED
    assert '+"chat"' in differs.out
    assert "main-credentials" not in differs.out


def test_label_that_was_edited_by_hand_is_a_difference(stage: FakeStage) -> None:
    """The operator would write the object again, though every value in it is right."""
    stage.create(gateway(), keys(), model())
    stage.settle()
    for resource, name in ((CONFIG_MAPS, "main-config"), (SECRETS, "main-credentials")):
        labels = stage.fake.read(resource, "ai", name)["metadata"]["labels"]
        stage.fake.change(resource, "ai", name, metadata={"labels": {**labels, "ai-gateway.io/gateway": "other"}})
    differs = stage.run("diff", "-n", "ai")
    assert differs.code == Exit.REFUSED
    assert "~labels or owner" in differs.out
    assert "~labels, owner or manifest" in differs.out


def test_hand_edited_credentials_are_shown_by_key_and_never_by_value(stage: FakeStage) -> None:
    """A key that was taken out comes back, one that was put in goes."""
    stage.create(gateway(), keys(), model())
    stage.settle()
    data = dict(stage.fake.read(SECRETS, "ai", "main-credentials")["data"])
    data["intruder"] = data.pop("keys.openai")
    stage.fake.change(SECRETS, "ai", "main-credentials", data=data)
    differs = stage.run("diff", "-n", "ai")
    assert [line for line in differs.out.splitlines() if line[0] in "+-~"] == ["-intruder: <removed>", "+keys.openai: <added>"]


def test_progress_is_one_line_on_a_terminal(stage: FakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redrawn while it waits and cleared at the end; not a line in a log."""
    monkeypatch.setattr("aigateway_operator.cli.wait.on_terminal", lambda stream: True)
    stage.create(gateway(), keys(), model(proxyKeySecretRef={"name": "nowhere", "key": "proxy"}))
    stage.settle()
    done = stage.run("wait", "vmodel/chat", "-n", "ai", "--timeout", "200ms")
    drawn, _, last = done.err.rpartition("\r\x1b[K")
    assert drawn.startswith("\r\x1b[Kwaiting for VirtualModel/chat: SecretNotFound")
    assert "\n" not in drawn
    assert re.match(r"VirtualModel/chat is not ready after \d+\.\d s: SecretNotFound", last)


def test_cluster_that_stays_away_ends_a_wait_with_its_own_exit_code(stage: FakeStage) -> None:
    """3 tells a pipeline that nothing is known, where 1 would say that the model is not ready."""
    stage.cluster.faults[VIRTUAL_MODELS] = Unavailable("GET … timed out")
    done = stage.run("wait", "vmodel/chat", "-n", "ai", "--timeout", "300ms")
    assert done.code == Exit.CLUSTER
    assert "timed out" in done.err


def test_right_that_is_missing_ends_a_wait_at_once(stage: FakeStage) -> None:
    """Waiting does not bring a right."""
    stage.cluster.faults[VIRTUAL_MODELS] = Forbidden("GET … was answered 403", status=403)
    assert stage.run("wait", "vmodel/chat", "-n", "ai", "--timeout", "60s").code == Exit.CLUSTER


@pytest.mark.parametrize("target", ["pod/chat", "chat", "vmodel/", "vmodel/a/b", "/chat"])
def test_target_that_names_nothing_is_refused_with_the_kinds(stage: FakeStage, target: str) -> None:
    """A typo is a usage error, not a minute of waiting."""
    done = stage.run("wait", target, "-n", "ai")
    assert done.code == Exit.USAGE
    assert "vmodel/NAME or gwc/NAME" in done.err


def test_all_namespaces_are_shown_with_a_flag_and_one_without(stage: FakeStage) -> None:
    """`-A` looks everywhere; the context's namespace is looked into by default."""
    other = gateway("elsewhere")
    other["metadata"]["namespace"] = "other"
    stage.create(gateway(), other)
    everywhere = stage.run("status", "-A", "-o", "json").data
    assert [(one["namespace"], one["name"]) for one in everywhere["gateways"]] == [("ai", "main"), ("other", "elsewhere")]
    assert stage.run("status", "-n", "other", "-o", "json").data["gateways"][0]["name"] == "elsewhere"
    assert "No GatewayConfig here" in stage.run("status").out


def test_fresh_object_is_pending_and_never_ready(stage: FakeStage) -> None:
    """The default status of the CRD (Ready=Unknown) is not taken for an answer."""
    stage.create(gateway(), keys(), model())
    [seen] = stage.run("status", "-n", "ai", "-o", "json").data["models"]
    assert (seen["state"], seen["reason"]) == ("Pending", "Pending")


def _look_again(monkeypatch: pytest.MonkeyPatch, then: Mapping[int, Callable[[], None]], looks: int) -> None:
    """Let no pause of a watch take time: before these looks something happens, and after the last comes Ctrl-C."""
    numbers, real_sleep = count(), asyncio.sleep

    async def next_look(seconds: float) -> None:
        number = next(numbers) if seconds else -1
        then.get(number, lambda: None)()
        if number == looks:
            raise asyncio.CancelledError
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", next_look)


def _away(stage: FakeStage) -> None:
    stage.cluster.faults[VIRTUAL_MODELS] = Unavailable("GET … timed out")


def _back(stage: FakeStage) -> None:
    del stage.cluster.faults[VIRTUAL_MODELS]


def test_watch_outlives_a_cluster_that_is_away_and_prints_only_changes(
    stage: FakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off a terminal a look is printed when something changed; a failed look is told and survived."""
    stage.create(gateway(), keys())
    stage.settle()

    def back() -> None:
        _back(stage)
        stage.create(model())

    _look_again(monkeypatch, {1: partial(_away, stage), 2: back}, looks=4)
    seen = stage.run("status", "-n", "ai", "--watch", "-o", "json")
    assert seen.code == Exit.INTERRUPTED
    assert [line.count('"Pending"') > 0 for line in seen.out.splitlines()] == [False, True], seen.out
    assert "trying again" in seen.err


def test_watch_says_once_that_a_cluster_is_away_and_again_when_it_goes_away_again(
    stage: FakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of a night without the API server is a line, not one every two seconds."""
    stage.create(gateway(), keys())
    stage.settle()
    _look_again(monkeypatch, {0: partial(_away, stage), 4: partial(_back, stage), 5: partial(_away, stage)}, looks=8)
    assert stage.run("status", "-n", "ai", "--watch").err.count("trying again") == 2


def test_diff_shows_an_edit_that_admission_would_tolerate(stage: FakeStage, tmp_path: Path) -> None:
    """What was stored broken and is not touched does not keep the rest from being compared; a new fault does."""
    stage.create(gateway(), keys(), model(baseUrl="http://127.0.0.1:1"))
    stage.settle()
    file = write_manifests(tmp_path / "m.yaml", model(baseUrl="http://127.0.0.1:1", use=False))
    assert stage.run("diff", file, "-n", "ai").code == Exit.FINE
    file = write_manifests(tmp_path / "m.yaml", model(baseUrl="http://127.0.0.1:1", current="none"))
    refused = stage.run("diff", file, "-n", "ai")
    assert refused.code == Exit.USAGE
    assert "spec.current" in refused.out
    assert "spec.baseUrl" not in refused.out
