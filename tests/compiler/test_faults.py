"""Wrong compilers, one fault planted at a time, and the checks of the other tests that must refuse each of them."""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_compile as checks
import test_contract as contract
import test_copies as copies
import test_export as exports
import test_program as programs
import test_pure as pure
import test_refusals as refusals
import test_writes as writing
from profiles import some
from test_compile import A, assert_same

import minigrad as mg
from minigrad import compiler, nn
from minigrad.compiler import Compiled, Family, export, family, graph, plan, program, recording, replay, source
from minigrad.compiler.graph import Graph, Value
from minigrad.compiler.plan import Plan
from minigrad.compiler.program import Execution, Program
from minigrad.compiler.record import Abstract, Record, TraceError
from minigrad.compiler.recording import Recorder
from minigrad.compiler.replay import Run
from minigrad.compiler.source import Writer
from minigrad.engine import array_of, number_of, numbers_of

Check = Callable[[], None]
LOOKS = checks.test_looking_at_numbers_is_refused.pytestmark[0].args[1]  # type: ignore[attr-defined]
SQUARE, CUBE = np.arange(9.0).reshape(3, 3) / 9, np.arange(27.0).reshape(3, 3, 3)

# ------------------------------------------------------------------------------------------------------ the checks


def same(f: Callable[..., Any], *args: Any) -> Check:
    """The numbers and gradients of a function are the eager ones."""
    return lambda: assert_same(checks.weighted(f), list(args))


def hazard(f: Callable[..., Any], *args: Any) -> Check:
    """What a function returns is what the eager one returns, and stays so."""

    def check() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(checks.HAZARDS, "planted", (f, [np.array(a) for a in args]))
            checks.test_hazards("planted")

    return check


def in_turn(f: Callable[..., Any], *calls: tuple[Any, ...]) -> Check:
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


def in_a_folder(test: Callable[..., None], *args: Any, **options: Any) -> Check:
    """A test that writes files."""

    def check() -> None:
        with tempfile.TemporaryDirectory() as name:
            test(*args, tmp_path=Path(name), **options)

    return check


def row(test: Callable[..., None], *args: Any) -> Check:
    """One row of a test with parameters."""
    return lambda: test(*args)


def afresh(name: str) -> Check:
    return row(contract.test_what_it_closes_over_is_read_afresh, name, "alone")


def written(name: str) -> Check:
    return row(writing.test_what_is_written_to_a_leaf, name, False)


def shared(f: Callable[..., Any]) -> Check:
    """What is written in place is seen by a leaf that shares the memory."""
    return row(writing.test_leaves_that_share_memory, f, False)


def apart() -> None:
    """What is handed out does not lie in the memory of an argument."""
    x = np.array(A)
    for answer in mg.compile(lambda x: [x.T, x[0], np.reshape(x, -1)])(x):
        assert not np.shares_memory(answer, x)


def thawed(pure: bool) -> Check:
    def check() -> None:
        weight = tensor(False)
        compiled = mg.compile(lambda x: np.sum(weight * x), pure=pure)
        for requires_grad in (False, True, False):
            weight.requires_grad = requires_grad
            assert compiled(np.ones(2)).requires_grad == requires_grad

    return check


def two_draws() -> None:
    def drawn(change: Callable[[Any], Any]) -> list[Any]:
        layer = nn.Dropout(0.5, rng=np.random.default_rng(1))
        f = change(lambda x: layer(x) + 10 * layer(x))
        return [f(np.ones(20)) for _ in range(2)]

    np.testing.assert_array_equal(drawn(mg.compile), drawn(lambda f: f))


def retained() -> None:
    try:
        writing.test_gradients_that_are_retained_inside()
    except TypeError as error:  # there is no gradient
        raise AssertionError from error


