"""Write a whole repository and push it: weights, code, card with measured metrics, figures and licence.

Use `publish` in place of `DiffusionPipeline.push_to_hub`, which would replace the card by an empty one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import HfApi, ModelCard

from meddiffusers.evaluation.report import Report
from meddiffusers.hub.card import Facts, card_issues, write_card
from meddiffusers.hub.checks import INDEX, RepositoryError, adapter_issues, identifier_issues, repository_issues
from meddiffusers.hub.identifiers import given_away
from meddiffusers.hub.publication import files_to_publish, publication_issues
from meddiffusers.hub.training_config import TrainingRecord
from meddiffusers.hub.weights import ADAPTER, weight_issues
from meddiffusers.utils.reading import read_text, special_kind


def write_repository(
    pipeline: DiffusionPipeline,
    report: Report,
    facts: Facts,
    folder: Path,
    record: TrainingRecord | None = None,
) -> Path:
    """Write pipeline, report, card and training record into `folder`, replacing its content.

    Raises:
        RepositoryError: The pipeline has a live adapter, or the card has issues. Nothing is written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _staging(folder.parent) as staged:
        save_pipeline(pipeline, staged)
        report.save(staged)
        if record is not None:
            record.save(staged)
        write_card(facts, report).save(staged / "README.md")
        _raise_issues(staged)
        _forget_local_paths(staged)
        _replace(folder, staged)
    return folder


def write_adapter(
    weights: Path, report: Report, facts: Facts, folder: Path, record: TrainingRecord | None = None
) -> Path:
    """Write the repository of a LoRA adapter for the model `facts.base_model`, replacing the content of `folder`.

    Args:
        weights: File written by `save_lora_weights`.
        report: Metrics and figures.
        facts: Facts for the card.
        folder: Folder of the repository.
        record: Settings of the training.

    Raises:
        RepositoryError: The weights are not those of an adapter, or the card has issues. Nothing is written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _staging(folder.parent) as staged:
        shutil.copyfile(weights, staged / ADAPTER)
        report.save(staged)
        if record is not None:
            record.save(staged)
        write_card(facts, report).save(staged / "README.md")
        _raise_issues(staged)
        _replace(folder, staged)
    return folder


def save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Call `save_pretrained`, but refuse a live adapter, which would be saved inside the base weights."""
    adapted = [name for name, part in pipeline.components.items() if getattr(part, "peft_config", None)]
    if adapted:
        raise RepositoryError(
            type(pipeline).__name__,
            [f"{name} has a live adapter. Fuse it or call unload_lora_weights() first." for name in adapted],
        )
    pipeline.save_pretrained(folder)


def publish(
    pipeline_or_dir: DiffusionPipeline | str | Path,
    repo_id: str,
    *,
    card: ModelCard | str | Path | None = None,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    token: str | None = None,
    commit_message: str = "Publish with meddiffusers",
    names: Sequence[str] = (),
) -> str:
    """Push a pipeline or its folder to the Hub. The new revision holds nothing else.

    Args:
        pipeline_or_dir: Pipeline, or folder of a repository.
        repo_id: Repository on the Hub, "owner/name"; created if it does not exist.
        card: A ModelCard, its text or its file. Default: the folder's README.md.
        private: Require a private repository.
        revision: Branch to push to; created if it does not exist.
        tag: Tag for the commit.
        token: Hub token.
        commit_message: Message of the commit.
        names: Names of modalities, labels, attributes or data sets that tell of no person or place. Only names of which
            a word is not known need this.

    Returns:
        The URL of the commit.

    Raises:
        RepositoryError: The repository or its card has issues, such as a live adapter, a file that is none of those
            that `publication` lists, or an identifier, or `private` is set and the repository is already public.
            Nothing is pushed.
    """
    with _staging(None) as staged:
        if isinstance(pipeline_or_dir, DiffusionPipeline):
            save_pipeline(pipeline_or_dir, staged)
        else:
            _copy_files(Path(pipeline_or_dir), staged)
        if card is not None:
            (staged / "README.md").unlink(missing_ok=True)
            (staged / "README.md").write_text(_card_text(card), encoding="utf-8")
        _raise_issues(staged, [*publication_issues(staged, names), *_message_issues(commit_message, tag, revision)])
        _forget_local_paths(staged)
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and not api.model_info(repo_id).private:
            raise RepositoryError(repo_id, ["It is public already. Make it private in its settings, or take another."])
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=staged,
            revision=revision,
            commit_message=commit_message,
            delete_patterns="*",
        )
        if tag is not None:
            api.create_tag(repo_id, tag=tag, revision=commit.oid)
    return commit.commit_url


@contextmanager
def _staging(parent: Path | None) -> Iterator[Path]:
    """A temporary folder, in `parent` so that it can be renamed to the result."""
    with tempfile.TemporaryDirectory(dir=parent, prefix=".meddiffusers-") as temporary:
        (staged := Path(temporary, "repository")).mkdir()
        yield staged


def _copy_files(folder: Path, staged: Path) -> None:
    """Copy the files of a repository. Links are copied as links, for the checks to name them."""
    if not folder.is_dir():
        raise RepositoryError(folder, ["There is no such folder. Give the folder of a repository."])
    names = files_to_publish(folder)
    kinds = {name: special_kind(folder / name) for name in names if not (folder / name).is_symlink()}
    if special := [f"{name} is {kind}; expected a file. Remove it." for name, kind in kinds.items() if kind]:
        raise RepositoryError(folder, special)
    for name in names:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, staged / name, follow_symlinks=False)


def _replace(folder: Path, staged: Path) -> None:
    """Replace `folder` by `staged`. The old folder stays complete until the new one is in place."""
    earlier = staged.with_name("earlier")
    if folder.exists():
        folder.rename(earlier)
    try:
        staged.rename(folder)
    except OSError:
        if earlier.exists():
            earlier.rename(folder)
        raise


def _card_text(card: ModelCard | str | Path) -> str:
    if isinstance(card, ModelCard):
        return str(card)
    is_file = isinstance(card, Path) or card.endswith(".md")
    return read_text(card) if is_file else str(card)


def _message_issues(commit_message: str, tag: str | None, revision: str | None) -> list[str]:
    """Check what is published beside the files."""
    texts = {"The commit_message": commit_message, "The tag": tag or "", "The revision": revision or ""}
    return [f"{name} has {what} in it. Remove it." for name, text in texts.items() for what in given_away(text)]


def _forget_local_paths(folder: Path) -> None:
    """Drop `_name_or_path` from every configuration, since it holds local paths."""

    def forget(entries: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in entries.items() if key != "_name_or_path"}

    for path in folder.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        if "_name_or_path" in text:
            content = json.loads(text, object_hook=forget)
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _raise_issues(folder: Path, more: Sequence[str] = ()) -> None:
    readme = folder / "README.md"
    text = read_text(readme) if readme.is_file() and not readme.is_symlink() else ""
    card = card_issues(text, folder) if text else ["There is no card (README.md). Pass card= or write the repository."]
    alone = (folder / ADAPTER).is_file() and not (folder / INDEX).is_file()
    issues = [*(adapter_issues if alone else repository_issues)(folder)]
    issues += [*weight_issues(folder), *identifier_issues(folder), *more]
    issues += [f"Card: {issue}" for issue in card]
    if issues:
        raise RepositoryError("The repository", list(dict.fromkeys(issues)))
