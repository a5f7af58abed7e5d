"""examples/04-local: the folder of the laptop serves a real caller, and the containers' file fits the folder it mounts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.cli_suite import run_cli
from tests.eventually import eventually
from tests.gateway.test_local_serving import Start, ask, caller, start  # noqa: F401 - a fixture
from tests.stub_upstream import StubUpstream

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "04-local"


def test_laptop_serves_and_follows_an_edit(tmp_path: Path, start: Start) -> None:  # noqa: F811 - the fixture
    """As the page says: a key of the folder, a keyless server behind it, `current: big` written, the other model answers."""
    folder = tmp_path / "laptop"
    shutil.copytree(EXAMPLE / "laptop", folder)
    models = folder / "20-models.yaml"
    with StubUpstream() as ollama:
        models.write_text(models.read_text().replace("http://127.0.0.1:11434/v1", ollama.base_url))
        program = start(folder, "--serve", "--port", 0)
        url = program.wait("serving")["url"]
        with caller(url, "my-chat-key") as client:
            assert ask(client, ollama) == "llama3.2"
            assert "Authorization" not in ollama.requests[-1].headers
            models.write_text(models.read_text().replace("current: small", "current: big"))

            def flipped() -> None:
                assert ask(client, ollama) == "qwen2.5:14b"

            eventually(flipped, within_seconds=20)
        assert program.end() == 0


def compose() -> dict[str, Any]:
    """Return the parsed file."""
    parsed: dict[str, Any] = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    return parsed


def test_containers_mount_a_folder_that_is_right_and_are_started_as_the_command_line_allows(tmp_path: Path) -> None:
    """The command of the gateway's container, with what needs one left out, renders the folder without a fault."""
    service = compose()["services"]["gateway"]
    source = EXAMPLE / service["volumes"][0]["source"]
    paths = {service["volumes"][0]["target"]: str(source), service["working_dir"]: str(tmp_path), "--serve": "--once"}
    program, *arguments = [paths.get(word, word) for word in service["command"]]
    assert program == "aigateway"
    done = run_cli(*arguments)
    assert done.code == 0, done.out + done.err
    assert (tmp_path / "local" / "compose" / "config" / "config.yml").is_file()
    assert not (source / ".aigateway").exists()


def test_hosts_of_the_folder_are_services_of_the_file() -> None:
    """Every store and backend that the manifests name is a container; images are variables; nothing is open to others."""
    services = compose()["services"]
    hosts = set()
    for file in (EXAMPLE / "compose").glob("*.yaml"):
        for obj in yaml.safe_load_all(file.read_text()):
            hosts |= {store["host"] for store in obj.get("spec", {}).get("storage", {}).values()}
            hosts |= {obj["spec"]["baseUrl"].split("/")[2].split(":")[0]} if "baseUrl" in obj.get("spec", {}) else set()
    assert hosts == services.keys() - {"gateway"}
    assert all(service["image"].startswith("${") for service in services.values())
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8000:8000"]
    named = {volume.split(":")[0] for name, one in services.items() if name != "gateway" for volume in one.get("volumes", [])}
    assert named == compose()["volumes"].keys()
