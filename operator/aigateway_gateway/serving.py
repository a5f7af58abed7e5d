"""One configuration made ready for requests: whose key opens what, and where a request for a model goes.

A request takes the `Serving` in force when it starts and keeps it to its end, so that an edit never changes a request half
way. Made anew for every configuration, in the event loop: at the cost of what changed, and of copies of three mappings. Called
by `state`, `calls` and `models`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from yarl import URL

from aigateway_config.configuration import Configuration
from aigateway_config.model import Backend, Model
from aigateway_gateway import __version__
from aigateway_gateway.keys import Keyring, bearer
from aigateway_gateway.limits import Gate, Gates
from aigateway_gateway.openai_errors import ApiError, Kind, model_not_found

_AGENT: Final = f"aigateway/{__version__}"
_HOW_TO_SEND_A_KEY: Final = "Send one in the Authorization header: 'Authorization: Bearer YOUR_KEY'."


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests for one model go while one configuration is in force."""

    model: Model
    backend: Backend
    chat: URL
    embeddings: URL
    headers: Mapping[str, str]
    parameters: Mapping[str, Any]
    secrets: tuple[str, ...]
    """Texts that no answer may repeat."""
    gate: Gate


class Serving:
    """A configuration, its keys, and the targets that were asked for so far."""

    def __init__(self, configuration: Configuration, gates: Gates, previous: Serving | None = None) -> None:
        models = configuration.models
        self.configuration = configuration
        self._gates = gates
        self.targets: dict[str, Target] = {}
        """Made so far, by public name."""
        self.lost = False
        """Whether the previous one has models that this one has not."""
        if previous is None:
            self.keys = Keyring(models)
            return
        changed = configuration.changed_models(previous.configuration)
        self.keys = Keyring(models, previous.keys, changed)
        self.targets = previous.targets.copy()
        for name in changed:
            self.targets.pop(name, None)
        self.lost = any(name not in models for name in changed)

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the key a caller presents, before anything of its body is read. Raises ApiError (401).

        A key that opens no model at all is refused here, but for the case that a model's own Secret is missing: `target`
        tells that one.
        """
        presented = bearer(headers)
        if presented is None:
            raise ApiError(Kind.NO_KEY, f"You didn't provide an API key. {_HOW_TO_SEND_A_KEY}")
        if not self.keys.opens(presented):
            raise ApiError(Kind.WRONG_KEY, f"Incorrect API key provided. {_HOW_TO_SEND_A_KEY}")
        return presented

    def models_for(self, presented: bytes) -> list[Model]:
        """Return the models in use that this key opens."""
        models = self.configuration.models
        return [models[name] for name in self.keys.opens(presented) if models[name].use]

    def target(self, name: str, presented: bytes) -> Target:
        """Return where a request goes. Raises ApiError: 404 unknown, off or not for this key; 401, 503 a Secret is missing."""
        model = self.configuration.models.get(name)
        if model is None or not model.use:
            raise model_not_found(name)
        if not self.keys.is_for(name, presented):
            if model.proxy_key is None:
                raise ApiError(Kind.WRONG_KEY, f"The key of model `{name}` is not available now, so none is accepted.")
            raise model_not_found(name)
        target = self.targets.get(name)
        if target is None:
            target = self.targets[name] = self._make(model)
        return target

    def _make(self, model: Model) -> Target:
        backend = model.live
        key = "" if backend.api_key is None else backend.api_key.get_secret_value().strip()
        if backend.api_key_ref is not None and not _fits_a_header(key):
            text = f"The gateway has no usable key for the backend of model `{model.name}` now. Try again shortly."
            raise ApiError(Kind.BACKEND_KEY_MISSING, text, retry_after_seconds=5)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": _AGENT}
        if backend.api_key_ref is not None:
            headers["Authorization"] = f"Bearer {key}"
        base = backend.base_url.rstrip("/")
        return Target(
            model=model,
            backend=backend,
            chat=URL(f"{base}/chat/completions"),
            embeddings=URL(f"{base}/embeddings"),
            headers=headers,
            parameters=orjson.loads(orjson.dumps(backend.parameters, default=dict)),
            secrets=(key,),
            gate=self._gates.get(model.name, backend.name),
        )


def _fits_a_header(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable()
