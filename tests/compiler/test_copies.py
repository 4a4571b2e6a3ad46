"""Compiled functions, methods and models are pickled and copied, and keep nothing alive that is gone."""

import copy
import gc
import inspect
import pickle
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from surroundings import Thing, assert_close, tensor

import minigrad as mg
from minigrad import nn

pytestmark = pytest.mark.filterwarnings("ignore:.*was traced")  # by many models, whose class has one compiled method


@mg.compile
def doubled(x: Any) -> Any:
    """Twice as much."""
    return x * 2


def plain(x: Any) -> Any:
    return np.sin(x) * 3


class Model(nn.Module):
    def __init__(self, factor: float = 2.0) -> None:
        self.weight, self.factor = tensor([1.0, 2.0, 3.0]), factor

    @mg.compile
    def forward(self, x: Any) -> Any:
        """The weights, times a factor."""
        return np.sum(x * self.weight) * self.factor

    @mg.compile
    def other(self, x: Any) -> Any:
        return np.sum(x + self.weight)


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "pickle of protocol 0": lambda x: pickle.loads(pickle.dumps(x, 0)),
}
THINGS: dict[str, Callable[[], Any]] = {
    "a decorated function": lambda: doubled,
    "a function": lambda: mg.compile(plain),
    "a pure function": lambda: mg.compile(plain, pure=True),
    "a NumPy function": lambda: mg.compile(np.sin),
    "a bound method": lambda: Model().other,
    "a compiled bound method": lambda: mg.compile(Thing(factor=3.0).scaled),
    "a model with compiled methods": Model,
    "a compiled model": lambda: mg.compile(Model(3.0)),
    "a compiled Sequential": lambda: mg.compile(
        nn.Sequential(nn.Linear(3, 3, rng=np.random.default_rng(0), dtype=float))
    ),
    "a list of them": lambda: Chain([mg.compile(plain), doubled]),
    "a layer in a Sequential": lambda: nn.Sequential(mg.compile(plain), Model()),
}


class Chain(list[Any]):
    def __call__(self, x: Any) -> Any:
        for f in self:
            x = f(x)
        return x


