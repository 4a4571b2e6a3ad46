"""demos/playground.py: its networks learn, its reader reads, and its server answers nobody but its page."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import scale

import minigrad as mg
from minigrad import nn

DEMOS = Path(__file__).parents[2] / "demos"
SCRIPT = DEMOS / "playground.py"
PAGE = (DEMOS / "playground.html").read_text(encoding="utf-8")
FIRST = {"data": "circles", "noise": "little", "layers": [6, 4], "activation": "tanh", "optimizer": "Adam", "seed": 0}


@pytest.fixture(scope="module")
def digits():
    return mg.data.load_mnist(DEMOS / "data" / "mnist_5k.npz")


@pytest.fixture(scope="module")
def few_digits(digits):
    (x, y), (x_test, y_test) = digits
    return (x[:200], y[:200]), (x_test[:50], y_test[:50])


@pytest.fixture(scope="module")
def server(running, few_digits):
    with running(few_digits) as server:
        until(lambda: server.reader.model is not None)
        yield server


def until(condition):
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def ask(server, path, question=None, **headers):
    """The status and the JSON of an answer; without a question, to a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        body = question if question is None or isinstance(question, bytes) else json.dumps(question)
        headers = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def said(server, *lines, body=b""):
    """What comes back for the lines of a request, as they are."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            return file.read().decode()


def network(playground, **changes):
    return playground.Network(**{**FIRST, **changes}, base=0)


def shades_of(text, side):
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, side, side)


# ---------------------------------------------------------------------------------------------- a network that learns


@pytest.mark.parametrize("name", ["circles", "xor", "spiral", "moons"])
def test_points_are_of_two_classes_and_in_sight(playground, name):
    x, label = playground.DATA[name](1000, 0.0, np.random.default_rng(0))
    assert x.shape == (2, 1000)
    assert np.abs(x).max() < playground.REACH
    assert np.bincount(label).min() > 400


LEARNS = [("circles", [6, 4], 400), ("xor", [8], 800), ("moons", [8], 400), ("spiral", [8, 8, 8], 3000)]


@pytest.mark.parametrize(("name", "layers", "steps"), LEARNS)
def test_every_kind_of_points_is_learned(playground, name, layers, steps):
    learner = network(playground, data=name, layers=layers, noise="none")
    before = learner.picture()
    learner.train(steps, 0.01)
    after = learner.picture()
    assert after["testRight"] > 0.93 > before["testRight"]
    assert after["loss"] < before["loss"] / 2
    assert after["updates"] == steps


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "RMSprop", "SGD", "SGD with momentum"])
@pytest.mark.parametrize(
    "activation", scale(["leaky relu"], ["tanh", "sigmoid", "relu", "leaky relu", "gelu", "softplus"])
)
def test_every_choice_trains(playground, activation, optimizer):
    learner = network(playground, activation=activation, optimizer=optimizer)
    first = learner.picture()["loss"]
    learner.train(60, 0.03)
    assert learner.picture()["loss"] < first


def test_the_choices_of_activations_are_all_of_nn_without_options(playground):
    learners = [network(playground, activation=name) for name in playground.ACTIVATIONS]
    x = learners[0].train_x
    answers = [np.round(learner.answers(x)[0].data, 6).tobytes() for learner in learners]
    assert len(set(answers)) == len(playground.ACTIVATIONS)  # which says that no name stands for another


@pytest.mark.parametrize("layers", [[], [1], [8, 8, 8, 8]])
def test_the_gradients_shown_are_those_of_the_loss_on_all_points(playground, layers):
    learner = network(playground, layers=layers)
    learner.train(3, 0.03)
    picture = learner.picture()
    parts = [part for linear in learner.linears for part in (linear, nn.tanh)][:-1]
    model = nn.Sequential(*parts)
    model.zero_grad()
    loss = nn.log_loss_with_logits(model(learner.train_x), learner.train_y)
    loss.backward()
    assert picture["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for k, linear in enumerate(learner.linears):
        for name, array in {
            "weights": linear.weight.data,
            "biases": linear.bias.data,
            "weightGradients": linear.weight.grad,
            "biasGradients": linear.bias.grad,
        }.items():
            np.testing.assert_allclose(np.array(picture[name][k]), array, rtol=1e-4, atol=1e-6)


def test_the_surfaces_are_those_of_the_units(playground):
    learner = network(playground, layers=[5, 3])
    side, reach = playground.SIDE, playground.REACH
    inputs, first, second, output = (shades_of(text, side) for text in learner.picture()["surfaces"])
    assert [len(layer) for layer in (inputs, first, second, output)] == [2, 5, 3, 1]
    assert (np.diff(inputs[0].astype(int), axis=1) > 0).all()  # the first to the right, the second upwards
    assert (np.diff(inputs[1].astype(int), axis=0) < 0).all()
    one, two, three = learner.linears
    upper_right = np.array([[reach, reach]], np.float32)
    hidden = np.tanh(np.tanh(upper_right @ one.weight.data.T + one.bias.data) @ two.weight.data.T + two.bias.data)
    assert (np.sign(hidden[0]) == np.sign(second[:, 0, -1] - 128.0)).all()
    right = nn.sigmoid(hidden @ three.weight.data.T + three.bias.data)
    assert output[0, 0, -1] == pytest.approx(128 + 127 * (2 * right.item() - 1), abs=1)
    for unit in [*first, *second]:
        assert np.abs(unit.astype(int) - 128).max() == 127


def test_a_whole_step_is_one_program_and_stays_it(playground):
    learner = network(playground)
    for rate in (0.001, 0.1, 3.0):
        learner.train(5, rate)
        learner.picture()
    assert [program.traces for program in (learner.step, learner.loss, learner.answers)] == [1, 1, 2]  # grid, held out
    with mg.debug():  # which looks whether the programs are pure
        learner.train(2, 0.01)
        learner.picture()


def test_the_learning_rate_is_that_of_each_request(playground):
    learners = [network(playground, optimizer="SGD") for _ in range(3)]
    start = learners[0].linears[0].weight.data.copy()
    for learner, rate in zip(learners, (0.001, 0.1, 0.1), strict=True):
        learner.train(1, rate)
    small, large, _ = (learner.linears[0].weight.data - start for learner in learners)
    np.testing.assert_allclose(100 * small, large, rtol=1e-2, atol=1e-5)
    learners[1].train(3, 0.0)
    np.testing.assert_array_equal(learners[1].linears[0].weight.data, learners[2].linears[0].weight.data)


def test_the_seed_decides_the_weights_and_not_the_points(playground):
    one, again, other = (network(playground, seed=seed) for seed in (1, 1, 2))
    for learner in (one, again, other):
        learner.train(5, 0.01)
    assert one.picture() == again.picture()
    assert one.picture()["weights"] != other.picture()["weights"]
    assert one.points() == other.points()


def test_a_network_that_diverges_says_so_and_nothing_warns(playground):
    learner = network(playground, activation="relu", optimizer="SGD")
    for linear in learner.linears:
        linear.weight.data = np.full(linear.weight.shape, 1e30, np.float32)
    learner.train(2, 3.0)
    picture = learner.picture()
    assert picture["loss"] is None
    assert (shades_of(picture["surfaces"][-1], playground.SIDE) == 128).all()
    json.dumps(picture, allow_nan=False)


# ------------------------------------------------------------------------------------------------ a network that reads


def arc(x, y, width, height, start, end):
    angles = np.linspace(start, end, 25) * np.pi
    return np.clip([x + width * np.cos(angles), y + height * np.sin(angles)], 0, 1).T.tolist()


DRAWINGS = {
    0: [arc(0.5, 0.5, 0.25, 0.38, 0, 2)],
    1: [[[0.5, 0.1], [0.5, 0.9]]],
    2: [[*arc(0.5, 0.3, 0.25, 0.2, -1, 0.2), [0.2, 0.9], [0.8, 0.9]]],
    3: [arc(0.45, 0.3, 0.25, 0.2, -0.8, 0.5) + arc(0.45, 0.7, 0.28, 0.2, -0.5, 0.8)],
    4: [[[0.3, 0.1], [0.2, 0.5], [0.8, 0.5]], [[0.65, 0.1], [0.65, 0.9]]],
    5: [[[0.75, 0.1], [0.3, 0.1], [0.28, 0.45], *arc(0.45, 0.65, 0.3, 0.22, -0.6, 0.8)]],
    6: [[[0.6, 0.1], [0.3, 0.5]], arc(0.5, 0.7, 0.22, 0.2, 1.1, 3.2)],
    7: [[[0.2, 0.15], [0.8, 0.15], [0.4, 0.9]]],
    8: [arc(0.5, 0.3, 0.2, 0.2, 0, 2), arc(0.5, 0.7, 0.25, 0.2, 0, 2)],
    9: [arc(0.5, 0.3, 0.22, 0.2, 0, 2), [[0.72, 0.3], [0.65, 0.9]]],
}


def centre(image):
    return [np.sum(image * place) / image.sum() for place in np.indices(image.shape)]


def longer_side(image):
    return max(np.ptp(np.flatnonzero((image > 0).any(axis=axis))) + 1 for axis in (0, 1))


@pytest.mark.parametrize("digit", DRAWINGS)
def test_a_drawing_is_scaled_and_centred_as_mnist_is(playground, digits, digit):
    (images, labels), _ = digits
    image = playground.as_in_mnist(DRAWINGS[digit])
    assert (image.shape, image.dtype) == ((28, 28), np.float32)
    assert 0 <= image.min() <= image.max() <= 1
    assert centre(image) == pytest.approx([14, 14], abs=0.1)
    assert longer_side(image) == pytest.approx(20, abs=1)
    ink = images[labels == digit].sum(axis=1)
    assert np.quantile(ink, 0.1) < image.sum() < np.quantile(ink, 0.97)  # as thick as a pen of MNIST


def test_digits_of_mnist_are_so(digits):
    """The rule that drawings are brought to: the longer side is of 20 pixels, the centre of mass at (14, 14)."""
    for image in digits[1][0][:100].reshape(-1, 28, 28):
        assert longer_side(image) == 20
        assert centre(image) == pytest.approx([14, 14], abs=0.6)  # moved by whole pixels, there


corner = st.tuples(*[st.floats(0.3, 0.7)] * 2).map(list)


@given(
    st.lists(st.lists(corner, min_size=1, max_size=5), min_size=1, max_size=3),
    st.floats(0.3, 1.4),
    st.floats(-0.02, 0.02),
)
def test_size_and_place_of_a_drawing_do_not_matter(playground, strokes, size, shift):
    extent = np.ptp(np.array([point for stroke in strokes for point in stroke]), axis=0).max()
    moved = [[[(number - 0.5) * size + 0.5 + shift for number in point] for point in stroke] for stroke in strokes]
    image = playground.as_in_mnist(strokes)
    assert np.isfinite(image).all()
    if extent > 0.05:  # and is no dot
        np.testing.assert_allclose(playground.as_in_mnist(moved), image, atol=1e-4)


@pytest.mark.parametrize("strokes", [[[[0.2, 0.9]]], [[[0.2, 0.9], [0.2, 0.9]]], [[[0.5, 0.5], [0.5, 0.5 + 1e-300]]]])
def test_a_dot_is_a_dot_in_the_middle(playground, strokes):
    image = playground.as_in_mnist(strokes)
    assert 3 < image.sum() < 8
    assert centre(image) == pytest.approx([14, 14], abs=0.1)


def test_a_new_stroke_does_not_go_on_from_the_one_before(playground):
    apart = playground.as_in_mnist([[[0.1, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.9, 0.9]]])
    assert apart[:, 14].sum() == 0
    joined = playground.as_in_mnist([[[0.1, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.9]]])
    assert joined[:, 14].sum() > 1


@pytest.fixture(scope="module")
def reader(playground, digits):
    """A reader that has been trained on all digits, if not for long."""
    reader = playground.Reader(digits, 0, epochs=scale(4, playground.EPOCHS))
    reader.learn()
    return reader


def test_the_reader_reads(reader):
    assert reader.progress["problem"] is None
    assert reader.progress["epoch"] == reader.epochs
    assert reader.progress["right"] > 0.955  # 0.973 after all epochs


@pytest.mark.parametrize("digit", DRAWINGS)
def test_the_reader_reads_drawings(playground, reader, digit):
    answer = reader.read(playground.as_in_mnist(DRAWINGS[digit]), None)
    assert answer["answer"] == answer["about"] == digit
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["probabilities"][digit] == max(answer["probabilities"]) > 0.5


@pytest.mark.parametrize("about", [None, 3])
def test_pixels_argue_as_the_log_odds_change_with_them(playground, reader, about):
    image = playground.as_in_mnist(DRAWINGS[7])
    answer = reader.read(image, about)
    digit = 7 if about is None else about
    assert (answer["answer"], answer["about"]) == (7, digit)
    gradient = shades_of(answer["gradient"], 28)[0].astype(float) - 128
    model = copy_in_float64(reader.model)

    def log_odds(image):
        logits = model(image.reshape(1, 784)).data[0]
        return logits[digit] - np.log(np.exp(np.delete(logits, digit)).sum())

    slopes = []
    for y, x in (places := np.argwhere(np.abs(gradient) > 40)):
        moved = [image.astype(float), image.astype(float)]
        moved[0][y, x] += 1e-5
        moved[1][y, x] -= 1e-5
        slopes.append((log_odds(moved[0]) - log_odds(moved[1])) / 2e-5)
    shown = gradient[tuple(places.T)]
    factor = shown[0] / slopes[0]
    assert factor > 0
    np.testing.assert_allclose(shown, factor * np.array(slopes), atol=2 + 0.02 * np.abs(shown).max())
    assert np.abs(gradient).max() == 127


def copy_in_float64(model):
    rng = np.random.default_rng(0)
    shapes = [parameter.shape for parameter in model.parameters()][::2]
    linears = [nn.Linear(n, m, rng=rng, dtype=np.float64) for m, n in shapes]
    for old, new in zip(model.parameters(), nn.parameters(linears), strict=True):
        new.data = old.data.astype(np.float64)
    return nn.Sequential(linears[0], nn.relu, linears[1], nn.relu, linears[2])


def test_no_pixel_argues_where_no_digit_has_ink(playground, reader, digits):
    gradient = shades_of(reader.read(playground.as_in_mnist(DRAWINGS[5]), None)["gradient"], 28)[0]
    empty = digits[0][0].reshape(-1, 28, 28).max(axis=0) == 0
    empty[1:-1, 1:-1] = False  # digits are shifted by a pixel
    assert np.abs(gradient[empty].astype(int) - 128).max() <= 6


def test_the_reader_is_a_copy_that_the_training_does_not_move(playground, few_digits):
    reader = playground.Reader(few_digits, 0, epochs=2)
    kept = []
    note = reader.note
    reader.note = lambda run: (note(run), kept.append((reader.model, reader.read(few_digits[1][0][0], None))))
    reader.learn()
    assert len({id(model) for model, _ in kept}) == 2
    reader.model = kept[0][0]
    assert reader.read(few_digits[1][0][0], None) == kept[0][1]


def test_a_training_that_fails_is_told_of(playground, few_digits):
    (x, y), test = few_digits
    reader = playground.Reader(((x, y[:-1]), test), 0)
    reader.learn()
    assert "ValueError" in reader.progress["problem"]


def test_the_reader_ends_when_it_is_asked_to(playground, few_digits):
    reader = playground.Reader(few_digits, 0, epochs=10**9)
    reader.thread.start()
    until(lambda: reader.model is not None)
    reader.end()
    assert not reader.thread.is_alive()


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_page_needs_nothing_from_elsewhere():
    assert not re.findall(r"https?://|//[a-z]+\.|@import|<link(?! rel=\"icon\" href=\"data:,\")| src=", PAGE)


def test_the_script_speaks_of_elements_that_are_there():
    there = set(re.findall(r'\bid="([\w-]+)"|\bid: "([\w-]+)"', PAGE))
    there = {a or b for a, b in there}
    spoken = set(re.findall(r'\$\("([\w-]+)"\)', PAGE))
    assert len(spoken) > 20
    assert spoken <= there
    references = re.findall(r'(?:for|aria-controls|aria-labelledby|aria-describedby)="([\w -]+)"', PAGE)
    assert {name for names in references for name in names.split()} <= there


def luminance(colour):
    parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_that_reading_needs(scheme):
    """As WCAG 2.2 wants: 4.5 for text, 3 for the borders of controls and for what pictures tell by colour."""
    blocks = re.findall(r":root \{(.*?)\n *\}", PAGE, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6});", blocks[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(\w+): (#\w{6});", blocks[1]))
    texts = [("ink", "card"), ("ink", "paper"), ("soft", "card"), ("warn", "paper"), ("ink", "zero")]
    rest = [("edge", "card"), ("negative", "card"), ("positive", "card"), ("negative", "zero"), ("positive", "zero")]
    for limit, pairs in ((4.5, texts), (3, rest)):
        for pair in pairs:
            dark, light = sorted(luminance(colours[name]) for name in pair)
            assert (light + 0.05) / (dark + 0.05) >= limit, pair


def test_the_page_may_run_its_own_script_alone(server):
    with urllib.request.urlopen(server.address) as answer:
        assert answer.read().decode() == PAGE
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        policy, kind = answer.headers["Content-Security-Policy"], answer.headers["X-Content-Type-Options"]
    assert kind == "nosniff"
    script = PAGE[PAGE.index("<script>") + 8 : PAGE.index("</script>")]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


# ----------------------------------------------------------------------------------------------------------- the server


def test_it_listens_on_the_loopback_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_network_is_begun_and_trained(server, playground):
    status, begun = ask(server, "/network", FIRST)
    assert status == 200
    assert [len(begun[part]) for part in ("train", "test", "surfaces", "weights")] == [200, 200, 4, 3]
    before = server.updates
    status, picture = ask(server, "/train", {"network": begun["network"], "steps": 7, "rate": "0.03"})
    assert (status, picture["updates"], server.updates - before) == (200, 7, 7)
    alone = network(playground)
    alone.train(7, 0.03)
    assert picture == alone.picture()


def test_it_does_thirty_updates_a_second_and_a_picture_of_each(server):
    begun = ask(server, "/network", {**FIRST, "layers": [8, 8, 8, 8]})[1]
    seconds = []
    for _ in range(3):  # the machine may be busy
        start = time.perf_counter()
        for _ in range(30):
            ask(server, "/train", {"network": begun["network"], "steps": 1, "rate": "0.01"})
        seconds.append(time.perf_counter() - start)
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1  # it takes a tenth


def test_the_choices_are_those_of_the_server(server, playground):
    status, choices = ask(server, "/choices")
    assert status == 200
    assert choices["optimizer"] == [*playground.OPTIMIZERS]
    assert choices["examples"] == 50
    for points in choices["data"].values():
        assert np.array(points).shape == (120, 3)


def test_drawings_and_held_out_digits_are_read(server, playground, few_digits):
    status, drawn = ask(server, "/read", {"strokes": DRAWINGS[1], "about": None})
    assert status == 200
    image = shades_of(drawn["image"], 28)[0]
    np.testing.assert_allclose((image - 128.0) / 127, playground.as_in_mnist(DRAWINGS[1]), atol=0.005)
    status, shown = ask(server, "/read", {"example": 3, "about": 4})
    assert (status, shown["truth"], shown["about"]) == (200, few_digits[1][1][3], 4)
    assert "truth" not in drawn


def test_before_its_first_epoch_the_reader_asks_for_patience(server, monkeypatch):
    monkeypatch.setattr(server.reader, "model", None)
    status, answer = ask(server, "/read", {"strokes": DRAWINGS[1]})
    assert status == 503
    assert "patience" in answer["error"]
    assert ask(server, "/progress") == (
        200,
        {"epoch": 1, "epochs": 1, "right": server.reader.progress["right"], "problem": None},
    )


GOOD = {"strokes": [[[0.1, 0.1]]], "about": None}
BAD = [  # path, question, part of the answer
    *[
        ("/network", {**FIRST, "data": name}, "circles; xor; spiral; moons")
        for name in ("", "Circles", None, 1, ["xor"], {})
    ],
    *[("/network", {**FIRST, "layers": some}, "wanted a list of at most 4") for some in (None, "44", {}, 3, [1] * 5)],
    *[
        ("/network", {**FIRST, "layers": [some]}, "whole number from 1 to 8")
        for some in (0, 9, 1.0, "1", True, None, [1])
    ],
    *[("/network", {**FIRST, "seed": some}, "whole number from 0") for some in (-1, 10**400, 0.5, None, False)],
    *[("/network", {**FIRST, name: "?" * 1000}, f"{name} is '????") for name in ("noise", "activation", "optimizer")],
    *[
        ("/network", some, "wanted an object of data, noise, layers")
        for some in ([], "x", 1, b"null", {}, {**FIRST, "base": 1})
    ],
    *[("/train", {"network": "?", "steps": some, "rate": "1"}, "from 0 to 100") for some in (-1, 101, 1e9, "1", None)],
    *[
        ("/train", {"network": "?", "steps": 1, "rate": some}, "wanted one of: 0.001;")
        for some in (1, "2", None, "nan")
    ],
    *[("/read", {**GOOD, "about": some}, "whole number from 0 to 9") for some in (-1, 10, "1", 1.0)],
    *[("/read", {"example": some}, "whole number from 0 to 49") for some in (-1, 50, "1", 2.0)],
    *[
        ("/read", {"strokes": some}, "wanted: 1 to 50 lists")
        for some in ([], None, 1, "x", [[]], [1], {}, [[[0, 0]]] * 51)
    ],
    *[
        ("/read", {"strokes": [some]}, "wanted at most 1000")
        for some in ([1], [[1]], [[1, 1, 1]], [[0, 0]] * 1001, ["ab"])
    ],
    *[
        ("/read", {"strokes": [[[0, some]]]}, "not between 0 and 1")
        for some in (-0.1, 1.1, None, "0", True, [], 10**400)
    ],
    ("/read", b'{"strokes": [[[0, NaN]]]}', "not between 0 and 1"),
    ("/read", b'{"strokes": [[[0, 1e999]]]}', "not between 0 and 1"),
    *[
        (path, text, "is not JSON")
        for path in ("/network", "/train", "/read")
        for text in (b"", b"{", b"\xff", b"{'a': 1}")
    ],
    ("/read", b"[" * 60_000, "is not JSON"),
    ("/read", b'{"strokes": [], "about": 1' + b"0" * 60_000 + b"}", "wanted"),  # newer Pythons read no such number
]


@pytest.mark.parametrize("part", range(4))
def test_bad_questions_are_told_what_was_wanted(server, part, capfd):
    networks = dict(server.networks)
    for path, question, wanted in BAD[part::4]:
        status, answer = ask(server, path, question)
        assert (status, len(answer)) == (400, 1), (path, question)
        assert wanted in answer["error"], (path, question)
        assert len(answer["error"]) < 400
    assert server.networks == networks
    assert capfd.readouterr().err == ""


def test_what_is_unknown_is_not_found(server):
    for path in ("/nothing", "/index.html", "/../playground.py", "/playground.py", "/?", "/choices/"):
        status, answer = ask(server, path)
        assert (status, "wanted one of GET /, GET /choices" in answer["error"]) == (404, True)
    for path in ("/", "/choices", "/progress", "/nothing" * 1000):
        assert ask(server, path, {})[0] == 404
    for path in ("/network", "/train", "/read"):
        assert ask(server, path)[0] == 404
    ours = f"127.0.0.1:{server.server_port}"
    assert " 404 " in said(server, f"GET http://{ours}/ HTTP/1.1", f"Host: {ours}")  # as if it were a proxy
    assert ask(server, "/train", {"network": "?", "steps": 1, "rate": "1"})[0] == 410
    assert ask(server, "/train", {"network": None, "steps": 1, "rate": "1"})[0] == 410
    for method in ("HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        assert " 501 " in said(server, f"{method} / HTTP/1.1", f"Host: 127.0.0.1:{server.server_port}")


OURS = ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT"]
FOREIGN = [
    "127.0.0.1",
    "localhost",
    "127.0.0.1:1",
    "evil.example:PORT",
    "evil.example",
    "localhost.evil.example:PORT",
    "",
    "[::1]:PORT",
]
FOREIGN += [
    "127.0.0.1:PORT.evil.example",
    "user@127.0.0.1:PORT",
    "127.0.0.2:PORT",
    "0.0.0.0:PORT",
    "127.1:PORT",
    "null",
]


@pytest.mark.parametrize("path", ["GET /", "GET /choices", "GET /nothing", "POST /read"])
def test_hosts_and_origins_of_others_are_refused(server, path):
    body = json.dumps(GOOD).encode()
    more = ["Content-Type: application/json", f"Content-Length: {len(body)}"] if path.startswith("POST") else []
    body = body if more else b""

    def status(*headers):
        lines = [f"{path} HTTP/1.1", *more, *(header.replace("PORT", str(server.server_port)) for header in headers)]
        return said(server, *lines, body=body)[9:12]

    granted = {"404"} if "nothing" in path else {"200"}
    assert {status(f"Host: {host}") for host in OURS} == granted
    assert {status("Host: 127.0.0.1:PORT", f"Origin: http://{host}") for host in OURS} == granted
    assert {status(f"Host: {host}") for host in FOREIGN} == {"403"}
    assert {status("Host: 127.0.0.1:PORT", f"Origin: http://{host}") for host in FOREIGN} == {"403"}
    others = ["null", "https://127.0.0.1:PORT", "127.0.0.1:PORT", "file://", "http://127.0.0.1:PORT/", ""]
    assert {status("Host: 127.0.0.1:PORT", f"Origin: {origin}") for origin in others} == {"403"}
    assert status() == "403"
    assert status("Host: 127.0.0.1:PORT", "Host: evil.example") == "403"
    assert status("Host: evil.example", "Host: 127.0.0.1:PORT") == "403"
    assert status("Host: 127.0.0.1:PORT", "Origin: http://127.0.0.1:PORT", "Origin: http://evil.example") == "403"


def test_forms_of_other_pages_are_refused(server):
    """What a page of others can send without asking first: three content types."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert ask(server, "/read", GOOD, Content_Type=kind)[0] == 415
    assert ask(server, "/read", GOOD, Content_Type="application/json; charset=utf-8")[0] == 200


