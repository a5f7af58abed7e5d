"""The local control plane behaves as a cluster does where tests rely on it, outages included, and leaves nothing."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.audit import WRITES
from hack.controlplane import NEEDED, ControlPlane
from hack.process import ServerError
from tests.conftest import require_binaries
from tests.eventually import eventually

pytestmark = pytest.mark.apiserver

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "owners.hack.test"},
    "spec": {
        "group": "hack.test",
        "names": {"kind": "Owner", "plural": "owners", "singular": "owner"},
        "scope": "Namespaced",
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}},
        ],
    },
}


@pytest.fixture(scope="module")
def own_plane() -> Iterator[ControlPlane]:
    """A control plane that tests may break."""
    with ControlPlane.start(binaries=require_binaries(NEEDED)) as started:
        yield started


def make(plane: ControlPlane, path: str, name: str, token: str | None = None, **rest: Any) -> Any:
    """Create an object and return it as the server stored it."""
    answer = plane.request("POST", path, {"metadata": {"name": name, **rest.pop("metadata", {})}, **rest}, token=token)
    assert answer.status == 201, answer.body
    return answer.body


def configmaps(namespace: str) -> str:
    """Path of the ConfigMaps of a namespace."""
    return f"/api/v1/namespaces/{namespace}/configmaps"


def gone(plane: ControlPlane, path: str, within_seconds: float) -> None:
    """Wait until nothing is at `path`."""

    def check() -> None:
        answer = plane.request("GET", path)
        assert answer.status == 404, f"{path} is still there: {answer.body}"

    eventually(check, within_seconds=within_seconds)


def owned_by(kind: str, version: str, owner: Any) -> dict[str, Any]:
    """Metadata that names `owner` as the controller."""
    reference = {"apiVersion": version, "kind": kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    return {"ownerReferences": [{**reference, "controller": True}]}


def running(pid: int) -> bool:
    """Whether a process is there; one that ended and was not collected by anybody does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_owned_object_goes_when_its_owner_goes(plane: ControlPlane, namespace: str) -> None:
    """The garbage collector is at work from the first moment."""
    owner = make(plane, configmaps(namespace), "owner")
    make(plane, configmaps(namespace), "owned", metadata=owned_by("ConfigMap", "v1", owner))
    make(plane, configmaps(namespace), "free")

    plane.request("DELETE", f"{configmaps(namespace)}/owner")

    gone(plane, f"{configmaps(namespace)}/owned", within_seconds=20)
    assert plane.request("GET", f"{configmaps(namespace)}/free").status == 200


def test_objects_owned_by_a_kind_installed_later_are_collected_at_once(own_plane: ControlPlane, tmp_path: Path) -> None:
    """`install_crds` does not leave the garbage collector blind for up to 30 seconds."""
    (tmp_path / "crd.json").write_text(json.dumps(CRD))
    own_plane.install_crds(tmp_path)
    path = "/apis/hack.test/v1/namespaces/default/owners"
    owner = make(own_plane, path, "o", apiVersion="hack.test/v1", kind="Owner")
    make(own_plane, configmaps("default"), "owned-by-o", metadata=owned_by("Owner", "hack.test/v1", owner))

    own_plane.request("DELETE", f"{path}/o")

    gone(own_plane, f"{configmaps('default')}/owned-by-o", within_seconds=10)


def test_a_service_account_may_do_only_what_it_is_granted(plane: ControlPlane, namespace: str) -> None:
    """RBAC is on: without a Role reading Secrets is refused, with one it works, with an unknown token nothing does."""
    token = plane.token_for_service_account(namespace, "default")
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    refused = plane.request("GET", secrets, token=token)
    assert refused.status == 403
    assert f'cannot list resource "secrets" in API group "" in the namespace "{namespace}"' in refused.body["message"]
    assert plane.request("GET", secrets, token="made-up").status == 401

    plane.kubectl("create", "role", "-n", namespace, "reader", "--verb=list", "--resource=secrets", check=True)
    subject = f"--serviceaccount={namespace}:default"
    plane.kubectl("create", "rolebinding", "-n", namespace, "reader", "--role=reader", subject, check=True)

    def granted() -> None:
        assert plane.request("GET", secrets, token=token).status == 200

    eventually(granted, within_seconds=20)


def test_a_kubeconfig_for_a_token_acts_as_its_user(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """What kubectl does with it is done as the ServiceAccount; nobody else may read the file."""
    token = plane.token_for_service_account(namespace, "default")
    path = plane.kubeconfig_for("limited", token, tmp_path / "config")

    said = plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=path, check=True).stdout

    assert f"system:serviceaccount:{namespace}:default" in said
    assert path.stat().st_mode & 0o077 == 0


def test_kubectl_with_check_reports_what_the_server_said(plane: ControlPlane) -> None:
    """A failed command names itself and the reason."""
    with pytest.raises(ServerError, match=r'kubectl get pod nobody: exit code 1: .*pods "nobody" not found'):
        plane.kubectl("get", "pod", "nobody", check=True)


def test_a_restricted_namespace_refuses_a_privileged_pod(plane: ControlPlane, namespace: str) -> None:
    """PodSecurity admission is on."""
    plane.kubectl("label", "ns", namespace, "pod-security.kubernetes.io/enforce=restricted", check=True)
    container = {"name": "c", "image": "i", "securityContext": {"privileged": True}}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container]}}

    refused = plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)

    assert refused.status == 403
    assert 'violates PodSecurity "restricted' in refused.body["message"]
    make(plane, "/api/v1/namespaces/default/pods", f"p-{namespace}", spec={"containers": [container]})


