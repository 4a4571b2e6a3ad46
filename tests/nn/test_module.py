"""Modules: finding parameters, saving and loading them, modes, and the pictures in words."""

import copy
import os
import pickle
import weakref
import zipfile
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import minigrad as mg
from minigrad import nn
from minigrad.nn.module import in_mode, load_arrays, load_state_dict, named_parameters, save_arrays, state_dict, walk


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


def test_walk_yields_everything_once_the_object_itself_first() -> None:
    shared = [1.5]
    found = list(walk({"a": shared, "b": (shared, "end")}))
    assert [name for name, _ in found] == ["", "a", "a.0", "b", "b.1"]


def test_zero_grad_forgets_all_gradients() -> None:
    model = network()
    np.sum(model(np.ones((4, 2), np.float32))).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


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
    torch.manual_seed(0)  # numbers near zero differ by more than the tolerance
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


# ------------------------------------------------------------------------------------------------------------ modes


def test_modes_reach_every_module() -> None:
    model = nn.Sequential(Residual(), np.tanh)
    model.extra = {"deep": [nn.Dropout()]}
    inner = [model, model[0], model[0].layers[1], model[0].heads["std"], model.extra["deep"][0]]
    assert all(module.training for module in inner)
    assert model.eval() is model
    assert not any(module.training for module in inner)
    assert model.train() is model
    assert all(module.training for module in inner)
    assert not model.train(False).training


@pytest.mark.parametrize("training", [True, False])
def test_in_mode_puts_each_module_back_to_its_own_mode(training: bool) -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Tanh()))
    model[1].eval()
    modules = [item for _, item in walk(model) if isinstance(item, nn.Module)]
    before = [module.training for module in modules]
    assert before == [True, True, False, False, False]
    with in_mode(model, training):
        assert all(module.training is training for module in modules)
    assert [module.training for module in modules] == before
    with pytest.raises(KeyError), in_mode(model, training):
        raise KeyError
    assert [module.training for module in modules] == before


# ------------------------------------------------------------------------------------------------------------ files

