"""Canonical JSON that is also YAML and means the same to both kinds of parser.

Called by everything that renders. Sorted keys, no spaces, and only text that no YAML 1.1 or 1.2 parser refuses or changes:
C0 and C1 controls, DEL, U+0085, U+2028, U+2029, the byte order mark, surrogates and U+FFFE/U+FFFF are escaped, and floats
always have a point and a signed exponent (PyYAML reads `1e16` as text).
Source: docs/measured.md#folders-and-yaml (what PyYAML does to text); YAML 1.1 "float" resolver; PyYAML reader and scanner.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

from aigateway_operator.errors import RenderError

_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def encode_text(text: str) -> str:
    """Return `text` as a JSON string, quotes included."""
    quoted: str = encode_basestring(text)
    if quoted.isascii() and "\x7f" not in quoted:
        return quoted
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def encode_texts(texts: Sequence[str]) -> list[str]:
    """Return each as `encode_text` does; names of a whole document are looked at together, since nearly all are plain."""
    together = "".join(texts)
    if together.isascii() and together.isprintable() and '"' not in together and "\\" not in together:
        return [f'"{text}"' for text in texts]
    return [encode_text(text) for text in texts]


def encode_float(number: float) -> str:
    """Return a finite float so that JSON and YAML parsers both read that very number.

    Raises RenderError for infinities and NaN, which JSON cannot say (rules refuse them before).
    """
    if not isfinite(number):
        raise RenderError(f"a document cannot hold the number {number!r}")
    text = repr(number)
    mantissa, exponent_mark, exponent = text.partition("e")
    if not exponent_mark:
        return text
    point = mantissa if "." in mantissa else f"{mantissa}.0"
    sign = "" if exponent[0] in "+-" else "+"
    return f"{point}e{sign}{exponent}"


def encode(value: Any) -> str:
    """Return any JSON value in canonical form, on one line.

    Raises RenderError for what is not JSON.
    """
    if isinstance(value, str):
        return encode_text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return encode_float(value)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise RenderError("a document cannot hold a key that is not text")
        keys = sorted(value)
        contents = [value[key] for key in keys]
        plain = all(isinstance(content, str) for content in contents)
        texts = encode_texts(contents) if plain else [encode(content) for content in contents]
        return "{" + ",".join(f"{key}:{text}" for key, text in zip(encode_texts(keys), texts, strict=True)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(encode, value)) + "]"
    raise RenderError(f"a document cannot hold a {type(value).__name__}")
