"""One configuration: everything a gateway needs of one moment, immutable, complete and verified.

Made by the state machine and read by programs, from any thread. No I/O. Three ways to read: typed attributes (`app.port`,
`models["chat"].live`), dotted paths (`get("app.port")`), and the whole tree as plain dictionaries (`as_dict()`,
`resolved()`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from pydantic import JsonValue, SecretStr

from aigateway_config.documents import App, DocumentState, Log, Storage, WebSearch
from aigateway_config.model import Model
from aigateway_config.tree import ModelsTree, Tree, copied, find, resolved_tree

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Configuration:
    """What is in force. A later one is a new object; this one never changes."""

    lineage: str
    """uid of the GatewayConfig. Revisions are compared only within one lineage."""
    gateway: str
    """`namespace/name` of the GatewayConfig."""
    documents: Mapping[str, DocumentState]
    """Revision and digest of every document in force, by file name."""
    credentials: Mapping[str, int]
    """Revision of every credentials manifest in force, by file name."""
    loaded_at: datetime
    """When it came into force, with time zone."""
    app: App
    storage: Storage
    web_search: WebSearch | None
    log: Log
    models: Mapping[str, Model] = field(repr=False)
    """Virtual models of all shards by public name, in the order of names, those that are switched off included."""
    secrets: Mapping[str, SecretStr] = field(repr=False)
    """Credentials by file name."""
    parts: Mapping[str, Mapping[str, Model]] = field(default_factory=dict, repr=False)
    """Models by the document that holds them. A document whose models are the same has the same mapping as before."""

    @property
    def revision(self) -> int:
        """The highest revision in force."""
        return max(state.revision for state in self.documents.values())

    @property
    def credentials_revision(self) -> int | None:
        """The highest credentials revision in force; None: no credentials are mounted."""
        return max(self.credentials.values(), default=None)

    def changed_models(self, old: Configuration) -> set[str]:
        """Return the names of the models that are not the same object as in `old`, new ones and those that are gone included.

        Costs what the documents hold that changed, not what all of them hold.
        """
        if not self.parts or not old.parts:
            names = self.models.keys() | old.models.keys()
        else:
            files = self.parts.keys() | old.parts.keys()
            pairs = [(self.parts.get(file, {}), old.parts.get(file, {})) for file in files]
            names = {name for new, known in pairs if new is not known for name in (*new, *known)}
        return {name for name in names if self.models.get(name) is not old.models.get(name)}

    def secret(self, ref: str | None) -> SecretStr | None:
        """Return the credential that a `*_ref` names; None for no reference, and for one whose Secret is missing.

        The text is that of the Secret, byte for byte: a line break at its end is part of it.
        """
        return None if ref is None else self.secrets.get(ref)

    def get(self, path: str | Sequence[str], default: T | None = None) -> JsonValue | T:
        """Return the value at a path of the tree, such as `app.port` or `ai-gateway.virtual_models.chat.current`.

        Names may hold dots: the longest key that leads to a value wins. A sequence of keys is taken as it is. Mappings and
        lists are copies. `default` is returned for a path that leads nowhere, not for a value that is null.
        """
        return find(self._tree(), path, default)

    def as_dict(self) -> dict[str, JsonValue]:
        """Return the whole tree as the documents have it, with names of credentials in place of values. A copy."""
        tree: dict[str, JsonValue] = copied(self._tree())
        return tree

    def resolved(self) -> dict[str, JsonValue]:
        """Return the tree that a program expects which reads one plain `config.yml`: **with secrets in place**. A copy.

        `proxy_key`, `api_key` and `password` (and `ca` of `tls`) stand where `*_ref` stood, null when the Secret is missing
        and absent where nothing is referenced; `parameters` are spread into the mapping of their backend.
        """
        return resolved_tree(self._tree(), self.secret)

    def _tree(self) -> Tree:
        """Return the tree of the documents; models become dictionaries when they are looked at."""
        return {
            "ai-gateway": {"virtual_models": ModelsTree(self.models)},
            "app": self.app.model_dump(),
            "log": self.log.model_dump(),
            "storage": self.storage.model_dump(),
            "web_search": None if self.web_search is None else self.web_search.model_dump(),
        }
