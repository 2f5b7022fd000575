"""Make a VAE of hearts repair the sequences of segmentations that it is given.

    python training/fit_temporal_consistency.py --config training/configs/temporal_consistency.yaml

Every line of the YAML file is also an option of the command line, which wins. Own references: `--dataset_name FOLDER`
of CAMUS's layout with `--reference_split train`. The output folder opens with `DiffusionPipeline.from_pretrained` as a
`TemporalConsistencyPipeline` and holds `metrics.json` and images; `--card FACTS.yaml` also writes a whole repository
with its model card.
"""

from __future__ import annotations

from pathlib import Path

from meddiffusers import AttributeVAEPipeline
from meddiffusers.datasets.cardiac_sequences import load_cardiac_sequences
from meddiffusers.evaluation.cardiac.run import evaluate_repair
from meddiffusers.hub.card import Facts
from meddiffusers.hub.load import load
from meddiffusers.hub.publish import write_repository
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.cardiac.consistency import ConsistencyConfig, build_consistency_pipeline


def main() -> None:
    """Fit, evaluate, and write the repository if asked to."""
    (config,) = parse_config(ConsistencyConfig)
    facts = Facts.read(Path(config.card)) if config.card else None
    vae = AttributeVAEPipeline.from_pipe(load(config.pretrained_model_name_or_path))
    references = list(load_cardiac_sequences(config.dataset_name, config.reference_split, config.reference_sequences))
    pipeline = build_consistency_pipeline(vae, references, config.spacing)
    folder = Path(config.output_dir)
    pipeline.save_pretrained(folder)
    test = (config.dataset_name, config.test_split, config.test_sequences, config.error_rate, config.seed)
    report = evaluate_repair(pipeline, *test, folder)
    print(f"Metrics are in '{folder / 'metrics.json'}', images and a film beside them.")
    if facts is not None:
        print(f"The repository is in '{write_repository(pipeline, report, facts, folder / 'repository')}'.")


if __name__ == "__main__":
    main()
