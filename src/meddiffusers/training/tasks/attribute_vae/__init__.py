"""Training task of the attribute-regularized variational autoencoder."""
