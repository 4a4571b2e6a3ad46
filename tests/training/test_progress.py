"""What a training shows: a bar, lines, or nothing."""

import contextlib
import io
import itertools
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from examples import (
    HELD_OUT,
    ROWS,
    X,
    Y,
    failing_after,
    fit,
    mean_error,
    network,
    right,
    sgd,
)
from profiles import scale

import minigrad as mg
from minigrad import nn
from minigrad.training import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(*args: Any, **options: Any) -> tuple[mg.History, str]:
    """The history of a training, and what a terminal showed of it."""
    with contextlib.redirect_stdout(Terminal()) as terminal:
        return fit(*args, **{"progress": True} | options), terminal.getvalue()


def test_a_terminal_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    history, shown = on_a_terminal(network(), epochs=3, metrics=[mean_error], validation=HELD_OUT)
    parts = shown.split("\r")
    first, last = parts[1], parts[-1]
    assert "epoch 1/3:   0%" in first
    assert "0.00/33.0" in first
    assert "epoch 3/3: 100%" in last
    assert "33.0/33.0" in last
    assert "samples/s" in last
    assert f"loss {history['loss'][-1]:.4f}, mean_error {history['mean_error'][-1]:.4f}" in last
    assert last.endswith("\n")
    lines = [part.splitlines()[0] for part in parts if part.lstrip().startswith("epoch") and "samples/s\n" in part]
    for epoch, line in enumerate(lines, 1):
        numbers = "  ".join(f"{name} {values[epoch - 1]:.4f}" for name, values in history.items())
        assert line.startswith(f"epoch {epoch}/3  {numbers}  "), "above the bar, as elsewhere"
    assert len(lines) == 3
    assert capsys.readouterr() == ("", "")


def test_a_stream_has_a_bar_without_an_end_and_the_same_lines():
    pytest.importorskip("tqdm")
    history, shown = on_a_terminal(network(), data=lambda: [(X, Y), (X[:3], Y[:3])])
    assert "28.0 samples [" in shown
    assert "%" not in shown
    assert f"epoch 2/2  loss {history['loss'][-1]:.4f}  " in shown
    assert "  0 samples/s" not in shown


