"""The training scripts and their configurations; installed as `meddiffusers.scripts`."""
