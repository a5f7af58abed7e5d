"""The stand-in for a kubelet mounts what a kubelet mounts, swaps it at once, and takes the time a kubelet takes."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hack.controlplane import ControlPlane
from hack.kubelet import FAST, REAL, KubeletVolumes, StandInPod, Timing
from hack.kubelet.sources import MountError, payload_of
from hack.kubelet.timing import POKE_SECONDS, Loop, Schedule
from hack.kubelet.volumes import Writing
from hack.kubelet.writer import File, write_volume
from hack.process import ServerError
from tests.eventually import eventually

# -- the swap


def payload(**files: str) -> dict[str, File]:
    """Return files by name, `_` in a name standing for a dot."""
    return {name.replace("_", "."): File(text.encode()) for name, text in files.items()}


def contents(volume: Path) -> dict[str, str]:
    """Return what a program sees in a volume."""
    return {path.name: path.read_text() for path in volume.iterdir() if not path.name.startswith("..")}


def test_volume_holds_exactly_the_payload_after_each_swap(tmp_path: Path) -> None:
    """Files come, change and go; nothing but one data folder and its link is left behind."""
    assert write_volume(tmp_path, payload(a_yml="1", b_yml="1"))
    assert contents(tmp_path) == {"a.yml": "1", "b.yml": "1"}
    assert write_volume(tmp_path, payload(b_yml="2", c_yml="2"))
    assert contents(tmp_path) == {"b.yml": "2", "c.yml": "2"}
    assert write_volume(tmp_path, {})
    assert contents(tmp_path) == {}
    hidden = sorted(path.name for path in tmp_path.iterdir())
    assert len(hidden) == 2, hidden
    assert (tmp_path / "..data").readlink().name in hidden


def test_equal_payload_is_not_written_again(tmp_path: Path) -> None:
    """A sync that changes nothing moves no link: readers that watch the folder are not woken."""
    write_volume(tmp_path, payload(a_yml="1"))
    before = (tmp_path / "..data").readlink()
    assert not write_volume(tmp_path, payload(a_yml="1"))
    assert (tmp_path / "..data").readlink() == before
    assert write_volume(tmp_path, {"a.yml": File(b"1", 0o400)}), "another mode is a change"
    assert (tmp_path / "a.yml").stat().st_mode & 0o777 == 0o400


def test_two_files_read_through_one_resolved_link_always_belong_together(tmp_path: Path) -> None:
    """However often the volume is swapped, a reader that resolved `..data` once sees one set or finds it gone; never a mix."""
    write_volume(tmp_path, payload(a_yml="0", b_yml="0"))
    done = threading.Event()

    def write() -> None:
        for number in range(1, 300):
            write_volume(tmp_path, payload(a_yml=str(number), b_yml=str(number)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[str] = set()
    while not done.is_set():
        data = tmp_path / (tmp_path / "..data").readlink()
        try:
            first, second = (data / "a.yml").read_text(), (data / "b.yml").read_text()
        except FileNotFoundError:
            continue
        assert first == second
        seen.add(first)
    writer.join()
    assert len(seen) > 3, "the reader hardly ever read: the test shows nothing"


def test_files_in_folders_are_shown_by_their_first_part(tmp_path: Path) -> None:
    """`items` may name a path with folders; programs reach it through one link at the top."""
    write_volume(tmp_path, {"models/00.yml": File(b"x")})
    assert (tmp_path / "models" / "00.yml").read_text() == "x"
    assert (tmp_path / "models").is_symlink()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "..data", ""])
def test_path_that_leads_out_of_the_volume_is_refused(tmp_path: Path, path: str) -> None:
    """Nothing is written outside the folder, and nothing takes the place of the link."""
    with pytest.raises(ValueError, match="is no path inside a volume"):
        write_volume(tmp_path / "volume", {path: File(b"")})
    assert list(tmp_path.iterdir()) == []


def test_file_never_shows_its_content() -> None:
    """A volume may hold secrets, and a failing test prints what it compares."""
    assert "canary" not in repr(File(b"canary"))


# -- what a volume is to hold


def projected(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a projected volume."""
    return {"name": "config", "projected": {"sources": list(sources), **more}}


