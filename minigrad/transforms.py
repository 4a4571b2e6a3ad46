"""Functions of functions: a function of arrays becomes the function that computes its derivatives.

Arguments are arrays, or dicts, lists, tuples and dataclasses of arrays, nested as one likes; gradients come in the same
structure. Arrays in, arrays out; given a Tensor, or called inside a function that is being differentiated, Tensors come
out, which can be differentiated again: by the argument, and by whatever else the function made use of, such as weights.
So the transforms nest in every combination.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np

from minigrad.tensor import (
    Function,
    Tensor,
    as_array,
    backpropagate,
    call,
    is_recording,
    name_of,
    numbers_of,
    observer,
    recorded,
    recording,
    replayed,
)
from minigrad.trees import flatten

ArgNums: TypeAlias = "int | tuple[int, ...]"

_inside: ContextVar[bool] = ContextVar("inside", default=False)


# --------------------------------------------------------------------------------------------------- gradients


def value_and_grad(f: Function, argnums: ArgNums = 0, has_aux: bool = False) -> Function:
    """The function that returns `f(*args)` and its gradient with respect to the arguments at `argnums`.

    `f` returns a single number, with `has_aux` a pair of it and anything else, which is handed on. The gradient has the
    structure, shapes and dtypes of its argument (a tuple of them when `argnums` is one), and is zero where `f` does not
    depend on it. Raises TypeError where `f` returns anything but a single real number, and for arguments that are not
    floating.

    >>> value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    >>> value_and_grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": 3.0})
    (array(6.), {'a': array(3.), 'b': array(2.)})
    """

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        trace = _Trace(f, args, kwargs, argnums, has_aux)
        if trace.value.shape != ():
            raise TypeError(
                f"grad needs a function that returns a single number, and this one returned an array of shape "
                f"{trace.value.shape}: reduce it, for instance with np.sum, or use jacobian or elementwise_grad."
            )
        gradient = trace.pull(np.ones((), trace.value.dtype))
        return (trace.answer, trace.aux) if has_aux else trace.answer, gradient

    return wrapper


def grad(f: Function, argnums: ArgNums = 0, has_aux: bool = False) -> Function:
    """The function that returns the gradient of `f`, with `has_aux` a pair of it and the rest; see `value_and_grad`.

    >>> grad(np.sin)(0.0)
    array(1.)
    >>> grad(grad(grad(lambda x: x**3)))(2.0)
    array(6.)
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def elementwise_grad(f: Function, argnums: ArgNums = 0) -> Function:
    """The derivative of a function that works element by element, for all elements at once.

    >>> elementwise_grad(np.sin)(np.array([0.0, np.pi])).round(12)
    array([ 1., -1.])
    """
    return grad(lambda *args, **kwargs: np.sum(f(*args, **kwargs)), argnums)


# -------------------------------------------------------------------------------------------- maps and matrices


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """`f(*primals)`, and the pullback: from the gradient of the answer to those of the primals, as a tuple.

    >>> out, pullback = vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    trace = _Trace(f, primals, {}, tuple(range(len(primals))))
    return trace.answer, trace.pull


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`f(*primals)`, and how it changes when the primals move along the `tangents`, which have their structure.

    The pullback is linear in the gradient it is given; its own pullback is the derivative forward.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0))
    (array(6.), array(23.))
    """
    trace = _Trace(f, tuple(primals), {}, tuple(range(len(primals))))
    seed = Tensor(np.zeros(trace.value.shape, trace.value.dtype), requires_grad=True)
    flat = _like(primals, tangents, "jvp")
    with recording(True):
        products = [np.sum(v * g) for v, g in zip(flat, trace.pull_leaves(seed, record=True), strict=True)]
        total = sum(products, Tensor(0.0))
    moved = _gradients(total, np.ones((), total.dtype), [seed], trace.nested)[0]
    return trace.answer, _out(moved, trace.nested)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of `f` at `primals` times the `tangents`, without the Hessian: a tuple in the structure of primals.

    >>> hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    (array([ 6., 12.]),)
    """
    positions = tuple(range(len(primals)))
    flat = _like(primals, tangents, "hvp")

    def along(*args: Any) -> Any:
        leaves = flatten(grad(f, positions)(*args))[0]
        return sum(np.sum(v * g) for v, g in zip(flat, leaves, strict=True))

    products: tuple[Any, ...] = grad(along, positions)(*primals)
    return products


def jacobian(f: Function, argnums: ArgNums = 0) -> Function:
    """The function that returns all derivatives of `f`, in the shape of its answer followed by that of the argument.

    >>> jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace(f, args, kwargs, argnums)
        shape, dtype = trace.value.shape, trace.value.dtype
        rows = []
        for index in np.ndindex(shape):
            one = np.zeros(shape, dtype)
            one[index] = 1
            rows.append(trace.pull_leaves(one))
        columns = [
            np.reshape(np.stack([row[i] for row in rows]), shape + leaf.shape)
            if rows
            else np.zeros(shape + leaf.shape, leaf.dtype)
            for i, leaf in enumerate(trace.leaves)
        ]
        return trace.rebuild([_out(column, trace.nested) for column in columns])

    return wrapper


