"""What `status`, `wait` and `diff` promise, run twice: on a cluster in memory, and on the real API server with the operator.

A `Stage` is a namespace of either. Subclasses of `ClusterCommands` (tests/unit/cli, tests/apiserver) give the fixture `stage`.
Not a test module by itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from aigateway_operator.cli import main
from aigateway_operator.cli.cluster import Connect
from aigateway_operator.cli.exits import Exit

Manifest = dict[str, Any]
CALLER_KEY = "caller-key-1"
BACKEND_KEY = "backend-key-1"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The answer for programs."""
        return json.loads(self.out)


def run_cli(*argv: str, connect: Connect | None = None) -> Result:
    """Run one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv, connect=connect)
    return Result(code, out.getvalue(), err.getvalue())


class Stage(Protocol):
    """A namespace with an operator, as a test sees it."""

    namespace: str

    def create(self, *manifests: Manifest) -> None:
        """Create objects, in the stage's namespace."""
        ...

    def edit(self, kind: str, name: str, **spec: Any) -> None:
        """Merge keys into the spec of an object."""
        ...

    def settle(self) -> None:
        """Wait until the operator has done everything there is to do."""
        ...

    def stop_operator(self) -> None:
        """From now on nothing is rendered any more."""
        ...

    def run(self, *argv: str) -> Result:
        """Run a command on this cluster; the namespace is not added."""
        ...


def gateway(name: str = "main", **spec: Any) -> Manifest:
    """Return a GatewayConfig."""
    return {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "GatewayConfig", "metadata": {"name": name}, "spec": spec}


def model(name: str = "chat", gateway_name: str = "main", **spec: Any) -> Manifest:
    """Return a VirtualModel whose keys are in `keys`."""
    full = {
        "gatewayRef": {"name": gateway_name},
        "use": True,
        "current": "small",
        "baseUrl": "https://api.example.com/v1",
        "proxyKeySecretRef": {"name": "keys", "key": "proxy"},
        "backends": [
            {"name": "small", "model": "gpt-4o-mini", "apiKeySecretRef": {"name": "keys", "key": "openai"}},
            {"name": "big", "model": "gpt-4o"},
        ],
        **spec,
    }
    return {"apiVersion": "ai-gateway.io/v1alpha1", "kind": "VirtualModel", "metadata": {"name": name}, "spec": full}


def keys(**values: str) -> Manifest:
    """Return the Secret `keys`."""
    texts = {"proxy": CALLER_KEY, "openai": BACKEND_KEY, **values}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "type": "Opaque", "stringData": texts}


def write_manifests(path: Path, *manifests: Manifest) -> str:
    """Write manifests to a file, as a user would keep them."""
    path.write_text(yaml.safe_dump_all(manifests))
    return str(path)


def later(seconds: float, act: Callable[[], None]) -> threading.Timer:
    """Do something in a while; join what is returned."""
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


