"""Code for arrays of any library: the namespace of a Tensor is NumPy, and DLPack hands on its memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.compiler import TraceError
from minigrad.engine import numbers_of
from minigrad.testing import check_grads

X = np.random.default_rng(0).normal(size=(2, 3, 4))


def leaf() -> mg.Tensor:
    return mg.Tensor(X, requires_grad=True)


# ------------------------------------------------------------------------------------------------------- the namespace


def standardized(x: Any) -> Any:
    """As those write who do not know whose arrays they are given."""
    xp = x.__array_namespace__(api_version="2022.12")
    x = x + xp.zeros(x.shape, device=x.device)
    x = xp.permute_dims(x, (1, 0, 2)) - xp.mean(x, axis=(0, 1))
    return xp.concat([x / xp.sqrt(xp.var(x) + 1.0), xp.expand_dims(xp.sum(xp.pow(x, 2), axis=0), axis=0)])


def test_the_namespace_is_numpy() -> None:
    assert leaf().__array_namespace__() is np
    assert leaf().device == X.device
    np.testing.assert_array_equal(standardized(leaf()).data, standardized(X))
    for given in (X, mg.Tensor(X), leaf()):
        np.testing.assert_allclose(numbers_of(mg.compile(standardized)(given)), standardized(X), rtol=1e-12)
    check_grads(standardized, [X])
    with pytest.raises(ValueError, match="1066"):
        leaf().__array_namespace__(api_version="1066")


@pytest.mark.parametrize(
    "form",
    [
        lambda e, x: e.rearrange(x, "a (b c) d -> (d a) b c", c=3),
        lambda e, x: e.rearrange([x, x[::-1]], "n a b c -> a (b n) c"),
        lambda e, x: e.reduce(x, "a b (c d) -> c a", "mean", d=2),
        *(lambda e, x, how=how: e.reduce(x, "a b c -> b", how) for how in ("sum", "max", "min", "prod")),
        lambda e, x: e.repeat(x, "a b c -> a (b n) c", n=2),
        lambda e, x: e.pack([x, x[:, 0]], "a * c")[0],
        lambda e, x: e.unpack(x, [(2,), ()], "a * c")[0],
    ],
)
def test_einops(form: Callable[[Any, Any], Any]) -> None:
    einops = pytest.importorskip("einops.array_api", reason="einops is not installed")
    answer = form(einops, leaf())
    assert isinstance(answer, mg.Tensor)
    np.testing.assert_array_equal(answer.data, form(einops, X))
    check_grads(lambda x: form(einops, x), [X])


def test_einops_of_truth_values() -> None:
    einops = pytest.importorskip("einops.array_api", reason="einops is not installed")
    for how in ("any", "all"):
        np.testing.assert_array_equal(
            einops.reduce(mg.Tensor(X > 0), "a b c -> a", how), getattr(np, how)(X > 0, (1, 2))
        )
    assert np.shares_memory(einops.asnumpy(leaf().detach()), X)


# --------------------------------------------------------------------------------------------------------------- DLPack


def from_numpy() -> Any:
    return np.from_dlpack


def from_torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed").from_dlpack


takers = pytest.mark.parametrize("taker", [from_numpy, from_torch], ids=["NumPy", "PyTorch"])


@takers
def test_what_requires_a_gradient_is_not_handed_on_in_silence(taker: Callable[[], Any]) -> None:
    for x in (leaf(), leaf() * 2):
        with pytest.raises(
            BufferError, match=r"a DLPack capsule would lose its history in silence: write t.detach\(\)"
        ):
            taker()(x)
        np.testing.assert_array_equal(np.asarray(taker()(x.detach())), x.data)
    with mg.no_grad():
        assert taker()(leaf() * 2).shape == X.shape


@takers
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "i4", "f2", "f4", "c8"])
@pytest.mark.parametrize(
    "layout", [lambda x: x, lambda x: x.T, lambda x: x[::2, 1:], lambda x: x[0, 0, 0], lambda x: x[:0]]
)
def test_numbers_are_handed_on(taker: Callable[[], Any], dtype: str, layout: Callable[[Any], Any]) -> None:
    array = layout((X * 9).astype(np.int8).astype(dtype))
    expected = taker()(np.asarray(array))
    found = taker()(mg.Tensor(array))
    assert type(found) is type(expected)
    assert (found.dtype, tuple(found.shape)) == (expected.dtype, array.shape)
    np.testing.assert_array_equal(np.asarray(found), array)


def test_the_memory_is_shared_and_where_it_is_is_said() -> None:
    x = mg.Tensor(X.copy())
    assert x.__dlpack_device__() == X.__dlpack_device__()
    assert np.shares_memory(np.from_dlpack(x), x.data)
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.from_dlpack(x)[0, 0, 0] = 7.0
    assert x.data[0, 0, 0] == 7
    assert mg.Tensor(torch.ones(2)).dtype == np.float32, "and the other way"


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (np.ones(2, np.dtype(float).newbyteorder()), {}),
        (np.broadcast_to(1.0, (2,)), {}),  # which is read-only
        (np.ones(2), {"dl_device": (2, 0)}),
        (np.ones(2), {"stream": 1}),
    ],
    ids=["byte order", "read-only", "another device", "a stream"],
)
def test_what_dlpack_does_not_allow_is_refused_as_by_numpy(array: Any, options: Any) -> None:
    def refusal(thing: Any) -> tuple[type[Exception], str]:
        with pytest.raises((BufferError, ValueError, TypeError, RuntimeError)) as raised:
            thing.__dlpack__(**options)
        return raised.type, str(raised.value)

    assert refusal(mg.Tensor(array)) == refusal(array)


def test_a_copy_may_be_asked_for() -> None:
    fixed = mg.Tensor(np.broadcast_to(1.0, (2, 3)))
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        found = np.from_dlpack(fixed, copy=True)
        assert found.flags.writeable
        assert not np.shares_memory(found, fixed.data)
        assert not np.from_dlpack(fixed).flags.writeable


def test_a_program_hands_nothing_on() -> None:
    with pytest.raises(TraceError, match="looks at the numbers"):
        mg.compile(lambda x: x * np.from_dlpack(x))(mg.Tensor(X))
    found = mg.compile(lambda x: x * x.__dlpack_device__()[0])(X)
    np.testing.assert_array_equal(found, X)  # the processor is that of stand-ins, too