VALUES = {("ConfigMap", "one"): {"a": b"1", "b": b"1"}, ("ConfigMap", "two"): {"b": b"2"}, ("Secret", "one"): {"key": b"k"}}
POD: dict[str, Any] = {"metadata": {"name": "pod-0", "annotations": {"x": "y"}}, "spec": {}}


def test_projected_sources_are_joined_and_the_later_one_wins() -> None:
    """Shards and the gateway's own ConfigMap are one folder."""
    volume = projected(
        {"configMap": {"name": "one"}}, {"configMap": {"name": "two"}}, {"secret": {"name": "one"}}, defaultMode=0o440
    )
    assert payload_of(volume, POD, VALUES) == {"a": File(b"1", 0o440), "b": File(b"2", 0o440), "key": File(b"k", 0o440)}


def test_items_choose_and_rename_keys() -> None:
    """Only what is listed is there, under its path and mode; a key that is missing is an error unless optional."""
    source: dict[str, Any] = {"name": "one", "items": [{"key": "a", "path": "x/a.yml", "mode": 0o400}]}
    assert payload_of(projected({"configMap": source}), POD, VALUES) == {"x/a.yml": File(b"1", 0o400)}
    source["items"].append({"key": "gone", "path": "gone"})
    with pytest.raises(MountError, match="references non-existent configmap key: gone"):
        payload_of(projected({"configMap": source}), POD, VALUES)
    assert set(payload_of(projected({"configMap": {**source, "optional": True}}), POD, VALUES) or ()) == {"x/a.yml"}


@pytest.mark.parametrize("kind", ["configMap", "secret"])
def test_missing_source_is_an_error_unless_optional(kind: str) -> None:
    """As in `kubectl describe pod`."""
    plain = {"name": "v", kind: {"name": "gone", "secretName": "gone"}}
    with pytest.raises(MountError, match=f'{kind.lower()} "gone" not found'):
        payload_of(plain, POD, VALUES)
    assert payload_of({"name": "v", kind: {"name": "gone", "secretName": "gone", "optional": True}}, POD, VALUES) == {}


def test_volume_of_another_kind_is_named() -> None:
    """A host path that silently stayed empty would send a test on a wrong track."""
    with pytest.raises(MountError, match="hostPath is not known here"):
        payload_of({"name": "v", "hostPath": {"path": "/"}}, POD, VALUES)


# -- time, without waiting


def delays(timing: Timing, count: int, *causes: str, pause: float = 10.0) -> list[float]:
    """Return seconds from the last of `causes` to the sync, `pause` seconds between a sync and the next cause."""
    schedule, now, found = Schedule(timing, Random(7)), 0.0, []
    for _ in range(count):
        now += pause
        for cause in causes:
            getattr(schedule, cause)(now)
        assert schedule.due is not None
        found.append(schedule.due - now)
        now = schedule.due
        schedule.synced(now)
    return found


def test_poked_pod_is_synced_in_a_tenth_of_a_second() -> None:
    """35 to 225 ms, in the middle a tenth: the real one's median was 104."""
    found = delays(REAL, 500, "changed", "poked")
    assert 0.035 <= min(found) < 0.05
    assert 0.2 < max(found) <= 0.225
    assert statistics.median(found) == pytest.approx(0.104, abs=0.01)


@pytest.mark.parametrize(("seen_after", "counted"), [(0.0, 0.0), (0.003, 0.0), (0.05, 0.05 - POKE_SECONDS)])
def test_delay_begins_with_the_answer_to_the_write(seen_after: float, counted: float) -> None:
    """As it was measured, a poke's own request included; a poke that is sent late adds what it is late."""
    schedules = [Schedule(REAL, Random(1)) for _ in range(2)]
    for schedule in schedules:
        schedule.changed(10.0)
    schedules[0].poked(10.0)
    schedules[1].poked(10.0 + seen_after)
    at_once, late = (schedule.due for schedule in schedules)
    assert at_once is not None
    assert late == pytest.approx(at_once + counted)


