"""What can stand against a replay. A result that differs from the file's is never one of these: it is in the report."""

from ome.domain.errors import OmeError


class FlowError(OmeError):
    """A file of order flow, or one beside it, is not in the format of `ome.replay.flow`; the message names file and line."""


class ReplayError(OmeError):
    """A replay can't start or go on: no server, a book that isn't empty, an instrument that can't be set."""
