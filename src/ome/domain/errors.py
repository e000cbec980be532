"""Every exception that OME raises on purpose. A refusal of an order is never one of these: it is an event (see `reasons`).

OmeError
├── NumberError         text that is no number of rule N1; the message completes "price ..."
├── Overloaded          the engine's queue, or the one for the past, is full; nothing was executed
├── TooLate             a command's turn came after the time that its sender gave it; nothing was executed
├── Pending             what became of a command that was asked after is still open
├── NotAccepting        the engine isn't taking commands now (starting, draining, halted); nothing was executed
├── OutcomeUnknown      a command was taken, and whether it took effect can't be said yet
├── Evicted         what was asked for is no longer kept
├── NotYet          a sequence or a time was asked for that hasn't come
├── InvariantBroken     a bug: the engine's own state contradicts itself
└── StorageError        the database
    ├── EngineRunning   another engine holds this database (exit 3)
    ├── Fenced          another engine has taken over; this one must stop (exit 4)
    ├── StateMismatch   what is stored contradicts itself; starting would guess (exit 5)
    └── StorageUnusable wrong address, no rights, newer schema, weaker durability than promised (exit 6)
        ├── DiskFailed  the disk refused to flush: what it holds can't be trusted (exit 74)
        └── StorageAway nobody answers, or not now: trying again may help
            └── StandingBy  another engine holds this database, and this one is its standby
"""


class OmeError(Exception):
    """The root of this tree."""


class NumberError(OmeError):
    """Text that is no number of rule N1; the message completes a sentence that starts with the field's name."""


class Overloaded(OmeError):
    """The queue of the engine, or of those who ask for the past, is full. Certain: nothing was executed."""


class TooLate(OmeError):
    """The command's turn came after the time that its sender gave it. Certain: nothing was executed."""


class Pending(OmeError):
    """Whoever asks what became of a client order id asks while its command is still being worked on."""


class NotAccepting(OmeError):
    """The engine takes no such commands in its present state, which is the message: recovering, stalled, draining, halted, or
    storage_low (cancels alone are taken). Certain: nothing was executed.
    """


class OutcomeUnknown(OmeError):
    """The command was taken; whether it took effect isn't known yet."""


class Evicted(OmeError):
    """What was asked for was kept once and has been trimmed (D2, D6)."""


class NotYet(OmeError):
    """A sequence or a time was asked for that is still to come."""


class InvariantBroken(OmeError):
    """A bug: the engine's own state contradicts itself."""


class StorageError(OmeError):
    """The database can't do what was asked; `exit_code` is what a process that stops for it leaves with."""

    exit_code = 6


class EngineRunning(StorageError):
    """Another engine is alive on this database."""

    exit_code = 3


class Fenced(StorageError):
    """Another engine has taken over this shard; nothing more may be committed by this one."""

    exit_code = 4


class StateMismatch(StorageError):
    """What is stored contradicts itself; the engine refuses to start rather than guess."""

    exit_code = 5


class StorageUnusable(StorageError):
    """The database can't be used as configured: address, rights, schema version or durability."""


class StorageAway(StorageUnusable):
    """The database doesn't answer, or not now: it is starting, restarting, out of reach, full or locked. It may pass."""


class StandingBy(StorageAway):
    """Another engine is alive on this database, and this one waits for its end."""


class DiskFailed(StorageUnusable):
    """The disk reported that it could not flush. What the system has in memory may never reach it: stop, and copy the file."""

    exit_code = 74
