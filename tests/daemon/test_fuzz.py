"""A thousand mutated messages: the daemon refuses them and answers on, and a session beside them loses nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgpack
import zmq

from capture import wire
from capture.take import Take
from daemon.ingest import Ingest
from daemon.session import Settings

from .engines import Peer, assert_exact, engine, send

MESSAGES = 1000
PER_PEER = 25


def mutated(random_: random.Random, parts: list[bytes]) -> list[bytes]:
    """A message with one thing wrong, or a few."""
    parts = [bytearray(part) for part in parts]  # type: ignore[misc]
    for _ in range(random_.randint(1, 3)):
        part = random_.choice(parts)
        kind = random_.randrange(8)
        if kind == 0 and part:  # flip bits
            for _ in range(random_.randint(1, 8)):
                part[random_.randrange(len(part))] ^= 1 << random_.randrange(8)
        elif kind == 1 and part:  # cut
            del part[random_.randrange(len(part)) :]
        elif kind == 2:  # grow
            part += random_.randbytes(random_.randint(1, 64))
        elif kind == 3:  # lose a part
            parts.remove(part)
        elif kind == 4:  # double a part
            parts.insert(random_.randrange(len(parts) + 1), bytearray(part))
        elif kind == 5:
            random_.shuffle(parts)
        elif kind == 6:  # a wrong value in the header
            parts[0] = bytearray(wrong_value(random_, bytes(parts[0])))
        else:
            part[:] = random_.randbytes(random_.randint(0, 200))
        if not parts:
            parts = [bytearray()]
    return [bytes(part) for part in parts]


def wrong_value(random_: random.Random, header: bytes) -> bytes:
    try:
        values = msgpack.unpackb(header, strict_map_key=False)
        assert isinstance(values, dict) and values
    except Exception:
        return header
    key = random_.choice(list(values))
    nested: Any = []
    for _ in range(500):
        nested = [nested]
    numbers = [-1, 2**63, 1e308, float("nan"), True]
    values[key] = random_.choice(
        [None, *numbers, "", "\0", "x" * 70000, b"bytes", [], {}, {"a": 1}, nested, [[]] * 5000]
    )
    return msgpack.packb(values)


def test_a_thousand_mutated_messages(tmp_path: Path) -> None:
    random_ = random.Random(20261123)
    settings = Settings(errors_allowed=10**9, sessions=10**6)  # else most of them would only be ignored
    ingest = Ingest("tcp://127.0.0.1:*", takes=tmp_path, auto_record=True, settings=settings, previews=False)
    with ingest, engine(ingest.endpoint, game="good") as good:
        serial = 0
        for begin in range(0, MESSAGES, PER_PEER):
            with Peer(ingest.endpoint, ingest.token) as bad:
                bad.socket.setsockopt(zmq.LINGER, 1000)
                if random_.random() < 0.7:
                    bad.hello()
                for number in range(begin, begin + PER_PEER):
                    message = random_.choice(
                        [
                            bad.hello_message(),
                            bad.frame_message(number),
                            bad.frame_message(number),
                            wire.Event("marker", 1.0, {"a": [1, "b"]}),
                            wire.Bye(),
                        ]
                    )
                    bad.say_parts(mutated(random_, [bytes(part) for part in wire.encode(message)]))
                # Whatever was said before, a proper hello is welcomed: the daemon has read all of it and goes on.
                assert isinstance(bad.hello(), wire.Welcome)
            send(good, 3, first=serial)
            serial += 3
        refused = ingest.refused
    assert refused > MESSAGES / 4
    assert good.goodbye is not None
    assert (good.goodbye.received, good.goodbye.recorded, good.goodbye.dropped) == (serial, serial, 0)
    take = Take(tmp_path / str(good.goodbye.take))
    assert [frame.serial for frame in take] == list(range(serial))
    for frame in take:
        assert_exact(frame)
