"""Every public function of NumPy is differentiable, a constant, or refused with a reason; none is forgotten."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.engine import composites, constants, refusals, vjps

SPACES = {"np": np, "np.linalg": np.linalg, "np.fft": np.fft}

# These take no array of numbers, or NumPy does not hand them over: they make arrays and settings, and read files.
STRANGERS = """
    arange array asanyarray asarray asarray_chkfinite ascontiguousarray asfortranarray asmatrix bartlett base_repr
    binary_repr blackman bmat broadcast_shapes datetime_data diag_indices empty eye fftfreq format_float_positional
    format_float_scientific from_dlpack frombuffer fromfile fromfunction fromiter frompyfunc fromregex fromstring full
    genfromtxt get_include get_printoptions getbufsize geterr geterrcall hamming hanning identity indices info isdtype
    isfortran isscalar issubdtype iterable kaiser load loadtxt mask_indices mintypecode nested_iters ones
    printoptions promote_types require rfftfreq row_stack set_printoptions setbufsize seterr seterrcall show_config
    show_runtime test tri tril_indices triu_indices typename zeros
"""
TAKE_TENSORS = ["array", "asanyarray", "asarray", "asarray_chkfinite", "ascontiguousarray", "asfortranarray", "require"]


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """All public callables that are no classes, by name."""
    for space, module in SPACES.items():
        for name in dir(module):
            value = getattr(module, name) if not name.startswith("_") else None
            if callable(value) and not isinstance(value, type):
                yield f"{space}.{name}", value


def kind(name: str, function: Callable[..., Any]) -> str:
    tables = {"differentiable": {*vjps, *composites}, "constant": constants, "refused": refusals}
    kinds = [kind for kind, table in tables.items() if function in table]
    own = name.rpartition(".")[2]
    if own in STRANGERS.split():
        kinds.append("stranger")
    assert len(kinds) <= 1, f"{name} is sorted twice: {kinds}"
    return kinds[0] if kinds else "nowhere"


@pytest.mark.filterwarnings("ignore:::numpy")
def test_every_public_function_is_sorted() -> None:
    kinds = {name: kind(name, function) for name, function in functions()}
    print({each: list(kinds.values()).count(each) for each in sorted(set(kinds.values()))})
    forgotten = [name for name, found in kinds.items() if found == "nowhere"]
    assert not forgotten, "write a rule or a composite, or sort them into minigrad/tables/constants.py with a reason"


def test_no_function_has_two_answers() -> None:
    assert not constants & {*vjps, *composites}
    assert not set(refusals) & {*vjps, *composites, *constants}


@pytest.mark.parametrize("reason", sorted(set(refusals.values())))
def test_reasons_read_as_the_end_of_a_sentence(reason: str) -> None:
    assert reason[0].islower()
    assert not reason.endswith(".")


@pytest.mark.parametrize("name", TAKE_TENSORS)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_no_stranger_makes_an_array_of_a_tracked_tensor(name: str) -> None:
    with pytest.raises(TypeError, match="would lose its history"):
        getattr(np, name)(mg.Tensor([1.0, 2.0], requires_grad=True))
