"""What must hold inside an image, looked at from inside, as the user that it runs as.

Fed to the image's own Python on standard input, with its name (operator or gateway) as argument; prints one JSON object
with all it found. Standard library only; it judges nothing, `hack.image.verdict` does. `--borrowed` leaves out what
would tell of the machine and not of the image.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import marshal
import os
import pkgutil
import shutil
import socket
import stat
import sys
import sysconfig
import warnings
from pathlib import Path

INSTALLERS = ("pip", "setuptools", "wheel", "pkg_resources", "ensurepip", "hatchling")
COMPILERS = ("cc", "gcc", "g++", "clang", "make", "ld", "go", "rustc", "pip", "pip3", "uv")
PACKAGES = {
    "operator": ("aigateway_operator", "aigateway_config", "aigateway_logs"),
    "gateway": ("aigateway_gateway", "aigateway_config", "aigateway_logs", "aigateway_operator.cli.gateway"),
}


def failed_imports(names: tuple[str, ...]) -> tuple[int, list[str]]:
    """Import every module of these packages; how many there are, and which failed with what."""
    modules, failed = [], []
    for name in names:
        package = importlib.import_module(name)
        modules.append(name)
        if hasattr(package, "__path__"):
            modules += [found.name for found in pkgutil.walk_packages(package.__path__, f"{name}.")]
    for name in modules:
        if name.endswith("__main__"):
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - all of them are to be told
            failed.append(f"{name}: {type(error).__name__}: {error}")
    return len(modules), failed


def writable_folders() -> list[str]:
    """Folders outside /tmp, /dev and /proc in which a file can be made."""
    tried = [*sys.path, sys.prefix, "/", "/etc", "/usr", "/opt", "/var", "/var/tmp", "/home", "/run"]  # noqa: S108
    return [folder for folder in dict.fromkeys(tried) if folder and _can_write(Path(folder))]


def _can_write(folder: Path) -> bool:
    probe = folder / ".probe"
    try:
        probe.write_text("x")
        probe.unlink()
    except OSError:
        return False
    return True


def can_connect() -> bool:
    """Whether any way leads out of here: an address that needs a route, no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 53))
        except OSError:
            return False
    return True


def odd_bytecode(prefix: Path) -> tuple[int, list[str]]:
    """How many files of bytecode there are below `prefix`; those that are stamped by time or were compiled elsewhere."""
    count, odd = 0, []
    for path in prefix.rglob("*.pyc"):
        count += 1
        data = path.read_bytes()
        if int.from_bytes(data[4:8], "little") != 1:
            odd.append(f"{path}: not an unchecked hash")
        elif count % 25 == 0 and not marshal.loads(data[16:]).co_filename.startswith(str(prefix)):  # noqa: S302 - our own
            odd.append(f"{path}: compiled elsewhere")
    return count, odd


def uncompiled(prefix: Path) -> list[str]:
    """Modules of ours that would be compiled at each start, since the result cannot be kept."""
    found = []
    for name in ("aigateway_operator", "aigateway_config", "aigateway_logs", "aigateway_gateway"):
        for path in prefix.rglob(f"site-packages/{name}/**/*.py"):
            if not Path(importlib.util.cache_from_source(str(path))).exists():
                found.append(str(path))
    return found


def setuid_files() -> list[str]:
    """Programs that give whoever starts them somebody else's rights."""
    found = []
    for top in ("/bin", "/sbin", "/usr", "/opt", "/lib"):
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                    found.append(str(path))
    return found


def main() -> None:
    """Look, and print what was found."""
    warnings.simplefilter("ignore")
    name, borrowed = sys.argv[1], "--borrowed" in sys.argv
    prefix = Path(sys.prefix)
    modules, failed = failed_imports(PACKAGES[name])
    bytecode, odd = odd_bytecode(prefix)
    installers = [module for module in INSTALLERS if importlib.util.find_spec(module)]
    tests = [str(path) for path in prefix.rglob("site-packages/tests")]
    found = {
        "uid": os.getuid(), "gid": os.getgid(), "prefix": str(prefix), "python": sys.version.split()[0],
        "modules": modules, "failed_imports": failed, "writable": writable_folders(), "tmp": _can_write(Path("/tmp")),  # noqa: S108
        "network": can_connect(), "bytecode": bytecode, "odd_bytecode": odd, "uncompiled": uncompiled(prefix),
        "tests": tests, "installers": [module for module in installers if not (borrowed and module == "ensurepip")],
        "stdlib": sysconfig.get_paths()["stdlib"],
        "compilers": [] if borrowed else [program for program in COMPILERS if shutil.which(program)],
        "setuid": [] if borrowed else setuid_files(),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
