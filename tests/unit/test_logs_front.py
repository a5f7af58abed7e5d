"""The front of logging: formats, levels, standard `logging` routed in, and sinks that never hurt their caller."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

import aigateway_logs
from aigateway_logs.front import LIBRARY_LEVELS


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARY_LEVELS}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logger.remove()


def configured(log_format: Literal["json", "text"] = "json", level: str = "DEBUG") -> io.StringIO:
    """Send the log to a buffer."""
    stream = io.StringIO()
    aigateway_logs.configure(level, log_format, stream)
    return stream


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return what was logged as JSON lines."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_braces_and_percent_signs_in_a_message_are_harmless() -> None:
    """Messages of libraries hold JSON and URLs; they are never formatted a second time."""
    stream = configured()
    logging.getLogger("lib").warning('{"a": {b}} 100%% %s', "{0} {x!r} %d")
    logger.info("{}", "{undefined}")
    assert [entry["message"] for entry in entries(stream)] == ['{"a": {b}} 100% {0} {x!r} %d', "{undefined}"]


def test_standard_logging_keeps_its_logger_level_and_object() -> None:
    """kopf names the object that a record is about in `k8s_ref`."""
    stream = configured()
    reference = {"kind": "VirtualModel", "namespace": "ai", "name": "chat", "uid": "u"}
    logging.getLogger("kopf.objects").error("Handler failed", extra={"k8s_ref": reference})
    logging.getLogger("lib").log(25, "between levels")
    first, second = entries(stream)
    assert first["source"] == "kopf.objects"
    assert first["level"] == "ERROR"
    assert (first["kind"], first["namespace"], first["name"]) == ("VirtualModel", "ai", "chat")
    assert "uid" not in first
    assert second["level"] == "Level 25"


def test_a_log_call_with_wrong_arguments_neither_raises_nor_is_lost() -> None:
    """A fault in a library's log line must not become a fault of its caller."""
    stream = configured()
    logging.getLogger("lib").warning("%d items", "many")
    assert entries(stream)[0]["message"] == "%d items"


def test_a_field_never_takes_the_place_of_what_every_record_has() -> None:
    """`level` and `message` are what machines filter by."""
    stream = configured()
    logger.bind(level="mine", message="mine", timestamp=1, source="there", revision=3).info("theirs")
    (entry,) = entries(stream)
    assert (entry["level"], entry["message"], entry["source"]) == ("INFO", "theirs", "there")
    assert (entry["level_"], entry["message_"], entry["timestamp_"], entry["revision"]) == ("mine", "mine", 1, 3)


@given(
    message=st.text(),
    value=st.text() | st.floats() | st.binary() | st.dictionaries(st.integers() | st.text(), st.text()) | st.just(object()),
)
def test_every_record_is_one_valid_json_line(message: str, value: object) -> None:
    """Whatever is in it: line ends of any kind, lone surrogates, NaN, objects, keys that are no text."""
    stream = configured()
    logger.bind(value=value, both=[value]).info("{}", message)
    logger.bind(value="\ud800").info("{}", "\ud800")
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    for line in lines[:2]:
        json.loads(line.encode(), parse_constant=pytest.fail)


def test_exceptions_come_with_their_traceback_and_no_values_of_variables() -> None:
    """loguru's `diagnose` would print local variables, among them Secrets."""
    stream = configured()
    local_value = "local" + "-value"
    try:
        raise LookupError(len(local_value))
    except LookupError:
        logger.exception("It failed")
        logging.getLogger("lib").exception("It failed too")
    logger.opt(exception=True).info("without one")
    first, second, third = entries(stream)
    assert "LookupError: 11" in first["traceback"]
    assert "LookupError: 11" in second["traceback"]
    assert "local-value" not in stream.getvalue()
    assert "traceback" not in third


def test_text_is_for_people() -> None:
    """TIME [LEVEL] [source] message | {fields}, and no colour where there is no terminal."""
    stream = configured("text")
    logger.bind(source="here", revision=3).warning("Documents were written")
    logger.bind(source="here").info("Nothing")
    try:
        raise LookupError("gone")
    except LookupError:
        logger.bind(source="here").exception("Failed")
    first, second, *rest = stream.getvalue().splitlines()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\S*"
    assert re.fullmatch(time + r' \[WARNING\] \[here\] Documents were written \| \{"revision": 3\}', first)
    assert re.fullmatch(time + r" \[INFO\] \[here\] Nothing", second)
    assert rest[-1] == "LookupError: gone"


def test_a_terminal_gets_colour() -> None:
    """Only text, and only levels that differ from the usual."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    aigateway_logs.configure("INFO", "text", stream)
    logger.error("bad")
    logger.info("good")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("\x1b[31m")
    assert first.endswith("\x1b[0m")
    assert "\x1b" not in second


def test_levels_are_kept_and_libraries_are_quieter() -> None:
    """kopf's INFO is a line per handler and its DEBUG holds whole objects."""
    stream = configured(level="INFO")
    logger.debug("no")
    logger.info("yes")
    logging.getLogger("any.library").debug("no")
    logging.getLogger("any.library").info("yes")
    logging.getLogger("kopf.activities").info("no")
    logging.getLogger("kopf.activities").warning("yes")
    logging.getLogger("aiohttp.access").warning("no")
    assert [entry["message"] for entry in entries(stream)] == ["yes"] * 3
    stream = configured(level="ERROR")
    logging.getLogger("kopf.activities").warning("no")
    assert stream.getvalue() == ""


def test_a_stream_that_is_gone_does_not_hurt_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does loguru print the record, unredacted, to standard error instead."""
    stream = configured()
    stream.close()
    logger.info("a word")
    logging.getLogger("lib").error("another")
    assert capsys.readouterr().err == ""


def test_a_value_that_cannot_be_rendered_costs_its_record_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Its place in the log says so."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("secret-in-error")

    stream = configured("text")
    logger.bind(value=Broken()).info("lost")
    logger.info("kept")
    first, second = stream.getvalue().splitlines()
    assert "could not be rendered: RuntimeError" in first
    assert "kept" in second
    assert "secret-in-error" not in stream.getvalue() + capsys.readouterr().err


def test_configuring_again_replaces_what_was_configured() -> None:
    """Nothing is logged twice."""
    first = configured()
    second = configured()
    logger.info("once")
    logging.getLogger("lib").warning("once")
    assert first.getvalue() == ""
    assert len(entries(second)) == 2
