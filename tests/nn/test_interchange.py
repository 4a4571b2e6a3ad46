"""Weights to and from PyTorch, by files of safetensors and by state dicts, for every class of modules."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def between(low: float, high: float, *shape: int) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


LABELS, INDICES = RNG.integers(3, size=5), RNG.integers(7, size=(5, 2))
IMAGES, SEQUENCES, ROWS = normal(5, 4, 6, 6), normal(5, 4, 8), normal(5, 3)
PROBABILITIES, LOGARITHMS = between(0.1, 0.9, 5, 3), np.log(between(0.1, 0.9, 5, 3))
HIDDEN = normal(5, 4), normal(5, 4)

# The class, what it is made of, what it is called with, and what PyTorch's is made of where that is something else.
Row = tuple[str, tuple[Any, ...], tuple[Any, ...], dict[str, Any]]
TABLE: list[Row] = [
    ("Linear", (3, 4), (ROWS,), {}),
    ("Linear", (3, 4, False), (ROWS,), {}),
    ("Conv1d", (4, 6, 3, 2, 1, 1, 2), (SEQUENCES,), {}),
    ("Conv2d", (4, 6, (3, 2), 2, 1), (IMAGES,), {}),
    ("ConvTranspose1d", (4, 6, 3, 2, 1, 1, 2), (SEQUENCES,), {}),
    ("ConvTranspose2d", (4, 6, (3, 2), 2, 1), (IMAGES,), {}),
    ("BatchNorm1d", (4,), (SEQUENCES,), {}),
    ("BatchNorm2d", (4, 1e-3, None), (IMAGES,), {}),
    ("BatchNorm2d", (4, 1e-5, 0.1, False, False), (IMAGES,), {}),
    ("GroupNorm", (2, 4), (IMAGES,), {}),
    ("LayerNorm", ((6, 6),), (IMAGES,), {}),
    ("RMSNorm", (6,), (IMAGES,), {}),
    ("Embedding", (7, 3), (INDICES,), {}),
    ("PReLU", (4,), (IMAGES,), {}),
    *((name, (3, 4, 2), (normal(6, 5, 3),), {}) for name in ("RNN", "GRU", "LSTM")),
    *((f"{name}Cell", (3, 4), (ROWS, HIDDEN[0]), {}) for name in ("RNN", "GRU")),
    ("LSTMCell", (3, 4), (ROWS, HIDDEN), {}),
    ("MultiheadAttention", (4, 2), (normal(6, 5, 4), *[normal(3, 5, 4)] * 2), {}),
    ("TransformerBlock", (4, 2, 8), (normal(5, 6, 4),), {"norm_first": True, "batch_first": True, "dropout": 0.0}),
    ("Residual", (nn.Linear(3, 3),), (ROWS,), {}),
    ("Sequential", (nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), (ROWS,), {}),
    *((name, (), (normal(5, 3),), {}) for name in ("ELU", "SELU", "Hardtanh", "LeakyReLU", "Mish", "ReLU", "Sigmoid")),
    *((name, (), (normal(5, 3),), {}) for name in ("SiLU", "Softplus", "Tanh", "Dropout")),
    ("GELU", (), (normal(5, 3),), {"approximate": "tanh"}),
    ("Softmax", (), (normal(5, 3),), {"dim": -1}),
    ("Flatten", (), (IMAGES,), {}),
    *((f"{name}{axes}d", (2,), (x,), {}) for name in ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool")
      for axes, x in ((1, SEQUENCES), (2, IMAGES))),
    *((name, (), (normal(5, 3), normal(5, 3)), {}) for name in ("MSELoss", "L1Loss", "HuberLoss")),
    ("BCELoss", (), (PROBABILITIES, between(0, 1, 5, 3)), {}),
    ("BCEWithLogitsLoss", (), (normal(5, 3), between(0, 1, 5, 3)), {}),
    *((name, (), (normal(5, 3), LABELS), {}) for name in ("CrossEntropyLoss", "NLLLoss")),
    ("KLDivLoss", (), (LOGARITHMS, PROBABILITIES), {}),
]  # fmt: skip
NAMES = {
    name for name in nn.__all__ if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
}


def test_the_table_has_every_class_of_modules() -> None:
    assert {name for name, *_ in TABLE} == NAMES - {"Module"}


def theirs(torch: Any, name: str, options: tuple[Any, ...], others: dict[str, Any]) -> Any:
    """The module of PyTorch for one of ours."""
    if name == "TransformerBlock":
        return torch.nn.TransformerEncoderLayer(*options, **others)
    if name in ("Residual", "Sequential"):
        parts = [getattr(torch.nn, type(part).__name__)(*weight_shape(part)) for part in options]
        if name == "Sequential":
            return torch.nn.Sequential(*parts)

        class Residual(torch.nn.Module):  # type: ignore[misc, name-defined]  # which PyTorch does not have
            def __init__(self) -> None:
                super().__init__()
                self.layers = torch.nn.Sequential(*parts)

            def forward(self, x: Any) -> Any:
                return x + self.layers(x)

        return Residual()
    return getattr(torch.nn, name)(*options, **others)


def weight_shape(part: Any) -> tuple[int, ...]:
    return part.weight.shape[::-1] if hasattr(part, "weight") else ()


def numbers(outputs: Any) -> Iterator[np.ndarray]:
    """All that a module has returned, whoever's it is."""
    if isinstance(outputs, (tuple, list)):
        for output in outputs:
            yield from numbers(output)
    else:
        outputs = outputs.detach() if hasattr(outputs, "detach") else outputs
        yield np.asarray(outputs)


