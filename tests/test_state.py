"""The state of objects of any kind: finding it, copying it, and giving other numbers to it."""

import contextlib
import copy
import dataclasses
import functools
import math
import pickle
from abc import ABC, abstractmethod
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.state import load_state_dict, named_generators, named_parameters, state_dict
from minigrad.trees import named


def tensor(*shape: int, requires_grad: bool = True) -> mg.Tensor:
    return mg.Tensor(np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape), requires_grad)


def network(seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Tanh(), nn.Linear(3, 1, rng=rng))


class Residual(nn.Module):
    """A module of one's own: attributes, a list, a dict, and a tensor that is not trained."""

    def __init__(self) -> None:
        self.scale = tensor(3)
        self.layers = [nn.Linear(3, 3), nn.Linear(3, 3, bias=False)]
        self.heads = {"mean": nn.Linear(3, 1), "std": nn.Linear(3, 1)}
        self.offset = tensor(3, requires_grad=False)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = x + self.scale * np.tanh(layer(x)) + self.offset
        return self.heads["mean"](x)


# ------------------------------------------------------------------------------------------------ finding parameters


def test_parameters_are_found_in_attributes_lists_and_dicts() -> None:
    assert [name for name, _ in Residual().named_parameters()] == [
        "scale", "layers.0.weight", "layers.0.bias", "layers.1.weight",
        "heads.mean.weight", "heads.mean.bias", "heads.std.weight", "heads.std.bias",
    ]  # fmt: skip


class Sublist(list[Any]):
    pass


def keep_in_list(part: Any) -> Any:
    return [1, part]


def keep_in_list_attribute(part: Any) -> Any:
    container = Sublist()
    container.part = part  # type: ignore[attr-defined]
    return container


CONTAINERS: list[Callable[[Any], Any]] = [
    keep_in_list,
    keep_in_list_attribute,
    lambda part: (None, "text", part),
    lambda part: namedtuple("Pair", "left right")(part, 2),
    lambda part: {"key": part, 3: np.ones(7)},
    lambda part: OrderedDict(first=part),
    lambda part: SimpleNamespace(part=part, function=len, array=np.ones(7)),
    lambda part: nn.Sequential(part) if callable(part) else nn.Sequential(SimpleNamespaceLayer(part)),
]


