"""Functions of one's own in the tables: with a derivative, or without one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from minigrad.engine.call import call, call_other
from minigrad.engine.messages import name_of, said
from minigrad.engine.node import Function, Node, Rules, constants, has_node, vjps
from minigrad.engine.switch import alone, is_inside


def primitive(*rules: Function | None, joint: Function | None = None) -> Callable[[Function], Function]:
    """Give an array function its derivative: one rule per argument, `rule(g, ans, *args, **kwargs)`.

    `g` is the gradient of the answer `ans` and has its shape; the rule returns the gradient of its argument, in the
    shape of the argument or of anything that broadcasting made of it. None stands for a derivative of zero. Written in
    NumPy, a rule can itself be differentiated. The function takes its arrays by position, everything else by keyword;
    transforms such as `minigrad.grad` may be used in it. Make each primitive once, not anew in every call: the table
    keeps it for good.

    >>> from minigrad import Tensor
    >>> @primitive(lambda g, ans, x: g * 3 * x**2)
    ... def cube(x):
    ...     return x**3
    >>> x = Tensor(2.0, requires_grad=True)
    >>> cube(x).backward()
    >>> x.grad
    array(12.)

    Where all gradients come of one computation, give one `joint` rule instead, which returns them in a sequence, with
    None for those that are zero. The solution of a @ x = b has both by one more solution:

    >>> def adjoint(g, ans, a, b):
    ...     by_b = np.linalg.solve(a.T, g)
    ...     return -np.outer(by_b, ans), by_b
    >>> solve = primitive(joint=adjoint)(lambda a, b: np.linalg.solve(a, b))
    """
    if bool(rules) == (joint is not None):
        raise TypeError(
            "give one rule for each array argument, @primitive(lambda g, ans, x: ...), or @primitive(joint=...)"
        )
    for rule in rules or (joint,):
        if rule is not None:
            _check(rule)

    def register(function: Function) -> Function:
        if not callable(function):
            raise TypeError("primitive takes the rules first: @primitive(lambda g, ans, x: ...) above the function")
        vjps[function] = Rules(*rules, joint=joint)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for key, value in kwargs.items():
                if isinstance(value, Node):
                    raise TypeError(f"{name_of(function)} got the Tensor {key}= by keyword: pass it by position")
            if is_inside():  # it may use transforms itself, and sees arrays
                return alone(wrapper, *args, **kwargs)
            return call(function, args, kwargs) if has_node(args) else function(*args, **kwargs)

        return wrapper

    return register


def _check(rule: Any) -> None:
    if not callable(rule):
        raise TypeError(f"a rule is a function (g, ans, *args) or None for a zero derivative, not {rule!r}")
    try:
        inspect.signature(rule).bind_partial("g", "ans", "x")
    except TypeError as error:
        raise TypeError(said("no arguments", takes=inspect.signature(rule))) from error
    except ValueError:  # NumPy's own do not all tell
        pass


def constant(function: Function) -> Function:
    """Let an array function that has no derivative take Tensors, and give arrays for them."""
    constants.add(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = has_node((*args, *kwargs.values()))
        return call_other(function, args, kwargs) if given else function(*args, **kwargs)

    return wrapper
