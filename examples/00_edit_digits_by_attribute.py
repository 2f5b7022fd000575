"""Edit handwritten digits by measured attributes with the shipped AR-VAE.

    python examples/00_edit_digits_by_attribute.py

Writes edited_digits.png and prints the target attributes beside those measured in the edited images.
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
    """Make eight digits thick and upright, and measure the result."""
    pipe = DiffusionPipeline.from_pretrained(CHECKPOINT)
    images = digits()["test"][::125]["image"]

    targets = {"thickness": 3.0, "slant": 0.0}
    edited = pipe.edit(images, targets, output_type="np").images
    measured = dict(zip(DIGIT_ATTRIBUTES, measure_digits(edited[..., 0]).mean(axis=0), strict=True))
    for name, value in targets.items():
        print(f"{name}: target {value:.2f} {DIGIT_ATTRIBUTES[name]}, measured mean {measured[name]:.2f}")

    originals = pipe.preprocess(images).permute(0, 2, 3, 1).numpy()
    panel({"digit": list(originals), "thick, upright": list(edited)}).save("edited_digits.png")
    print("Saved edited_digits.png")


if __name__ == "__main__":
    main()
