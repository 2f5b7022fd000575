"""Load a pipeline repository from a folder or from the Hub, after checking it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from meddiffusers.hub.checks import RepositoryError, code_issues, repository_issues
from meddiffusers.hub.weights import PICKLES


def load(
    repository: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    **kwargs: Any,
) -> DiffusionPipeline:
    """Load a pipeline with `DiffusionPipeline.from_pretrained`, from safetensors only, after checking the repository.

    Args:
        repository: Folder or Hub id.
        revision: Branch, tag or commit.
        token: Hub token.
        local_files_only: Use the cache only.
        **kwargs: Further arguments of `from_pretrained`.

    Raises:
        RepositoryError: There is no such repository or revision, or it has issues; the error lists them. Components
            that only the repository's own code can open are an issue without `trust_remote_code=True`.
    """
    folder = local_folder(repository, revision=revision, token=token, local_files_only=local_files_only)
    issues = repository_issues(folder)
    if not kwargs.get("trust_remote_code"):
        issues += code_issues(folder)
    if issues:
        raise RepositoryError(repository, issues)
    try:
        pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **kwargs)
    except ImportError:
        raise
    except Exception as error:
        raise RepositoryError(repository, [f"It could not be opened: {error}"]) from error
    pipeline.register_to_config(_name_or_path=str(repository))
    return pipeline


def local_folder(
    repository: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Find the repository's folder: the path itself, or the snapshot of a Hub id, downloaded without pickles.

    Raises:
        RepositoryError: There is neither, or the Hub cannot be reached and nothing is cached.
    """
    if Path(repository).is_dir():
        return Path(repository)
    try:
        folder = snapshot_download(
            str(repository),
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            ignore_patterns=[f"*{suffix}" for suffix in PICKLES],
        )
    except RevisionNotFoundError as error:
        issue = f"It has no revision {revision!r}. Give one of its branches, tags or commits."
        raise RepositoryError(repository, [issue]) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        issue = (
            "It is neither a folder nor a repository on the Hub. Check the spelling; a private repository needs "
            "`token=` or `hf auth login`."
        )
        raise RepositoryError(repository, [issue]) from error
    except OSError as error:
        issue = f"It could not be downloaded, and is not in the cache ({error}). Check the connection and the revision."
        raise RepositoryError(repository, [issue]) from error
    return Path(folder)
