"""What the demo prints and says about failures: no colour off a terminal, whole messages, no secrets."""

import base64
import io

import pytest

from hack.demo.feed import Seen, _describe
from hack.demo.screen import Screen, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escape codes go to a terminal alone, and not there when NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    pipe, terminal, plain = io.StringIO(), Terminal(), Terminal()
    Screen(pipe).seen("true", 3)
    Screen(terminal).seen("true", 3)
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(plain).seen("true", 3)
    assert pipe.getvalue() == plain.getvalue() == "  ✓ true  [3 ms]\n"
    assert "\x1b[" in terminal.getvalue()


def test_a_change_is_shown_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two long lines that differ far to the right are shown from a little before the difference, within the width."""
    stream = io.StringIO()
    screen = Screen(stream)
    screen.change("x" * 500 + "small" + "y" * 500, "x" * 500 + "big" + "y" * 500)
    gone, come = stream.getvalue().splitlines()
    assert "xxsmally" in gone
    assert "xxbigy" in come
    assert max(len(gone), len(come)) <= screen.width


def test_a_message_is_quoted_whole() -> None:
    """Nothing of what a server said is cut off; its lines stay lines."""
    stream = io.StringIO()
    words = [f"word-{number}" for number in range(80)]
    Screen(stream).quote("first\n" + " ".join(words))
    lines = stream.getvalue().splitlines()
    assert lines[0].strip() == "first"
    assert " ".join(lines[1:]).split() == words


def test_a_failed_wait_shows_no_value_of_a_secret() -> None:
    """The last state of a Secret in an error is the names of its keys."""
    value = base64.b64encode(b"very-secret").decode()
    secret = {"metadata": {"name": "s", "resourceVersion": "7"}, "data": {"key": value}}
    text = _describe(Seen(0.0, "MODIFIED", secret))
    assert "key" in text
    assert value not in text


@pytest.mark.parametrize(("milliseconds", "words"), [(0.2, "<1 ms"), (12.4, "12 ms"), (999.9, "1.0 s"), (3400, "3.4 s")])
def test_durations_are_in_words(milliseconds: float, words: str) -> None:
    """Below a second in milliseconds, from there on in seconds."""
    assert duration(milliseconds) == words
