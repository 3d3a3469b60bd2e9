"""Where frames come in: ZeroMQ sessions, their token, credits and checks; each good frame goes to recorder and ring.

Works on `capture.wire` messages over one ROUTER socket. Knows nothing of pictures, lifting or web pages. Everything
that touches a session happens in one thread, the one in `Ingest.run`; other threads post work to it. How many frames
a session may have under way is said in `daemon.session`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zmq

from capture import wire
from capture.camera import Conventions
from capture.codecs import EXACT, Precision
from capture.connection import (
    DEFAULT_ENDPOINT,
    Connection,
    new_token,
    remove_connection,
    write_connection,
)
from capture.errors import ProtocolError, TakeError, UserError
from capture.frame import Descriptor, Frame
from capture.keys import BridgeKey, KeyRing, new_pair
from capture.reduction import PROBE, Reduction
from capture.shared_memory import Segment
from capture.take import TakeWriter, WriterSettings, new_take_path
from capture.take_writer import make_preview
from daemon.access import Offenders, check_listen, is_loopback, is_token
from daemon.encoding import Encoders, Encoding
from daemon.gate import Gate
from daemon.links import LinkProbe, choose, speed
from daemon.recorder import Recorder, TakeReport
from daemon.ring import Ring
from daemon.session import Session, Settings

log = logging.getLogger("realmaster.daemon")

STATE_SECONDS = 0.2
"""A changed state is told at most this often."""

GOODBYE_SECONDS = 0.2
"""How long the socket stays open behind the goodbyes: a bridge whose connection ends first never reads them."""

_BATCH = 32
"""Messages read before other work is looked at."""

_NO_SESSION = "No engine is connected: start one that sends to the daemon."


class Ingest:
    """Receives sessions, records takes, keeps the last seconds.

    listen: "tcp://127.0.0.1:PORT"; port * takes a free one, see `endpoint`.
    takes: folder in which takes are made.
    auto_record: record every session from its first frame to its end, without being asked.
    frames: a take ends by itself when it has so many; by default none does.
    name: of the first take, in place of one after time and engine.
    replay_seconds, replay_bytes: bounds of the ring, the bytes (of compressed frames) over all sessions together; with
        0 seconds there is none.
    precision: what is kept of the numbers.
    token: what bridges must show; by default a new random one, found in the connection file.
    http: address of the page, for the connection file.
    previews: make preview.mp4 of each closed take, in the background; `stop` waits for it.
    on_event: called in the ingest thread with a dict whose "event" is one of bound, session_opened,
        session_closed {take, received, recorded, dropped}, take_started {take}, take_closed {take, frames, dropped,
        problem}, marker {name, time}, state {state}. It must return at once.
    on_frame: called in the ingest thread with (session id, frame) for every good frame; must return at once.

    `run` works until `stop`; `start` does so in a thread; as a context manager it starts and stops. Raises UserError
    when the address is taken, not on this machine, or the folder cannot be written.
    """

    def __init__(
        self,
        listen: str = DEFAULT_ENDPOINT,
        *,
        takes: Path,
        auto_record: bool = False,
        frames: int | None = None,
        name: str | None = None,
        replay_seconds: float = 20.0,
        replay_bytes: int = 2**31,
        precision: Precision = EXACT,
        token: str | None = None,
        http: str = "",
        previews: bool = True,
        settings: Settings | None = None,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        on_frame: Callable[[str, Frame], None] = lambda session, frame: None,
    ) -> None:
        self.takes = takes
        self.auto_record = auto_record
        self.frames = frames
        self.name = name
        self.replay_seconds, self.replay_bytes = replay_seconds, replay_bytes
        self.precision = precision
        self.token = token or new_token()
        self.settings = settings or Settings()
        self.endpoint = ""
        """The endpoint in use, with its real port, once bound."""
        self.refused = 0
        """Messages refused, over all peers."""
        self._listen, self._http = listen, http
        self._on_event, self._on_frame = on_event, on_frame
        self._sessions: dict[bytes, Session] = {}
        self._recorders: set[Recorder] = set()
        self._encoders = Encoders(self.settings.record_bytes // 4)
        self._previews = ThreadPoolExecutor(1, "preview video") if previews else None
        self._offenders = Offenders(self.settings.errors_allowed, self.settings.error_seconds)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._gate: Gate | None = None
        self._state = self._describe(time.monotonic())

    # -- life

    def bind(self) -> str:
        """Take the address, write the connection file, and return the endpoint."""
        ring = KeyRing()
        beyond = check_listen(self._listen, ring.exists)
        try:
            self.takes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder of takes {self.takes} cannot be made ({error.strerror}): choose one that you may write to."
            ) from None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1),  # a send to a peer that is gone fails: that is how we notice
            (zmq.RCVHWM, self.settings.record_credits + 4),
            (zmq.SNDHWM, 256),
            (zmq.MAXMSGSIZE, self.settings.limits.frame_bytes),
            (zmq.LINGER, 500),
            (zmq.HEARTBEAT_IVL, 2000),
            (zmq.HEARTBEAT_TIMEOUT, round(self.settings.vanish_seconds * 1000)),
        ):
            self._socket.setsockopt(option, value)
        own: BridgeKey | None = None
        if beyond:
            own = BridgeKey("this machine", ring.pair()[0], *new_pair())
            self._gate = Gate(self._context, self._socket, ring, own.public_key)
        try:
            self._socket.bind(self._listen)
            self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
            write_connection(
                Connection(self.endpoint, self.token, os.getpid(), self._http, asdict(own) if own else None)
            )
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            if error.errno == zmq.EADDRINUSE:
                raise UserError(
                    f"{self._listen} is in use, perhaps by another daemon: stop that one or choose another port."
                ) from None
            raise UserError(f"The daemon cannot listen on {self._listen}: {error.strerror}.") from None
        except UserError:
            self._context.destroy(linger=0)
            raise
        self._on_event({"event": "bound", "endpoint": self.endpoint})
        log.info("listening on %s", self.endpoint)
        return self.endpoint

    def start(self) -> str:
        """Bind here, run in a thread, and return the endpoint."""
        endpoint = self.bind()
        self._thread = threading.Thread(target=self.run, name="ingest")
        self._thread.start()
        return endpoint

    def stop(self, timeout: float | None = 15.0) -> None:
        """Close takes, say goodbye, end `run`. From any thread; waits when `start` was used."""
        self._stopping.set()
        self._wake()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Ingest:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def run(self) -> None:
        """Receive until `stop`. Call `bind` first, in the same thread or before this one starts."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_out, zmq.POLLIN)
        for one in self._gate.sockets if self._gate is not None else ():
            poller.register(one, zmq.POLLIN)
        next_tick = 0.0
        try:
            while not self._stopping.is_set():
                if self._wake_out.fileno() in dict(poller.poll(200)):
                    with contextlib.suppress(BlockingIOError):
                        while self._wake_out.recv(4096):
                            pass
                if self._gate is not None:
                    self._gate.work()
                self._receive_batch()
                self._do_posted()
                if (now := time.monotonic()) >= next_tick:
                    self._tick(now)
                    next_tick = now + STATE_SECONDS
            self._finish()
        finally:
            self._encoders.shutdown()
            if self._previews is not None:
                self._previews.shutdown()
            remove_connection(self.endpoint, self.token)
            if self._gate is not None:
                self._gate.close()
            self._context.destroy(linger=500)
            self._wake_in.close()
            self._wake_out.close()

    def _finish(self) -> None:
        had_sessions = bool(self._sessions)
        self._receive_batch()  # what has arrived is kept
        for session in list(self._sessions.values()):
            session.leaving = True
            self._stop_recording(session)
        deadline = time.monotonic() + self.settings.close_seconds
        while self._recorders and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self._inbox.get(timeout=0.1)()
        self._do_posted()
        for session in list(self._sessions.values()):
            self._say_goodbye(session)
        self._tick(time.monotonic())
        if had_sessions:
            time.sleep(GOODBYE_SECONDS)
        for recorder in self._recorders:
            log.error("take %s was not closed in time; `realmaster takes repair` will close it", recorder.name)

    # -- what other threads may ask

    def command(self, command: str, /, **args: Any) -> Future[Any]:
        """Ask for something from any thread: record_start, record_stop, replay_save (each with session=ID or
        None for all; replay_save with seconds=S or None for all that is kept), control (session, name, args: passed
        on to the bridge).

        The future holds the names of the takes concerned, or UserError. A take is whole when the event take_closed
        tells so.
        """
        future: Future[Any] = Future()

        def do() -> None:
            try:
                future.set_result(self._COMMANDS[command](self, **args))
            except UserError as error:
                future.set_exception(error)

        self._post(do)
        return future

    def held(self, session_id: str | None = None) -> tuple[str, Conventions, list[Encoding]]:
        """The id and conventions of a session (of the newest when None) and what its ring holds, oldest first; from
        any thread. Raises UserError when there is no such session."""
        for session in reversed(list(self._sessions.values())):
            if session_id is None or session.id == session_id:
                return session.id, session.hello.conventions, session.ring.newest()
        raise UserError(_NO_SESSION)

    def newest(self, session_id: str | None = None, count: int | None = None) -> tuple[str, list[Frame]]:
        """The newest frames in the ring of a session (of the newest session when None) and its id, from any thread.

        Their channels are decoded when read. Waits for frames that are still being compressed. Raises UserError when
        there is no such session.
        """
        name, conventions, encodings = self.held(session_id)
        if count is not None:
            encodings = encodings[max(0, len(encodings) - count) :]
        return name, [encoding.result().frame(conventions) for encoding in encodings]

    @property
    def state(self) -> dict[str, Any]:
        """What is going on, as plain values; see `_describe`."""
        return self._state

    def _post(self, work: Callable[[], None]) -> None:
        self._inbox.put(work)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nobody is left to wake
            self._wake_in.send(b"\0")

    def _do_posted(self) -> None:
        while not self._inbox.empty():
            self._inbox.get()()

    # -- messages

    def _receive_batch(self) -> None:
        for _ in range(_BATCH):
            if not self._receive():
                break

    def _receive(self) -> bool:
        """One message, if there is one."""
        try:
            peer, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        identity = peer.bytes
        now = time.monotonic()
        if self._offenders.ignores(identity, now):
            self.refused += 1
            return True
        session = self._sessions.get(identity)
        try:
            # The memory of a session that is over is gone, while frames that lie there may still be on their way.
            slots = None if session is None else () if session.memory is None else session.memory.slots
            message = wire.decode(parts, self.settings.limits, accept=wire.FROM_BRIDGE, slots=slots)
            if isinstance(message, wire.Hello):
                self._on_hello(identity, message, is_loopback(_address(parts[0])))
            elif isinstance(message, wire.Attached | wire.Probed) and (session is None or session.leaving):
                pass  # it crossed the end of the session, and matters no more
            elif session is None or session.leaving:
                raise ProtocolError("no_session", f"A {message.type} came without a session: say hello first.")
            else:
                session.heard = now
                if isinstance(message, wire.FrameMessage):
                    self._on_frame_message(session, message)
                elif isinstance(message, wire.Channels):
                    self._on_channels(session, message)
                elif isinstance(message, wire.Event):
                    self._on_bridge_event(session, message)
                elif isinstance(message, wire.Attached):
                    self._on_attached(session, message)
                elif isinstance(message, wire.Probed):
                    self._on_probed(session, message, now)
                else:
                    session.leaving = True
                    self._stop_recording(session)
                    if not self._writes(session):
                        self._say_goodbye(session)
        except ProtocolError as error:
            self._refuse(identity, error)
            if session is not None and error.code not in wire.MILD_CODES:
                self._end(session, f"after an error: {error.sentence}")
        return True

    def _refuse(self, peer: bytes, error: ProtocolError) -> None:
        """Answer a bad message; a peer that sends many is ignored for a while."""
        self.refused += 1
        errors = self._offenders.offend(peer, time.monotonic())
        if errors == 1:  # a mild one is no fault of the bridge: frames on their way when the session ended, say
            level = logging.INFO if error.code in wire.MILD_CODES else logging.WARNING
            log.log(level, "refused a message (%s): %s", error.code, error.sentence)
        if errors >= self.settings.errors_allowed:
            log.warning("a peer is ignored for %.0f s after %d errors", self.settings.error_seconds, errors)
        self._send(peer, wire.Error(error.code, error.sentence))

    def _on_hello(self, peer: bytes, hello: wire.Hello, here: bool) -> None:
        # Who came through the gate has shown a key.
        if self._gate is None and not is_token(hello.token, self.token):
            raise ProtocolError(
                "token", "The token is missing or wrong: take it from the daemon's connection file or REALMASTER_TOKEN."
            )
        ring = Ring(self.replay_seconds, self.replay_bytes)
        session = Session(peer, hello, self.settings, ring, wanted=self.auto_record, here=here, welcomed=False)
        self._check_size(hello.channels)
        if (old := self._sessions.get(peer)) is not None:
            self._end(old, "by a new hello of the same bridge")
        if len(self._sessions) >= self.settings.sessions:
            raise ProtocolError("busy", f"The daemon has {len(self._sessions)} sessions and takes no more.")
        self._sessions[peer] = session
        self._share_ring()
        self._encoders.prepare(hello.channels, session.pool, self.precision)
        if session.shares:
            self._offer_memory(session, wire.slot_layout(descriptor.nbytes for descriptor in hello.channels)[1])
        matters = self.settings.remote_mbit is not None or self._measures(session)
        if session.offered is None or not matters:
            self._learn_link(session)  # else its answer about the memory tells whether it is on this machine
        height, width = hello.channels[0].shape[:2]
        names = ", ".join(descriptor.name for descriptor in hello.channels)
        fields = {"session": session.id, "engine": hello.engine, "game": hello.game}
        log.info(
            "session opened: %s, %dx%d, %s, %s",
            session.title, width, height, names, hello.mode, extra={"fields": fields},
        )  # fmt: skip
        self._on_event({"event": "session_opened", "session": session.id, "engine": hello.engine, "game": hello.game})

    def _measures(self, session: Session) -> bool:
        """Whether the link of this bridge is to be measured, if it does not share memory with us."""
        return self.settings.remote_mbit is None and not session.here and PROBE in session.hello.capabilities

    def _learn_link(self, session: Session) -> None:
        """Welcome the bridge as soon as it is known what its link carries, where that matters."""
        if session.memory is None and self._measures(session):
            session.probe = LinkProbe(time.monotonic())
            self._send(session.peer, wire.Probe(session.id, session.probe.bytes))
            return
        told = self.settings.remote_mbit
        if session.memory is None and told is not None and math.isfinite(told):
            session.mbit = told
        self._welcome(session)

    def _on_probed(self, session: Session, message: wire.Probed, now: float) -> None:
        probe = session.probe
        if probe is None or message.session != session.id or not probe.hear(message.bytes, now):
            return
        if probe.mbit is None:
            self._send(session.peer, wire.Probe(session.id, probe.bytes))
            return
        session.mbit = probe.mbit
        log.info("the link of %s carries %s Mbit/s", session.title, speed(probe.mbit))
        self._welcome(session)

    def _welcome(self, session: Session) -> None:
        session.welcomed, session.probe = True, None
        hello, mbit = session.hello, session.mbit
        if mbit is not None:
            reduction, problem = choose(hello.channels, hello.fps, hello.mode, hello.capabilities, mbit)
            if problem:
                session.notice({"reason": "link", "sentence": problem})
                log.warning("%s: %s", session.title, problem)
            if reduction != Reduction():
                session.reduction = reduction
                log.info("for its link of %s Mbit/s, %s is asked for %s", speed(mbit), session.title, reduction)
        names = tuple(descriptor.name for descriptor in hello.channels)
        most = self.settings.limits.frame_bytes
        self._send(session.peer, wire.Welcome(hello.session, names, hello.mode, session.held, most, session.reduction))

    def _check_size(self, channels: Sequence[Descriptor]) -> None:
        size, most = sum(descriptor.nbytes for descriptor in channels), self.settings.limits.frame_bytes
        if size > most:
            raise ProtocolError("too_large", f"The channels make {size} bytes a frame; {most} are allowed.")

    def _on_channels(self, session: Session, message: wire.Channels) -> None:
        self._check_size(message.channels)
        session.announce(message.channels)
        if session.recorder is not None:
            session.recorder.describe(message.channels)
        self._encoders.prepare(message.channels, session.pool, self.precision)
        names = ", ".join(descriptor.name for descriptor in message.channels)
        log.info("channels of %s are now %s", session.title, names)

    def _on_frame_message(self, session: Session, message: wire.FrameMessage) -> None:
        if session.held <= 0:
            raise ProtocolError("no_credit", f"Frame {message.serial} came without a credit: wait for one.")
        session.held -= 1
        session.busy += 1
        last = session.last_serial
        if last is not None and message.serial <= last:
            self._note(session, "serial_repeated", message.time, {"serial": message.serial, "after": last})
            session.busy -= 1
            self._grant(session)  # the credit comes back: the frame is not kept
            raise ProtocolError("order", f"Frame {message.serial} came after frame {last}: serials must rise.")
        # The slot is free as soon as any credit goes back, and a bridge gone wrong may write to it at any time.
        own = message if message.slot is None else session.pool.copy(message)
        frame = wire.frame_of(own, session.hello, session.received)
        session.receive(frame)
        session.transport = "tcp" if message.slot is None else "shared memory"
        if message.slot is None and session.shares:
            self._widen_memory(session, wire.slot_layout(part.array.nbytes for part in message.parts)[1])
        if session.wanted:
            self._start_recording(session)
        if not frame.in_sync:
            serials = {name: channel.serial for name, channel in frame.channels.items()}
            self._note(session, "desync", frame.time, {"serial": frame.serial, "channels": serials})
        self._on_frame(session.id, frame)
        self._keep(session, frame)

    def _on_bridge_event(self, session: Session, event: wire.Event) -> None:
        self._note(session, event.name, event.time, event.data)
        if event.name == "notice":
            session.notice(event.data)
        recording = session.recorder is not None
        name = event.name
        if name == "record_toggle":
            name = "record_stop" if recording else "record_start"
        try:
            if name == "record_start" and not recording:
                self._start_recording(session)
            elif name == "record_stop" and recording:
                self._stop_recording(session)
            elif name == "replay_save":
                self._save_replay(session)
        except UserError as error:
            raise ProtocolError("command", str(error)) from None
        if event.name == "marker":
            self._on_event({"event": "marker", "session": session.id, "time": event.time, "data": event.data})

    def _send(self, peer: bytes, message: wire.Message) -> bool:
        """Whether the message was handed to ZeroMQ; a peer that is gone or does not read gets nothing."""
        try:
            self._socket.send_multipart([peer, *wire.encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            if (session := self._sessions.get(peer)) is not None and not session.leaving:
                self._post(lambda: self._vanished(session))
            return False
        return True

    # -- shared memory

    def _offer_memory(self, session: Session, slot_bytes: int) -> None:
        """Offer memory for the pixels; until the bridge answers, and wherever there is none, they come as parts."""
        try:
            segment = Segment.create(session.slots, slot_bytes)
        except OSError as error:
            session.shares = False
            log.info("pixels of %s come over tcp: no shared memory (%s)", session.title, error.strerror or error)
            return
        session.offered = segment
        offer = wire.Memory(session.id, segment.key, segment.name, len(segment.slots), segment.slot_bytes)
        if not self._send(session.peer, offer):
            session.offered = None

    def _widen_memory(self, session: Session, slot_bytes: int) -> None:
        """Offer larger slots when a frame did not fit: the resolution has grown, or a channel has come."""
        present = session.offered or session.memory
        if present is None or slot_bytes > present.slot_bytes:
            self._offer_memory(session, slot_bytes)

    def _on_attached(self, session: Session, message: wire.Attached) -> None:
        segment = session.offered
        if segment is None or message.key != segment.key:
            return  # an offer that a larger one has overtaken
        session.offered = None
        if message.problem is not None:
            session.shares = False
            log.info("pixels of %s come over tcp: %s", session.title, message.problem)
        else:
            segment.hide()  # both sides have it mapped: nobody else needs to find it
            session.memory, session.transport = segment, "shared memory"
            log.info(
                "pixels of %s come through shared memory: %d slots of %.1f MB",
                session.title, len(segment.slots), segment.slot_bytes / 1e6,
            )  # fmt: skip
        if not session.welcomed:
            self._learn_link(session)

    # -- credits

    def _grant(self, session: Session) -> None:
        """Give the credits that are free, and tell which frame is safely on disk."""
        n = session.free_credits
        if self._sessions.get(session.peer) is not session or (n == 0 and session.acknowledged == session.told):
            return
        if self._send(session.peer, wire.Credit(n, session.acknowledged)):
            session.held += n
            session.told = session.acknowledged

    # -- takes

    def _start_recording(self, session: Session) -> str:
        """Begin a take and return its name; nothing but the name when one is being written."""
        if session.recorder is not None:
            return session.recorder.name
        session.problem, session.wanted = None, False
        try:
            recorder = self._open_recorder(session)
        except UserError as error:
            session.problem = str(error)
            log.error("no take for %s: %s", session.title, error)
            if self.auto_record:  # recording is what this session is for
                raise ProtocolError("recording", str(error)) from None
            raise
        session.recorder, session.take = recorder, recorder.name
        session.acknowledged = session.told = None
        log.info("take started: %s", session.take, extra={"fields": {"session": session.id, "take": session.take}})
        self._on_event({"event": "take_started", "session": session.id, "take": session.take})
        self._send(session.peer, wire.Control("record_start", {"take": session.take}))
        self._grant(session)
        return recorder.name

    def _keep(self, session: Session, frame: Frame) -> None:
        """Compress the frame for the take and the ring."""
        if session.recorder is None and not session.ring.seconds:
            self._on_frame_free(session)
            return
        encoding = Encoding(frame, self._encoders, self.precision)
        if session.ring.seconds:
            session.ring.append(encoding)
        self._record(session, encoding)
        encoding.when_done(lambda: self._post(lambda: self._on_frame_free(session)))
        self._grant(session)

    def _on_frame_free(self, session: Session) -> None:
        session.busy -= 1
        self._grant(session)

    def _record(self, session: Session, encoding: Encoding) -> None:
        recorder = session.recorder
        if recorder is None:
            return
        if not recorder.put(encoding):  # the take is ending by itself this very moment
            log.warning("frame %d did not get into take %s", encoding.serial, session.take)
        elif recorder.accepted == self.frames:
            self._stop_recording(session)

    def _open_recorder(self, session: Session, replay: Sequence[Encoding] = ()) -> Recorder:
        """A new take for what the session sends from now on, or for these frames that it has sent."""
        hello = session.hello
        path = new_take_path(self.takes, hello.game or hello.engine)
        if self.name is not None and not (self.takes / self.name).exists():
            path = self.takes / self.name
        try:
            writer = TakeWriter(
                path,
                conventions=hello.conventions,
                descriptors=hello.channels,
                engine=hello.engine,
                game=hello.game,
                fps=hello.fps,
                legend=hello.legend,
                metadata={"session": hello.session, "mode": hello.mode, "replay": bool(replay)}
                | ({"reduced": session.reduced} if session.reduced else {}),
                preview=False,  # it may take seconds; the goodbye does not wait for it
                settings=WriterSettings(precision=self.precision),
            )
        except OSError as error:
            raise TakeError(f"No take can be made in {self.takes}: {error.strerror}.") from None
        dropped_at_start = session.dropped

        def dropped() -> int:
            if replay:
                return replay[-1].serial - replay[0].serial + 1 - len(replay)
            return session.dropped - dropped_at_start

        def closed(report: TakeReport) -> None:
            self._post(lambda: self._on_take_closed(session, recorder, report, dropped()))

        def frame_done(serial: int, committed: bool) -> None:
            if not replay:
                self._post(functools.partial(self._on_frame_done, session, recorder, serial, committed))

        recorder = Recorder(writer, on_frame=frame_done, on_close=closed)
        self._recorders.add(recorder)
        return recorder

    def _stop_recording(self, session: Session) -> None:
        """Let the recorder finish what it has; the take is closed when `take_closed` is told."""
        recorder, session.recorder = session.recorder, None
        if recorder is not None:
            recorder.close()
            if not session.leaving:
                self._send(session.peer, wire.Control("record_stop", {"take": recorder.name}))

    def _on_frame_done(self, session: Session, recorder: Recorder, serial: int, committed: bool) -> None:
        if committed:
            session.recorded += 1
            session.acknowledged = serial
        self._grant(session)

    def _on_take_closed(self, session: Session, recorder: Recorder, report: TakeReport, dropped: int) -> None:
        recorder.join()
        self._recorders.discard(recorder)
        name = report.path.name
        fields = {"session": session.id, "take": name, "frames": report.frames, "dropped": dropped}
        log.info(
            "take closed: %s, %d frames, %d dropped, %s",
            name, report.frames, dropped, report.path, extra={"fields": fields},
        )  # fmt: skip
        if report.problem is not None:  # whoever hears the event tells it, so no warning besides
            log.info("take %s ended early: %s", name, report.problem)
        event = {"take": name, "frames": report.frames, "dropped": dropped, "problem": report.problem}
        self._on_event({"event": "take_closed", "session": session.id, **event})
        if self._previews is not None and report.frames:
            self._previews.submit(make_preview, report.path)
        if session.recorder is recorder:  # it ended by itself: the disk is full
            session.recorder = None
            session.problem = report.problem
            if self.auto_record:
                self._send(session.peer, wire.Error("recording", report.problem or "The recording ended."))
                self._end(session, "because it cannot be recorded")
            else:
                self._send(session.peer, wire.Control("record_stop", {"take": name, "reason": report.problem}))
        if session.leaving and not self._writes(session):
            self._say_goodbye(session)

    def _writes(self, session: Session) -> bool:
        """Whether a take of this session is still being written."""
        return any(recorder.name == session.take for recorder in self._recorders)

    def _save_replay(self, session: Session, seconds: float | None = None) -> str:
        """Write the ring, or its last `seconds`, to a take of its own, while recording or not."""
        if not session.ring.seconds:
            raise UserError("Nothing is kept for replays: start the daemon with --replay-seconds above 0.")
        encodings = session.ring.newest(seconds=math.inf if seconds is None else seconds)
        if not encodings:
            raise UserError("There is nothing to save yet: no frame has arrived.")
        recorder = self._open_recorder(session, encodings)
        for encoding in encodings:
            recorder.put(encoding)
        recorder.close()
        log.info("saving the last %.1f s as take %s", encodings[-1].time - encodings[0].time, recorder.name)
        return recorder.name

    def _note(self, session: Session, name: str, at: float, data: dict[str, Any]) -> None:
        """An event for the take that is being written, if one is. The writer itself notes gaps and turned clocks."""
        if session.recorder is not None:
            session.recorder.event(name, at, data)

    # -- ends

    def _say_goodbye(self, session: Session) -> None:
        if self._sessions.get(session.peer) is not session:  # it ended, or the peer has begun another
            return
        self._send(session.peer, wire.Goodbye(session.received, session.recorded, session.dropped, session.take))
        self._end(session, "")

    def _vanished(self, session: Session) -> None:
        self._receive_batch()  # what it sent before it went is kept
        if self._sessions.get(session.peer) is session:
            self._end(session, "without a goodbye")

    def _end(self, session: Session, how: str) -> None:
        """Forget the session and close its take; frames already handed over are still committed."""
        if self._sessions.get(session.peer) is not session:
            return
        del self._sessions[session.peer]
        session.leaving = True
        session.memory = session.offered = None
        if how:
            self._note(session, "session_lost", session.last_time, {"how": how})
        self._stop_recording(session)
        session.ring.clear()
        self._share_ring()
        log.info(
            "session closed%s: %s, %d frames, %d dropped",
            f" {how}" if how else "", session.title, session.received, session.dropped,
        )  # fmt: skip
        self._on_event(
            {
                "event": "session_closed",
                "session": session.id,
                "take": session.take,
                "received": session.received,
                "recorded": session.recorded,
                "dropped": session.dropped,
            }
        )

    def _share_ring(self) -> None:
        for session in self._sessions.values():
            session.ring.resize(self.replay_bytes // len(self._sessions))

    def _tick(self, now: float) -> None:
        for session in list(self._sessions.values()):
            if now - session.heard > 1.0:
                # A credit of nothing tells the bridge nothing, and tells us whether it is still there.
                session.heard = now
                self._send(session.peer, wire.Credit(0, session.acknowledged))
            if session.probe is not None and now > session.probe.deadline:
                log.warning("the link of %s could not be measured: its frames come as they are", session.title)
                self._welcome(session)
        state = self._describe(now)
        if state != self._state:
            self._state = state
            self._on_event({"event": "state", "state": state})

    def _describe(self, now: float) -> dict[str, Any]:
        return {
            "endpoint": self.endpoint,
            "refused": self.refused,
            "sessions": [session.describe(now) for session in self._sessions.values()],
        }

    # -- commands

    def _asked(self, session_id: str | None) -> list[Session]:
        sessions = [s for s in self._sessions.values() if session_id in (None, s.id) and s.welcomed and not s.leaving]
        if not sessions:
            raise UserError(_NO_SESSION)
        return sessions

    def _command_record_start(self, session: str | None = None) -> list[str]:
        return [self._start_recording(s) for s in self._asked(session)]

    def _command_record_stop(self, session: str | None = None) -> list[str]:
        names = []
        for s in self._asked(session):
            if s.recorder is not None:
                names.append(s.recorder.name)
                self._stop_recording(s)
        if not names:
            raise UserError("Nothing is being recorded.")
        return names

    def _command_replay_save(self, session: str | None = None, seconds: float | None = None) -> list[str]:
        return [self._save_replay(s, seconds) for s in self._asked(session)]

    def _command_control(self, session: str | None, name: str, args: dict[str, Any]) -> list[str]:
        for s in self._asked(session):
            self._send(s.peer, wire.Control(name, args))
        return []

    _COMMANDS: dict[str, Callable[..., list[str]]] = {
        "record_start": _command_record_start,
        "record_stop": _command_record_stop,
        "replay_save": _command_replay_save,
        "control": _command_control,
    }


def _address(part: zmq.Frame) -> str:
    """Where a message comes from."""
    try:
        return str(part.get("Peer-Address"))
    except zmq.ZMQError:
        return ""
