"""What is inside of a model while it is trained: how large its weights, gradients and activations are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.engine import no_grad, numbers_of
from minigrad.nn.module import in_mode
from minigrad.state import named_parameters
from minigrad.summary import outputs_noted
from minigrad.training.history import Training, drawn


class Watch:
    """A callback that notes after each epoch how large weights, gradients and, for the samples `x`, activations are.

    What is noted is the root mean square, so that layers of different sizes can be compared: gradients that vanish or
    explode show as curves that part, layer by layer. `.norms` holds, for "weight", "gradient" and "activation", a list
    by name with one number for each epoch; `.plot()` draws them.

    >>> from minigrad import fit, nn, optim
    >>> model, x = nn.Sequential(nn.Linear(1, 1), nn.tanh), np.ones((4, 1), np.float32)
    >>> sgd, watched = optim.SGD(model.parameters(), lr=0.1), watch(x)
    >>> history = fit(model, nn.mse_loss, sgd, (x, x), epochs=3, progress=False, callbacks=[watched])
    >>> [(what, *curves) for what, curves in watched.norms.items()]
    [('weight', '0.weight', '0.bias'), ('gradient', '0.weight', '0.bias'), ('activation', '0 Linear(1, 1)', '1 tanh')]
    """

    def __init__(self, x: Any = None) -> None:
        self.x, self.norms = x, dict[str, dict[str, list[float]]]()

    def __call__(self, training: Training) -> None:
        for name, parameter in named_parameters(training.trained()):
            self.note("weight", name, parameter.data)
            if parameter.requires_grad:
                self.note("gradient", name, np.nan if parameter.grad is None else parameter.grad)
        if self.x is None:
            return
        with in_mode(training.model, training=False), no_grad(), outputs_noted() as notes:
            training.model(self.x)
        before = None
        for i, (layer, output, _) in enumerate(notes.rows):
            if output is not before:  # a layer around others gives what the last of them gave
                name = getattr(layer, "__name__", None) or repr(layer).partition("(\n")[0]
                self.note("activation", f"{i} {name}", numbers_of(output))
            before = output

    def note(self, what: str, name: str, array: Any) -> None:
        """Note how large the numbers of an array are."""
        norm = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
        self.norms.setdefault(what, {}).setdefault(name, []).append(norm)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw a panel for each kind of norms, into a picture if there is a path; returns the figure."""
        titles = {"weight": "Weights", "gradient": "Gradients of the last step", "activation": "Activations"}
        panels = {titles[what]: curves for what, curves in self.norms.items()}
        return drawn(panels, "watch", path, y="root mean square", log=True)

    def state_dict(self) -> dict[str, Any]:
        return {f"{what}/{name}": norms for what, curves in self.norms.items() for name, norms in curves.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.norms = {}
        for key, norms in state.items():
            what, _, name = key.partition("/")
            self.norms.setdefault(what, {})[name] = np.asarray(norms).tolist()


watch = Watch  # which reads as what it does, in a list of callbacks
