"""YAML and JSON text → JSON values, each with its line, read as kubectl reads them and stricter where it guesses.

As kubectl (sigs.k8s.io/yaml): YAML 1.1 truth values, `1e3` is a number, dates are text, number and truth keys become text,
whole floats become integers. Stricter: a key that occurs twice is an error, and so is what JSON cannot say (.inf, .nan,
binary). Values never appear in an error: they may be secrets. Reads text, not files; called by `manifests` and `import_config`.

Source: sigs.k8s.io/yaml `goyaml.v2/resolve.go` and `yaml.go` (convertToJSONableObject).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import yaml

from aigateway_operator.rules.violation import at, shown

MAX_VALUES: Final = 2_000_000
"""Values of one document; aliases can turn a kilobyte into billions."""

MAX_DEPTH: Final = 200
"""Levels of nesting; open maps may have 32, and Python's own recursion ends at about 1,000."""

_PLAIN: Final = "plain"
_CORE: Final = "tag:yaml.org,2002:"
_MERGE: Final = "<<"
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_FOLDED: Final = re.compile("[\x85\u2028\u2029]")
"""Line ends to YAML and plain characters to JSON."""
_TRUTH_LETTERS: Final = frozenset("yYnN")
_NUMBER_START: Final = frozenset("0123456789+-.")
_INTEGER: Final = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_EXACT: Final = 1e21
"""Below it Go writes a whole float without exponent, so that it becomes an integer again."""
_MOST_DIGITS: Final = 4000
"""Python reads no longer whole number by itself (sys.get_int_max_str_digits)."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a text, and where; lines count from 1."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `value` is JSON; `line` where it begins.

    `line_of(path)` is the line of a place (`spec.app.port`), or of the closest place above it that is there. `hints` are
    legal surprises: what is read as something else than it looks like. `at_fault`: places of a damaged document at which
    `value` holds a stand-in.
    """

    value: Any = field(repr=False)
    line: int
    line_of: Callable[[str], int] = field(repr=False, compare=False)
    hints: tuple[Fault, ...] = ()
    at_fault: frozenset[str] = frozenset()


def parse_documents(text: str, *, truth_letters: bool = True, damaged: bool = False) -> tuple[list[Document], list[Fault]]:
    """Return the documents of a YAML stream, or of JSON values one after the other, and everything that is wrong.

    Empty documents are left out, and so is a document with a fault, unless `damaged` asks for those of YAML, to say what else
    is wrong with them. A syntax error ends the stream: what stands before counts.
    `truth_letters`: y and n are truth values, as for kubectl; False: text, as for programs that read with PyYAML.
    """
    found: list[Document] = []
    faults: list[Fault] = []
    looks_like_json = text.lstrip("\ufeff \t\r\n").startswith(("{", "["))
    if looks_like_json and _FOLDED.search(text):
        return _parse_json(text)
    try:
        for node in _compose(text):
            reader = _Reader(truth_letters)
            value = reader.value(node, "")
            faults.extend(reader.faults)
            if (not reader.faults or (damaged and reader.complete)) and value is not None:
                found.append(_document(value, node, tuple(reader.hints), frozenset(reader.at_fault)))
    except yaml.YAMLError as error:
        if looks_like_json:
            return _parse_json(text)
        faults.append(_syntax_fault(error))
    return found, faults


def _compose(text: str) -> Iterator[yaml.Node]:
    """Yield the node of each document. PyYAML's own composer breaks down at deep nesting, and guesses at plain text."""
    composer = _Composer()
    event: Any  # two implementations, one shape
    for event in yaml.parse(text.removeprefix("\ufeff"), Loader=_LOADER):
        composer.take(event)
        if isinstance(event, yaml.DocumentEndEvent) and composer.root is not None:
            yield composer.root
            composer = _Composer()


