"""Container engines: which is at hand, building the Dockerfile with it, and running the check inside what was built.

docker (with BuildKit: the file mounts secrets), podman and buildah. It must not decide what is built. Called by
`hack.image.build` and `hack.kind`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hack.image.sandbox import Sandbox, SandboxError, why_not
from hack.image.verdict import INSIDE

ENGINES: Final = ("docker", "podman", "buildah")
_ASK_SECONDS: Final = 20
_BUILD_SECONDS: Final = 1800
_LAST_CLI_WITH_BUILDKIT_INSIDE: Final = 22
"""Docker's own command line before 23 speaks to BuildKit by itself; newer ones need the plugin buildx."""


class EngineError(RuntimeError):
    """No engine, or it failed; the text names it, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine that answers. `name` is its program."""

    name: str

    def build(
        self, context: Path, tag: str, *, target: str = "", arguments: Mapping[str, str] | None = None,
        secrets: Mapping[str, Path] | None = None, show: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Build `context`/Dockerfile; `show` gets each line that the engine prints. EngineError when that fails."""
        command = [*self._build_command(), "--tag", tag, *(["--target", target] if target else [])]
        for name, value in (arguments or {}).items():
            command += ["--build-arg", f"{name}={value}"]
        for name, path in (secrets or {}).items():
            command += ["--secret", f"id={name},src={path}"]
        lines: list[str] = []
        with subprocess.Popen(
            [*command, str(context)], env={**os.environ, "DOCKER_BUILDKIT": "1", **self._environment()},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                for line in process.stdout or ():
                    lines.append(line.rstrip())
                    show(line.rstrip())
                code = process.wait(_BUILD_SECONDS)
            finally:
                process.kill()
        if code:
            tail = "\n".join(f"    {line}" for line in lines[-15:])
            raise EngineError(f"{self.name} could not build {tag} (exit code {code}); its last lines:\n{tail}")

    def look_inside(self, tag: str, target: str) -> str:
        """Run `inside` in an image as the cluster would: its own user, read-only root, no network, no rights."""
        if self.name != "buildah":
            return self._ask(
                "run", "--rm", "--interactive", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
                "--security-opt=no-new-privileges", "--entrypoint=/opt/aigateway/bin/python3", tag, "-", target,
                stdin=INSIDE, limit_seconds=300,
            )  # fmt: skip
        if reason := why_not():
            raise EngineError(f"{tag} is built, but cannot be looked into: {reason}")
        with self._mounted(tag) as root:
            settings = {"PATH": "/opt/aigateway/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}  # noqa: S108 - inside
            try:
                done = Sandbox(root, borrowed=False).run(
                    ["/opt/aigateway/bin/python3", "-", target], environment=settings, stdin=INSIDE
                )
            except SandboxError as error:
                raise EngineError(f"{tag} is built, but could not be looked into: {error}") from error
        if done.returncode:
            raise EngineError(f"Python in {tag} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def size_bytes(self, tag: str) -> int:
        """Size of an image, unpacked: buildah what a pod sees, the others all layers, also what a later one removes."""
        if self.name == "buildah":
            with self._mounted(tag) as root:
                said = subprocess.run(["du", "-sxb", str(root)], capture_output=True, text=True, timeout=120, check=True)
            return int(said.stdout.split()[0])
        return int(self._ask("image", "inspect", "--format={{.Size}}", tag))

    @contextmanager
    def _mounted(self, tag: str) -> Iterator[Path]:
        container = self._ask("from", "--pull-never", tag).strip()
        try:
            yield Path(self._ask("mount", container).strip())
        finally:
            self._ask("rm", container)

    def _build_command(self) -> list[str]:
        if self.name == "buildah":
            return ["buildah", "build", "--layers", "--format=oci"]
        if self.name == "podman":
            return ["podman", "build", "--layers"]
        if _has_buildx():
            return ["docker", "buildx", "build", "--load", "--progress=plain", "--network=host"]
        return ["docker", "build", "--progress=plain", "--network=host"]

    def _environment(self) -> dict[str, str]:
        """Root without the privileges of a machine of its own, as in CI, can build in a chroot but not in a container."""
        return {"BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", "chroot")} if self.name == "buildah" else {}

    def _ask(self, *arguments: str, stdin: str = "", limit_seconds: float = 120) -> str:
        try:
            done = subprocess.run(
                [self.name, *arguments], input=stdin, capture_output=True, text=True, timeout=limit_seconds, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(f"{self.name} {arguments[0]}: {error}") from error
        if done.returncode:
            raise EngineError(f"{self.name} {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout


def find_engine(wanted: str = "") -> Engine:
    """Return the first engine that answers, or the one that is wanted. EngineError says of each why it will not do."""
    reasons = []
    for name in [wanted] if wanted else ENGINES:
        reason = why_unfit(name)
        if not reason:
            return Engine(name)
        reasons.append(f"  {name}: {reason}")
    raise EngineError(
        "No container engine is at hand:\n" + "\n".join(reasons) + "\nRemedy: start Docker, or install podman or buildah "
        "(Debian, Ubuntu: apt-get install buildah); or `--engine none`, which makes and checks the contents without one."
    )


def why_unfit(name: str) -> str:
    """Why this engine cannot build the Dockerfile here; "" if it can."""
    if shutil.which(name) is None:
        return "not in PATH"
    question = ["version", "--format={{.Client.Version}} {{.Server.Version}}"] if name == "docker" else ["version"]
    try:
        said = subprocess.run([name, *question], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not answer ({error})"
    if said.returncode:
        return "; ".join((said.stderr.strip() or "does not answer").splitlines()[-1:])
    if name == "docker" and not _has_buildx() and not _speaks_to_buildkit(said.stdout):
        return "its plugin buildx is missing, without which it cannot mount secrets (package docker-buildx-plugin)"
    return ""


def _speaks_to_buildkit(versions: str) -> bool:
    found = re.match(r"(\d+)\.", versions)
    return found is not None and int(found[1]) <= _LAST_CLI_WITH_BUILDKIT_INSIDE


def _has_buildx() -> bool:
    asked: Sequence[str] = ("docker", "buildx", "version")
    return subprocess.run(asked, capture_output=True, timeout=_ASK_SECONDS, check=False).returncode == 0
