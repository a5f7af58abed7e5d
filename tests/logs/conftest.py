"""Logging as it was before each test, and secrets that a test made known forgotten."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from loguru import logger

from aigateway_logs.front import LIBRARY_LEVELS
from aigateway_logs.known_secrets import KNOWN, KnownSecrets


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARY_LEVELS}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logger.remove()
    KNOWN.__dict__.update(KnownSecrets().__dict__)
