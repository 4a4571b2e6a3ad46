"""What some traces of a function have in common, as the nodes of a graph in ONNX."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minigrad.compiler.graph import Graph, Value
from minigrad.engine import Function, array_of, name_of

from minigrad.onnx.operators import (  # isort: skip
    ELEMENTS, RULES, TESTS, FileArray, Size, Unfollowed, computed_in, hold_one_number, for_samples,
)  # fmt: skip


class Calls(Graph):
    """Calls as they were made, since what is simpler may be so for batches of one size alone."""

    def constant(self, data: Any, whole: bool = False) -> Value:
        value = Value(data)
        value.data, value.varies = data, False
        return value

    def make(self, like: Any, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
        self.order.append(Value(like, function, args, kwargs))
        return self.order[-1]


class Writer:
    """Writes what some traces have in common, for batches of `sizes`, as nodes of one graph."""

    def __init__(self, sizes: Sequence[int], runs: Sequence[Any], names: dict[int, str]) -> None:
        from onnx import helper, numpy_helper

        self.helper, self.as_proto = helper, numpy_helper.from_array
        self.sizes, self.runs, self.names = sizes, runs, names
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.taken: dict[str, int] = {}
        self.known: dict[Any, str] = {}  # names of constants by what they are
        self.arrays: dict[Any, Any] = {}  # by their values in all traces
        self.batch: Any = None  # an input that has the batch, and its axis
        self.answer = FileArray("", (), np.dtype(bool))  # of the call that is being written,
        self.dtype = np.dtype(bool)  # and the dtype of numbers in it
        inputs = [run.record.inputs for run in runs]
        self.sources = [{run.record.values[t]: t for t in its} for run, its in zip(runs, inputs, strict=True)]
        self.shared = {t for t, of in inputs[0].items() if of.kind == "tensor" and all(t in its for its in inputs)}
        self.live: list[set[Value]] = []  # what is no constant, in each trace
        for record in (run.record for run in runs):
            is_live: Any = lambda t, kind: t in self.shared or kind in ("argument", "gradient", "draw")
            live = {record.values[t] for t, source in record.inputs.items() if is_live(t, source.kind)}
            for value in record.graph.order:
                live.update([] if live.isdisjoint(value.operands) else [value])
            self.live.append(live)

    # ------------------------------------------------------------------------------------------------------- nodes

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        """Write an operator: of what it is given, lists are of int64, and numbers of the dtype of the call."""
        if operator.startswith("_"):
            raise AttributeError(operator)

        def write(*inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
            if any(isinstance(x, (FileArray, Size)) for x in attributes.values()):
                raise NotImplementedError(f"{operator} wants numbers that are always the same")
            attributes = {key: x for key, x in attributes.items() if x != [] and x != ()}  # which ONNX takes for none
            names = [self.unique(operator.lower()) for _ in range(outputs)]
            given = list(map(self.input, inputs))
            self.nodes.append(self.helper.make_node(operator, given, names, names[0], **attributes))
            return names[0] if outputs == 1 else names

        return write

    def unique(self, name: str) -> str:
        count = self.taken[name] = self.taken.get(name, -1) + 1
        return self.unique(f"{name}_{count}") if count else name

    def input(self, x: Any) -> str:
        """The name of what an operator is given."""
        if isinstance(x, str):
            return x
        if isinstance(x, FileArray):
            return x.name or self.constant(x.data)
        if isinstance(x, Size) or not isinstance(x, (list, tuple)):
            return self.number(x, self.dtype)
        if not any(isinstance(n, Size) for n in x):
            return self.initializer(np.array(x, np.int64))
        parts = [self.Reshape(self.number(n, np.int64), [1]) for n in x]
        return parts[0] if len(parts) == 1 else str(self.Concat(*parts, axis=0))

    def number(self, x: Any, dtype: Any) -> str:
        if not isinstance(x, Size):
            return self.initializer(np.asarray(x, dtype))
        if (x, dtype) not in self.known:
            if self.batch not in self.known:
                array, axis = self.batch
                self.known[self.batch] = self.Squeeze(self.Shape(array, start=axis, end=axis + 1))
            found = self.cast(self.known[self.batch], dtype) if dtype != np.int64 else self.known[self.batch]
            found = found if x.each == 1 else self.Mul(found, self.number(x.each, dtype))
            self.known[x, dtype] = found if x.rest == 0 else self.Add(found, self.number(x.rest, dtype))
        return self.known[x, dtype]

    def initializer(self, array: Any, name: str = "constant") -> str:
        key = array.shape, array.dtype.str, array.tobytes(), name
        if key not in self.known:
            self.known[key] = self.unique(name)
            self.initializers.append(self.as_proto(np.array(array, order="C"), self.known[key]))
        return self.known[key]

    def cast(self, x: Any, dtype: Any) -> str:
        """An array, or a number, in a dtype."""
        if isinstance(x, (str, FileArray)):
            is_cast = isinstance(x, FileArray) and x.dtype == dtype
            return self.input(x) if is_cast else str(self.Cast(x, to=self.kind(dtype)))
        return self.number(x, dtype)

    def kind(self, dtype: Any) -> Any:
        if np.dtype(dtype).kind not in "biuf":
            raise NotImplementedError(f"there is {np.dtype(dtype).name}, and in a file only real numbers are computed")
        return self.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    # -------------------------------------------------------------------------------------- what follows the batch

    def follow(self, numbers: Iterable[Any]) -> Any:
        """What something is that was met with all sizes: the same, or a number that follows the batch."""
        first, *others = (int(x) if isinstance(x, np.integer) else x for x in numbers)
        if all(type(x) is type(first) and (x is first or repr(x) == repr(first)) for x in others):
            return first
        if type(first) in (int, float) and type(others[-1]) is type(first):
            change, samples = others[-1] - first, self.sizes[-1] - self.sizes[0]
            each = change // samples if type(first) is int else change / samples
            size = Size(each, first - each * self.sizes[0])
            if [first, *others] == [for_samples(size, n) for n in self.sizes]:
                return size
        raise Unfollowed(", ".join(map(repr, (first, *others))))

    def shape_of(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        if len({len(array.shape) for array in arrays}) > 1:
            raise Unfollowed(f"arrays of shapes {', '.join(str(array.shape) for array in arrays)}")
        return tuple(map(self.follow, zip(*(array.shape for array in arrays), strict=True)))

    def made(self, function: Callable[..., Any], *args: Any) -> FileArray:
        """A constant: what a function makes of numbers that may follow the batch."""
        return self.fixed([np.asarray(function(*(for_samples(x, n) for x in args))) for n in self.sizes])

    def places(self, shape: Any) -> FileArray:
        """The numbers 0, 1, 2, ... in a shape: where in memory an element lies."""
        return self.made(lambda shape: np.arange(math.prod(shape)).reshape(shape), shape)

    def fixed(self, arrays: Sequence[Any]) -> FileArray:
        """A constant that is these arrays for the sizes."""
        return FileArray("", self.shape_of(arrays), arrays[0].dtype, arrays)

    def constant(self, arrays: Sequence[Any]) -> str:
        """Write a constant: one number, or numbers that grow by as much along an axis, and with each sample."""
        first, shape = arrays[0], self.shape_of(arrays)
        if len({(array.shape, array.tobytes()) for array in arrays}) == 1:
            return self.initializer(first)
        if hold_one_number(arrays):
            return str(self.Expand(self.initializer(first.flat[0]), shape))
        axes = [axis for axis, n in enumerate(shape) if isinstance(n, Size)]
        unfollowed = Unfollowed(f"numbers in arrays of shapes {', '.join(str(array.shape) for array in arrays)}")
        if len(axes) > 1:
            raise unfollowed
        dtype = first.dtype if first.dtype.kind == "f" else np.dtype(np.int64)
        rows = [(np.moveaxis(x, axes[0], 0) if axes else x[None]).astype(dtype) for x in arrays]
        last = rows[-1]
        change, samples = (last[:1] - rows[0][:1]), self.sizes[-1] - self.sizes[0]
        each = change // samples if dtype.kind == "i" else change / dtype.type(samples)
        step, start = (last[1:2] - last[:1] if len(last) > 1 else 0 * each), rows[0][:1] - each * self.sizes[0]
        index: Any = lambda row: np.arange(len(row)).reshape(-1, *[1] * (row.ndim - 1))
        grown = [start + each * n + step * index(row) for n, row in zip(self.sizes, rows, strict=True)]
        if not all(map(np.array_equal, grown, rows)):
            raise unfollowed
        found = self.Add(self.initializer(start), self.Mul(self.initializer(each), self.number(Size(1, 0), dtype)))
        if axes:
            place = self.Range(*(self.number(n, np.int64) for n in (0, shape[axes[0]], 1)))
            place = self.Reshape(self.cast(place, dtype), [-1, *[1] * (len(shape) - 1)])
            found = self.Add(found, self.Mul(place, self.initializer(step)))
        order = [*range(1, axes[0] + 1), 0, *range(axes[0] + 1, len(shape))] if axes else [*range(len(shape) + 1)]
        return self.cast(self.Reshape(self.Transpose(found, perm=order), shape), first.dtype)

    # ------------------------------------------------------------------------------------------------------- calls

    def write(self, roots: Iterable[Any]) -> None:
        """Write all that some values are made of, and them."""
        stack = [*roots]
        while stack:
            values = stack[-1]
            missing = [] if values in self.arrays else [x for x in self.operands(values) if x not in self.arrays]
            stack += missing
            if not missing and stack.pop() not in self.arrays:
                self.arrays[values] = self.written(values)

    def is_live(self, values: Any) -> bool:
        return any(value in live for value, live in zip(values, self.live, strict=True))

    def operands(self, values: Any) -> list[Any]:
        if not self.is_live(values):
            return []
        functions, parts = [value.function for value in values], [value.operands for value in values]
        if any(f != functions[0] for f in functions) or len({len(part) for part in parts}) > 1:
            calls = ", ".join(name_of(f) if f else "none" for f in functions)
            hint = "Is there a loop along an axis of samples (see batch_axes), or an `if` that looks at their number?"
            raise self.error(Unfollowed, values, f"{self.unlike(f'the calls {calls}')} {hint}")
        return list(zip(*parts, strict=True))

    def unlike(self, what: Any) -> str:
        return f"something does not follow the batch: {what} for batches of {', '.join(map(str, self.sizes))} samples."

    def error(self, kind: Any, values: Any, what: str) -> Any:
        """An error that names the call in the function, and the one among those that it is made of."""
        record, value = self.runs[0].record, values[0]
        if value.function is None:  # then it is the first call that is given it
            value = next((call for call in record.graph.order if value in call.operands), None)
        if value is None:
            return kind(what)
        place = bisect_right([event.counts[0] for event in record.events], record.graph.order.index(value))
        outer, inner = (name_of(x.function) for x in (*record.events[place : place + 1], value, value)[:2])
        where = inner if inner == outer else f"{outer}, of which {inner} is a part"
        return kind(f"in the call of {where}, {what}")

    def written(self, values: Any) -> Any:
        """Write a value; the array that it is in the file, or the number."""
        value = values[0]
        try:
            if not self.is_live(values):
                numbers = [run.number(each) for run, each in zip(self.runs, values, strict=True)]
                return self.follow(numbers) if value.is_number else self.fixed(list(map(np.asarray, numbers)))
            self.answer, self.dtype = FileArray("", self.shape_of(values), value.dtype), value.dtype
            if value.function is None:
                return replace(self.answer, name=self.given(values))
            found = self.called(value.function, *self.merged([(tuple(each.args), each.kwargs) for each in values]))
            return replace(self.answer, name=self.input(found))
        except Unfollowed as error:
            raise self.error(Unfollowed, values, self.unlike(error)) from None
        except NotImplementedError as error:
            raise self.error(NotImplementedError, values, str(error)) from None

    def given(self, values: Any) -> str:
        """A tensor from outside of the function."""
        tensor, *others = (sources.get(value) for sources, value in zip(self.sources, values, strict=True))
        kind = self.runs[0].record.kind(tensor)
        if kind in ("draw", "gradient"):
            raise NotImplementedError("a file draws no random numbers, and knows no gradient from before")
        if any(t is not tensor for t in others):
            raise Unfollowed("different arrays")
        return self.initializer(array_of(tensor), self.names.get(id(tensor), "constant"))

    def merged(self, parts: Sequence[Any]) -> Any:
        """The arguments of a call in all traces as those of one, with arrays for values, and sizes."""
        first = parts[0]
        if isinstance(first, Value):
            return self.arrays[tuple(parts)]
        if isinstance(first, slice):
            return slice(*self.merged([(each.start, each.stop, each.step) for each in parts]))
        if isinstance(first, (list, tuple)) and len({len(each) for each in parts}) == 1:
            return type(first)([self.merged(each) for each in zip(*parts, strict=True)])
        if isinstance(first, dict) and all(each.keys() == first.keys() for each in parts):
            return {key: self.merged([each[key] for each in parts]) for key in first}
        return self.follow(parts)

    def called(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Write a call as the tables say."""
        key = function if any(function in table for table in (ELEMENTS, TESTS, RULES)) else name_of(function)
        rule = ELEMENTS.get(key, TESTS.get(key))
        if rule is None and key not in RULES:
            raise NotImplementedError("there is no operator in ONNX, and it is not spelled by others: do without it")
        self.kind(self.answer.dtype)
        if rule is None:
            return RULES[key](self, *args, **kwargs)
        weak: Any = lambda x: np.dtype(bool) if isinstance(x, bool) else type(x.rest if isinstance(x, Size) else x)
        kinds = [x.dtype if hasattr(x, "dtype") else weak(x) for x in args]
        is_logical = name_of(function).startswith("np.logical")
        dtypes = [np.dtype(bool) if is_logical else computed_in(x) for x in function.resolve_dtypes((*kinds, None))]
        self.dtype = dtypes[0]
        operands = [self.cast(x, dtype) for x, dtype in zip(args, dtypes, strict=False)]
        found = rule(self, *operands) if callable(rule) else getattr(self, rule)(*operands)
        return found if key in TESTS or dtypes[-1] == self.answer.dtype else self.cast(found, self.answer.dtype)
