"""Where binaries are found, which are passed over, and what is said when there are none."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hack import binaries, cache, gobuild, tools
from hack.binaries import MissingBinaries, ensure, locate
from hack.tools import TOOLS, Kubernetes, ToolError, ask_version, misfit, wanted_kubernetes

PINNED = Kubernetes((1, 36), "1.36.3", chosen=False)


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing: empty PATH, empty cache, no network. Returns its empty folder in PATH."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AIGATEWAY_OFFLINE", "1")
    for name in ("KUBEBUILDER_ASSETS", "AIGATEWAY_KUBERNETES_VERSION"):
        monkeypatch.delenv(name, raising=False)
    return folder


def program(folder: Path, name: str, says: str, code: int = 0) -> Path:
    """An executable that prints `says`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def cached(name: str, version: str, says: str, tmp_path: Path) -> Path:
    """An entry in the cache, as a download or a build leaves it."""
    made = program(tmp_path / "made", name, says)
    return cache.install(name, version, made, origin="a test", inputs=gobuild.inputs_of(TOOLS[name]))


def test_a_program_in_path_whose_version_does_not_fit_is_passed_over(bare: Path, tmp_path: Path) -> None:
    """A kubectl that is too old is no kubectl: the one in the cache is taken."""
    program(bare, "kubectl", "Client Version: v1.32.4-dispatcher")
    good = cached("kubectl", "1.36.3", "Client Version: v1.36.3", tmp_path)
    assert locate(["kubectl"]) == {"kubectl": good}


def test_a_misfit_is_named_with_its_version_and_what_is_wanted(bare: Path) -> None:
    """Whoever has kubectl learns why that one does not do."""
    found = program(bare, "kubectl", "Client Version: v1.32.4")
    with pytest.raises(MissingBinaries, match=f"PATH: {found} is 1.32.4, wanted is at most one minor away from 1.36"):
        locate(["kubectl"])


def test_a_program_that_fits_in_path_is_taken_before_the_cache(bare: Path, tmp_path: Path) -> None:
    """PATH comes first."""
    mine = program(bare, "helm", "v3.17.0+g301108e")
    cached("helm", tools.HELM, f"v{tools.HELM}", tmp_path)
    assert locate(["helm"]) == {"helm": mine}


