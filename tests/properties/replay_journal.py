"""Read a journal from standard input, replay it, and write what came of it: `python replay_journal.py BATCH < journal`.

One line: the SHA-256 of all events' bytes, and the state hash after the last command. BATCH commands are taken between two
looks at the state hash and the changes, as the runner would.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256

from msgspec import msgpack

from ome.domain.commands import Stamped, decode_commands
from ome.engine.engine import Engine


def replay(journal: Sequence[Stamped], batch: int, shard: int = 0) -> tuple[str, int]:
    """The digest of every event and the last state hash, with changes and hash taken every `batch` commands."""
    engine, told = Engine(shard), sha256()
    for start in range(0, len(journal), batch):
        for stamped in journal[start : start + batch]:
            told.update(msgpack.encode(engine.apply(stamped)))
        engine.take_changes()
        engine.state_hash()
    return told.hexdigest(), engine.state_hash()


if __name__ == "__main__":
    sys.stdout.write("{} {:016x}\n".format(*replay(decode_commands(sys.stdin.buffer.read()), int(sys.argv[1]))))
