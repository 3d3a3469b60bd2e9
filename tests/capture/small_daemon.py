"""A daemon in few lines: one ROUTER on loopback that welcomes, gives credit as told, and remembers what came."""

from __future__ import annotations

import threading
import time

import zmq

from capture import wire
from capture.errors import ProtocolError

TOKEN = "open sesame"


class SmallDaemon:
    """Answers in its own thread; a context manager. While `silent` it reads and does not answer, while `deaf` it does
    not even read.

    credit: initial credit.  give_back: whether a credit returns with every frame.  Attributes may be changed and
    `say` called from the test's thread at any time.
    """

    def __init__(self, port: int = 0, *, credit: int = 2, give_back: bool = True, **welcome) -> None:
        self.credit, self.give_back, self.welcome = credit, give_back, welcome
        self.messages: list[wire.Message] = []
        self.silent = False
        self.refused = 0
        self.deaf = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.RCVHWM, 2)
        self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.port = int(self.endpoint.rsplit(":", 1)[1])
        self._peers: dict[bytes, wire.Hello] = {}
        self._to_say: list[wire.Message] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def of(self, kind: type) -> list:
        return [message for message in list(self.messages) if isinstance(message, kind)]

    @property
    def frames(self) -> list[wire.FrameMessage]:
        return self.of(wire.FrameMessage)

    def say(self, message: wire.Message) -> None:
        self._to_say.append(message)

    def wait_for(self, kind: type, count: int = 1, timeout: float = 60.0) -> list:
        deadline = time.monotonic() + timeout
        while len(self.of(kind)) < count:
            assert time.monotonic() < deadline, f"only {self.of(kind)} of {kind.__name__}"
            time.sleep(0.005)
        return self.of(kind)

    def forget(self) -> None:
        """Loses all sessions while the connections live on."""
        self._peers.clear()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self._context.destroy(linger=200)

    def __enter__(self) -> SmallDaemon:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            while self._to_say:
                message = self._to_say.pop(0)
                for peer in self._peers:
                    self._send(peer, message)
            if self.deaf.is_set() or not self._socket.poll(10):
                time.sleep(0.005)
                continue
            peer, *parts = self._socket.recv_multipart()
            if self.silent:
                continue
            try:
                self._answer(peer, wire.decode(parts, accept=wire.FROM_BRIDGE))
            except ProtocolError as error:
                self.refused += 1
                self._send(peer, wire.Error(error.code, error.sentence))

    def _answer(self, peer: bytes, message: wire.Message) -> None:
        if isinstance(message, wire.Hello):
            if message.token != TOKEN:
                raise ProtocolError("token", "The token is wrong: read it from the connection file.")
            self._peers[peer] = message
            names = tuple(descriptor.name for descriptor in message.channels)
            defaults = {"channels": names, "mode": message.mode, "credit": self.credit, "max_frame_bytes": 2**28}
            self.messages.append(message)
            self._send(peer, wire.Welcome(message.session, **(defaults | self.welcome)))
            return
        if peer not in self._peers:
            raise ProtocolError("no_session", f"A {message.type} came before hello: say hello first.")
        self.messages.append(message)
        if isinstance(message, wire.FrameMessage) and self.give_back:
            self._send(peer, wire.Credit(1, message.serial))
        if isinstance(message, wire.Bye):
            self._send(peer, wire.Goodbye(len(self.frames), len(self.frames), 0, None))

    def _send(self, peer: bytes, message: wire.Message) -> None:
        self._socket.send_multipart([peer, *wire.encode(message)])
