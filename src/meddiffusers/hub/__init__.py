"""Repositories on disk and on the Hub: check, load, write, publish."""

from meddiffusers.hub.checks import RepositoryError
from meddiffusers.hub.load import load
from meddiffusers.hub.publish import publish, write_repository

__all__ = ["RepositoryError", "load", "publish", "write_repository"]
