"""The notebook demos/tour.ipynb: what is stored in it is small and true, and it runs from the top."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

TOUR = Path(__file__).parents[2] / "demos" / "tour.ipynb"
CELLS = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]

EXECUTE = """
import nbclient, nbformat, sys
notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
where = {"metadata": {"path": sys.argv[2]}}
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
nbformat.write(notebook, sys.argv[3])
"""


def text(cell):
    return "".join(cell["source"])


def printed(cell):
    return "".join("".join(output.get("text", ())) for output in cell["outputs"])


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+|-?\d+\b", text)]


def test_it_has_about_twelve_short_steps_from_one_number_to_an_autograd_in_thirty_lines():
    titles = [line for cell in CELLS for line in text(cell).splitlines() if line.startswith("## ")]
    assert [title.split(".")[0] for title in titles] == [f"## {i}" for i in range(1, 13)]
    lengths = [sum(bool(line.strip()) for line in text(cell).splitlines()) for cell in CODE]
    assert max(lengths) <= 30
    assert np.median(lengths) <= 10


def test_its_outputs_are_stored_small_and_say_nothing_of_where_they_were_made():
    assert TOUR.stat().st_size < 150_000
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result"}
    assert {output["name"] for output in outputs if "name" in output} == {"stdout"}
    kinds = [kind for output in outputs for kind in output.get("data", ())]
    assert kinds.count("image/svg+xml") >= 6
    assert {"image/png", "text/html"} <= set(kinds)
    assert not re.search(r"/(home|tmp|root|usr|work)\b|0x[0-9a-f]{6}", json.dumps(outputs))


def test_its_cells_run_one_after_the_other_and_print_what_is_stored(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(TOUR.parent)
    namespace = {}
    for cell in CODE:
        with redirect_stdout(io.StringIO()) as output:
            exec(text(cell), namespace)
        now, then = output.getvalue(), printed(cell)
        if "largest difference" not in now:
            assert re.sub(r"[-\d. ]+", "", now) == re.sub(r"[-\d. ]+", "", then)
            np.testing.assert_allclose(numbers(now), numbers(then), atol=0.02)
    assert namespace["history"]["val_accuracy"][-1] > 0.9


def test_it_is_executed_as_a_notebook(tmp_path):
    for package in ("nbclient", "ipykernel", "matplotlib", "pygraphviz"):
        pytest.importorskip(package)
    command = [sys.executable, "-c", EXECUTE, TOUR, TOUR.parent, tmp_path / "tour.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    executed = json.loads((tmp_path / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    kinds = lambda cell: {kind for output in cell.get("outputs", ()) for kind in output.get("data", ["text"])}
    for then, now in zip(CELLS, executed, strict=True):
        assert kinds(now) == kinds(then)
