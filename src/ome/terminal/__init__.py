"""A market in a terminal, live: `ome top`. It is a client like any other and sees what the public interface shows.

Imports `client`. `cli` calls `watch`.
"""

from ome.terminal.watch import WatchError, watch

__all__ = ["WatchError", "watch"]
