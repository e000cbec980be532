"""What this installation's core is: the interpreted sources, or extension modules made of them (`make compiled`)."""

from __future__ import annotations

from typing import Final

from ome.domain import numbers

CORE: Final = "python" if numbers.__file__.endswith(".py") else "compiled"
"""All of the core is one or the other: the extension modules share a library."""