AWKWARD_NAMES = st.sampled_from(["file", "allow_pickle", "args", "a.b.0", "a/b", "ä ö", "0", "with space"])
ARRAYS = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_]).flatmap(
    lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(arrays=st.dictionaries(AWKWARD_NAMES, ARRAYS))
def test_arrays_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    save_arrays(path, arrays)
    found = load_arrays(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        assert found[name].tobytes() == array.tobytes()
    with np.load(path, allow_pickle=False) as file:
        assert file.files == list(arrays)


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("name", ["model.npz", "model", "model.weights"])
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, name: str, as_text: bool) -> None:
    model, path = Residual(), tmp_path / name
    model.scale.data = np.array([np.pi, -0.0, 5e-324])
    model.save(str(path) if as_text else path)
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208
    other = Residual()
    other.load(str(path) if as_text else path)
    for key, array in model.state_dict().items():
        assert array.tobytes() == other.state_dict()[key].tobytes()


def test_a_model_may_have_a_tensor_of_any_name(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self, value: float) -> None:
            self.file = mg.Tensor(value, requires_grad=True)

    Odd(3.0).save(tmp_path / "odd.npz")
    model = Odd(0.0)
    model.load(tmp_path / "odd.npz")
    assert model.file.item() == 3


class Unsavable:
    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("bad", "error"),
    [(np.array([object()]), ValueError), (Unsavable(), KeyboardInterrupt)],
    ids=["objects", "interrupt"],
)
def test_a_failing_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, bad: Any, error: type[BaseException]
) -> None:
    path = tmp_path / "model.npz"
    save_arrays(path, {"w": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(error):
        save_arrays(path, {"w": np.arange(1000), "x": bad})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_cannot_take_its_place_leaves_nothing(tmp_path: Path) -> None:
    occupied = tmp_path / "model.npz"
    occupied.mkdir()
    (occupied / "kept").touch()
    with pytest.raises(OSError, match=r"model\.npz"):
        network().save(occupied)
    assert list(tmp_path.iterdir()) == [occupied]
    with pytest.raises(FileNotFoundError):
        network().save(tmp_path / "nowhere" / "model.npz")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        network().load("nowhere.npz")


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def pickled_objects(path: Path, evil: Touch) -> None:
    np.savez(path, weight=np.array([evil], object))


def bare_pickle(path: Path, evil: Touch) -> None:
    path.write_bytes(pickle.dumps(evil))


def single_array(path: Path, evil: Touch) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def text(path: Path, evil: Touch) -> None:
    path.write_text("weights")


def empty(path: Path, evil: Touch) -> None:
    path.touch()


def directory(path: Path, evil: Touch) -> None:
    path.mkdir()


def truncated(path: Path, evil: Touch) -> None:
    network().save(path)
    path.write_bytes(path.read_bytes()[:-30])


def other_archive(path: Path, evil: Touch) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight.npy", b"no array")


def promises_too_much(path: Path, evil: Touch) -> None:
    with zipfile.ZipFile(path, "w") as archive, archive.open("weight.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"shape": (10**15,), "fortran_order": False, "descr": "<f8"})


@pytest.mark.parametrize(
    "write",
    [pickled_objects, bare_pickle, single_array, text, empty, directory, truncated, other_archive, promises_too_much],
)
def test_hostile_files_give_one_clear_error(tmp_path: Path, write: Callable[[Path, Touch], None]) -> None:
    path, trace = tmp_path / "model.npz", tmp_path / "trace"
    write(path, Touch(trace))
    model = network()
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"model\.npz is not a readable \.npz file of plain arrays: "):
        model.load(path)
    assert not trace.exists()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@given(st.data())
def test_damaged_files_are_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / "model.npz"
    arrays = {"w": np.arange(6.0).reshape(2, 3), "b": np.ones(3, np.float32)}
    save_arrays(path, arrays)
    content = path.read_bytes()
    spots = st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255))
    for spot in data.draw(st.lists(spots, min_size=10, max_size=30)):
        damaged = bytearray(content)
        damaged[spot[0]] ^= spot[1]
        path.write_bytes(damaged)
        try:
            found = load_arrays(path)
        except ValueError as error:
            assert "is not a readable .npz file" in str(error)  # noqa: PT017
        else:
            for name in found.keys() & arrays.keys():
                assert found[name].dtype == arrays[name].dtype
                np.testing.assert_array_equal(found[name], arrays[name])


# ------------------------------------------------------------------------------------------------------ copies, calls


def test_a_deep_copy_has_parameters_of_its_own() -> None:
    model = nn.Sequential(network(), nn.Dropout(rng=np.random.default_rng(0)))
    tied = model[0][0]
    model.append(tied)
    model.eval()
    other = copy.deepcopy(model)
    assert type(other) is nn.Sequential
    assert other[2] is other[0][0]
    assert not other.training
    assert not other[1].training
    before = other.state_dict()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert p is not q
        assert q.requires_grad
        assert not np.shares_memory(p.data, q.data)
        np.testing.assert_array_equal(p.data, q.data)
        p.data = p.data + 1
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_pickling_keeps_a_model() -> None:
    model = network()
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model(np.ones((2, 2))).data, other(np.ones((2, 2))).data)