def test_assets_of_another_kubernetes_are_taken_and_the_rest_must_fit_them(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI runs several versions through KUBEBUILDER_ASSETS: kubectl follows the server found, not the pinned one."""
    assets = tmp_path / "assets"
    server = program(assets, "kube-apiserver", "Kubernetes v1.33.2")
    kubectl = program(assets, "kubectl", "Client Version: v1.34.0")
    program(bare, "kube-controller-manager", "Kubernetes v1.36.3")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))

    assert locate(["kube-apiserver", "kubectl"]) == {"kube-apiserver": server, "kubectl": kubectl}
    with pytest.raises(MissingBinaries, match=r"is 1\.36\.3, wanted is 1\.33, as the API server's"):
        locate(["kube-apiserver", "kube-controller-manager"])


def test_a_chosen_version_passes_over_assets_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong server would test something else than was asked for."""
    program(tmp_path / "assets", "kube-apiserver", "Kubernetes v1.33.2")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("AIGATEWAY_KUBERNETES_VERSION", "1.35")
    with pytest.raises(MissingBinaries, match=r"is 1\.33\.2, wanted is 1\.35"):
        locate(["kube-apiserver"])
    cached("kube-apiserver", "1.35.7", "Kubernetes v1.35.7", tmp_path)
    cached("kube-apiserver", "1.35.10", "Kubernetes v1.35.10", tmp_path)
    assert locate(["kube-apiserver"])["kube-apiserver"].parent.name == "kube-apiserver-1.35.10"


@pytest.mark.parametrize("asked", ["1.31", "2.0", "latest", "1", "1.36.x"])
def test_an_impossible_version_is_refused_with_what_it_may_be(asked: str) -> None:
    """The variable is named, its value and its form too."""
    with pytest.raises(ToolError, match=r"AIGATEWAY_KUBERNETES_VERSION=.* no Kubernetes release from 1\.32 on; give one as"):
        wanted_kubernetes({"AIGATEWAY_KUBERNETES_VERSION": asked})


def test_versions_that_are_asked_for_are_understood() -> None:
    """A minor means its newest patch, but for the pinned one; a patch means itself."""
    assert wanted_kubernetes({}) == PINNED
    assert wanted_kubernetes({"AIGATEWAY_KUBERNETES_VERSION": "1.34"}) == Kubernetes((1, 34), None, chosen=True)
    assert wanted_kubernetes({"AIGATEWAY_KUBERNETES_VERSION": "1.36"}) == Kubernetes((1, 36), "1.36.3", chosen=True)
    assert wanted_kubernetes({"AIGATEWAY_KUBERNETES_VERSION": "v1.34.2"}) == Kubernetes((1, 34), "1.34.2", chosen=True)


@pytest.mark.parametrize(
    ("name", "version", "fits"),
    [
        ("kube-apiserver", (1, 32, 0), True), ("kube-apiserver", (1, 31, 9), False), ("kubectl", (1, 35, 0), True),
        ("kubectl", (1, 34, 9), False), ("kube-controller-manager", (1, 36, 0), True),
        ("kube-controller-manager", (1, 35, 9), False), ("etcd", (3, 5, 1), True), ("etcd", (3, 4, 30), False),
        ("etcd", (4, 0, 0), False), ("helm", (3, 14, 0), True), ("helm", (4, 0, 1), False),
        ("redis-server", (5, 0, 14), False), ("redis-server", (8, 0, 0), True), ("mongowire", (1, 24, 1), False),
        ("promtool", (2, 39, 1), False), ("promtool", (3, 5, 0), True), ("argolua", (1, 1, 1), False),
        ("kubeconform", (0, 5, 0), False), ("kubeconform", (0, 6, 7), True), ("kube-score", (1, 19, 0), False),
        ("kube-score", (1, 20, 0), True),
    ],
)  # fmt: skip
def test_which_versions_fit(name: str, version: tools.Version, fits: bool) -> None:
    """The rules, one by one, beside Kubernetes 1.36."""
    assert (misfit(TOOLS[name], version, PINNED) is None) is fits


@pytest.mark.parametrize(
    ("group", "module", "version"),
    [
        ("helm", "helm.sh/helm/v3", tools.HELM),
        ("kubeconform", "github.com/yannh/kubeconform", tools.KUBECONFORM),
        ("kubescore", "github.com/zegl/kube-score", tools.KUBE_SCORE),
    ],
)
def test_what_is_told_its_version_by_the_linker_is_of_that_version(group: str, module: str, version: str) -> None:
    """These would say whatever they are told, so asking them proves nothing."""
    assert f"require {module} v{version}\n" in (gobuild.SERVERS / group / "go.mod").read_text()


def test_a_program_that_fails_or_hangs_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the right name that cannot say what it is is no binary, and does not hold anybody up."""
    assert ask_version(TOOLS["helm"], program(tmp_path, "helm", "v3.19.4", code=1)) == "does not say its version (exit code 1)"
    monkeypatch.setattr(tools, "_ASK_TIMEOUT_SECONDS", 0.2)
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    sleeper.chmod(0o755)
    assert ask_version(TOOLS["helm"], sleeper) == "does not say its version within 0.2 s"


def test_a_damaged_entry_in_the_cache_does_not_count(tmp_path: Path) -> None:
    """One byte is enough; an entry without marker, of another platform, or made from other sources is none either."""
    entry = cached("helm", tools.HELM, f"v{tools.HELM}", tmp_path)
    assert locate(["helm"]) == {"helm": entry}
    entry.write_text(entry.read_text().replace("exit 0", "exit 1"))
    with pytest.raises(MissingBinaries, match="is broken or outdated, so it is made again"):
        locate(["helm"])

    whole = cached("mongowire", tools.MONGOWIRE, "mongowire v1.24.2", tmp_path)
    assert cache.find("mongowire", tools.MONGOWIRE, inputs="other sources") is None
    marker = whole.parent / "verified.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "platform": ["plan9", "mips"]}))
    assert cache.find("mongowire", tools.MONGOWIRE, inputs=gobuild.inputs_of(TOOLS["mongowire"])) is None
    marker.unlink()
    assert cache.find("mongowire", tools.MONGOWIRE, inputs=gobuild.inputs_of(TOOLS["mongowire"])) is None


def test_an_entry_that_was_only_touched_still_counts(tmp_path: Path) -> None:
    """A restored backup has other times but the same content."""
    entry = cached("helm", tools.HELM, f"v{tools.HELM}", tmp_path)
    entry.touch()
    assert locate(["helm"]) == {"helm": entry}


def test_a_damaged_entry_is_made_again(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ensure` builds anew what `locate` passes over, with a Go of which only the result is looked at."""
    entry = cached("helm", tools.HELM, f"v{tools.HELM}", tmp_path)
    entry.write_text("damaged")
    fake_go(bare, builds=f"v{tools.HELM}", name="helm")

    assert ensure(["helm"]) == {"helm": entry}
    assert ask_version(TOOLS["helm"], entry) == tools.parse_version(tools.HELM)
    assert locate(["helm"]) == {"helm": entry}


def fake_go(folder: Path, *, builds: str, name: str, version: str = "go1.26.0", seconds: float = 0) -> None:
    """A Go that "builds" a program saying `builds`, and counts its builds in `count` beside it."""
    go = folder / "go"
    go.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys, time\n"
        "here = pathlib.Path(__file__).parent\n"
        f"if sys.argv[1] == 'version': print('go version {version} linux/amd64'); raise SystemExit\n"
        "with (here / 'count').open('a') as stream: stream.write('x')\n"
        f"time.sleep({seconds})\n"
        f"made = pathlib.Path(sys.argv[sys.argv.index('-o') + 1]) / '{name}'\n"
        f"made.write_text('#!/bin/sh\\necho \"{builds}\"\\n'); made.chmod(0o755)\n"
    )
    go.chmod(0o755)


