"""Training of the temporal consistency model of cardiac segmentations."""
