"""`aigateway render`: the operator's own documents from files, and no secret on any screen."""

from __future__ import annotations

import json
import stat
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from aigateway_operator.cli.exits import Exit
from tests.cli_suite import BACKEND_KEY, CALLER_KEY, gateway, keys, model, run_cli, write_manifests


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A gateway, a model and its keys."""
    return write_manifests(tmp_path / "m.yaml", gateway(), keys(), model())


def test_manifests_are_printed_with_secrets_hidden(file: str) -> None:
    """What the operator would make, as kubectl would show it; names of credentials, not their values."""
    rendered = run_cli("render", file)
    assert rendered.code == Exit.FINE, rendered
    objects = {obj["metadata"]["name"]: obj for obj in yaml.safe_load_all(rendered.out)}
    assert set(objects) == {"main-config", "main-credentials"}
    assert objects["main-credentials"]["stringData"]["keys.openai"] == "<redacted>"
    manifest = json.loads(objects["main-credentials"]["stringData"]["_manifest.json"])
    assert (manifest["keys"], manifest["missing"]) == (["keys.openai", "keys.proxy"], [])
    document = json.loads(objects["main-config"]["data"]["config.yml"])
    assert document["ai-gateway"]["virtual_models"]["chat"]["current"] == "small"
    assert not any(secret in rendered.out + rendered.err for secret in (CALLER_KEY, BACKEND_KEY))
    assert "ownerReferences" not in rendered.out, "with an owner that does not exist the garbage collector would delete them"
    listed = json.loads(run_cli("render", file, "-o", "json").out)
    assert [item["metadata"]["name"] for item in listed["items"]] == list(objects)


def test_folder_holds_files_as_pods_see_them(file: str, tmp_path: Path) -> None:
    """A document verifies against its manifest; credentials are written on request alone, for their owner alone."""
    out = tmp_path / "out"
    assert run_cli("render", file, "-o", str(out)).code == Exit.FINE
    config = out / "default" / "main" / "config"
    assert sorted(path.name for path in config.iterdir()) == ["config.manifest.json", "config.yml"]
    manifest = json.loads((config / "config.manifest.json").read_text())
    assert sha256((config / "config.yml").read_bytes()).hexdigest() == manifest["sha256"]
    assert not (out / "default" / "main" / "credentials").exists()
    assert run_cli("render", file, "--output-dir", str(out), "--with-secrets").code == Exit.FINE
    secret = out / "default" / "main" / "credentials" / "keys.openai"
    assert secret.read_text() == BACKEND_KEY
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_credentials_file_that_was_readable_by_all_is_narrowed(file: str, tmp_path: Path) -> None:
    """An earlier file with wider rights does not stay open, and its longer content does not stay behind."""
    secret = tmp_path / "out" / "default" / "main" / "credentials" / "keys.openai"
    secret.parent.mkdir(parents=True)
    secret.write_text("x" * 1000)
    secret.chmod(0o644)
    run_cli("render", file, "-o", str(tmp_path / "out"), "--with-secrets")
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == (BACKEND_KEY, 0o600)


def test_rendering_twice_gives_the_same_bytes(file: str) -> None:
    """Uids are made from names: a rendering can be kept in git and compared."""
    assert run_cli("render", file).out == run_cli("render", file).out


def test_broken_object_is_named_and_the_others_are_rendered(tmp_path: Path) -> None:
    """One bad model never stops the others, and the exit code says that something was left out."""
    file = write_manifests(tmp_path / "m.yaml", gateway(), keys(), model(), model("bad", current="huge"))
    rendered = run_cli("render", file)
    assert rendered.code == Exit.REFUSED
    assert "VirtualModel/bad: spec.current" in rendered.err
    assert '"chat":' in rendered.out
    assert '"bad":' not in rendered.out


def test_missing_secret_is_told_and_no_failure(tmp_path: Path) -> None:
    """Secrets usually live elsewhere; documents are rendered all the same and the manifest lists what is missing."""
    file = write_manifests(tmp_path / "m.yaml", gateway(), model())
    rendered = run_cli("render", file)
    assert rendered.code == Exit.FINE
    assert "SecretNotFound" in rendered.err
    assert '"missing":["keys.openai","keys.proxy"]' in rendered.out


def test_model_without_its_gateway_is_told(tmp_path: Path) -> None:
    """Nothing is rendered for a gateway that is not there, and that is said."""
    rendered = run_cli("render", write_manifests(tmp_path / "m.yaml", keys(), model()))
    assert rendered.out == ""
    assert "default/main" in rendered.err
    assert "1 model that name it are not rendered" in rendered.err


def test_shards_become_config_maps_of_their_own(tmp_path: Path) -> None:
    """All shards exist, also empty ones, and each model is in exactly one."""
    models = [model(f"m{n}") for n in range(8)]
    file = write_manifests(tmp_path / "m.yaml", gateway(delivery={"shards": 3}), keys(), *models)
    run_cli("render", file, "-o", str(tmp_path / "out"))
    config = tmp_path / "out" / "default" / "main" / "config"
    found = [json.loads((config / f"models-0{n}.yml").read_text())["ai-gateway"]["virtual_models"] for n in range(3)]
    assert sorted(name for one in found for name in one) == sorted(f"m{n}" for n in range(8))


def test_secrets_are_never_written_without_a_folder(file: str) -> None:
    """`--with-secrets` alone would print them: refused, with what to add."""
    refused = run_cli("render", file, "--with-secrets")
    assert refused.code == Exit.USAGE
    assert "Add -o DIR" in refused.err
    assert refused.out == ""


def test_folder_that_cannot_be_written_is_a_sentence(file: str, tmp_path: Path) -> None:
    """A file in the way is no traceback."""
    (tmp_path / "out").write_text("a file")
    refused = run_cli("render", file, "-o", str(tmp_path / "out"))
    assert refused.code == Exit.USAGE
    assert "cannot be written" in refused.err
