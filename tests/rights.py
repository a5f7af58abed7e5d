"""Which of the rights that the chart grants were used, from the audit logs of all tests: granted minus used, and refusals.

Each process with a control plane adds what it saw to a folder (`record`), named by TEST_RIGHTS_FOLDER; without it nothing
is recorded. The last step of `make test` compares: `rights.py FOLDER`. A right that no test used needs a reason here, and
a refusal that no test meant fails. Called by fixtures of control planes, and by hack/check.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import yaml

FOLDER: Final = "TEST_RIGHTS_FOLDER"
ACCOUNT: Final = "system:serviceaccount:"
PARTS: Final = ("operator", "webhook", "apply")
"""How the names of the chart's ServiceAccounts end, whatever the release is called."""


class Right(NamedTuple):
    """A verb on a resource ("pods/status", with its group unless core: "deployments.apps") that a part of ours has."""

    part: str
    verb: str
    resource: str


UNUSED_BUT_GRANTED: Final[Mapping[Right, str]] = {
    Right("operator", "get", "validatingwebhookconfigurations.admissionregistration.k8s.io"): "aigateway doctor in its pod",
    Right("apply", "create", "gatewayconfigs.ai-gateway.io"): "asked for by a server-side apply, whose verb is patch",
    Right("apply", "create", "virtualmodels.ai-gateway.io"): "asked for by a server-side apply, whose verb is patch",
}
"""Why a right is granted although no test uses it."""


@dataclass
class Seen:
    """What one control plane's audit log says of our ServiceAccounts."""

    used: set[Right] = field(default_factory=set)
    denied: set[tuple[str, str, str]] = field(default_factory=set)
    """(part, verb, URI without its query)."""
    bare: set[str] = field(default_factory=set)
    """Names of bindings that were taken away: a pod that outlives its release is refused rightly."""


def record(audit_log: Path) -> None:
    """Add what an audit log says to the folder that is named; does nothing if none is."""
    folder = os.environ.get(FOLDER)
    if folder and audit_log.exists():
        seen = read(audit_log)
        text = json.dumps({"used": sorted(seen.used), "denied": sorted(seen.denied)})
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{uuid4().hex}.json").write_text(text)


def read(audit_log: Path) -> Seen:
    """Return what an audit log says. A refusal counts where a right was missing that nobody had taken away."""
    seen = Seen()
    with audit_log.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n") and (ACCOUNT.encode() in line or b"rolebindings" in line):
                _note(json.loads(line), seen)
    return seen


def _note(raw: Mapping[str, Any], seen: Seen) -> None:
    user, reference = raw["user"].get("username", ""), raw.get("objectRef") or {}
    if reference.get("resource") in ("rolebindings", "clusterrolebindings") and raw["verb"] in ("create", "patch", "delete"):
        change = seen.bare.add if raw["verb"] == "delete" else seen.bare.discard
        change(reference.get("name", ""))
    part = part_of(user)
    if part is None or "resource" not in reference or "impersonatedUser" in raw:
        return
    decision = (raw.get("annotations") or {}).get("authorization.k8s.io/decision")
    if decision == "forbid" and not any(name.startswith(user.rpartition(":")[2]) for name in seen.bare):
        seen.denied.add((part, raw["verb"], raw["requestURI"].partition("?")[0]))
    elif decision == "allow":
        seen.used.add(Right(part, raw["verb"], named(reference.get("apiGroup", ""), resource_of(reference))))


def part_of(user: str) -> str | None:
    """Return which part of ours a ServiceAccount is; None for everybody else."""
    account = user.rpartition(":")[2] if user.startswith(ACCOUNT) else ""
    return next((part for part in PARTS if "aigateway" in account and account.endswith(f"-{part}")), None)


def resource_of(reference: Mapping[str, Any]) -> str:
    """Return a resource with its subresource."""
    return "/".join(filter(None, (reference["resource"], reference.get("subresource"))))


def named(group: str, resource: str) -> str:
    """Return a resource with its group behind the name, as kubectl writes it."""
    name, slash, subresource = resource.partition("/")
    return f"{name}.{group}{slash}{subresource}" if group else resource


def granted(text: str) -> set[Right]:
    """Return every right that manifests of roles and bindings give to our ServiceAccounts."""
    objects = [one for one in yaml.safe_load_all(text) if one]
    roles = {(one["kind"], one["metadata"]["name"]): one["rules"] for one in objects if one["kind"] in ("Role", "ClusterRole")}
    return set(_granted(objects, roles))


def _granted(objects: Iterable[Mapping[str, Any]], roles: Mapping[tuple[str, str], Any]) -> Iterator[Right]:
    for binding in objects:
        for subject in binding.get("subjects") or []:
            part = part_of(f"{ACCOUNT}{subject['namespace']}:{subject['name']}")
            reference = binding["roleRef"]
            assert part is not None, f"{subject} is none of {PARTS}"
            for rule in roles[reference["kind"], reference["name"]]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        yield from (Right(part, verb, named(group, resource)) for verb in rule["verbs"])


def compare(given: set[Right], seen: Iterable[Seen], reasons: Mapping[Right, str]) -> list[str]:
    """Return what is wrong, a line each; [] if every right is used or has a reason, and nothing was refused."""
    used = set[Right]().union(*(one.used for one in seen))
    denied = set[tuple[str, str, str]]().union(*(one.denied for one in seen))
    unused = given - used
    lines = [f"{' '.join(right)}: granted, and no test used it" for right in sorted(unused) if right not in reasons]
    lines += [
        f"{' '.join(right)}: has a reason to be unused, and is used or not granted" for right in reasons if right not in unused
    ]
    return lines + [f"{' '.join(request)}: refused" for request in sorted(denied)]


def load(folder: Path) -> list[Seen]:
    """Return what was recorded in a folder."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [
        Seen({Right(*one) for one in body["used"]}, {(part, verb, uri) for part, verb, uri in body["denied"]}) for body in found
    ]


def main(arguments: list[str]) -> int:
    """Compare; 0 if nothing is wrong."""
    from hack.binaries import locate
    from hack.rights import rendered

    recorded = load(Path(arguments[0]))
    if not recorded:
        print(f"{arguments[0]} holds no record: no test ran a control plane")
        return 1
    given = granted(rendered(locate(["helm"])["helm"], "--set", "gateway.enabled=true"))
    wrong = compare(given, recorded, UNUSED_BUT_GRANTED)
    print(
        "\n".join(wrong)
        or f"{len(given)} rights, all used or with a reason; nothing was refused ({len(recorded)} control planes)"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    sys.exit(main(sys.argv[1:]))
