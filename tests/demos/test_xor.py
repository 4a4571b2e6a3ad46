import subprocess
import sys
from pathlib import Path

import pytest
from profiles import scale, some, thorough_only

XOR = Path(__file__).parents[2] / "demos" / "xor.py"


def run(*options, cwd):
    command = [sys.executable, "-W", "error", XOR, *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def predictions(output):
    """What follows "predicted" in the first four lines."""
    return [float(line.split()[-1]) for line in output.splitlines()[:4]]


@pytest.mark.parametrize(("loss", "limit", "epochs"), some([("mse", 3e-4, "1,000"), ("log", 0.05, "1,500")], 2))
def test_learns_exclusive_or_as_well_as_the_tutorials(demo, tmp_path, capsys, loss, limit, epochs):
    final = demo("xor").main(loss=loss, pictures=tmp_path / "new" / "folder")
    assert 0 < final <= limit
    output = capsys.readouterr().out
    assert predictions(output) == pytest.approx([0, 1, 1, 0], abs=0.05)
    assert f"after {epochs} epochs: {final:.2g}\n" in output
    assert (tmp_path / "new" / "folder" / f"xor-{loss}.png").stat().st_size > 10_000


@thorough_only
@pytest.mark.parametrize("seed", range(1, scale(2, 4)))
def test_the_default_seed_is_not_a_lucky_one(demo, tmp_path, capsys, seed):
    assert demo("xor").main(loss="log", seed=seed, pictures=tmp_path) <= 0.05
    assert demo("xor").main(loss="mse", seed=seed, pictures=tmp_path) <= 5e-4


def test_the_seed_decides_the_result(demo, tmp_path, capsys, no_matplotlib):
    first, again, other = (demo("xor").main(epochs=20, seed=seed, pictures=tmp_path) for seed in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize("options", [["--compile"], ["--compile", "pure"]])
def test_the_command_line_compiles(start, tmp_path, no_matplotlib, options):
    code, _, err = start("xor", *options, "--epochs", "3", "--pictures", tmp_path)
    assert (code, err) == (0, "")


@pytest.mark.parametrize(("loss", "compile"), scale([("log", "pure")], [("mse", True), ("log", "pure")]))
def test_a_program_trains_it_as_well(demo, tmp_path, capsys, no_matplotlib, loss, compile):
    main = demo("xor").main
    expected = main(loss=loss, epochs=50, pictures=tmp_path)
    assert main(loss=loss, epochs=50, pictures=tmp_path, compile=compile) == pytest.approx(expected, rel=1e-5)


def test_no_epochs_leave_nothing_to_show(demo, tmp_path):
    with pytest.raises(SystemExit, match="nothing to show"):
        demo("xor").main(epochs=0, pictures=tmp_path)


def test_runs_from_the_command_line_in_any_folder(tmp_path):
    done = run("--loss", "log", "--epochs", "30", "--seed", "3", "--pictures", "here", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "after 30 epochs" in done.stdout
    assert (tmp_path / "here" / "xor-log.png").exists()


def test_help_names_the_options_and_their_defaults(start):
    code, text, _ = start("xor", "--help")
    assert code == 0
    assert all(
        option in text for option in ["--loss {mse,log}", "--epochs", "--seed", "--pictures", "--compile [{pure}]"]
    )
    assert "default: mse" in text
    assert "default: 0" in text
    code, _, err = start("xor", "--loss", "hinge")
    assert code == 2
    assert "hinge" in err


def test_without_matplotlib_it_says_how_to_get_the_picture(demo, tmp_path, capsys, no_matplotlib):
    demo("xor").main(epochs=2, pictures=tmp_path)
    assert "pip install matplotlib" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
