"""Functions of one's own in the tables: with a derivative, without one, and made of others."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from minigrad.engine.call import call, call_other
from minigrad.engine.messages import name_of
from minigrad.engine.node import Function, Node, Rules, composites, constants, shortcuts, vjps
from minigrad.engine.switch import any_mode, inside_of, is_inside


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

    >>> import numpy as np
    >>> def adjoint(g, ans, a, b):
    ...     by_b = np.linalg.solve(a.T, g)
    ...     return -np.outer(by_b, ans), by_b
    >>> solve = primitive(joint=adjoint)(lambda a, b: np.linalg.solve(a, b))
    >>> b = Tensor([2.0, 4.0], requires_grad=True)
    >>> np.sum(solve(np.diag([2.0, 1.0]), b)).backward()
    >>> b.grad
    array([0.5, 1. ])
    """
    if bool(rules) == (joint is not None):
        raise TypeError(
            "primitive needs one rule for each array argument, @primitive(lambda g, ans, x: ...), or one for all of "
            "them, @primitive(joint=...)"
        )
    for rule in rules or (joint,):
        if rule is not None and not callable(rule):
            raise TypeError(f"a rule is a function (g, ans, *args) or None for a zero derivative, not {rule!r}")
        if rule is not None and not _takes(rule, 3):
            raise TypeError(
                "a rule is called with the gradient of the answer, the answer and all arguments, (g, ans, x, ...), and "
                f"this one takes {inspect.signature(rule)}"
            )

    def register(function: Function) -> Function:
        if not callable(function):
            raise TypeError("primitive takes the rules first: @primitive(lambda g, ans, x: ...) above the function")
        vjps[function] = Rules(*rules, joint=joint)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for key, value in kwargs.items():
                if isinstance(value, Node):
                    raise TypeError(f"{name_of(function)} got the Tensor {key}= by keyword: pass it by position")
            shown_tensors = any(isinstance(argument, Node) for argument in args)
            if not is_inside():
                return call(function, args, kwargs) if shown_tensors else function(*args, **kwargs)
            with inside_of(False):  # it may use transforms, and sees arrays
                return call(function, args, kwargs) if shown_tensors else function(*args, **kwargs)

        return wrapper

    return register


def _takes(function: Function, count: int) -> bool:
    """Whether a function can be called with so many arguments by position."""
    try:
        inspect.signature(function).bind_partial(*range(count))
    except TypeError:
        return False
    except ValueError:  # NumPy's own do not all tell
        pass
    return True


def constant(function: Function) -> Function:
    """Let an array function that has no derivative take Tensors, and give arrays for them.

    >>> import numpy as np
    >>> from minigrad import Tensor
    >>> order = constant(lambda x: np.argsort(x))
    >>> order(Tensor([3.0, 1.0, 2.0]))
    array([1, 2, 0])
    """
    constants.add(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        shown_tensors = any(isinstance(argument, Node) for argument in (*args, *kwargs.values()))
        return call_other(function, args, kwargs) if shown_tensors else function(*args, **kwargs)

    return wrapper


def composition(function: Function, shortcut: Function | None = None) -> Function:
    """Let modes see a function that is made of others, and depends on its arguments alone, as one call.

    A `shortcut` is a function of NumPy that gives the same up to rounding.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        shown_tensors = any_mode() and any(isinstance(argument, Node) for argument in args)
        return call_other(function, args, kwargs) if shown_tensors else function(*args, **kwargs)

    composites[function] = function
    if shortcut is not None:
        shortcuts[function] = shortcut
    return wrapper
