import numpy as np
import pytest
from profiles import scale

import minigrad as mg


def test_all_three_ways_get_ten_of_ten(demo, tmp_path, capsys):
    assert demo("ten_points").main(pictures=tmp_path) == 10
    output = capsys.readouterr().out
    assert output.count("10 of 10 right") == 3
    assert "Linear(2, 3)" in output  # the summary
    assert "accuracy 1.0000" in output
    assert (tmp_path / "ten-points.png").stat().st_size > 10_000


@pytest.mark.parametrize("seed", scale([1], [1, 2, 3]))
def test_so_they_do_with_other_seeds(demo, seed, capsys):
    module = demo("ten_points")
    for train in (module.by_neurons, module.by_arrays, module.by_fit):
        model = train(np.random.default_rng(seed))
        assert mg.accuracy(mg.predict(model, module.POINTS), module.LABELS) == 1.0


def test_the_data_are_the_ten_points(demo):
    module = demo("ten_points")
    assert module.POINTS.shape == (10, 2)
    assert module.POINTS.sum(axis=0) == pytest.approx([48.327021465, 24.053928934], abs=1e-9)
    assert module.LABELS.tolist() == [0] * 5 + [1] * 5
