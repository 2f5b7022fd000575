"""Runs commands in this process, as a user would type them."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner, Result

from meddiffusers.cli import app, main


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], terminal_width=200)
    assert result.exit_code == status, result.output
    return result


def stops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The error with which the command line stops, status 2."""
    monkeypatch.setattr(sys, "argv", ["meddiffusers", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    output = capsys.readouterr().err
    assert "Traceback" not in output
    return output.partition("error: ")[2]
