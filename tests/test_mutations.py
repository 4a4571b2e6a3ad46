"""Faults planted into the helpers that composites and rules are spelled with: the rows of the tables show them all.

The checks of the rows compare with NumPy and with differences, and see a part in a thousand (tests/test_rules.py plants
such faults into the rules themselves). So a fault is caught where a row's value or gradients come out other by as much.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import Case, arguments, case, rows_of
from profiles import scale
from test_composites import cases as composite_cases
from test_linalg import cases as linalg_cases
from test_rules import cases as rule_cases

import minigrad as mg
from minigrad.engine import Tensor, numbers_of, vjps
from minigrad.engine import composites as spelled
from minigrad.tables import composites, linalg, rearrangements, rules

TABLES = (composite_cases, linalg_cases, rule_cases)
ROWS = [row for table in TABLES for function in table for _, row in rows_of(function, table, 6)]
ROWS += [  # what no row of the tables comes to: ties, singular matrices, equal eigenvalues, long rows
    case(lambda x: np.sort(np.concatenate([x, x])), (3,)),
    case(lambda x: np.linalg.det(np.stack([x, x * 0])), (3, 3)),
    case(lambda x: np.linalg.eigvalsh(np.eye(2) * x), ()),
    case(lambda x: np.linalg.pinv(x / 9 + np.diag([1.0, 2.0, 8.0]), rcond=0.3), (3, 3)),
    case(np.matmul, (20, 40), (40, 1300)),
]
MODULES = (rules, composites, rearrangements, linalg)
# These stand in the tables themselves: tests/test_rules.py plants faults there, and composites are held against NumPy.
IN_TABLES = {"einsum_rule", "packed", "slogdet_rule", "qr_rule", "eig_rule", "eigh_rule", "svd_rule", "_cumulative",
             "_log_of_sum", "_logs_of_sums", "_quantile", "_outer", "_with_more_axes"}  # fmt: skip
# Covariances and norms are even functions; of the two answers of `parted`, one is divided by the other.
EQUIVALENT = {"_rows_of the other sign", "_floating the other sign", "parted times 1.001"}
NEWER = {"cumulative_sum", "cumulative_prod", "unstack"} if not hasattr(np, "cumulative_sum") else set()
# Dtypes and orders of memory, limits, and 0 or nan: there are tests of their own for them.
NO_NUMBERS = {"wide", "_memory", "unknown", "phases", "rounding", "_check_real"}
# They run once, at import.
FACTORIES = {"composite", "composition", "several", "spelled", "_rearranging"}


def helpers() -> Iterator[tuple[ModuleType, str]]:
    """The functions that are in no table, by the module that finds them under a name."""
    lines = [line for line in vjps.values() if isinstance(line, tuple)]  # some give a rule for any position
    tables = {id(function) for function in (*spelled.values(), *vjps, *itertools.chain.from_iterable(lines))}
    for module in MODULES:
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if (
                own
                and id(inspect.unwrap(function)) not in tables
                and name not in FACTORIES | IN_TABLES | NEWER | NO_NUMBERS
            ):
                yield module, name


def changed(change: Callable[[Any], Any], answer: Any) -> Any:
    """An answer with every number in it changed; what holds no numbers stays."""
    if isinstance(answer, (list, tuple)):
        return type(answer)(changed(change, x) for x in answer)
    if isinstance(answer, (bool, int)):  # a shape, a choice
        return not answer if isinstance(answer, bool) else answer + 1
    return change(answer) if isinstance(answer, (Tensor, np.ndarray, np.generic)) else answer


def corrupted(right: Callable[..., Any], change: Callable[[Any], Any], *args: Any, **kwargs: Any) -> Any:
    """What a wrong helper returns; one that works in place, and returns nothing, works with a wrong last argument."""
    if right.__name__ == "add_at":
        return right(*args[:-1], changed(change, np.asarray(args[-1])))
    return changed(change, right(*args, **kwargs))


def kind(x: Any) -> str:
    return np.dtype(x.dtype).kind


FAULTS: dict[str, Callable[[Any], Any]] = {
    "times 1.001": lambda x: ~x if kind(x) == "b" else x + 1 if kind(x) in "iu" else 1.001 * x,
    "the other sign": lambda x: ~x if kind(x) == "b" else -x - (kind(x) in "iu"),
    "zero": lambda x: x * 0 if kind(x) != "b" else x & ~x,
}


def outcome(row: Case) -> list[Any]:
    """The value of a row, and its first and second derivatives."""
    args = arguments(row, seed=0)

    def weighted(x: Any) -> Any:
        total = np.sum(np.cos(np.arange(x.size)).reshape(x.shape) * x)
        return np.real(total) + np.imag(total) / 3 if np.iscomplexobj(total) else total

    def slopes(*xs: Any) -> Any:
        gradients = mg.grad(lambda *ys: weighted(row.function(*ys)), tuple(range(len(args))))(*xs)
        return sum(map(weighted, gradients[1:]), weighted(gradients[0]))

    positions = tuple(range(len(args)))
    first = mg.grad(lambda *xs: weighted(row.function(*xs)), positions)(*args)
    return [row.function(*map(Tensor, args)), *first, *mg.grad(slopes, positions)(*args)]


def differ(a: list[Any], b: list[Any]) -> bool:
    pairs = zip((numbers_of(x) for x in a), (numbers_of(x) for x in b), strict=True)
    return not all(x.shape == y.shape and np.allclose(x, y, rtol=5e-4, atol=1e-7, equal_nan=True) for x, y in pairs)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_fault_in_a_helper_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[tuple[ModuleType, str]] = set()

    def noted(helper: tuple[ModuleType, str], function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            called.add(helper)
            return function(*args, **kwargs)

        return wrapper

    users: dict[tuple[ModuleType, str], list[tuple[Case, list[Any]]]] = {helper: [] for helper in helpers()}
    with monkeypatch.context() as patch:
        for module, name in users:
            patch.setattr(module, name, noted((module, name), getattr(module, name)))
        for row in ROWS:
            called.clear()
            expected = outcome(row)
            for helper in called:
                users[helper].append((row, expected))

    def seen(row: Case, expected: list[Any]) -> bool:
        try:
            return differ(outcome(row), expected)
        except (ValueError, IndexError, TypeError, np.linalg.LinAlgError):  # the row would be red
            return True

    survivors, count = [], 0
    for number, ((module, name), rows) in enumerate(users.items()):
        right = getattr(module, name)
        possible = [fault for fault in FAULTS if f"{name} {fault}" not in EQUIVALENT]
        for fault in scale([possible[number % len(possible)]], possible):  # a quick run plants one in each helper
            change = FAULTS[fault]
            count += 1
            wrong = functools.partial(corrupted, right, change)
            with monkeypatch.context() as patch:
                patch.setattr(module, name, wrong)
                if not any(seen(*row) for row in rows):
                    survivors.append(f"{module.__name__}.{name} {fault} ({len(rows)} rows)")
    print(f"{count - len(survivors)} of {count} faults in {len(users)} helpers seen")
    assert count >= len(users) > 0
    assert not survivors, "\n".join(survivors)
