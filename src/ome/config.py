"""Every setting of the service: a flag (`ome serve --port 5001`), before the environment (`PORT=5001`), before a file in TOML
(`port = 5001` in what `ome serve --config FILE` or `OME_CONFIG` names), before the default.

Each has its unit, default and meaning here, and nowhere else; a wrong one stops the start with its name. Secrets can come as
files too, which `API_KEY_FILE` and `DATABASE_URL_FILE` name.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliImplicitFlag, SettingsConfigDict

MAX_SHARDS: Final = 1024
"""Shards of a cluster at most; order ids have room for 9,223."""


class SettingsError(Exception):
    """A setting is wrong; the message names it and says what would be right."""


class Settings(BaseSettings):
    """Settings of `ome serve`. --config FILE, or OME_CONFIG, names a file that has them in TOML, behind flags and environment."""

    model_config = SettingsConfigDict(extra="ignore", cli_kebab_case=True, cli_hide_none_type=True, cli_avoid_json=True)

    host: str = Field(default="127.0.0.1", description="address to listen on; other than loopback only where there is a key")
    port: int = Field(default=5000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    database_url: str = Field(
        default="sqlite+aiosqlite:///order_matching.db", description="SQLite file or PostgreSQL database, as a URL", repr=False
    )
    database_read_url: str = Field(
        default="",
        description="a streaming replica of a PostgreSQL DATABASE_URL, one server, that history is read from; empty: none",
        repr=False,
    )
    database_pool_size: int = Field(default=5, ge=1, le=100, description="connections for reading; writing has one of its own")
    api_key: SecretStr = Field(default=SecretStr(""), description="the operator's key, in the header X-API-Key")
    private_reads: bool = Field(
        default=False, description="whether orders are read with a key only, as they are once a user has one"
    )
    auto_list: bool = Field(default=True, description="whether a symbol's first order lists it, with tick 0.01 and lot 1")
    max_symbols: int = Field(default=10_000, ge=1, description="symbols that can be listed at most")
    max_cascade: int = Field(default=100, ge=1, description="stops that fire in one command at most; the rest with the next")
    snapshot_interval_sec: float = Field(
        default=60.0, ge=0, le=86_400, allow_inf_nan=False, description="seconds between snapshots of books that changed; 0: none"
    )
    snapshot_retention_days: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="days that snapshots of books are kept; 0: for ever"
    )
    journal_retention_days: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="days that the journal is kept, behind a snapshot of the engine; 0: for ever",
    )
    candle_1s_retention_days: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="days that candles of one second are kept; 0: for ever"
    )
    queue_size: int = Field(default=8192, ge=16, description="commands that may wait for the engine; beyond it 503")
    batch_size: int = Field(default=2048, ge=1, description="commands that share a transaction at most")
    client_wait_sec: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds an answer may take before it is called unknown (504)",
    )
    drain_sec: float = Field(default=10.0, gt=0, le=3600, allow_inf_nan=False, description="seconds that stopping may take")
    max_body_bytes: int = Field(default=65_536, ge=1024, description="largest request body, in bytes")
    max_batch_bytes: int = Field(default=1_048_576, ge=1024, description="largest body of POST /orders/batch, in bytes")
    max_header_bytes: int = Field(default=16_384, ge=1024, description="largest path, query and headers together, in bytes")
    max_connections: int = Field(default=12_000, ge=1, description="connections at the same time; beyond it 503")
    max_connections_per_address: int = Field(
        default=1000, ge=0, description="connections at the same time from one address, loopback excepted; 0: no limit"
    )
    max_requests: int = Field(
        default=2048,
        ge=16,
        description="requests that are worked on at the same time; beyond it 503, but for a tenth more of cancels (`DELETE`),"
        " kill switches, dead-man timers and `/health`",
    )
    receive_timeout_sec: float = Field(
        default=10.0, gt=0, le=3600, allow_inf_nan=False, description="seconds that a request may take to arrive; then 408"
    )
    send_timeout_sec: float = Field(
        default=10.0, gt=0, le=3600, allow_inf_nan=False, description="seconds that a client may take to read its answer"
    )
    keep_alive_sec: float = Field(
        default=75.0, gt=0, le=86_400, allow_inf_nan=False, description="seconds that a connection may be silent between requests"
    )
    disk_low_mb: int = Field(default=64, ge=0, description="MiB free on an SQLite disk below which no orders are taken")
    disk_reserve_mb: int = Field(
        default=64, ge=0, description="MiB kept in a file beside an SQLite database, for cancels on a full disk"
    )
    lease_sec: float = Field(
        default=10.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="seconds without a sign of life after which a PostgreSQL engine is taken for gone",
    )
    standby: bool = Field(default=False, description="whether to wait where another engine is running, instead of exit status 3")
    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        description="NATS servers of `ome gateway` and `ome engine`, as URLs with commas; credentials belong into them",
        repr=False,
    )
    event_log_mb: int = Field(
        default=256,
        ge=0,
        le=1_048_576,
        description="MiB of what an engine has told that NATS's JetStream keeps, for gateways that missed it; 0: nothing",
    )
    shard: str = Field(
        default="0/1", pattern=r"^\d{1,4}/\d{1,4}$", description="which shard `ome engine` serves, and how many there are"
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="port of `ome engine` for `/metrics` and `/health`, at HOST; of `ome cluster`, its first engine's; 0: none",
    )
    workers: int = Field(default=1, ge=1, le=256, description="processes of `ome gateway`, which share its port")
    share_port: CliImplicitFlag[bool] = Field(
        default=False, description="whether other gateways listen on the same port of this machine too; `workers` do"
    )
    clock_skew_sec: float = Field(
        default=1.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="seconds that the clocks of gateways and engines may differ by at most",
    )
    max_streams: int = Field(
        default=11_000, ge=1, description="open WebSockets and event streams, fewer than MAX_CONNECTIONS; beyond it 503"
    )
    stream_heartbeat_sec: float = Field(
        default=30.0, gt=0, le=3600, allow_inf_nan=False, description="seconds of silence after which a stream gets a heartbeat"
    )
    stream_queue_messages: int = Field(
        default=16_384, ge=1, description="messages that a stream's reader may be behind; beyond it closed with 4008"
    )
    stream_queue_bytes: int = Field(default=4_194_304, ge=1024, description="the same in bytes")
    ws_max_message_bytes: int = Field(
        default=1_048_576, ge=1024, description="largest message that a WebSocket may send, in bytes"
    )
    ws_messages_per_sec: int = Field(
        default=1000, ge=0, description="messages a second that a WebSocket may send where there is a key; 0: no limit"
    )
    ws_max_subscriptions: int = Field(default=1000, ge=1, description="subscriptions of one WebSocket")
    ws_max_in_flight: int = Field(default=1000, ge=1, description="orders of one WebSocket that may wait for their answers")
    rate_orders_per_sec: float = Field(
        default=100.0,
        ge=0,
        allow_inf_nan=False,
        description="orders and changes a second of a user's key, in bursts of 5 s; 0: no limit",
    )
    rate_cancels_per_sec: float = Field(
        default=500.0, ge=0, allow_inf_nan=False, description="cancels a second of a user's key, counted apart; 0: no limit"
    )
    rate_reads_per_sec: float = Field(
        default=50.0,
        ge=0,
        allow_inf_nan=False,
        description="reads a second of a user's key, or of an address without one; 0: no limit",
    )
    rate_failed_keys_per_sec: float = Field(
        default=50.0,
        ge=0,
        allow_inf_nan=False,
        description="keys a second that an address may get wrong (401), then 429; 0: no limit",
    )
    trusted_proxies: str = Field(
        default="", description="networks of proxies, with commas, whose X-Forwarded-For is believed; none by default"
    )
    allowed_origins: str = Field(
        default="", description="origins of pages that may open WebSockets, with commas; the service's own always may"
    )
    trusted_hosts: str = Field(
        default="",
        description="names, with commas, that it may be called by while there is no key; IP addresses and localhost always",
    )
    demo: CliImplicitFlag[bool] = Field(
        default=False, description="whether simulated traders trade, in symbols and under users of their own"
    )
    sentry_dsn: SecretStr = Field(
        default=SecretStr(""), description="where errors of the log are sent, by Sentry's protocol; needs the extra `sentry`"
    )
    otel_traces: bool = Field(
        default=False, description="whether spans of requests and batches are sent, to where OTEL_* say; needs the extra `otel`"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least severe log lines to write")
    log_format: Literal["auto", "json", "console"] = Field(default="auto", description="auto: console on a terminal, else JSON")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        for each in filter(None, map(str.strip, text.split(","))):
            ipaddress.ip_network(each)
        return text

    @field_validator("shard")
    @classmethod
    def _one_of_them(cls, text: str) -> str:
        shard, shards = map(int, text.split("/"))
        if not shard < shards <= MAX_SHARDS:
            raise ValueError(f"must be such as 0/2: a shard from 0 on, below how many there are, at most {MAX_SHARDS}")
        return text

    def given(self) -> dict[str, Any]:
        """The settings that were given, by flag or environment, under the names that they have in the environment."""
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {
            name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()
        }

    @property
    def shard_of(self) -> tuple[int, int]:
        """Which shard an engine serves, and how many there are."""
        shard, shards = self.shard.split("/")
        return int(shard), int(shards)

    @property
    def is_any_address(self) -> bool:
        """Whether it stands for every address that this machine has."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


