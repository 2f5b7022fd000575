"""Benchmarks: a missed bar fails, a failure does not stop the others, and no script is left out."""

from __future__ import annotations

import ast
import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import pytest

from meddiffusers.evaluation.results import Bar

FOLDER = Path(__file__).parents[1] / "benchmarks"
HELD, MISSED = Bar("speed", 3.0, ">=", 2), Bar("error", 0.5, "<=", 0.1)


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


def imported_by(script: Path) -> set[str]:
    """Names of the benchmark modules that a script imports."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None}


@pytest.mark.parametrize(("bars", "status"), [([HELD], 0), ([HELD, MISSED], 1), ([], 0)])
def test_a_missed_bar_fails(bars: list[Bar], status: int, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        module("parts", monkeypatch).exit_with(bars)
    assert end.value.code == status
    assert ("1 of 2 bars missed:\n  FAILS  error: 0.5 <= 0.1" in capsys.readouterr().out) == bool(status)


def test_all_run_after_a_failure_and_missed_bars_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_all = module("run_all", monkeypatch)
    (tmp_path / "results").mkdir()
    earlier = tmp_path / "results" / "earlier.json"
    earlier.write_text(json.dumps({"bars": [Bar("old", 1.0, "<=", 0).as_dict()]}), encoding="utf-8")
    os.utime(earlier, (0, 0))
    content = json.dumps({"bars": [HELD.as_dict(), MISSED.as_dict()]})
    results = f"open({str(tmp_path / 'results' / 'one.json')!r}, 'w').write({content!r})"
    (tmp_path / "one.py").write_text(f"{results}\nraise SystemExit(1)\n", encoding="utf-8")
    (tmp_path / "two.py").write_text("print('two ran')\n", encoding="utf-8")
    monkeypatch.setattr(run_all, "FOLDER", tmp_path)
    monkeypatch.setattr(run_all, "SCRIPTS", ("one", "two"))
    monkeypatch.setattr("sys.argv", ["run_all.py"])
    with pytest.raises(SystemExit) as end:
        run_all.main()
    output = capfd.readouterr().out
    assert end.value.code == 1
    assert "two ran" in output and "Failed: one. Bars missed:\n  one: error: 0.5 <= 0.1\n" in output
    assert "old" not in output


def test_the_generators_that_judge_are_used_by_benchmarks_only() -> None:
    root = FOLDER.parent
    sources = [*root.glob("src/**/*.py"), *root.glob("training/*.py"), *root.glob("pipelines/*.py")]
    assert len(sources) > 100
    for path in sources:
        assert not imported_by(path) & {"spline_heart", "ellipse_heart"}, path
    users = {path.stem for path in FOLDER.glob("*.py") if imported_by(path) & {"spline_heart", "ellipse_heart"}}
    assert users == {"cardiac_hearts"}


def test_every_script_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run_all = module("run_all", monkeypatch)
    used = {"run_all", *run_all.SCRIPTS, *run_all.TRAINING}
    scripts = {path.stem: path for path in FOLDER.glob("*.py")}
    assert used <= set(scripts)
    while more := {name for script in used for name in imported_by(scripts[script]) & set(scripts)} - used:
        used |= more
    assert used == set(scripts)