def test_requests_are_bounded(server, playground):
    good = ["POST /read HTTP/1.1", f"Host: 127.0.0.1:{server.server_port}", "Content-Type: application/json"]
    status = lambda *lines, body=b"": said(server, *good, *lines, body=body)[9:12]
    assert status() == "411"
    assert status("Transfer-Encoding: chunked", body=b"0\r\n\r\n") == "411"
    assert status("Transfer-Encoding: chunked", "Content-Length: 2", body=b"{}") == "411"
    assert status("Content-Length: 2", "Content-Length: 3", body=b"{}") == "411"
    for length in ("-1", "x", "", "1e3", "0x10", "+2", "9" * 5000, "\uff12"):
        assert status(f"Content-Length: {length}") == "400"
    assert status(f"Content-Length: {playground.BODY + 1}") == "413"
    assert status("Content-Length: 999999999") == "413"
    assert status("Content-Length: 3", body=b"{}") == "400"
    text = json.dumps(GOOD).encode()
    assert status(f"Content-Length: {playground.BODY}", body=text.ljust(playground.BODY)) == "200"
    assert said(server, "GET /" + "a" * 70_000 + " HTTP/1.1")[9:12] == "414"
    assert said(server, *good, *(f"X-{i}: 1" for i in range(200)))[9:12] == "431"
    assert said(server, "nonsense")  # and it goes on
    assert ask(server, "/read", GOOD)[0] == 200


