"""What is noted of a model while it is trained."""

import math

import numpy as np
import pytest
from examples import HELD_OUT, X, fit, network, sgd

import minigrad as mg
from minigrad import nn
from minigrad.training import Checkpoint, watch


def size(array):
    return math.sqrt(np.mean(np.asarray(array, float) ** 2))


def test_each_epoch_has_the_sizes_of_weights_last_gradients_and_activations():
    model, expected = network(), []

    def by_hand(training):
        h = nn.tanh(model[0](HELD_OUT[0])).data
        expected.append([size(model[0].weight.data), size(model[3].bias.grad), size(h)])

    watched = watch(HELD_OUT[0])
    fit(model, epochs=3, callbacks=[watched, by_hand])
    weights, gradients, activations = (watched.norms[what] for what in ("weight", "gradient", "activation"))
    found = zip(weights["0.weight"], gradients["3.bias"], activations["1 Tanh()"], strict=True)
    np.testing.assert_allclose([*found], expected, rtol=1e-6)
    assert [*weights] == [*gradients] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert [*activations] == ["0 Linear(2, 4)", "1 Tanh()", "2 Centre()", "3 Linear(4, 1)"]


def test_of_what_a_layer_returns_its_output_is_watched():
    class Last(nn.Module):
        def forward(self, outputs):
            return outputs[0][:, -1]

    model, x = nn.Sequential(nn.GRU(2, 3, batch_first=True, rng=0), Last(), nn.Linear(3, 1, rng=0)), np.ones((4, 5, 2))
    watched = watch(x)
    mg.fit(model, nn.mse_loss, mg.optim.SGD(model), (x, np.ones((4, 1))), epochs=1, callbacks=[watched], progress=False)
    expected = size(model[0](x)[0].data)
    assert watched.norms["activation"]["0 GRU(2, 3, batch_first=True)"] == [pytest.approx(expected)]


@pytest.mark.parametrize("compile", [True, "pure"])
def test_watching_changes_nothing_and_programs_are_watched_as_well(compile):
    generators = [np.random.default_rng(0) for _ in range(3)]
    nets = [nn.Sequential(nn.Linear(2, 4, rng=rng), nn.Tanh(), nn.Linear(4, 1, rng=rng)) for rng in generators]
    plain, seen, programmed = nets
    expected, watched, other = fit(plain, epochs=3), watch(X), watch(X)
    assert fit(seen, epochs=3, callbacks=[watched]) == expected
    fit(programmed, epochs=3, callbacks=[other], compile=compile)
    for what, curves in watched.norms.items():
        for name, norms in curves.items():
            np.testing.assert_allclose(other.norms[what][name], norms, rtol=1e-4)


def test_without_samples_there_are_no_activations_and_functions_have_parameters():
    p, watched = {"w": mg.Tensor(np.ones((2, 1), np.float32), requires_grad=True)}, watch()
    fit(lambda x: x @ p["w"], sgd(p), callbacks=[watched])
    assert {what: [*curves] for what, curves in watched.norms.items()} == {
        "weight": ["optimizer.parameters.0"],
        "gradient": ["optimizer.parameters.0"],
    }


def test_gradients_that_vanish_are_seen():
    rng = np.random.default_rng(0)
    parts = [part for _ in range(8) for part in (nn.Linear(2, 2, rng=rng), nn.sigmoid)]
    model, watched = nn.Sequential(*parts, nn.Linear(2, 1, rng=rng)), watch()
    fit(model, epochs=1, callbacks=[watched])
    first, last = watched.norms["gradient"]["0.weight"][0], watched.norms["gradient"]["16.weight"][0]
    assert first < 1e-3 * last


def test_a_checkpoint_keeps_what_was_noted(tmp_path):
    whole = watch(X)
    fit(network(), epochs=4, callbacks=[whole])
    for epochs in (2, 4):
        watched = watch(X)
        fit(network(), epochs=epochs, callbacks=[watched, Checkpoint(tmp_path / "training.npz")])
    assert watched.norms == whole.norms


def test_the_picture_has_a_panel_for_each_kind(tmp_path):
    pytest.importorskip("matplotlib")
    watched = watch(X)
    fit(network(), callbacks=[watched])
    figure = watched.plot(tmp_path / "watch.png")
    assert (tmp_path / "watch.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in figure.axes] == ["Weights", "Gradients of the last step", "Activations"]
    for axes, curves in zip(figure.axes, watched.norms.values(), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("epoch", "root mean square", "log")
        assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == curves


def test_what_is_zero_or_unknown_has_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    watched = watch()
    watched.norms = {"weight": {"w": [0.0, 0.0]}, "gradient": {"w": [math.nan, 0.0]}}
    watched.plot(tmp_path / "watch.svg")
    assert (tmp_path / "watch.svg").exists()


@pytest.mark.parametrize("compile", [False, True])
def test_a_training_leaves_what_is_frozen_where_it_is(compile):
    model = nn.Sequential(nn.Linear(2, 4, rng=0), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1, rng=0))
    for p in model[0].parameters():
        p.requires_grad = False
    before, watched = model.state_dict(), watch()
    fit(model, epochs=2, callbacks=[watched], compile=compile, clip_grad_norm=1.0)
    still = [name for name, p in model.named_parameters() if np.array_equal(p.data, before[name])]
    assert still == ["0.weight", "0.bias"]
    assert [*watched.norms["gradient"]] == ["1.weight", "1.bias", "3.weight", "3.bias"], (
        "of what is frozen there are none"
    )
    for p in model.parameters():
        p.requires_grad = False
    other = mg.Tensor(np.zeros(1, np.float32), requires_grad=True)
    loss = lambda prediction, y: nn.mse_loss(prediction + other, y)
    mg.fit(model, loss, sgd([other]), (X, X[:, :1]), epochs=1, progress=False, compile=compile)
    assert other.data != 0, "a model that is frozen has nothing to move, and others may"
