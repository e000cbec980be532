"""The container files, as far as they can be checked without Docker."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from containers import compose, container, image_settings, instructions

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMPOSE = (ROOT / "compose.yaml").read_text()


def run(*command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command run to its end in the project's folder."""
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, env=os.environ | (environment or {})
    )


@contextmanager
def health_answering(status: HTTPStatus) -> Iterator[int]:
    """The port of a server whose every answer has this status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_dockerfile_passes_hadolint() -> None:
    """The linter of the field finds nothing in the Dockerfile."""
    result = run(str(BIN / "hadolint"), "Dockerfile")
    assert (result.returncode, result.stdout) == (0, "")


def test_compose_file_follows_the_specification() -> None:
    """The compose file is valid by the schema of the compose specification."""
    result = run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_image_runs_as_nobody_in_particular() -> None:
    """The image's last USER is a fixed, unprivileged number."""
    assert instructions("USER")[-1] == "10001:10001"


def test_image_has_pinned_bases() -> None:
    """Every stage starts from a tag that names Python's minor version and the distribution."""
    bases = [line.split()[0] for line in instructions("FROM")]
    assert bases
    assert all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base) for base in bases)


def test_image_installs_locked_versions_only() -> None:
    """What pip fetches in the build is hash-locked, and the lock names no index."""
    installs = [line for line in instructions("RUN") if "pip install" in line]
    locked = r"pip install (--require-hashes -r requirements(-compiled)?\.lock|--no-deps --no-build-isolation \.)( |$)"
    assert len(installs) == 3
    assert all(len(re.findall(locked, line)) == line.count("pip install") for line in installs)


def test_image_is_built_from_files_that_the_build_context_has() -> None:
    """Every file that the Dockerfile copies exists, and .dockerignore lets it through."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source.removeprefix("./") for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_wheel_carries_everything_that_the_package_reads(tmp_path: Path) -> None:
    """The page, the scenarios of the rule book and the types' marker are in the wheel, as every module is."""
    build = "import sys, flit_core.buildapi; flit_core.buildapi.build_wheel(sys.argv[1])"
    result = run(sys.executable, "-c", build, str(tmp_path))
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "ome").rglob("*.*") if path.suffix != ".pyc"}
    assert {"ome/conformance/rules/stops.txt", "ome/api/static/index.html", "ome/py.typed"} <= files
    assert files <= set(zipfile.ZipFile(wheel).namelist())


def test_image_command_exists() -> None:
    """The image's command, in exec form, is one that the package installs."""
    command, *arguments = json.loads(instructions("CMD")[-1])
    result = run(str(BIN / command), *arguments, "--help")
    assert result.returncode == 0, result.stderr


def test_image_settings_need_a_key() -> None:
    """With the image's settings the service does not start without an API_KEY, and says so."""
    result = run(str(BIN / "ome"), "serve", environment=image_settings() | {"API_KEY": ""})
    assert result.returncode != 0
    assert "API_KEY" in result.stdout


@pytest.mark.parametrize(("status", "exit_status"), [(HTTPStatus.OK, 0), (HTTPStatus.SERVICE_UNAVAILABLE, 1)])
def test_health_check_follows_the_health_route(status: HTTPStatus, exit_status: int) -> None:
    """The image's health check succeeds on 200 and fails on 503."""
    _, _, command = instructions("HEALTHCHECK")[-1].partition("CMD ")
    name, *arguments = json.loads(command)
    assert name == "python"
    with health_answering(status) as port:
        result = run(sys.executable, *arguments, environment={"PORT": str(port)})
    assert result.returncode == exit_status, result.stderr


def test_health_check_fails_when_nobody_listens() -> None:
    """The image's health check fails where no service is."""
    _, _, command = instructions("HEALTHCHECK")[-1].partition("CMD ")
    with health_answering(HTTPStatus.OK) as port:
        pass
    assert run(sys.executable, *json.loads(command)[1:], environment={"PORT": str(port)}).returncode == 1


def test_compose_demands_nothing_from_those_who_start_the_database_alone() -> None:
    """No variable of the compose file is required: `docker compose up -d db` interpolates the whole file."""
    settings = "\n".join(line for line in COMPOSE.splitlines() if not line.strip().startswith("#"))
    assert re.findall(r"\$\{[A-Z_]+:?\?", settings) == []


