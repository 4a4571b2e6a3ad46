"""Modules: modes, saving and loading, copies, and the pictures in words."""

import asyncio
import copy
import os
import pickle
import threading
import tracemalloc
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_state import Residual, network

import minigrad as mg
from minigrad import nn
from minigrad.nn.module import in_mode
from minigrad.trees import named


def test_zero_grad_forgets_all_gradients() -> None:
    model = network()
    np.sum(model(np.ones((4, 2), np.float32))).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


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
    modules = [item for _, item in named(model) if isinstance(item, nn.Module)]
    before = [module.training for module in modules]
    assert before == [True, True, False, False, False]
    with in_mode(model, training):
        assert all(module.training is training for module in modules)
    assert [module.training for module in modules] == before
    with pytest.raises(KeyError), in_mode(model, training):
        raise KeyError
    assert [module.training for module in modules] == before


def test_a_mode_is_of_one_thread_and_task() -> None:
    model, alone = nn.Sequential(nn.Dropout(), nn.Tanh()), nn.Dropout()
    seen: list[Any] = []

    async def look(training: bool, first: Any, second: Any) -> None:
        with in_mode(model, training):
            first.set()
            await second.wait()
            seen.append((training, model.training, model[0].training, alone.training))

    async def both() -> None:
        events = asyncio.Event(), asyncio.Event()
        await asyncio.gather(look(True, *events), look(False, *events[::-1]))

    asyncio.run(both())
    assert sorted(seen) == [(False, False, False, False), (True, True, True, True)]
    begun, ended = threading.Event(), threading.Event()

    def predict() -> None:
        with in_mode(model, training=False):
            begun.set()
            ended.wait()

    thread = threading.Thread(target=predict)
    thread.start()
    begun.wait()
    assert model.training
    assert model[0].training
    with in_mode(model, training=False):
        ended.set()
        thread.join()
        assert not model.training
    assert model.training


def test_in_a_block_a_mode_that_is_set_holds_to_its_end() -> None:
    model, alone = nn.Sequential(nn.Dropout()), nn.Dropout()
    with in_mode(model, training=True):
        model.eval()
        assert not model[0].training
        with in_mode(model, training=True):
            assert model[0].training
        assert not model[0].training
        alone.eval()
    assert model[0].training, "of a module in the model, to the end of the block"
    assert not alone.training, "of another module, for good"
    alone.train()
    with in_mode(lambda x: alone(x), training=False):
        assert not alone.training, "a plain function does not show what it uses"
    with in_mode(lambda x: alone(x), training=True):
        assert alone.eval().training is False


@pytest.mark.parametrize("wrong", ["no", 0, 1.0, None, [True]])
def test_a_switch_is_true_or_false(wrong: Any) -> None:
    model = nn.Sequential(nn.Dropout())
    with pytest.raises(TypeError, match=r"got mode=.*; wanted True or False"):
        model.train(wrong)
    with pytest.raises(TypeError, match=r"got training=.*; wanted True or False"):
        model.training = wrong
    made: dict[str, list[Any]] = {
        "bias": [nn.Linear, lambda *n, **k: nn.Conv1d(*n, 2, **k), nn.RNN, nn.GRUCell,
                 lambda *n, **k: nn.MultiheadAttention(2, 2, **k), lambda *n, **k: nn.LayerNorm(2, **k)],
        "batch_first": [nn.LSTM, lambda *n, **k: nn.TransformerBlock(2, 2, **k)],
        "affine": [lambda *n, **k: nn.BatchNorm1d(2, **k), lambda *n, **k: nn.GroupNorm(2, 2, **k)],
        "track_running_stats": [lambda *n, **k: nn.BatchNorm2d(2, **k)],
        "elementwise_affine": [lambda *n, **k: nn.RMSNorm(2, **k)],
        "log_target": [lambda *n, **k: nn.kl_div(np.zeros(2), np.zeros(2), **k)],
    }  # fmt: skip
    for name, makers in made.items():
        for make in makers:
            with pytest.raises(TypeError, match=rf"got {name}=.*; wanted True or False"):
                make(2, 3, **{name: wrong})
    attention, x = nn.MultiheadAttention(2, 2), np.zeros((1, 1, 2), np.float32)
    for name in ("need_weights", "average_attn_weights", "is_causal"):
        with pytest.raises(TypeError, match=rf"got {name}=.*; wanted True or False"):
            attention(x, x, x, **{name: wrong})
    assert model.training
    assert model[0].training
    assert not model.train(np.False_).training


# ------------------------------------------------------------------------------------------------------------ files


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


@pytest.mark.parametrize("name", ["more", "0.weight"])
def test_what_does_not_fit_is_refused_before_it_is_unpacked(name: str, tmp_path: Path) -> None:
    path, model = tmp_path / "model.npz", network()
    before = model.state_dict()
    np.savez_compressed(path, **(before | {name: np.zeros((16, 2**17))}))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"this state does not fit Sequential:\n  (unexpected|misshapen): {name}"):
            model.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


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