class _Composer:
    """Puts the nodes of one document together from the parser's events, without recursion."""

    def __init__(self) -> None:
        self.root: yaml.Node | None = None
        self._anchors: dict[str, yaml.Node] = {}
        self._open: list[tuple[yaml.CollectionNode, list[yaml.Node]]] = []

    def take(self, event: Any) -> None:
        """Take the next event. Raises yaml.YAMLError for an unknown alias or too deep nesting."""
        if isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _fault_at(event, "found an undefined alias")
            self._place(self._anchors[event.anchor])
        elif isinstance(event, yaml.NodeEvent):
            node = _node_of(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = node
            if isinstance(node, yaml.CollectionNode):
                if len(self._open) >= MAX_DEPTH:
                    raise _fault_at(event, f"nested more than {MAX_DEPTH} levels deep")
                self._open.append((node, []))
            else:
                self._place(node)

    def _close(self) -> None:
        node, inside = self._open.pop()
        node.value = list(zip(inside[::2], inside[1::2], strict=True)) if isinstance(node, yaml.MappingNode) else inside
        self._place(node)

    def _place(self, node: yaml.Node) -> None:
        if self._open:
            self._open[-1][1].append(node)
        else:
            self.root = node


def _fault_at(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _node_of(event: Any) -> yaml.Node:
    """Return the node that an event begins; plain scalars without a tag are marked, so that we decide what they mean."""
    start, end = event.start_mark, event.end_mark
    if isinstance(event, yaml.ScalarEvent):
        tag = event.tag if event.tag not in (None, "!") else _PLAIN if event.implicit[0] else f"{_CORE}str"
        return yaml.ScalarNode(tag, event.value, start, end)
    kind = yaml.MappingNode if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceNode
    return kind(getattr(event, "tag", None) or "", [], start, end)


def _document(value: Any, node: yaml.Node, hints: tuple[Fault, ...], at_fault: frozenset[str]) -> Document:
    lines: dict[str, int] = {}

    def line_of(path: str) -> int:
        if not lines:
            lines.update(_lines(node, ""))
        while path not in lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return lines[path]

    return Document(value, node.start_mark.line + 1, line_of, hints, at_fault)


def _lines(node: yaml.Node, path: str) -> Iterator[tuple[str, int]]:
    """Yield the line of every place: of a key where there is one."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = at(path, key.value) if isinstance(key, yaml.ScalarNode) else path
            yield from _lines(value, place)
            yield place, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, at(path, index))


def _syntax_fault(error: yaml.YAMLError) -> Fault:
    """Return the parser's words without the text it quotes, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    return Fault(mark.line + 1 if mark is not None else 1, f"is not YAML: {problem}. Correct the syntax here or just above.")


class _Reader:
    """Turns nodes into JSON values, collecting faults instead of stopping at the first."""

    def __init__(self, truth_letters: bool) -> None:
        self.faults: list[Fault] = []
        self.hints: list[Fault] = []
        self.at_fault: set[str] = set()
        self._truth_letters = truth_letters
        self._above: list[yaml.Node] = []
        self._count = 0

    @property
    def complete(self) -> bool:
        """Whether every value was read, or has its fault; False where reading was given up."""
        return self._count <= MAX_VALUES

    def value(self, node: yaml.Node, path: str) -> Any:
        """Return the JSON value of `node`, which stands at `path`; a stand-in where it is at fault."""
        self._count += 1
        if self._count > MAX_VALUES:
            if self._count == MAX_VALUES + 1:
                self._fault(node, path, "holds too many values, or aliases that multiply. Write it in several documents.")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if any(node is one for one in self._above):
            return self._fault(node, path, "contains itself by an alias. Write it out.")
        self._above.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.value(item, at(path, index)) for index, item in enumerate(node.value)]
        finally:
            self._above.pop()

    def _fault(self, node: yaml.Node, path: str, text: str) -> None:
        self.at_fault.add(path)
        self.faults.append(Fault(node.start_mark.line + 1, f"{path}: {text}" if path else text))

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        tag, text = node.tag, node.value
        if tag == f"{_CORE}str":
            return text
        if tag in (_PLAIN, f"{_CORE}null", f"{_CORE}bool", f"{_CORE}int", f"{_CORE}float"):
            if _INFINITE.fullmatch(text):
                self._fault(node, path, "is not a finite number, which JSON cannot say. Write a number, or put it in quotes.")
                return 0
            return self._plain(text)
        self._fault(
            node, path, f"has the tag {shown(tag)}, which JSON does not know. Remove the tag, or put the text in quotes."
        )
        return text

    def _plain(self, text: str) -> Any:
        return text if text in _TRUTH_LETTERS and not self._truth_letters else parse_plain(text)

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == _MERGE:
                self._merge(value_node, path, merged)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            line = key_node.start_mark.line + 1
            if key in lines:
                self._fault(key_node, at(path, key), f"is there twice, on lines {lines[key]} and {line}. Remove one.")
            lines.setdefault(key, line)
            mapping[key] = self.value(value_node, at(path, key))
        return {**merged, **mapping}

    def _merge(self, node: yaml.Node, path: str, merged: dict[str, Any]) -> None:
        """Take over what `<<` names; earlier sources win over later ones, and keys of the mapping itself over all."""
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.value(source, path)
            if isinstance(value, dict):
                merged.update({key: inner for key, inner in value.items() if key not in merged})
            else:
                self._fault(source, at(path, _MERGE), "must be a mapping, or a list of mappings.")

    def _key(self, node: yaml.Node, path: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, path, "has a key that is a list or a mapping. Put it in quotes.")
            return None
        value = node.value if node.tag == f"{_CORE}str" else self._plain(node.value)
        if isinstance(value, bool):
            key = "true" if value else "false"
            if node.value != key:
                text = f"the key {node.value} is read as '{key}', as kubectl does. Put it in quotes if it is a name."
                self.hints.append(Fault(node.start_mark.line + 1, f"{at(path, node.value)}: {text}"))
            return key
        if isinstance(value, str | int):
            return str(value)
        self._fault(node, path, "has a key that is neither text nor a whole number. Put it in quotes.")
        return None


def parse_plain(text: str) -> Any:
    """Return what a scalar without quotes and without tag means: null, truth value, number or text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_START:
        return text
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        return _integer(digits)
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        return int(number) if number.is_integer() and abs(number) < _EXACT else number
    return text


def _integer(digits: str) -> int | float:
    sign = -1 if digits[0] == "-" else 1
    bare = digits.lstrip("+-")
    if len(bare) > _MOST_DIGITS:
        return sign * float("inf")  # what rules say of numbers that are too large; int() refuses it by an error
    if len(bare) > 1 and bare[0] == "0" and bare[1].isdigit():
        return sign * int(bare, 8)
    return sign * int(bare, 0)


def _parse_json(text: str) -> tuple[list[Document], list[Fault]]:
    """Read JSON values one after the other, for what YAML refuses of JSON: tabs, escaped surrogates, no separators."""
    found: list[Document] = []
    faults: list[Fault] = []
    start = 0

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        for key in sorted({key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else ()):
            faults.append(Fault(text.count("\n", 0, start) + 1, f"'{shown(key)}' is there twice in one object. Remove one."))
        return dict(items)

    decoder = json.JSONDecoder(object_pairs_hook=pairs, parse_float=parse_plain, parse_int=_integer, parse_constant=float)
    text = text.removeprefix("\ufeff")
    while True:
        start += len(text[start:]) - len(text[start:].lstrip(" \t\r\n"))
        if start == len(text):
            return found, faults
        line, faults_before = text.count("\n", 0, start) + 1, len(faults)
        try:
            value, start = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            faults.append(Fault(error.lineno, f"is not JSON: {error.msg}. Correct the syntax here or just above."))
            return found, faults
        except RecursionError:
            faults.append(Fault(line, "is nested too deeply. Flatten it."))
            return found, faults
        if len(faults) == faults_before:
            found.append(Document(value, line, partial(_same_line, line)))


def _same_line(line: int, _path: str) -> int:
    """Answer for JSON, of which only the beginning of a document is known."""
    return line