SECRETS: Final = ("API_KEY", "DATABASE_URL", "DATABASE_READ_URL", "NATS_URL")
"""Settings that may come as files."""


def take_secret_files(environment: MutableMapping[str, str] = os.environ) -> None:
    """Put what each `<NAME>_FILE` of SECRETS names into `<NAME>`, without the end of its line, so that every command and setting
    finds it there. Raises SettingsError for a file that can't be read or is empty, and where both are given.
    """
    for name in SECRETS:
        path = environment.get(f"{name}_FILE")
        if not path:
            continue
        if environment.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set: leave one out")
        try:
            text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(f"{name}_FILE: {path} can't be read: {reason}") from None
        if not text.strip():
            raise SettingsError(f"{name}_FILE: {path} is empty")
        environment[name] = text
        del environment[f"{name}_FILE"]


CONFIG_FILE: Final = "OME_CONFIG"
"""Names the file of settings."""


def take_config_file(path: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Put what a TOML file has into the environment, where that doesn't have it yet, so that every command finds it there.

    Each key is a setting's name, or a secret's with `_file`, in whatever case. Raises SettingsError for a file that can't be
    read, a name that there isn't and a value that is neither text, number nor boolean.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the settings' file {path} can't be read: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError too
        raise SettingsError(f"the settings' file {path} isn't TOML: {error}") from None
    files = {f"{name}_FILE": name for name in SECRETS}
    known = {name.upper() for name in Settings.model_fields} | set(files)
    given = {name.upper() for name in environment}
    for key, value in found.items():
        name = key.upper()
        if name not in known:
            raise SettingsError(f"{path}: there is no setting {key!r}; ome serve --help lists them")
        if not isinstance(value, str | int | float):
            raise SettingsError(f"{path}: {key} must be text, a number, true or false")
        if not given & {name, files.get(name, name), f"{name}_FILE"}:
            environment[name] = str(value).lower() if isinstance(value, bool) else str(value)


def take_files(arguments: list[str]) -> list[str]:
    """Put what the secrets' files and the settings' file hold into the environment; the arguments without `--config FILE`."""
    take_secret_files()
    path, rest = os.environ.get(CONFIG_FILE, ""), list(arguments)
    for at, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--config":
            if not equals and at + 1 == len(arguments):
                raise SettingsError("--config: name a file")
            path = value if equals else arguments[at + 1]
            rest = arguments[:at] + arguments[at + (1 if equals else 2) :]
            break
    if path:
        take_config_file(path)
        take_secret_files()
    return rest


def load_settings(arguments: list[str] | None = None, command: str = "ome serve") -> Settings:
    """The settings of this process: flags before environment before the settings' file before defaults. Raises SettingsError."""
    left = take_files(arguments or [])
    try:
        settings = Settings() if arguments is None else Settings(_cli_parse_args=left, _cli_prog_name=command)
    except ValidationError as error:
        wrong = [f"{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}" for item in error.errors()]
        raise SettingsError("; ".join(wrong)) from None
    return settings
