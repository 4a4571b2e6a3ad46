import numpy as np
import pytest

import minigrad as mg


def test_finds_the_wave_behind_the_noise(demo, tmp_path, capsys):
    assert demo("custom_model").main(pictures=tmp_path) < 0.08
    assert "80% band" in capsys.readouterr().out
    assert (tmp_path / "custom-model.png").stat().st_size > 10_000


def test_is_the_training_that_does_it(demo, tmp_path, capsys, no_matplotlib):
    module = demo("custom_model")
    assert module.main(epochs=0, pictures=tmp_path) > 0.5
    assert module.main(epochs=6, seed=1, pictures=tmp_path) == module.main(epochs=6, seed=1, pictures=tmp_path)


def test_the_loss_is_least_at_the_quantiles(demo):
    loss = demo("custom_model").loss
    y = np.arange(0.5, 100)[:, None]
    best = loss(np.full((100, 3), [10, 50, 90.0]), y)
    for i in range(3):
        for shift in (-3, 3):
            moved = np.full((100, 3), [10, 50, 90.0])
            moved[:, i] += shift
            assert loss(moved, y) > best


def test_the_activation_has_a_gradient_for_its_beta(demo):
    swish = demo("custom_model").swish
    x, beta, h = np.array([-2.0, 0.3, 1.5]), np.array([0.5, 1.0, 2.0]), 1e-6
    got = mg.grad(lambda b: np.sum(swish(x, b)))(beta)
    assert got == pytest.approx((swish(x, beta + h) - swish(x, beta - h)) / (2 * h), rel=1e-6)