def test_the_bar_shows_the_means_of_the_epoch_so_far(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(progress.time, "perf_counter", itertools.count(1).__next__)  # long steps
    values = iter([1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0])
    metrics = {"score": lambda prediction, y: next(values)}
    _, shown = on_a_terminal(network(), metrics=metrics, validation=HELD_OUT)
    parts = [part for part in shown.split("\r") if ", score " in part]
    scores = [part.split(", score ")[1][:6] for part in parts]
    wanted = [1.0, 1.5, (4 * 1 + 4 * 2 + 3 * 3) / 11, 4.0, 4.5, (4 * 4 + 4 * 5 + 3 * 6) / 11]
    assert list(dict.fromkeys(scores)) == [f"{number:.4f}" for number in wanted]


def test_the_bar_goes_on_where_the_checkpoint_was_and_is_closed_by_an_error(tmp_path):
    pytest.importorskip("tqdm")
    callbacks = [mg.Checkpoint(tmp_path / "checkpoint.npz")]
    fit(network(), callbacks=callbacks)
    with contextlib.redirect_stdout(Terminal()) as terminal, pytest.raises(RuntimeError, match="no more") as error:
        fit(network(), loss=failing_after(1), epochs=4, callbacks=callbacks, progress=True)
    shown = terminal.getvalue()
    assert error.traceback, "which keeps the bar from closing itself when it is freed"
    assert "epoch 3/4:  50%" in shown
    assert "22.0/44.0" in shown
    assert shown.endswith("\n")
    _, shown = on_a_terminal(network(), callbacks=callbacks)
    assert "epoch 2/2: 100%" in shown


@pytest.mark.parametrize("epochs", scale([1, 49, 50, 51, 150], [1, 2, 49, 50, 51, 99, 101, 150, 1000]))
def test_elsewhere_there_are_some_fifty_plain_lines(epochs, capsys):
    model = network()
    history = fit(model, data=(X[:1], Y[:1]), epochs=epochs, metrics=[mean_error], progress=True)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert min(epochs, 25) <= len(lines) <= 51
    assert err == ""
    for line in lines:
        epoch = int(line.removeprefix("epoch").split("/")[0])
        numbers = "  ".join(f"{name} {values[epoch - 1]:.4f}" for name, values in history.items())
        assert line.startswith(f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {numbers}  ")
        assert line.endswith(" samples/s")
    assert f"{epochs}/{epochs}" in lines[-1], "the last epoch is there"


def test_an_early_end_has_its_line(capsys):
    fit(
        network(),
        epochs=500,
        callbacks=[lambda training: setattr(training, "stopped", training.epoch == 13)],
        progress=True,
    )
    assert [line.split("/")[0] for line in capsys.readouterr().out.splitlines()] == ["epoch  10", "epoch  13"]


def test_the_rate_is_samples_by_seconds(monkeypatch, capsys):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(progress, "time", clock)

    steps = itertools.count()

    def slow(prediction: Any, y: Any) -> Any:
        clock.now += 0.001 if next(steps) < 75 * ROWS else 0.002
        return nn.mse_loss(prediction, y)

    fit(network(), loss=slow, batch_size=1, epochs=150, progress=True)
    rates = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert rates == ["1,000 samples/s"] * 25 + ["500 samples/s"] * 25


def test_lines_where_tqdm_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    _, shown = on_a_terminal(network())
    assert [line[:9] for line in shown.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_lines_where_the_terminal_has_no_width(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(Terminal, "fileno", lambda self: 1)
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((0, 0)))
    _, shown = on_a_terminal(network())
    assert [line[:9] for line in shown.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_no_progress_no_output(capsys):
    _, shown = on_a_terminal(network(), validation=HELD_OUT, progress=False)
    assert shown == ""
    fit(network(), validation=HELD_OUT)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("epochs", [3, 5])
def test_what_a_checkpoint_finds_is_said(epochs, tmp_path, capsys):
    path = tmp_path / "checkpoint.npz"
    callbacks = [mg.Checkpoint(path)]
    fit(network(), epochs=3, callbacks=callbacks, progress=True)
    assert "checkpoint" not in capsys.readouterr().out, "there was none"
    model = network()
    fit(model, sgd(model, lr=0.05), epochs=epochs, callbacks=callbacks, progress=True)
    said = ["the learning rate is 0.05, and was 0.1 in the checkpoint"]
    done = {
        3: "the training ended after epoch 3 of 3: nothing is left to do",
        5: "the training goes on after epoch 3 of 5",
    }
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [*said, f"{path}: {done[epochs]}"]
    assert len(lines) == epochs - 1
    fit(network(), epochs=epochs, callbacks=callbacks)
    assert capsys.readouterr().out == "", "but where nothing is to be shown"


def test_it_is_said_above_the_bar(tmp_path):
    pytest.importorskip("tqdm")
    callbacks = [mg.Checkpoint(tmp_path / "checkpoint.npz")]
    fit(network(), callbacks=callbacks)
    _, shown = on_a_terminal(network(), callbacks=callbacks)
    assert "the training ended after epoch 2 of 2: nothing is left to do\n" in shown


class OnlyWrites:
    """An output of a notebook, a logger or a graphical program."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


@pytest.mark.parametrize("output", [None, OnlyWrites()], ids=["none", "only writes"])
def test_an_output_of_any_kind_will_do(output, monkeypatch):
    monkeypatch.setattr(sys, "stdout", output)
    history = fit(network(), progress=True)
    monkeypatch.undo()
    assert len(history["loss"]) == 2
    if output is not None:
        assert [line[:9] for line in output.text.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_on_80_columns_the_validation_is_seen(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(Terminal, "fileno", lambda self: 1)
    monkeypatch.setattr(os, "get_terminal_size", lambda *number: os.terminal_size((80, 24)))
    monkeypatch.setenv("COLUMNS", "80")
    metrics = {"accuracy": right, "mean_error": mean_error}
    history, shown = on_a_terminal(network(), metrics=metrics, validation=HELD_OUT)
    for epoch in range(2):
        assert f"val_loss {history['val_loss'][epoch]:.4f}  val_accuracy {history['val_accuracy'][epoch]:.4f}" in shown
