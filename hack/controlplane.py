"""A Kubernetes control plane of one's own: etcd, kube-apiserver and kube-controller-manager on free local ports.

Real servers with what a cluster has switched on (RBAC, PodSecurity admission, an audit log, garbage collection with
the controllers' own service accounts), but no nodes: pods are stored and never run. etcd does not sync to disk, so data
outlives a killed server but not a lost machine. It must not know anything of this project's kinds: CRDs are handed in.
Called by tests (`tests/conftest.py`), the demo and `python -m hack up`.

    with ControlPlane.start() as plane:
        plane.kubectl("get", "namespaces")
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hack import audit
from hack.apiclient import ApiClient, Response
from hack.audit import AuditFilter, AuditMark, AuditRecord
from hack.process import REAPER, ServerError, ServerProcess, free_ports, listening

NEEDED: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
"""The binaries a control plane is made of."""

CONTROLLERS: Final = (
    "garbage-collector-controller", "namespace-controller", "serviceaccount-controller",
    "serviceaccount-token-controller", "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller", "validatingadmissionpolicy-status-controller",
)  # fmt: skip
"""What a cluster does to objects that this project makes or is granted; nothing that would need nodes."""

_ATTEMPTS_AT_FREE_PORTS = 3
_CONTROLLER_MANAGER = "system:kube-controller-manager"
_FENCE_PATH = "/version?aigateway-audit-fence="
_COLLECTING = b"roceeding to collect garbage"  # what the garbage collector logs, in every version from 1.32
_COLLECTING_WITHIN_SECONDS = 10


class ControlPlane:
    """A running control plane. Made by `start`; ended by `stop`, by leaving a `with`, or by the end of this process.

    Attributes: `url` of the API server; `ca_file`, what clients verify it with; `admin_token`, a bearer token in
    `system:masters`; `kubeconfig`, a file with all three; `audit_log`; `directory`, where everything lies;
    `binaries`, name to path.
    """

    def __init__(
        self, directory: Path, binaries: Mapping[str, Path], *, temporary: bool, apiserver_args: Sequence[str],
        controllers: Sequence[str], service_proxy: Path | None = None,
    ) -> None:  # fmt: skip
        """Use `start`. `temporary` says that `stop` removes `directory`."""
        self.directory = directory
        self.binaries = dict(binaries)
        self.admin_token = secrets.token_urlsafe(24)
        self._controller_token = secrets.token_urlsafe(24)
        self._temporary = temporary
        self._certificates = directory / "apiserver"
        self.ca_file = self._certificates / "apiserver.crt"
        self.audit_log = directory / "audit.log"
        self.kubeconfig = directory / "kubeconfig"
        self._apiserver_args = tuple(apiserver_args)
        self._controllers = tuple(controllers)
        self._service_proxy = service_proxy
        logs = directory / "logs"
        for folder in (directory / "etcd", self._certificates, logs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._etcd = ServerProcess("etcd", logs / "etcd.log")
        self._apiserver = ServerProcess("kube-apiserver", logs / "kube-apiserver.log")
        self._controller_manager = ServerProcess("kube-controller-manager", logs / "kube-controller-manager.log")
        self._choose_ports()

    @classmethod
    def start(
        cls, directory: Path | None = None, *, binaries: Mapping[str, Path] | None = None, crds: Sequence[Path] = (),
        apiserver_args: Sequence[str] = (), controllers: Sequence[str] = CONTROLLERS, ready_within_seconds: float = 60,
        service_proxy: Path | None = None,
    ) -> Self:  # fmt: skip
        """Start all three servers and return when they are ready, usually after 4 seconds.

        `directory` is emptied of nothing and kept by `stop`; None makes a temporary one that `stop` removes. `binaries`
        None asks `hack.binaries.ensure`, which may download or build. `crds` (files or folders) are established before
        the controller manager starts, since its garbage collector looks for new kinds only every 30 seconds.
        `apiserver_args` come last, so they win. `service_proxy` is a Unix socket on which somebody serves HTTP CONNECT: all
        connections into the cluster (webhooks) go through it, by Service address (`hack.node`). ServerError, with the end of
        a log, when a server dies or is late; nothing is left running then.
        """
        if binaries is None:
            from hack.binaries import ensure  # late: those who bring their own need none of it

            binaries = ensure(NEEDED)
        temporary = directory is None
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="aigateway-plane-"))
            REAPER.tell("+folder", directory)
        plane = cls(
            directory.resolve(), binaries, temporary=temporary, apiserver_args=apiserver_args, controllers=controllers,
            service_proxy=service_proxy,
        )  # fmt: skip
        plane.launch(crds, ready_within_seconds)
        return plane

    def launch(self, crds: Sequence[Path], ready_within_seconds: float) -> None:
        """What `start` does once everything is chosen; not to be called again."""
        try:
            self._start_servers(ready_within_seconds)
            if crds:
                self._apply_crds(crds)
            self._start_controller_manager(ready_within_seconds)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill all servers at once and remove a temporary folder. May be called again."""
        self._client.close()
        for server in (self._controller_manager, self._apiserver, self._etcd):
            server.kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
            REAPER.tell("-folder", self.directory)

    # What is done to servers, for tests of outages.

    def kill_apiserver(self) -> None:
        """SIGKILL the API server: connections break, its port refuses. Data stays in etcd."""
        self._apiserver.kill()

    def start_apiserver(self, ready_within_seconds: float = 60) -> None:
        """Start the API server again on the same port, with the same data, certificate and tokens; wait until ready."""
        self._apiserver.start(self._apiserver_command())
        self._apiserver.wait_ready(self._apiserver_ready, ready_within_seconds)

    def pause_apiserver(self) -> None:
        """SIGSTOP: it accepts connections and answers nothing, as a hung one does."""
        self._apiserver.signal(signal.SIGSTOP)

    def resume_apiserver(self) -> None:
        """SIGCONT after `pause_apiserver`."""
        self._apiserver.signal(signal.SIGCONT)

    def restart_controller_manager(self) -> None:
        """Kill and start the controller manager; its garbage collector then knows every kind there is."""
        self._controller_manager.kill()
        self._start_controller_manager(60)

    def install_crds(self, *paths: Path) -> None:
        """Apply CRDs (files or folders), wait until established, let the garbage collector learn of them at once."""
        self._apply_crds(paths)
        self.restart_controller_manager()

    # What clients need.

    @property
    def url(self) -> str:
        """Base URL of the API server."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def etcd_url(self) -> str:
        """Base URL of etcd; its /metrics tell how much was written. Plain HTTP, on this machine only."""
        return f"http://127.0.0.1:{self._etcd_port}"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the servers that run, by name."""
        servers = (self._etcd, self._apiserver, self._controller_manager)
        return {server.name: server.pid for server in servers if server.pid is not None}

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = None,
        content_type: str = "application/json", user_agent: str = "aigateway-hack", timeout_seconds: float = 10.0,
    ) -> Response:  # fmt: skip
        """One HTTPS request, as the administrator unless `token` is given; see `ApiClient.request`."""
        return self._client.request(
            method, path, body, token=token, content_type=content_type, user_agent=user_agent,
            timeout_seconds=timeout_seconds,
        )  # fmt: skip

    def kubectl(
        self, *arguments: str | Path, input: str | None = None, kubeconfig: Path | None = None,   # noqa: A002 (as subprocess)
        check: bool = False, timeout_seconds: float = 60,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run kubectl as the administrator, or as `kubeconfig` says. With `check`, ServerError on a non-zero exit
        whose text holds what kubectl said; without, look at the result.
        """
        command = [
            str(self.binaries["kubectl"]), f"--kubeconfig={kubeconfig or self.kubeconfig}",
            f"--cache-dir={self.directory / 'kubectl-cache'}", *(str(argument) for argument in arguments),
        ]  # fmt: skip
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.directory)}
        done = subprocess.run(
            command, input=input, stdin=subprocess.DEVNULL if input is None else None, capture_output=True, text=True,
            timeout=timeout_seconds, env=environment, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            spoken = " ".join(str(argument) for argument in arguments)
            raise ServerError(f"kubectl {spoken}: exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def kubeconfig_for(self, name: str, token: str, path: Path) -> Path:
        """Write a kubeconfig for the bearer `token` to `path` (readable by its owner only) and return `path`."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "local", "user": name}}],
            "current-context": name,
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1) + "\n")
        return path

    def token_for_service_account(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A fresh bearer token of an existing ServiceAccount, by TokenRequest; valid `seconds` (the server wants 600 or
        more). ServerError when it is refused.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
        answer = self.request("POST", path, body)
        if answer.status != 201:
            raise ServerError(f"no token for ServiceAccount {namespace}/{name}: HTTP {answer.status}: {answer.body}")
        return str(answer.body["status"]["token"])

    def audit_mark(self) -> AuditMark:
        """The present end of the audit log, behind every request that has been answered."""
        self._audit_fence()
        return audit.end_of(self.audit_log)

    def audit_since(
        self, mark: AuditMark, *, user: str | None = None, user_agent: str | None = None,
        verbs: Collection[str] | None = None, resource: str | None = None, namespace: str | None = None,
        name: str | None = None,
    ) -> list[AuditRecord]:  # fmt: skip
        """Requests answered since `mark` that pass the filters of `AuditFilter`, oldest first; see `audit.WRITES`."""
        self._audit_fence()
        wanted = AuditFilter(user, user_agent, verbs, resource, namespace, name)
        return [
            record
            for record in audit.read_records(self.audit_log, mark)
            if wanted.accepts(record) and not record.uri.startswith(_FENCE_PATH)
        ]

    def _audit_fence(self) -> None:
        """Make sure that the records of all requests answered so far are in the log.

        The server writes a record when a handler returns, which for a long answer is after its first bytes went out. A
        request of our own, sent later, is looked for instead of guessing a time (3 ms; over HTTP/1.1 none of 300 records
        came late without it). Nothing to do when the server is down.
        """
        if not self._apiserver.running:
            return
        start = audit.end_of(self.audit_log)
        uri = f"{_FENCE_PATH}{secrets.token_hex(8)}"
        try:
            self.request("GET", uri)
        except OSError:
            return
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if any(record.uri == uri for record in audit.read_records(self.audit_log, start)):
                return
            time.sleep(0.005)
        raise ServerError(f"the audit log {self.audit_log} did not record a request within 5 s")

    # How servers are started.

    def _choose_ports(self) -> None:
        self._port, self._etcd_port, self._peer_port, self._controller_port = free_ports(4)
        self._client = ApiClient(self._port, self.ca_file, self.admin_token)

    def _start_servers(self, within_seconds: float) -> None:
        for attempt in range(1, _ATTEMPTS_AT_FREE_PORTS + 1):
            try:
                self._etcd.start(self._etcd_command())
                self._write_files()
                self._etcd.wait_ready(lambda: listening(self._etcd_port), within_seconds)
                self.start_apiserver(within_seconds)
            except ServerError as error:
                if "address already in use" not in str(error) or attempt == _ATTEMPTS_AT_FREE_PORTS:
                    raise
                self._apiserver.kill()
                self._etcd.kill()
                self._client.close()
                self._choose_ports()
            else:
                return

    def _write_files(self) -> None:
        tokens = self.directory / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(
            f'{self.admin_token},aigateway-admin,1,"system:masters"\n{self._controller_token},{_CONTROLLER_MANAGER},2\n'
        )
        (self.directory / "audit-policy.json").write_text(json.dumps(audit.POLICY))
        (self.directory / "egress.json").write_text(json.dumps(self._egress()))
        self.kubeconfig_for("aigateway-admin", self.admin_token, self.kubeconfig)
        self.kubeconfig_for(_CONTROLLER_MANAGER, self._controller_token, self.directory / "controller-manager.kubeconfig")

    def _etcd_command(self) -> list[str | Path]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            self.binaries["etcd"], "--name=local", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=local={peer}", "--log-level=warn",
        ]  # fmt: skip

    def _egress(self) -> dict[str, object]:
        """How the API server reaches the cluster's network: through `service_proxy`, else directly."""
        selections = []
        if self._service_proxy is not None:
            transport = {"uds": {"udsName": str(self._service_proxy)}}
            connection = {"proxyProtocol": "HTTPConnect", "transport": transport}
            selections.append({"name": "cluster", "connection": connection})
        kind = {"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration"}
        return {**kind, "egressSelections": selections}

    def _apiserver_command(self) -> list[str | Path]:
        # The server makes its own certificate and key; the key also signs service account tokens, since nothing in
        # the standard library makes one, and it is there before the server reads it (MaybeDefaultWithSelfSignedCerts).
        key = self._certificates / "apiserver.key"
        return [
            self.binaries["kube-apiserver"], f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self._port}",
            f"--cert-dir={self._certificates}", f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
            # Services are dialled by their cluster address where a proxy leads on, else by their endpoints.
            f"--enable-aggregator-routing={'false' if self._service_proxy else 'true'}", "--allow-privileged=true",
            f"--egress-selector-config-file={self.directory / 'egress.json'}",
            f"--audit-policy-file={self.directory / 'audit-policy.json'}", f"--audit-log-path={self.audit_log}",
            "--audit-log-format=json", "--audit-log-mode=blocking", "--audit-log-maxsize=100000", *self._apiserver_args,
        ]  # fmt: skip

    def _apiserver_ready(self) -> bool:
        return self.ca_file.exists() and self._client.request("GET", "/readyz", timeout_seconds=2).status == 200

    def _start_controller_manager(self, within_seconds: float) -> None:
        log = self._controller_manager.log
        offset = log.stat().st_size if log.exists() else 0
        self._controller_manager.start([
            self.binaries["kube-controller-manager"],
            f"--kubeconfig={self.directory / 'controller-manager.kubeconfig'}", "--leader-elect=false",
            f"--controllers={','.join(self._controllers)}", "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._certificates / 'apiserver.key'}",
            f"--root-ca-file={self.ca_file}", "--bind-address=127.0.0.1", f"--secure-port={self._controller_port}",
            f"--cert-dir={self.directory / 'controller-manager'}",
        ])  # fmt: skip
        self._controller_manager.wait_ready(self._controllers_at_work, within_seconds)
        if "garbage-collector-controller" in self._controllers:
            self._await_garbage_collector(offset)

    def _await_garbage_collector(self, offset: int) -> None:
        """Wait until it has seen all objects, which it says nowhere but in its log. Should that text change one day,
        starting takes longer and nothing else is lost.
        """
        deadline = time.monotonic() + _COLLECTING_WITHIN_SECONDS
        while time.monotonic() < deadline:
            with self._controller_manager.log.open("rb") as log:
                log.seek(offset)
                if _COLLECTING in log.read():
                    return
            time.sleep(0.02)

    def _controllers_at_work(self) -> bool:
        """Whether `default` has its ServiceAccount: the controllers have their tokens and have begun."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        return listening(self._controller_port) and self._client.request("GET", path).status == 200

    def _apply_crds(self, paths: Sequence[Path]) -> None:
        sources = [part for path in paths for part in ("-f", str(path))]
        self.kubectl("apply", "--server-side", *sources, check=True)
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *sources, check=True)
