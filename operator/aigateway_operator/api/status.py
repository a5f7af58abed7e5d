"""`status` of both kinds, as the CRD declares it.

Written by the operator only; every field can be rebuilt from what it observes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aigateway_operator.api.fields import LIST_MAP_BY_NAME

_BY_TYPE: Final = Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})


class StatusModel(BaseModel):
    """Base of everything inside `status`."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, use_attribute_docstrings=True, validate_by_name=True
    )


class Condition(StatusModel):
    """One aspect of the object's state, as metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """Type of the condition."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """Generation of the object this condition speaks of."""
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    """When `status` last moved."""
    reason: Annotated[str, Field(max_length=1024)]
    """One CamelCase word."""
    message: Annotated[str, Field(max_length=32768)]
    """A sentence for people."""


class VirtualModelStatus(StatusModel):
    """What the operator knows of a VirtualModel."""

    observed_generation: int | None = None
    """Generation that this status speaks of."""
    model_name: Annotated[str, Field(max_length=253)] | None = None
    """Public name in force."""
    revision: int | None = None
    """Revision of the gateway at which the served version of this model last changed."""
    conditions: Annotated[list[Condition], Field(max_length=16), _BY_TYPE] | None = None
    """Accepted, ResolvedRefs, Programmed, Ready; BackendsReachable if asked for."""


class Rollout(StatusModel):
    """What pods report."""

    revision: int | None = None
    """Revision that was asked about."""
    credentials_revision: int | None = None
    """Revision of the credentials that was asked about."""
    desired: int | None = None
    """Pods that should run it: ready, and not being deleted."""
    updated: int | None = None
    """Pods that said they do."""
    unknown: int | None = None
    """Pods that could not be asked."""
    stragglers: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=5)] | None = None
    """Up to five pods that run something else or cannot say what they run."""
    restart_required: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=16)] | None = None
    """Changed values that a running process cannot take up."""
    last_duration_milliseconds: int | None = None
    """Time from the last measured write to the last pod's answer."""


class Datastore(StatusModel):
    """Health of one datastore."""

    name: Literal["mongodb", "redis", "qdrant"]
    """Which store."""
    state: Literal["Up", "Denied", "Down", "NotReady", "Unknown"]
    """Up, Denied, Down, NotReady or Unknown (not probed yet)."""
    reason: Annotated[str, Field(max_length=1024)] | None = None
    """One CamelCase word."""
    message: Annotated[str, Field(max_length=4096)] | None = None
    """A sentence with the remedy."""
    since: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})] | None = None
    """When `state` last moved."""


class ModelCounts(StatusModel):
    """How many VirtualModels name this gateway."""

    accepted: int | None = None
    """Accepted, including those switched off."""
    rejected: int | None = None
    """Not accepted."""
    off: int | None = None
    """Accepted with `use: false`."""


class GatewayConfigStatus(StatusModel):
    """What the operator knows of a gateway."""

    observed_generation: int | None = None
    """Generation that this status speaks of."""
    revision: int | None = None
    """Revision of the rendered documents; moves only when content moves."""
    pods: Annotated[str, Field(max_length=32)] | None = None
    """Pods that run this revision, of all, as "2/3"."""
    rollout: Rollout | None = None
    """What pods report."""
    datastores: Annotated[list[Datastore], Field(max_length=3), LIST_MAP_BY_NAME] | None = None
    """Health of the enabled datastores."""
    models: ModelCounts | None = None
    """How many VirtualModels name this gateway."""
    conditions: Annotated[list[Condition], Field(max_length=16), _BY_TYPE] | None = None
    """Accepted, ResolvedRefs, Programmed, Propagated, DatastoresReady, Ready."""