@pytest.mark.parametrize("called", ["before", "never"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", THINGS)
def test_a_copy_gives_the_same(name: str, way: str, called: str) -> None:
    thing, x = THINGS[name](), np.arange(3.0)
    if called == "before":
        thing(x)
    copied = WAYS[way](thing)
    for _ in range(2):
        assert_close(plainly(copied(x)), plainly(thing(x)))


def plainly(x: Any) -> Any:
    return np.asarray(x.data if isinstance(x, mg.Tensor) else x)


def test_a_decorated_function_is_found_again_by_its_name() -> None:
    assert copy.copy(doubled) is copy.deepcopy(doubled) is doubled
    assert pickle.loads(pickle.dumps(doubled)) is doubled


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_compiled_model_has_tensors_of_its_own(way: Callable[[Any], Any]) -> None:
    model = mg.compile(Model())
    model(np.ones(3))
    copied = way(model)
    assert not {*map(id, copied.parameters())} & {*map(id, model.parameters())}
    copied.weight.data = np.zeros(3)
    assert copied(np.ones(3)).item() == 0
    assert model(np.ones(3)).item() == 12
    copied.factor = 5.0
    assert model.factor == 2


def test_a_copy_of_a_pure_function_is_pure() -> None:
    for way in WAYS.values():
        assert way(mg.compile(plain, pure=True)).pure
        assert not way(mg.compile(plain)).pure


def test_what_is_private_cannot_be_pickled_but_says_so() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(mg.compile(lambda x: x * 2))


def test_a_compiled_function_looks_like_the_function() -> None:
    assert doubled.__name__ == "doubled"
    assert doubled.__doc__ == "Twice as much."
    assert doubled.__module__ == __name__
    assert inspect.unwrap(doubled) is doubled.f
    assert list(inspect.signature(doubled).parameters) == ["x"]
    assert Model.forward.__doc__ == "The weights, times a factor."
    assert Model().forward.__name__ == "forward"


# ------------------------------------------------------------------------------------------------------------ methods


def test_compiled_methods_belong_to_their_object() -> None:
    models = [Model(2.0), Model(3.0)]
    for _ in range(2):
        for model in models:
            assert model(np.ones(3)).item() == 6 * model.factor
            model.weight.data = model.weight.data + 0
    models[0].factor = 5.0
    assert [model(np.ones(3)).item() for model in models] == [30, 18]


@pytest.mark.parametrize("pure", [False, True])
def test_a_compiled_method_keeps_no_dead_object_alive(pure: bool) -> None:
    class Local(nn.Module):
        def __init__(self) -> None:
            self.weight = tensor(np.ones(3))

        def forward(self, x: Any) -> Any:
            return np.sum(x * self.weight)

    compiled = mg.compile(Local.forward, pure=pure)
    Local.forward = compiled  # type: ignore[method-assign, assignment]
    models = [Local() for _ in range(3)]
    references = [weakref.ref(thing) for model in models for thing in (model, model.weight)]
    for model in models:
        model(np.ones(3)).backward()
        model(np.ones(3))
    del model
    models.clear()
    gc.collect()
    assert all(reference() is None for reference in references)
    assert not compiled.families
    assert Local()(np.ones(3)).item() == 3


def test_a_compiled_function_keeps_no_arguments_alive() -> None:
    compiled = mg.compile(lambda x, y: np.sum(x * y))
    x, y = tensor(np.ones(3)), np.ones(3)
    references = [weakref.ref(x), weakref.ref(y)]
    for _ in range(2):
        compiled(x, y).backward()
    del x, y
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_compiled_function_keeps_no_batches_alive() -> None:
    data = Thing(batch=None)
    compiled = mg.compile(lambda x: np.sum(x * data.batch))
    references = []
    for _ in range(4):
        data.batch = np.ones(10_000)
        references.append(weakref.ref(data.batch))
        compiled(np.ones(10_000))
    gc.collect()
    assert sum(reference() is not None for reference in references[1:-1]) == 0


def test_static_and_class_methods_are_compiled() -> None:
    class Local:
        factor = 2.0

        @staticmethod
        @mg.compile
        def fixed(x: Any) -> Any:
            return x * 3

        @classmethod
        def by_class(cls, x: Any) -> Any:
            return x * cls.factor

    np.testing.assert_array_equal(Local.fixed(np.ones(2)), [3, 3])
    np.testing.assert_array_equal(Local().fixed(np.ones(2)), [3, 3])
    compiled = mg.compile(Local.by_class)
    for Local.factor in (2.0, 3.0):
        np.testing.assert_array_equal(compiled(np.ones(2)), np.full(2, Local.factor))


def test_many_objects_of_a_class_with_a_compiled_method_are_no_reason_to_warn() -> None:
    class Local:
        @mg.compile
        def doubled(self, x: Any) -> Any:
            return x * 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            np.testing.assert_array_equal(Local().doubled(np.ones(2)), [2, 2])


# ------------------------------------------------------------------------------------------------------------- models


def test_attributes_that_are_set_on_a_compiled_model_are_set_on_the_model() -> None:
    model = Model()
    compiled = mg.compile(model)
    assert compiled(np.ones(3)).item() == 12
    compiled.factor = 3.0
    assert model.factor == 3
    assert compiled(np.ones(3)).item() == 18
    compiled.weight = tensor(np.zeros(3))
    assert model.weight is compiled.weight
    assert compiled(np.ones(3)).item() == 0
    compiled.extra = tensor(np.ones(2))
    assert [name for name, _ in model.named_parameters()] == ["weight", "extra"]
    del model.extra
    assert not hasattr(compiled, "extra")


def test_a_compiled_model_that_is_compiled_is_itself() -> None:
    compiled = mg.compile(Model())
    assert mg.compile(compiled) is compiled
    assert mg.compile(compiled, pure=True).f is compiled.f


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_model_is_trained_apart(way: str) -> None:
    if way == "copy.copy":
        pytest.skip("a shallow copy shares its parameters")
    model = mg.compile(nn.Sequential(nn.Linear(3, 2, rng=np.random.default_rng(0), dtype=float), nn.Tanh()))
    model(np.ones((2, 3)))
    copied = WAYS[way](model)
    optimizer = mg.optim.SGD(copied.parameters(), lr=0.1)
    before = model.state_dict()
    np.sum(copied(np.ones((2, 3)))).backward()
    optimizer.step()
    assert_close(model.state_dict(), before, 0)
    assert any((a != b).any() for a, b in zip(copied.state_dict().values(), before.values(), strict=True))


def test_copies_are_used_in_threads() -> None:
    model = mg.compile(Model())
    copies = [copy.deepcopy(model) for _ in range(4)]
    for i, copied in enumerate(copies):
        copied.factor = float(i)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda copied: [copied(np.ones(3)).item() for _ in range(20)], copies))
    assert answers == [[6.0 * i] * 20 for i in range(4)]
