"""A kubeconfig for a server of a test. Not a test module."""

from __future__ import annotations

import json
from pathlib import Path


def write_kubeconfig(folder: Path, server: str, *, ca: bytes | None = None, **user: str) -> Path:
    """Return the file. `ca`: PEM, None for the system's; `user`: its credentials, such as `token`."""
    cluster = {"server": server}
    if ca is not None:
        (folder / "ca.crt").write_bytes(ca)
        cluster["certificate-authority"] = str(folder / "ca.crt")
    content = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
        "current-context": "c",
    }
    (folder / "config").write_text(json.dumps(content))
    return folder / "config"