def silent() -> None:
    """What the function does not warn of, the program does not either."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        contract.test_warnings_that_are_suppressed_inside_stay_so()
    assert not caught


def tensor(requires_grad: bool) -> mg.Tensor:
    return mg.Tensor([1.0, 2.0], requires_grad=requires_grad)


chain = same(lambda x: np.exp(np.sin(x) * x) * np.cos(x) / (1 + x**2), A)
layers = same(lambda x: np.tanh(np.inner(np.tanh(np.inner(x, SQUARE)), SQUARE)), SQUARE)
halves = in_turn(lambda x: np.sin(x) * 3, (A.astype(np.float32),), (A,), (A.astype(np.float16),))
a_step = row(writing.test_steps_of_all_kinds, "whole", "Adam")
saved_step = in_a_folder(exports.test_a_saved_step_trains_on_numpy_alone, "Adam", False)

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
    return around(owner, name, lambda right, self, *args, **kwargs: (right(self, *args, **kwargs), change(self))[0])


def before(owner: Any, name: str, change: Callable[[Any], None]) -> Any:
    """A patch of `owner.name`, a method, before which `change(self)` is done."""
    return around(owner, name, lambda right, self, *args, **kwargs: (change(self), right(self, *args, **kwargs))[1])


def sets(owner: Any, name: str, **attributes: Any) -> Any:
    """A patch of `owner.name`, a method, after which attributes are others."""
    return after(owner, name, lambda self: [setattr(self, key, value) for key, value in attributes.items()])


def rule(function: Any, *wrong: Callable[[Any, Any], Any]) -> Any:
    """Other identities for a function, each of (graph, value)."""
    return graph.identities, function, list(wrong)


def events(**changes: Any) -> Any:
    """Events that are remembered as other ones."""
    return around(Record, "add", lambda right, self, event: right(self, event._replace(**changes)))


def effects(what: Callable[..., Any]) -> Any:
    """What a run does to leaves is not remembered in one respect."""
    return around(Record, "note", lambda right, self, effects: right(self, [e for e in effects if e[0] is not what]))


def lines(pattern: str, text: str) -> Any:
    """A program with another text in place of what fits a pattern."""

    return after(
        source.Source, "__init__", lambda self: setattr(self, "text", re.sub(pattern, text, self.text, flags=re.M))
    )


def exported(name: str, old: str, new: str) -> Any:
    """A saved module with another text in one place."""
    text = getattr(export, name)
    assert old in text
    return export, name, text.replace(old, new)


def number(x: Any) -> Any:
    return graph._number(x)


def stale(right: Any, self: Any, like: Any, function: Any, args: Any, kwargs: Any) -> Any:
    """Folds what some constant is a part of."""
    some = any(number(x) is not None for x in args)
    if some and isinstance(like, np.ndarray) and like.dtype.kind == "f":
        return self.constant(np.array(like))
    return right(self, like, function, args, kwargs)


def shared_draws(right: Any, self: Any, array: Any, of: Any) -> Any:
    draws = [t for t, its in self.record.inputs.items() if its.kind == of.kind == "draw" and t.shape == np.shape(array)]
    return draws[0] if draws else right(self, array, of)


def narrowed(right: Any, value: Any) -> Any:
    """Drops every broadcast."""
    args = [x.args[0] if graph._made_by(x, np.broadcast_to) else x for x in value.args]
    return Value(value, value.function, tuple(args), value.kwargs)


def walked_twice(right: Any, run: Any, *args: Any) -> Any:
    saved = run.saved
    done = right(run, *args)
    run.saved = saved
    return done


def transposed(program: Graph, x: Value) -> Value:
    return program.make(x, np.transpose, (x,), {})


def frozen() -> Any:
    """Numbers are those of the first call."""
    first: dict[Any, Any] = {}

    def wrong(right: Any, self: Any, record: Any, slot: Any, a: Any) -> Any:
        a = first.setdefault(slot, a) if record.values[slot].is_number else a
        return right(self, record, slot, a)

    return around(Run, "binds", wrong)


def bound_once() -> Any:
    """Arrays are those that a slot was bound to at first."""
    first: dict[Any, Any] = {}

    def wrong(right: Any, self: Any, record: Any, slot: Any, a: Any) -> Any:
        done = right(self, record, slot, a)
        if done and isinstance(a, np.ndarray):
            self.bound[slot] = first.setdefault(slot, self.bound[slot])
        return done

    return around(Run, "binds", wrong)


def lent(program_: Program) -> None:
    program_.pool = OneWorkspace([(program.called, program_.workspace())])


def in_its_mode(right: Any, self: Any, record: Any, *args: Any) -> Any:
    self.on = record.events[self.i].recording
    return right(self, record, *args)


def unrestored(right: Any, self: Any, *args: Any) -> Any:
    bound, met, maps = self.bound, self.met, self.maps
    if right(self, *args):
        return True
    self.bound, self.met, self.maps = bound, met, maps
    return False


def seen(right: Any, self: Any, x: Any, how: str = "") -> Any:
    return self.number(self.value(x)) if isinstance(x, mg.Tensor) else x


def in_order(right: Any, self: Any, effects: Any) -> None:
    """What was written at first stays first."""
    for what, of_which, value in effects:
        self.state[what][of_which] = value


def with_zeros(self: Any, *args: Any, **kwargs: Any) -> Any:
    return np.zeros(self.shape, self.dtype)


first_of = lambda graph, value: value.args[0]
second_of = lambda graph, value: value.args[1]
nothing = lambda *args, **kwargs: None  # what should be done is not
always = lambda *args, **kwargs: True
without = lambda right, *args, **kwargs: None

GRAPH: dict[str, tuple[Any, Check]] = {
    "what depends on an input is folded": (around(Graph, "make", stale), chain),
    "constants by size alone": (
        around(graph, "constant_key", lambda right, data: (data.shape, data.dtype.str)),
        same(lambda x: 0.5 * (x * 3) + 0.25 * (np.sin(x) * 3), A),
    ),
    "constants in the text by size alone": (
        around(Writer, "constant", lambda right, self, data: self.named(data, "c", (data.shape, data.dtype))),
        same(lambda x: x * 3 + 5, A),
    ),
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
    "keys without signs": (
        around(graph, "_key", lambda right, x: abs(x) if type(x) is float else right(x)),
        same(lambda x: x * 2.5 + x * -2.5 * x, A),
    ),
    "draws are shared": (around(Recorder, "appears", shared_draws), two_draws),
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
    "x - -y is x - y": (
        rule(
            np.subtract,
            lambda program, value: (
                program.make(value, np.subtract, (value.args[0], value.args[1].args[0]), {})
                if graph._made_by(value.args[1], np.negative)
                else None
            ),
        ),
        same(lambda x: np.sin(x) - -np.cos(x), A),
    ),
    "two transposes by axes are none": (
        rule(
            np.transpose,
            lambda _, value: value.args[0].args[0] if graph._made_by(value.args[0], np.transpose) else None,
        ),
        same(lambda x: np.transpose(np.transpose(np.sin(x), (1, 2, 0)), (1, 2, 0)), CUBE),
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
    "a sum of copies is one of them": (
        rule(
            np.sum,
            lambda program, value: (
                program.make(value, np.reshape, (value.args[0].args[0], value.shape), {})
                if graph._made_by(value.args[0], np.broadcast_to)
                else None
            ),
        ),
        same(lambda x: np.sum(np.broadcast_to(np.sin(x[0, 0]), (5, 3))), A),
    ),
    "options of sums are dropped": (
        around(
            graph,
            "as_method",
            lambda right, value: (
                Value(v, v.function, v.args, {k: x for k, x in v.kwargs.items() if k != "where"})
                if (v := right(value))
                else v
            ),
        ),
        same(lambda x: np.sum(np.sin(x) * 2, where=x > 2), A),
    ),
}
PLAN: dict[str, tuple[Any, Check]] = {
    "a buffer is used again too early": ((source, "Plan", OneBufferPerKind), chain),
    "outputs may be written over": (
        around(source, "Plan", lambda right, calls, kept, *rest, **options: right(calls, (), *rest, **options)),
        row(checks.test_hazards, "views of one another"),
    ),
    "a view counts as new": ((plan, "is_new", always), row(checks.test_hazards, "a transpose of what dies")),
}
SOURCE: dict[str, tuple[Any, Check]] = {
    "a view of an input is handed out": ((source, "is_new", always), apart),
    "constants are float64": (
        around(Writer, "constant", lambda right, self, data: right(self, data.astype(float))),
        halves,
    ),
    "all constants are uniform": (
        (source, "is_uniform", always),
        contract.test_a_number_that_a_composite_looks_at_is_compared,
    ),
    "every transpose is .T": (
        around(
            Writer,
            "call",
            lambda right, self, value, out: (
                f"{self.text(value.args[0])}.T" if value.function is np.transpose else right(self, value, out)
            ),
        ),
        same(lambda x: np.transpose(x, (0, 2, 1)) * 2, CUBE),
    ),
    "np.inner without its transpose": (
        around(
            Writer,
            "call",
            lambda right, self, value, out: right(self, value, out).replace(".T,", ",").replace(".T)", ")"),
        ),
        layers,
    ),
    "an end of a slice is left out": (
        around(
            Writer,
            "slice",
            lambda right, self, part: right(self, slice(part.start, None) if isinstance(part, slice) else part),
        ),
        in_turn(lambda x: np.sum(np.sin(x)[:1]), (A,)),
    ),
    "the first rows are left out": (
        around(
            Writer, "block", lambda right, *args: [line.replace("range(0, ", "range(16384, ") for line in right(*args)]
        ),
        row(checks.test_blocks_and_threads, (2**17 + 3,), 1),
    ),
    "sums are of the first rows": (
        around(Writer, "block", lambda right, *args: [re.sub(r"_parts\[.*?\]", "_parts[:]", x) for x in right(*args)]),
        row(checks.test_blocks_and_threads, (2**17 + 3,), 2),
    ),
    "one thread does its part alone": (
        around(source, "in_threads", lambda right, work, starts, threads: work(list(starts)[::threads])),
        row(checks.test_blocks_and_threads, (2**17, 2), 2),
    ),
    "writes are done before all is computed": (
        around(source, "first_write", lambda right, *args: 0),
        row(writing.test_a_write_in_place_is_not_done_where_the_program_raises, False),
    ),
    "writes are done while others read": ((source, "may_write", always), shared(writing.kept_as_it_was)),
    "views of what is written are not noticed": (
        (source, "lying_in", lambda inputs, steps: set()),
        shared(writing.a_part_kept_as_it_was),
    ),
    "nan flags are not looked at": (
        lines(r"^    if isnan\(.*\):\n +return None\n", ""),
        checks.test_a_branch_that_was_not_chosen_contributes_nothing,
    ),
}
PROGRAM: dict[str, tuple[Any, Check]] = {
    "flags are not checked": ((Program, "flags_fit", always), thawed(False)),
    "flags are not checked by a pure program": ((Program, "flags_fit", always), thawed(True)),
    "a pure program fits always": (
        (Program, "fits", lambda self, flat: self.flags_fit()),
        row(writing.test_what_is_written_to_a_leaf, "gradients_that_add_up", True),
    ),
    "what a pure function has looked at is not compared": (
        sets(Program, "prepare", seen={}),
        row(pure.test_what_a_program_depends_on_besides_is_traced_anew, "a number that the function has looked at"),
    ),
    "what is returned is not compared": (
        (Program, "gives", always),
        row(pure.test_a_broken_promise_raises_under_debug, "what is returned"),
    ),
    "nan flags are not remembered": (
        sets(Program, "backward_pass", nan_flags=[]),
        checks.test_a_branch_that_was_not_chosen_contributes_nothing,
    ),
    "nothing is written where a gradient is nan": (
        around(Execution, "interpreted", lambda right, self, writes: right(self, False)),
        row(writing.test_a_step_whose_gradient_is_nan_is_written_as_in_eager, "hand"),
    ),
    "the gradient of the answer is always 1": (
        around(Execution, "gradients", lambda right, self, g: right(self, np.ones_like(g))),
        checks.test_a_loss_that_is_scaled_afterwards,
    ),
    "the way back is walked twice": (
        around(Execution, "gradients", walked_twice),
        checks.test_gradients_of_dropout_belong_to_its_own_draw,
    ),
    "the calls are made again for gradients": (
        around(Execution, "gradients", without),
        lambda: _with_patch(programs.test_gradients_of_several_answers, "a tuple", "all"),
    ),
    "calls are made again with other arrays": (
        before(Execution, "interpreted", lambda self: setattr(self, "arrays", [x * 0 for x in self.arrays])),
        checks.test_gradients_of_dropout_belong_to_its_own_draw,
    ),
    "one of several answers gets the gradient of another": (
        around(program, "split", lambda right, total, kinds: right(total * np.arange(total.size), kinds)),
        lambda: _with_patch(programs.test_gradients_of_several_answers, "several shapes", "all"),
    ),
    "a workspace is lent twice": (
        after(
            Program, "prepare", lambda self: setattr(self, "pool", OneWorkspace([(program.called, self.workspace())]))
        ),
        checks.test_two_forwards_before_the_first_backward,
    ),
    "arrays come out as Tensors": (
        around(program, "as_it_is", lambda right, x: mg.Tensor(x)),
        checks.test_arrays_in_arrays_out,
    ),
    "gradients are not cleared": (
        (program, "clear", nothing),
        row(writing.test_a_gradient_that_was_there_is_cleared, False),
    ),
    "gradients are not written": ((program, "set_grads", nothing), written("a_gradient_that_is_set")),
    "data is not bound anew": (
        after(Program, "prepare", lambda self: self.leaves.__setitem__(0, [])),
        written("written_twice"),
    ),
    "versions are not counted": ((program, "touch", nothing), writing.test_a_write_is_seen_by_the_check_of_versions),
    "the answer of a step can be walked back": (
        around(program, "freed_answer", lambda right, x: mg.Tensor(x)),
        writing.test_the_answer_of_a_whole_step_keeps_no_graph,
    ),
    "objects with stand-ins are returned": (
        (Program, "refuse_stand_ins", nothing),
        row(refusals.test_an_object_with_a_tensor_is_refused_at_once, False),
    ),
    "shared memory is not noticed": (
        (Program, "sharing", lambda *args: []),
        shared(writing.a_part_kept_as_it_was),
    ),
    "what is drawn is that of the trace": (
        around(Program, "drawn", lambda right, self: self.constants),
        row(pure.test_samples_are_drawn_anew_as_in_eager, "an array", True),
    ),
    "warnings that are suppressed come": (sets(Program, "backward_pass", silent=False), silent),
    "leaves are those of the first call": (
        sets(Program, "prepare", are_own=True),
        writing.test_an_argument_that_is_a_leaf_may_be_written_to,
    ),
    "arrays that are saved are those of the first call": (
        around(Program, "remember", lambda right, self, run: None if hasattr(self, "constants") else right(self, run)),
        in_a_folder(exports.test_a_saved_program_has_the_arrays_of_the_last_call),
    ),
}
RECORD: dict[str, tuple[Any, Check]] = {
    "facts are not remembered": (events(facts=()), written("gradients_that_add_up")),
    "effects are not remembered": (
        events(effects=[]),
        row(writing.test_steps_of_all_kinds, "accumulated_over_calls", "Adam"),
    ),
    "the mode is not remembered": (
        events(recording=True),
        row(writing.test_steps_of_all_kinds, "frozen_at_times", "Adam"),
    ),
    "what was written before a deviation is forgotten": (
        after(Record, "__init__", lambda self: self.state.clear()),
        row(writing.test_steps_of_all_kinds, "accumulated_over_calls", "Adam"),
    ),
    "stand-ins that are kept go on": (
        (Record, "let_go", nothing),
        refusals.test_a_stand_in_that_is_left_does_not_stand_for_that_of_a_later_call,
    ),
    "stand-ins have zeros": (
        (Abstract, "__array__", with_zeros),
        row(refusals.test_a_stand_in_that_is_left_raises_when_it_is_looked_at, "attribute", "an array"),
    ),
    "numbers are the same by their shapes": (
        (replay, "same_numbers", lambda a, b: np.shape(a) == np.shape(b)),
        contract.test_a_number_that_a_composite_looks_at_is_compared,
    ),
}
RECORDING: dict[str, tuple[Any, Check]] = {
    "arrays are not protected": (
        (Recorder, "protected", lambda self, array: array),
        row(contract.test_an_array_that_is_overwritten_counts_as_it_was, "between two uses"),
    ),
    "large arrays are not locked": (
        (recording, "LARGE", 2**62),
        row(contract.test_a_large_array_is_locked_until_the_program_has_run, False),
    ),
    "small arrays are locked": (
        (recording, "LARGE", 1),
        row(contract.test_an_array_that_is_overwritten_counts_as_it_was, "between two uses"),
    ),
    "arrays stay locked": (
        (Recorder, "unlock", lambda self: []),
        row(contract.test_a_large_array_is_locked_until_the_program_has_run, False),
    ),
    "arrays that were read-only are unlocked": (
        around(
            Recorder,
            "protected",
            lambda right, self, array: (right(self, array), self.locked.append(array) if array.size >= 2**12 else 0)[0],
        ),
        contract.test_an_array_that_was_read_only_stays_so,
    ),
    "computed numbers may be looked at": (
        around(Recorder, "known", seen),
        row(refusals.test_looking_at_computed_numbers_is_refused, "float", False),
    ),
    "as many numbers as there are": (
        (Recorder, "refuse", lambda self, what: None),
        row(checks.test_looking_at_numbers_is_refused, LOOKS[7]),
    ),
    "no numbers are read anew": (
        (Recorder, "are_numbers", lambda self, function, args: [False] * len(args)),
        row(contract.test_numbers_that_change_at_each_call_are_soon_read_anew, "a factor"),
    ),
    "what is read after a write is what was there": (
        (Recorder, "current", lambda self, x: self.maps.get(x, x) if isinstance(x, mg.Tensor) else x),
        written("read_after_write"),
    ),
    "memory that overlaps is not noticed": ((recording, "overlap", nothing), shared(writing.moved)),
    "the place of a part is not looked at": (
        around(recording, "overlap", lambda right, x, y: (p := right(x, y)) and (p[0], 0)),
        shared(writing.moved),
    ),
    "a gradient that is there is not asked for": (
        (Recorder, "gradient", lambda self, leaf: self.record.state[recording.grad_of].get(leaf)),
        written("gradients_that_add_up"),
    ),
    "gradients do not add up": (
        (
            recording.PERFORMED,
            recording.deposit,
            lambda self, what, gs: [self.note(recording.grad_of, leaf, g) for leaf, g in gs.items()],
        ),
        written("gradients_that_add_up"),
    ),
    "gradients are not cleared by zero_grad": (
        (recording.PERFORMED, recording.clear, nothing),
        row(writing.test_steps_of_all_kinds, "whole", "Adam"),
    ),
    "data that is assigned is written in place": (
        effects(recording.set_data),
        row(writing.test_data_goes_where_eager_puts_it, "assigned"),
    ),
    "numbers of an optimizer are not written": (
        effects(recording.number_of),
        row(writing.test_steps_of_all_kinds, "rate_inside", "Adam"),
    ),
    "numbers that were written are those of before": (
        around(
            Recorder, "latest", lambda right, self, what, leaf: leaf if what is number_of else right(self, what, leaf)
        ),
        row(writing.test_steps_of_all_kinds, "steps_that_are_read", "momentum"),
    ),
    "what was written may be looked at": (
        around(
            Recorder, "latest", lambda right, self, what, leaf: leaf if what is array_of else right(self, what, leaf)
        ),
        refusals.test_looking_at_what_was_written_is_refused,
    ),
    "graphs are not freed": (effects(recording.history), writing.test_a_graph_is_walked_once_inside),
    "what was changed since is not noticed": (
        (Recorder, "check", nothing),
        writing.test_a_walk_after_a_write_inside_raises_as_in_eager,
    ),
    "rules of the user's are taken apart": (
        (recording, "is_users_rule", lambda rule: False),
        contract.test_what_a_rule_reads_is_that_of_its_call,
    ),
    "gradients that are retained are those of all": (
        (recording, "retains", lambda x: False),
        retained,
    ),
}
REPLAY: dict[str, tuple[Any, Check]] = {
    "the quick path forgets the mode": (
        (replay, "ever_switched", lambda: 0),
        afresh("tensor: a mode without gradients"),
    ),
    "the mode of a call is not compared": (
        around(Run, "matches", in_its_mode),
        afresh("tensor: a mode without gradients"),
    ),
    "a leaf takes the place of one that stands for itself": (
        before(Run, "binds_leaf", lambda self: self.own.clear()),
        row(contract.test_a_tensor_that_was_met_once_stands_for_itself, "in one call"),
    ),
    "facts are not checked": ((Run, "holds", always), written("gradients_that_add_up")),
    "an array is that of the first call": (bound_once(), afresh("variable: an array")),
    "numbers are those of the first call": (
        frozen(),
        row(contract.test_numbers_that_change_at_each_call_are_soon_read_anew, "a factor"),
    ),
    "1 is True": (
        around(
            Run,
            "same",
            lambda right, self, record, a, b: a == b if isinstance(a, (int, float)) else right(self, record, a, b),
        ),
        afresh("attribute: the sign of zero"),
    ),
    "what was bound stays where a record did not fit": (
        around(Run, "matches", unrestored),
        contract.test_what_did_not_fit_one_way_may_fit_another,
    ),
    "options are not compared": (
        around(
            Run,
            "same",
            lambda right, self, record, a, b: isinstance(a, dict) or right(self, record, a, b),
        ),
        row(pure.test_a_broken_promise_raises_under_debug, "an option"),
    ),
    "a promise is not compared": (
        around(
            Run, "__init__", lambda right, self, records, first, flat, strict=False: right(self, records, first, flat)
        ),
        row(pure.test_a_broken_promise_raises_under_debug, "a float"),
    ),
    "recording goes on by the quick path": (
        (Run, "begin_recording", Recorder.begin_recording),
        contract.test_what_is_equal_after_a_difference_belongs_to_the_new_program,
    ),
    "functions of the user's in composites are not run": (
        (replay, "is_users", lambda x: False),
        row(contract.test_it_is_not_traced_anew_for, "a checkpoint inside"),
    ),
    "requirements are set at the first call": (
        (replay, "set_requires_grad", object()),
        contract.test_requires_grad_that_the_function_toggles,
    ),
    "draws are those of the trace": (
        around(
            Run,
            "binds",
            lambda right, self, record, slot, a: record.kind(slot) == "draw" or right(self, record, slot, a),
        ),
        checks.test_dropout_draws_what_eager_draws,
    ),
    "stand-ins that were kept are given again": (
        around(
            Run,
            "given",
            lambda right, self, result, only=None: right(self, result) if only is None else result,
        ),
        refusals.test_a_stand_in_that_is_left_does_not_stand_for_that_of_a_later_call,
    ),
}
DOOR: dict[str, tuple[Any, Check]] = {
    "a program for another shape": (
        around(family, "signature", lambda right, x: right(x)[1:]),
        in_turn(lambda x: np.sum(x) / x.size, (A,), (A[:1],)),
    ),
    "a program for another dtype": (around(family, "signature", lambda right, x: x.shape), halves),
    "a program for an input that is not tracked": (
        around(family, "signature", lambda right, x: right(x)[:2]),
        in_turn(np.sum, (tensor(False),), (tensor(True),)),
    ),
    "a program for another number": (
        around(family, "signature", lambda right, x: right(x) if isinstance(x, family.ARRAYS) else type(x)),
        row(pure.test_arguments_that_are_no_arrays_are_told_apart),
    ),
    "a program for another structure": (
        (family, "repr", lambda x: "" if "'*'" in repr(x) else repr(x)),
        pure.test_structures_of_arguments_are_told_apart,
    ),
    "a program for another mode": (
        (family, "is_recording", always),
        pure.test_shapes_dtypes_and_modes_are_told_apart,
    ),
    "arrays with rules of their own are taken": (
        around(family, "signature", lambda right, x: (x.shape, x.dtype) if isinstance(x, np.ndarray) else right(x)),
        row(refusals.test_arrays_with_rules_of_their_own_are_refused, "a masked array", "alone", False),
    ),
    "lists that are given may change": (
        (Compiled, "unchanged", nothing),
        row(refusals.test_lists_and_dicts_that_are_given_may_not_change, "append"),
    ),
    "what a function has kept is not noticed": (
        (Family, "end", nothing),
        refusals.test_a_stand_in_that_is_left_does_not_stand_for_that_of_a_later_call,
    ),
    "every program is kept": ((family, "MOST", 10**6), contract.test_a_bounded_number_of_programs_is_kept),
    "every family is kept": (
        (compiler, "FAMILIES", 10**6),
        contract.test_a_bounded_number_of_signatures_is_kept,
    ),
    "things that are gone are kept in mind": (
        (family.Same, "forgets", nothing),
        row(copies.test_a_compiled_method_keeps_no_dead_object_alive, False),
    ),
    "the first program is kept alone": (
        (Family, "first", lambda self, program: setattr(self, "programs", [program])),
        contract.test_ways_that_alternate_are_kept,
    ),
    "threads need no lock": (
        (Compiled, "run", lambda self, program, *given: program(*given)),
        writing.test_threads_do_not_meet_between_a_read_and_a_write,
    ),
    "attributes are set on the compiled model": (
        (Compiled, "__setattr__", object.__setattr__),
        copies.test_attributes_that_are_set_on_a_compiled_model_are_set_on_the_model,
    ),
    "a copy is made of what has a name": (
        (Compiled, "__reduce__", lambda self: (Compiled, (self.f, self.threads, self.pure))),
        copies.test_a_decorated_function_is_found_again_by_its_name,
    ),
    "a copy forgets that it is pure": (
        (Compiled, "__reduce__", lambda self: (Compiled, (self.f, self.threads, False))),
        copies.test_a_copy_of_a_pure_function_is_pure,
    ),
    "many traces are no reason to warn": ((compiler, "MANY", 10**6), checks.test_many_shapes_are_worth_a_warning_once),
    "a pure function runs again": (
        (Program, "fits", lambda self, flat: False),
        row(pure.test_numbers_may_change, "data of a parameter"),
    ),
    "the end of a pure function is not compared": (
        (Family, "program_of", lambda self, run, leaves: self.programs[0] if self.programs else None),
        row(pure.test_a_broken_promise_raises_under_debug, "a call less"),
    ),
    "an answer that is handed on is a stand-in": (
        sets(Program, "prepare", handed_on=[]),
        row(checks.test_hazards, "an output that is an input"),
    ),
}
EXPORT: dict[str, tuple[Any, Check]] = {
    "digests are not checked": (
        exported("LOAD", '!= "{digest}"', '== ""'),
        in_a_folder(exports.test_weights_of_another_program_are_not_read),
    ),
    "floats are truncated": (
        exported("MAIN", '"same_kind")', '"unsafe")'),
        in_a_folder(exports.test_a_program_for_integers_does_not_truncate),
    ),
    "shapes are not checked": (
        exported("MAIN", "x.shape != shape", "False"),
        in_a_folder(exports.test_the_program_for_given_arguments_is_saved),
    ),
    "a saved step does not bind its weights anew": (
        exported("MAIN", "    weights.update(zip({rebound}, outputs[{answers}:]))\n", ""),
        in_a_folder(exports.test_a_saved_step_assigns_data_on_numpy_alone, writing.by_hand),
    ),
    "weights are mixed up": (
        around(export.Weights, "name_of", lambda right, self, leaf: next(iter([*self.arrays, right(self, leaf)]))),
        in_a_folder(exports.test_weights_of_one_shape_are_told_apart),
    ),
    "numbers of an optimizer are constants": (
        around(export.Weights, "argument", lambda right, self, *of: re.sub(r".*item\(\)", "0.5", right(self, *of))),
        saved_step,
    ),
    "what a saved program would leave out is saved": (
        (export, "check", nothing),
        in_a_folder(exports.test_what_a_saved_program_would_leave_out_is_refused),
    ),
    "the program for given arguments is the last one": (
        around(Compiled, "save", lambda right, self, path, *args, **kwargs: right(self, path)),
        in_a_folder(exports.test_arguments_by_name_choose_the_program, True),
    ),
    "a saved program does not warn of nan": (
        exported("NAN", "a gradient is nan", "all is well"),
        in_a_folder(exports.test_a_saved_gradient_warns_of_nan),
    ),
    "views are weights of their own": ((export, "overlap", nothing), saved_step),
}
FAULTS = GRAPH | PLAN | SOURCE | PROGRAM | RECORD | RECORDING | REPLAY | DOOR | EXPORT
PLANTED = some([*FAULTS], 2)


def _with_patch(test: Callable[..., None], *args: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test(*args, patch)


@contextlib.contextmanager
def planted(owner: Any, name: Any, wrong: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(owner, dict):
            patch.setitem(owner, name, wrong)
        else:
            patch.setattr(owner, name, wrong, raising=name != "repr")
        yield


def test_every_check_passes_without_a_fault() -> None:
    for check in {FAULTS[name][1] for name in PLANTED}:
        check()


@pytest.mark.filterwarnings("ignore")
def test_every_planted_fault_is_caught() -> None:
    survivors = []
    for name in PLANTED:
        fault, check = FAULTS[name]
        with planted(*fault):
            try:
                check()
            except (AssertionError, pytest.fail.Exception, TraceError) as error:  # another is a fault of the patch
                print(f"{name}: {type(error).__name__}")
            else:
                survivors.append(name)
    print(f"{len(PLANTED) - len(survivors)} of {len(PLANTED)} faults caught")
    assert survivors == []