def test_a_build_of_the_wrong_version_is_refused(bare: Path) -> None:
    """What is built is asked, too: a wrong pin must not end up in the cache."""
    fake_go(bare, builds="v3.18.0", name="helm")
    with pytest.raises(MissingBinaries, match=r"build: the helm just built says \(3, 18, 0\), not 3\.19\.4"):
        ensure(["helm"])


def test_a_go_that_is_too_old_is_named(bare: Path) -> None:
    """Its version and the wanted one; nothing is tried with it."""
    fake_go(bare, builds="", name="helm", version="go1.19.8")
    with pytest.raises(MissingBinaries, match=r"go is 1\.19\.8; wanted is 1\.26 or newer"):
        ensure(["helm"])
    assert not (bare / "count").exists()


def test_another_kubernetes_than_the_pinned_one_is_not_built(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules are those of one release; building that instead would test something else than was asked for."""
    monkeypatch.setenv("AIGATEWAY_KUBERNETES_VERSION", "1.34")
    fake_go(bare, builds="Client Version: v1.36.3", name="kubectl")
    with pytest.raises(MissingBinaries, match=r"build: only 1\.36\.3 can be built, 1\.34 is wanted"):
        ensure(["kubectl"])


def test_a_failed_build_shows_the_end_of_its_log(bare: Path) -> None:
    """Go's own words, and where the rest of them are."""
    program(bare, "go", "go version go1.26.0 linux/amd64 # cannot find module", code=3)
    with pytest.raises(MissingBinaries, match=r"(?s)go build failed with exit code 3; the end of .*cannot find module"):
        ensure(["etcd"])


def test_two_processes_do_not_build_the_same_twice(bare: Path) -> None:
    """The second waits for the first and takes what it made."""
    fake_go(bare, builds=f"v{tools.HELM}", name="helm", seconds=1)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(ensure(["helm"])["helm"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(found) == 3
    assert len(set(found)) == 1
    assert (bare / "count").read_text() == "x"


def test_with_nothing_at_hand_the_message_names_all_that_is_missing_and_all_that_would_do(tmp_path: Path) -> None:
    """As a newcomer sees it, through the command line, within seconds: everything at once, no traceback."""
    root = Path(__file__).resolve().parents[2]
    started = time.monotonic()
    environment = {"PATH": str(tmp_path / "none"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "AIGATEWAY_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hack", "binaries"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    first = next(line for line in done.stderr.splitlines() if line.startswith("Missing:"))
    assert [name for name in binaries.ALL if name not in first] == []
    for remedy in ("Go 1.26 or newer", "https://dl.k8s.io", "KUBEBUILDER_ASSETS=<folder>", "Redis 6 or newer in PATH"):
        assert remedy in done.stderr
    assert "build: Go is not in PATH" in done.stderr
    assert time.monotonic() - started < 10


def test_nothing_but_the_cache_is_touched(tmp_path: Path) -> None:
    """A failed run leaves a cache folder at most, with no half-made entry in it."""
    with pytest.raises(MissingBinaries):
        ensure(["etcd", "redis-server"])
    assert not list((tmp_path / "cache").rglob("verified.json"))
    shutil.rmtree(tmp_path / "cache")
