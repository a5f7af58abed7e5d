"""The models of all documents as one mapping, made anew at the cost of the documents that changed. Pure; called by `state`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aigateway_config.model import Model
from aigateway_config.verification import Loaded

_NONE: Final[Mapping[str, Model]] = {}


@dataclass(frozen=True, slots=True)
class Joined:
    """Models of one moment. parts: by document; models: of all of them. Both by public name, and never changed once made."""

    parts: Mapping[str, Mapping[str, Model]]
    models: dict[str, Model]


def join(documents: Mapping[str, Loaded], before: Joined) -> Joined:
    """Return the joined models of documents; `before` is what came of earlier ones.

    A model that stands in two documents is taken from the one of the higher revision, then from the later file.
    """
    ordered = sorted(documents.items(), key=lambda item: (item[1].head.revision, item[0]))
    parts = {file: loaded.models for file, loaded in ordered}
    models = _continued(before, parts)
    if len(models) != sum(map(len, parts.values())):  # a name stands twice, or is lacking since it did: rare
        models = {name: model for part in parts.values() for name, model in part.items()}
    return Joined(parts, models)


def _continued(before: Joined, parts: Mapping[str, Mapping[str, Model]]) -> dict[str, Model]:
    """Return the models of before with those of changed documents replaced: right if no name stands in two documents.

    Its names are always among those of `parts`; so if there are as many as in all of them, none is doubled and none lacking.
    """
    pairs = [(before.parts.get(file, _NONE), parts.get(file, _NONE)) for file in before.parts.keys() | parts.keys()]
    changed = [(old, new) for old, new in pairs if old is not new]
    models = before.models.copy()
    for old, new in changed:
        for name in old.keys() - new.keys():
            models.pop(name, None)
    for _, new in changed:
        models.update(new)
    return models


EMPTY: Final = Joined({}, {})
