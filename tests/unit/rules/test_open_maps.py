"""Open maps: what may stand in `parameters` and `options`, at every depth."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from aigateway_operator.rules.openmaps import MAX_DEPTH, check_open_map, check_parameters
from tests.unit.rules.specs import brief


def nested(levels: int, leaf: Any) -> Any:
    """Return `leaf` inside `levels` mappings and lists in turn."""
    for level in range(levels):
        leaf = {"a": leaf} if level % 2 else [leaf]
    return leaf


LEGAL_KEYS = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop_token_ids",
    "prompt_cache_key",
    "logit_bias",
    "stream_options",
    "seed",
    "stop",
    "n",
    "eos_token",
    "bos_token",
    "pad_token_id",
    "skip_special_tokens",
    "min_tokens",
    "tokenizer",
    "tokens",
    "response_format",
    "key",
    "sort_key",
    "cache_key",
    "keyword",
    "keys",
    "secretary",
    "password_policy",
    "author",
    "authors",
    "authority",
    "cookies_enabled",
    "x-request-id",
    "tool_choice",
    "reasoning_effort",
    "token_limit",
    "monkey",
    "passwordless",
]

SECRET_KEYS = [
    "api_key",
    "apiKey",
    "api-key",
    "APIKEY",
    "Api.Key",
    "x-api-key",
    "openai_api_key",
    "apikeys",
    "token",
    "TOKEN",
    "access_token",
    "accessToken",
    "auth_token",
    "refresh_token",
    "id_token",
    "session_token",
    "hf_token",
    "password",
    "Password",
    "db_password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "client_secret",
    "clientSecret",
    "aws_secret_access_key",
    "aws_access_key_id",
    "secret_key",
    "private_key",
    "privateKey",
    "signing_key",
    "subscription-key",
    "Ocp-Apim-Subscription-Key",
    "authorization",
    "Authorization",
    "Proxy-Authorization",
    "auth",
    "bearer",
    "jwt",
    "cookie",
    "Set-Cookie",
    "credentials",
    "credential",
    "connection_string",
    "proxy_key",
    "ａｐｉ_ｋｅｙ",
]


@pytest.mark.parametrize("key", LEGAL_KEYS)
def test_ordinary_key_is_legal(key: str) -> None:
    """Names of request parameters that merely hold "token" or "key" are not taken for secrets."""
    assert check_parameters({key: "x"}, "p") == []


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_secret_looking_key_is_refused_at_every_depth_without_its_value(key: str) -> None:
    """The key is named, the value never."""
    for value in ({key: "hunter2"}, {"extra": [{"headers": {key: "hunter2"}}]}):
        (found,) = check_open_map(value, "p")
        assert found.rule == "R13"
        assert "hunter2" not in str(found)


def test_property_of_a_json_schema_may_be_called_password() -> None:
    """`properties` of a tool's schema maps names to schemas; a text there would still be a value."""
    schema = {"tools": [{"parameters": {"properties": {"password": {"type": "string"}, "token": True}}}]}
    assert check_open_map(schema, "p") == []
    assert brief(check_open_map({"properties": {"password": "hunter2"}}, "p")) == [("R13", "p.properties.password")]
    inside: dict[str, Any] = {"properties": {"x": {"password": {}}}}
    assert brief(check_open_map(inside, "p")) == [("R13", "p.properties.x.password")]


