"""Structure: does a spec fit its pydantic model, and if not, how is that said to a person?

The models in `api/` are the only source of keys, types, ranges and patterns; this module turns pydantic's errors into
violations with paths as on the wire and texts of ours. Called by the rules of both kinds. What is inside an open map is
left to `openmaps`. An explicit null of a declared key is absent already: the models drop it, as the API server does.

Source: docs/rules.md#r1, #r3, #r5; Kubernetes "Specifying a structural schema" and "Defaulting and Nullable" (nulls).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aigateway_operator.api.declared import fields_of, model_at
from aigateway_operator.api.fields import SpecModel
from aigateway_operator.api.texts import cannot_add_key
from aigateway_operator.rules.misfits import misfit
from aigateway_operator.rules.violation import FieldReason, Violation, at, shown

MAX_GUESSES: Final = 32
"""Unknown keys for which a closest match is sought; each costs a fraction of a millisecond."""
_LONGEST_GUESS: Final = 64
_OPEN_MAPS: Final = frozenset({"parameters", "options"})
_Location = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Misfits:
    """How a spec departs from its model."""

    violations: tuple[Violation, ...] = ()
    missing: tuple[str, ...] = ()
    """Required fields that are absent, relative to `spec` (`backends[0].model`): named together by the caller."""

    @property
    def paths(self) -> frozenset[str]:
        """Places that are already found wrong, where further rules need not speak."""
        return frozenset(violation.path for violation in self.violations)


FITS: Final = Misfits()


def check_structure(model: type[SpecModel], spec: dict[str, object]) -> Misfits:
    """Compare `spec` with `model`. Returns every departure at once; `FITS` when there is none. Raises nothing."""
    try:
        model.__pydantic_validator__.validate_python(spec)
    except ValidationError as error:
        return _describe(model, error.errors(include_url=False))
    return FITS


def _describe(model: type[SpecModel], errors: list[ErrorDetails]) -> Misfits:
    violations: list[Violation] = []
    missing: list[str] = []
    guesses = MAX_GUESSES
    for error in errors:
        location = error["loc"]
        if error["type"] == "missing":
            missing.append(_path("", location))
        elif error["type"] == "extra_forbidden":
            violations.append(_unknown_key(model, location, guess=guesses > 0))
            guesses -= 1
        elif not _left_to_open_maps(error):
            violations.append(misfit(error, _path("spec", location), _keys_of_reference(model, location)))
    return Misfits(tuple(violations), tuple(missing))


def _left_to_open_maps(error: ErrorDetails) -> bool:
    location = error["loc"]
    inside = not _OPEN_MAPS.isdisjoint(location[:-1])
    return inside or (bool(location) and location[-1] in _OPEN_MAPS and isinstance(error["input"], dict))


def _keys_of_reference(model: type[SpecModel], location: _Location) -> list[str]:
    """Return the keys of what stands at `location` if all are required, as those of references to other objects are."""
    wanted = model_at(model, location)
    fields = {} if wanted is None else fields_of(wanted)
    return list(fields) if all(field.is_required() for field in fields.values()) else []


def _unknown_key(model: type[SpecModel], location: _Location, *, guess: bool) -> Violation:
    parent = model_at(model, location[:-1])
    key = str(location[-1])
    allowed = [] if parent is None else list(fields_of(parent))
    guess = guess and len(key) <= _LONGEST_GUESS
    message = cannot_add_key(_path("spec", location[:-1]), shown(key), allowed, guess=guess)
    return Violation(_path("spec", location), FieldReason.FORBIDDEN, message, "R1")


def _path(start: str, location: _Location) -> str:
    """Write a location of pydantic's as a path below `start`; its marker of a faulty key in a map is left out."""
    path = start
    for step in location:
        if step != "[key]":
            path = at(path, step)
    return path