def test_the_audit_log_counts_exactly_the_writes_since_a_mark(plane: ControlPlane, namespace: str) -> None:
    """Reads, others' writes and earlier writes are told apart; a write counts at once."""
    make(plane, configmaps(namespace), "before")
    mark = plane.audit_mark()
    body = {"metadata": {"name": "one"}, "data": {"x": "y" * 200_000}}
    for number in range(20):
        plane.request("POST", configmaps(namespace), {**body, "metadata": {"name": f"n{number}"}}, user_agent="writer/1")
        plane.request("GET", f"{configmaps(namespace)}/n{number}", user_agent="writer/1")
    plane.request("PATCH", f"/api/v1/namespaces/{namespace}/status", {}, content_type="application/merge-patch+json")

    writes = plane.audit_since(mark, verbs=WRITES, user_agent="writer/", namespace=namespace)

    assert [(record.verb, record.resource, record.code) for record in writes] == [("create", "configmaps", 201)] * 20
    assert len(plane.audit_since(mark, verbs={"get"}, user_agent="writer/")) == 20
    assert len(plane.audit_since(mark, resource="namespaces/status", user="aigateway-admin")) == 1
    assert plane.audit_since(plane.audit_mark(), verbs=WRITES, namespace=namespace) == []


def test_an_audit_record_never_holds_a_body(plane: ControlPlane, namespace: str) -> None:
    """Secrets do not leak into the log: it is at Metadata level."""
    make(plane, f"/api/v1/namespaces/{namespace}/secrets", "s", stringData={"key": "p4ssw0rd-in-a-secret"})
    mark = plane.audit_mark()
    plane.request("GET", f"/api/v1/namespaces/{namespace}/secrets/s")
    assert [record.name for record in plane.audit_since(mark, resource="secrets")] == ["s"]
    log = plane.audit_log.read_text()
    assert "p4ssw0rd-in-a-secret" not in log
    assert base64.b64encode(b"p4ssw0rd-in-a-secret").decode() not in log


def test_data_and_tokens_outlive_a_killed_api_server(own_plane: ControlPlane) -> None:
    """Same port, same data, same credentials; in between connections are refused."""
    make(own_plane, configmaps("default"), "kept", data={"a": "b"})
    token = own_plane.token_for_service_account("default", "default")
    url = own_plane.url

    own_plane.kill_apiserver()
    with pytest.raises(ConnectionRefusedError):
        own_plane.request("GET", "/version")
    own_plane.start_apiserver()

    assert own_plane.url == url
    assert own_plane.request("GET", f"{configmaps('default')}/kept").body["data"] == {"a": "b"}
    assert own_plane.request("GET", configmaps("default"), token=token).status == 403, "an unknown token would get 401"


def test_a_paused_api_server_accepts_and_stays_silent(own_plane: ControlPlane) -> None:
    """What a hung server looks like to a client; it goes on where it was."""
    own_plane.pause_apiserver()
    try:
        with pytest.raises(TimeoutError):
            own_plane.request("GET", "/version", timeout_seconds=0.5)
    finally:
        own_plane.resume_apiserver()
    assert own_plane.request("GET", "/version").status == 200


def test_clients_with_strict_certificate_checks_are_served(own_plane: ControlPlane) -> None:
    """Python 3.13 checks certificates strictly by default, so ours must be good enough for that."""
    context = ssl.create_default_context(cafile=str(own_plane.ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    port = int(own_plane.url.rsplit(":", 1)[1])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_stop_leaves_no_process_no_port_and_no_folder() -> None:
    """Also while the API server is paused, and when called twice."""
    plane = ControlPlane.start(binaries=require_binaries(NEEDED))
    pids, port, directory = list(plane.pids.values()), int(plane.url.rsplit(":", 1)[1]), plane.directory
    assert len(pids) == 3
    plane.pause_apiserver()

    plane.stop()
    plane.stop()

    assert [pid for pid in pids if running(pid)] == []
    assert not directory.exists()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended just now do not count
        probe.bind(("127.0.0.1", port))


def test_nothing_outlives_an_owner_that_was_killed() -> None:
    """SIGKILL gives an owner no chance to clear up; the reaper does it instead."""
    require_binaries(NEEDED)
    program = (
        "import time; from hack.controlplane import ControlPlane; plane = ControlPlane.start();"
        "print(plane.directory, *plane.pids.values(), flush=True); time.sleep(600)"
    )
    root = Path(__file__).resolve().parents[2]
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        directory, *pids = owner.stdout.readline().split()
        assert len(pids) == 3
        owner.kill()

    def cleared() -> None:
        assert [pid for pid in pids if running(int(pid))] == []
        assert not Path(directory).exists()

    eventually(cleared, within_seconds=20)


def test_a_server_that_dies_while_starting_is_reported_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text holds the server's own words, and what was started before is gone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ServerError, match=r"(?s)kube-apiserver ended with exit code 1 .*unknown flag: --no-such-flag"):
        ControlPlane.start(binaries=require_binaries(NEEDED), apiserver_args=["--no-such-flag"])
    assert list(tmp_path.iterdir()) == []


def test_a_second_start_takes_less_than_15_seconds() -> None:
    """What is promised to whoever starts one again; about 4 seconds as a rule."""
    binaries = require_binaries(NEEDED)
    started = time.monotonic()
    ControlPlane.start(binaries=binaries).stop()
    assert time.monotonic() - started < (15 if not os.environ.get("CI") else 30)
