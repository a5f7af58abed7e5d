"""The Dockerfile keeps its rules: what comes from outside is named by hash, and the final images run as nobody in particular.

Read, not built: tests/image/test_contents.py runs its steps, `python -m hack image` builds it.
"""

import re
from pathlib import Path

import pytest

from hack.image.dockerfile import Instruction, parse_arguments, parse_dockerfile
from hack.image.steps import ROOT, TARGETS
from hack.requirements import build_digest

FILE = parse_dockerfile((ROOT / "Dockerfile").read_text())
EVERY = [(stage, instruction) for stage in FILE.stages.values() for instruction in stage.instructions]
PIP_INSTALL = re.compile(r"pip --python \S+ install (?P<arguments>[^&]+)")


def installs() -> list[tuple[Instruction, str]]:
    """Every `pip install` of the file, with the line that holds it."""
    return [
        (instruction, found["arguments"])
        for _, instruction in EVERY
        if instruction.keyword == "RUN"
        for found in PIP_INSTALL.finditer(instruction.text)
    ]


def test_only_base_from_outside_is_an_argument_without_a_host_and_with_a_version() -> None:
    """Whoever builds chooses the base; its default names no registry and no moving `latest`."""
    outside = {stage.base for stage in FILE.stages.values()} - set(FILE.stages)
    assert outside == {"${PYTHON_IMAGE}${PYTHON_DIGEST}"}
    default = FILE.arguments["PYTHON_IMAGE"]
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", default)
    assert FILE.arguments["PYTHON_DIGEST"] == ""


def test_every_package_from_outside_is_hashed_and_brings_no_code_to_the_build() -> None:
    """A `pip install` either takes nothing but hashed wheels, or reads our own wheel without an index."""
    assert len(installs()) == 5
    outside = [text for _, text in installs() if "--no-index" not in text]
    assert len(outside) == 3
    assert [text for text in outside if not {"--require-hashes", "--only-binary=:all:", "-r"} <= set(text.split())] == []
    own = [text for _, text in installs() if "--no-index" in text]
    assert [text for text in own if "--no-deps" not in text or "/wheels/aigateway-*.whl" not in text] == []


def test_settings_of_package_sources_reach_no_layer() -> None:
    """Where packages come from, and with which password, is a secret of the build: neither ARG nor ENV nor COPY."""
    for instruction, text in installs():
        secrets = {value for name, value in instruction.flags if name == "mount"}
        expected = {"type=secret,id=pip,target=/etc/pip.conf", "type=secret,id=ca,target=/run/secrets/ca.pem"}
        assert secrets == (set() if "--no-index" in text else expected)
    named = [
        i.text for _, i in EVERY if i.keyword in {"ARG", "ENV"} and re.search(r"pip|index|token|proxy", i.text, re.IGNORECASE)
    ]
    assert named == []


def test_nothing_is_added_from_an_address_and_nothing_fetched_by_hand() -> None:
    """ADD of a URL, curl and wget take what a server happens to send."""
    assert [i for _, i in EVERY if i.keyword == "ADD"] == []
    assert [i.text for _, i in EVERY if re.search(r"https?://|\bcurl\b|\bwget\b|\bapt(-get)?\b", i.text)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_final_image_runs_the_command_as_a_numeric_user_and_holds_our_folder_only(target: str) -> None:
    """kubelet's runAsNonRoot needs a number; beside the slimmed base there is one COPY, from a stage that built it."""
    line = FILE.line_of(target)
    assert [stage.name for stage in line] == ["base", "final", target]
    instructions = [instruction for stage in line for instruction in stage.instructions]
    said = {keyword: [i.text for i in instructions if i.keyword == keyword] for keyword in {i.keyword for i in instructions}}
    assert said["USER"] == ["65532:65532"]
    assert said["ENTRYPOINT"] == ['["aigateway"]']
    assert said["STOPSIGNAL"] == ["SIGTERM"]
    assert said["COPY"] == ["/opt/aigateway /opt/aigateway"]
    assert said["CMD"] == [{"operator": '["run"]', "gateway": '["gateway"]'}[target]]
    assert "HEALTHCHECK" not in said
    assert [text for text in said["RUN"] if "pip" in text] == []
    labels = re.findall(r"org\.opencontainers\.image\.(\w+)=", said["LABEL"][0])
    assert labels == ["title", "description", "licenses", "version", "revision", "created", "source"]


def test_each_argument_has_a_line_of_its_own() -> None:
    """buildah of Debian 12 reads only the first of several and loses the others without failing."""
    assert [i.text for _, i in EVERY if i.keyword == "ARG" and len(parse_arguments(i.text)) != 1] == []


def test_engine_is_sent_what_the_dockerfile_copies_and_nothing_else() -> None:
    """.dockerignore lets in exactly the sources of COPY and of bind mounts: no .git, no tests, no local secret."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {word for _, i in EVERY if i.keyword == "COPY" and not i.flag("from") for word in i.text.split()[:-1]}
    bound = {found[1] for _, i in EVERY for _, value in i.flags if (found := re.search(r"type=bind,source=([^,]+)", value))}
    assert let_in == copied | bound
    assert [name for name in let_in if not (ROOT / name).exists()] == []


def test_reader_refuses_a_line_before_the_first_stage_and_a_nameless_stage() -> None:
    """What it cannot place is an error: a rule that reads too little would pass."""
    with pytest.raises(ValueError, match="before the first FROM"):
        parse_dockerfile("RUN true\n")
    with pytest.raises(ValueError, match="a stage needs a name"):
        parse_dockerfile("FROM python\n")


def test_folder_of_requirements_has_what_the_image_installs() -> None:
    """Both files are pinned; the operator's image installs what tests run with (tests/unit/test_repository.py)."""
    assert [name for name in ("build", "runtime", "gateway") if not Path(ROOT, "requirements", f"{name}.txt").exists()] == []
    text = (ROOT / "requirements" / "build.txt").read_text()
    assert f"# inputs: {build_digest()}\n" in text, "build-system.requires has changed: run `make requirements`"
