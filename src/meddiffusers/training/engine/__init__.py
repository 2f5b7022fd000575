"""Training engine: one `accelerate` loop that is independent of the task."""
