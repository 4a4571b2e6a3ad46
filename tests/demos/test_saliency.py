import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from profiles import thorough_only

import minigrad as mg
from minigrad import nn

SALIENCY = Path(__file__).parents[2] / "demos" / "saliency.py"


@pytest.fixture(scope="module")
def digits():
    return mg.data.load_mnist(SALIENCY.parent / "data" / "mnist_5k.npz")


@thorough_only
def test_a_small_nudge_changes_every_verdict_and_noise_changes_hardly_any(demo, tmp_path, capsys):
    size = demo("saliency").main(epochs=2, pictures=tmp_path / "new")
    assert 0.03 < size < 0.15
    nudge, noise, picture = capsys.readouterr().out.splitlines()
    assert nudge == f"a nudge by {size:.0%} of the image's length changes 100% of 200 right verdicts"
    assert int(noise.split()[-3].rstrip("%")) <= 3
    pytest.importorskip("matplotlib")
    assert picture.startswith("picture: ")
    assert (tmp_path / "new" / "saliency.png").stat().st_size > 20_000


def test_less_of_the_nudge_changes_nothing_and_pixels_stay_pixels(demo, digits):
    module = demo("saliency")
    model, images = module.trained(digits[0], 2, 0), digits[1][0][:50]
    nudges = module.smallest_nudge(model, images)
    read, part, whole = (mg.predict(model, images + x * nudges).argmax(axis=1) for x in (0, 0.9, 1))
    assert np.all(whole != read)
    assert np.mean(part == read) > 0.9
    assert np.all((images + nudges >= 0) & (images + nudges <= 1))


def test_of_a_linear_model_the_nudge_is_the_distance_to_the_nearest_boundary(demo):
    module, rng = demo("saliency"), np.random.default_rng(0)
    weight = rng.normal(size=(10, 784)).astype(np.float32)
    images = np.full((3, 784), 0.5, np.float32) + rng.normal(0, 0.01, (3, 784)).astype(np.float32)
    nudges = module.smallest_nudge(lambda x: x @ weight.T, images)
    for image, nudge in zip(images, nudges, strict=True):
        scores = weight @ image
        others = np.arange(10) != scores.argmax()
        lengths = np.linalg.norm(weight - weight[scores.argmax()], axis=1)
        wanted = np.min((scores.max() - scores)[others] / lengths[others])
        assert wanted < np.linalg.norm(nudge) < 1.03 * wanted + 1e-3


def test_evidence_is_the_pixel_times_the_slope(demo):
    module, rng = demo("saliency"), np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(784, 10, rng=rng, dtype=np.float64), nn.tanh)
    images = rng.uniform(size=(2, 784))
    found, read = module.evidence(model, images), mg.predict(model, images).argmax(axis=1)

    def lead(pixel, change):
        moved = images.copy()
        moved[:, pixel] += change
        scores = mg.predict(model, moved)
        return scores[[0, 1], read] - scores.mean(axis=1)

    for pixel in (3, 400):
        slopes = (lead(pixel, 1e-5) - lead(pixel, -1e-5)) / 2e-5
        np.testing.assert_allclose(found[:, pixel], images[:, pixel] * slopes, rtol=1e-5)


@thorough_only
def test_runs_from_the_command_line_in_any_folder(tmp_path):
    command = [sys.executable, "-W", "error", SALIENCY, "--epochs", "1", "--seed", "3", "--pictures", "here"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "right verdicts" in done.stdout


def test_without_matplotlib_it_says_how_to_get_the_picture(demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    demo("saliency").main(epochs=1, pictures=tmp_path)
    assert "pip install matplotlib" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
