"""Write config/argocd/*.yaml: the health and action scripts as Argo CD's configuration, for people to apply or paste.

The scripts themselves are in config/argocd/resource_customizations/, laid out as upstream lays them out. Standard library
only. Run by hand as `python -m hack.argocd`; tests/gitops holds the files to the scripts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parents[1] / "config" / "argocd"
SCRIPTS: Final = FOLDER / "resource_customizations" / "ai-gateway.io"
KINDS: Final = ("GatewayConfig", "VirtualModel")
_HEADER: Final = "# Written by `python -m hack.argocd` from resource_customizations/. Do not edit.\n"


def documents() -> dict[str, str]:
    """Return the text of each file by its name."""
    data = "".join(_health(kind) for kind in KINDS) + _actions("VirtualModel")
    labels = "    app.kubernetes.io/name: argocd-cm\n    app.kubernetes.io/part-of: argocd\n"
    metadata = f"metadata:\n  name: argocd-cm\n  labels:\n{labels}"
    patch = "# To be merged into Argo CD's own ConfigMap: kubectl patch, or a patch of a kustomization.\n"
    values = "# For Argo CD's Helm chart: helm upgrade argocd ... --values values.yaml\n"
    return {
        "argocd-cm.yaml": f"{_HEADER}{patch}apiVersion: v1\nkind: ConfigMap\n{metadata}data:\n{_indented(data, 2)}",
        "values.yaml": f"{_HEADER}{values}configs:\n  cm:\n{_indented(data, 4)}",
    }


def _health(kind: str) -> str:
    return f"resource.customizations.health.ai-gateway.io_{kind}: |\n" + _script(SCRIPTS / kind / "health.lua", 2)


def _actions(kind: str) -> str:
    folder = SCRIPTS / kind / "actions"
    text = f"resource.customizations.actions.ai-gateway.io_{kind}: |\n  discovery.lua: |\n"
    text += _script(folder / "discovery.lua", 4) + "  definitions:\n"
    for action in sorted(folder.glob("*/action.lua")):
        text += f"  - name: {action.parent.name}\n    action.lua: |\n" + _script(action, 6)
    return text


def _script(path: Path, spaces: int) -> str:
    return _indented(path.read_text(), spaces)


def _indented(text: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}\n" if line else "\n" for line in text.splitlines())


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
        print(f"{FOLDER / name} written")
