"""The model card: a whole generated card, and every kind of issue that the lint must find."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.hub_fixtures import FACTS, REPORT
from huggingface_hub import ModelCard

from meddiffusers.hub.card import LICENCES, PIPELINE_TAGS, SECTIONS, Facts, card_issues, write_card

GOOD = str(write_card(FACTS, REPORT))
SHIPPED = [
    Path(str(file)) for file in resources.files("meddiffusers.model_cards").iterdir() if file.name.endswith(".yaml")
]


def section(title: str) -> re.Pattern[str]:
    return re.compile(rf"^## {title}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def test_the_whole_card() -> None:
    """After an intended change write the new card into card.md, and read it once as a newcomer would."""
    assert Path(__file__).with_name("card.md").read_text(encoding="utf-8") == GOOD


def test_the_card_gives_both_calls() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", GOOD, flags=re.DOTALL))
    assert (
        'import meddiffusers\nfrom diffusers import DiffusionPipeline\n\npipe = DiffusionPipeline.from_pretrained("'
        in code
    )
    arguments = ['"tester/tiny"', 'custom_pipeline="meddiffusers_attribute_vae_pipeline_v1"', "trust_remote_code=True"]
    assert "".join(f"    {argument},\n" for argument in arguments) in code
    compile(code, "card", "exec")


def test_a_good_card_has_no_issue(repositories: Path) -> None:
    assert card_issues(GOOD) == []
    assert card_issues(GOOD, repositories / "first") == []
    assert [title for title in SECTIONS if f"\n## {title}\n" not in GOOD] == []


def test_the_metrics_make_the_round_trip_through_the_model_index() -> None:
    data: Any = ModelCard(GOOD).data
    assert (data.model_name, data.license, data.pipeline_tag) == (FACTS.name, FACTS.licence, FACTS.pipeline_tag)
    assert (data.tags, data.datasets) == (["meddiffusers", "medical-imaging", "vae"], ["ylecun/mnist"])
    assert [(r.metric_name, r.metric_type, r.metric_value, r.dataset_name, r.task_type) for r in data.eval_results] == [
        ("SCC", "scc", 0.9512, "digits, held out", FACTS.pipeline_tag),
        ("Edit error (MAE), slant [rad]", "mae", 1.0625, "digits, held out", FACTS.pipeline_tag),
    ]


def test_what_a_run_does_not_say_is_left_out() -> None:
    one_seed = write_card(FACTS, replace(REPORT, run={"seed": 3, "hardware": "Some CPU"}, figures={})).text
    assert "Measured on Some CPU, seed 3; all" in one_seed
    assert "Training took" not in one_seed
    extractor = replace(REPORT, run={**REPORT.run, "extractor": "some network"})
    assert "seeds 7, 8, 9, with features of some network; all" in write_card(FACTS, extractor).text


@pytest.mark.parametrize("missing", ["seed", "hardware"])
def test_a_report_needs_its_seed_and_hardware(missing: str) -> None:
    run = {key: value for key, value in REPORT.run.items() if key != missing}
    with pytest.raises(ValueError, match=rf"The report's run lacks {missing}\. Start it from `run_facts\(seed\)`"):
        write_card(FACTS, replace(REPORT, run=run))


@pytest.mark.parametrize("title", SECTIONS)
def test_a_missing_section_is_found(title: str) -> None:
    text, count = section(title).subn("", GOOD)
    assert count == 1
    assert f"Section '{title}' is missing." in card_issues(text)


@pytest.mark.parametrize("title", SECTIONS)
def test_an_empty_section_is_found(title: str) -> None:
    text = section(title).sub(f"## {title}\n\n", GOOD)
    assert f"Section '{title}' is empty." in card_issues(text)


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        if old not in text:
            raise LookupError(f"{old!r} is not in the card")
        return text.replace(old, new)

    return change


ROW = "| SCC | 0.9512 | 0.94 to 0.96, 3 runs | 1000 | digits, held out | posterior means |"
HOLES = {
    "placeholder": (
        replaced("It has learned nothing.", "[More Information Needed]"),
        "hole: '[More Information Needed]'",
    ),
    "todo": (replaced("It has learned nothing.", "TODO: write"), "It has a hole: 'TODO'"),
    "tbd": (replaced("It has learned nothing.", "TBD"), "It has a hole: 'TBD'"),
    "template": (replaced("It has learned nothing.", "{{ facts.limitations }}"), "It has a hole: '{{'"),
    "none": (replaced("It has learned nothing.", "None"), "It has a hole: 'None'"),
    "nan": (replaced("| 0.9512 |", "| nan |"), "It has a hole: 'nan'"),
    "no licence": (replaced("license: apache-2.0\n", ""), "Metadata 'license' is missing."),
    "odd licence": (
        replaced("license: apache-2.0\n", "license: banana\n"),
        "license is 'banana', expected one of apache-2.0",
    ),
    "no library": (replaced("library_name: diffusers\n", ""), "Metadata 'library_name' is missing."),
    "no tags": (replaced("tags:\n- meddiffusers\n- medical-imaging\n- vae\n", ""), "Metadata 'tags' is missing."),
    "odd pipeline_tag": (
        replaced("pipeline_tag: unconditional-image-generation", "pipeline_tag: image-dreaming"),
        "pipeline_tag is 'image-dreaming', expected one of unconditional-image-generation, ",
    ),
    "no pipeline_tag": (
        replaced("pipeline_tag: unconditional-image-generation\n", ""),
        "pipeline_tag is None, expected",
    ),
    "no metrics": (
        lambda text: re.sub(r"^model-index:\n(?:[- ].*\n)+", "", text, flags=re.M),
        "'model-index' is missing",
    ),
    "row without N": (replaced(ROW, ROW.replace("| 1000 |", "|  |")), "Metric row 'SCC | 0.9512 | "),
    "row without spread": (
        replaced(ROW, ROW.replace("0.94 to 0.96, 3 runs", "")),
        "lacks one of: name, value, spread, N",
    ),
    "row without value": (replaced(ROW, ROW.replace("0.9512", "")), "lacks one of: name, value, spread, N, data."),
    "row without data": (
        replaced(ROW, ROW.replace("digits, held out", "")),
        "lacks one of: name, value, spread, N, data",
    ),
    "short row": (replaced(ROW, "| SCC | 0.9512 |"), "Metric row 'SCC | 0.9512' lacks one of"),
    "no table": (lambda text: re.sub(r"^\|.*\n", "", text, flags=re.M), "Section 'Evaluation' has no table"),
    "a device": (
        replaced("is not a medical device", "is a medical device"),
        "does not say that the model is not a medical",
    ),
    "no metadata": (lambda text: text.partition("---\n\n# ")[2], "Metadata 'license' is missing."),
    "broken metadata": (replaced("license: apache-2.0\n", "license: [\n"), "Its metadata cannot be read"),
}


@pytest.mark.parametrize("damage,message", HOLES.values(), ids=HOLES)
def test_a_hole_is_found(damage: Callable[[str], str], message: str) -> None:
    assert message in "\n".join(card_issues(damage(GOOD)))


def test_a_missing_image_is_found(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "1.png").touch()
    assert card_issues(GOOD, tmp_path) == ["Image figures/0.png is not in the repository."]


def facts_file(folder: Path, facts: dict[str, object]) -> Path:
    file = folder / "facts.yaml"
    file.write_text(yaml.safe_dump(facts), encoding="utf-8")
    return file


FIELDS = asdict(FACTS) | {"tags": ["vae"], "datasets": ["ylecun/mnist"]}


def test_facts_are_read(tmp_path: Path) -> None:
    assert asdict(Facts.read(facts_file(tmp_path, FIELDS))) == FIELDS
    optional = {key: value for key, value in FIELDS.items() if key not in ("tags", "datasets")}
    assert Facts.read(facts_file(tmp_path, optional)).tags == ()


@pytest.mark.parametrize(
    "change,message",
    [
        ({"limitations": None}, r"missing \['limitations'\], unknown nothing"),
        ({"limitations": ""}, r"missing \['limitations'\], unknown nothing"),
        (
            {"licence": ..., "license": "mit"},
            r"missing \['licence'\], unknown \['license'\]. Expected the fields \['base_model', 'cit",
        ),
        ({"colour": "red"}, r"facts\.yaml: missing nothing, unknown \['colour'\]"),
        ({"name": 3, "tags": "vae"}, r"facts\.yaml: name, tags must be text; tags and datasets are lists"),
    ],
)
def test_facts_with_gaps_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    facts = {key: value for key, value in (FIELDS | change).items() if value is not ...}
    with pytest.raises(ValueError, match=message):
        Facts.read(facts_file(tmp_path, facts))


def test_an_empty_file_holds_no_facts(tmp_path: Path) -> None:
    (tmp_path / "facts.yaml").touch()
    with pytest.raises(ValueError, match=r"missing \['citation', 'evaluation_command', 'example'"):
        Facts.read(tmp_path / "facts.yaml")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_facts_that_ship_make_a_good_card(file: Path) -> None:
    facts = Facts.read(file)
    assert facts.licence in LICENCES
    assert facts.pipeline_tag in PIPELINE_TAGS
    text = str(write_card(facts, REPORT))
    assert card_issues(text) == []
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        compile(code, file.name, "exec")


def test_there_are_facts_that_ship() -> None:
    assert "ar-vae-mnist" in [file.stem for file in SHIPPED]
