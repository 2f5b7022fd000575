"""The repositories that ship: sound, no holes in the card, code of today, weights that give the figures of the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from meddiffusers import PUBLIC
from meddiffusers.data.digits import digits
from meddiffusers.evaluation.report import Report
from meddiffusers.hub.card import card_faults
from meddiffusers.hub.faults import identifier_faults, repository_faults, weight_faults
from meddiffusers.hub.load import load

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.parent for path in (ROOT / "examples" / "checkpoints").glob("*/model_index.json"))


def published_sources() -> dict[str, str]:
    """{published file name: text} of every model, scheduler and pipeline of this package."""
    files = [*ROOT.glob("src/meddiffusers/*s/*.py"), *ROOT.glob("pipelines/*.py")]
    texts = [
        file.read_text(encoding="utf-8") for file in files if file.stem in {m.split(".")[-1] for m in PUBLIC.values()}
    ]
    return {text.split('PUBLISHED_AS = "')[1].split('"')[0] + ".py": text for text in texts}


def test_there_is_one() -> None:
    assert "ar-vae-mnist" in {folder.name for folder in SHIPPED}


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_it_is_sound_and_its_card_has_no_holes(folder: Path) -> None:
    assert repository_faults(folder) + weight_faults(folder) + identifier_faults(folder) == []
    assert card_faults((folder / "README.md").read_text(encoding="utf-8"), folder) == []


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_code_it_carries_is_the_code_of_this_package(folder: Path) -> None:
    sources = published_sources()
    carried = list(folder.rglob("*.py"))
    assert carried
    for file in carried:
        assert file.read_text(encoding="utf-8") == sources[file.name], f"copy the source over {file}"


def test_the_digits_model_gives_the_figure_of_its_card() -> None:
    folder = ROOT / "examples" / "checkpoints" / "ar-vae-mnist"
    test = torch.stack([torch.from_numpy(np.array(image)) for image in digits()["test"]["image"]])[:, None]
    rebuilt = load(folder).reconstruct(test, output_type="pt").images
    agreement = ((rebuilt >= 0.5) == (test >= 128)).double().mean().item()
    assert agreement == pytest.approx(Report.read(folder).value("pixel agreement"), abs=2e-4)
