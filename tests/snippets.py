"""What documents show: their code blocks, and a reader who types them all into one terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from servers import Server

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "http://127.0.0.1:5000"
_MARK = "=== block"


class Block(NamedTuple):
    """A fenced block: the language that it names, and what is in it."""

    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    return [Block(language, text) for language, text in found]


def objects(text: str) -> list[Any]:
    """The JSON objects in a text, one behind another."""
    found, decoder = [], json.JSONDecoder()
    while (start := text.find("{")) >= 0:
        value, length = decoder.raw_decode(text[start:])
        found.append(value)
        text = text[start + length :]
    return found


def typed(document: str, commands: Path, server: Server, leave_out: tuple[str, ...] = ()) -> list[str]:
    """What each bash and Python block of a document prints, but for those that begin with one of `leave_out`: all in one bash, in
    the folder beside that of the commands, against this server. The first that fails ends it, and the test.
    """
    script = ["set -e"]
    shown = [each for each in blocks(document) if each.language in {"bash", "python"} and not each.text.startswith(leave_out)]
    for number, (language, text) in enumerate(shown):
        command = text if language == "bash" else f"python - <<'END_OF_PYTHON'\n{text}END_OF_PYTHON\n"
        script += [f"echo '{_MARK} {number}'", command.replace(ADDRESS, server.url).replace(".venv/bin/", "")]
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=commands.parent,
        env=_known(commands, server),
    )
    assert done.returncode == 0, f"{document}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return [part.partition("\n")[2] for part in done.stdout.split(_MARK)[1:]]


def _known(commands: Path, server: Server) -> dict[str, str]:
    """The environment of a reader, whose service is this one and whose `ome` and `python` are those of a folder."""
    known = {name: value for name, value in os.environ.items() if name not in {"HOST", "LOG_FORMAT"}}
    return known | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "DATABASE_URL": server.database_url,
        "PORT": str(server.port),
        "OME_URL": server.url,
        "API_KEY": server.environment.get("API_KEY", ""),
        "DISK_RESERVE_MB": "0",
        "TERM": "dumb",
    }


def has_tools() -> bool:
    """Whether a reader would have what the documents type."""
    return shutil.which("bash") is not None and shutil.which("curl") is not None
