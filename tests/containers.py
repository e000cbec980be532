"""The services of compose.yaml, to be run without Docker: their commands, environments and files."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SHELL = {"API_KEY": "operators-key"}
"""What whoever starts it has in the environment."""


class Container(Struct, frozen=True):
    """What a container is started with; `files` are those of the project that it sees, by their paths there."""

    command: list[str]
    environment: dict[str, str]
    files: dict[str, Path]


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of that name in the Dockerfile, continued lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(maxsplit=1)[1].strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


def image_settings() -> dict[str, str]:
    """The environment of the image that the Dockerfile builds: what its last stage sets for the service."""
    settings = dict(pair.split("=", 1) for line in instructions("ENV")[1:] for pair in shlex.split(line))
    return {name: settings[name] for name in ("HOST", "PORT", "DATABASE_URL")}


@cache
def compose() -> dict[str, Any]:
    """compose.yaml as Docker reads it where nobody sets anything but SHELL."""
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", (ROOT / "compose.yaml").read_text())
    found: dict[str, Any] = YAML(typ="safe").load(text)
    return found


def container(name: str) -> Container:
    """One service."""
    service = compose()["services"][name]
    given = {key: SHELL[key] if value is None else str(value) for key, value in service.get("environment", {}).items()}
    mounts = [volume.split(":") for volume in service.get("volumes", [])]
    return Container(
        command=[*service.get("entrypoint", []), *service.get("command", [])],
        environment=image_settings() | given if "build" in service else given,
        files={mount[1]: ROOT / mount[0] for mount in mounts if mount[0].startswith("./")},
    )
