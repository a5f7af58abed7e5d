"""What the images hold, shown without an engine: the Dockerfile's own steps, run in a sandbox, and looked at from inside.

The first run installs all packages (about a minute); later ones take them from the cache and only add our wheel.
"""

import copy
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.image.build import check_contents, pip_secrets
from hack.image.engine import EngineError, find_engine, why_unfit
from hack.image.sandbox import Sandbox, SandboxError, why_not
from hack.image.slim import slim
from hack.image.steps import TARGETS, Steps
from hack.image.verdict import faults, parse_found

SETTINGS = {"PATH": "/opt/aigateway/bin:/usr/bin:/bin", "HOME": "/tmp"}


@pytest.fixture(scope="session")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    """The Dockerfile's steps; skips loudly where neither namespaces nor CI are, fails in CI."""
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(f"CI must show what is inside the images: {reason}")
        pytest.skip(f"the images' contents were NOT checked: {reason}")
    folder = tmp_path_factory.mktemp("image")
    yield Steps(folder)
    shutil.rmtree(folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", TARGETS)
def test_image_works_as_nobody_with_a_read_only_root_and_no_network(steps: Steps, target: str) -> None:
    """Every module imports, nothing but /tmp is writable, no installer or test is inside, all is compiled in place."""
    told, size_mb = check_contents(steps, target)
    assert told == []
    assert size_mb > 20
    said = Sandbox(steps.make(f"{target}-build")).run(["aigateway", "gateway", "--help"], environment=SETTINGS)
    assert (said.returncode, "AIGATEWAY" in said.stdout + said.stderr or "usage" in said.stdout) == (0, True), said.stderr
    lacking = Sandbox(steps.make(f"{target}-build")).run(["aigateway", "run"], environment=SETTINGS)
    assert lacking.returncode != 0
    assert "Traceback" not in lacking.stderr


@pytest.mark.timeout(600)
def test_gateway_image_brings_neither_kopf_nor_cluster_client(steps: Steps) -> None:
    """Gateway pods carry what they use: the operator's libraries are not in their image."""
    packages = next(steps.make("gateway-build").glob("opt/aigateway/lib/python3*/site-packages"))
    assert (packages / "fastapi").is_dir()
    assert [name for name in ("kopf", "kubernetes", "cryptography") if (packages / name).exists()] == []


@pytest.mark.timeout(600)
def test_step_that_wants_a_network_without_saying_so_fails(steps: Steps, tmp_path: Path) -> None:
    """The sandbox has no way out unless a step is given one, or "needs no network" would be claimed, not shown."""
    tmp_path.chmod(0o755)
    ask = 'import socket; socket.create_connection(("192.0.2.1", 9), timeout=2)'
    done = Sandbox(tmp_path).run(
        [f"{sys.base_prefix}/bin/python3", "-c", ask], environment={"PATH": "/usr/bin:/bin"}, as_user=False
    )
    assert "Network is unreachable" in done.stderr


def good() -> dict[str, Any]:
    """What `inside` finds in an image that is as it must be."""
    return {
        "uid": 65532, "gid": 65532, "prefix": "/opt/aigateway", "python": "3.13.1", "modules": 200, "failed_imports": [],
        "writable": [], "tmp": True, "network": False, "bytecode": 100, "odd_bytecode": [], "uncompiled": [], "tests": [],
        "installers": [], "compilers": [], "setuid": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("uid", 0, "runs as 0:65532"),
        ("prefix", "/usr", "environment is /usr"),
        ("modules", 2, "2 modules"),
        ("tmp", False, "temporary files"),
        ("network", True, "had a network"),
        ("failed_imports", ["aigateway_logs: ImportError"], "cannot be imported"),
        ("writable", ["/etc"], "/etc: can be written"),
        ("odd_bytecode", ["/x.pyc: compiled elsewhere"], "compiled elsewhere"),
        ("uncompiled", ["/x.py"], "is not compiled"),
        ("tests", ["/tests"], "tests do not belong"),
        ("installers", ["pip"], "pip: can be imported"),
        ("compilers", ["gcc"], "gcc: is in PATH"),
        ("setuid", ["/bin/su"], "/bin/su: is setuid"),
    ],
)
def test_each_fault_inside_is_told(key: str, value: object, said: str) -> None:
    """An image that is fine in all but one thing is judged by that thing."""
    found = good()
    assert faults(found) == []
    found = copy.deepcopy(found) | {key: value}
    assert len(faults(found)) == 1
    assert said in faults(found)[0]
    assert parse_found("noise\n" + json.dumps(found)) == found