class ClusterCommands:
    """The suite; see the module."""

    def test_status_names_the_gateway_its_documents_and_every_model_that_is_not_ready(self, stage: Stage) -> None:
        """One screen tells what is served, and of what is not why and what to do."""
        stage.create(gateway(), keys(), model(), model("silent", use=False))
        stage.create(model("orphan", proxyKeySecretRef={"name": "nowhere", "key": "proxy"}))
        stage.settle()
        seen = stage.run("status", "-n", stage.namespace)
        assert seen.code == Exit.FINE, seen
        row = next(line for line in seen.out.splitlines() if line.startswith(stage.namespace))
        assert row.split()[:3] == [stage.namespace, "main", "Ready"], seen.out
        assert "1 ready, 1 off, 1 not ready" in row
        assert "main-config/config.yml" in seen.out
        wrong = next(line for line in seen.out.splitlines() if "orphan" in line)
        assert "SecretNotFound" in wrong
        assert "Secret 'nowhere' does not exist" in wrong
        assert "LAST CHANGES" in seen.out
        assert CALLER_KEY not in seen.out

    def test_status_for_programs_holds_every_model(self, stage: Stage) -> None:
        """`-o json` holds what the screen leaves out, and `-o yaml` is the same value."""
        stage.create(gateway(), keys(), model())
        stage.settle()
        data = stage.run("status", "-n", stage.namespace, "-o", "json").data
        assert [(one["name"], one["state"], one["models"]["ready"]) for one in data["gateways"]] == [("main", "Ready", 1)]
        assert data["gateways"][0]["revision"] == data["gateways"][0]["documents"][0]["revision"] >= 1
        assert [(one["name"], one["modelName"], one["state"]) for one in data["models"]] == [("chat", "chat", "Ready")]
        assert yaml.safe_load(stage.run("status", "-n", stage.namespace, "-o", "yaml").out) == data

    def test_status_of_a_gateway_that_models_name_but_is_not_there(self, stage: Stage) -> None:
        """A wrong gatewayRef shows as a missing gateway; asking for it by name ends with 1."""
        stage.create(keys(), model(gateway_name="typo"))
        stage.settle()
        seen = stage.run("status", "typo", "-n", stage.namespace)
        assert seen.code == Exit.REFUSED
        assert "Missing" in seen.out
        assert "GatewayNotFound" in seen.out
        assert "'typo' does not exist" in seen.err

    def test_wait_ends_at_once_for_what_is_ready(self, stage: Stage) -> None:
        """Ready of the present generation is success, with the revision."""
        stage.create(gateway(), keys(), model())
        stage.settle()
        done = stage.run("wait", "vmodel/chat", "gwc/main", "-n", stage.namespace, "--timeout", "0")
        assert done.code == Exit.FINE, done
        (shown,) = stage.run("status", "-n", stage.namespace, "-o", "json").data["gateways"]
        assert f"VirtualModel/chat is ready (generation 1, revision {shown['revision']})" in done.out
        assert "GatewayConfig/main is ready" in done.out

    def test_wait_takes_no_old_answer_for_a_new_one(self, stage: Stage) -> None:
        """After an edit that nobody has looked at, the Ready=True of the generation before does not count."""
        stage.create(gateway(), keys(), model())
        stage.settle()
        stage.stop_operator()
        stage.edit("VirtualModel", "chat", current="big")
        done = stage.run("wait", "vmodel/chat", "-n", stage.namespace, "--timeout", "200ms")
        assert done.code == Exit.REFUSED
        assert "has not been looked at" in done.err

    def test_wait_waits_for_an_object_that_does_not_exist_yet(self, stage: Stage) -> None:
        """A pipeline may wait before its apply has landed."""
        stage.create(gateway(), keys())
        stage.settle()

        def apply() -> None:
            stage.create(model())
            stage.settle()

        timer = later(0.3, apply)
        done = stage.run("wait", "vmodel/chat", "-n", stage.namespace, "--timeout", "20s")
        timer.join()
        assert done.code == Exit.FINE, done
        assert "does not exist" in done.err
        assert "is ready" in done.out

    def test_wait_tells_the_reason_at_the_end(self, stage: Stage) -> None:
        """What kept the goal from being reached is said with its remedy, for people and for programs."""
        stage.create(gateway(), keys(), model(backends=[{"name": "small", "model": "m", "apiKeySecretRef": _nowhere()}]))
        stage.settle()
        done = stage.run("wait", "vmodel/chat", "-n", stage.namespace, "--timeout", "300ms")
        assert done.code == Exit.REFUSED
        assert "SecretKeyNotFound: Secret 'keys' has no key 'nowhere'" in done.err
        told = stage.run("wait", "vmodel/chat", "-n", stage.namespace, "--timeout", "0", "-o", "json").data
        assert [(one["reached"], one["reason"]) for one in told] == [(False, "SecretKeyNotFound")]

    def test_wait_for_propagation_says_that_it_cannot_be_known(self, stage: Stage) -> None:
        """Nobody asks pods yet: that is told at once, not after the time-out."""
        stage.create(gateway(), keys(), model())
        stage.settle()
        done = stage.run("wait", "vmodel/chat", "--for", "propagated", "-n", stage.namespace, "--timeout", "60s")
        assert done.code == Exit.REFUSED
        assert "cannot be waited for" in done.err
        assert "NoSelector" in done.err

    def test_diff_is_silent_when_the_operator_has_done_its_work(self, stage: Stage) -> None:
        """What is live is what would be rendered, byte for byte: 0 and not a line."""
        stage.create(gateway(), keys(), model(), model("other"))
        stage.settle()
        same = stage.run("diff", "-n", stage.namespace)
        assert (same.code, same.out) == (Exit.FINE, ""), same
        assert "Nothing differs" in same.err

    def test_diff_shows_the_line_of_a_model_that_was_edited_behind_a_stopped_operator(self, stage: Stage) -> None:
        """One line a model: the old and the new one, and no other model's."""
        stage.create(gateway(), keys(), model(), model("other"))
        stage.settle()
        stage.stop_operator()
        stage.edit("VirtualModel", "chat", current="big")
        differs = stage.run("diff", "-n", stage.namespace)
        assert differs.code == Exit.REFUSED, differs
        lines = [line for line in differs.out.splitlines() if line.startswith(('+"', '-"'))]
        assert [line.split(":")[0] for line in lines] == ['-"chat"', '+"chat"']
        assert '"current":"big"' in lines[1]

    def test_diff_of_files_shows_what_applying_them_would_change(self, stage: Stage, tmp_path: Path) -> None:
        """Files lie over what is in the cluster: a new model, a changed one, a rotated key without its value."""
        stage.create(gateway(), keys(), model(), model("other"))
        stage.settle()
        rotated = keys(openai="backend-key-2")
        file = write_manifests(tmp_path / "change.yaml", model("fresh"), model(current="big"), rotated)
        differs = stage.run("diff", file, "-n", stage.namespace)
        assert differs.code == Exit.REFUSED, differs
        assert '+"fresh":' in differs.out
        assert '-"chat":' in differs.out
        assert '"other":' not in differs.out
        assert "~keys.openai: <changed>" in differs.out
        assert not any(secret in differs.out + differs.err for secret in (CALLER_KEY, BACKEND_KEY, "backend-key-2"))
        data = stage.run("diff", file, "-n", stage.namespace, "-o", "json").data
        assert {(one["kind"], one["file"], one["change"]) for one in data} == {
            ("ConfigMap", "config.yml", "changed"),
            ("Secret", "keys.openai", "changed"),
        }
        assert stage.run("diff", "-n", stage.namespace).code == Exit.FINE, "diff must not write"

    def test_diff_of_a_move_shows_both_gateways_and_a_move_to_nowhere_none(self, stage: Stage, tmp_path: Path) -> None:
        """A model leaves its gateway only if the other one takes it, as the operator does it."""
        stage.create(gateway(), gateway("other"), keys(), model())
        stage.settle()
        moved = write_manifests(tmp_path / "move.yaml", model(gateway_name="other"))
        data = stage.run("diff", moved, "-n", stage.namespace, "-o", "json").data
        documents = {one["name"]: one["lines"] for one in data if one["kind"] == "ConfigMap"}
        models = {name: [line[:7] for line in lines if line[1:7] == '"chat"'] for name, lines in documents.items()}
        assert models == {"main-config": ['-"chat"'], "other-config": ['+"chat"']}
        lost = write_manifests(tmp_path / "lost.yaml", model(gateway_name="nowhere"))
        assert stage.run("diff", lost, "-n", stage.namespace, "-o", "json").data == []

    def test_diff_refuses_files_that_admission_would_refuse(self, stage: Stage, tmp_path: Path) -> None:
        """A rule that is broken and a key of the fixed structure that is gone are named with their place: exit code 2."""
        stage.create(gateway(app={"port": 8000, "debug": True}), keys(), model())
        stage.settle()
        file = write_manifests(tmp_path / "bad.yaml", gateway(app={"port": 8000}), model(current="huge"))
        refused = stage.run("diff", file, "-n", stage.namespace)
        assert refused.code == Exit.USAGE, refused
        assert "Cannot delete key 'debug' from spec.app. Structure is fixed." in refused.out
        assert "VirtualModel/chat: spec.current: 'huge' names no backend" in refused.out

    def test_foreign_config_map_is_told_and_never_shown_as_to_be_written(self, stage: Stage) -> None:
        """The operator touches no object of somebody else, so a diff does not pretend that it would."""
        foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "main-config"}, "data": {"mine": "yes"}}
        stage.create(foreign, gateway(), keys(), model())
        stage.settle()
        seen = stage.run("diff", "-n", stage.namespace)
        assert "NameTaken" in seen.err
        assert "config.yml" not in seen.out
        assert "NameTaken" in stage.run("status", "-n", stage.namespace).out


def _nowhere() -> dict[str, str]:
    return {"name": "keys", "key": "nowhere"}
