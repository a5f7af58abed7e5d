"""Live ConfigMaps and Secrets → what they say: whose they are, which revision, and the last good entries in them.

Used after a restart, when nothing is remembered. A document is believed only if its digest verifies; an entry is kept as last
good only if the rules still hold for it. Pure: the objects are passed in as JSON.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from aigateway_config import documents
from aigateway_operator.api import meta
from aigateway_operator.plan import names
from aigateway_operator.plan.known import Known
from aigateway_operator.plan.result import Write
from aigateway_operator.plan.snapshot import LiveObject, Served
from aigateway_operator.render.entries import read_entry
from aigateway_operator.render.files import render_config, render_models
from aigateway_operator.render.settings import Settings, read_settings

_MAJOR = documents.schema_major(documents.SCHEMA)


def read_live(obj: Mapping[str, Any], gateway_name: str, gateway_uid: str, written: Write | None = None) -> LiveObject:
    """Reduce a ConfigMap or Secret to what plans need. Values are hashed, not kept.

    `written`: the write that `obj` is the answer to; a value that came back as it was sent has the digest that is known of it.
    """
    metadata = obj["metadata"]
    owner = _controller(metadata)
    values = values_of(obj)
    manifest, credentials = _manifests(values, names.shard_in(metadata["name"], gateway_name), gateway_uid)
    labels = metadata.get("labels") or {}
    own = owner is not None and owner.get("uid") == gateway_uid
    former = (
        owner is not None
        and not own
        and owner.get("kind") == meta.GATEWAY_CONFIG
        and owner.get("name") == gateway_name
        and str(owner.get("apiVersion", "")).startswith(f"{meta.GROUP}/")
    )
    immutable = obj.get("immutable") is True
    return LiveObject(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        ours=own,
        former=former,
        intact=own
        and not immutable
        and labels.get(meta.MANAGED_BY_LABEL) == meta.MANAGED_BY
        and labels.get(meta.GATEWAY_LABEL) == gateway_name
        and not obj.get("binaryData"),
        immutable=immutable,
        digests={name: _digest(name, value, written) for name, value in values.items()},
        sizes={name: len(value) for name, value in values.items()},
        manifest=manifest,
        credentials=credentials,
    )


def _digest(name: str, value: bytes, written: Write | None) -> str:
    known = written.digests.get(name) if written is not None and written.values.get(name) == value else None
    return known or sha256(value).hexdigest()


def values_of(obj: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the values of a ConfigMap or Secret as bytes; a Secret's value that is not base64 is left out."""
    data = obj.get("data") or {}
    if obj.get("kind") != "Secret":
        return {name: text.encode() for name, text in data.items()}
    values: dict[str, bytes] = {}
    for name, text in data.items():
        try:
            values[name] = base64.b64decode(text or "", validate=True)
        except binascii.Error:
            continue
    return values


def read_served(
    obj: Mapping[str, Any], live: LiveObject, known: Known | None = None
) -> tuple[dict[str, Served], Settings | None]:
    """Return the last good of one live ConfigMap: models by VirtualModel name, and the settings if it is `config.yml`.

    Nothing is taken from a ConfigMap that is not ours, whose document does not verify, or that is of another schema major.
    Whether the rules still hold for an entry is checked when it is to be kept (`plan.claims`).
    `known`: what the objects say now; a document that says just that, as most do, need not be parsed.
    """
    manifest = live.manifest
    if not live.ours or manifest is None or not live.verified or documents.schema_major(manifest.schema_version) != _MAJOR:
        return {}, None
    as_known = _as_known(manifest, known) if known is not None else None
    if as_known is not None:
        return as_known
    file = documents.document_file(manifest.shard)
    try:
        document = orjson.loads(values_of(obj)[file])
    except orjson.JSONDecodeError:
        return {}, None
    served: dict[str, Served] = {}
    for model_name, mapping in _models_of(document).items():
        source = manifest.sources.get(model_name)
        entry = _believed(partial(read_entry, model_name, mapping))
        if source is not None and entry is not None:
            served[source.partition("/")[0]] = Served(entry, source)
    return served, _believed(partial(read_settings, document)) if manifest.shard is None else None


def _as_known(manifest: documents.Manifest, known: Known) -> tuple[dict[str, Served], Settings | None] | None:
    """Return what the document of a manifest says if it is the one that the objects make now, None if it may be another."""
    served: dict[str, Served] = {}
    for model_name, source in manifest.sources.items():
        owner = source.partition("/")[0]
        assessment = known.assessments.get(owner)
        if assessment is None or assessment.entry is None or assessment.entry.model_name != model_name:
            return None
        served[owner] = Served(assessment.entry, source)
    settings = known.gateway.settings if known.gateway is not None else None
    entries = [one.entry for one in served.values()]
    if manifest.shard is not None:
        document, settings = render_models(manifest.shard, entries), None
    elif settings is not None:
        document = render_config(settings, entries)
    else:
        return None
    return (served, settings) if document.digest == manifest.sha256 else None


def _models_of(document: Any) -> Mapping[str, Any]:
    """Return the models of a document; {} where it has none."""
    section = document.get("ai-gateway") if isinstance(document, dict) else None
    models = section.get("virtual_models") if isinstance(section, dict) else None
    return models if isinstance(models, dict) else {}


_T = TypeVar("_T")


def _believed(read: Callable[[], _T]) -> _T | None:
    """Return what `read` returns, None if what it reads has not the shape of this schema major."""
    try:
        return read()
    except (ValidationError, TypeError, ValueError):
        return None


def _controller(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for owner in metadata.get("ownerReferences") or []:
        if owner.get("controller"):
            found: Mapping[str, Any] = owner
            return found
    return None


def _manifests(
    values: Mapping[str, bytes], shard: int | None, lineage: str
) -> tuple[documents.Manifest | None, documents.CredentialsManifest | None]:
    """Return the manifest of a ConfigMap and of a Secret, each None unless it is there and speaks of this very object."""
    file = documents.document_manifest(shard)
    manifest = _believed(partial(documents.Manifest.model_validate_json, values.get(file, b"")))
    if manifest is not None and not (
        (manifest.lineage, manifest.shard) == (lineage, shard) and 1 <= manifest.shards <= documents.MAX_SHARDS
    ):
        manifest = None
    file = documents.credentials_manifest(shard)
    credentials = _believed(partial(documents.CredentialsManifest.model_validate_json, values.get(file, b"")))
    if credentials is not None and (credentials.lineage, credentials.shard) != (lineage, shard):
        credentials = None
    return manifest, credentials
