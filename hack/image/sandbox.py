"""A folder as the root of a process: Linux namespaces and what util-linux brings, for machines without a container engine.

What the folder lacks (a system and a Python) is borrowed from this machine, read-only. It knows nothing of images or
Dockerfiles. Called by `hack.image.steps` and `hack.image.engine`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

USER: Final = 65532
_SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "etc")
_DEVICES: Final = ("null", "zero", "urandom", "random")
_NEEDED: Final = ("unshare", "setpriv", "mount", "chroot")


class SandboxError(RuntimeError):
    """No namespaces here, or a step failed; the text says which, and what it said."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`root` becomes `/`; others must be allowed to enter it.

    `borrowed` lends it this machine's system and Python; False for a root that has its own.
    """

    root: Path
    borrowed: bool = True

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str = "/",
        network: bool = False,
        as_user: bool = True,
        stdin: str = "",
        limit_seconds: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return how it ended. SandboxError when it cannot be started or takes too long.

        `as_user`: as user 65532 on a read-only root of which /tmp alone can be written; else as root on a writable one.
        """
        mine = os.geteuid() == 0
        inner = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        inner += ["sh", "-ec", f"cd {shlex.quote(folder)}; exec {shlex.join(command)}"]
        script = self._script(inner, as_user, mine)
        outer = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--ipc", "--uts"]
        outer += [] if network else ["--net"]
        outer += [] if mine else ["--user", "--map-root-user"]
        try:
            return subprocess.run(
                [*outer, "--", "sh", "-ec", script],
                env={"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}, input=stdin, text=True,
                capture_output=True, check=False, timeout=limit_seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"`{shlex.join(command)[:200]}` was not done after {limit_seconds:.0f} s") from error
        except OSError as error:
            raise SandboxError(f"`{shlex.join(command)[:200]}` could not be started: {error}") from error

    def _script(self, command: Sequence[str], as_user: bool, mine: bool) -> str:
        root = shlex.quote(str(self.root))
        lines = [f"mount --bind {root} {root}"]
        if self.borrowed:
            lines += [line for name in _SYSTEM for line in _lend(self.root, Path("/") / name)]
            if Path(sys.base_prefix).parts[1] not in _SYSTEM:
                lines += _lend(self.root, Path(sys.base_prefix))
        lines += [f"mkdir -p {root}/tmp {root}/proc {root}/dev"]  # noqa: S108 - inside
        for name in _DEVICES:
            lines += [f"touch {root}/dev/{name}", f"mount --bind /dev/{name} {root}/dev/{name}"]
        lines += [f"mount -t proc proc {root}/proc", f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp"]  # noqa: S108
        if as_user:
            lines.append(f"mount -o remount,bind,ro {root}")
        lines.append(f"exec {_become(as_user, mine, root)} {shlex.join(command)}")
        return "\n".join(lines)


def _become(as_user: bool, mine: bool, root: str) -> str:
    """How to enter the root, as whom. Without being root here, the number is mapped in a namespace of its own."""
    if not as_user:
        return f"chroot {root}"
    if mine:
        plain = f"setpriv --reuid={USER} --regid={USER} --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
        return f"chroot {root} {plain}"
    return f"chroot {root} unshare --user --map-user={USER} --map-group={USER}"


def _lend(root: Path, path: Path) -> list[str]:
    """Commands that show a folder of this machine, read-only, or the same link where it is a link."""
    inside = shlex.quote(f"{root}{path}")
    if path.is_symlink():
        return [f"[ -L {inside} ] || ln -s {shlex.quote(str(path.readlink()))} {inside}"]
    if not path.is_dir():
        return []
    return [f"mkdir -p {inside}", f"mount --rbind {path} {inside}", f"mount -o remount,bind,ro {inside}"]


def why_not() -> str:
    """Why there can be no sandbox here; "" if there can."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not in PATH (util-linux and coreutils bring them)"
    private = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    tried = subprocess.run(
        ["unshare", *private, "--mount", "--net", "true"], capture_output=True, text=True, timeout=20, check=False
    )
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""