def test_files_of_pods_that_are_synced_together_begin_so_much_earlier_as_they_take() -> None:
    """A delay ends when the last pod has its files; never so early that the shortest one would not be waited for."""
    writing = Writing(REAL)
    assert writing.lead_seconds == 0.0
    for began in (1.0, 1.005, 3.0, 3.005):
        writing.took(began, began + 0.005)
    assert writing.lead_seconds == pytest.approx(0.01)
    writing.took(5.0, 5.2)
    assert writing.lead_seconds == pytest.approx(0.0175)


@pytest.mark.parametrize("pause", [0.1, 0.3, 0.6])
def test_poke_within_a_second_of_the_last_sync_waits_for_the_relist(pause: float) -> None:
    """The sooner it comes the longer it waits, until a second after that sync: what makes a burst coalesce.

    The first few may find a relist that has just been; from the first that waits on, each sync comes right after one.
    """
    found = [delay + pause for delay in delays(REAL, 500, "changed", "poked", pause=pause)[10:]]
    assert found == pytest.approx([REAL.relist_seconds] * 490)


def test_poke_after_a_relist_does_not_wait() -> None:
    """A second and a bit after a sync a poke is taken up as quickly as any, for there has been a relist."""
    assert max(delays(REAL, 500, "changed", "poked", pause=1.1)) <= 0.225


def test_poke_between_the_sync_and_the_files_is_taken_up_after_the_next_relist() -> None:
    """It is not lost: the sync that runs may have read the pod before it. Any number of such pokes is one more sync."""
    schedule = Schedule(REAL, Random(1))
    schedule.poked(10.0)
    first = schedule.due
    assert first is not None
    for _ in range(3):
        schedule.poked(first - 0.01)
    schedule.synced(first)
    second = schedule.due
    assert second is not None
    assert 0.03 < second - 10.0 <= REAL.relist_seconds + 0.225
    schedule.synced(second)
    assert schedule.due is None


def test_pokes_that_wait_for_a_relist_do_not_bring_it_nearer() -> None:
    """More pokes are no lever: two hundred of them lead to the sync that the first one waits for."""
    patient, pushed = (Schedule(REAL, Random(1)) for _ in range(2))
    for schedule in (patient, pushed):
        schedule.poked(10.0)
        assert schedule.due is not None
        schedule.synced(schedule.due)
        schedule.poked(10.3)
    for number in range(200):
        pushed.poked(10.3 + number / 1000)
    assert pushed.due == patient.due


def test_change_without_a_poke_waits_for_the_periodic_sync() -> None:
    """30 to 75 s."""
    found = delays(REAL, 500, "changed")
    assert 30 <= min(found) < 32
    assert 73 < max(found) <= 75


def test_poke_ends_the_wait_for_the_periodic_sync_and_several_are_one() -> None:
    """The earliest cause decides, and nothing is due after the sync."""
    schedule = Schedule(REAL, Random(1))
    schedule.changed(0.0)
    assert (schedule.due or 0) >= 30
    schedule.poked(1.0)
    first = schedule.due
    assert first is not None
    assert first < 2
    schedule.poked(1.0)
    assert schedule.due == first
    schedule.synced(first)
    assert schedule.due is None