def test_who_sends_nothing_is_waited_for_no_longer_than_allowed(server, playground, monkeypatch):
    assert 0 < playground.Handler.timeout <= 10
    monkeypatch.setattr(playground.Handler, "timeout", 0.1)
    for start in (b"", b"POST /read HT", b"POST /read HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
            connection.sendall(start)
            assert connection.recv(1000) == b""


def test_connections_are_counted(server, playground, monkeypatch):
    monkeypatch.setattr(playground, "CONNECTIONS", 2)
    with contextlib.ExitStack() as stack:
        idle = [socket.create_connection(("127.0.0.1", server.server_port), timeout=20) for _ in range(2)]
        for connection in idle:
            stack.enter_context(connection)
        until(lambda: len(server.connections) == 2)
        third = stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port), timeout=5))
        with contextlib.suppress(ConnectionError):  # as some systems report the end
            assert third.recv(1) == b""
    until(lambda: not server.connections)
    assert ask(server, "/choices")[0] == 200


def test_the_network_that_was_not_used_for_longest_makes_room(server, playground):
    begin = lambda: ask(server, "/network", {**FIRST, "layers": []})[1]["network"]
    train = lambda name: ask(server, "/train", {"network": name, "steps": 1, "rate": "0.1"})
    first, second, *_ = names = [begin() for _ in range(playground.NETWORKS)]
    assert train(first)[0] == 200
    names.append(begin())
    assert len(server.networks) == playground.NETWORKS
    status, answer = train(second)
    assert (status, "begin a new one" in answer["error"]) == (410, True)
    assert [train(name)[0] for name in names if name != second] == [200] * playground.NETWORKS


