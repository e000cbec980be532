"""Whether a database is what its journal makes: replay it, compare everything, say where the first difference is.

`verify` is the way in, for `ome verify` and for tests, `backup` makes a backup and verifies that. Nothing is written to the
database.
"""

from ome.verification.backup import backup
from ome.verification.report import Difference, Report
from ome.verification.verifier import Progress, verify

__all__ = ["Difference", "Progress", "Report", "backup", "verify"]
