"""What is drawn and watched of metrics are those that there are; `test_reference` holds their table."""

import json
import re
from pathlib import Path

import pytest

from ome.domain.reasons import Reason
from ome.observability import STATES, Metrics

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana-dashboard.json"
ALERTS = ROOT / "deploy/prometheus-alerts.yaml"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def exposed() -> set[str]:
    """Every name that an expression may use."""
    metrics = [collector.describe()[0] for collector in Metrics().registry._collector_to_names]  # type: ignore[attr-defined]
    return {metric.name + suffix for metric in metrics for suffix in SUFFIXES[metric.type]}


@pytest.mark.parametrize("path", [DASHBOARD, ALERTS], ids=lambda path: path.name)
def test_what_is_drawn_and_watched_exists(path: Path) -> None:
    """Every metric that a panel or an alert names is exposed, and every code and state in them is one."""
    text = path.read_text().replace('\\"', '"')
    assert set(re.findall(r"\bome_[a-z_]+", text)) <= exposed()
    assert set(re.findall(r'state="([A-Z]+)"', text)) <= set(STATES)
    codes = set(re.findall(r'code="([a-z_]+)"', text))
    assert codes <= {reason.code for reason in Reason}


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Panels have numbers of their own, lie side by side on its 24 columns without covering each other, and ask something."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        covered = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not covered & cells
        cells |= covered
        assert all(target["expr"] for target in panel["targets"])