def test_a_notebook_shows_the_layers_and_a_table_of_the_parameters() -> None:
    model = nn.Sequential(nn.Linear(784, 10), np.tanh, nn.Linear(10, 1, bias=False))
    html = model._repr_html_()
    assert html.startswith("<pre>Sequential(<br/>")
    assert "<tr><td>0.weight</td><td>(10, 784)</td><td>float32</td><td>7,840</td></tr>" in html
    assert "<td>total</td><td></td><td></td><td>7,860</td>" in html
    assert "<td>0</td>" in nn.Tanh()._repr_html_()


def test_summary_is_a_table() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), np.tanh, nn.Linear(100, 10), nn.Softmax())
    assert model.summary((28, 28)) == (
        "layer             output shape  parameters  multiply-adds\n"
        "---------------------------------------------------------\n"
        "Flatten()         (n, 784)               0              0\n"
        "Linear(784, 100)  (n, 100)          78,500         78,400\n"
        "tanh              (n, 100)               0              0\n"
        "Linear(100, 10)   (n, 10)            1,010          1,000\n"
        "Softmax(axis=-1)  (n, 10)                0              0\n"
        "---------------------------------------------------------\n"
        "total                               79,510         79,400\n"
        "outputs: 4.0 kB"
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
    lines = lines[: next(i for i, line in enumerate(lines) if line.startswith("total")) + 1]
    ends = first.index("output shape"), first.index("  parameters"), first.index("  multiply-adds")
    cells = [(line[: ends[0]], line[ends[0] : ends[1]], line[ends[1] : ends[2]]) for line in lines]
    return [tuple(cell.strip() for cell in row) for row in cells if not row[0].startswith("---")]


def test_summary_of_a_module_of_ones_own() -> None:
    assert rows(Residual().summary((3,))) == [
        ("Linear(3, 3)", "(n, 3)", "12"),
        ("Linear(3, 3, bias=False)", "(n, 3)", "9"),
        ("Linear(3, 1)", "(n, 1)", "4"),
        ("Residual", "(n, 1)", "7"),  # its scale, and the head that the call has not used
        ("total", "", "32"),
    ]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        self.first, self.second = nn.Linear(2, 3, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x: Any, y: Any) -> Any:
        return self.first(x) @ np.swapaxes(self.second(y), -1, -2)


def test_summary_of_several_inputs_counts_products_where_they_are() -> None:
    table = TwoInputs().summary((5, 2), (6, 4)).splitlines()
    assert [line.split()[-1] for line in table if "Linear" in line] == ["30", "72"]
    assert [line.split()[-1] for line in table if line.startswith(("TwoInputs", "total"))] == ["90", "192"]
    assert "(n, 5, 6)" in table[4]
    assert table[-1] == f"outputs: {(15 + 18 + 30) * 4 / 1000:.1f} kB"


def of_ones(*shape: Any) -> mg.Tensor:
    return mg.Tensor(np.ones(*shape))


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (lambda x: x @ of_ones((4, 5)), 3 * 4 * 5),
        (lambda x: np.inner(x, of_ones((5, 4))), 3 * 4 * 5),
        (lambda x: np.dot(x, of_ones((4, 5))), 3 * 4 * 5),
        (lambda x: np.tensordot(x, of_ones((3, 4)), ([1, 2], [0, 1])), 3 * 4),
        (lambda x: np.einsum("nij,ki->nkj", x, of_ones((7, 3))), 3 * 4 * 7),
        (lambda x: np.einsum(x, [0, 1, 2], of_ones((4,)), [2], [0, 1]), 3 * 4),
        (lambda x: np.convolve(x[0, 0], of_ones(3), "valid"), 4 * 3),  # the ends of it are cut off
        (lambda x: np.correlate(x[0, 0], of_ones(3), "full"), 4 * 3),
        (lambda x: x * 2, 0),
    ],
)
def test_summary_counts_the_products_of_all_kinds(layer: Any, count: int) -> None:
    assert nn.Sequential(layer).summary((3, 4)).splitlines()[-2].split()[-1] == str(count)


def test_summary_of_convolutions_frozen_layers_and_integers() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3))
    model[3].weight.requires_grad = False
    table = model.summary((1, 4, 4))
    assert "Conv2d(1, 2, (3, 3), padding='same')  (n, 2, 4, 4)          20            288" in table
    assert "\ntrained: 27, frozen: 96, other state: 5\n" in table
    assert rows(table)[-1][2] == "123"
    integers = nn.Sequential(nn.Embedding(10, 4), nn.GRU(4, 3, batch_first=True)).summary(np.zeros((1, 6), int))
    assert "GRU(4, 3, batch_first=True)  (n, 6, 3)             81            378" in integers


def test_options_that_are_not_the_default_are_shown() -> None:
    assert repr(nn.Conv2d(1, 8, 5)) == "Conv2d(1, 8, (5, 5))"
    assert repr(nn.Conv2d(2, 8, (5, 3), 2, groups=2)) == "Conv2d(2, 8, (5, 3), stride=(2, 2), groups=2)"
    assert repr(nn.LSTM(3, 4, 2)) == "LSTM(3, 4, num_layers=2)"
    assert repr(nn.BatchNorm1d(3, momentum=0.5)) == "BatchNorm1d(3, momentum=0.5)"
    assert repr(nn.Dropout()) == "Dropout(p=0.5)"


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
    assert all(item.training for _, item in named(model) if isinstance(item, nn.Module))
    assert len(rows(model.summary((2,)))) == 3
