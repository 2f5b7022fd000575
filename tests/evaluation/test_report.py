from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric

FIGURES = {
    "Leakage, ±2σ": PIL.Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)),
    "A": PIL.Image.new("RGB", (2, 2), "red"),
}


def report(seed: int = 0, **values: float) -> Report:
    metrics = [Metric.single(key, key.upper(), value, "digits, held out", 1000) for key, value in values.items()]
    return Report(metrics, {"seed": seed, "hardware": "some"}, {"leakage": [[1.0, 0.5]]}, FIGURES)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    saved = report(mig=0.3, sap=0.6)
    assert saved.save(tmp_path / "new") == tmp_path / "new" / "metrics.json"
    read = Report.read(tmp_path / "new")
    assert (read.metrics, read.run, read.details) == (saved.metrics, saved.run, saved.details)
    assert list(read.figures) == list(FIGURES)
    for caption, image in FIGURES.items():
        np.testing.assert_array_equal(np.asarray(read.figures[caption]), np.asarray(image))


def test_a_report_may_be_saved_over_itself(tmp_path: Path) -> None:
    report(mig=0.3).save(tmp_path)
    Report.read(tmp_path).save(tmp_path)
    assert Report.read(tmp_path).figures["A"].getpixel((0, 0)) == (255, 0, 0)


def test_the_json_comes_last(tmp_path: Path) -> None:
    class Broken(PIL.Image.Image):
        def save(self, *args: object, **kwargs: object) -> None:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace(report(mig=0.3), figures={"broken": Broken()}).save(tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_the_spread_is_that_over_the_runs() -> None:
    first, *others = report(0, mig=0.30, sap=0.6), report(1, mig=0.25, sap=0.6), report(2, mig=0.35, sap=0.6)
    spread = first.with_spread(others)
    mig, sap = spread.metrics
    assert (mig.value, mig.low, mig.high, mig.spread) == (0.30, 0.25, 0.35, "3 runs, mean 0.3")
    assert (sap.low, sap.high) == (0.6, 0.6)
    assert spread.run["seeds"] == [0, 1, 2]
    assert spread.details["per_run"] == {"mig": [0.30, 0.25, 0.35], "sap": [0.6, 0.6, 0.6]}
    assert spread.details["leakage"] == first.details["leakage"]
    assert spread.figures == first.figures


def test_a_metric_that_some_runs_lack_counts_those_that_have_it() -> None:
    spread = report(0, mig=0.3, sap=0.6).with_spread([report(1, mig=0.4)])
    assert [metric.spread for metric in spread.metrics] == ["2 runs, mean 0.35", "1 runs, mean 0.6"]
    assert spread.details["per_run"]["sap"] == [0.6]


def test_one_run_stays_as_it_is() -> None:
    alone = report(mig=0.3)
    assert alone.with_spread([]) is alone


def test_metrics_are_found_by_key() -> None:
    assert report(mig=0.3, sap=0.6).value("sap") == 0.6
    with pytest.raises(KeyError, match=r"No metric 'scc' in the report\. It has: mig, sap"):
        report(mig=0.3, sap=0.6).value("scc")


def test_a_key_occurs_once() -> None:
    metric = Metric.single("mig", "MIG", 0.3, "digits", 10)
    with pytest.raises(ValueError, match="keys mig occur more than once"):
        Report([metric, metric], {})


def test_a_folder_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No metrics\.json in .*\. Evaluate the model first"):
        Report.read(tmp_path)
