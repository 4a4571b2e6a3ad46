"""Tools that test gradients: of minigrad's own rules, and of your functions.

`check_grads` compares the gradients of a function with differences; `assert_rule` puts a function of your own and its
rules through everything that ours go through. The rest are strategies for Hypothesis, which is imported when they are.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minigrad.names import door, missing
from minigrad.testing.check import check_grads
from minigrad.testing.rule import assert_rule

if TYPE_CHECKING:
    from minigrad.testing.program import Program, programs
    from minigrad.testing.strategies import arrays_for, broadcastable, indices, tensors

__all__ = ["Program", "arrays_for", "assert_rule", "broadcastable", "check_grads", "indices", "programs", "tensors"]


def _found(name: str) -> Any:
    """Import the strategies, and Hypothesis with them, when one of them is first used."""
    if name in __all__:
        room = "program" if name in ("Program", "programs") else "strategies"
        try:
            return getattr(import_module(f"minigrad.testing.{room}"), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "hypothesis":
                raise
            raise ImportError(
                f"{name} needs Hypothesis: python -m pip install hypothesis. check_grads and assert_rule work without."
            ) from error
    missing(__name__, name)


door(__name__, _found)
