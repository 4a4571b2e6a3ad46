"""Functions of one's own in the tables."""

import functools
import inspect
import reprlib
from collections.abc import Callable
from typing import Any

from minigrad.engine import Function, Node, Rules, alone, as_array, call, has_node, is_inside, name_of, refuse, vjps


def primitive(*rules: Function | None, joint: Function | None = None) -> Callable[[Function], Function]:
    """Give an array function its derivative by `rules`, one per argument, `rule(g, ans, *args, **kwargs)`.

    `g` is the gradient of the answer `ans` and has its shape; the rule returns the gradient of its argument, in the
    shape of the argument or of anything that broadcasting made of it. None stands for a derivative of zero. Written in
    NumPy, a rule can itself be differentiated. The function takes its arrays by position, everything else by keyword;
    transforms may be used in it. Make each primitive once, not anew in every call: the table keeps it for good.

    >>> from minigrad import grad
    >>> @primitive(lambda g, ans, x: g * 3 * x**2)
    ... def cube(x):
    ...     return x**3
    >>> grad(cube)(2.0)
    array(12.)

    Where all gradients come of one computation, give one `joint` rule instead, which returns a tuple of them, with None
    for those that are zero. The solution of a @ x = b has both by one more solution:

    >>> def adjoint(g, ans, a, b):
    ...     by_b = np.linalg.solve(a.T, g)
    ...     return -np.outer(by_b, ans), by_b
    >>> solve = primitive(joint=adjoint)(lambda a, b: np.linalg.solve(a, b))
    """
    if bool(rules) == (joint is not None):
        raise TypeError("give one rule for each array, @primitive(lambda g, ans, x: ...), or @primitive(joint=...)")
    for rule in rules or (joint,):
        if rule is not None:
            _check(rule)

    def register(function: Function) -> Function:
        if not callable(function):
            raise TypeError("primitive takes the rules first: @primitive(lambda g, ans, x: ...) above the function")
        plain = [rule and _plain(rule) for rule in rules]
        vjps[function] = Rules(*plain, joint=joint and functools.partial(_all_plain, function, joint))

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for key, value in kwargs.items():
                if isinstance(value, Node):
                    raise TypeError(f"{name_of(function)} got the Tensor {key}= by keyword: pass it by position")
            if is_inside():  # it may use transforms itself, and sees arrays
                return alone(wrapper, *args, **kwargs)
            if not has_node(args):
                return function(*args, **kwargs)
            any(map(refuse, map(type, args)))
            return call(function, args, kwargs)

        return wrapper

    return register


def _plain(rule: Function) -> Function:
    """The same rule, of which refused is what is no array of numbers."""
    return functools.wraps(rule)(lambda *args, **kwargs: as_array(rule(*args, **kwargs)))


def _all_plain(function: Function, joint: Function, g: Any, ans: Any, *args: Any, **kwargs: Any) -> list[Any]:
    parts = joint(g, ans, *args, **kwargs)
    if not isinstance(parts, (tuple, list)) or len(parts) != len(args):
        raise TypeError(
            f"the joint rule of {name_of(function)} returned {reprlib.repr(parts)}: it returns a tuple of {len(args)}, "
            "for each argument of the call its gradient, or None for one of zero."
        )
    return [part if part is None else as_array(part) for part in parts]


def _check(rule: Any) -> None:
    if not callable(rule):
        raise TypeError(f"a rule is a function (g, ans, *args) or None for a zero derivative, not {rule!r}")
    try:
        inspect.signature(rule).bind_partial("g", "ans", "x")
    except TypeError as error:
        raise TypeError(
            "a rule is called with the gradient of the answer, the answer and all arguments, (g, ans, x, ...), "
            f"and this one takes {inspect.signature(rule)}"
        ) from error
    except ValueError:  # NumPy's own do not all tell
        pass
