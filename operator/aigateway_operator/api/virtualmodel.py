"""`VirtualModel`: one public model name with named backends, a live one (`current`) and a switch (`use`).

Docstrings below the fields are what `kubectl explain virtualmodel.spec` shows. Defaults stand here once; they are applied
when documents are rendered, never by the API server (no drift under GitOps).
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import ConfigDict, Field

from aigateway_operator.api.fields import (
    DNS_LABEL,
    LIST_MAP_BY_NAME,
    MODEL_NAME,
    LocalObjectRef,
    OpenMap,
    SecretKeyRef,
    SpecModel,
    Text,
    Url,
)

MAX_BACKENDS: Final = 32

BackendName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]


class Backend(SpecModel):
    """One upstream that can serve the model."""

    name: BackendName
    """Name of the backend, a DNS label, unique in the list. `current` chooses by it."""
    model: Text
    """Name of the model as the upstream knows it; requests are rewritten to it."""
    base_url: Url | None = None
    """OpenAI-compatible base URL, such as https://api.example.com/v1. Default: the VirtualModel's baseUrl."""
    api_key_secret_ref: SecretKeyRef | None = None
    """Key that the gateway presents upstream. Default: none, no Authorization header is sent."""
    parameters: OpenMap = Field(default_factory=dict)
    """Request defaults the gateway merges in, such as temperature. Not model, messages, input or stream; no secrets."""


class Probe(SpecModel):
    """Whether the operator checks that the backends can be reached."""

    # Otherwise server-side apply cannot empty it: it would ask for null, which no object takes.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    enabled: bool = False
    """Check each backend by TCP and TLS handshake and report condition BackendsReachable. Default: false."""


class VirtualModelSpec(SpecModel):
    """What callers can ask for under one public model name, and which backend answers."""

    gateway_ref: LocalObjectRef
    """GatewayConfig in the same namespace that serves this model."""
    model_name: Annotated[str, Field(min_length=1, max_length=253, pattern=MODEL_NAME)] | None = None
    """Public name, unique per gateway: printable, without spaces. Default: metadata.name."""
    use: bool
    """true: served. false: stays rendered as switched off, callers get 404 model_not_found."""
    current: BackendName
    """Name of the live backend; must be one of `backends`."""
    base_url: Url | None = None
    """OpenAI-compatible base URL for backends that name none. Required unless every backend names its own."""
    proxy_key_secret_ref: SecretKeyRef
    """Key that callers must present for this model."""
    backends: Annotated[list[Backend], Field(min_length=1, max_length=MAX_BACKENDS), LIST_MAP_BY_NAME]
    """The upstreams, 1 to 32, each with a unique name."""
    probe: Probe = Field(default_factory=Probe)
    """Backend reachability checks. Default: off."""
