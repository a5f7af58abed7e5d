"""What the pydantic models declare, looked up by keys as on the wire: fields and nested models.

Reads models, never values. Called by the rules on structure and removal, and by the generator of CRD validation.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType, UnionType

from pydantic.fields import FieldInfo

from aigateway_operator.api.fields import SpecModel


@cache
def fields_of(model: type[SpecModel]) -> Mapping[str, FieldInfo]:
    """Return the fields of `model` by their keys on the wire, in the order of declaration."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


@cache
def model_below(model: type[SpecModel], key: str) -> type[SpecModel] | None:
    """Return the model of what stands at `key` (for a list: of an item); None for plain values and undeclared keys."""
    info = fields_of(model).get(key)
    return None if info is None else _model_in(info.annotation)


def max_items(model: type[SpecModel], key: str) -> int:
    """Return the limit of the list of objects at `key`; 0 for what is no list. Raises KeyError for an undeclared key."""
    limits = (getattr(item, "max_length", None) for item in fields_of(model)[key].metadata)
    return next((limit for limit in limits if isinstance(limit, int)), 0)


def model_at(model: type[SpecModel], location: Sequence[str | int]) -> type[SpecModel] | None:
    """Return the model that `location` (keys as on the wire, and list indexes) leads to from `model`, or None."""
    here: type[SpecModel] | None = model
    for step in location:
        if isinstance(step, str) and here is not None:
            here = model_below(here, step)
    return here


def _model_in(annotation: object) -> type[SpecModel] | None:
    """Find the one model in an annotation such as `X`, `X | None`, `list[X]` or `Annotated[list[X], …]`."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation if issubclass(annotation, SpecModel) else None
    if typing.get_origin(annotation) in (typing.Union, UnionType, typing.Annotated, list):
        found = (_model_in(part) for part in typing.get_args(annotation) if part is not NoneType)
        return next((model for model in found if model is not None), None)
    return None
