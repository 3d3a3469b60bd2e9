"""The daemon as a whole: its processes come up together, survive each other's death, and go down together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capture.connection import read_connection
from capture.errors import UserError
from capture.take import Take, verify
from daemon.preview import Picture
from daemon.service import DaemonConfig, Service

from .conftest import record
from .engines import assert_exact, engine, send, settled, until
from .test_lifts import needs_model, running


def test_records_by_command_and_lists_the_take(service: Service) -> None:
    name = record(service, 30)
    (take,) = service.state()["takes"]
    assert (take["name"], take["state"], take["frames"], take["size"]) == (name, "closed", 30, (64, 48))
    for frame in Take(service.config.takes / name):
        assert_exact(frame)
    until(lambda: (service.config.takes / name / "preview.mp4").is_file(), what="the preview video")
    assert any(name in notice["text"] for notice in service.state()["notices"])


def test_saves_the_last_seconds(service: Service) -> None:
    with engine(service.endpoint) as sender:
        send(sender, 20)
        until(lambda: [s for s in service.state()["sessions"] if s["ring"]["frames"] == 20])
        (name,) = service.replay_save()
        until(lambda: (service.config.takes / name / "index").is_file())
    assert [frame.serial for frame in Take(service.config.takes / name)] == list(range(20))


def test_the_connection_file_leads_to_the_page(service: Service) -> None:
    told = read_connection(service.endpoint)
    assert (told.endpoint, told.token, told.http) == (service.endpoint, service.token, service.http_url)


def test_pictures_flow_only_while_somebody_watches(service: Service) -> None:
    seen: list[Picture] = []
    with engine(service.endpoint) as sender:
        service.watch("test", seen.append, ("color", "depth"))
        serial = 0

        def both() -> bool:
            nonlocal serial
            send(sender, 1, first=serial)
            serial += 1
            return {picture.view for picture in seen} == {"color", "depth"}

        until(both)
        service.watch("test", seen.append, ())
        count = settled(lambda: len(seen))
        send(sender, 10, first=serial)
        assert settled(lambda: len(seen)) == count
    assert all(picture.jpeg.startswith(b"\xff\xd8") for picture in seen)


def test_a_killed_ingest_process_is_started_again_and_its_take_repaired(service: Service) -> None:
    sender = engine(service.endpoint, connect_timeout=30)
    with sender:
        (name,) = service.record_start()
        send(sender, 15)
        until(lambda: sender.connected and sender.stats.acknowledged == 14)
        assert service._ingest is not None and service._ingest.pid is not None
        os.kill(service._ingest.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        until(lambda: not sender.connected, what="the loss of the connection")
        send(sender, 5, first=15)  # lossless: waits for the successor
        until(lambda: service.state()["takes"][0]["state"] == "closed", what="the repair")
        take = Take(service.config.takes / name)
        assert [frame.serial for frame in take] == list(range(15))
        assert verify(take.path).problems == []
        until(lambda: [s for s in service.state()["sessions"] if s["frames"] == 5])
    assert service.state()["problem"] is None
    assert [notice for notice in service.state()["notices"] if f"Recording ended with it: {name}" in notice["text"]]


def test_stopping_closes_the_take_within_seconds(tmp_path: Path) -> None:
    config = DaemonConfig(
        takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0", auto_record=True, replay_seconds=1
    )
    service = Service(config).start()
    sender = engine(service.endpoint)
    send(sender, 10)
    until(lambda: sender.connected and sender.stats.acknowledged == 9)
    began = time.monotonic()
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    until(lambda: not sender.connected)  # the engine goes on meanwhile, and hears the goodbye
    stopping.join(60)
    service.stop()
    assert time.monotonic() - began < 20  # well before anything is ended by force, twice over
    assert service._ingest is not None and not service._ingest.alive
    assert sender.goodbye is not None and sender.goodbye.recorded == 10
    sender.close()
    (path,) = (tmp_path / "takes").iterdir()
    assert Take(path).state == "closed" and len(Take(path)) == 10


def test_what_belongs_to_a_take_does_not_hold_up_the_end_and_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(path: Path, stop: Callable[[], bool]) -> bool:
        begun.set()
        while not stop():
            time.sleep(0.02)
        return False

    begun = threading.Event()
    config = DaemonConfig(takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0")
    with monkeypatch.context() as slow:
        slow.setattr("daemon.service.make_preview", endless)
        with Service(config) as service:
            name = record(service, 6)
            assert begun.wait(60)
            began = time.monotonic()
        assert time.monotonic() - began < 20
    take = config.takes / name
    assert not (take / "preview.mp4").exists() and not (take / "health.json").exists()
    with Service(config):
        until(lambda: (take / "preview.mp4").exists() and (take / "health.json").exists(), what="what was left undone")


DAEMON = """
import sys
from pathlib import Path
from daemon.service import DaemonConfig, Service
if __name__ == "__main__":
    service = Service(DaemonConfig(takes=Path(sys.argv[1]), listen="tcp://127.0.0.1:*", http="127.0.0.1:0",
                                   auto_record=True)).start()
    print(service.endpoint, service._ingest.pid, flush=True)
    service.run_forever()
    print("stopped", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("sign", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_when_the_daemon_ends_by_whatever_death_takes_are_closed(tmp_path: Path, sign: str) -> None:
    script = tmp_path / "daemon_script.py"
    script.write_text(DAEMON)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "takes")], stdout=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout is not None
    endpoint, ingest = process.stdout.readline().split()
    sender = engine(endpoint)
    send(sender, 8)
    until(lambda: sender.connected and sender.stats.acknowledged == 7)
    process.send_signal(getattr(signal, sign))
    process.wait(60)
    until(lambda: not running(int(ingest)), what="the end of the ingest process")
    assert process.stdout.read().strip() == ("" if sign == "SIGKILL" else "stopped")
    (path,) = (tmp_path / "takes").iterdir()
    assert Take(path).state == "closed" and len(Take(path)) == 8
    until(lambda: sender.goodbye is not None or not sender.connected)
    sender.close()