def test_a_module_needs_a_forward() -> None:
    class Forgetful(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Forgetful needs a method forward\(self, \.\.\.\)"):
        Forgetful()(1)


def test_forward_gets_all_arguments() -> None:
    class Between(nn.Module):
        def forward(self, x: Any, y: Any, *, weight: float = 0.5) -> Any:
            return x * weight + y * (1 - weight)

    assert Between()(1.0, 2.0) == 1.5
    assert Between()(1.0, y=2.0, weight=1) == 1


# ------------------------------------------------------------------------------------------------- pictures in words


def test_repr_shows_the_structure() -> None:
    model = nn.Sequential(nn.Flatten(), network(), nn.Dropout(0.25), np.tanh, nn.LeakyReLU(0.2), nn.Softmax(axis=0))
    assert repr(model.eval()) == (
        "Sequential(\n"
        "  (0): Flatten()\n"
        "  (1): Sequential(\n"
        "    (0): Linear(2, 3)\n"
        "    (1): Tanh()\n"
        "    (2): Linear(3, 1)\n"
        "  )\n"
        "  (2): Dropout(p=0.25)\n"
        "  (3): tanh\n"
        "  (4): LeakyReLU(negative_slope=0.2)\n"
        "  (5): Softmax(axis=0)\n"
        ")"
    )
    assert repr(nn.Linear(4, 5, bias=False)) == "Linear(4, 5, bias=False)"
    assert repr(nn.Sequential()) == "Sequential()"


def test_repr_of_a_module_of_ones_own() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            self.rate, self.name, self.first, self.act = 0.5, "small", nn.Linear(1, 2), np.sin

    assert repr(Small()) == "Small(\n  (first): Linear(1, 2)\n  (act): sin\n)"
    assert "(layers): [Linear(3, 3), Linear(3, 3, bias=False)]" in repr(Residual())


def test_summary_is_a_table() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), np.tanh, nn.Linear(100, 10), nn.Softmax())
    assert model.summary((28, 28)) == (
        "layer             output shape  parameters\n"
        "------------------------------------------\n"
        "Flatten()         (n, 784)               0\n"
        "Linear(784, 100)  (n, 100)          78,500\n"
        "tanh              (n, 100)               0\n"
        "Linear(100, 10)   (n, 10)            1,010\n"
        "Softmax(axis=-1)  (n, 10)                0\n"
        "------------------------------------------\n"
        "total                               79,510"
    )


def test_summary_takes_one_length_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    assert model.summary(2) == model.summary((2,))


def test_summary_of_nested_and_shared_layers() -> None:
    tied = nn.Linear(3, 3)
    model = nn.Sequential(tied, nn.Sequential(nn.ReLU(), tied), lambda x: x[..., 0])
    assert rows(model.summary((3,))) == [
        ("Linear(3, 3)", "(n, 3)", "12"),
        ("ReLU()", "(n, 3)", "0"),
        ("Linear(3, 3)", "(n, 3)", "0"),
        ("<lambda>", "(n)", "0"),
        ("total", "", "12"),
    ]


def rows(table: str) -> list[tuple[str, ...]]:
    """The cells of a summary."""
    first, _, *lines = table.splitlines()
    ends = first.index("output shape"), len(first) - len("parameters")
    cells = [
        (line[: ends[0]], line[ends[0] : ends[1]], line[ends[1] :]) for line in lines if not line.startswith("---")
    ]
    return [tuple(cell.strip() for cell in row) for row in cells]


def test_summary_of_a_module_of_ones_own() -> None:
    assert rows(Residual().summary((3,))) == [
        ("Linear(3, 3)", "(n, 3)", "12"),
        ("Linear(3, 3, bias=False)", "(n, 3)", "9"),
        ("Linear(3, 1)", "(n, 1)", "4"),
        ("Residual", "(n, 1)", "7"),  # its scale, and the head that the call has not used
        ("total", "", "32"),
    ]


def test_summary_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(rng=np.random.default_rng(0)), nn.Tanh())
    model[2].eval()
    before = copy.deepcopy(model)
    model.summary((2,))
    assert [module.training for module in (model, *model)] == [True, True, True, False]
    assert all(p.grad is None for p in model.parameters())
    output = model(np.ones((3, 2)))
    np.testing.assert_array_equal(output.data, before(np.ones((3, 2))).data)
    trace = weakref.ref(output)
    del output
    assert trace() is None  # no summary goes on taking notes


def test_summary_uses_the_models_dtype() -> None:
    seen = []

    def spy(x: Any) -> Any:
        seen.append(x.dtype)
        return x

    nn.Sequential(spy, nn.Linear(2, 2, dtype=np.float64)).summary((2,))
    nn.Sequential(spy).summary((2,))
    assert seen == [np.float64, np.float32]


def test_a_failing_summary_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    with pytest.raises(ValueError, match=r"its last axis must be 2 long"):
        model.summary((3,))
    assert all(item.training for _, item in walk(model) if isinstance(item, nn.Module))
    assert len(rows(model.summary((2,)))) == 3
