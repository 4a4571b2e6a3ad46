"""Programs of complex numbers from textbooks, in NumPy alone: their gradients against differences, and put to use."""

import numpy as np
import phases
import pytest
import wave_lens

import minigrad as mg
from minigrad.testing import check_grads


def test_the_design_of_a_lens() -> None:
    start = 0.3 * np.random.default_rng(0).standard_normal((5, 3))
    check_grads(wave_lens.power, [start], order=1, shrink=False)
    slope, parameters = mg.grad(wave_lens.power), start
    for _ in range(20):
        g = slope(parameters)
        parameters = parameters + g / np.linalg.norm(g)
    assert wave_lens.power(parameters) > 1.2 * wave_lens.power(start)


def test_the_retrieval_of_phases() -> None:
    rng = np.random.default_rng(1)
    truth, noise = rng.standard_normal((2, 8, 8)) + 1j * rng.standard_normal((2, 8, 8))
    masks = rng.choice([1, 1j, -1, -1j], (6, 8, 8))
    measured = phases.intensities(truth, masks)
    check_grads(lambda image: phases.error(image, masks, measured), [truth + noise], order=1, shrink=False)
    image = phases.retrieve(mg.grad, truth + noise / 2, masks, measured)
    assert phases.distance(image, truth) < 1e-6 < phases.distance(truth + noise / 2, truth)


@pytest.mark.parametrize("module", [wave_lens, phases])
def test_autograd_finds_the_same(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    autograd = pytest.importorskip("autograd", reason="HIPS autograd is not installed")
    rng = np.random.default_rng(0)
    if module is wave_lens:
        function, args = wave_lens.power, (rng.standard_normal((5, 3)),)
    else:
        image = rng.standard_normal((8, 8)) + 1j * rng.standard_normal((8, 8))
        function, args = phases.error, (image, rng.choice([1, 1j], (2, 8, 8)), rng.random((2, 8, 8)))
    ours = mg.grad(function)(*args)
    monkeypatch.setattr(module, "np", pytest.importorskip("autograd.numpy"))
    np.testing.assert_allclose(ours, autograd.grad(function)(*args), rtol=1e-9, atol=1e-12)
