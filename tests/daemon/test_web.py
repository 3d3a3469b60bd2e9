"""The API over real HTTP and WebSockets: what it answers, and that it answers wrong requests in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from capture.pictures import channel_picture
from capture.take import Take
from daemon.jpeg import FAR_METRES, NEAR_METRES
from daemon.service import Service
from daemon.web.api.stream import PICTURE_HEADER, STREAM_VIEWS

from .conftest import record
from .engines import engine, send, until


@pytest.fixture
def http(shared: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{shared.http_url}/api/v1", timeout=60) as client:
        yield client


def test_takes_are_listed_newest_first_whatever_their_names(shared: Service) -> None:
    names = [record(shared, 2) for _ in range(2)]
    older = shared.config.takes / names[0]
    manifest = json.loads((older / "take.json").read_text())
    (older / "take.json").write_text(json.dumps(manifest | {"created": "2020-01-01T00:00:00+00:00"}))
    renamed = older.rename(older.with_name("zzz"))
    try:
        shared.library.refresh()
        listed = [take["name"] for take in shared.library.summaries()]
        assert listed.index(names[1]) < listed.index("zzz") == len(listed) - 1
    finally:
        shutil.rmtree(renamed)


def test_state_and_takes(http: httpx.Client, take: str) -> None:
    until(lambda: http.get("/state").json()["sessions"] == [], what="the end of the sessions before")
    state = http.get("/state").json()
    assert take in [t["name"] for t in state["takes"]]
    assert http.get("/takes").json() == state["takes"]
    info = http.get(f"/takes/{take}").json()
    assert (info["frames"], info["size"], info["state"]) == (12, [64, 48], "closed")
    assert info["times"] == pytest.approx([i / 24 for i in range(12)])


@pytest.mark.parametrize("channel", ["color", "depth", "normal"])
def test_frames_as_pictures(shared: Service, http: httpx.Client, take: str, channel: str) -> None:
    import io

    from PIL import Image

    answer = http.get(f"/takes/{take}/frame/3.jpg", params={"channel": channel})
    assert answer.headers["content-type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)), np.float32)
    truth = channel_picture(Take(shared.config.takes / take)[3], channel, NEAR_METRES, FAR_METRES)
    assert shown.shape == truth.shape
    if channel == "normal":  # smooth, so that JPEG keeps it
        assert np.abs(shown - truth).mean() < 3
    small = http.get(f"/takes/{take}/frame/-1.jpg", params={"channel": channel, "width": 32})
    assert Image.open(io.BytesIO(small.content)).size == (32, 24)


def test_recording_through_the_api(shared: Service, http: httpx.Client) -> None:
    with engine(shared.endpoint, token=shared.token, game="by the API") as sender:
        session = until(lambda: [s for s in http.get("/state").json()["sessions"] if s["game"] == "by the API"])[0]
        (name,) = http.post("/record/start", json={"session": session["id"]}).json()["takes"]
        send(sender, 5)
        until(lambda: http.get("/state").json()["sessions"][0]["recorded"] == 5)
        assert http.get("/state").json()["recording"] == [name]
        assert http.post("/record/stop").json() == {"takes": [name]}
        (replay,) = http.post("/replay/save").json()["takes"]
        until(lambda: states(http).get(name) == states(http).get(replay) == "closed")
    assert len(Take(shared.config.takes / name)) == len(Take(shared.config.takes / replay)) == 5


def states(http: httpx.Client) -> dict[str, str]:
    return {take["name"]: take["state"] for take in http.get("/takes").json()}


def test_a_lift_is_queued_and_cancelled(http: httpx.Client, take: str) -> None:
    answer = http.post("/lifts", json={"take": take, "frames": [0, 5], "prompt": "dusk", "seed": 4})
    assert answer.status_code == 201
    (job,) = http.get("/lifts").json()
    assert (job["take"], job["frames"], job["prompt"], job["seed"]) == (take, [0, 5], "dusk", 4)
    assert http.delete(f"/lifts/{job['id']}").status_code == 200
    until(lambda: http.get("/lifts").json()[0]["state"] in ("cancelled", "failed"))


def test_files_of_a_lift_with_byte_ranges(shared: Service, http: httpx.Client, take: str) -> None:
    folder = shared.config.takes / take / "lifts" / "embedded-1"
    folder.mkdir(parents=True)
    video = bytes(range(256)) * 8
    (folder / "lifted.mp4").write_bytes(video)
    (folder / "report.json").write_text('{"frames": [0, 12]}')
    lifts = until(lambda: http.get(f"/takes/{take}").json()["lifts"])
    assert [(lift["name"], lift["report"]) for lift in lifts] == [("embedded-1", {"frames": [0, 12]})]
    url = f"/takes/{take}/lifts/embedded-1/lifted.mp4"
    assert http.get(url).content == video
    part = http.get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, video[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(video)}"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/takes/nothing", None, 404),
        ("GET", "/nothing", None, 404),
        ("GET", "/takes/{take}/frame/99.jpg", None, 404),
        ("GET", "/takes/{take}/frame/0.jpg?channel=motion", None, 404),
        ("GET", "/takes/{take}/frame/0.jpg?channel=secret", None, 422),
        ("GET", "/takes/{take}/frame/x.jpg", None, 422),
        ("GET", "/takes/{take}/lifts/none/lifted.mp4", None, 404),
        ("PUT", "/takes", None, 405),
        ("POST", "/record/start", None, 409),
        ("POST", "/record/stop", {"session": "x"}, 409),
        ("POST", "/replay/save", None, 409),
        ("POST", "/lifts", {"take": "nothing"}, 404),
        ("POST", "/lifts", {"take": "x", "seed": -1}, 422),
        ("POST", "/lifts", {"take": "{take}", "frames": [5, 5]}, 409),
        ("POST", "/lifts", "not json", 422),
        ("DELETE", "/lifts/77", None, 409),
    ],
)
def test_wrong_requests_are_answered_in_one_sentence(
    http: httpx.Client, take: str, method: str, path: str, body: Any, status: int
) -> None:
    if isinstance(body, dict):
        body = {key: value.format(take=take) if isinstance(value, str) else value for key, value in body.items()}
    answer = http.request(method, path.format(take=take), json=body)
    assert answer.status_code == status, answer.text
    sentence = answer.json()["error"]
    assert set(answer.json()) == {"error"} and sentence.endswith(".") and "\n" not in sentence


def test_the_api_describes_itself(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    for path in ("/state", "/takes", "/takes/{name}/frame/{index}.jpg", "/record/start", "/replay/save", "/lifts"):
        assert f"/api/v1{path}" in paths


def test_state_is_pushed_when_it_changes(shared: Service) -> None:
    async def watch() -> None:
        async with connect(f"{shared.http_url.replace('http', 'ws')}/api/v1/events") as socket:
            assert json.loads(await asyncio.wait_for(socket.recv(), 60))["sessions"] == []
            deadline = time.monotonic() + 60
            with contextlib.suppress(TimeoutError):  # once the previews and lifts of other tests have ended
                while time.monotonic() < deadline:
                    await asyncio.wait_for(socket.recv(), 0.7)
                pytest.fail("nothing happens, and something is said again and again")
            sender = await asyncio.to_thread(engine, shared.endpoint, token=shared.token)
            while not json.loads(await asyncio.wait_for(socket.recv(), 60))["sessions"]:
                pass
            await asyncio.to_thread(sender.close)

    until(lambda: not shared.state()["sessions"], what="the end of the sessions before")
    asyncio.run(watch())


def test_a_viewer_is_sent_no_more_than_it_acknowledges(shared: Service) -> None:
    stop, sent = threading.Event(), 0

    def drive() -> None:
        nonlocal sent
        with engine(shared.endpoint, token=shared.token, mode="live") as sender:
            while not stop.is_set():
                send(sender, 1, first=sent)
                sent += 1
                stop.wait(0.03)

    async def watch() -> None:
        async with connect(f"{shared.http_url.replace('http', 'ws')}/api/v1/stream") as socket:
            await socket.send(json.dumps({"watch": ["color", "nonsense"], "session": None}))
            numbers, serials = [], []
            for _ in range(3):
                data = await asyncio.wait_for(socket.recv(), 60)
                view, _, age, number, serial, _ = PICTURE_HEADER.unpack_from(data)
                assert age > 0
                assert STREAM_VIEWS[view] == "color" and data[PICTURE_HEADER.size :][:2] == b"\xff\xd8"
                numbers.append(number)
                serials.append(serial)
            assert numbers == [1, 2, 3] and serials == sorted(serials)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.7)
            await asyncio.to_thread(until, lambda: sent > serials[-1] + 30)
            await socket.send(json.dumps({"ack": 3}))
            data = await asyncio.wait_for(socket.recv(), 60)
            newest = PICTURE_HEADER.unpack_from(data)[4]
            assert newest > serials[-1] + 5  # the newest, not the next: nothing was queued up meanwhile

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        asyncio.run(watch())
    finally:
        stop.set()
        driver.join(60)


@pytest.mark.parametrize("message", ["no json", "[]", '{"ack": "x"}', '{"watch": 5}', '{"ack": 99999999999}'])
def test_nonsense_on_the_stream_harms_nobody(shared: Service, http: httpx.Client, message: str) -> None:
    async def say() -> None:
        async with connect(f"{shared.http_url.replace('http', 'ws')}/api/v1/stream") as socket:
            await socket.send(message)
            try:
                await asyncio.wait_for(socket.recv(), 0.3)
            except (TimeoutError, ConnectionClosed):
                pass

    asyncio.run(say())
    assert http.get("/state").status_code == 200


def test_header_layout_is_what_the_page_reads() -> None:
    """stream.js reads view, number and time at fixed offsets."""
    data = PICTURE_HEADER.pack(6, 0, 45, 77, 1234, 5.5)
    assert len(data) == 24
    assert (data[0], struct.unpack_from("<H", data, 2)[0], struct.unpack_from("<I", data, 4)[0]) == (6, 45, 77)
    assert struct.unpack_from("<d", data, 16)[0] == 5.5
    script = (Path(__file__).parents[2] / "daemon" / "web" / "static" / "stream.js").read_text()
    assert f"const VIEWS = {json.dumps(list(STREAM_VIEWS))};" in script
