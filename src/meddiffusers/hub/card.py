"""Write model cards from facts and measured metrics, and check them for missing parts.

Facts are a YAML file in `model_cards/`; metrics are those of the evaluation (`metrics.json`). No number is typed by
hand: the table of the card and its `model-index` both come from the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from meddiffusers.evaluation.report import Report
from meddiffusers.utils.reading import parse_yaml, read_yaml

SECTIONS = (
    "How to use",
    "Intended use",
    "Training data",
    "Training procedure",
    "Evaluation",
    "Limitations and bias",
    "Licence",
    "Citation",
)
PIPELINE_TAGS = ("unconditional-image-generation", "image-to-image", "text-to-image", "image-segmentation", "other")
LICENCES = (
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
    "openrail", "creativeml-openrail-m", "other",
)  # fmt: skip
NOT_A_DEVICE = "not a medical device"
_HOLES = re.compile(r"\[More Information Needed\]|\{\{|\}\}|\bTODO\b|\bTBD\b|\bnan\b|\bNone\b(?! \w)")


@dataclass(frozen=True)
class Facts:
    """What a card says besides metrics; the fields of `model_cards/*.yaml`.

    Args:
        name: Title of the card.
        repo_id: Repository on the Hub.
        pipeline_class: Class of the pipeline.
        pipeline_stem: Stem of the pipeline's published file, for `custom_pipeline`.
        pipeline_tag: Task tag of the Hub, one of `PIPELINE_TAGS`.
        licence: Licence of weights and code, one of `LICENCES`.
        summary: What the model does, in a few sentences.
        example: Python code that uses `pipe`.
        intended_use: Uses in and out of scope.
        training_data: Description of the data.
        training_data_licence: Licence of the data.
        training_procedure: Losses, optimiser and published weights.
        training_command: Shell commands that train the model.
        evaluation_command: Shell command that measures the metrics.
        limitations: Markdown list.
        citation: Markdown with BibTeX.
        tags: Further tags of the Hub.
        datasets: Data sets on the Hub.
        base_model: Repository of the base model, if the repository holds only an adapter.
    """

    name: str
    repo_id: str
    pipeline_class: str
    pipeline_stem: str
    pipeline_tag: str
    licence: str
    summary: str
    example: str
    intended_use: str
    training_data: str
    training_data_licence: str
    training_procedure: str
    training_command: str
    evaluation_command: str
    limitations: str
    citation: str
    tags: Sequence[str] = ()
    datasets: Sequence[str] = ()
    base_model: str = ""

    @classmethod
    def read(cls, path: Path) -> Facts:
        """Read the facts in a YAML file.

        Raises:
            ValueError: A field is missing, empty, unknown or not text.
        """
        content = read_yaml(path) or {}
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds a {type(content).__name__}; expected lines of 'name: value'.")
        fields = set(cls.__dataclass_fields__)
        required = fields - {"tags", "datasets", "base_model"}
        missing = required - {name for name, value in content.items() if value}
        unknown = {str(name) for name in content} - fields
        if missing or unknown:
            raise ValueError(
                f"{path}: missing {sorted(missing) or 'nothing'}, unknown {sorted(unknown) or 'nothing'}. "
                f"Expected the fields {sorted(fields)}."
            )
        kinds = dict.fromkeys(fields, str) | {"tags": list, "datasets": list}
        if wrong := sorted(name for name, value in content.items() if not isinstance(value, kinds[name])):
            raise ValueError(f"{path}: {', '.join(wrong)} must be text; tags and datasets are lists of it.")
        return cls(**content)


def write_card(facts: Facts, report: Report) -> ModelCard:
    """Write the card of a repository that holds the report's files.

    Raises:
        ValueError: The report lacks the seed or the hardware of its run.
    """
    if missing := {"seed", "hardware"} - report.run.keys():
        raise ValueError(f"The report's run lacks {', '.join(sorted(missing))}. Start it from `run_facts(seed)`.")
    data = ModelCardData(
        model_name=facts.name,
        license=facts.licence,
        library_name="diffusers",
        pipeline_tag=facts.pipeline_tag,
        tags=["meddiffusers", "medical-imaging", *(["lora"] if facts.base_model else []), *facts.tags],
        base_model=facts.base_model or None,
        datasets=list(facts.datasets) or None,
        eval_results=[
            EvalResult(
                task_type=facts.pipeline_tag,
                dataset_type=metric.dataset,
                dataset_name=metric.dataset,
                metric_type=metric.type,
                metric_name=metric.name,
                metric_value=round(metric.value, 4),
            )
            for metric in report.metrics
        ],
    )
    template = resources.files("meddiffusers.model_cards").joinpath("template.md").read_text(encoding="utf-8")
    figures = {caption: f"figures/{i}.png" for i, caption in enumerate(report.figures)}
    metrics = [asdict(metric) for metric in report.metrics]
    return ModelCard.from_template(
        data, template_str=template, facts=asdict(facts), metrics=metrics, run=dict(report.run), figures=figures
    )


def card_issues(text: str, folder: Path | None = None) -> list[str]:
    """Check a card for missing metadata, sections and figures, placeholders, and metrics without N or spread.

    Args:
        text: The card.
        folder: Folder of the repository; None skips the check for missing figures.

    Returns:
        A sentence for each issue.
    """
    try:
        card_metadata(text)
        card = ModelCard(text)
    except Exception as error:  # metadata of any form, which huggingface_hub takes apart
        return [f"Its metadata cannot be read ({error}). Expected YAML between two lines of ---."]
    issues = _metadata_issues(card.data)
    headings = re.findall(r"^#+ +(.+?) *$", _prose(card.text), flags=re.MULTILINE)
    issues += [f"Section '{section}' is missing." for section in SECTIONS if section not in headings]
    issues += [f"Section '{section}' is empty." for section in _empty_sections(card.text)]
    issues += [f"It has a hole: {hole!r}." for hole in sorted(set(_HOLES.findall(_prose(card.text))))]
    if NOT_A_DEVICE not in card.text:
        issues.append(f"It does not say that the model is {NOT_A_DEVICE}.")
    issues += _table_issues(_section(card.text, "Evaluation"))
    images = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", card.text)
    if folder is not None:
        issues += [f"Image {image} is not in the repository." for image in images if not (folder / image).is_file()]
    return issues


def card_metadata(text: str) -> dict[str, Any]:
    """The metadata of a card, the YAML between two lines of --- at its start; empty without any.

    Raises:
        ValueError: They are no YAML of names and values.
    """
    block = REGEX_YAML_BLOCK.search(text)
    try:
        metadata = (parse_yaml(block[2]) or {}) if block else {}
    except ValueError as error:
        raise ValueError(f"The metadata of the card are not valid YAML ({error}). Correct them.") from error
    if not isinstance(metadata, dict):
        raise ValueError("The metadata of the card are no names and values. Correct them.")
    return metadata


def _metadata_issues(data: Any) -> list[str]:
    issues = [
        f"Metadata '{key}' is missing." for key in ("license", "library_name", "tags") if not getattr(data, key, None)
    ]
    if getattr(data, "license", None) not in (None, *LICENCES):
        issues.append(f"license is {data.license!r}, expected one of {', '.join(LICENCES)}.")
    if getattr(data, "pipeline_tag", None) not in PIPELINE_TAGS:
        issues.append(
            f"pipeline_tag is {getattr(data, 'pipeline_tag', None)!r}, expected one of {', '.join(PIPELINE_TAGS)}."
        )
    if not getattr(data, "eval_results", None):
        issues.append("Metadata 'model-index' is missing: no measured metric.")
    return issues


def _table_issues(evaluation: str) -> list[str]:
    rows = re.findall(r"^\|(?! *Metric *\|)(?! *-)(.+)\|$", evaluation, flags=re.MULTILINE)
    if not rows:
        return ["Section 'Evaluation' has no table of measured metrics."]
    cells = {row.strip(): [cell.strip() for cell in row.split("|")][:5] for row in rows}
    return [
        f"Metric row '{row}' lacks one of: name, value, spread, N, data."
        for row, first in cells.items()
        if len(first) < 5 or not all(first)
    ]


def _section(text: str, title: str) -> str:
    match = re.search(rf"^##+ +{re.escape(title)} *\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return match[1] if match else ""


def _empty_sections(text: str) -> list[str]:
    return [section for section in SECTIONS if f"## {section}" in text and not _section(text, section).strip()]


def _prose(text: str) -> str:
    """The card without its code, in which words such as None are no placeholders."""
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
