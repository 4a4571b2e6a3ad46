"""Random differentiable programs, as a Hypothesis strategy, that read like what one would write by hand."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import DTypeLike

from minigrad.engine import Array
from minigrad.testing.check import source
from minigrad.testing.strategies import broadcastable, indices

LARGEST, MOST, DEEPEST = 50, 48, 4  # numbers, elements and axes in a program
KINK_MARGIN = 0.05  # numbers that max and min compare are at least so far apart: no kink is near


class Spelling(NamedTuple):
    """One operation, in two ways that mean the same; {0} and {1} stand for its operands."""

    usual: str
    other: str
    kink: str = "1"  # what is zero at its kink


class Line(NamedTuple):
    spelling: Spelling
    operands: tuple[int, ...]  # positions among the arguments and the lines before


ONE_OPERAND = [
    Spelling("np.sin({0})", "-np.sin(-{0})"),
    Spelling("np.cos({0})", "np.cos(np.negative({0}))"),
    Spelling("np.tanh({0})", "-np.tanh(-1 * {0})"),
    Spelling("np.arctan({0})", "-np.arctan(0 - {0})"),
    Spelling("-{0}", "np.subtract(0, {0})"),
    Spelling("{0}**2", "np.multiply({0}, {0})"),
    Spelling("{0} / 2", "np.multiply(0.5, {0})"),
    Spelling("1 - {0}", "np.add(np.negative({0}), 1)"),
    Spelling("np.exp({0} / 4)", "np.expm1(0.25 * {0}) + 1"),
    Spelling("np.sqrt(1 + {0}**2)", "np.hypot(1, {0})"),
    Spelling("np.log(2 + {0}**2)", "np.log1p(1 + np.square({0}))"),
    Spelling("np.where({0} > 0.5, {0}, {0} / 3)", "np.where({0} <= 0.5, {0} / 3, np.positive({0}))", "{0} - 0.5"),
    Spelling("np.maximum({0}, 0.25)", "-np.minimum(-{0}, -0.25)", "{0} - 0.25"),
]
TWO_OPERANDS = [
    Spelling("{0} + {1}", "np.add({1}, {0})"),
    Spelling("{0} - {1}", "np.add({0}, np.negative({1}))"),
    Spelling("{0} * {1}", "np.multiply({1}, {0})"),
    Spelling("{0} / (1 + {1}**2)", "np.multiply({0}, np.reciprocal(np.square({1}) + 1))"),
    Spelling("np.logaddexp({0}, {1})", "{1} + np.log1p(np.exp({0} - {1}))"),
    Spelling("np.arctan2({0}, 1 + {1}**2)", "np.arctan({0} / (1 + {1} * {1}))"),
    Spelling("np.maximum({0}, {1})", "np.where({0} > {1}, {0}, {1})", "{0} - {1}"),
    Spelling("np.minimum({0}, {1})", "-np.maximum(-{1}, -{0})", "{0} - {1}"),
]
PRODUCT = Spelling("{0} @ {1}", "np.sum({0}[..., :, None] * {1}, axis=-2)")


class Program:
    """A function of arrays or Tensors, with arguments to call it with; printed, it is Python ready to paste.

    `lines` are its calls; with `other`, each is spelled in a second way that gives the same.

    >>> program = Program([np.array([0.5, 2.5])], [Line(ONE_OPERAND[0], (0,)), Line(TWO_OPERANDS[2], (0, 1))])
    >>> program
    def program(a):
        b = np.sin(a)
        return a * b
    args = [np.array([0.5, 2.5])]
    >>> program(*program.args)
    array([0.23971277, 1.49618036])
    """

    def __init__(self, args: Sequence[Array], lines: Sequence[Line], other: bool = False) -> None:
        numbered = list(enumerate(lines, len(args)))
        used = {len(args) + len(lines) - 1}  # what nothing depends on is left out
        for i, line in reversed(numbered):
            if i in used:
                used.update(line.operands)
        place = {old: new for new, old in enumerate(sorted(used))}
        self.args = [a for i, a in enumerate(args) if i in used]
        self.lines = [Line(x.spelling, tuple(place[k] for k in x.operands)) for i, x in numbered if i in used]
        self.other = other
        namespace: dict[str, Any] = {"np": np}
        exec(self.source, namespace)
        self.function: Callable[..., Any] = namespace["program"]

    @property
    def source(self) -> str:
        """The definition of the function."""
        names = string.ascii_lowercase
        count = len(self.args)
        body = [line.spelling[self.other].format(*(names[i] for i in line.operands)) for line in self.lines]
        text = [f"def program({', '.join(names[:count])}):"]
        text += [f"    {names[count + i]} = {expression}" for i, expression in enumerate(body[:-1])]
        return "\n".join([*text, f"    return {body[-1] if body else names[0]}"])

    def respelled(self) -> Program:
        """The same program with every operation written in another way."""
        return Program(self.args, self.lines, not self.other)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __repr__(self) -> str:
        return f"{self.source}\nargs = [{', '.join(map(source, self.args))}]"


@st.composite
def programs(draw: st.DrawFn, arguments: int = 3, lines: int = 8, dtype: DTypeLike = np.float64) -> Program:
    """Random differentiable programs with sharing, broadcasting, reductions, products and indexing.

    They have up to so many arguments and lines, moderate numbers of `dtype`, no kink nearby, and shrink to few lines.

    >>> from hypothesis import given
    >>> from minigrad.testing import check_grads
    >>> @given(programs(lines=3))
    ... def test_gradients(program):
    ...     check_grads(program, program.args, order=1)
    >>> test_gradients()
    """
    shapes = draw(st.integers(1, arguments).flatmap(lambda n: broadcastable(n, max_dims=2)))
    eighths = st.integers(-16, 16).map(lambda n: n / 8)
    args = [draw(nps.arrays(np.dtype(dtype), shape, elements=eighths, fill=st.nothing())) for shape in shapes]
    values, body = list(args), []
    kinds = st.sampled_from(["one", "two", "reduce", "shape", "index", "product"])
    for kind, number in draw(st.lists(st.tuples(kinds, st.integers(0, 99)), min_size=1, max_size=lines)):
        count = 2 if kind in ("two", "product") else 1
        newest = len(values) - 1
        operands = tuple(newest - draw(st.integers(0, newest)) for _ in range(count))  # shrinks to a chain
        choices = list(_spellings(draw, kind, [values[i].shape for i in operands]))
        line = Line(choices[number % len(choices)], operands)
        value = _value(line, values)
        if value is not None:
            body.append(line)
            values.append(value)
    return Program(args, body)


def _spellings(draw: st.DrawFn, kind: str, shapes: list[tuple[int, ...]]) -> Iterator[Spelling]:
    """The operations of a kind on operands of these shapes."""
    shape = shapes[0]
    size, ndim = int(np.prod(shape)), len(shape)
    if kind == "one":
        yield from ONE_OPERAND
    elif kind == "two":
        yield from TWO_OPERANDS
    elif kind == "product":
        yield PRODUCT if len(shapes[1]) == 2 and ndim else TWO_OPERANDS[2]
    elif kind == "reduce":
        for axis, n in enumerate(shape):
            yield Spelling(f"np.sum({{0}}, axis={axis})", f"np.moveaxis({{0}}, {axis}, -1) @ np.ones({n})")
            yield Spelling(f"np.cumsum({{0}}, axis={axis})", f"{{0}}.cumsum({axis - ndim})")
            if n:
                yield Spelling(f"{{0}}.mean({axis}, keepdims=True)", f"np.expand_dims({{0}}.sum({axis}) / {n}, {axis})")
                gaps = f"np.diff(np.sort({{0}}, {axis}), axis={axis})"
                yield Spelling(f"np.max({{0}}, axis={axis})", f"-np.min(-{{0}}, axis={axis - ndim})", gaps)
        yield Spelling("np.sum({0})", "np.add.reduce(np.ravel({0}))")
    elif kind == "shape":
        yield Spelling("{0}.T", f"np.transpose({{0}}, {tuple(range(ndim))[::-1]})")
        yield Spelling("np.ravel({0})", f"{{0}}.reshape({size})")
        yield Spelling("np.stack([{0}, {0}])", "np.concatenate([{0}[None], {0}[None]])")
        yield Spelling("np.broadcast_to({0}, (2, *np.shape({0})))", f"{{0}} * np.ones({(2, *shape)})")
        if ndim:
            yield Spelling("np.flip({0}, 0)", "{0}[::-1]")
            yield Spelling("np.concatenate([{0}, {0}], axis=-1)", f"np.tile({{0}}, {(1,) * (ndim - 1) + (2,)})")
    else:
        index = index_source(draw(indices(shape)))
        yield Spelling(f"{{0}}[{index}]", f"np.ravel({{0}})[np.arange({size}).reshape({shape})[{index}]]")


def _value(line: Line, values: list[Array]) -> Array | None:
    """The value of a line, or None where it has none that is moderate and far from a kink."""
    a, b = values[line.operands[0]], values[line.operands[-1]]

    def run(expression: str) -> Array:
        return np.asarray(eval(expression.format("a", "b"), {"np": np, "a": a, "b": b}))

    with np.errstate(all="ignore"):
        try:
            value = run(line.spelling.usual)
        except ValueError:  # the shapes do not fit
            return None
        moderate = value.size <= MOST and value.ndim <= DEEPEST and np.all(np.abs(value) <= LARGEST)
        return value if moderate and np.all(np.abs(run(line.spelling.kink)) > KINK_MARGIN) else None


def index_source(index: Any) -> str:
    """An index as it is written between brackets."""
    if isinstance(index, tuple):
        return ", ".join(map(_part, index)) + ("," if len(index) == 1 else "") if index else "()"
    return _part(index)


def _part(part: Any) -> str:
    if isinstance(part, slice):
        return ":".join("" if n is None else str(n) for n in (part.start, part.stop, part.step)).removesuffix(":")
    return "..." if part is ... else source(part)