def test_pages_at_the_same_time_do_not_disturb_each_other(server, playground):
    def page(seed):
        begun = ask(server, "/network", {**FIRST, "seed": seed})[1]
        for _ in range(5):
            picture = ask(server, "/train", {"network": begun["network"], "steps": 4, "rate": "0.03"})[1]
            assert ask(server, "/read", {"strokes": DRAWINGS[seed], "about": seed})[1] == readings[seed]
        return picture

    pages = range(scale(3, 6))
    readings = [ask(server, "/read", {"strokes": DRAWINGS[k], "about": k})[1] for k in pages]
    with ThreadPoolExecutor(len(pages)) as pool:
        pictures = list(pool.map(page, pages))
    for seed, picture in enumerate(pictures):
        alone = network(playground, seed=seed)
        alone.train(20, 0.03)
        assert picture == alone.picture()


def test_requests_for_one_network_take_turns(server):
    begun = ask(server, "/network", FIRST)[1]
    question = {"network": begun["network"], "steps": 10, "rate": "0.01"}
    with ThreadPoolExecutor(6) as pool:
        pictures = list(pool.map(lambda _: ask(server, "/train", question)[1], range(12)))
    assert sorted(picture["updates"] for picture in pictures) == [10 * k for k in range(1, 13)]


def test_a_page_that_goes_away_is_no_error(playground, server, capfd, monkeypatch):
    gone = threading.Event()
    choices = server.calls["GET", "/choices"]
    monkeypatch.setitem(server.calls, ("GET", "/choices"), lambda: (gone.wait(20), {"much": "x" * 10**7})[1])
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(f"GET /choices HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH" if os.name == "nt" else "ii", 1, 0)
        )  # it ends with a reset
    gone.set()
    until(lambda: not server.connections)
    assert capfd.readouterr().err == ""
    monkeypatch.setitem(server.calls, ("GET", "/choices"), choices)
    assert ask(server, "/choices")[0] == 200


