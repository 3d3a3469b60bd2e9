"""Errors that a user may see. Works on sentences; knows nothing of frames, sockets or files.

Every message is one sentence that says what is wrong and how to mend it; the command line prints it as it stands.

    UserError                    anything a user can mend; base of the errors of all packages
    ├── FrameError               a frame, camera or descriptor contradicts itself
    ├── ProtocolError            a message on the wire is not what the protocol allows (carries a code)
    ├── SenderError              a bridge cannot deliver its frames
    └── TakeError                a take cannot be written or read
        ├── TakeNotFoundError    there is no take of that name
        └── TakeDamagedError     the take's files contradict each other
"""

from __future__ import annotations


class UserError(Exception):
    """What went wrong, in one sentence that also says how to mend it."""


class FrameError(UserError):
    """A frame, camera or descriptor contradicts itself or its conventions."""


class ProtocolError(UserError):
    """A message breaks the wire protocol.

    `code` is one of `capture.wire.ERROR_CODES` and `sentence` the explanation; together they form the `error`
    message that is sent back to the peer.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class SenderError(UserError):
    """A bridge cannot deliver its frames: no daemon, refused, or stalled."""


class TakeError(UserError):
    """A take cannot be written or read."""


class TakeNotFoundError(TakeError):
    """There is no take of that name or at that path."""


class TakeDamagedError(TakeError):
    """The files of a take contradict each other or are cut."""
