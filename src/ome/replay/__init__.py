"""Order flow from files: read it, make it, drive an engine or a server with it, and verify what comes out.

Imports `domain`, and the engine's public surface for replays in process. `cli` calls `replay_file` and `generate`.
"""

from ome.replay.errors import FlowError, ReplayError
from ome.replay.formats import FlowFormat
from ome.replay.generate import generate
from ome.replay.replayer import replay_file
from ome.replay.report import ReplayReport, print_report, progress_bar

__all__ = ["FlowError", "FlowFormat", "ReplayError", "ReplayReport", "generate", "print_report", "progress_bar", "replay_file"]
