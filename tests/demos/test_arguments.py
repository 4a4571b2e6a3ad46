"""Arguments that make no sense: one sentence, and nothing is done."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

DEMOS = Path(__file__).parents[2] / "demos"
WRONG = [
    ("mnist", "--epochs", "-2"),
    ("mnist", "--seed", "-1"),
    ("xor", "--epochs", "-1"),
    ("xor", "--seed", "-1"),
    ("ten_points", "--seed", "-3"),
    ("custom_model", "--epochs", "-1"),
    ("custom_model", "--seed", "-1"),
    ("characters", "--steps", "0"),
    ("characters", "--seed", "-1"),
    ("compiled", "--steps", "0"),
    ("compiled", "--seed", "-1"),
    ("compiled", "--rate", "-0.5"),
    ("backprop_by_hand", "--rate", "nan"),
]


@pytest.mark.parametrize(("name", "option", "value"), WRONG)
def test_what_makes_no_sense_is_one_sentence(name, option, value, monkeypatch, capsys, tmp_path: Any) -> None:
    pictures = [] if name in ("characters", "compiled", "backprop_by_hand") else ["--pictures", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", option, value, *pictures])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(DEMOS / f"{name}.py"), run_name="__main__")
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert value in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith(f"{name}.py: error: ")
    assert list(tmp_path.iterdir()) == []
