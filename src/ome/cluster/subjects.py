"""The NATS subjects of a cluster: one prefix for each database, so that two clusters on one NATS server never meet.

- `<prefix>.cmd.<shard>.<epoch>`: frames of requests for one engine. The epoch is in the name because "not executed" is only
  certain of the engine that was asked: one that was overtaken and wakes up hears nothing that was meant for its successor, and
  can't deny what that one has done. Where nobody hears a frame NATS says so, and it was certainly not executed.
- `<prefix>.reply.<gateway>.<frame>`: answers for a gateway, and that nobody heard a frame of its.
- `<prefix>.state.<shard>`: how an engine is, twice a second and whenever that changes.
- `<prefix>.hello`: a gateway has started: every engine tells how it is.
- `<prefix>.told.<shard>`: what each batch changed, public and private, in order, before any answer. JetStream's stream
  `OME_<cluster>_<shard>` keeps it for a while.
- `<prefix>.snapshot.<shard>`: asks an engine for its books as of its last commit.
- `<prefix>.keys`: keys have changed.
"""

from __future__ import annotations

from msgspec import Struct


class Subjects(Struct, frozen=True):
    """The names for the cluster with this identity, which its database has drawn (letters and digits)."""

    cluster: str

    @property
    def prefix(self) -> str:
        """What all of them begin with."""
        return f"ome.{self.cluster}"

    def commands(self, shard: int, epoch: int) -> str:
        """Where the engine of a shard with this epoch hears requests."""
        return f"{self.prefix}.cmd.{shard}.{epoch}"

    def reply(self, gateway: str, frame: int) -> str:
        """Where a gateway hears that nobody heard its frame; frame 0: where it hears answers."""
        return f"{self.prefix}.reply.{gateway}.{frame}"

    def replies(self, gateway: str) -> str:
        """All that is for a gateway."""
        return f"{self.prefix}.reply.{gateway}.*"

    def state(self, shard: int) -> str:
        """Where an engine tells how it is."""
        return f"{self.prefix}.state.{shard}"

    @property
    def states(self) -> str:
        """How every engine is."""
        return f"{self.prefix}.state.*"

    @property
    def hello(self) -> str:
        """Where a gateway says that it has started."""
        return f"{self.prefix}.hello"

    def told(self, shard: int) -> str:
        """What each batch changed."""
        return f"{self.prefix}.told.{shard}"

    def stream(self, shard: int) -> str:
        """The name of the stream that keeps what was told."""
        return f"OME_{self.cluster}_{shard}"

    def snapshot(self, shard: int) -> str:
        """Where an engine is asked for its books."""
        return f"{self.prefix}.snapshot.{shard}"

    @property
    def keys(self) -> str:
        """Where it is said that keys have changed."""
        return f"{self.prefix}.keys"


def frame_of(subject: str) -> int:
    """Which frame a subject of `Subjects.reply` is about."""
    return int(subject.rpartition(".")[2])
