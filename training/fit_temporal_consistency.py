"""Build a `TemporalConsistencyPipeline` from a cardiac VAE and reference sequences.

    python training/fit_temporal_consistency.py --config training/configs/temporal_consistency.yaml

Every key of the YAML file is also an option of the command line, which takes precedence. For your own references, pass
`--dataset_name FOLDER`, in the layout of CAMUS, and `--reference_split train`. The output folder can be loaded with
`DiffusionPipeline.from_pretrained`, and holds `metrics.json` and figures. `--card FACTS.yaml` also writes a repository
with a model card.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from meddiffusers import AttributeVAEPipeline
from meddiffusers.datasets.cardiac_sequences import load_cardiac_sequences
from meddiffusers.evaluation.cardiac.run import evaluate_repair
from meddiffusers.evaluation.report import Report
from meddiffusers.hub.card import Facts
from meddiffusers.hub.load import load, local_folder
from meddiffusers.hub.publish import write_repository
from meddiffusers.hub.training_config import TrainingRecord
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.running import run
from meddiffusers.training.tasks.cardiac.consistency import ConsistencyConfig, build_consistency_pipeline


def main() -> None:
    """Fit the limits, evaluate, and write the repository if a card is requested."""
    (config,) = parse_config(ConsistencyConfig)
    facts = Facts.read(Path(config.card)) if config.card else None
    vae = AttributeVAEPipeline.from_pipe(load(config.pretrained_model_name_or_path))
    record = TrainingRecord.read(local_folder(config.pretrained_model_name_or_path))
    references = list(load_cardiac_sequences(config.dataset_name, config.reference_split, config.reference_sequences))
    pipeline = build_consistency_pipeline(vae, references, config.spacing, config.margin)
    folder = Path(config.output_dir)
    pipeline.save_pretrained(folder)
    if record is not None:  # the settings that the VAE was trained with
        record.save(folder)
    test = (config.dataset_name, config.test_split, config.test_sequences, config.error_rate, config.seed)
    report = evaluate_repair(pipeline, *test, folder)
    print(f"Metrics are in '{folder / 'metrics.json'}', figures and an animation beside them.")
    if facts is not None:
        further = [metric for each in config.further_metrics for metric in Report.read(Path(each)).metrics]
        report = replace(report, metrics=[*further, *report.metrics])
        repository = write_repository(pipeline, report, facts, folder / "repository", record)
        print(f"The repository is in '{repository}'.")


if __name__ == "__main__":
    run(main)
