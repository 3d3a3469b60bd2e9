"""Who gets in from other machines: the keys that are allowed, and a line in the log for everybody who is turned away.

Works on one ZeroMQ context: answers its ZAP requests (https://rfc.zeromq.org/spec/27/) and hears its handshakes. Knows
nothing of sessions or frames.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from capture.errors import UserError
from capture.keys import KeyRing

log = logging.getLogger("realmaster.daemon")

_QUIET_SECONDS = 1.0
"""The same peer is told of at most so often."""
_HEARD = zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class Gate:
    """Makes a ROUTER a CURVE server before it is bound. Poll `sockets`, and call `work` when one is ready.

    own: a public key that is always let in (bridges of this machine), beside those of the ring, which is read anew
    for every newcomer: a key that is revoked lets nobody in from then on.
    """

    def __init__(self, context: zmq.Context, router: zmq.Socket, ring: KeyRing, own: str) -> None:
        self._ring, self._own = ring, own
        self._newcomer = "an unknown address"
        self._told: dict[str, float] = {}
        self.turned_away = 0
        public, secret = ring.pair()
        self._zap = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind("inproc://zeromq.zap.01")
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt_string(zmq.CURVE_PUBLICKEY, public)
        router.setsockopt_string(zmq.CURVE_SECRETKEY, secret)
        router.setsockopt_string(zmq.ZAP_DOMAIN, "realmaster")
        self._router = router
        self._monitor = router.get_monitor_socket(_HEARD)

    @property
    def sockets(self) -> tuple[zmq.Socket, zmq.Socket]:
        return self._zap, self._monitor

    def work(self) -> None:
        """Answer and hear what has come."""
        with suppress(zmq.Again):
            while True:
                self._answer(self._zap.recv_multipart(zmq.NOBLOCK))
        with suppress(zmq.Again):
            while True:
                self._hear(recv_monitor_message(self._monitor, zmq.NOBLOCK))

    def close(self) -> None:
        self._router.disable_monitor()
        self._monitor.close(linger=0)
        self._zap.close()

    def _answer(self, request: list[bytes]) -> None:
        version, number, _, address, _, mechanism, *credentials = request
        key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and credentials else ""
        name = self._name(key)
        if name is None:
            self._tell(address.decode(errors="replace"), f"its key {key[:8]}... is not allowed")
        status, text = (b"200", b"OK") if name is not None else (b"400", b"not allowed")
        self._zap.send_multipart([version, number, status, text, (name or "").encode(), b""])

    def _name(self, key: str) -> str | None:
        if key == self._own:
            return "this machine"
        try:
            return self._ring.allowed().get(key)
        except UserError as error:
            log.error("nobody is let in: %s", error)
            return None

    def _hear(self, event: Mapping[str, Any]) -> None:
        if event["event"] == zmq.EVENT_ACCEPTED:
            with suppress(OSError), socket.socket(fileno=os.dup(event["value"])) as peer:
                self._newcomer = peer.getpeername()[0]
        else:
            self._tell(self._newcomer, "it has no key, or one for another daemon")

    def _tell(self, who: str, why: str) -> None:
        self.turned_away += 1
        now = time.monotonic()
        if now - self._told.get(who + why, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            if len(self._told) > 1000:
                self._told.clear()
            self._told[who + why] = now
            log.warning("a bridge at %s was turned away: %s", who, why, extra={"fields": {"address": who}})