@pytest.mark.parametrize(
    ("pauses", "median", "ninety", "ninety_nine", "most", "within"),
    [((2.0, 3.0), 0.104, 0.181, 0.221, 0.225, 0.012), ((0.1, 0.9), 0.508, 0.836, 0.890, 0.910, 0.016)],
    ids=["quiet", "crowded"],
)
def test_two_pods_are_both_synced_when_two_pods_of_a_real_kubelet_were(
    pauses: tuple[float, float], median: float, ninety: float, ninety_nine: float, most: float, within: float
) -> None:
    """The measured times end when the later of two pods has a change; two pokes that arrive one after the other are one.

    Of crowded ones sixty were measured, the slowest after 890 ms.
    """
    dice = Random(5)
    loop = Loop(dice)
    schedules = [Schedule(REAL, dice, loop) for _ in range(2)]
    now, found = 0.0, []
    for _ in range(4000):
        now += dice.uniform(*pauses)
        for number, schedule in enumerate(schedules):
            schedule.poked(now + number * 0.004)
        both = max(schedule.due or 0.0 for schedule in schedules)
        found.append(both - now - 0.004)
        now = both
        for schedule in schedules:
            schedule.synced(now)
    found.sort()
    assert found[len(found) // 2] == pytest.approx(median, abs=within)
    assert found[len(found) * 9 // 10] == pytest.approx(ninety, abs=within)
    assert found[len(found) * 99 // 100] == pytest.approx(ninety_nine, abs=within / 2)
    assert found[-1] <= most + 0.001


def test_pods_that_are_poked_at_different_times_have_delays_of_their_own() -> None:
    """Otherwise one draw would decide a whole run."""
    dice = Random(5)
    loop = Loop(dice)
    schedules = [Schedule(REAL, dice, loop) for _ in range(20)]
    for number, schedule in enumerate(schedules):
        schedule.poked(float(number))
    assert len({round((schedule.due or 0.0) - number, 6) for number, schedule in enumerate(schedules)}) == 20


def test_same_seed_gives_the_same_delays() -> None:
    """A test that failed can be run again as it was."""
    assert delays(REAL, 20, "poked") == delays(REAL, 20, "poked")


# -- on the real API server


TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "reader"}},
    "spec": {
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "reader",
                "image": "reader",
                "env": [
                    {"name": "CONFIG", "value": "/etc/config"},
                    {"name": "FILE", "value": "/etc/config/a.yml"},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "volumeMounts": [{"name": "config", "mountPath": "/etc/config"}],
            }
        ],
        "volumes": [
            projected(
                {"configMap": {"name": "needed"}},
                {"configMap": {"name": "late", "optional": True}},
                {"secret": {"name": "keys", "optional": True}},
            ),
            {"name": "scratch", "emptyDir": {}},
        ],
    },
}


class Cluster:
    """Writes as an operator would: ConfigMaps, Secrets, pokes."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.root = f"/api/v1/namespaces/{namespace}"

    def put(self, kind: str, name: str, **values: str) -> None:
        field = "stringData" if kind == "secrets" else "data"
        body = {"metadata": {"name": name}, field: {key.replace("_", "."): text for key, text in values.items()}}
        answer = self.plane.request("PUT", f"{self.root}/{kind}/{name}", body)
        if answer.status == 404:
            answer = self.plane.request("POST", f"{self.root}/{kind}", body)
        assert answer.status in (200, 201), answer.body

    def delete(self, kind: str, name: str) -> None:
        assert self.plane.request("DELETE", f"{self.root}/{kind}/{name}").status == 200

    def poke(self, pod: str, value: str) -> None:
        body = {"metadata": {"annotations": {"ai-gateway.io/config-revision": value}}}
        path = f"{self.root}/pods/{pod}/status"
        answer = self.plane.request("PATCH", path, body, content_type="application/merge-patch+json")
        assert answer.status == 200, answer.body


@pytest.fixture
def cluster(plane: ControlPlane, namespace: str) -> Cluster:
    """The test's namespace, with the ConfigMap that the template needs."""
    made = Cluster(plane, namespace)
    made.put("configmaps", "needed", a_yml="1")
    return made


@pytest.fixture
def kubelet(plane: ControlPlane, namespace: str) -> Iterator[KubeletVolumes]:
    """A kubelet with short delays."""
    with KubeletVolumes(plane, namespace, timing=FAST) as started:
        yield started


@pytest.fixture
def pod(cluster: Cluster, kubelet: KubeletVolumes) -> Iterator[StandInPod]:
    """A pod without a process."""
    started = StandInPod.start(kubelet, "pod-0", TEMPLATE)
    yield started
    started.delete()


def holds(pod: StandInPod, **expected: str) -> None:
    """Wait until the volume of a pod holds exactly these files."""

    def check() -> None:
        assert contents(pod.folder("config")) == {key.replace("_", "."): text for key, text in expected.items()}

    eventually(check, within_seconds=20, every_seconds=0.01)


@pytest.mark.apiserver
def test_optional_sources_that_appear_later_are_mounted_and_go_again(cluster: Cluster, pod: StandInPod) -> None:
    """What a pod may start without comes with the next sync, and what was deleted leaves the folder."""
    holds(pod, a_yml="1")
    cluster.put("configmaps", "late", b_yml="1")
    cluster.put("secrets", "keys", key="canary")
    cluster.poke(pod.name, "1")
    holds(pod, a_yml="1", b_yml="1", key="canary")
    cluster.put("configmaps", "late")
    cluster.delete("secrets", "keys")
    cluster.poke(pod.name, "2")
    holds(pod, a_yml="1")


