"""Arguments that make no sense: one sentence, and nothing is done."""

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
def test_what_makes_no_sense_is_one_sentence(name, option, value, start, tmp_path: Any) -> None:
    pictures = [] if name in ("characters", "compiled", "backprop_by_hand") else ["--pictures", str(tmp_path)]
    code, _, err = start(name, option, value, *pictures)
    assert code == 2
    assert value in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith(f"{name}.py: error: ")
    assert list(tmp_path.iterdir()) == []
