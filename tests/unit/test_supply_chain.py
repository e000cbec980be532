"""What the project is made of: the bill of materials is the lock's, and nothing in it names a host."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


def test_the_sbom_is_the_lock() -> None:
    """The same packages, versions and hashes; `make sbom` writes it anew."""
    bom = json.loads((ROOT / "sbom.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    listed = {(each["name"], each["version"]): {found["content"] for found in each["hashes"]} for each in bom["components"]}
    pinned = {
        (name, version): set(re.findall(r"sha256:([0-9a-f]{64})", hashes))
        for name, version, hashes in re.findall(r"^([\w.-]+)==([^ ;\n]+)(.*?)(?=^[\w.-]+==|\Z)", LOCK, re.MULTILINE | re.DOTALL)
    }
    assert listed == pinned
    assert len({each["purl"] for each in bom["components"]}) == len(listed) > 20


def test_locks_and_sbom_name_no_host() -> None:
    """They can be used with any index."""
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-compiled.lock", "sbom.json"):
        assert "://" not in (ROOT / name).read_text(), name
