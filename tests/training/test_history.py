"""The picture of a history."""

import math
import sys
from typing import Any

import pytest

import minigrad as mg


def test_the_picture_shows_every_number(tmp_path, monkeypatch):
    figures = pytest.importorskip("matplotlib.figure")
    shown: list[Any] = []
    save = figures.Figure.savefig
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, *a, **k: (shown.append(self), save(self, *a, **k)))
    history = mg.History(loss=[3.0, 2.0], val_loss=[4.0, 5.0], accuracy=[0.1, 0.2])
    history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    panels = [{line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in shown[0].axes]
    assert panels == [{"loss": [3.0, 2.0], "val_loss": [4.0, 5.0]}, {"accuracy": [0.1, 0.2]}]
    assert all(list(line.get_xdata()) == [1, 2] for axes in shown[0].axes for line in axes.lines)


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"loss": [1.0]}, {"accuracy": [1.0]}, {"loss": [math.nan, 1.0]}])
def test_every_history_has_a_picture(history, tmp_path):
    pytest.importorskip("matplotlib")
    mg.History(history).plot(str(tmp_path / "curves.svg"))
    assert "<svg" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_without_matplotlib_the_history_says_what_to_install(tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"History\.plot draws with matplotlib: pip install matplotlib"):
        mg.History(loss=[1.0]).plot(tmp_path / "curves.png")
