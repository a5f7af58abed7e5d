"""Which characters may stand in text: nothing that vanishes, moves a line, or cannot be written as UTF-8.

Pure; called by all rules that look at text. Says what is wrong in words that follow the name of the place ("holds …").

Source: Unicode, chapter 4 (general categories) and section 23.7 (noncharacters); YAML 1.2 section 5.1 (printable
characters); RFC 3629 section 3 (no surrogates in UTF-8).
"""

from __future__ import annotations

import re
from typing import Final

# General categories Cs, Cc, Zl and Zp as ranges: ten times as fast as asking unicodedata for each character.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NONCHARACTER: Final = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17)
)
_UNSEEN: Final = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_NONCHARACTER}]")
_ASCII_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


def text_fault(text: str, *, controls: bool = False) -> str | None:
    """Say what is wrong with the characters of `text`, or return None. `controls`: control characters are welcome.

    Source: docs/rules.md#r18.
    """
    if text.isascii():
        return None if controls or _ASCII_CONTROL.search(text) is None else _CONTROL_TEXT
    if _SURROGATE.search(text):
        return "holds half a surrogate pair, which is not a character. Write the whole character."
    if not controls and _UNSEEN.search(text):
        return _CONTROL_TEXT
    return None


_CONTROL_TEXT: Final = "holds a control character, a line separator or a noncharacter. Remove it."
