"""The repositories that ship: sound, no holes in the card, code of today, weights that give the metrics of the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from meddiffusers import PUBLIC, SliceAttributePredictor
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.prompts import SliceFacts, write_prompt
from meddiffusers.data.regions import LATERAL_VENTRICLES
from meddiffusers.data.scan import stack_channels
from meddiffusers.datasets.digits import digits
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, normalise_to_int16
from meddiffusers.evaluation.generation.run import generate_slices, generate_volumes
from meddiffusers.evaluation.generation.volume_attributes import CovariateEstimator, measure_volumes
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.text_to_mr.prompt_adherence import predict_attributes
from meddiffusers.evaluation.text_to_mr.run import generate_from_prompts
from meddiffusers.hub.card import Facts, card_issues, write_card
from meddiffusers.hub.checks import adapter_issues, identifier_issues, repository_issues, weight_issues
from meddiffusers.hub.load import load

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / "examples" / "checkpoints"
SHIPPED = sorted(path.parent for path in CHECKPOINTS.glob("*/model_index.json"))


def published_sources() -> dict[str, str]:
    """{published file name: text} of every model, scheduler and pipeline of this package, and what they share."""
    files = [*ROOT.glob("src/meddiffusers/*s/*.py"), *ROOT.glob("pipelines/*.py")]
    stems = {module.split(".")[-1] for module in PUBLIC.values()}
    texts = [
        file.read_text(encoding="utf-8")
        for file in files
        if file.stem in stems or file.stem.startswith("meddiffusers_")
    ]
    return {text.split('PUBLISHED_AS = "')[1].split('"')[0] + ".py": text for text in texts}


def test_all_repositories_ship() -> None:
    expected = {"anomaly-ddim-brain", "ar-vae-cardiac", "ar-vae-mnist", "seg-ddpm-brain", "text-to-mr-brain"}
    assert expected | {"ldm-brain-3d", "ldm-brain-mask-2d"} <= {folder.name for folder in SHIPPED}


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_it_is_sound_and_its_card_has_no_holes(folder: Path) -> None:
    assert repository_issues(folder) + weight_issues(folder) + identifier_issues(folder) == []
    assert card_issues((folder / "README.md").read_text(encoding="utf-8"), folder) == []


@pytest.mark.parametrize("folder", [*SHIPPED, CHECKPOINTS / "lora-lowfield"], ids=lambda folder: folder.name)
def test_its_card_is_written_from_its_facts_and_metrics(folder: Path) -> None:
    facts = Facts.read(ROOT / "model_cards" / f"{folder.name}.yaml")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == str(write_card(facts, Report.read(folder))), f"write the card of {folder.name} again by write_card"


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_code_it_carries_is_the_code_of_this_package(folder: Path) -> None:
    sources = published_sources()
    carried = list(folder.rglob("*.py"))
    assert carried
    for file in carried:
        assert file.read_text(encoding="utf-8") == sources[file.name], f"copy the source over {file}"


@pytest.mark.slow
def test_the_adapter_is_sound_and_changes_the_images_of_its_base() -> None:
    folder = CHECKPOINTS / "lora-lowfield"
    assert adapter_issues(folder) + weight_issues(folder) + identifier_issues(folder) == []
    assert card_issues((folder / "README.md").read_text(encoding="utf-8"), folder) == []
    pipeline = load(CHECKPOINTS / "text-to-mr-brain")
    pipeline.set_progress_bar_config(disable=True)
    plain = generate_from_prompts(pipeline, ["Axial T1-weighted image of the brain."], num_inference_steps=2)
    pipeline.load_lora_weights(folder)
    assert (
        abs(
            generate_from_prompts(pipeline, ["Axial T1-weighted image of the brain."], num_inference_steps=2) - plain
        ).max()
        > 0.05
    )


@pytest.mark.slow
def test_the_text_model_follows_contrast_and_ventricular_volume() -> None:
    pipeline = load(CHECKPOINTS / "text-to-mr-brain")
    pipeline.set_progress_bar_config(disable=True)
    predictor = SliceAttributePredictor.from_pretrained(CHECKPOINTS / "attribute-predictor-brain").eval()
    assert (CHECKPOINTS / "attribute-predictor-brain" / "meddiffusers_slice_attribute_predictor_v1.py").read_text() == (
        ROOT / "src" / "meddiffusers" / "models" / "slice_attribute_predictor.py"
    ).read_text()
    volumes = {2: 3474, 41: 3483, 3: 3793, 42: 3751, 24: 1075, 10: 352, 49: 361, 14: 70, 11: 84, 50: 84}
    targets = [
        SliceFacts(name, "M", 79, number=82, voxel=(2.167, 2.167, 1.0), volumes={**volumes, 4: half, 43: half})
        for name in ("t1", "t2", "flair")
        for half in (150, 1200)
    ]
    predicted = predict_attributes(
        predictor, generate_from_prompts(pipeline, [write_prompt(facts) for facts in targets], num_inference_steps=10)
    )
    assert predicted.modalities == [facts.modality for facts in targets]
    result = np.isin(predicted.labels, LATERAL_VENTRICLES).sum(axis=(1, 2))
    assert (result[1::2] > 1.1 * result[::2]).all()  # one volume changed alone is followed, though not all the way


@pytest.mark.slow
def test_the_volume_model_follows_the_ventricular_volume() -> None:
    pipeline = load(CHECKPOINTS / "ldm-brain-3d")
    pipeline.set_progress_bar_config(disable=True)
    predictor = SliceAttributePredictor.from_pretrained(CHECKPOINTS / "attribute-predictor-brain").eval()
    targets = [15.0, 45.0]
    person = {"age": 60.0, "sex": "F", "brain_volume_ml": 1220.0}
    covariates = [{**person, "ventricular_volume_ml": ml} for ml in targets]
    measured = measure_volumes(predictor, generate_volumes(pipeline, covariates, num_inference_steps=20)[:, 0], 2.0)
    assert CovariateEstimator("ventricular_volume_ml", measured, ())(measured) == pytest.approx(targets, abs=10)
    assert measured.tissue == pytest.approx([1220, 1220], rel=0.1)


@pytest.mark.slow
def test_the_label_map_model_places_the_tumour() -> None:
    pipeline, segmenter = load(CHECKPOINTS / "ldm-brain-mask-2d"), load(CHECKPOINTS / "seg-ddpm-brain")
    for each in (pipeline, segmenter):
        each.set_progress_bar_config(disable=True)
    left = np.zeros((96, 96), np.int64)
    left[40:58, 28:44], left[45:53, 32:40] = 2, 3
    masks = np.stack([left, left[:, ::-1], np.zeros_like(left)])
    images = torch.from_numpy(generate_slices(pipeline, masks, num_inference_steps=20))
    result = segmenter(images, generator=torch.Generator().manual_seed(0)).mask > 0
    for mask, other in ((0, 1), (1, 0)):
        assert 2 * (result[mask] & (masks[mask] > 0)).sum() > 0.6 * (result[mask].sum() + (masks[mask] > 0).sum())
        assert not (result[mask] & (masks[other] > 0)).sum() > 20
    assert result[2].sum() < 20


@pytest.mark.slow
def test_the_digits_model_gives_the_metric_of_its_card() -> None:
    folder = ROOT / "examples" / "checkpoints" / "ar-vae-mnist"
    test = torch.stack([torch.from_numpy(np.array(image)) for image in digits()["test"]["image"]])[:, None]
    rebuilt = load(folder).reconstruct(test, output_type="pt").images
    agreement = ((rebuilt >= 0.5) == (test >= 128)).double().mean().item()
    assert agreement == pytest.approx(Report.read(folder).value("pixel_agreement"), abs=2e-4)


@pytest.mark.slow
def test_the_segmentation_model_finds_a_plain_tumour_and_nothing_where_there_is_none() -> None:
    pipeline = load(ROOT / "examples" / "checkpoints" / "seg-ddpm-brain")
    pipeline.set_progress_bar_config(disable=True)
    for lesion in ("tumour", None):
        subject = BrainPhantom(3, lesion=lesion, difficulty=0.2).volume((1.5, 1.5, 12.0))
        scan = stack_channels(list(subject.images.values()))
        result = pipeline(scan, num_inference_steps=2, ensemble_size=1, generator=torch.Generator().manual_seed(0)).mask
        mask, truth = result.array > 0, subject.lesions.array > 0 if lesion else np.zeros(result.array.shape, bool)
        if lesion:
            assert 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum()) > 0.8
        else:
            assert not mask.any()


@pytest.mark.slow
def test_the_anomaly_model_finds_plain_tumours_without_training_outlines() -> None:
    pipeline = load(ROOT / "examples" / "checkpoints" / "anomaly-ddim-brain")
    pipeline.set_progress_bar_config(disable=True)
    scores: dict[str | None, list[float]] = {"tumour": [], None: []}
    inside, outside = [], []
    for seed in (0, 1, 4):
        for lesion in scores:
            brain = BrainPhantom(seed, lesion=lesion, difficulty=0.2)
            height = float(np.median(brain.lesion_heights())) if lesion else 15.0
            subject = brain.slice(height, pipeline.unet.config["sample_size"], pipeline.modalities)
            channels = normalise_to_int16(np.concatenate([slices(image).array[0] for image in subject.images.values()]))
            result = pipeline(torch.from_numpy(channels.astype(np.float32) / INTENSITY_SCALE), num_inference_steps=1)
            scores[lesion] += result.score.tolist()
            if lesion:
                truth, head = slices(subject.lesions).array[0, 0] > 0, channels.max(axis=0) > 0
                inside.append(result.anomaly_map[0][truth])
                outside.append(result.anomaly_map[0][head & ~truth])
    auroc = (np.concatenate(inside)[:, None] > np.concatenate(outside)).mean()
    assert auroc > 0.95
    assert min(scores["tumour"]) > 2 * max(scores[None])
