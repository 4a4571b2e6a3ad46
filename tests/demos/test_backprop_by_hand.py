import re
import sys

import numpy as np
import pytest

KNOWN = {  # to five decimals, worked out independently of the demo
    "h1 h2": (0.78381, 0.87804),
    "o1 o2": (0.75375, 0.83904),
    "E": (0.21555,),
    "new_w1 new_w2 new_w3 new_w4": (0.08707, 0.18814, 0.29014, 0.39096),
    "new_w5 new_w6 new_w7 new_w8": (0.45245, 0.54673, 0.70323, 0.80361),
}


@pytest.mark.parametrize("way", ["by_hand", "by_the_graph"])
def test_both_ways_give_the_known_numbers(demo, way):
    numbers = getattr(demo("backprop_by_hand"), way)(rate=0.5)
    for names, values in KNOWN.items():
        assert tuple(round(numbers[name], 5) for name in names.split()) == values


def test_hand_and_graph_agree_on_every_number(demo, tmp_path, capsys):
    module = demo("backprop_by_hand")
    assert module.main(pictures=tmp_path / "new") <= 1e-15
    assert module.by_hand(0.5).keys() == module.by_the_graph(0.5).keys()
    output = capsys.readouterr().out
    assert "47 numbers" in output
    assert "0.2085" in output
    rows = [line for line in output.splitlines() if line.startswith("  ")]
    assert len(rows) == 47
    assert len({len(row) for row in rows}) == 1  # the columns are aligned
    for row in rows:
        by_hand, by_the_graph = row.split()[-2:]
        assert by_hand == by_the_graph


def test_the_derivatives_are_those_of_central_differences(demo):
    """A third way, for the weights: move each a little and look at E."""
    module = demo("backprop_by_hand")
    derivatives = module.by_hand(0.5)
    for name, array, index in [
        ("dE_dw2", module.W_HIDDEN, (0, 1)),
        ("dE_dw3", module.W_HIDDEN, (1, 0)),
        ("dE_db2", module.B_HIDDEN, (1,)),
        ("dE_dw6", module.W_OUTPUT, (0, 1)),
        ("dE_db3", module.B_OUTPUT, (0,)),
    ]:
        costs = []
        for step in (1e-5, -2e-5):
            array[index] += step
            costs.append(module.by_hand(0.5)["E"])
        array[index] += 1e-5
        assert (costs[0] - costs[1]) / 2e-5 == pytest.approx(derivatives[name], rel=1e-6)


def test_the_step_follows_the_rate_and_lowers_the_cost(demo, tmp_path, capsys):
    module = demo("backprop_by_hand")
    assert module.main(rate=0.0, pictures=tmp_path) <= 1e-15
    still, moved = module.by_hand(0.0), module.by_hand(0.5)
    assert [still[f"new_w{i}"] for i in range(1, 9)] == pytest.approx(np.arange(1, 9) / 10)
    module.W_HIDDEN[:] = np.reshape([moved[f"new_w{i}"] for i in (1, 2, 3, 4)], (2, 2))
    module.W_OUTPUT[:] = np.reshape([moved[f"new_w{i}"] for i in (5, 6, 7, 8)], (2, 2))
    assert module.by_hand(0.5)["E"] < moved["E"]


def test_the_picture_shows_all_numbers(demo, tmp_path, capsys):
    module = demo("backprop_by_hand")
    graph = module.draw(0.5)
    shown = {number for box in graph.boxes for _, text in box.lines for number in re.findall(r"-?\d+\.\d*", text)}
    shown = {round(float(number), 4) for number in shown}
    numbers = module.by_hand(0.5)
    assert len(numbers) == 47
    assert [name for name, number in numbers.items() if round(number, 4) not in shown] == []
    pytest.importorskip("pygraphviz")
    module.main(pictures=tmp_path)
    assert "0.2156" in (tmp_path / "backprop-by-hand.svg").read_text(encoding="utf-8")
    assert "picture: " in capsys.readouterr().out


def test_without_a_layout_it_says_how_to_get_the_picture(demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", "")
    demo("backprop_by_hand").main(pictures=tmp_path)
    assert 'no picture: pictures are laid out by Graphviz: pip install "minigrad[draw]"' in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
