"""The tensors of objects of any kind: finding them, copying them, and giving other numbers to them."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.nn.state import load_state_dict, named_parameters, state_dict


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
    lambda part: {"key": part, 3: np.ones(2)},
    lambda part: OrderedDict(first=part),
    lambda part: SimpleNamespace(part=part, function=len, array=np.ones(2)),
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
    assert [a.shape for a in state_dict(obj).values()] == [(2,), (3,)]
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


def test_frozen_tensors_are_state_but_no_parameters() -> None:
    model = Residual()
    assert "offset" in model.state_dict()
    assert "offset" not in dict(model.named_parameters())
    model.scale.requires_grad = False
    assert "scale" in model.state_dict()
    assert "scale" not in dict(model.named_parameters())


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
