"""What the database holds as files for analysis: CSV and Parquet, in human units, exactly. See `export`."""

from ome.db.history import Unreadable
from ome.export.exporter import Export, ExportError, Progress, export
from ome.export.tables import Wanted

__all__ = ["Export", "ExportError", "Progress", "Unreadable", "Wanted", "export"]