def test_slimmed_base_has_no_installer_and_no_setuid_bit_and_is_compiled(tmp_path: Path) -> None:
    """On a root like that of the published base and on one like Debian's; what runs is left alone."""
    library, debian = tmp_path / "usr/local/lib/python3.13", tmp_path / "usr/lib/python3/dist-packages"
    site = library / "site-packages"
    for folder in (site / "pip", site / "pip-25.0.dist-info", library / "ensurepip", library / "json", debian / "pip",
                   debian / "setuptools", tmp_path / "usr/local/bin", tmp_path / "usr/bin", tmp_path / "etc"):  # fmt: skip
        folder.mkdir(parents=True)
    for file in (library / "json/decoder.py", library / "ensurepip/__init__.py", tmp_path / "usr/local/bin/pip3",
                 tmp_path / "usr/local/bin/python3", tmp_path / "usr/bin/su"):  # fmt: skip
        file.write_text("x = 1\n")
    (tmp_path / "usr/bin/su").chmod(0o4755)
    for name in ("passwd", "group"):
        (tmp_path / "etc" / name).write_text("root:x:0:\n")
    slim(tmp_path, library, (site, debian))
    slim(tmp_path, library, (site, debian))  # again: nothing is added twice
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert [path for path in left if "pip" in path or "setuptools" in path] == []
    assert {"usr/local/bin/python3", "usr/bin/su", "usr/local/lib/python3.13/json/decoder.py"} <= left
    assert (tmp_path / "usr/bin/su").stat().st_mode & stat.S_ISUID == 0
    compiled = next((library / "json/__pycache__").glob("decoder.*.pyc")).read_bytes()
    assert int.from_bytes(compiled[4:8], "little") == 1, "not an unchecked hash: a changed time would compile it anew"
    assert (tmp_path / "etc/passwd").read_text() == "root:x:0:\naigateway:x:65532:65532::/tmp:/usr/sbin/nologin\n"


def test_missing_engines_are_named_with_reasons_and_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who has none learns of each why not, and what to do instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_unfit("podman") == "not in PATH"
    with pytest.raises(EngineError, match=r"(?s)docker: not in PATH.+buildah: not in PATH.+--engine none"):
        find_engine()


def test_docker_that_cannot_mount_secrets_is_refused_before_it_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Docker from 23 on without its plugin buildx would stop at the first RUN with an error that names neither."""
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\n[ "$1" = buildx ] && exit 1\necho "28.1.0 28.1.0"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "buildx" in why_unfit("docker")
    program.write_text('#!/bin/sh\n[ "$1" = buildx ] && exit 1\necho "20.10.24 20.10.24"\n')
    assert why_unfit("docker") == ""


def test_pip_settings_are_handed_on_as_a_file_that_others_cannot_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An index address may hold a password."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:word@packages.example.com/simple")
    monkeypatch.setenv("PIP_CERT", str(bundle))
    with pip_secrets() as secrets:
        text = secrets["pip"].read_text()
        assert "index-url = https://me:word@packages.example.com/simple" in text
        assert "cert = /run/secrets/ca.pem" in text
        assert secrets["ca"] == bundle
        assert secrets["pip"].stat().st_mode & 0o077 == 0
    assert not secrets["pip"].exists()


def test_command_line_knows_the_targets_and_the_engines() -> None:
    """`python -m hack image` refuses a target that does not exist, before anything is started."""
    done = subprocess.run(
        [sys.executable, "-m", "hack", "image", "webhook"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "There is no image webhook; there are operator, gateway.\n")


def test_sandbox_says_what_failed(tmp_path: Path) -> None:
    """A program that takes too long ends as an error that names it."""
    if reason := why_not():
        pytest.skip(reason)
    tmp_path.chmod(0o755)  # pytest keeps it to the user
    with pytest.raises(SandboxError, match="`sleep 30` was not done after 1 s"):
        Sandbox(tmp_path).run(["sleep", "30"], environment={"PATH": "/usr/bin:/bin"}, limit_seconds=1)