@pytest.mark.parametrize("key", ["model", "messages", "input", "stream"])
def test_parameters_refuse_what_gateway_and_caller_set(key: str) -> None:
    """Only at the first level, and only in `parameters`."""
    assert brief(check_parameters({key: "x"}, "p")) == [("R14", f"p.{key}")]
    assert check_parameters({"extra_body": {key: "x"}}, "p") == []
    assert check_open_map({key: "x"}, "p") == []


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, 2**63 - 1, -(2**63), True, False, None, "", "a\nb\x7f", [], {}, [None, True], 1e308]
)
def test_json_value_is_legal(value: Any) -> None:
    """Control characters in values are fine (a stop sequence may be a line feed): rendering escapes them."""
    assert check_open_map({"a": value, "b": [value]}, "p") == []


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (float("nan"), "R15"),
        (float("inf"), "R15"),
        (float("-inf"), "R15"),
        (2**63, "R15"),
        (-(2**63) - 1, "R15"),
        pytest.param(10**5000, "R15", id="5001 digits"),
        pytest.param(1e20, "R15", id="1e20, stored as 21 digits"),
        (-(2.0**63) * 2, "R15"),
        (datetime.date(2026, 1, 1), "R15"),
        (b"x", "R15"),
        ((1, 2), "R15"),
        ({1, 2}, "R15"),
        ("a\ud800", "R18"),
        ("\udfffa", "R18"),
    ],
)
def test_value_that_json_cannot_hold_is_refused_at_every_depth(value: Any, rule: str) -> None:
    """YAML files can hold dates and huge numbers; neither survives JSON or the API server."""
    assert brief(check_open_map({"a": value, "b": {"c": [0, value]}}, "p")) == [(rule, "p.a"), (rule, "p.b.c[1]")]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("", 'p[""]'),
        ("a\nb", 'p["a\\nb"]'),
        ("a\x85b", 'p["a\\x85b"]'),
        ("a\x7f", 'p["a\\x7f"]'),
        ("a\u2028", 'p["a\\u2028"]'),
        ("a\u2029", 'p["a\\u2029"]'),
        ("a\ud800", 'p["a\\ud800"]'),
        ("a\ufffe", 'p["a\\ufffe"]'),
        ("a\ufdd0", 'p["a\\ufdd0"]'),
        ("a\U0010ffff", 'p["a\\U0010ffff"]'),
        ("k" * 254, f'p["{"k" * 80}…"]'),
    ],
)
def test_key_that_cannot_be_seen_or_written_is_refused(key: str, path: str) -> None:
    """Empty, too long, control characters, separators, half surrogates, noncharacters; the path stays printable."""
    assert brief(check_open_map({key: 1}, "p")) == [("R16", path)]
    assert brief(check_open_map({"x": [{key: 1}]}, "p")) == [("R16", f"p.x[0]{path[1:]}")]


@pytest.mark.parametrize("key", ["k" * 253, "ü", "with space", "a.b", "日本", "😀", 'quo"te'])
def test_unusual_but_printable_key_is_legal(key: str) -> None:
    """Open means open."""
    assert check_open_map({key: 1}, "p") == []


def test_key_that_is_not_text_is_refused() -> None:
    """YAML reads `1:` and `true:` as a number and a truth value."""
    assert brief(check_open_map({1: "x"}, "p")) == [("R16", "p")]
    assert brief(check_open_map({"a": [{False: "x"}]}, "p")) == [("R16", "p.a[0]")]


def test_depth_is_counted_from_the_open_map() -> None:
    """Exactly 32 levels pass, the 33rd is refused, and nothing below it is walked: a map that holds itself ends too."""
    assert check_open_map({"a": nested(MAX_DEPTH - 1, 1)}, "p") == []
    assert [found.rule for found in check_open_map({"a": nested(MAX_DEPTH, 1)}, "p")] == ["R17"]
    endless: dict[str, Any] = {}
    endless["a"] = endless
    assert [found.rule for found in check_open_map(endless, "p")] == ["R17"]


def test_one_level_holds_at_most_64_keys() -> None:
    """At the first level and below."""
    wide = {f"k{index}": 1 for index in range(65)}
    assert brief(check_open_map(wide, "p")) == [("R16", "p")]
    assert brief(check_open_map({"a": wide}, "p")) == [("R16", "p.a")]
    wide.popitem()
    assert check_open_map(wide, "p") == []


@pytest.mark.parametrize("value", [None, [], "x", 1, [{"api_key": 1}]])
def test_what_is_no_mapping_is_left_to_structure(value: object) -> None:
    """No second violation for one fault."""
    assert check_open_map(value, "p") == []
    assert check_parameters(value, "p") == []
