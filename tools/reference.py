"""The reference, written from the code: `make docs`, or `python -m tools.reference`.

Each page of `docs/reference` is one function here, which returns the page's text; `pages` names them all. A test compares what is
stored with what would be written, so that a setting, metric, reason, route or command without its line fails the suite.
The rules are written by hand, in `docs/rules.md`: the reasons name them, and a test holds that each is there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, get_args

import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from ome.api.access import Declaration, access_table
from ome.cli import app as commands
from ome.config import SECRETS, Settings
from ome.domain.reasons import TABLE, Reason
from ome.exits import EXIT_STATUSES
from ome.observability import STATES, Metrics

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
NOTE: Final = "<!-- written by `make docs` from the code: change it there -->"


def main() -> int:
    """Write every page; the exit status is 0."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def pages() -> dict[str, str]:
    """The text of each page of the folder, by its name."""
    return {
        "settings.md": _settings(),
        "metrics.md": _metrics(),
        "reasons.md": _reasons(),
        "routes.md": _routes(),
        "cli.md": _commands(),
    }


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(headings)]
    lines += [["---"] * len(lines[0]), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Settings


def _settings() -> str:
    rows = [[f"`{name.upper()}`", default_of(field), bounds_of(field), field.description or ""] for name, field in _fields()]
    files = " and ".join(f"`{name}_FILE`" for name in SECRETS)
    return _page(
        "Settings",
        "From flags of `ome serve` (`--port 5001`), else the environment (`PORT=5001`), else a file: `ome serve --config FILE`,\n"
        'or `OME_CONFIG=FILE` for every command, in TOML, a setting a line (`port = 5001`, `log_level = "INFO"`). A name that there\n'
        "isn't, or a value that can't be, stops the start and is named.",
        f"{files} name files that hold these instead: Docker's secrets, systemd's credentials.",
        _table(["setting", "default", "allowed", "meaning"], rows),
    )


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    return iter(Settings.model_fields.items())


def default_of(field: FieldInfo) -> str:
    """A setting's default as it would be written; nothing for an empty one."""
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text}`" if text else ""


def bounds_of(field: FieldInfo) -> str:
    """What a setting may be, from its type and its constraints."""
    if (values := getattr(field.annotation, "__args__", ())) and isinstance(values[0], str):
        return ", ".join(f"`{value}`" for value in values)
    signs = {"ge": "at least", "gt": "above", "le": "at most"}
    found = [f"{words} {getattr(each, sign)}" for each in field.metadata for sign, words in signs.items() if hasattr(each, sign)]
    return ", ".join(found) or ("true, false" if field.annotation is bool else "")


# Metrics


def metric_rows(metrics: Metrics) -> list[list[str]]:
    """Name, type, labels and meaning of each metric, by name."""
    rows = []
    for collector in metrics.registry._collector_to_names:  # noqa: SLF001  the one way to what a registry holds
        labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ()))
        rows += [
            [f"`{metric.name}{'_total' * (metric.type == 'counter')}`", metric.type, labels, metric.documentation]
            for metric in collector.describe()  # type: ignore[attr-defined]
        ]
    return sorted(rows)


def _metrics() -> str:
    return _page(
        "Metrics",
        "`GET /metrics` exposes these. What to make of them: `docs/metrics.md`.",
        _table(["metric", "type", "labels", "meaning"], metric_rows(Metrics())),
        f"`outcome` is accepted, filled, cancelled, expired or rejected; `state` one of {', '.join(STATES)}\n"
        "(`docs/design.md`); `code` a problem's code (`docs/reference/reasons.md`), for streams the WebSocket close code, or `client`\n"
        "where the client left; `route` is the route's template, never a path. Times are in seconds.",
    )


# Reasons

STAGES: Final = {
    100: "Reading the request",
    200: "Who asks",
    300: "The service's state",
    400: "What is named, and the market's state",
    500: "Tick, lot and size; bounds",
    600: "Time; what it would do; what the user may",
    700: "What it would need",
    900: "Why an accepted order ended",
}


def _reasons() -> str:
    parts = []
    for start, title in STAGES.items():
        rows = [
            [str(reason.value), f"`{reason.code}`", str(info.status), info.rule or "", f"{info.title}. {info.advice}"]
            for reason, info in TABLE.items()
            if start <= reason.value < start + 100
        ]
        parts += [
            f"## {title}",
            _table(["number", "code", "status", "rule", "what is wrong, and what would be right"], sorted(rows)),
        ]
    return _page(
        "Reasons",
        f"The one closed table of codes, {len(Reason)} of them: nothing else is ever answered as a problem's `code` or an order's `reason`.\n"
        "They run in the order of the checks (R1). `{limit}` is the bound that was missed.",
        *parts,
    )


# Routes


def _routes() -> str:
    from ome.bootstrap import Service  # noqa: PLC0415  takes a second to import

    service = Service(Settings(database_url="sqlite:///:never-opened:", disk_reserve_mb=0))
    edge: Any = service.app._app  # noqa: SLF001  FastAPI's, behind the dispatcher
    asked = {(each.method, each.path): each for each in access_table(edge)}
    rows = []
    for path, operations in sorted(edge.openapi()["paths"].items()):
        for method, operation in operations.items():
            declared = asked.pop((method.upper(), path))
            does = operation.get("description") or operation.get("summary", "")
            answers = ", ".join(status for status in operation["responses"] if status.isdigit())
            rows.append([f"`{method.upper()} {path}`", _scope(declared), _one_line(does), _query(operation), answers])
    more = [[f"`{each.method} {each.path}`", _scope(each)] for each in asked.values()]
    return _page(
        "Routes",
        "Every route, made from the OpenAPI document, which has each body's fields and examples (`/docs`, `/openapi.json`). `/ws` speaks\n"
        "`docs/streams.md`. The scope is what a key needs, where there are keys (`docs/security.md`). Every route may also answer a\n"
        "problem (`docs/reference/reasons.md`).",
        _table(["route", "scope", "what it does", "query", "answers"], rows),
        "Pages and files, which OpenAPI doesn't show:",
        _table(["route", "scope"], sorted(more)),
    )


def _scope(declared: Declaration) -> str:
    raised = [f"`{parameter}`: {access.scope}" for parameter, access in declared.raised.items()]
    return ", ".join([declared.access.scope, *raised])


def _one_line(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def _query(operation: dict[str, Any]) -> str:
    return ", ".join(f"`{each['name']}`" for each in operation.get("parameters", ()) if each["in"] == "query")


# Commands


def _commands() -> str:
    group = typer.main.get_command(commands)
    parts = []
    for name, command in sorted(_tree("ome", group)):
        parts += [f"## {name}", re.sub(r"(?m)^ +", "", (command.help or "").strip())]
        parameters = [each for each in command.params if not getattr(each, "hidden", False)]
        if rows := [_parameter(each) for each in parameters]:
            parts.append(_table(["", "default", "environment", "meaning"], rows))
        if name == "ome serve":
            parts.append("Every setting is a flag: `docs/reference/settings.md`.")
    statuses = [[str(status), meaning] for status, meaning in EXIT_STATUSES.items()]
    return _page(
        "The command line",
        "`ome --help` lists the commands, `ome COMMAND --help` what each takes. Long work shows how far it is on a terminal, and on no\n"
        "other output. `ome --install-completion` teaches your shell (bash, zsh, fish, PowerShell) to complete commands and options;\n"
        "`ome --show-completion` shows what it would install.",
        "## Exit statuses",
        _table(["status", "meaning"], statuses),
        *parts,
    )


def _tree(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands that do something, by their whole names."""
    for each, child in getattr(command, "commands", {}).items():
        yield from _tree(f"{name} {each}", child)
    if not hasattr(command, "commands"):
        yield name, command


def _parameter(parameter: Any) -> list[str]:
    is_argument = parameter.param_type_name == "argument"
    names = parameter.name.upper() if is_argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    kind = next((each for each in _kinds(parameter.type_descriptor.annotation) if issubclass(each, StrEnum)), None)
    choices = f" ({', '.join(kind)})" if kind else ""
    default = parameter.default
    shown = "" if default in {None, False, ""} or callable(default) else f"`{default}`"
    return [
        f"`{names}`",
        "required" if parameter.required else shown,
        f"`{parameter.envvar}`" if parameter.envvar else "",
        f"{parameter.help or ''}{choices}",
    ]


def _kinds(annotation: Any) -> list[type]:
    """The classes in a type, of which an optional one has two."""
    return [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]


if __name__ == "__main__":
    sys.exit(main())
