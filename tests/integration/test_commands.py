"""What commands print for machines, and what shells complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ome.cli import app


def said(*words: str, status: int = 0) -> Any:
    """The JSON that a command writes; it must end with this status."""
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def test_reports_come_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a replay, a verification, a backup and the list of keys: one JSON value each, and nothing else."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/ome.db")
    flow = str(tmp_path / "flow.csv")
    runner = CliRunner()
    for words in (["generate", flow, "--rows", "50"], ["migrate"]):
        assert runner.invoke(app, words).exit_code == 0
    replayed = said("replay", flow, "--in-process")
    assert (replayed["rows"], replayed["disagreement_count"]) == (50, 0)
    assert said("verify")["ok"]
    backup = said("backup", str(tmp_path / "backup.db"))
    assert backup["bytes"] == (tmp_path / "backup.db").stat().st_size
    assert backup["verified"]["ok"]
    assert said("keys", "list") == []


def test_shells_complete_commands() -> None:
    """As bash asks for it, with what `ome --install-completion` has installed."""
    program = "import sys; sys.argv = ['ome']; from ome.cli import main; main()"
    asked = os.environ | {"_OME_COMPLETE": "complete_bash", "COMP_WORDS": "ome ver", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=asked, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["verify"]
