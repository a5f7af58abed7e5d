"""Valid specs of both kinds, to be changed by tests: each call returns a new one. Not a test module."""

from __future__ import annotations

from typing import Any

from aigateway_operator.rules import RuleContext, Violation

CONTEXT = RuleContext("chat")


def make_backend(**changes: Any) -> dict[str, Any]:
    """Return one valid backend, with `changes` on top; a change to `...` removes the key."""
    return _changed({"name": "small", "model": "gpt-4o-mini"}, changes)


def make_virtual_model(**changes: Any) -> dict[str, Any]:
    """Return a valid VirtualModel spec with two backends, with `changes` on top; a change to `...` removes the key."""
    spec = {
        "gatewayRef": {"name": "main"},
        "use": True,
        "current": "small",
        "baseUrl": "https://api.example.com/v1",
        "proxyKeySecretRef": {"name": "chat-keys", "key": "proxy"},
        "backends": [
            make_backend(apiKeySecretRef={"name": "openai", "key": "api-key"}, parameters={"temperature": 0.2}),
            make_backend(name="big", model="gpt-4o", baseUrl="https://eu.example.com/v1"),
        ],
    }
    return _changed(spec, changes)


def make_gateway_config(**changes: Any) -> dict[str, Any]:
    """Return a valid GatewayConfig spec that sets every section, with `changes` on top; `...` removes the key."""
    spec = {
        "app": {"host": "0.0.0.0", "port": 8000, "debug": False},
        "storage": {
            "mongodb": {"host": "mongodb.ai.svc", "username": "gateway", "passwordSecretRef": {"name": "m", "key": "p"}},
            "redis": {"host": "redis.ai.svc", "port": 6379},
            "qdrant": {"host": "qdrant.ai.svc", "tls": {"enabled": True, "caSecretRef": {"name": "ca", "key": "ca.crt"}}},
        },
        "webSearch": {"provider": "searxng", "baseUrl": "http://searxng.ai.svc:8080", "options": {"safe": True}},
        "log": {"system": _make_stream(), "operation": _make_stream()},
        "delivery": {"podSelector": {"matchLabels": {"app": "gateway"}}, "shards": 1},
        "probes": {"periodSeconds": 10},
    }
    return _changed(spec, changes)


def brief(violations: list[Violation]) -> list[tuple[str, str]]:
    """Return (rule, path) of each violation: what a table can state in one line."""
    return [(violation.rule, violation.path) for violation in violations]


def _make_stream() -> dict[str, Any]:
    return {"level": "INFO", "storage": {"sinks": ["mongodb", "file"], "path": "logs"}, "retentionDays": 30}


def _changed(spec: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**spec, **changes}.items() if value is not ...}
