"""Settings and secrets from files: read once, before anything asks for a setting; a wrong one is named, a secret never shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ome.config import SettingsError, load_settings, take_config_file, take_secret_files

KEY = "s3same s3same"


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"{KEY}\r\n"])
def test_a_secret_comes_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What is in it but for the end of the line; a second look finds the same."""
    path = tmp_path / "key"
    path.write_bytes(text.encode())
    monkeypatch.setenv("API_KEY", "")
    monkeypatch.setenv("API_KEY_FILE", str(path))
    for _ in range(2):
        assert load_settings().api_key.get_secret_value() == KEY
    assert KEY not in repr(load_settings())


def test_files_that_are_not_named_change_nothing() -> None:
    """An empty name is none."""
    environment = {"API_KEY": "x", "API_KEY_FILE": "", "DATABASE_URL": "y"}
    take_secret_files(environment)
    assert environment == {"API_KEY": "x", "API_KEY_FILE": "", "DATABASE_URL": "y"}


@pytest.mark.parametrize(
    ("given", "content", "sentence"),
    [
        ({"API_KEY": "x"}, b"y", "API_KEY and API_KEY_FILE are both set"),
        ({}, None, "API_KEY_FILE: .*key can't be read: No such file"),
        ({}, b" \n", "API_KEY_FILE: .*key is empty"),
        ({}, b"\xff\xfe", "API_KEY_FILE: .*key can't be read: it is no text"),
    ],
)
def test_a_file_that_can_not_be_used_is_said(tmp_path: Path, given: dict[str, str], content: bytes | None, sentence: str) -> None:
    """Which setting, which file and why; what is in it isn't said."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=sentence):
        take_secret_files(given | {"API_KEY_FILE": str(path)})


def test_every_command_finds_them(tmp_path: Path) -> None:
    """The database of a command is the one that the file names; a file that isn't there ends it with status 2."""
    url = tmp_path / "url"
    url.write_text(f"sqlite:///{tmp_path}/made.db\n")
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "-m", "ome", "migrate"]
    done = subprocess.run(command, env=environment | {"DATABASE_URL_FILE": str(url)}, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "made.db").exists()) == (0, True), done.stderr
    missing = environment | {"DATABASE_URL_FILE": str(tmp_path / "none")}
    done = subprocess.run(command, env=missing, capture_output=True, text=True, check=False)
    assert (done.returncode, "DATABASE_URL_FILE" in done.stderr) == (2, True)


def test_flags_are_before_the_environment_before_the_file_before_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting from the first that has it; `--config` is before OME_CONFIG."""
    path = tmp_path / "ome.toml"
    path.write_text('port = 5001\nQUEUE_SIZE = 100\nbatch_size = 7\ndemo = true\nlog_level = "ERROR"\n')
    for name in ("PORT", "QUEUE_SIZE", "BATCH_SIZE", "DEMO", "LOG_LEVEL"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setenv("OME_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("QUEUE_SIZE", "200")
    settings = load_settings(["--port", "5002", f"--config={path}"])
    assert (settings.port, settings.queue_size, settings.batch_size, settings.demo) == (5002, 200, 7, True)
    assert (settings.log_level, settings.max_symbols) == ("ERROR", 10_000)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "can't be read: No such file"),
        ("port 5001", "isn't TOML"),
        ("prot = 5001", "there is no setting 'prot'"),
        ("[port]\nx = 1", "port must be text, a number, true or false"),
    ],
)
def test_a_settings_file_that_can_not_be_used_is_said(tmp_path: Path, text: str | None, sentence: str) -> None:
    """Which file, and what in it."""
    path = tmp_path / "ome.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=f"ome.toml.*{sentence}"):
        take_config_file(str(path), {})


def test_a_flag_without_its_file_is_said() -> None:
    """--config at the end names nothing."""
    with pytest.raises(SettingsError, match="--config: name a file"):
        load_settings(["--config"])


def test_secrets_in_a_settings_file_give_way(tmp_path: Path) -> None:
    """To the same secret in the environment, whether as itself or as a file's name."""
    path = tmp_path / "ome.toml"
    path.write_text('api_key_file = "/a/file"\ndatabase_url = "sqlite:///x.db"\n')
    environment = {"API_KEY": "mine", "DATABASE_URL_FILE": "/another"}
    take_config_file(str(path), environment)
    assert environment == {"API_KEY": "mine", "DATABASE_URL_FILE": "/another"}
