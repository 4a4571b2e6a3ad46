"""Wrong compilers, one fault planted at a time, and the checks of test_compiler.py that must refuse each of them."""

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import test_compiler as checks
import test_optim as optim_checks
import test_scope as scope_checks
from test_compiler import A, assert_same

import minigrad as mg
from minigrad import compiler, nn
from minigrad.compiler import Execution, Specialization, graph, plan, source
from minigrad.compiler.graph import Graph, Value
from minigrad.compiler.plan import Plan
from minigrad.compiler.scope import Scope
from minigrad.compiler.source import Writer
from minigrad.compiler.trace import Trace, TraceError
from minigrad.engine import array_of, numbers_of
from minigrad.engine import tensor as engine_tensor
from minigrad.sample import Samples, sampled

LOOKS = checks.test_looking_at_numbers_is_refused.pytestmark[0].args[1]  # type: ignore[attr-defined]
SQUARE = np.arange(9.0).reshape(3, 3) / 9

# ------------------------------------------------------------------------------------------------------ the checks


def same(f: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """The numbers and gradients of a function are the eager ones."""
    return lambda: assert_same(checks.weighted(f), list(args))


def hazard(f: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """What a function returns is what the eager one returns, and stays so."""

    def check() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(checks.HAZARDS, "planted", (f, [np.array(a) for a in args]))
            checks.test_hazards("planted")

    return check


def in_turn(f: Callable[..., Any], *calls: tuple[Any, ...]) -> Callable[[], None]:
    """One compiled function gives what the eager one gives for arguments of several kinds, one after the other."""

    def check() -> None:
        compiled = mg.compile(f)
        for args in calls:
            answer, expected = compiled(*args), f(*args)
            assert type(answer) is type(expected)
            assert getattr(answer, "requires_grad", False) == getattr(expected, "requires_grad", False)
            answer, expected = numbers_of(answer), numbers_of(expected)
            assert answer.dtype == expected.dtype
            np.testing.assert_allclose(answer, expected, rtol=4 * np.finfo(answer.dtype).eps)

    return check


def apart() -> None:
    """What is handed out does not lie in the memory of an argument."""
    x = np.array(A)
    for answer in mg.compile(lambda x: [x, x.T, x[0], np.reshape(x, -1)])(x):
        assert not np.shares_memory(answer, x)


def thawed() -> None:
    weight = tensor(False)
    compiled = mg.compile(lambda x: np.sum(weight * x))
    for requires_grad in (False, True, False):
        weight.requires_grad = requires_grad
        assert compiled(np.ones(2)).requires_grad == requires_grad


def two_draws() -> None:
    def drawn(change: Callable[[Any], Any]) -> list[Any]:
        layer = nn.Dropout(0.5, rng=np.random.default_rng(1))
        f = change(lambda x: layer(x) + 10 * layer(x))
        return [f(np.ones(20)) for _ in range(2)]

    np.testing.assert_array_equal(drawn(mg.compile), drawn(lambda f: f))


def named(name: str) -> Callable[[], None]:
    """One of the rows of HAZARDS."""
    return lambda: checks.test_hazards(name)


def tensor(requires_grad: bool) -> mg.Tensor:
    return mg.Tensor([1.0, 2.0], requires_grad=requires_grad)


chain = same(lambda x: np.exp(np.sin(x) * x) * np.cos(x) / (1 + x**2), A)
layers = same(lambda x: np.tanh(np.inner(np.tanh(np.inner(x, SQUARE)), SQUARE)), SQUARE)
halves = in_turn(lambda x: np.sin(x) * 3, (A.astype(np.float32),), (A,), (A.astype(np.float16),))

# ------------------------------------------------------------------------------------------------------ the faults


class OneBufferPerKind(Plan):  # type: ignore[misc]
    """Forgets that an array may still be needed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        first = {kind: name for name, kind in reversed(self.buffers.items())}
        self.place = {x: first[self.buffers[name]] if name in self.buffers else name for x, name in self.place.items()}


class OneWorkspace(list):  # type: ignore[type-arg]
    """Lends what is still in use."""

    def pop(self) -> Any:  # type: ignore[override]
        return self[0]


def around(owner: Any, name: str, wrong: Callable[..., Any]) -> Any:
    """A patch of `owner.name` by `wrong(right, *args)`."""
    right = getattr(owner, name)
    return owner, name, lambda *args, **kwargs: wrong(right, *args, **kwargs)


def after(owner: Any, name: str, change: Callable[[Any], None]) -> Any:
    """A patch of `owner.name`, a method, after which `change(self)` is done."""
    return around(owner, name, lambda right, self, *args: (right(self, *args), change(self))[0])


def rule(function: Any, *wrong: Callable[[Any, Any], Any]) -> Any:
    """Other identities for a function, each of (graph, value)."""
    return graph.identities, function, list(wrong)


def number(x: Any) -> Any:
    return graph._number(x)


def stale(right: Any, self: Any, like: Any, function: Any, args: Any, kwargs: Any) -> Any:
    """Folds what some constant is a part of."""
    value = right(self, like, function, args, kwargs)
    some = any(number(x) is not None for x in args)
    return self.constant(like.data.copy()) if some and isinstance(like, mg.Tensor) else value


def shared_draws(right: Any, self: Any, like: Any, function: Any, *rest: Any) -> Any:
    value = right(self, like, function, *rest)
    return self.known.setdefault(like.shape, value) if function is sampled else value


def narrowed(right: Any, value: Any) -> Any:
    """Drops every broadcast."""
    args = [x.args[0] if graph._made_by(x, np.broadcast_to) else x for x in value.args]
    return Value(value, value.function, tuple(args), value.kwargs)


def walked_twice(right: Any, run: Any, *args: Any) -> Any:
    saved = run.saved
    done = right(run, *args)
    run.saved = saved
    return done


def forgetting(right: Any, root: Any, *args: Any, **kwargs: Any) -> Any:
    """Drops the gradients that are there."""
    answers = right(root, *args, **kwargs)
    for leaf in answers:
        leaf.grad = None
    return answers


def overwriting(right: Any, root: Any, *args: Any, **kwargs: Any) -> Any:
    """Adds up gradients in the memory of those that are there."""
    answers = right(root, *args, **kwargs)
    for leaf, g in answers.items():
        if leaf.grad is not None:
            leaf.grad += g
            answers[leaf] = np.zeros_like(g)
    return answers


def later(answer: mg.Tensor) -> mg.Tensor:
    answer._time = 2**62
    return answer


def transposed(program: Graph, x: Value) -> Value:
    return program.make(x, np.transpose, (x,), {})


def copied(right: Any, trace: Trace, x: Any) -> Any:
    """Takes the numbers of an array for ever."""
    return trace.given.setdefault(id(x), mg.Tensor(x)) if isinstance(x, np.ndarray) else x


def drawn_from() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(TraceError, match="draws from 'rng'"):
        mg.compile(lambda x: x * rng.normal())(np.ones(2))


def in_place() -> None:
    """Arrays that are changed in place, and met by Tensors alone."""
    scale, mask = np.ones(2), np.array([True, False])
    compiled = mg.compile(lambda x: np.sum(np.where(mask, x, 0) * scale))
    for _ in range(3):
        x = tensor(True)
        compiled(x).backward()
        np.testing.assert_array_equal(x.grad, scale * mask)
        scale += 1
        mask[:] = ~mask
    assert len(compiled.programs.popitem()[1]) == 1


def read_afresh(name: str) -> Callable[[], None]:
    """A row of what a function closes over, and of what changes there between two calls."""
    return lambda: scope_checks.test_what_it_closes_over_is_read_afresh(name, "in a gradient")


first_of = lambda graph, value: value.args[0]
second_of = lambda graph, value: value.args[1]
without = lambda right, *args: None  # what should be done is not
FAULTS: dict[str, tuple[Any, Callable[[], None]]] = {
    # plan
    "a buffer is used again too early": ((source, "Plan", OneBufferPerKind), chain),
    "outputs may be written over": (
        around(source, "Plan", lambda right, calls, kept, *rest, **options: right(calls, (), *rest, **options)),
        named("views of one another"),
    ),
    "a view counts as new": ((plan, "is_new", lambda value: True), named("a transpose of what dies")),
    "a view of an input is handed out": ((source, "is_new", lambda value: True), apart),
    # constants
    "constants are float64": (
        around(Writer, "constant", lambda right, self, data: right(self, data.astype(float))),
        halves,
    ),
    "what depends on an input is folded": (around(Graph, "make", stale), chain),
    "parameters are those of the first call": (
        after(Specialization, "__init__", lambda self: setattr(self, "closed", copy.deepcopy(self.closed))),
        checks.test_parameters_are_read_afresh,
    ),
    "constants by size alone": (
        around(Writer, "constant", lambda right, self, data: self.named(data, "c", (data.shape, data.dtype))),
        same(lambda x: x * 3 + 5, A),
    ),
    # common subexpressions
    "keys without options": (
        around(graph, "_key", lambda right, x: () if isinstance(x, dict) else right(x)),
        same(lambda x: [np.cumsum(x, axis=0), np.cumsum(x, axis=1)], SQUARE),
    ),
    "keys without types": (
        around(graph, "_key", lambda right, x: x if type(x) in (int, float) else right(x)),
        in_turn(lambda x: (x * 2) // 3 + x * 2.0, (np.arange(3),)),
    ),
    "keys without slices": (
        around(graph, "_key", lambda right, x: () if isinstance(x, slice) else right(x)),
        same(lambda x: x[1:] * x[:-1], A),
    ),
    "draws are shared": (around(Graph, "make", shared_draws), two_draws),
    # identities
    "x * 2 is x": (
        rule(np.multiply, lambda graph, value: value.args[0] if number(value.args[1]) == 2 else None),
        same(lambda x: np.sin(x) * 2, A),
    ),
    "x + 1 is x": (
        rule(np.add, lambda graph, value: value.args[0] if number(value.args[1]) == 1 else None),
        same(lambda x: np.sin(x) + 1, A),
    ),
    "0 - x is x": (
        rule(np.subtract, lambda graph, value: value.args[1] if number(value.args[0]) == 0 else None),
        same(lambda x: 0 - np.sin(x), A),
    ),
    "1 / x is x": (
        rule(np.divide, lambda graph, value: value.args[1] if number(value.args[0]) == 1 else None),
        same(lambda x: 1 / (2 + x), A),
    ),
    "x / y is y": (rule(np.divide, second_of), chain),
    "-x is x": (rule(np.negative, first_of), same(lambda x: -np.sin(x), A)),
    "x + x is x * x": (
        rule(
            np.add,
            lambda graph, value: (
                graph.make(value, np.square, value.args[:1], {}) if value.args[0] is value.args[1] else None
            ),
        ),
        same(lambda x: (y := np.sin(x)) + y, A),
    ),
    "a * (b * x) is (a + b) * x": (
        rule(
            np.multiply,
            lambda program, value: (
                program.make(value, np.multiply, (value.args[0].args[0], 4 + 3.0), {})
                if number(value.args[1]) == 4 and graph._made_by(value.args[0], np.multiply)
                else None
            ),
        ),
        same(lambda x: np.sin(x) * 3 * 4, A),
    ),
    "two transposes by axes are none": (
        rule(
            np.transpose,
            lambda _, value: value.args[0].args[0] if graph._made_by(value.args[0], np.transpose) else None,
        ),
        same(lambda x: np.transpose(np.transpose(np.sin(x), (1, 2, 0)), (1, 2, 0)), np.arange(27.0).reshape(3, 3, 3)),
    ),
    "reshaping is dropped": (
        rule(np.reshape, lambda graph, value: graph.make(value, np.positive, value.args[:1], {})),
        hazard(lambda x: np.reshape(np.sin(x), (4, 1)), A),
    ),
    "a cast is dropped": (
        rule(np.ndarray.astype, lambda graph, value: graph.make(value, np.positive, value.args[:1], {})),
        hazard(lambda x: np.sin(x).astype(np.float32), A),
    ),
    "a broadcast is dropped": (
        around(graph, "without_broadcasts", narrowed),
        hazard(lambda x: np.exp(np.broadcast_to(x, (3, 2, 2))), A),
    ),
    # emission
    "every transpose is .T": (
        around(
            Writer,
            "call",
            lambda right, self, value, out: (
                f"{self.text(value.args[0])}.T" if value.function is np.transpose else right(self, value, out)
            ),
        ),
        same(lambda x: np.transpose(x, (0, 2, 1)) * 2, np.arange(27.0).reshape(3, 3, 3)),
    ),
    "np.inner without its transpose": (
        around(
            Writer,
            "call",
            lambda right, self, value, out: right(self, value, out).replace(".T,", ",").replace(".T)", ")"),
        ),
        layers,
    ),
    # calls
    "a workspace is lent twice": (
        after(Specialization, "__init__", lambda self: setattr(self, "pool", OneWorkspace([self.workspace()]))),
        checks.test_two_forwards_before_the_first_backward,
    ),
    "the way back is walked twice": (
        around(Execution, "run_backward", walked_twice),
        checks.test_gradients_of_dropout_belong_to_its_own_draw,
    ),
    "the gradient of the answer is always 1": (
        around(Execution, "gradients", lambda right, self, g: right(self, np.ones_like(g))),
        checks.test_a_loss_that_is_scaled_afterwards,
    ),
    "a program for another shape": (
        around(compiler, "signature", lambda right, x: right(x)[1:]),
        in_turn(lambda x: np.sum(x) / x.size, (A,), (A[:1],)),
    ),
    "a program for another dtype": (around(compiler, "signature", lambda right, x: x.shape), halves),
    "a program for an input that is not tracked": (
        around(compiler, "signature", lambda right, x: right(x)[:2]),
        in_turn(np.sum, (tensor(False),), (tensor(True),)),
    ),
    "a program for another number": (
        around(compiler, "signature", lambda right, x: type(x)),
        in_turn(lambda x, k: x * k, (tensor(False), 2.0), (tensor(False), 3.0)),
    ),
    "a program for another structure": (
        (compiler, "structure_of", lambda *args: ""),
        in_turn(lambda x: x["a"] if isinstance(x, dict) else -x[0], ([A],), ({"a": A},)),
    ),
    "a program for another mode": (
        around(Scope, "changed", without),
        checks.test_dropout_draws_what_eager_draws,
    ),
    "a program for parameters that were not frozen": (
        (Specialization, "fits", lambda self: True),
        thawed,
    ),
    "the generator is not put back": (around(Trace, "__exit__", without), checks.test_dropout_draws_what_eager_draws),
    "running again draws anew": (
        (compiler, "Samples", lambda drawn: Samples()),
        checks.test_gradients_of_dropout_belong_to_its_own_draw,
    ),
    "a nan that was not chosen stays": (
        after(Specialization, "__init__", lambda self: setattr(self, "may_need_masks", False)),
        checks.test_a_branch_that_was_not_chosen_contributes_nothing,
    ),
    # what it closes over
    "attributes are those of the first call": (
        after(
            Scope, "__init__", lambda self: self.__dict__.update(names=[], looks=[], then=self.then[len(self.names) :])
        ),
        read_afresh("attribute: a float"),
    ),
    "lists are those of the first call": (
        after(Scope, "__init__", lambda self: self.__dict__.update(containers=[], then=self.then[: len(self.names)])),
        read_afresh("container: a list"),
    ),
    "an array is a constant": (around(Trace, "standing", copied), in_place),
    "an array is a constant on the way back": (
        around(Trace, "standing", lambda right, self, x: (right(self, x), x)[1]),
        in_place,
    ),
    "arrays for plain NumPy are those of the first call": (
        after(Specialization, "__init__", lambda self: setattr(self, "frozen", [])),
        read_afresh("in place: a sum"),
    ),
    "what a function changes is changed once": (
        around(Scope, "changed", without),
        lambda: scope_checks.test_what_holds_for_one_run_is_refused("an attribute that counts"),
    ),
    "what a function writes is written once": (
        around(Scope, "written", without),
        lambda: scope_checks.test_what_holds_for_one_run_is_refused("an array"),
    ),
    "draws of a generator are those of the first call": (
        around(Trace, "__exit__", without),
        drawn_from,
    ),
    # gradients
    "a parameter that was changed is not noticed": (
        around(compiler, "recomputable", lambda right, *args: later(right(*args))),
        checks.test_a_parameter_changed_before_backward_raises,
    ),
    "gradients do not add up": (
        around(engine_tensor, "backpropagate", forgetting),
        lambda: optim_checks.test_gradients_accumulate_until_they_are_cleared(optim_checks.OPTIMIZERS[0]),
    ),
    "a gradient that somebody keeps is overwritten": (
        around(engine_tensor, "backpropagate", overwriting),
        lambda: optim_checks.test_a_gradient_that_somebody_keeps_is_never_overwritten(optim_checks.OPTIMIZERS[0]),
    ),
    "one of several answers gets the gradient of another": (
        around(compiler, "split", lambda right, total, kinds: right(total * np.arange(total.size), kinds)),
        lambda: scope_checks.test_gradients_of_several_answers("several shapes", "all"),
    ),
    # blocks
    "the first rows are left out": (
        around(
            Writer, "block", lambda right, *args: [line.replace("range(0, ", "range(16384, ") for line in right(*args)]
        ),
        lambda: checks.test_blocks_and_threads((2**17 + 3,), 1),
    ),
    "sums are of the first rows": (
        around(Writer, "block", lambda right, *args: [re.sub(r"_parts\[.*?\]", "_parts[:]", x) for x in right(*args)]),
        lambda: checks.test_blocks_and_threads((2**17 + 3,), 2),
    ),
    # sums as products
    "column sums are row sums": (
        around(
            Graph,
            "make",
            lambda right, self, like, function, args, kwargs: right(
                self, like, function, (args[0], transposed(self, args[1])) if function is np.dot else args, kwargs
            ),
        ),
        same(lambda x: np.sum(np.sin(x), axis=0) * 3, A),
    ),
    "numbers may be looked at": (
        around(Trace, "looked_at", lambda right, self, tensor, *how: array_of(tensor)),
        lambda: checks.test_looking_at_numbers_is_refused(LOOKS[4]),
    ),
    "as many numbers as there are": (
        around(Trace, "refuse", without),
        lambda: checks.test_looking_at_numbers_is_refused(LOOKS[7]),
    ),
}


@contextlib.contextmanager
def planted(owner: Any, name: Any, wrong: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        (patch.setitem if isinstance(owner, dict) else patch.setattr)(owner, name, wrong)
        yield


def test_every_check_passes_without_a_fault() -> None:
    for check in {check for _, check in FAULTS.values()}:
        check()


@pytest.mark.filterwarnings("ignore")
def test_every_planted_fault_is_caught() -> None:
    survivors = []
    for name, (fault, check) in FAULTS.items():
        with planted(*fault):
            try:
                check()
            except (AssertionError, pytest.fail.Exception) as error:  # another error is a fault of the patch
                print(f"{name}: {type(error).__name__}")
            else:
                survivors.append(name)
    print(f"{len(FAULTS) - len(survivors)} of {len(FAULTS)} faults caught")
    assert survivors == []
