"""Write a compiled program as a Python module that needs NumPy alone, with its weights in an .npz beside it."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import textwrap
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from minigrad.engine import array_of, name_of
from minigrad.files import save_arrays

LOAD = """
with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as file:
    weights = dict(file)
"""

MAIN = '''

def predict(*inputs):
    """What the function returns for arrays of these shapes and dtypes: {inputs}."""
    given = [np.asarray(x, dtype) for x, (_, dtype) in zip(inputs, {kinds}, strict=True)]
    for x, (shape, _) in zip(given, {kinds}, strict=True):
        if x.shape != shape:
            raise ValueError(f"this program is for an input of shape {{shape}}, and got one of shape {{x.shape}}")
    with np.errstate({errors}):
        outputs, _, _ = forward(workspace(), *given, *(weights[name] for name in {parameters}))
    if any(outputs[{answers}:]):
        warnings.warn("a gradient is nan; if a branch is why that was not chosen, minigrad would have found 0")
    return outputs[0] if {answers} == 1 else outputs[:{answers}]


if __name__ == "__main__":
    if len(sys.argv) != {count}:
        sys.exit("usage: python {file} " + "{usage}")
    print(predict(*map(np.load, sys.argv[1:])))
'''


def save(path: str | os.PathLike[str], program: Any) -> None:
    """Write a `Specialization` as the module at `path`, a file name that ends in .py, and its weights."""
    path, count = Path(path), len(program.positions)
    inputs = [(name, x.shape, x.dtype) for name, x in zip(program.names[:count], program.values.inputs, strict=False)]
    parameters = {name: array_of(x) for name, x in zip(program.names[count:], program.closed, strict=True)}
    if path.suffix != ".py":
        raise ValueError(f"a program is saved as a Python module, such as net.py, and not as {path.name}")
    head, arrays = Embedded(), {}
    for name, thing in program.given.items():
        if isinstance(thing, (np.ndarray, np.generic)):
            arrays[name] = np.asarray(thing)
            head.lines.append(f'{name} = weights["{name}"]')
        else:
            head.add(name, thing)
    title, rest = program.source.split("import numpy as np\n", 1)
    imports = sorted({"import sys", "import warnings", "from pathlib import Path", *head.imports})
    kinds = [(shape, str(dtype)) for _, shape, dtype in inputs]
    main = MAIN.format(
        inputs=", ".join(f"{name} {dtype}{list(shape)}" for name, shape, dtype in inputs),
        kinds=kinds,
        answers=len(program.tracked) + len(program.others),
        errors='all="ignore"' if program.silent else "",
        parameters=list(parameters),
        count=len(inputs) + 1,
        file=path.name,
        usage=" ".join(f"{name}.npy" for name, _, _ in inputs),
    )
    comments = [f"# {name} is given" for name in program.given]
    body = "\n".join(line for line in rest.splitlines() if not line.startswith(tuple(comments))) + "\n"
    future = "from __future__ import annotations\n"
    top = [title.rstrip() + "\n", future, *imports, "", "import numpy as np", LOAD, *head.lines, ""]
    save_arrays(path.with_suffix(".npz"), {**parameters, **arrays})
    path.write_text("\n".join(top) + body + main, encoding="utf-8")


IMPORTED = {"numpy", *sys.stdlib_module_names}


class Embedded:
    """The sources of functions that are not NumPy's, with all that they call in turn."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.lines: list[str] = []
        self.names: set[str] = set()

    def add(self, name: str, thing: Any) -> None:
        """Define a global name as `thing`."""
        if name in self.names:
            return
        self.names.add(name)
        module, its_name = (getattr(thing, key, None) or "" for key in ("__module__", "__name__"))
        if isinstance(thing, ModuleType):
            self.imports.add(f"import {thing.__name__} as {name}" if thing.__name__ != name else f"import {name}")
        elif isinstance(thing, functools.partial) and not thing.keywords:
            self.imports.add("import functools")
            self.add(thing.func.__name__, thing.func)
            arguments = ", ".join(name_of(argument) for argument in thing.args)
            self.lines.append(f"\n{name} = functools.partial({thing.func.__name__}, {arguments})")
        elif module.partition(".")[0] in IMPORTED and getattr(sys.modules.get(module), its_name, None) is thing:
            self.imports.add(f"from {module} import {its_name}" + f" as {name}" * (name != its_name))
        elif isinstance(thing, float):
            self.lines.append(f'{name} = float("{thing!r}")')
        elif isinstance(thing, (int, str, tuple)):
            self.lines.append(f"{name} = {thing!r}")
        else:
            self.function(name, inspect.unwrap(thing) if callable(thing) else thing)

    def function(self, name: str, function: Any) -> None:
        if not isinstance(function, FunctionType) or function.__closure__ or function.__name__ == "<lambda>":
            raise ValueError(
                f"{name} cannot be written into a module: what a saved program calls are NumPy's functions, and "
                "functions made by def at the top of a file. Random layers must be in evaluation mode."
            )
        for used in _global_names(function.__code__):
            if used in function.__globals__:
                self.add(used, function.__globals__[used])
        try:
            lines = textwrap.dedent(inspect.getsource(function)).splitlines()
        except OSError as error:
            raise ValueError(f"{name} cannot be written into a module: its source is in no file") from error
        start = next(i for i, line in enumerate(lines) if line.startswith("def "))
        self.lines += ["", "", *lines[start:], ""]
        if function.__name__ != name:
            self.lines.append(f"{name} = {function.__name__}")


def _global_names(code: CodeType) -> list[str]:
    """The names that a function looks up, with those of the functions in it."""
    inner = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _global_names(constant)]
    return list(dict.fromkeys([*code.co_names, *inner]))