@pytest.mark.apiserver
def test_needed_source_that_vanishes_leaves_the_files_as_they_were(
    cluster: Cluster, pod: StandInPod, kubelet: KubeletVolumes
) -> None:
    """A kubelet cannot mount it again and says so; the program keeps what it has."""
    cluster.delete("configmaps", "needed")
    cluster.poke(pod.name, "1")
    eventually(lambda: _says(kubelet, pod, 'configmap "needed" not found'), within_seconds=20)
    assert contents(pod.folder("config")) == {"a.yml": "1"}
    cluster.put("configmaps", "needed", a_yml="2")
    holds(pod, a_yml="2")
    eventually(lambda: _says_nothing(kubelet, pod), within_seconds=20)


def _says_nothing(kubelet: KubeletVolumes, pod: StandInPod) -> None:
    assert kubelet.problem(pod.name) is None


def _says(kubelet: KubeletVolumes, pod: StandInPod, text: str) -> None:
    assert text in (kubelet.problem(pod.name) or "")


@pytest.mark.apiserver
def test_pod_whose_needed_source_is_missing_does_not_start_until_it_is_there(cluster: Cluster, kubelet: KubeletVolumes) -> None:
    """Mounted only when everything it needs is there; what is missing is named."""
    cluster.delete("configmaps", "needed")
    with pytest.raises(ServerError, match=r'pod-0.*configmap "needed" not found'):
        StandInPod.start(_impatient(kubelet), "pod-0", TEMPLATE)
    assert cluster.plane.request("GET", f"{cluster.root}/pods/pod-0").status == 404, "nothing is left of a pod that failed"
    cluster.put("configmaps", "needed", a_yml="3")
    pod = StandInPod.start(kubelet, "pod-0", TEMPLATE)
    holds(pod, a_yml="3")
    pod.delete()


def _impatient(kubelet: KubeletVolumes) -> KubeletVolumes:
    class Impatient:
        def __getattr__(self, name: str) -> Any:
            return getattr(kubelet, name)

        def wait_mounted(self, pod: str) -> Path:
            return kubelet.wait_mounted(pod, 0.5)

    return Impatient()  # type: ignore[return-value]  # all but one method is the kubelet's own


@pytest.mark.apiserver
def test_poke_brings_a_write_and_a_poke_before_the_write_misses_it(
    plane: ControlPlane, namespace: str, cluster: Cluster
) -> None:
    """Without a poke nothing arrives for half a minute; poked too early neither; a second poke repairs it at once."""
    timing = Timing((0.05, 0.05), (30, 30), (0.05, 0.05), 0.0)
    with KubeletVolumes(plane, namespace, timing=timing) as kubelet:
        pod = StandInPod.start(kubelet, "pod-0", TEMPLATE)
        volume = pod.folder("config")
        cluster.poke(pod.name, "early")
        eventually(lambda: _synced_since(kubelet, pod, "early"), within_seconds=20)
        started = time.monotonic()
        cluster.put("configmaps", "needed", a_yml="2")
        with pytest.raises(ServerError, match="was not written within"):
            kubelet.wait_swap(pod.name, "config", started, within_seconds=0.4)
        assert contents(volume) == {"a.yml": "1"}
        cluster.poke(pod.name, "again")
        swap = kubelet.wait_swap(pod.name, "config", started)
        assert contents(volume) == {"a.yml": "2"}
        assert swap.at - started < 5
        pod.delete()


def _synced_since(kubelet: KubeletVolumes, pod: StandInPod, value: str) -> None:
    assert kubelet.synced_annotations(pod.name).get("ai-gateway.io/config-revision") == value


