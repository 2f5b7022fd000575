from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest

from meddiffusers.evaluation.results import Bar, Metric, metric_key, write_results
from meddiffusers.utils.atomic import write_json


@pytest.mark.parametrize(
    ("value", "op", "holds"),
    [
        (0.92, ">=", True),
        (0.9199, ">=", False),
        (0.92, "<=", True),
        (0.9201, "<=", False),
        (0.92, "==", True),
        (0.9201, "==", False),
        (math.inf, ">=", True),
        (-math.inf, ">=", False),
    ],
)
def test_a_bar_holds_up_to_its_bound(value: float, op: str, holds: bool) -> None:
    assert Bar("a", value, op, 0.92).holds is holds


@pytest.mark.parametrize("op", ["<=", ">=", "=="])
def test_nan_never_holds(op: str) -> None:
    assert Bar("a", math.nan, op, 0.5).holds is False
    assert Bar("a", 0.5, op, math.nan).holds is False


def test_a_bar_says_whether_it_holds() -> None:
    assert str(Bar("MIG", 0.3095, ">=", 0.25)) == "holds  MIG: 0.3095 >= 0.25"
    assert str(Bar("MIG", 0.2, ">=", 0.25)) == "FAILS  MIG: 0.2 >= 0.25"
    assert Bar("MIG", 0.2, ">=", 0.25).as_dict() == {
        "name": "MIG",
        "value": 0.2,
        "op": ">=",
        "bound": 0.25,
        "holds": False,
    }


def test_one_run_has_no_spread() -> None:
    metric = Metric.single("sap", "SAP", 0.6, "digits", 1000)
    assert (metric.low, metric.high, metric.spread, metric.note) == (0.6, 0.6, "one run", "")


def test_the_type_is_the_key_where_the_hub_has_none() -> None:
    assert Metric.single("sap", "SAP", 0.6, "digits", 1000).type == "sap"
    assert Metric.single("dice_whole", "Dice", 0.6, "digits", 1000, type="dice").type == "dice"


@pytest.mark.parametrize("key", ["", "Dice", "dice whole", "age-r", "1st", "größe"])
def test_a_key_is_in_snake_case(key: str) -> None:
    with pytest.raises(ValueError, match=r"expected snake case in ASCII"):
        Metric.single(key, "a", 0.6, "digits", 1000)


def test_keys_are_made_from_names() -> None:
    assert metric_key("dice", "whole", "", "under 150 mm²") == "dice_whole_under_150_mm2"
    assert metric_key("kid") == "kid"


def test_results_are_written_with_their_circumstances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars = [Bar("speed", 2500, ">=", 2000), Bar("error", 0.5, "<=", 0.1)]
    path = write_results("claim", bars, seed=3, n=1000, duration_s=1.26, folder=tmp_path / "new", method="median of 7")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert path == tmp_path / "new" / "claim.json"
    assert "cores, torch" in content.pop("hardware")
    assert content == {
        "name": "claim",
        "seed": 3,
        "n": 1000,
        "duration_s": 1.3,
        "method": "median of 7",
        "bars": [bar.as_dict() for bar in bars],
    }
    assert "FAILS  error: 0.5 <= 0.1" in capsys.readouterr().out


def test_a_disk_that_fills_up_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    def half(self: Path, text: str, encoding: str) -> int:
        self.write_bytes(text.encode(encoding)[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