def assert_equal_outputs(ours: Any, other: Any, torch: Any, inputs: Any) -> None:
    as_tensors = lambda x: tuple(map(as_tensors, x)) if isinstance(x, tuple) else torch.tensor(x)
    pairs = zip(numbers(ours.eval()(*inputs)), numbers(other.eval()(*as_tensors(inputs))), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)


def by_file(torch: Any, path: Path, state: Any) -> Any:
    """Their state as a path to a file that PyTorch's users write."""
    pytest.importorskip("safetensors.torch").save_file(state, path)
    return path


ROUTES: dict[str, Callable[[Any, Path, Any], Any]] = {
    "a file": by_file,
    "a state dict": lambda torch, path, state: state,
    "what requires a gradient": lambda torch, path, state: {
        name: each.requires_grad_() if each.is_floating_point() else each for name, each in state.items()
    },
    "bfloat16": lambda torch, path, state: {
        name: each.bfloat16() if each.is_floating_point() else each for name, each in state.items()
    },
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # of PyTorch's KLDivLoss
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_every_layer_goes_to_pytorch_and_comes_back(row: Row, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    package = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    name, options, inputs, others = row
    layer, other = getattr(nn, name)(*options), theirs(torch, name, options, others)
    for parameter in layer.parameters():
        parameter.data = parameter.data + between(-0.1, 0.1, *parameter.shape)
    layer(*inputs)  # which moves running statistics
    path = tmp_path / "layer.safetensors"
    layer.save(path)
    other.load_state_dict(package.load_file(path), strict=True)
    assert_equal_outputs(layer, other, torch, inputs)
    assert {*layer.state_dict()} == {*other.state_dict()}

    with torch.no_grad():
        for tensor in other.parameters():
            tensor += torch.tensor(between(-0.1, 0.1, *tensor.shape))
        if other.state_dict():
            other.train()(*(tuple(map(torch.tensor, x)) if isinstance(x, tuple) else torch.tensor(x) for x in inputs))
    for route, made in ROUTES.items():
        fresh = getattr(nn, name)(*options)
        state = made(torch, tmp_path / "theirs.safetensors", other.state_dict())
        (fresh.load if isinstance(state, Path) else fresh.load_state_dict)(state)
        if route == "bfloat16":
            other.load_state_dict(state)  # what is lost, is lost on both sides
        assert_equal_outputs(fresh, other, torch, inputs)
        assert all(p.requires_grad for p in fresh.parameters())


def test_a_model_of_many_layers_goes_there_and_comes_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    package = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    both = [
        library.Sequential(
            library.Conv2d(4, 3, 3), library.BatchNorm2d(3), library.ReLU(), library.MaxPool2d(2), library.Dropout(0.5),
            library.Flatten(), library.Linear(12, 2),
        )
        for library in (nn, torch.nn)
    ]  # fmt: skip
    ours, other = both
    ours(IMAGES)
    ours.save(tmp_path / "model.safetensors")
    other.load_state_dict(package.load_file(tmp_path / "model.safetensors"))
    assert_equal_outputs(ours, other, torch, (IMAGES,))
    assert not any("rng" in name for name in ours.state_dict()), "generators are of checkpoints"
    package.save_file(other.state_dict(), tmp_path / "back.safetensors", metadata={"format": "pt"})
    before = ours.state_dict()
    ours.load(tmp_path / "back.safetensors")
    assert all(np.array_equal(array, before[name]) for name, array in ours.state_dict().items())


class Unreadable:
    dtype = "bfloat16"

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("it is far away")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Unreadable(), "no array: weight is of type Unreadable: 'Unreadable' object has no attribute 'astype'"),
        ([[1.0], [1.0, 2.0]], "no array: weight is of type list: setting an array element with a sequence"),
        (object(), r"misshapen: weight is \(\), and \(3, 2\) was wanted"),
    ],
    ids=["foreign", "ragged", "object"],
)
def test_what_is_no_array_is_named(value: Any, message: str) -> None:
    layer = nn.Linear(2, 3)
    before = layer.state_dict()
    with pytest.raises(ValueError, match=rf"this state does not fit Linear:\n  {message}"):
        layer.load_state_dict({"bias": np.ones(3), "weight": value})
    assert all(np.array_equal(array, before[name]) for name, array in layer.state_dict().items())