def test_an_error_of_ours_is_shown_where_the_server_was_started(server, capfd, monkeypatch):
    monkeypatch.setitem(server.calls, ("GET", "/choices"), lambda: 1 / 0)
    assert said(server, "GET /choices HTTP/1.1", f"Host: 127.0.0.1:{server.server_port}") == ""
    until(lambda: not server.connections)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_all_threads_end_with_the_server(running, few_digits):
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        with running(few_digits, epochs=10**9) as server:  # a reader in the middle of its training,
            for start in (b"", b"POST /read HT", b"POST /read HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"):  # idle pages,
                connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=20)
                stack.enter_context(connection).sendall(start)
            begun = ask(server, "/network", FIRST)[1]
            question = {"network": begun["network"], "steps": 100, "rate": "0.01"}
            pool = stack.enter_context(ThreadPoolExecutor(4))  # and pages that train
            for _ in range(8):
                pool.submit(ask, server, "/train", question)
            until(lambda: server.updates >= 100)
            start = time.perf_counter()
        assert time.perf_counter() - start < 5  # it does not wait until time is up
        assert not server.reader.thread.is_alive()
        assert server.connections == set()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.server_port), timeout=20)
    assert set(threading.enumerate()) <= before


# ------------------------------------------------------------------------------------------------------- from the shell


