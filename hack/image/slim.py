"""Take out of a base image what only builds, and compile its standard library.

Runs inside the build, under the base's own Python, on the root it is given: standard library only, and no import from
this repository. It must not touch what a running program needs. Called by the Dockerfile's stage `base`.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NOT_AT_RUN_TIME: Final = ("ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo", "turtle.py", "test")
"""Parts of the standard library that a server never imports; `venv` stays, it is small and holds no pip of its own."""
INSTALLERS: Final = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel", "distutils-precedence.pth")
PROGRAMS: Final = ("pip*", "wheel*", "easy_install*", "idle*", "2to3*")
USER: Final = ("aigateway", 65532)


def slim(root: Path, standard_library: Path, site_packages: tuple[Path, ...]) -> None:
    """Remove installers, clear setuid bits, name the user and compile; paths of libraries are inside `root`."""
    for path in _superfluous(root, standard_library, site_packages):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in root.rglob("*") if root != Path("/") else _files_of_own_system():
        if not path.is_symlink() and path.is_file() and (mode := path.stat().st_mode) & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(mode & ~(stat.S_ISUID | stat.S_ISGID))
    _name_user(root)
    compileall.compile_dir(
        standard_library, quiet=2, force=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip


def _superfluous(root: Path, standard_library: Path, site_packages: tuple[Path, ...]) -> Iterator[Path]:
    """Find what goes, each path once."""
    for name in NOT_AT_RUN_TIME:
        yield from standard_library.glob(name)
    for folder in dict.fromkeys(site_packages):
        for name in INSTALLERS:
            yield from folder.glob(name)
        for name in ("pip", "setuptools", "wheel"):
            yield from folder.glob(f"{name}-*.dist-info")
            yield from folder.glob(f"{name}-*.egg-info")
    for folder in (root / "usr/local/bin", root / "usr/bin"):
        for name in PROGRAMS:
            yield from folder.glob(name)
    yield from (root / "usr/share/python-wheels").glob("*.whl")  # where Debian keeps ensurepip's


def _files_of_own_system() -> Iterator[Path]:
    """Every place a setuid program may be in, without /proc and /sys."""
    for name in ("bin", "sbin", "usr", "opt", "lib"):
        folder = Path("/") / name
        if folder.is_dir() and not folder.is_symlink():
            yield from folder.rglob("*")


def _name_user(root: Path) -> None:
    """Give the number a name: libraries that ask who runs them raise on a number without one."""
    name, number = USER
    for file, line in (
        ("passwd", f"{name}:x:{number}:{number}::/tmp:/usr/sbin/nologin\n"),
        ("group", f"{name}:x:{number}:\n"),
    ):
        path = root / "etc" / file
        text = path.read_text()
        if f":{number}:" not in text:
            path.write_text(text + line)


def main() -> int:
    """Slim the system this runs in."""
    paths = sysconfig.get_paths()
    packages = {Path(paths["purelib"]), Path(paths["platlib"]), Path("/usr/lib/python3/dist-packages")}
    slim(Path(sys.argv[1]), Path(paths["stdlib"]), tuple(sorted(packages)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