def test_tensors_that_numpy_cannot_see_are_named() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer, weight = nn.Linear(2, 3), torch.ones(3, 2)
    for value, hint in ((weight.to("meta"), "meta device"), (weight.to_sparse(), "to_dense"), (weight.char(), None)):
        if hint is None:
            layer.load_state_dict({"bias": torch.ones(3), "weight": value})
            assert np.all(layer.weight.data == 1)
        else:
            with pytest.raises(ValueError, match=rf"no array: weight is of type Tensor: .*{hint}"):
                layer.load_state_dict({"bias": torch.ones(3), "weight": value})


def test_a_state_may_hold_our_own_tensors() -> None:
    layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    layer.load_state_dict(dict(other.named_parameters()))
    np.testing.assert_array_equal(layer.weight.data, other.weight.data)
    assert isinstance(layer.weight, mg.Tensor)
    assert layer.weight.requires_grad
    assert not np.shares_memory(layer.weight.data, other.weight.data)


@pytest.mark.parametrize("damage", ["cut", "another shape", "too much", "too little"])
def test_a_wrong_file_changes_nothing_in_the_model(damage: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    path, model = tmp_path / "model.safetensors", nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = model.state_dict()
    made = {
        "another shape": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)),
        "too much": nn.Sequential(*model, nn.PReLU()),
        "too little": nn.Sequential(nn.Linear(2, 3)),
    }
    other = made.get(damage, nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    other.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="not a readable safetensors file" if damage == "cut" else "does not fit"):
        model.load(path)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_a_checkpoint_is_more_than_safetensors_hold() -> None:
    with pytest.raises(
        ValueError, match=r"run.safetensors: a checkpoint keeps more .* such as generators: name a .npz"
    ):
        mg.Checkpoint("run.safetensors")
