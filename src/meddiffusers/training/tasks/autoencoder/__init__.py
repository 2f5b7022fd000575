"""Training tasks of the autoencoders of slices and volumes."""
