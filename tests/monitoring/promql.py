"""As much of PromQL as our alerts and dashboard use: parsed, so that names and labels can be compared, and evaluated.

Source: prometheus.io/docs/prometheus/latest/querying. `rate` and `increase` leave out Prometheus' extrapolation to the ends
of the range; where promtool is on PATH the same rule tests are run by it too (`test_rules.py`). Whatever is not known here
is a ValueError, so that no expression is silently taken for right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import eq, ge, gt, le, lt, ne
from typing import Final

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Samples = Mapping[Labels, Sequence[tuple[float, float]]]
"""Labels (with `__name__`) → (time in seconds, value), in order of time."""

STALE_SECONDS: Final = 300.0
AGGREGATIONS: Final = {"sum": sum, "max": max, "min": min, "count": len}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?![\w.]))|(?P<duration>\d+[smhd])|(?P<string>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<name>[a-zA-Z_$][\w:$]*)|(?P<operator>=~|!~|!=|==|>=|<=|[-+*/()\[\]{},<>=]))"
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEVELS: Final = (("or",), ("and", "unless"), ("==", "!=", ">", "<", ">=", "<="), ("+", "-"), ("*", "/"))


@dataclass(frozen=True)
class Selector:
    """A metric, its matchers (label, operator, value), and the range in seconds, None for an instant."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...] = ()
    range_seconds: float | None = None


@dataclass(frozen=True)
class Call:
    """A function or an aggregation with its labels."""

    name: str
    arguments: tuple[Expression, ...]
    by: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Binary:
    """Two sides and what joins them."""

    operator: str
    left: Expression
    right: Expression


Expression = Selector | Call | Binary | float


@dataclass
class _Parser:
    tokens: list[tuple[str, str]]
    at: int = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        text = self.peek()
        if not text or (expected and text != expected):
            raise ValueError(f"{expected or 'more'!r} expected, {text or 'the end'!r} found")
        self.at += 1
        return text

    def binary(self, level: int = 0) -> Expression:
        if level == len(_LEVELS):
            return self.primary()
        left = self.binary(level + 1)
        while self.peek() in _LEVELS[level]:
            operator = self.take()
            left = Binary(operator, left, self.binary(level + 1))
        return left

    def primary(self) -> Expression:
        if self.peek() == "(":
            self.take("(")
            inner = self.binary()
            self.take(")")
            return inner
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return float(text)
        if kind != "name":
            raise ValueError(f"a metric or function expected, {text!r} found")
        if text in AGGREGATIONS or self.peek() == "(":
            return self.call(text)
        return self.selector(text)

    def call(self, name: str) -> Call:
        by: tuple[str, ...] | None = None
        if self.peek() == "by":
            self.take("by")
            by = tuple(self.listed(lambda: self.take()))
        arguments = tuple(self.listed(self.binary))
        if name in AGGREGATIONS and by is None:
            by = ()
        return Call(name, arguments, by)

    def listed(self, one: Callable[[], object]) -> list:  # type: ignore[type-arg]  # of whatever `one` gives
        found = []
        self.take("(")
        while self.peek() != ")":
            found.append(one())
            if self.peek() == ",":
                self.take(",")
        self.take(")")
        return found

    def selector(self, metric: str) -> Selector:
        matchers = []
        if self.peek() == "{":
            self.take("{")
            while self.peek() != "}":
                label, operator, value = self.take(), self.take(), self.take()
                matchers.append((label, operator, value.strip('"')))
                if self.peek() == ",":
                    self.take(",")
            self.take("}")
        seconds: float | None = None
        if self.peek() == "[":
            self.take("[")
            text = self.take()
            seconds = 300.0 if text.startswith("$") else float(text[:-1]) * _SECONDS[text[-1]]
            self.take("]")
        return Selector(metric, tuple(matchers), seconds)


def parse(text: str) -> Expression:
    """Return the tree of an expression. Raises ValueError."""
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"not understood at {text[at : at + 20]!r}")
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    parser = _Parser(tokens)
    found = parser.binary()
    if parser.peek():
        raise ValueError(f"something follows the end: {parser.peek()!r}")
    return found


def selectors(expression: Expression) -> Iterator[Selector]:
    """Yield every selector of a tree."""
    if isinstance(expression, Selector):
        yield expression
    elif isinstance(expression, Call):
        for argument in expression.arguments:
            yield from selectors(argument)
    elif isinstance(expression, Binary):
        yield from selectors(expression.left)
        yield from selectors(expression.right)


def grouped(expression: Expression) -> Iterator[tuple[tuple[str, ...], list[Selector]]]:
    """Yield the labels of every `by`, with the selectors inside it."""
    if isinstance(expression, Call):
        if expression.by:
            yield expression.by, [found for argument in expression.arguments for found in selectors(argument)]
        for argument in expression.arguments:
            yield from grouped(argument)
    elif isinstance(expression, Binary):
        yield from grouped(expression.left)
        yield from grouped(expression.right)