@pytest.mark.apiserver
def test_same_annotation_again_is_no_poke(cluster: Cluster, pod: StandInPod, kubelet: KubeletVolumes) -> None:
    """The API server makes no event of it, and a status write is none for volumes either."""
    cluster.poke(pod.name, "1")
    eventually(lambda: _synced_since(kubelet, pod, "1"), within_seconds=20)
    syncs = kubelet.syncs(pod.name)
    cluster.poke(pod.name, "1")
    pod.set_status(phase="Running", ready=False)

    def status_was_seen() -> None:
        assert kubelet._pods[pod.name].body["status"]["conditions"][-1]["status"] == "False"

    eventually(status_was_seen, within_seconds=20)
    assert kubelet._pods[pod.name].schedule.due is None
    assert kubelet.syncs(pod.name) == syncs
    cluster.poke(pod.name, "2")
    eventually(lambda: _synced_since(kubelet, pod, "2"), within_seconds=20)
    assert kubelet.syncs(pod.name) == syncs + 1


@pytest.mark.apiserver
def test_pod_of_a_node_that_hangs_gets_nothing_until_it_is_back(
    cluster: Cluster, pod: StandInPod, kubelet: KubeletVolumes
) -> None:
    """What makes a straggler."""
    kubelet.hold(pod.name)
    started = time.monotonic()
    cluster.put("configmaps", "needed", a_yml="2")
    cluster.poke(pod.name, "1")
    with pytest.raises(ServerError, match="was not written within"):
        kubelet.wait_swap(pod.name, "config", started, within_seconds=0.7)
    kubelet.release(pod.name)
    holds(pod, a_yml="2")


@pytest.mark.apiserver
def test_outage_of_the_api_server_leaves_files_and_is_caught_up_with(cluster: Cluster, pod: StandInPod) -> None:
    """Watches come back by themselves."""
    cluster.plane.kill_apiserver()
    assert contents(pod.folder("config")) == {"a.yml": "1"}
    cluster.plane.start_apiserver()
    cluster.put("configmaps", "needed", a_yml="2")
    cluster.poke(pod.name, "1")
    holds(pod, a_yml="2")


SPEAKER = """
import http.server, os, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = pathlib.Path(os.environ["FILE"]).read_bytes()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *arguments): pass
print(os.environ["CONFIG"], os.environ["IP"], sys.argv[1], flush=True)
http.server.HTTPServer((os.environ["AIGATEWAY_STATUS_HOST"], 8081), Handler).serve_forever()
"""


@pytest.mark.apiserver
def test_two_pods_run_a_program_each_on_the_same_port(cluster: Cluster, kubelet: KubeletVolumes) -> None:
    """Each has its own address, its own folder for the path its container mounts, and is ready when its probe succeeds."""
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"]}}
    probe = {"httpGet": {"path": "/", "port": 8081}}
    template["spec"]["containers"] = [{**TEMPLATE["spec"]["containers"][0], "readinessProbe": probe}]
    pods = [
        StandInPod.start(kubelet, f"pod-{number}", template, ["python3", "-c", SPEAKER, "{volume:scratch}"])
        for number in range(2)
    ]
    try:
        for pod in pods:
            body = pod.body()
            assert (body["status"]["podIP"], body["status"]["phase"]) == (pod.ip, "Running")
            assert {"type": "Ready", "status": "True"}.items() <= body["status"]["conditions"][-1].items()
            assert pod.log.split() == [str(pod.folder("config")), pod.ip, str(pod.folder("scratch"))]
        assert pods[0].ip != pods[1].ip
        first = pods[0].process.pid if pods[0].process else None
        pods[0].restart()
        assert (pods[0].process.pid if pods[0].process else None) not in (None, first)
        pods[0].terminate()
        assert pods[0].process is not None
        assert not pods[0].process.running
        assert cluster.plane.request("GET", pods[0].path).status == 404
    finally:
        for pod in pods:
            pod.delete()


@pytest.mark.apiserver
def test_files_of_a_pod_go_with_it_and_a_new_one_of_that_name_starts_afresh(
    cluster: Cluster, pod: StandInPod, kubelet: KubeletVolumes
) -> None:
    """As on a node: folders belong to a uid."""
    before = pod.folder("config")
    pod.delete()
    eventually(lambda: _is_gone(before), within_seconds=20)
    again = StandInPod.start(kubelet, pod.name, TEMPLATE)
    assert again.folder("config") != before
    assert contents(again.folder("config")) == {"a.yml": "1"}
    again.delete()


def _is_gone(path: Path) -> None:
    assert not path.exists()
