"""Files, folders and standard input → the objects in them, each with its file and line.

Takes what `kubectl apply -f` takes: several documents, JSON, Lists. Objects of other kinds are left out with a note. What
cannot be read is a `Finding`, never an exception, so that one broken file does not hide the others' faults.
Called by `check`, `render` and `diff`; reads files, never a cluster.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aigateway_operator.api import meta
from aigateway_operator.api.fields import DNS_LABEL, DNS_SUBDOMAIN, MAX_NAME
from aigateway_operator.cli.findings import ERROR, NOTE, WARNING, Finding
from aigateway_operator.cli.strict_yaml import Document, parse_documents
from aigateway_operator.rules.violation import at, shown

SUFFIXES: Final = (".yaml", ".yml", ".json")
STDIN: Final = "-"
SECRET: Final = "Secret"
OURS: Final = (meta.GATEWAY_CONFIG, meta.VIRTUAL_MODEL)
_TOP_LEVEL: Final = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One VirtualModel, GatewayConfig or Secret as it stands in a file. `namespace` is settled: a default is filled in.

    `line_of(path)` is the line of a place in the object. `body` may hold secrets. `at_fault`: places of a damaged object that
    could not be read and hold stand-ins.
    """

    file: str
    line: int
    kind: str
    namespace: str
    name: str
    body: dict[str, Any] = field(repr=False)
    line_of: Callable[[str], int] = field(repr=False, compare=False)
    at_fault: frozenset[str] = frozenset()

    @property
    def spec(self) -> Any:
        """`spec`, any JSON value; None where there is none."""
        return self.body.get("spec")

    def finding(self, severity: str, path: str, reason: str, message: str, rule: str = "") -> Finding:
        """Return a finding at a place of this object."""
        return Finding(severity, self.file, self.line_of(path), self.kind, self.name, path, reason, message, rule)


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that was read: objects in the order of the files, and what is to be said of the files themselves.

    `damaged`: objects of ours that could be read but for some places, which are findings: to look at, never to use.
    """

    manifests: tuple[Manifest, ...]
    findings: tuple[Finding, ...]
    damaged: tuple[Manifest, ...] = ()

    def of(self, kind: str) -> list[Manifest]:
        """Return the objects of one kind."""
        return [manifest for manifest in self.manifests if manifest.kind == kind]


def read_manifests(paths: Sequence[str], namespace: str, *, recursive: bool = False) -> Reading:
    """Read all `paths`. `namespace` is for objects that name none."""
    manifests: list[Manifest] = []
    damaged: list[Manifest] = []
    findings: list[Finding] = []
    for file in _files(paths, recursive, findings):
        text = _text(file, findings)
        if text is None:
            continue
        documents, faults = parse_documents(text, damaged=True)
        findings.extend(Finding(ERROR, file, fault.line, reason="Unreadable", message=fault.message) for fault in faults)
        for document in documents:
            findings.extend(
                Finding(WARNING, file, hint.line, reason="Surprise", message=hint.message) for hint in document.hints
            )
            for found in _objects(document, file, namespace):
                if not document.at_fault:
                    (manifests if isinstance(found, Manifest) else findings).append(found)  # type: ignore[arg-type]  # told apart
                elif isinstance(found, Finding):
                    findings += [found] if found.path and not is_within(found.path, document.at_fault) else []
                elif found.kind in OURS:
                    damaged.append(found)
    unique, doubles = _without_doubles(manifests)
    return Reading(tuple(unique), (*findings, *doubles), tuple(damaged))


def is_within(path: str, places: Iterable[str]) -> bool:
    """Tell whether a path is one of these places of an object or below one; "" is the object itself."""
    return any(not place or path == place or path.startswith((f"{place}.", f"{place}[")) for place in places)


def _files(paths: Sequence[str], recursive: bool, findings: list[Finding]) -> Iterator[str]:
    for name in paths:
        path = Path(name)
        if name == STDIN or not path.is_dir():
            yield name
            continue
        inside = sorted(path.rglob("*") if recursive else path.iterdir())
        files = [str(one) for one in inside if one.suffix in SUFFIXES and one.is_file()]
        if not files:
            deeper = "" if recursive else " Folders inside it are read with -R."
            message = f"holds no manifest ({', '.join(SUFFIXES)}).{deeper}"
            findings.append(Finding(ERROR, name, reason="Unreadable", message=message))
        yield from files


def _text(file: str, findings: list[Finding]) -> str | None:
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        findings.append(Finding(ERROR, file, reason="Unreadable", message=f"cannot be read: {error.strerror}."))
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        findings.append(Finding(ERROR, file, line, reason="Unreadable", message="is not UTF-8 text. Save it as UTF-8."))
    return None


def _objects(document: Document, file: str, namespace: str) -> Iterator[Manifest | Finding]:
    """Yield the objects of one document: itself, or the items of a List."""
    value = document.value
    if isinstance(value, dict) and isinstance(value.get("items"), list) and str(value.get("kind", "")).endswith("List"):
        for index, item in enumerate(value["items"]):
            place = f"items[{index}]"
            inside = frozenset(path[len(place) :].lstrip(".") for path in document.at_fault if path.startswith(place))
            yield _object(item, file, namespace, _below(document.line_of, place), inside)
    else:
        yield _object(value, file, namespace, document.line_of, document.at_fault)


def _below(line_of: Callable[[str], int], prefix: str) -> Callable[[str], int]:
    return lambda path: line_of(f"{prefix}.{path}" if path else prefix)


def _object(
    value: Any, file: str, namespace: str, line_of: Callable[[str], int], at_fault: frozenset[str]
) -> Manifest | Finding:
    line = line_of("")
    if not isinstance(value, dict):
        message = "is no Kubernetes object: a mapping with apiVersion, kind and metadata is needed."
        return Finding(ERROR, file, line, reason="Unreadable", message=message)
    kind, version = value.get("kind"), value.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str) or not kind or not version:
        return Finding(ERROR, file, line, reason="Unreadable", message="has no apiVersion or kind. Name both.")
    wanted = _is_ours(kind, version)
    if wanted is not None:
        severity, message = wanted
        reason = "Ignored" if severity == NOTE else "Unreadable"
        return Finding(severity, file, line, shown(kind), _shown_name(value), "", reason, message)
    fault = _fault(value, kind)
    if fault is not None:
        path, message = fault
        return Finding(ERROR, file, line_of(path), kind, _shown_name(value), path, "FieldValueInvalid", message)
    metadata = value["metadata"]
    return Manifest(file, line, kind, metadata.get("namespace") or namespace, metadata["name"], value, line_of, at_fault)


def _is_ours(kind: str, version: str) -> tuple[str, str] | None:
    """Return None for an object to take; else how grave it is, and what to say of it."""
    if (kind, version) == (SECRET, "v1") or (kind in OURS and version == meta.API_VERSION):
        return None
    if version.partition("/")[0] != meta.GROUP:
        return NOTE, f"{shown(kind)} of {shown(version)} is not looked at."
    if kind in OURS:
        return ERROR, f"apiVersion {shown(version)} is not known. Write {meta.API_VERSION}."
    return ERROR, f"kind {shown(kind)} is not known in {meta.GROUP}. Known kinds: {', '.join(OURS)}."


def _shown_name(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return shown(name) if isinstance(name, str) else ""


def _fault(value: dict[str, Any], kind: str) -> tuple[str, str] | None:
    """Return the place and the sentence for an object that no API server would take, whatever its spec says."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return "metadata", "is missing. Name the object in metadata.name."
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name:
        unquoted = "is not text, as a number, y or no without quotes is not. Put it in quotes."
        return "metadata.name", "is missing. Name the object." if name in (None, "") else unquoted
    if len(name) > MAX_NAME or not re.fullmatch(DNS_SUBDOMAIN, name):
        return (
            "metadata.name",
            "is not a name: lower-case letters, digits, '-' and '.' are allowed. Use spec.modelName for others.",
        )
    if namespace is not None and (
        not isinstance(namespace, str) or not re.fullmatch(DNS_LABEL, namespace) or len(namespace) > 63
    ):
        return "metadata.namespace", "is not a name of a namespace: lower-case letters, digits and '-' are allowed."
    unknown = sorted(value.keys() - set(_TOP_LEVEL)) if kind in OURS else []
    if unknown:
        return shown(unknown[0]), f"is no key of a {kind}. Allowed keys: {', '.join(_TOP_LEVEL)}."
    return _secret_fault(value) if kind == SECRET else None


def _secret_fault(value: dict[str, Any]) -> tuple[str, str] | None:
    """Return what the API server would refuse of a Secret's values, without a value."""
    for section in ("data", "stringData"):
        entries = value.get(section)
        if entries is not None and not isinstance(entries, dict):
            return section, "is no mapping of keys to text."
        for key, text in (entries or {}).items():
            if text is not None and not isinstance(text, str):
                return at(section, key), "is not text. Put it in quotes."
            if section == "data" and not _is_base64(text or ""):
                return at(section, key), "is not base64. Encode it, or use stringData."
    return None


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _without_doubles(manifests: Iterable[Manifest]) -> tuple[list[Manifest], list[Finding]]:
    first: dict[tuple[str, str, str], Manifest] = {}
    findings: list[Finding] = []
    for manifest in manifests:
        other = first.setdefault((manifest.kind, manifest.namespace, manifest.name), manifest)
        if other is not manifest:
            message = f"is in namespace '{manifest.namespace}' already: {other.file}:{other.line}. Remove or rename one."
            findings.append(manifest.finding(ERROR, "metadata.name", "FieldValueDuplicate", message))
    return list(first.values()), findings
