"""The figure at the top of README: one column per system, what goes in above what comes out.

    python docs/hero_figure.py

All inputs are phantoms or MNIST digits, as the shipped models were trained on these.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from meddiffusers.data.phantoms.brain.demographics import typical_demographics
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.cardiac import CardiacPhantom, corrupt_sequence
from meddiffusers.data.phantoms.cardiac.phantom import SPACING
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.prompts import write_prompt
from meddiffusers.datasets.captioned_slices import facts_of, phantom_captioned_slices
from meddiffusers.datasets.digits import digits
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, label_ids, normalise_to_int16
from meddiffusers.demo.outlines import outlined
from meddiffusers.evaluation.figures.panels import to_image
from meddiffusers.hub.load import load

ROOT = Path(__file__).parents[1]
LARGE_TUMOUR, SMALL_TUMOUR, DIFFICULTY, PROMPT_SEED = 7, 23, 0.2, 9001
LABEL_COLOURS = np.array([(0, 0, 0), (214, 96, 77), (146, 197, 222), (253, 219, 199)]) / 255
Column = tuple[str, np.ndarray, str, np.ndarray, str]  # title, input and its caption, output and its caption


def pipeline(name: str) -> Any:
    """A shipped pipeline, without its progress bar."""
    loaded = load(ROOT / "examples" / "checkpoints" / name)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def tumour(seed: int, size: int, modalities: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Channels (C, H, W) in [0, 1] and lesion labels (H, W) of a phantom's slice."""
    brain = BrainPhantom(seed, lesion="tumour", difficulty=DIFFICULTY)
    subject = brain.slice(float(np.median(brain.lesion_heights())), size, modalities)
    if subject.lesions is None:
        raise ValueError(f"Phantom {seed} has no tumour; choose another seed.")
    channels = np.concatenate([slices(image).array[0] for image in subject.images.values()])
    return normalise_to_int16(channels).astype(np.float32) / INTENSITY_SCALE, slices(subject.lesions).array[0, 0]


def digit() -> Column:
    pipe, image = pipeline("ar-vae-mnist"), digits()["test"]["image"][7]
    thick = pipe.edit(image, {"thickness": 3.2}, output_type="np")
    return (
        "Edit by attribute",
        np.asarray(image) / 255,
        "digit",
        np.asarray(getattr(thick, "images", thick)).squeeze(),
        "thicker",
    )


def heart() -> Column:
    pipe, phantom = pipeline("ar-vae-cardiac"), CardiacPhantom(300_041)
    frames, _ = corrupt_sequence(phantom.labels(phantom.phases(25)), SPACING, 3, 0.2)
    repaired = pipe(frames, SPACING, cyclic=True).labels
    worst = int((frames != repaired).sum(axis=(1, 2)).argmax())
    return (
        "Repair a cardiac cycle",
        LABEL_COLOURS[frames[worst]],
        "segmented",
        LABEL_COLOURS[repaired[worst]],
        "repaired",
    )


def segmentation() -> Column:
    pipe = pipeline("seg-ddpm-brain")
    channels, _ = tumour(LARGE_TUMOUR, pipe.unet.config["sample_size"], pipe.modalities)
    mask = pipe(torch.from_numpy(channels), generator=torch.Generator().manual_seed(0)).mask[0]
    flair = channels[pipe.modalities.index("flair")]
    return "Segment", flair, "FLAIR, T1, T1ce, T2", outlined(flair, [mask > 0, mask == 3]), "tumour, enhancing"


def anomaly() -> Column:
    pipe = pipeline("anomaly-ddim-brain")
    channels, _ = tumour(SMALL_TUMOUR, pipe.unet.config["sample_size"], pipe.modalities)
    result = pipe(torch.from_numpy(channels), num_inference_steps=50)
    flair = pipe.modalities.index("flair")
    shown = np.clip(result.anomaly_map[0] / np.percentile(result.anomaly_map[0], 99.8), 0, 1)
    return "Detect anomalies", channels[flair], "FLAIR, T1, T1ce, T2", shown, "anomaly map"


def text() -> Column:
    pipe = pipeline("text-to-mr-brain")
    size = pipe.vae_scale_factor * pipe.unet.config["sample_size"]
    row = phantom_captioned_slices(1, PROMPT_SEED, size=size, modalities=["t1"], heights=(12.0, 12.0))[0]
    prompt = write_prompt(facts_of(row))
    noise = [torch.Generator().manual_seed(0) for _ in range(2)]
    t1, t2 = pipe(
        [prompt, prompt.replace("T1", "T2")], generator=noise, num_inference_steps=20, output_type="np"
    ).images[..., 0]
    return "Text to MR", t1, "“T1-weighted …”", t2, "“T2-weighted …”"


def volume() -> Column:
    names = ("age", "sex", "brain_volume_ml", "ventricular_volume_ml")
    covariates = [{name: getattr(typical_demographics(age, "F"), name) for name in names} for age in (30.0, 85.0)]
    noise = [torch.Generator().manual_seed(1) for _ in covariates]
    pipe = pipeline("ldm-brain-3d")
    young, old = pipe(covariates=covariates, generator=noise, num_inference_steps=20, output_type="np").images[..., 0]
    middle = young.shape[2] // 2 + 2
    return "Brain volumes", young[:, ::-1, middle].T, "woman, 30", old[:, ::-1, middle].T, "woman, 85"


def labelled() -> Column:
    pipe = pipeline("ldm-brain-mask-2d")
    size = pipe.vae_scale_factor * int(np.max(pipe.unet.config["sample_size"]))
    _, lesions = tumour(LARGE_TUMOUR, size, ("t1",))
    mask = label_ids(lesions, list(pipe.unet.mask_labels.values()))
    noise = torch.Generator().manual_seed(0)
    image = pipe(1, mask=mask, generator=noise, num_inference_steps=20, output_type="np").images[0]
    return "Labelled slices", LABEL_COLOURS[mask], "label map", image[..., pipe.modalities.index("flair")], "FLAIR"


SYSTEMS: list[Callable[[], Column]] = [digit, heart, segmentation, anomaly, text, volume, labelled]


def main() -> None:
    """Run every system once and draw the figure."""
    figure = Figure(figsize=(12.6, 4.15), dpi=110)
    axes = figure.subplots(2, len(SYSTEMS))
    for column, system in enumerate(SYSTEMS):
        title, above, what, below, became = system()
        axes[0, column].set_title(title, fontsize=10.5, weight="bold")
        for axis, image, caption in ((axes[0, column], above, what), (axes[1, column], below, became)):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xlabel(caption, fontsize=10, labelpad=3)
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
    figure.tight_layout(pad=0.4, w_pad=0.3, h_pad=0.6)
    folder = ROOT / "docs" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    to_image(figure).save(folder / "hero.png", optimize=True)
    print(f"The figure is {folder / 'hero.png'}")


if __name__ == "__main__":
    main()
