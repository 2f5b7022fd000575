"""Training tasks, one folder per system: models, loss, data, validation and the pipeline to publish."""
