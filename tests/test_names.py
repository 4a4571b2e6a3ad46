"""Names of other libraries say what to write here, and what they say is there."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.engine import vjps
from minigrad.names import KEYWORDS, MODULES, OPTIMIZERS, ROOMS, TENSORS, UFUNCS, Elsewhere, keywords_here

t = mg.Tensor([[1.0, 2.0]], requires_grad=True)
model = nn.Sequential(nn.Linear(2, 1, rng=0))
optimizer = optim.SGD(model.parameters())

ATTRIBUTES = [
    *((t, name, instead) for name, instead in {**UFUNCS, **TENSORS}.items()),
    *((model, name, instead) for name, instead in MODULES.items()),
    *((optimizer, name, instead) for name, instead in OPTIMIZERS.items()),
]


@pytest.mark.parametrize(("thing", "name", "instead"), ATTRIBUTES, ids=lambda x: x if isinstance(x, str) else "")
def test_an_attribute_says_what_to_write(thing: Any, name: str, instead: str) -> None:
    if isinstance(vars(type(thing)).get(name), property) or (hasattr(thing, name) and name not in TENSORS):
        return  # it is there, as an attribute of arrays
    with pytest.raises(AttributeError, match=re.escape(f"{name!r}: write {instead}")):
        getattr(thing, name)
    assert not hasattr(type(thing), name)
    assert name not in dir(thing)


def test_an_attribute_of_arrays_is_one_of_data() -> None:
    with pytest.raises(AttributeError, match=r"write t\.data\.nbytes"):
        t.nbytes  # noqa: B018


def test_what_nobody_has_is_said_as_python_says_it() -> None:
    for thing in (t, model, optimizer):
        with pytest.raises(AttributeError, match="has no attribute 'no_such_thing'"):
            thing.no_such_thing  # noqa: B018


def test_a_model_may_have_what_other_models_have() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.predict = 1

        def fit(self) -> int:
            return 2

    assert (Net().predict, Net().fit()) == (1, 2)
    assert {"predict", "fit"} <= set(dir(Net()))


@pytest.mark.parametrize("room", [mg, nn, nn.init, optim, mg.data, mg.testing, mg.training], ids=lambda x: x.__name__)
def test_a_room_says_what_to_write(room: Any) -> None:
    for name, instead in ROOMS.items():
        with pytest.raises(
            AttributeError, match=re.escape(f"{room.__name__!r} has no attribute {name!r}: write {instead}")
        ):
            getattr(room, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'arctan2': write np\.arctan2\."):
        room.arctan2  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute 'no_such_thing'$"):
        room.no_such_thing  # noqa: B018


SMALL = np.ones((2, 2)), np.ones((2, 1))
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: t.sum(dim=0), "np.sum has no dim=: write axis="),
    (lambda: t.mean(dim=0, keepdim=True), "np.mean has no (dim=: write axis|keepdim=: write keepdims)="),
    (lambda: t.argmax(dim=0), "np.argmax has no dim=: write axis="),
    (lambda: t.max(keepdim=True), "np.max has no keepdim=: write"),
    (lambda: nn.Softmax(dim=1), "Softmax has no dim=: write axis="),
    (lambda: nn.softmax(t, dim=1), "softmax has no dim=: write axis="),
    (lambda: mg.fit(model, nn.mse_loss, optimizer, SMALL, epochs=1, verbose=0), "fit has no verbose=: write progress="),
    (lambda: mg.evaluate(model, nn.mse_loss, SMALL, verbose=0), "evaluate has no verbose=: write progress="),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_a_keyword_says_what_to_write(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_a_function_of_ones_own_may_have_such_keywords() -> None:
    @mg.primitive(lambda g, ans, x, dim: g * dim)
    def scaled(x: Any, dim: int) -> Any:
        return x * dim

    try:
        assert scaled(t, dim=2).shape == (1, 2)
    finally:
        del vjps[scaled.__wrapped__]  # type: ignore[attr-defined]

    class Net(nn.Module):
        def __init__(self, dim: int) -> None:
            self.dim = dim

    class Other(Net):
        def __init__(self, **options: int) -> None:
            super().__init__(**options)

    assert (Net(dim=2).dim, Other(dim=3).dim) == (2, 3)
    assert keywords_here(lambda x, verbose: (x, verbose))(1, verbose=2) == (1, 2)


WORD = re.compile(r"\b(mg|np|t|optimizer)((?:\.\w+)+)")


@pytest.mark.parametrize("table", [TENSORS, MODULES, OPTIMIZERS, ROOMS, KEYWORDS, UFUNCS])
def test_what_is_said_is_there(table: dict[str, str]) -> None:
    start = {"mg": mg, "np": np, "t": t, "optimizer": optimizer}
    for instead in table.values():
        for first, path in WORD.findall(instead):
            thing = start[first]
            for name in path[1:].split("."):
                assert not isinstance(getattr(type(thing), name, None), Elsewhere)
                thing = getattr(thing, name)
