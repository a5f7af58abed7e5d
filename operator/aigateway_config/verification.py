"""From bytes to a verified document: schema major, digest, shape. Every refusal says where, why and what to do.

Pure: takes bytes, returns frozen values or raises `Refused`. Knows neither what is in force nor where bytes come from; the
state machine calls it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from aigateway_config import documents
from aigateway_config.errors import Fault, Reason, Refused
from aigateway_config.layout import Parts, cut_json, cut_lines, parse_object
from aigateway_config.model import Model, parse_models
from aigateway_config.source import Reading

LIMIT_BYTES: Final = 1024 * 1024
"""No file of a ConfigMap or Secret is larger. Source: Kubernetes, `MaxSecretSize` and ConfigMap validation."""

MANIFESTS: Final = (documents.CONFIG_MANIFEST, *(documents.document_manifest(shard) for shard in range(documents.MAX_SHARDS)))
"""Every name that a manifest may have: looked up in a folder, since a folder of credentials may hold thousands of others."""
CREDENTIALS_MANIFESTS: Final = tuple(documents.credentials_manifest(shard) for shard in (None, *range(documents.MAX_SHARDS)))
_MAJOR: Final = documents.schema_major(documents.SCHEMA)


@dataclass(frozen=True, slots=True)
class Head:
    """A manifest that was understood. `content` is what it was read from, `file` the document it describes."""

    file: str
    content: bytes = field(repr=False)
    gateway: str
    lineage: str
    shards: int
    revision: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CredentialSet:
    """A credentials manifest that was understood. `key` stands for its bytes; `keys` are sorted."""

    file: str
    key: bytes
    gateway: str
    lineage: str
    revision: int
    keys: Sequence[str]
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A verified document. `settings` is None for a shard of models; `named`: the credentials files that settings name."""

    head: Head
    state: documents.DocumentState
    settings: documents.ConfigDocument | None
    models: Mapping[str, Model] = field(repr=False)
    named: frozenset[str] = field(repr=False)

    def refs(self) -> Iterator[str]:
        """Yield the credentials files that the document names, some of them more than once."""
        yield from self.named
        for model in self.models.values():
            yield model.proxy_key_ref
            for backend in model.backends.values():
                if backend.api_key_ref is not None:
                    yield backend.api_key_ref


def read_file(reading: Reading, name: str, revision: int | None = None) -> bytes:
    """Return a file of a reading. Raises Refused: not there, unreadable, too large; `revision` is the one it would bring."""
    try:
        content = reading.read(name)
    except OSError as error:
        raise _refused(
            name, Reason.UNREADABLE, f"it cannot be read: {error.strerror or type(error).__name__}", revision
        ) from None
    if content is None:
        raise _refused(name, Reason.MISSING, "it is not there although its manifest is, or lists it", revision)
    if len(content) > LIMIT_BYTES:
        raise _refused(name, Reason.TOO_LARGE, f"it has more than {LIMIT_BYTES} bytes: more than a ConfigMap holds", revision)
    return content


def manifest_of(file: str) -> str:
    """Return the name of the manifest of a document."""
    return file.removesuffix(".yml") + ".manifest.json"


def document_of(manifest_file: str) -> str:
    """Return the name of the document that a manifest describes."""
    return manifest_file.removesuffix(".manifest.json") + ".yml"


def credentials_of(file: str) -> str:
    """Return the name of the credentials manifest of a document."""
    return documents.credentials_manifest(None if file == documents.CONFIG_FILE else _shard(file))


def expected_files(shards: int) -> list[str]:
    """Return the documents of a gateway with that many shards."""
    return [documents.CONFIG_FILE, *(documents.document_file(shard) for shard in range(shards) if shards > 1)]


def _shard(file: str) -> int:
    return int(file[len("models-") : len("models-00")])


def parse_manifest(manifest_file: str, content: bytes) -> Head:
    """Return what a manifest says. Raises Refused: not JSON, another major, not a manifest, not that of its file."""
    file = document_of(manifest_file)
    try:
        manifest = documents.ManifestHead.model_validate_json(content)
    except ValidationError as error:
        _parse_head(manifest_file, content)  # no JSON, or of another major: that is the reason then
        raise _refused(manifest_file, Reason.MANIFEST_INVALID, _explain(error)) from None
    _check_major(manifest_file, manifest.schema_version)
    shard = None if file == documents.CONFIG_FILE else _shard(file)
    if manifest.shard != shard:
        raise _refused(manifest_file, Reason.OTHER_SHARD, f"it says shard {manifest.shard}: a document under a wrong name")
    if not 1 <= manifest.shards <= documents.MAX_SHARDS or (shard is not None and shard >= manifest.shards):
        raise _refused(manifest_file, Reason.OTHER_SHARD, f"it says {manifest.shards} shards, of which this cannot be one")
    return Head(file, content, manifest.gateway, manifest.lineage, manifest.shards, manifest.revision, manifest.sha256)