@dataclass
class Evaluator:
    """Evaluates at one moment."""

    samples: Samples
    now: float
    functions: dict[str, Callable[..., float | Vector]] = field(init=False)

    def __post_init__(self) -> None:
        self.functions = {
            "rate": lambda found: self._increase(found, per_second=True),
            "increase": lambda found: self._increase(found, per_second=False),
            "absent": lambda found: {} if self.evaluate(found) else {frozenset(): 1.0},
            "scalar": self._scalar,
            "time": lambda: self.now,
            "histogram_quantile": self._quantile,
        }

    def evaluate(self, expression: Expression) -> float | Vector:
        """Return a number or a vector."""
        if isinstance(expression, float):
            return expression
        if isinstance(expression, Selector):
            return self._instant(expression)
        if isinstance(expression, Binary):
            return self._binary(expression)
        if expression.by is not None:
            return self._aggregate(expression)
        if expression.name not in self.functions:
            raise ValueError(f"function {expression.name} is not known here")
        return self.functions[expression.name](*expression.arguments)

    def _matching(self, selector: Selector) -> Iterator[tuple[Labels, Sequence[tuple[float, float]]]]:
        for labels, points in self.samples.items():
            named = dict(labels)
            if named.get("__name__") == selector.metric and all(_fits(named, one) for one in selector.matchers):
                yield labels, points

    def _instant(self, selector: Selector) -> Vector:
        found: Vector = {}
        for labels, points in self._matching(selector):
            recent = [value for at, value in points if self.now - STALE_SECONDS < at <= self.now]
            if recent:
                found[labels] = recent[-1]
        return found

    def _increase(self, selector: Expression, *, per_second: bool) -> Vector:
        assert isinstance(selector, Selector)
        assert selector.range_seconds is not None
        found: Vector = {}
        for labels, points in self._matching(selector):
            values = [value for at, value in points if self.now - selector.range_seconds < at <= self.now]
            if len(values) > 1:
                grown = sum(after - before if after >= before else after for before, after in pairwise(values))
                found[_without_name(labels)] = grown / selector.range_seconds if per_second else grown
        return found

    def _scalar(self, expression: Expression) -> float:
        found = self.evaluate(expression)
        return next(iter(found.values())) if isinstance(found, dict) and len(found) == 1 else float("nan")

    def _quantile(self, quantile: Expression, expression: Expression) -> Vector:
        assert isinstance(quantile, float)
        found = self.evaluate(expression)
        assert isinstance(found, dict)
        groups: dict[Labels, list[tuple[float, float]]] = {}
        for labels, value in found.items():
            bound = float(dict(labels)["le"].replace("+Inf", "inf"))
            groups.setdefault(frozenset(one for one in labels if one[0] != "le"), []).append((bound, value))
        return {labels: _in_buckets(sorted(buckets), quantile) for labels, buckets in groups.items()}

    def _aggregate(self, call: Call) -> Vector:
        found = self.evaluate(call.arguments[0])
        assert isinstance(found, dict)
        assert call.by is not None
        groups: dict[Labels, list[float]] = {}
        for labels, value in found.items():
            groups.setdefault(frozenset(one for one in labels if one[0] in call.by), []).append(value)
        return {labels: float(AGGREGATIONS[call.name](values)) for labels, values in groups.items()}  # type: ignore[operator]

    def _binary(self, expression: Binary) -> float | Vector:
        left, right, operator = self.evaluate(expression.left), self.evaluate(expression.right), expression.operator
        if operator == "or":
            assert isinstance(left, dict)
            assert isinstance(right, dict)
            return {**{labels: value for labels, value in right.items() if labels not in left}, **left}
        if isinstance(left, dict) and isinstance(right, dict):
            others = {_without_name(labels): value for labels, value in right.items()}
            pairs = {
                labels: (value, others[_without_name(labels)])
                for labels, value in left.items()
                if _without_name(labels) in others
            }
        elif isinstance(left, dict) and isinstance(right, float):
            pairs = {labels: (value, right) for labels, value in left.items()}
        else:
            raise ValueError(f"{operator} of these operands is not known here")
        if operator in ("+", "-", "*", "/"):
            return {_without_name(labels): _arithmetic(operator, *pair) for labels, pair in pairs.items()}
        return {labels: pair[0] for labels, pair in pairs.items() if _holds(operator, *pair)}


def _fits(labels: Mapping[str, str], matcher: tuple[str, str, str]) -> bool:
    label, operator, wanted = matcher
    value = labels.get(label, "")
    if operator in ("=", "!="):
        return (value == wanted) == (operator == "=")
    return (re.fullmatch(wanted, value) is not None) == (operator == "=~")


def _without_name(labels: Labels) -> Labels:
    return frozenset(one for one in labels if one[0] != "__name__")


def _arithmetic(operator: str, left: float, right: float) -> float:
    if operator == "/":
        return left / right if right else float("nan")
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def _holds(operator: str, left: float, right: float) -> bool:
    return bool({"==": eq, "!=": ne, ">": gt, "<": lt, ">=": ge, "<=": le}[operator](left, right))


def _in_buckets(buckets: Sequence[tuple[float, float]], quantile: float) -> float:
    """Return where a quantile lies: linear within a bucket; in the last one its lower bound."""
    total = buckets[-1][1]
    if not total:
        return float("nan")
    before_bound = before_count = 0.0
    for bound, count in buckets:
        if count >= quantile * total:
            if bound == float("inf"):
                return before_bound
            return before_bound + (bound - before_bound) * (quantile * total - before_count) / (count - before_count)
        before_bound, before_count = bound, count
    return before_bound