def hessian(f: Function, argnums: int = 0) -> Function:
    """The function that returns all second derivatives of `f` with respect to one array argument.

    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f, argnums), argnums)


# -------------------------------------------------------------------------------------------------- checkpoint


def checkpoint(f: Function) -> Function:
    """`f`, remembering only its arguments: what lies between is computed again when it is differentiated.

    Time is traded for memory (Chen et al., 2016, arXiv:1604.06174). `f` returns one array and gives the same answer
    each time; gradients reach the Tensors that it closes over, too.

    >>> grad(checkpoint(lambda x: np.sin(np.sin(x))))(0.0)
    array(1.)
    """

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if observer():
            return f(*args, **kwargs)
        leaves, rebuild = flatten((args, kwargs))
        tracked = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]

        def run(*inputs: Tensor) -> Any:
            filled = dict(zip(tracked, inputs, strict=False))  # the rest are those that it closes over
            positional, named = rebuild([filled.get(i, leaf) for i, leaf in enumerate(leaves)])
            answer = f(*positional, **named)
            return np.positive(answer) if isinstance(answer, Tensor) else answer  # one of its own, never an argument

        with recording(True):
            inputs = [Tensor(leaves[i].data, requires_grad=True) for i in tracked]
            start = Tensor(0.0)
            answer = run(*inputs)
        if not isinstance(answer, Tensor):
            return answer
        outside = _closed_over(answer, set(inputs), start)
        if not (is_recording() and (tracked or outside)):
            return answer.detach()
        return recorded(replayed, [*(leaves[i] for i in tracked), *outside], {"run": run}, answer.data)

    return wrapper


def _closed_over(answer: Tensor, inputs: set[Tensor], start: Tensor) -> list[Tensor]:
    """The tracked tensors that were there before `start` and that `answer` was made of."""
    found: dict[Tensor, None] = {}
    seen, stack = {answer}, [answer]
    while stack:
        for argument in stack.pop().args or ():
            if (
                isinstance(argument, Tensor)
                and argument.requires_grad
                and argument not in seen
                and argument not in inputs
            ):
                seen.add(argument)
                if argument._time < start._time:
                    found[argument] = None
                else:
                    stack.append(argument)
    return list(found)


# --------------------------------------------------------------------------------------------------- machinery


class _Trace:
    """One run of a function: its value, the tensors that stand for the arguments, and the way back."""

    def __init__(
        self, f: Function, args: tuple[Any, ...], kwargs: dict[str, Any], argnums: ArgNums, has_aux: bool = False
    ) -> None:
        positions = argnums if isinstance(argnums, tuple) else (argnums,)
        if not all(-len(args) <= position < len(args) for position in positions):
            raise TypeError(f"argnums={argnums}, but the function was called with {len(args)} positional arguments")
        if len({position % len(args) for position in positions}) < len(positions):
            raise TypeError(f"argnums={argnums} names one argument twice: name each once")
        chosen = [args[position] for position in positions]
        given, self.rebuild = flatten(tuple(chosen) if isinstance(argnums, tuple) else chosen[0])
        watching = observer()
        plain = watching.arrays if watching else ()
        self.nested = _inside.get() or any(isinstance(leaf, Tensor) and leaf not in plain for leaf in given)
        self.leaves = [_variable(leaf) for leaf in given]
        tree = self.rebuild(self.leaves)
        arguments = list(args)
        for position, part in zip(positions, tree if isinstance(argnums, tuple) else (tree,), strict=True):
            arguments[position] = part
        token = _inside.set(True)
        try:
            with recording(True):
                value = f(*arguments, **kwargs)
        finally:
            _inside.reset(token)
        self.aux = None
        if has_aux:
            value, aux = value
            leaves, rebuild = flatten(aux)
            self.aux = rebuild([_out(x, self.nested) if isinstance(x, Tensor) else x for x in leaves])
        value = float(value) if type(value) is int else value  # a constant of Python's
        if not isinstance(value, (Tensor, np.ndarray, np.generic, float, complex, list, tuple)):
            raise TypeError(
                f"only real numbers and arrays of them have derivatives, and {name_of(f)} returned {value!r}: does it "
                "return its answer?"
            )
        self.value = value if isinstance(value, Tensor) else Tensor(value)
        if self.value.dtype.kind != "f":
            raise TypeError(
                f"only real floating answers have derivatives, and this function returned {self.value.dtype}"
            )
        self.answer = _out(self.value, self.nested)

    def pull_leaves(self, g: Any, record: bool = False) -> list[Any]:
        """The gradients of the leaves, for the gradient `g` of the value."""
        if np.shape(g) != self.value.shape:
            raise ValueError(
                f"the pullback of an answer of shape {self.value.shape} got a gradient of shape {np.shape(g)}"
            )
        return _gradients(self.value, g, self.leaves, record or self.nested or isinstance(g, Tensor))

    def pull(self, g: Any) -> Any:
        """The gradients of the arguments in their structure, for the gradient `g` of the value."""
        nested = self.nested or isinstance(g, Tensor)
        return self.rebuild([_out(x, nested) for x in self.pull_leaves(g)])


def _gradients(value: Tensor, g: Any, leaves: list[Tensor], record: bool) -> list[Any]:
    """The gradients of some tensors, zero for those that `value` does not depend on."""
    answers: dict[Tensor, Any] = {}
    if value.requires_grad:
        g = g.astype(value.dtype) if isinstance(g, Tensor) else np.asarray(g, value.dtype)
        answers = backpropagate(value, g, frozenset(leaves), record)
    return [answers.get(leaf, np.zeros(leaf.shape, leaf.dtype)) for leaf in leaves]


def _variable(x: Any) -> Tensor:
    """A tensor of one's own to differentiate by, which remembers the Tensor that it stands for."""
    numbers = numbers_of(x)
    if isinstance(x, Tensor) and (x.requires_grad or isinstance(numbers, Tensor)):
        with recording(True):
            variable = call(np.positive, (x,))
        variable._requires_grad = True
        return variable
    return Tensor(numbers, requires_grad=True)


def _out(x: Any, as_tensor: bool) -> Any:
    """An array of one's own: rules may hand the same memory, or a read-only view of it, to several arguments."""
    if as_tensor:
        return x if isinstance(x, Tensor) else Tensor(x)
    numbers = numbers_of(x)  # a Tensor where they are traced
    return numbers if isinstance(numbers, Tensor) else np.array(numbers)


# -------------------------------------------------------------------------------------------------- structures


def _like(primals: Sequence[Any], tangents: Sequence[Any], name: str) -> list[Any]:
    """The leaves of the tangents, which must be shaped like the primals."""
    wanted = [np.shape(leaf) for leaf in flatten(tuple(primals))[0]]
    leaves = flatten(tuple(tangents))[0]
    if [np.shape(leaf) for leaf in leaves] != wanted:
        raise ValueError(
            f"{name} needs tangents shaped like the primals {wanted}, and got {[np.shape(leaf) for leaf in leaves]}"
        )
    return [as_array(leaf) for leaf in leaves]