@needs_model
@pytest.mark.slow
def test_live_lift_shows_each_lifted_frame_with_its_source(service: Service) -> None:
    seen: list[Picture] = []
    service.watch("test", seen.append, ("lifted", "source"))
    service.live.set(True, steps=1)
    with engine(service.endpoint) as sender:
        serial = 0

        def shown() -> bool:
            nonlocal serial
            send(sender, 1, first=serial)
            serial += 1
            time.sleep(0.05)
            return len(seen) >= 18

        until(shown, 180, "lifted windows")
        assert service.live.state()["lag"] is not None  # in tenths of a second: 0.0 where the model is quick
        service.live.set(False)
    first = seen[:18]
    assert [picture.view for picture in first] == ["source", "lifted"] * 9
    serials = [picture.serial for picture in first[::2]]
    assert serials == [picture.serial for picture in first[1::2]] == sorted(set(serials))
    assert service.live.state()["what"] == "off"


def test_addresses_that_are_taken_or_not_allowed_are_one_sentence(service: Service, tmp_path: Path) -> None:
    http = service.http_url.removeprefix("http://")
    free = {"listen": "tcp://127.0.0.1:*", "http": "127.0.0.1:0"}
    for wrong, sentence in (
        ({"listen": service.endpoint}, "is in use"),
        ({"http": http}, "is in use"),
        ({"listen": "tcp://0.0.0.0:5790"}, "CURVE"),
        ({"listen": "tcp://127.0.0.1"}, "must have the form tcp://HOST:PORT"),
        ({"listen": "tcp://127.0.0.1:99999"}, "must have the form tcp://HOST:PORT"),
        ({"listen": "ipc:///tmp/realmaster"}, "must have the form tcp://HOST:PORT"),
        ({"http": "0.0.0.0:8765"}, "needs a token"),
        ({"http": "nonsense"}, "HOST:PORT"),
        ({"http": "http://127.0.0.1:8765"}, "HOST:PORT"),
    ):
        with pytest.raises(UserError, match=sentence):
            Service(DaemonConfig(takes=tmp_path / "takes", **(free | wrong))).start()
    assert service.state()["problem"] is None  # the one that runs is untouched
    with socket.create_connection((http.split(":")[0], int(http.split(":")[1])), timeout=5):
        pass
