"""The picture of a history."""

import math
import sys

import pytest
from profiles import some

import minigrad as mg


def test_the_picture_shows_every_number_and_says_what_it_is(tmp_path):
    pytest.importorskip("matplotlib")
    history = mg.History(loss=[3.0, 2.0], val_loss=[4.0, 5.0], accuracy=[0.1, 0.2])
    figure = history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    panels = [{line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in figure.axes]
    assert panels == [{"loss": [3.0, 2.0], "val_loss": [4.0, 5.0]}, {"accuracy": [0.1, 0.2]}]
    assert all(list(line.get_xdata()) == [1, 2] for axes in figure.axes for line in axes.lines)
    words = [(axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert words == [("Loss", "epoch", "loss"), ("Metrics", "epoch", "metrics")]


def test_without_a_path_a_notebook_shows_the_figure():
    pytest.importorskip("matplotlib")
    assert mg.History(loss=[3.0, 2.0]).plot()._repr_png_().startswith(b"\x89PNG")


def test_a_notebook_shows_a_table():
    assert "3 epochs" in mg.History(loss=[3.0, 1.0, 2.0])._repr_html_()
    html = mg.History({"loss": [3.0, 1.0, 2.0], "<b>": [math.nan] * 3})._repr_html_()
    assert "<tr><td>loss</td><td>3</td><td>2</td><td>1</td><td>3</td></tr>" in html
    assert "<td>&lt;b&gt;</td>" in html
    for empty in ({}, {"loss": []}):
        assert "0 epochs" in mg.History(empty)._repr_html_()


@pytest.mark.parametrize(
    "history", some([{}, {"loss": []}, {"loss": [1.0]}, {"accuracy": [1.0]}, {"loss": [math.nan, 1.0]}], 2)
)
def test_every_history_has_a_picture(history, tmp_path):
    pytest.importorskip("matplotlib")
    mg.History(history).plot(str(tmp_path / "curves.svg"))
    assert "<svg" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_without_matplotlib_the_history_says_what_to_install(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"History\.plot draws with matplotlib: pip install matplotlib"):
        mg.History(loss=[1.0]).plot(tmp_path / "curves.png")