def test_compose_database_is_the_one_that_the_readme_names() -> None:
    """User, password, database and port of the compose file are those of the README's DATABASE_URL."""
    found = {
        name: re.search(rf"POSTGRES_{name}: (?:\$\{{POSTGRES_{name}:-)?(\w+)", COMPOSE) for name in ("USER", "PASSWORD", "DB")
    }
    user, password, database = (match[1] for match in found.values() if match)
    assert f"DATABASE_URL=postgresql://{user}:{password}@127.0.0.1:5432/{database}" in (ROOT / "README.md").read_text()
    assert "127.0.0.1:${POSTGRES_PORT:-5432}:5432" in COMPOSE


def test_compose_pins_its_images() -> None:
    """Whatever isn't built here has a tag with a version."""
    fetched = [service["image"] for service in compose()["services"].values() if "build" not in service]
    assert fetched
    assert all(re.fullmatch(r"[a-z/-]+:v?\d[\w.-]*", image) for image in fetched)


def test_compose_publishes_to_loopback_alone() -> None:
    """Every published port is one of 127.0.0.1."""
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_gives_no_rights_that_are_not_needed() -> None:
    """None gains rights, each has time to stop; all but the plain database have a read-only root and no capability."""
    for name, service in compose()["services"].items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "stop_grace_period" in service, name
        assert name == "db" or (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name


def test_compose_mounts_files_that_there_are() -> None:
    """Every file and folder of the project that a container sees exists."""
    for name in compose()["services"]:
        assert all(source.exists() for source in container(name).files.values()), name


def test_compose_keeps_nats_and_the_databases_of_the_cluster_inside() -> None:
    """They and the engines are on networks without a way out, where the proxy and what is published are not; only Prometheus
    reaches the engines besides.
    """
    networks = {name: set(service.get("networks", [])) for name, service in compose()["services"].items()}
    assert all(compose()["networks"][name]["internal"] for name in ("inner", "watched"))
    engines = {name for name in networks if name.startswith("engine-")}
    assert len(engines) == 4
    assert {name for name, found in networks.items() if found == {"inner"}} == {"nats", "primary", "replica"}
    assert {name for name, found in networks.items() if found == {"inner", "watched"}} == engines
    assert {name for name, found in networks.items() if "watched" in found} == engines | {"prometheus"}
    assert {name for name, found in networks.items() if "inner" in found and "edge" in found} == {"gateway-1", "gateway-2"}


def test_only_the_proxy_is_believed_about_addresses() -> None:
    """TRUSTED_PROXIES of the gateways is the proxy's address, of its network."""
    proxy = compose()["services"]["proxy"]["networks"]["edge"]["ipv4_address"]
    assert {container(f"gateway-{n}").environment["TRUSTED_PROXIES"] for n in (1, 2)} == {f"{proxy}/32"}


def test_prometheus_asks_the_gateways_and_the_engines() -> None:
    """Its targets are they and their ports, engines by shard; its jobs are those of the alerts, its rules a file that it sees."""
    settings = YAML(typ="safe").load((ROOT / "deploy/prometheus.yaml").read_text())
    gateways, engines = settings["scrape_configs"]
    assert gateways["static_configs"] == [{"targets": [f"gateway-{n}:{image_settings()['PORT']}" for n in (1, 2)]}]
    for shard, group in enumerate(engines["static_configs"]):
        members = [f"engine-{shard}", f"engine-{shard}-standby"]
        assert group["targets"] == [f"{name}:{container(name).environment['METRICS_PORT']}" for name in members]
        assert group["labels"]["shard"] == container(members[0]).environment["SHARD"].partition("/")[0]
    alerts = (ROOT / "deploy/prometheus-alerts.yaml").read_text()
    assert set(re.findall(r'job="([a-z-]+)"', alerts)) == {job["job_name"] for job in (gateways, engines)}
    assert {f"/etc/ome/{name}" for name in settings["rule_files"]} <= set(container("prometheus").files)


def test_grafana_finds_its_dashboard() -> None:
    """The folder that is provisioned is the one where the dashboard is mounted, the data source is the Prometheus beside it."""
    (provider,) = YAML(typ="safe").load((ROOT / "deploy/grafana/dashboards/ome.yaml").read_text())["providers"]
    (source,) = YAML(typ="safe").load((ROOT / "deploy/grafana/datasources/prometheus.yaml").read_text())["datasources"]
    found = container("grafana")
    assert found.files[f"{provider['options']['path']}/ome.json"] == ROOT / "deploy/grafana-dashboard.json"
    assert found.environment["GF_PATHS_PROVISIONING"] in found.files
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, which comes with Prometheus")
def test_prometheus_takes_its_configuration() -> None:
    """Its own tool reads the configuration and the alerts."""
    result = run("promtool", "check", "config", "deploy/prometheus.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