def parse_credentials_manifest(file: str, content: bytes, key: bytes) -> CredentialSet:
    """Return what a credentials manifest says. Raises Refused as `parse_manifest` does."""
    mapping = _parse_head(file, content)
    try:
        manifest = documents.CredentialsManifest.model_validate(mapping)
    except ValidationError as error:
        raise _refused(file, Reason.MANIFEST_INVALID, _explain(error)) from None
    if documents.credentials_manifest(manifest.shard) != file:
        raise _refused(file, Reason.OTHER_SHARD, f"it says shard {manifest.shard}: a manifest under a wrong name")
    keys, missing = sorted(set(manifest.keys)), frozenset(manifest.missing)
    return CredentialSet(file, key, manifest.gateway, manifest.lineage, manifest.revision, keys, missing)


def parse_document(head: Head, content: bytes, known: Mapping[str, Model], secrets: Mapping[str, SecretStr]) -> Loaded:
    """Return the verified document. `known`: models as they are now; the same ones are taken over. `secrets`: for new ones.

    Raises Refused: digest differs, not JSON, not a document.
    """
    digest = sha256(content).hexdigest()
    if digest != head.sha256:
        raise _refused(
            head.file,
            Reason.DIGEST_MISMATCH,
            f"its SHA-256 is {digest[:12]}…, its manifest says {head.sha256[:12]}…; half written, or edited by hand",
            head.revision,
        )
    try:
        return _parse_verified(head, content, known, secrets)
    except ValidationError as error:
        raise _refused(head.file, Reason.DOCUMENT_INVALID, _explain(error), head.revision) from None
    except (ValueError, TypeError) as error:
        raise _refused(head.file, Reason.DOCUMENT_INVALID, f"it is no document: {error}", head.revision) from None


def _parse_verified(head: Head, content: bytes, known: Mapping[str, Model], secrets: Mapping[str, SecretStr]) -> Loaded:
    parts = cut_lines(content)
    if parts is not None:
        with suppress(ValueError):  # a piece is no model: another layout, or a fault that is to be named as it stands there
            return _loaded(head, parts, known, secrets)
    return _loaded(head, cut_json(content), known, secrets)


def _loaded(head: Head, parts: Parts, known: Mapping[str, Model], secrets: Mapping[str, SecretStr]) -> Loaded:
    models = parse_models(parts.models, known, secrets)
    settings, named = None, frozenset[str]()
    if head.file == documents.CONFIG_FILE:
        settings = documents.ConfigDocument.model_validate({**parts.sections, "ai-gateway": {"virtual_models": {}}})
        named = _settings_refs(settings)
    state = documents.DocumentState(revision=head.revision, digest=head.sha256)
    return Loaded(head, state, settings, models, named)


def _settings_refs(settings: documents.ConfigDocument) -> frozenset[str]:
    mongodb, redis, qdrant = settings.storage.mongodb, settings.storage.redis, settings.storage.qdrant
    named = [
        mongodb.password_ref if mongodb else None,
        redis.password_ref if redis else None,
        qdrant.api_key_ref if qdrant else None,
        settings.web_search.api_key_ref if settings.web_search else None,
        *(store.tls.ca_ref for store in (mongodb, redis, qdrant) if store and store.tls),
    ]
    return frozenset(ref for ref in named if ref is not None)


def _parse_head(file: str, content: bytes) -> dict[str, Any]:
    """Return a manifest as a mapping after its schema major was found to be ours."""
    try:
        mapping = parse_object(content)
    except (ValueError, TypeError) as error:
        raise _refused(file, Reason.MANIFEST_INVALID, f"it is no manifest: {error}") from None
    schema = mapping.get("schema")
    if not isinstance(schema, str):
        raise _refused(file, Reason.MANIFEST_INVALID, "it says no schema")
    _check_major(file, schema)
    return mapping


def _check_major(file: str, schema: str) -> None:
    if documents.schema_major(schema) != _MAJOR:
        raise _refused(
            file,
            Reason.UNSUPPORTED_SCHEMA,
            f"its schema is {schema[:16]}, this library reads {_MAJOR}.x; use the library of the operator's version",
        )


def _refused(file: str, reason: Reason, message: str, revision: int | None = None) -> Refused:
    return Refused(Fault(file, reason, message, revision))


def _explain(error: ValidationError) -> str:
    """Name the first places that are wrong, without the values that stand there."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    texts = [f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}" for item in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(texts) + more
