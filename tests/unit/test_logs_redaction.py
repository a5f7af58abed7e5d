"""Redaction: no planted secret reaches a stream, whatever surrounds it and whichever way it came in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

import aigateway_logs
from aigateway_logs.redaction import redact, redact_fields

ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
BODIES = st.text(ALPHABET, min_size=24, max_size=40)
AROUND = st.text(max_size=12).map(lambda text: f"{text} ")
SHAPES = (
    "sk-{}",
    "gsk_{}",
    "hf_{}",
    "ghp_{}",
    "AIza{}",
    "Bearer {}",
    "authorization: Basic {}",
    "password={}",
    "PASSWD: {}",
    '"apiKey": "{}"',
    '{{"proxy_key": "a\\"b {} c"}}',
    "{{'api-key': 'x y {} z'}}",
    "db_password = {}",
    "token:{}",
    "mongodb://user:{}@mongo.ai.svc:27017/db",
    "mongodb://user:a/b@{}@mongo.ai.svc",
    "redis://:{}@redis",
    "https://{}@example.com/v1",
    "eyJhbGciOiJIUzI1NiJ9.{}.sig",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in aigateway_logs.front.LIBRARY_LEVELS}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logger.remove()


@given(shape=st.sampled_from(SHAPES), body=BODIES, before=AROUND, after=AROUND)
def test_no_secret_of_a_known_shape_survives(shape: str, body: str, before: str, after: str) -> None:
    """Whatever stands around it in the text."""
    assert body not in redact(f"{before}{shape.format(body)} {after}")


@given(
    name=st.sampled_from(
        ["password", "apiKey", "api_key", "PROXY_KEY", "db.password", "token", "clientSecret", "Authorization"]
    ),
    value=st.text(min_size=1) | st.integers(10**6) | st.lists(BODIES, min_size=1) | st.dictionaries(BODIES, BODIES, min_size=1),
)
def test_fields_of_telling_names_are_masked_whole(name: str, value: object) -> None:
    """At any depth and of any type: a value needs no shape to be a secret."""
    assert redact_fields({name: value, "in": {"a": [{name: value}]}}) == {name: "***", "in": {"a": [{name: "***"}]}}


@pytest.mark.parametrize(
    "text",
    [
        "Secret 'openai' has no key 'api-key'.",
        "max_tokens: 4096, stop_token_ids: [1], prompt_cache_key: abc",
        "api_key_ref: openai.api-key, password_ref: mongodb.password",
        "https://example.com/v1/@me?x=1",
        "http://searxng.ai.svc:8080/search",
        "GET /api/v1/namespaces/ai/secrets/keys was answered 404",
        "task-force-12345678 and disk-usage-of-node",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    """Names and references are what an operator of this has to go by."""
    assert redact(text) == text


@pytest.mark.parametrize("log_format", ["json", "text"])
@given(body=BODIES, quote=st.sampled_from(["", '"', "'", '\\"', "\n"]))
def test_no_way_into_the_log_leads_round_redaction(log_format: Literal["json", "text"], body: str, quote: str) -> None:
    """Message, fields, exception, and standard logging: and every JSON line still parses."""
    stream = io.StringIO()
    aigateway_logs.configure("DEBUG", log_format, stream)
    secret = f"sk-{body}"
    logger.info("{}", f"password={quote}{secret}{quote} and {{braces}}")
    logger.bind(detail={"password": secret, "list": [f"token {secret}"]}, api_key=secret).info("Fields")
    logging.getLogger("kopf.objects").error("to %s", f"redis://:{secret}@host")
    try:
        raise ValueError(f"refused {secret}")
    except ValueError:
        logger.exception("It failed")
    assert body not in stream.getvalue()
    if log_format == "json":
        assert len([json.loads(line) for line in stream.getvalue().splitlines()]) == 4
