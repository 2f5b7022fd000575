"""Facts and template of the model cards; read by `meddiffusers.hub.card`."""
