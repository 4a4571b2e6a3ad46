"""Functions of functions: a function of arrays becomes the function that computes its gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

from minigrad.tensor import Tensor, backpropagate, call, history, recording

_inside: ContextVar[bool] = ContextVar("inside", default=False)


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Any, Any]]:
    """The function that returns `f(*args)` and its gradient with respect to the arguments at `argnums`.

    `f` returns a single number. The gradient has the shape and dtype of its argument (a tuple of them when `argnums` is
    a tuple), and is zero where `f` does not depend on it. Arrays in, arrays out; given a Tensor, or called inside a
    function that is being differentiated, Tensors come out, which can be differentiated again.

    >>> value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    """
    positions = argnums if isinstance(argnums, tuple) else (argnums,)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if not all(-len(args) <= position < len(args) for position in positions):
            raise TypeError(f"argnums={argnums}, but the function was called with {len(args)} positional arguments")
        nested = _inside.get() or any(isinstance(args[position], Tensor) for position in positions)
        arguments = list(args)
        for position in positions:
            arguments[position] = _variable(args[position])
        inputs = [arguments[position] for position in positions]
        token = _inside.set(True)
        try:
            with recording(True):
                value = f(*arguments, **kwargs)
                value = value if isinstance(value, Tensor) else Tensor(value)
                if value.shape != ():
                    raise TypeError(
                        "grad needs a function that returns a single number, and this one returned an array of shape "
                        f"{value.shape}: reduce it, for instance with np.sum or np.mean."
                    )
                answers = {}
                if value.requires_grad:
                    targets = frozenset(inputs)
                    nodes = history(value, targets)
                    answers = backpropagate(value, np.ones_like(value.data), nodes, targets, record=nested)
        finally:
            _inside.reset(token)
        gradients = tuple(_answer(answers.get(x, np.zeros_like(x.data)), nested) for x in inputs)
        return _answer(value, nested), gradients if isinstance(argnums, tuple) else gradients[0]

    return wrapper


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """The function that returns the gradient of `f` with respect to the arguments at `argnums`; see `value_and_grad`.

    >>> grad(np.sin)(0.0)
    array(1.)
    >>> grad(grad(grad(lambda x: x**3)))(2.0)
    array(6.)
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return wrapper


def _variable(x: Any) -> Tensor:
    """A tensor of one's own to differentiate by, which remembers the Tensor that it stands for."""
    if isinstance(x, Tensor) and x.requires_grad:
        with recording(True):
            return call(np.positive, (x,))
    return Tensor(x.data if isinstance(x, Tensor) else x, requires_grad=True)


def _answer(x: Any, as_tensor: bool) -> Any:
    """An array of one's own: rules may hand the same memory, or a read-only view of it, to several arguments."""
    if as_tensor:
        return x if isinstance(x, Tensor) else Tensor(x)
    return np.array(x.data if isinstance(x, Tensor) else x)