class SimpleNamespaceLayer:
    """Not a Module: any callable is a layer."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __call__(self, x: Any) -> Any:
        return x


@given(st.lists(st.sampled_from(CONTAINERS), max_size=6), st.booleans())
def test_parameters_are_found_in_any_nesting(containers: list[Callable[[Any], Any]], twice: bool) -> None:
    parameter, frozen = tensor(2), tensor(3, requires_grad=False)
    obj: Any = [parameter, frozen]
    for container in containers:
        obj = container(obj)
    found = nn.parameters([obj, obj] if twice else obj)
    assert len(found) == 1
    assert found[0] is parameter
    assert [a.shape for a in state_dict(obj).values() if a.shape != (7,)] == [(2,), (3,)]
    (name, _), *_ = nn.named_parameters(obj)
    assert name == next(iter(state_dict(obj)))


@pytest.mark.parametrize("obj", [None, 3, "text", np.ones(3), np.tanh, len, lambda x: x, int, np, object(), [], {}])
def test_objects_without_parameters(obj: Any) -> None:
    assert nn.parameters(obj) == []
    assert state_dict(obj) == {}


def test_a_tensor_is_its_own_parameter() -> None:
    t = tensor(2)
    assert nn.parameters(t)[0] is t
    assert nn.parameters(tensor(2, requires_grad=False)) == []


def test_a_shared_parameter_counts_once_under_its_first_name() -> None:
    tied = nn.Linear(2, 2)
    model = nn.Sequential(tied, np.tanh, tied)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    other = nn.Linear(2, 2)
    other.weight = tied.weight
    model.append(other)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "3.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "3.bias"]


def test_a_shared_parameter_gathers_all_its_gradients() -> None:
    tied = nn.Linear(2, 2, dtype=np.float64)
    x = np.ones((1, 2))
    np.sum(nn.Sequential(tied, tied)(x)).backward()
    weight, bias = tied.weight.data, tied.bias.data
    y = x @ weight.T + bias
    np.testing.assert_allclose(tied.weight.grad, np.ones((2, 1)) @ y + weight.T @ np.ones((2, 1)) @ x)


def test_what_is_frozen_stays_a_parameter_and_a_buffer_is_none() -> None:
    model = Residual()
    names = [name for name, _ in model.named_parameters()]
    assert "offset" in model.state_dict()
    assert "offset" not in names
    for name in ("scale", "layers.0.weight"):
        dict(model.named_parameters())[name].requires_grad = False
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"scale", "layers.0.weight"}
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), {"in": [model]}):
        assert [name.removeprefix("in.0.") for name, _ in nn.named_parameters(other)] == names
    mine = nn.Sequential(np.tanh)
    mine.added = tensor(2)  # type: ignore[attr-defined]
    mine.added.requires_grad = False  # type: ignore[attr-defined]
    assert [*mine.state_dict()] == [name for name, _ in mine.named_parameters()] == ["added"]


def test_the_recipes_of_freezing_and_thawing() -> None:
    """They are those of PyTorch: all that is trained is found again by `parameters`, whatever it is now."""
    model = nn.Sequential(nn.Linear(2, 3), np.tanh, nn.Linear(3, 1))
    for p in model[0].parameters():
        p.requires_grad = False
    np.sum(model(np.ones((4, 2), np.float32))).backward()
    assert [p.grad is None for p in model.parameters()] == [True, True, False, False]
    for p in model.parameters():
        p.requires_grad = True
    model.zero_grad()
    np.sum(model(np.ones((4, 2), np.float32))).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_cycles_end() -> None:
    model = network()
    model[0].parent = model
    model.self = model
    assert len(model.parameters()) == 4
    assert not model.eval().training
    assert "0.weight" in model.state_dict()
    assert "..." in repr(model)
    assert "total" in model.summary((2,))
    a: list[Any] = [tensor(1)]
    a.append(a)
    assert len(nn.parameters(a)) == 1


def test_deep_structures_do_not_exhaust_the_stack() -> None:
    obj: Any = tensor(2)
    for _ in range(10_000):
        obj = [obj]
    assert len(nn.parameters(obj)) == 1


def test_attributes_of_lists_of_layers_count() -> None:
    class Scaled(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(2, 2))
            self.scale = tensor(2)

        def forward(self, x: Any) -> Any:
            return super().forward(x) * self.scale

    model = Scaled()
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "scale"]


@pytest.mark.parametrize(
    "made",
    [lambda parts: deque(parts), lambda parts: np.array([*parts, None], object), lambda parts: {"b": deque(parts)}],
    ids=["deque", "array", "deque in a dict"],
)
def test_whatever_has_an_order_is_looked_into(made: Any) -> None:
    parts = [nn.Linear(2, 2), nn.Linear(2, 2)]
    assert len(nn.parameters(made(parts))) == 4
    model = nn.Sequential(np.tanh)
    model.parts = made(parts)  # type: ignore[attr-defined]
    assert len(model.parameters()) == 4
    assert not model.eval().training
    assert not parts[1].training


def test_a_matrix_of_objects_is_counted_along_its_rows() -> None:
    grid = np.full((2, 2), None)
    grid[0, 0], grid[1, 1] = tensor(1), tensor(2)
    assert [name for name, _ in named_parameters(grid)] == ["0", "3"]


@pytest.mark.parametrize("kind", [set, frozenset])
@pytest.mark.parametrize("thing", [tensor(2), nn.Linear(2, 2), (1, tensor(2)), np.random.default_rng(0)])
def test_what_lies_in_a_set_has_no_name(kind: Any, thing: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.parts = kind([thing])  # type: ignore[attr-defined]
    for function in (nn.parameters, state_dict, lambda model: load_state_dict(model, {})):
        with pytest.raises(TypeError, match=f"parts is a set that holds {type(thing).__name__}: .* list or a dict"):
            function(model)
    model.parts = kind(["words", 1, (2.0, None)])  # type: ignore[attr-defined]
    assert len(model.parameters()) == 2


class Named(nn.Module):
    def __init__(self) -> None:
        self.layers = {"a": tensor(2)}
        vars(self)["layers.a"] = tensor(2)


@pytest.mark.parametrize(
    "obj", [{1: tensor(2), "1": tensor(2)}, {"a": {"b": tensor(1)}, "a.b": tensor(1)}], ids=["numbers", "dots"]
)
def test_two_things_of_one_name_raise(obj: Any) -> None:
    for function in (nn.parameters, state_dict, lambda obj: load_state_dict(obj, {})):
        with pytest.raises(ValueError, match=r"two things in dict have the name '.*': give one of them another"):
            function(obj)
    with pytest.raises(ValueError, match=r"two things in Named have the name 'layers.a'"):
        Named().parameters()
    with pytest.raises(ValueError, match="two generators in dict have the name '1'"):
        named_generators({1: np.random.default_rng(0), "1": np.random.default_rng(0)})


# -------------------------------------------------------------------------------------------------- what is state


class Running:
    """A layer that is no Module, and keeps a mean."""

    def __init__(self) -> None:
        self.mean, self.seen, self._last = np.zeros(3), None, np.zeros(1)

    def __call__(self, x: Any) -> Any:
        self.mean = 0.9 * self.mean + 0.1 * np.mean(x)
        self.seen = x
        return x


@dataclasses.dataclass(frozen=True, eq=False)
class Frozen(nn.Module):
    mean: Any = dataclasses.field(default_factory=lambda: np.zeros(2))
    scale: float = 2.0


class Base(nn.Module, ABC):
    @abstractmethod
    def forward(self, x: Any) -> Any: ...


class Keeper(Base):
    """Has all kinds of state, and leaves all kinds of things behind."""

    def __init__(self) -> None:
        self.weight, self._hidden = tensor(3), tensor(1)
        self.mean = np.zeros(3, np.float32)
        self.count = np.zeros((), np.int64)
        self.offset = tensor(3, requires_grad=False)
        self.history = [np.zeros(2), {"a": np.ones(2, bool)}]
        self.plain, self.frozen, self.cells = Running(), Frozen(), [nn.Sequential(Running())]
        self.momentum, self.words, self.objects = np.float32(0.1), np.array(["a"]), np.array([None])
        self._cache, self._options = np.zeros(3), {"table": tensor(1, requires_grad=False)}
        self.out = self.later = None
        self.outs: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.mean = (0.9 * self.mean + 0.1 * np.asarray(x)).astype(np.float32)
        self.count = self.count + 1  # which makes a scalar of NumPy's
        self.plain(x), self.cells[0](x)
        self.history[0] = self.history[0] + 1
        self.out, self.later = np.tanh(x * self.weight), np.zeros(len(self.outs))
        self.outs += [self.out, x, mg.Tensor(x)]
        self._cache = np.zeros(len(self.outs))
        return self.out


STATE = [
    "weight", "_hidden", "mean", "count", "offset", "history.0", "history.1.a", "plain.mean", "frozen.mean",
    "cells.0.0.mean",
]  # fmt: skip


def test_the_state_of_a_module_is_what_it_was_constructed_with() -> None:
    model = Keeper()
    assert list(model.state_dict()) == STATE
    for recording in (True, False):
        with mg.no_grad() if not recording else contextlib.nullcontext():
            model(np.ones(3))
        assert list(model.state_dict()) == STATE
    model.out, model.outs = None, []
    assert list(copy.deepcopy(model).state_dict()) == STATE
    assert list(pickle.loads(pickle.dumps(model)).state_dict()) == STATE
    outer = nn.Sequential(model, Frozen())
    assert list(outer.state_dict()) == [*(f"0.{name}" for name in STATE), "1.mean"]


def test_state_goes_into_a_fresh_module_after_any_use() -> None:
    used, fresh, other = Keeper(), Keeper(), Keeper()
    for x in np.random.default_rng(0).normal(size=(4, 3)):
        used(x)
    other(np.ones(3))
    for model in (fresh, other):
        model.load_state_dict(used.state_dict())
        for name, array in used.state_dict().items():
            loaded = model.state_dict()[name]
            assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(loaded, array)
    assert fresh.count == used.count == 4
    assert fresh.cells[0][0].mean is not used.cells[0][0].mean


class Holding(nn.Module):
    def __init__(self, part: Any) -> None:
        self.part = part


def objects(parts: list[Any]) -> Any:
    array = np.empty(len(parts), object)
    for i, part in enumerate(parts):
        array[i] = part
    return array


KINDS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "deque": deque,
    "dict": lambda parts: {f"k{i}": part for i, part in enumerate(parts)},
    "array": objects,
    "object": lambda parts: SimpleNamespace(parts=parts),
    "module": Holding,
    "layers": lambda parts: nn.Sequential(*(SimpleNamespaceLayer(part) for part in parts)),
}
plans = st.recursive(
    st.tuples(
        st.sampled_from(["trained", "frozen", "numbers"]), st.sampled_from([np.float32, np.float64, np.complex64])
    ),
    lambda inner: st.tuples(st.sampled_from(sorted(KINDS)), st.lists(inner, max_size=3)),
    max_leaves=8,
)


def built(plan: Any, rng: np.random.Generator) -> Any:
    """What a plan says, with numbers of its own."""
    kind, inner = plan
    if kind in KINDS:
        return KINDS[kind]([built(each, rng) for each in inner])
    numbers = rng.normal(size=3).astype(np.float32 if kind == "trained" else inner)
    return numbers if kind == "numbers" else mg.Tensor(numbers, requires_grad=kind == "trained")


def planned(plan: Any) -> int:
    return sum(map(planned, plan[1])) if plan[0] in KINDS else 1


@given(plans, st.integers(0, 2**32))
def test_a_state_goes_into_another_module_of_the_same_plan(plan: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, other = Holding(built(plan, rng)), Holding(built(plan, rng))
    state, kept = model.state_dict(), other.state_dict()
    assert len(state) == planned(plan)
    held = [item for _, item in named(other) if isinstance(item, np.ndarray)]
    before = [array.copy() for array in held]
    other.load_state_dict(state)
    assert other.state_dict().keys() == state.keys()
    for name, array in other.state_dict().items():
        assert (array.dtype, array.tolist()) == (state[name].dtype, state[name].tolist())
        assert kept[name].tolist() != state[name].tolist()
    for array, numbers in zip(held, before, strict=True):
        if array.dtype.kind != "O":
            np.testing.assert_array_equal(array, numbers, "what somebody keeps is not overwritten")


def test_what_is_added_later_is_state_where_it_is_trained_or_a_module() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.factor, model.table = tensor(2), np.zeros(2)  # type: ignore[attr-defined]
    model.append(Keeper())
    model.stop = Keeper()  # type: ignore[attr-defined]
    own = ["0.weight", "0.bias", *(f"1.{name}" for name in STATE), "factor", *(f"stop.{name}" for name in STATE)]
    assert list(model.state_dict()) == own
    model[0].weight.requires_grad = False
    assert list(model.state_dict()) == own


def test_of_other_objects_the_leaf_tensors_are_state() -> None:
    leaf = tensor(2)
    obj = {"leaf": leaf, "array": np.zeros(2), "frozen": tensor(1, requires_grad=False), "_mine": mg.Tensor(1.0)}
    obj["answer"] = leaf * 2
    assert list(state_dict(obj)) == ["leaf", "frozen"]
    assert list(state_dict(functools.partial(Keeper().forward, np.ones(3)))) == [f"func.self.{name}" for name in STATE]


def test_generators_are_found_wherever_they_are() -> None:
    model = nn.Sequential(nn.Dropout(rng=1), Keeper())
    model._mine = [np.random.RandomState(0), np.random.PCG64(1), Random(2)]  # type: ignore[attr-defined]
    model.again = model[0].rng  # type: ignore[attr-defined]
    assert list(named_generators(model)) == ["0.rng", "_mine.0", "_mine.1", "_mine.2"]


# --------------------------------------------------------------------------------------------------- state and loading


def test_a_state_dict_is_a_copy() -> None:
    model = network()
    state = model.state_dict()
    for array in state.values():
        array += 1
    assert not np.any(np.isin(state["0.weight"], model.state_dict()["0.weight"]))
    model.load_state_dict(state)
    state["0.weight"][:] = 0
    assert np.all(model[0].weight.data != 0)


def test_loading_takes_all_numbers_over_in_the_models_dtype() -> None:
    ours, theirs = network(0), network(1)
    x = np.ones((4, 2), np.float32)
    assert not np.array_equal(ours(x).data, theirs(x).data)
    tensors = dict(ours.named_parameters())
    ours.load_state_dict({name: array.astype(np.float64) for name, array in theirs.state_dict().items()})
    np.testing.assert_array_equal(ours(x).data, theirs(x).data)
    assert all(tensors[name] is p and p.dtype == np.float32 for name, p in ours.named_parameters())


def bad_state() -> dict[str, Any]:
    state: dict[str, Any] = network(1).state_dict()
    del state["0.bias"]
    state |= {"2.weight": np.ones((3, 1)), "2.bias": np.array(["a"]), "extra": np.ones(1), "more": np.ones(1)}
    return state


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match="does not fit") as raised:
        network().load_state_dict(bad_state())
    assert str(raised.value).splitlines() == [
        "this state does not fit Sequential:",
        "  missing: 0.bias",
        "  unexpected: extra",
        "  unexpected: more",
        "  misshapen: 2.weight is (3, 1), and (1, 3) was wanted",
        "  not a real number: 2.bias is of dtype <U1",
    ]


@pytest.mark.parametrize("state", [None, [np.ones((3, 1))], network(), "state.npz"], ids=lambda x: type(x).__name__)
def test_a_state_is_a_dict(state: Any) -> None:
    model = network()
    for thing in (model, mg.optim.Adam(model)):
        with pytest.raises(TypeError, match=r"(?s)load_state_dict got .*; wanted a dict of names and arrays"):
            thing.load_state_dict(state)


@given(
    st.sets(st.sampled_from(["0.weight", "0.bias", "2.weight", "2.bias"])), st.booleans(), st.booleans(), st.booleans()
)
def test_a_failing_load_changes_nothing(kept: set[str], misshapen: bool, unexpected: bool, strict: bool) -> None:
    model = network(0)
    before = model.state_dict()
    state: dict[str, Any] = {name: array for name, array in network(1).state_dict().items() if name in kept}
    if misshapen:
        state["2.bias"] = np.ones(7)
    if unexpected:
        state["3.bias"] = np.ones(1)
    fits = not misshapen and (not strict or (len(kept) == 4 and not unexpected))
    if fits:
        model.load_state_dict(state, strict=strict)
    else:
        with pytest.raises(ValueError, match="does not fit Sequential"):
            model.load_state_dict(state, strict=strict)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name] if fits and name in state else before[name])


def test_a_load_that_fails_on_an_array_changes_nothing() -> None:
    model, good = Keeper(), Keeper()
    good(np.ones(3))
    before = model.state_dict()
    for name in STATE:
        state = good.state_dict() | {name: np.zeros((5, 5))}
        with pytest.raises(ValueError, match=rf"misshapen: {name} is \(5, 5\)"):
            model.load_state_dict(state)
        for other, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[other])


@pytest.mark.parametrize(
    ("own", "value", "fits"),
    [
        (np.int64(1), 2.0, True),
        (np.int64(1), 2.87, False),
        (np.int8(1), 300, False),
        (np.uint8(1), -1, False),
        (np.int64(1), math.nan, False),
        (np.int64(1), True, True),
        (np.bool_(True), 0, True),
        (np.bool_(True), 2, False),
        (np.float32(1), 0.1, True),
        (np.float32(1), 1e300, False),
        (np.float32(1), math.inf, True),
        (np.float32(1), math.nan, True),
        (np.float16(1), 70_000, False),
        (np.float32(1), 1j, False),
        (np.complex64(1), 1j, True),
        (np.complex64(1), 2, True),
        (np.float32(1), "1", False),
    ],
)
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_no_number_is_changed_to_fit(own: Any, value: Any, fits: bool, kind: str) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            self.n = mg.Tensor(own) if kind == "tensor" else np.asarray(own)

    holder = Holder()
    if fits:
        holder.load_state_dict({"n": value})
        np.testing.assert_allclose(holder.state_dict()["n"], value, rtol=1e-6)
    else:
        with pytest.raises(ValueError, match=r"not of dtype .*: n has numbers of|not a real number: n is"):
            holder.load_state_dict({"n": value})
        assert holder.state_dict()["n"] == own
    assert holder.state_dict()["n"].dtype == np.asarray(own).dtype


def test_an_array_that_somebody_keeps_is_not_overwritten() -> None:
    shared = np.zeros(2)
    shared.flags.writeable = False

    class Shares(nn.Module):
        def __init__(self) -> None:
            self.a, self.parts, self.deep = shared, [shared], {"x": deque([np.array([shared, 1], object)])}

    one, other = Shares(), Shares()
    assert list(one.state_dict()) == ["a"]
    one.load_state_dict({"a": np.ones(2)})
    assert one.a is one.parts[0] is one.deep["x"][0][0], "one thing, as before"
    np.testing.assert_array_equal(one.a, 1)
    np.testing.assert_array_equal(other.a, 0)


def test_an_array_in_a_tuple_can_only_stay() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            self.pair, self.weight = (np.zeros(2), 1), tensor(1)

    holder = Holder()
    holder.load_state_dict({"pair.0": np.zeros(2), "weight": [5.0]})
    with pytest.raises(ValueError, match=r"pair.0 is held by a tuple, which cannot hold another array: use a list"):
        holder.load_state_dict({"pair.0": np.ones(2), "weight": [7.0]})
    assert holder.weight.data == 5


def test_a_shared_thing_loads_from_each_of_its_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.first, self.mean = nn.Linear(2, 2), np.zeros(2)
            self.layers = [self.first, {"again": self.mean}]

    state = Tied().state_dict()
    assert list(state) == ["first.weight", "first.bias", "mean"]
    new = {"layers.0.weight": np.ones((2, 2)), "first.bias": np.ones(2), "layers.1.again": np.ones(2)}
    model = Tied()
    for given_ in (new, new | {"first.weight": np.ones((2, 2))}, new | {"mean": np.ones(2)}):
        model.load_state_dict(state)
        model.load_state_dict(given_)
        assert all(np.all(array == 1) for array in model.state_dict().values())
    model.load_state_dict(new | {name: np.full(2, math.nan) for name in ("layers.1.again", "mean")})
    assert np.isnan(model.mean).all()
    assert model.layers[1]["again"] is model.mean
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"first.weight has several names in Tied, and here different numbers"):
        model.load_state_dict(new | {"first.weight": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"missing: mean\n  unexpected: layers.2.again"):
        model.load_state_dict({"layers.2.again" if name == "mean" else name: array for name, array in state.items()})
    assert model.state_dict().keys() == before.keys()
    assert all(np.array_equal(array, before[name], equal_nan=True) for name, array in model.state_dict().items())


def test_a_load_between_forward_and_backward_is_noticed() -> None:
    model = network()
    loss = np.sum(model(np.ones((4, 2), np.float32)))
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="has been changed since"):
        loss.backward()


def test_state_dicts_of_plain_objects() -> None:
    weights = {"w": tensor(2, 3), "b": [tensor(3)]}
    state = state_dict(weights)
    assert list(state) == ["w", "b.0"]
    load_state_dict(weights, {name: array + 1 for name, array in state.items()})
    np.testing.assert_array_equal(weights["w"].data, state["w"] + 1)  # type: ignore[union-attr]
    assert [name for name, _ in named_parameters(weights)] == ["w", "b.0"]


def test_pytorch_takes_our_state_and_we_take_theirs() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    ours = network()
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    assert {k: tuple(v.shape) for k, v in theirs.state_dict().items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5)
    fresh = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    ours.load_state_dict(fresh.state_dict())
    np.testing.assert_allclose(ours(x).data, fresh(torch.tensor(x)).detach().numpy(), rtol=1e-5)


def test_the_names_and_shapes_are_pytorchs() -> None:
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (1, 3), "2.bias": (1,)}
    assert {name: array.shape for name, array in network().state_dict().items()} == shapes
