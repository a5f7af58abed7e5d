"""What is stored already: the specs that manifests would replace, from older files or from the cluster.

Rules on edits compare with them. Called by `check` (`--against`, `--live`); reads only, and Secrets never.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aigateway_operator.cli.cluster import Cluster, list_ours, with_cluster
from aigateway_operator.cli.findings import ERROR, Finding
from aigateway_operator.cli.manifests import OURS, STDIN, Manifest, read_manifests
from aigateway_operator.errors import Forbidden, NotFound, SettingsError
from aigateway_operator.kube.resources import GATEWAY_CONFIGS, VIRTUAL_MODELS, Resource

ObjectId = tuple[str, str, str]
"""Kind, namespace and name."""
_RESOURCES: Final[Mapping[str, Resource]] = {one.kind: one for one in (GATEWAY_CONFIGS, VIRTUAL_MODELS)}
_PARALLEL_READS: Final = 8


@dataclass(frozen=True, slots=True)
class StoredSpecs:
    """Specs by object, any JSON value each; an object that is not there would be created. `findings`: unreadable files."""

    specs: Mapping[ObjectId, Any] = field(default_factory=dict, repr=False)
    findings: tuple[Finding, ...] = ()


def identity(manifest: Manifest) -> ObjectId:
    """Return what tells this object from all others."""
    return manifest.kind, manifest.namespace, manifest.name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--against` and `--live`, which exclude each other."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="OLD",
        help="file, folder or - with the objects as they are stored: rules on edits apply too (removed keys, shards), and what "
        "was broken before and is unchanged is a warning; repeatable",
    )
    group.add_argument("--live", action="store_true", help="the same, against the objects in the cluster")


def read_stored(args: argparse.Namespace, manifests: Sequence[Manifest], namespace: str) -> StoredSpecs:
    """Return what `args` says to compare with; empty without either option. Raises SettingsError, ClusterError."""
    if args.live:
        ours = [manifest for manifest in manifests if manifest.kind in OURS]
        return StoredSpecs(with_cluster(args, lambda cluster: _from_cluster(cluster, ours)))
    if STDIN in args.against and (STDIN in args.files or args.against.count(STDIN) > 1):
        raise SettingsError("stdin (-) can be read once: write the old objects to a file and name it with --against")
    reading = read_manifests(args.against, namespace, recursive=args.recursive)
    specs = {identity(manifest): manifest.spec for manifest in reading.manifests if manifest.kind in OURS}
    return StoredSpecs(specs, tuple(finding for finding in reading.findings if finding.severity == ERROR))


async def _from_cluster(cluster: Cluster, manifests: Sequence[Manifest]) -> dict[ObjectId, Any]:
    """Read each object by its name, so that the right to `get` is enough. A kind that is not installed is an error."""
    limit = asyncio.Semaphore(_PARALLEL_READS)
    found: dict[ObjectId, Any] = {}

    async def read(manifest: Manifest) -> None:
        async with limit:
            try:
                obj = await cluster.get(_RESOURCES[manifest.kind], manifest.namespace, manifest.name)
            except NotFound:
                return
            found[identity(manifest)] = obj.get("spec")

    await asyncio.gather(*(read(manifest) for manifest in manifests))
    for kind, namespace in sorted({(manifest.kind, manifest.namespace) for manifest in manifests}):
        if not any(one[:2] == (kind, namespace) for one in found):
            with suppress(Forbidden):  # a missing kind and missing objects look alike until they are listed
                await list_ours(cluster, _RESOURCES[kind], namespace)
    return found