def test_main_returns_the_updates_of_all_networks(playground, few_digits, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(playground, "load_mnist", lambda path: few_digits)
    monkeypatch.setattr(playground.webbrowser, "open", opened.append)

    def serve(server):
        server.train(server.begin(**FIRST)["network"], 12, "0.1")
        server.train(server.begin(**FIRST)["network"], 30, "0.1")
        raise KeyboardInterrupt

    monkeypatch.setattr(playground.Playground, "serve_forever", serve)
    assert playground.main(open=True) == 42
    first, *_, last = capsys.readouterr().out.splitlines()
    assert opened == [first.split()[-1]]
    assert last == "42 updates were done."


@pytest.mark.skipif(os.name == "nt", reason="there, nothing can send another process a Ctrl-C alone")
def test_runs_from_the_command_line_in_any_folder_until_ctrl_c(tmp_path):
    def as_in_a_shell():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it is ignored in what a script starts in the background

    command = [sys.executable, "-W", "error", SCRIPT, "--seed", "3"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, preexec_fn=as_in_a_shell, **pipes) as process:
        try:
            address = process.stdout.readline().split()[-1]
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert answer.read().decode() == PAGE
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "0 updates were done."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--port=taken", "--port=-1", "--port=65536", "--port=x", "--seed=-1"])
def test_options_that_cannot_be_had_are_named(start, server, option):
    code, _, err = start("playground", option.replace("taken", str(server.server_port)))
    assert code == 2
    assert "usage: playground.py" in err
