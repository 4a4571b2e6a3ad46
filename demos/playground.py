"""A page on this machine on which a small network learns as you watch, and another one reads the digits that you draw.

On its first tab, choose points of two classes, layers, activation, optimizer and learning rate, and see what the whole
network and each of its units make of the plane, the loss as it falls, and the weights with their gradients. On the
second, draw a digit, and see the ten probabilities and, by the gradient, which pixels argue for a digit or against it.

The page is playground.html, beside this file. It asks for one picture after the other, and for each its network is
trained some steps further: nothing is computed for a page that is paused, hidden or closed. The server listens on the
loopback address alone, and answers the pages that it has served and no others.
"""

from __future__ import annotations

import argparse
import base64
import copy
import hashlib
import inspect
import itertools
import json
import os
import re
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# Matrices as small as these gain nothing from more threads, and lose much on a busy machine. NumPy looks only once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import nn
from minigrad.data import Digits, load_mnist

Array = NDArray[Any]

HERE = Path(__file__).resolve().parent


# ------------------------------------------------------------------------------------------------------------- points
# Two classes of points in the plane: n of them as an array of shape (2, n), and their labels.

REACH = 3.0  # of the plane that is shown, from 0 in each direction


def circles(n: int, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """A disc, and a ring around it."""
    label = np.arange(n) % 2
    radius = np.where(label == 1, rng.uniform(0, 1.1, n), rng.uniform(1.7, 2.5, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    return radius * np.array([np.cos(angle), np.sin(angle)]) + noise * rng.normal(size=(2, n)), label


def xor(n: int, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Four squares; those where both coordinates have the same sign are of one class."""
    x = rng.uniform(0.2, 2.4, (2, n)) * rng.choice([-1, 1], (2, n))
    return x + noise * rng.normal(size=(2, n)), (x[0] * x[1] > 0).astype(int)


def spiral(n: int, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two arms, each of one turn and a half."""
    label = np.arange(n) % 2
    along = np.sqrt(rng.uniform(0.01, 1, n))  # as dense outside as inside
    angle = 3 * np.pi * along + np.pi * label
    return 2.6 * along * np.array([np.sin(angle), np.cos(angle)]) + noise / 2 * rng.normal(size=(2, n)), label


def moons(n: int, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two half circles, one end of each in the hollow of the other."""
    label = np.arange(n) % 2
    angle, side = rng.uniform(0, np.pi, n), 1 - 2 * label
    x = side * np.array([1.5 * np.cos(angle) - 0.75, 1.5 * np.sin(angle) - 0.4])
    return x + noise * rng.normal(size=(2, n)), label


# ------------------------------------------------------------------------------------------------------------ choices
# What the page offers, and all that it may ask for.

DATA = {"circles": circles, "xor": xor, "spiral": spiral, "moons": moons}
NOISES = {"none": 0.0, "little": 0.1, "some": 0.2, "much": 0.4}
ACTIVATIONS = {
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "leaky relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "softplus": nn.softplus,
}
OPTIMIZERS: dict[str, Callable[..., mg.optim.Optimizer]] = {
    "Adam": mg.optim.Adam,
    "AdamW": mg.optim.AdamW,
    "RMSprop": mg.optim.RMSprop,
    "SGD": mg.optim.SGD,
    "SGD with momentum": lambda parameters, lr: mg.optim.SGD(parameters, lr, momentum=0.9),
}
RATES = {f"{rate:g}": rate for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)}
LAYERS, UNITS, STEPS = 4, 8, 100  # at most: hidden layers, units in each, steps for one picture


class Refused(Exception):
    """A request is not granted: the status that HTTP has for it, and a text that says what came and what was wanted."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def chosen(choices: Mapping[str, Any], value: Any, name: str) -> Any:
    """What a request has chosen by its name."""
    if not isinstance(value, str) or value not in choices:
        raise Refused(400, f"{name} is {value!r:.40}; wanted one of: {'; '.join(choices)}")
    return choices[value]


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number that a request has given, within bounds."""
    if type(value) is not int or not low <= value <= high:
        raise Refused(400, f"{name} is {value!r:.40}; wanted a whole number from {low} to {high}")
    return value


def numbers(values: Any) -> Any:
    """An array as lists, for JSON, which has no word for nan and inf: None."""
    rounded = np.round(np.asarray(values, float), 7)
    return np.where(np.isfinite(rounded), rounded.astype(object), np.array(None)).tolist()


def shades(values: Array, limit: Any) -> str:
    """An array as a byte for each number, for the page to colour: 1 for -limit, 128 for 0 and nan, 255 for limit."""
    parts = np.nan_to_num(np.clip(values / np.maximum(limit, 1e-30), -1, 1))
    return base64.b64encode(np.rint(128 + 127 * parts).astype(np.uint8).tobytes()).decode("ascii")


# ---------------------------------------------------------------------------------------------- a network that learns

POINTS, BATCH = 200, 20  # for training, and as many are held out; in each step
SIDE = 40  # of the grid of points on which units are shown
ACROSS = np.linspace(-REACH, REACH, SIDE, dtype=np.float32)
GRID = np.stack(np.meshgrid(ACROSS, -ACROSS), axis=-1).reshape(-1, 2)  # row by row, the uppermost first


class Network:
    """A network on a page: its points, its units, and the programs that train it and look at it."""

    def __init__(
        self, data: Any, noise: Any, layers: Any, activation: Any, optimizer: Any, seed: Any, base: int
    ) -> None:
        if not isinstance(layers, list) or len(layers) > LAYERS:
            raise Refused(400, f"layers is {layers!r:.40}; wanted a list of at most {LAYERS} numbers of units")
        widths = [2, *(whole(units, "a layer", 1, UNITS) for units in layers), 1]
        function = chosen(ACTIVATIONS, activation, "activation")
        rng = self.rng = np.random.default_rng([base, whole(seed, "seed", 0, 10**9)])
        points = chosen(DATA, data, "data")
        x, label = points(2 * POINTS, chosen(NOISES, noise, "noise"), np.random.default_rng(base))
        x, y = x.T.astype(np.float32), label[:, np.newaxis].astype(np.float32)
        self.train_x, self.train_y, self.test_x, self.test_y = x[:POINTS], y[:POINTS], x[POINTS:], y[POINTS:]
        self.linears = [nn.Linear(n, m, rng=rng) for n, m in itertools.pairwise(widths)]
        moving = chosen(OPTIMIZERS, optimizer, "optimizer")(nn.parameters(self.linears), lr=0.0)
        self.optimizer, self.updates, self.lock = moving, 0, threading.Lock()

        def answers(x: Any) -> list[Any]:
            every = []
            for linear in self.linears:
                x = linear(x)
                if linear is not self.linears[-1]:
                    x = function(x)
                every.append(x)
            return every

        def loss(x: Any, y: Any) -> Any:
            moving.zero_grad()
            value = nn.log_loss_with_logits(answers(x)[-1], y)
            value.backward()
            return value

        def step(x: Any, y: Any) -> None:
            loss(x, y)
            moving.step()

        # Between two calls only numbers in arrays and Tensors change, and that is what pure means.
        self.answers, self.loss, self.step = (mg.compile(f, pure=True) for f in (answers, loss, step))

    def train(self, steps: int, rate: float) -> None:
        """Do some steps, each for a batch drawn anew. Divergence shows in the loss, and nothing warns."""
        self.optimizer.lr = rate
        with np.errstate(all="ignore"):
            for _ in range(steps):
                batch = self.rng.integers(0, POINTS, BATCH)
                self.step(self.train_x[batch], self.train_y[batch])
                self.updates += 1

    def picture(self) -> dict[str, Any]:
        """What the page draws of the network as it is; the gradients are those of the loss for all training points."""
        with np.errstate(all="ignore"):
            loss = self.loss(self.train_x, self.train_y).data
            with mg.no_grad():
                *hidden, logits = (answer.data for answer in self.answers(GRID))
                predictions = self.answers(self.test_x)[-1].data
            units = [layer.T for layer in [GRID, *hidden]]
            surfaces = [shades(layer, np.abs(layer).max(axis=1, keepdims=True)) for layer in units]
            weights, biases = [linear.weight for linear in self.linears], [linear.bias for linear in self.linears]
            return {
                "updates": self.updates,
                "loss": numbers(loss),
                "testLoss": numbers(nn.log_loss_with_logits(predictions, self.test_y)),
                "testRight": numbers(np.asarray(mg.accuracy(nn.sigmoid(predictions), self.test_y))),
                "surfaces": [*surfaces, shades(2 * nn.sigmoid(logits.T) - 1, 1)],
                "weights": [numbers(weight.data) for weight in weights],
                "biases": [numbers(bias.data) for bias in biases if bias is not None],
                "weightGradients": [numbers(weight.grad) for weight in weights],
                "biasGradients": [numbers(bias.grad) for bias in biases if bias is not None],
            }

    def points(self) -> dict[str, Any]:
        """The points as the page draws them, for training and held out."""
        parts = {"train": (self.train_x, self.train_y), "test": (self.test_x, self.test_y)}
        return {name: numbers(np.concatenate(part, axis=1)) for name, part in parts.items()}


# ------------------------------------------------------------------------------------------------ a network that reads

STROKES, CORNERS = 50, 1000  # of a drawing, at most
PEN, BOX = 2.6, 20  # pixels: as thick as in MNIST, and the longer side of its digits
EPOCHS = 8
SHIFTS = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]


def rendered(corners: Array, starts: Array) -> Array:
    """Lines between corners (n, 2) as an image 28 x 28; where one starts, none comes from the corner before."""
    a = np.where(starts[:, np.newaxis], corners, np.roll(corners, 1, axis=0))[:, np.newaxis]
    along = corners[:, np.newaxis] - a
    pixels = np.stack(np.meshgrid(np.arange(28), np.arange(28)), axis=-1).reshape(-1, 2)
    nearest = np.sum((pixels - a) * along, axis=2) / np.maximum(np.sum(along**2, axis=2), 1e-12)
    distance = np.linalg.norm(pixels - a - np.clip(nearest, 0, 1)[..., np.newaxis] * along, axis=2)
    image: Array = np.clip(PEN / 2 + 0.5 - distance.min(axis=0), 0, 1)
    return image.astype(np.float32).reshape(28, 28)


def as_in_mnist(strokes: Any) -> Array:
    """A drawing as MNIST would show it: its longer side BOX pixels long, its centre of mass in the middle.

    A stroke is a list of corners `[x, y]` between 0 and 1. LeCun, Bottou, Bengio and Haffner, Gradient-based learning
    applied to document recognition, Proceedings of the IEEE, 1998, section III.
    """
    good = isinstance(strokes, list) and 1 <= len(strokes) <= STROKES
    if not good or not all(isinstance(stroke, list) and stroke for stroke in strokes):
        raise Refused(400, f"strokes is not what was wanted: 1 to {STROKES} lists of corners")
    points = [point for stroke in strokes for point in stroke]
    if len(points) > CORNERS or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise Refused(400, f"the strokes have {len(points)} corners; wanted at most {CORNERS}, each as [x, y]")
    if not all(type(number) in (int, float) and 0 <= number <= 1 for point in points for number in point):
        raise Refused(400, "a corner of a stroke is not between 0 and 1")
    corners = np.array(points, float)
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = (BOX - 1 - PEN) / max(*(high - low), 0.01)  # what is smaller is a dot
    starts = np.concatenate([np.arange(len(stroke)) == 0 for stroke in strokes])
    corners = (corners - (low + high) / 2) * scale + 13.5
    image = rendered(corners, starts)
    y, x = (np.sum(image * place) / image.sum() for place in np.indices((28, 28)))
    return rendered(corners + np.array([14 - x, 14 - y]), starts)  # MNIST's middle, where the first pixel is at 0


class Reader:
    """Reads digits, and better after every epoch of its training, which is done in a thread of its own."""

    def __init__(self, digits: tuple[Digits, Digits], seed: int, epochs: int = EPOCHS) -> None:
        self.train, self.test = digits
        self.seed, self.epochs, self.ends = seed, epochs, threading.Event()
        self.model: nn.Sequential | None = None  # as it was after the last epoch, a copy that does not move
        self.progress: dict[str, Any] = {"epoch": 0, "epochs": epochs, "right": None, "problem": None}
        self.thread = threading.Thread(target=self.learn, name="reader")

    def learn(self) -> None:
        """Train until the epochs are over or `ends` is set; what goes wrong is told in `progress`."""
        try:
            rng = np.random.default_rng(self.seed)
            images = self.train[0].reshape(-1, 28, 28)
            x = np.concatenate([np.roll(images, shift, axis=(1, 2)) for shift in SHIFTS]).reshape(-1, 784)
            one, two, three = (nn.Linear(n, m, rng=rng) for n, m in [(784, 100), (100, 50), (50, 10)])
            model = nn.Sequential(one, nn.relu, nn.Dropout(0.2, rng=rng), two, nn.relu, three)
            mg.fit(
                model,
                nn.cross_entropy,
                mg.optim.Adam(model.parameters(), lr=0.002, weight_decay=0.001),  # by which no pixel argues idly
                (x, np.tile(self.train[1], len(SHIFTS))),
                epochs=self.epochs,
                batch_size=100,
                validation=self.test,
                metrics=[mg.accuracy],
                callbacks=[self.note],
                seed=self.seed,
                progress=False,
                compile="pure",
            )
        except Exception as error:
            self.progress = {**self.progress, "problem": f"{type(error).__name__}: {error}"}

    def note(self, run: Any) -> None:
        """After an epoch, keep the model and how well it reads."""
        self.model = copy.deepcopy(run.model).eval()
        self.progress = {**self.progress, "epoch": run.epoch, "right": run.history["val_accuracy"][-1]}
        run.stopped = run.stopped or self.ends.is_set()

    def end(self) -> None:
        """End the training after its epoch, and wait for that."""
        self.ends.set()
        if self.thread.is_alive():  # it is not begun where there is no server
            self.thread.join()

    def read(self, image: Array, about: int | None) -> dict[str, Any]:
        """The ten probabilities, and the derivative of the log-odds of one digit by each of the pixels.

        The digit is `about`, or the answer where that is None. Log-odds say how much more the network believes in it
        than in the nine others together: where they rise with a pixel, the pixel argues for the digit.
        """
        model = self.model
        if model is None:
            raise Refused(503, "the network that reads has not finished its first epoch yet; wanted a little patience")
        with mg.no_grad():
            logits = model(image.reshape(1, 784)).data[0]
        answer = int(logits.argmax())
        digit = answer if about is None else about
        others = np.arange(10) != digit

        def log_odds(pixels: Any) -> Any:
            logits = model(pixels)[0]
            return logits[digit] - np.logaddexp.reduce(logits[others])

        gradient = mg.grad(log_odds)(image.reshape(1, 784))
        return {
            "image": shades(image, 1),
            "probabilities": numbers(nn.softmax(logits)),
            "answer": answer,
            "about": digit,
            "gradient": shades(gradient, np.abs(gradient).max()),
        }


# ----------------------------------------------------------------------------------------------------------- the server

BODY = 64 * 1024  # bytes of a request, at most
SECONDS = 10  # that a request may take to arrive
CONNECTIONS, NETWORKS = 32, 8  # at a time; of networks, the one that was not used for longest makes room


def policy(page: str) -> str:
    """What a page may do: run the script and use the style that are in it, and ask its own server."""

    def hashed(kind: str) -> str:
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {hashed('script')}; style-src {hashed('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Playground(ThreadingHTTPServer):
    """The server of the page, of its networks, and of the reader; use it in a `with` block, which ends its threads."""

    daemon_threads = False  # they end with the block
    allow_reuse_address = os.name != "nt"  # where it would allow two servers at one address

    def __init__(self, port: int, seed: int, reader: Reader) -> None:
        text = (HERE / "playground.html").read_text(encoding="utf-8")
        self.page, self.policy = text.encode(), policy(text)
        self.seed, self.reader = seed, reader
        rng = np.random.default_rng(seed)
        self.thumbnails = {name: points(120, 0.1, rng) for name, points in DATA.items()}
        self.networks: dict[str, Network] = {}
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()  # for the two above, and the count of updates
        self.updates = 0
        super().__init__(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/"
        end = "" if self.server_port == 80 else f":{self.server_port}"
        self.hosts = {f"{name}{end}" for name in ("127.0.0.1", "localhost")}
        self.calls: dict[tuple[str, str], Callable[..., Any]] = {
            ("GET", "/choices"): self.choices,
            ("GET", "/progress"): self.progress,
            ("POST", "/network"): self.begin,
            ("POST", "/train"): self.train,
            ("POST", "/read"): self.read,
        }
        reader.thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            full = len(self.connections) >= CONNECTIONS
            if not full:
                self.connections.add(request)
        if full:
            super().shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the page has gone, and that is all
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        self.reader.ends.set()
        with self.lock:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        super().server_close()
        self.reader.end()

    # What the page asks for.

    def choices(self) -> dict[str, Any]:
        return {
            "data": {name: numbers(np.vstack([x, label]).T) for name, (x, label) in self.thumbnails.items()},
            "noise": [*NOISES],
            "activation": [*ACTIVATIONS],
            "optimizer": [*OPTIMIZERS],
            "rate": [*RATES],
            "layers": LAYERS,
            "units": UNITS,
            "side": SIDE,
            "reach": REACH,
            "strokes": STROKES,
            "corners": CORNERS,
            "examples": len(self.reader.test[1]),
        }

    def progress(self) -> dict[str, Any]:
        return self.reader.progress

    def begin(self, data: Any, noise: Any, layers: Any, activation: Any, optimizer: Any, seed: Any) -> dict[str, Any]:
        network = Network(data, noise, layers, activation, optimizer, seed, self.seed)
        name = secrets.token_urlsafe(16)
        with self.lock:
            while len(self.networks) >= NETWORKS:
                del self.networks[next(iter(self.networks))]
            self.networks[name] = network
        with network.lock:
            return {"network": name, **network.points(), **network.picture()}

    def train(self, network: Any, steps: Any, rate: Any) -> dict[str, Any]:
        steps, rate = whole(steps, "steps", 0, STEPS), chosen(RATES, rate, "rate")
        with self.lock:
            found = self.networks.pop(network, None) if isinstance(network, str) else None
            if found is None:
                raise Refused(410, f"there is no such network any more, only the last {NETWORKS}; begin a new one")
            self.networks[network] = found  # the last to make room
            self.updates += steps
        with found.lock:
            found.train(steps, rate)
            return found.picture()

    def read(self, strokes: Any = None, example: Any = None, about: Any = None) -> dict[str, Any]:
        digit = None if about is None else whole(about, "about", 0, 9)
        if example is None:
            return self.reader.read(as_in_mnist(strokes), digit)
        images, labels = self.reader.test
        k = whole(example, "example", 0, len(labels) - 1)
        return {**self.reader.read(images[k].reshape(28, 28), digit), "truth": int(labels[k])}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Playground
    timeout = SECONDS
    server_version, sys_version = "minigrad", ""

    def do_GET(self) -> None:
        self.respond()

    do_POST = do_GET

    def respond(self) -> None:
        status, kind = 200, "application/json"
        try:
            body = self.body() if self.command == "POST" else b"{}"
            self.check_sender()
            if (self.command, self.path) == ("GET", "/"):
                kind, content = "text/html; charset=utf-8", self.server.page
            else:
                content = json.dumps(self.answer(body), allow_nan=False).encode()
        except Refused as refused:
            status, content = refused.status, json.dumps({"error": str(refused)}).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        """What was sent, once it is known to be short."""
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) != 1 or "Transfer-Encoding" in self.headers:
            raise Refused(411, "the request does not say how long it is; wanted one Content-Length")
        if not re.fullmatch("[0-9]{1,9}", lengths[0]):
            raise Refused(400, f"Content-Length is {lengths[0]!r:.40}; wanted a number of bytes")
        if int(lengths[0]) > BODY:
            raise Refused(413, f"the request is {lengths[0]} bytes long; wanted at most {BODY}")
        body = self.rfile.read(int(lengths[0]))
        if len(body) < int(lengths[0]):
            raise Refused(400, f"the request ends after {len(body)} bytes; wanted {lengths[0]}")
        return body

    def check_sender(self) -> None:
        """Refuse pages of others, and names of others for this machine (DNS rebinding)."""
        for name, start in {"Host": "", "Origin": "http://"}.items():
            came = [value.lower() for value in self.headers.get_all(name, [])]
            wanted = [[start + host] for host in self.server.hosts]
            if came not in wanted and not (name == "Origin" and not came):
                raise Refused(403, f"{name} is {came!r:.80}; wanted {' or '.join(host for [host] in wanted)}")
        if self.command == "POST" and self.headers.get_content_type() != "application/json":
            raise Refused(415, f"Content-Type is {self.headers.get_content_type()!r:.80}; wanted application/json")

    def answer(self, body: bytes) -> Any:
        """The answer of the server to a question of the page."""
        calls = self.server.calls
        call = calls.get((self.command, self.path))
        if call is None:
            known = ", ".join(["GET /", *map(" ".join, calls)])
            raise Refused(404, f"there is no {self.command} {self.path!r:.80}; wanted one of {known}")
        try:
            question = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the request is not JSON ({error!s:.80}); wanted an object") from None
        parameters = inspect.signature(call).parameters
        needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
        if not isinstance(question, dict) or not needed <= {*question} <= {*parameters}:
            raise Refused(400, f"the request is {question!r:.80}; wanted an object of {', '.join(parameters)}")
        return call(**question)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: a page that trains asks up to sixty times a second."""


def main(*, port: int = 0, seed: int = 0, open: bool = False) -> int:
    """Serve the page until Ctrl-C, and return the number of updates that were done for it."""
    reader = Reader(load_mnist(HERE / "data" / "mnist_5k.npz"), seed)
    with Playground(port, seed, reader) as server, suppress(KeyboardInterrupt):
        print(f"The playground is at {server.address}\nCtrl-C ends it.", flush=True)
        if open:
            webbrowser.open(server.address)
        server.serve_forever()
    print(f"\n{server.updates:,} updates were done.")
    return server.updates


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help="of the address; default: one that is free")
    parser.add_argument("--seed", type=int, help="of points and first weights; default: %(default)s")
    parser.add_argument("--open", action="store_true", help="open the page in the browser, too")
    parser.set_defaults(**main.__kwdefaults__)
    try:
        main(**vars(parser.parse_args()))
    except (OSError, OverflowError, ValueError) as problem:
        parser.error(str(problem))
