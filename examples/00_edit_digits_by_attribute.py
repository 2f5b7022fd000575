"""Open the shipped AR-VAE and edit real digits by measured attributes.

    python examples/00_edit_digits_by_attribute.py

Writes edited_digits.png and prints what was asked for beside what the decoded images measure.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import DiffusionPipeline

import meddiffusers  # noqa: F401  (lets diffusers find the classes)
from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.datasets.digits import digits
from meddiffusers.evaluation.figures.panels import panel

CHECKPOINT = Path(__file__).parent / "checkpoints" / "ar-vae-mnist"


def main() -> None:
    """Encode eight digits, make them thick and upright, measure them again."""
    pipe = DiffusionPipeline.from_pretrained(CHECKPOINT)
    images = digits()["test"][::125]["image"]

    asked = {"thickness": 3.0, "slant": 0.0}
    edited = pipe.edit(images, asked, output_type="np").images
    measured = dict(zip(DIGIT_ATTRIBUTES, measure_digits(edited[..., 0]).mean(axis=0), strict=True))
    for name, value in asked.items():
        print(f"{name}: asked for {value:.2f} {DIGIT_ATTRIBUTES[name]}, measured {measured[name]:.2f} on average")

    originals = pipe.preprocess(images).permute(0, 2, 3, 1).numpy()
    panel({"digit": list(originals), "thick, upright": list(edited)}).save("edited_digits.png")
    print("The panel is edited_digits.png")


if __name__ == "__main__":
    main()
