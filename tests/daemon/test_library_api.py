"""The library through the API: names, notes, trash, thumbnails, exports with their files, trims, models."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from capture.take import Take
from capture.video import read_video, write_video
from daemon.service import Service

from .conftest import record
from .engines import assert_exact, until


@pytest.fixture
def http(shared: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{shared.http_url}/api/v1", timeout=60) as client:
        yield client


def make_lift(service: Service, take: str, frames: tuple[int, int], name: str = "embedded-1") -> Path:
    """A finished lift whose pictures tell their place by their grey."""
    folder = service.config.takes / take / "lifts" / name
    folder.mkdir(parents=True)
    count = frames[1] - frames[0]
    pictures = [np.full((48, 64, 3), 10 * place, np.uint8) for place in range(count)]
    write_video(folder / "lifted.mp4", iter(pictures), times=[place / 24 for place in range(count)])
    scores = {"lifted": {"depth_edges_to_render": 0.9}, "render": {}}
    report = {
        "frames": list(frames),
        "model": "embedded",
        "prompt": "dusk",
        "seed": 3,
        "seconds": 1.5,
        "scores": scores,
    }
    (folder / "report.json").write_text(json.dumps(report))
    service.library.refresh()
    return folder


def finished(http: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """The export that was asked for, once it has ended."""
    assert answer.status_code == 201, answer.text
    number = answer.json()["id"]
    return until(
        lambda: next(
            (job for job in http.get("/exports").json() if job["id"] == number and job["state"] in ("done", "failed")),
            None,
        ),
        what="the export",
    )


def test_notes_and_a_new_name(shared: Service, http: httpx.Client) -> None:
    name = record(shared, 3)
    assert http.get(f"/takes/{name}/frame/0.jpg").status_code == 200  # a reader is open
    answer = http.patch(f"/takes/{name}", json={"notes": "rain\n<b>", "name": "street.1"}).json()
    assert (answer["name"], answer["notes"]) == ("street.1", "rain\n<b>\n")
    assert http.get(f"/takes/{name}").status_code == 404
    assert http.get("/takes/street.1/frame/2.jpg").status_code == 200
    assert "street.1" in [take["name"] for take in http.get("/takes").json()]
    for wrong in ("../x", "..", "a/b", " ", "con", "x" * 101):
        refused = http.patch("/takes/street.1", json={"name": wrong})
        assert refused.status_code in (409, 422) and refused.json()["error"].endswith(".")
    assert http.patch("/takes/street.1", json={"name": record(shared, 2)}).status_code == 409
    assert http.patch("/takes/street.1", json={"colour": "red"}).status_code == 422


def test_deleted_takes_and_lifts_come_back(shared: Service, http: httpx.Client) -> None:
    name = record(shared, 4)
    make_lift(shared, name, (0, 4))
    assert [lift["name"] for lift in http.get(f"/takes/{name}").json()["lifts"]] == ["embedded-1"]
    lift = http.delete(f"/takes/{name}/lifts/embedded-1").json()
    assert http.get(f"/takes/{name}").json()["lifts"] == []
    take = http.delete(f"/takes/{name}").json()
    assert http.get(f"/takes/{name}").status_code == 404
    assert [entry["id"] for entry in http.get("/trash").json()] == [take["id"], lift["id"]]
    assert http.post(f"/trash/{take['id']}/restore").json() == {"take": name}
    assert http.post(f"/trash/{lift['id']}/restore").json() == {"take": name}
    assert [lift["name"] for lift in http.get(f"/takes/{name}").json()["lifts"]] == ["embedded-1"]
    for frame in Take(shared.config.takes / name):
        assert_exact(frame)
    gone = http.delete(f"/takes/{name}").json()
    assert http.delete(f"/trash/{gone['id']}").json()["bytes"] > 0
    assert http.get("/trash").json() == [] and http.delete("/trash").json() == {"bytes": 0}
    assert http.post("/trash/..%2f..%2fetc/restore").status_code in (404, 405)


def test_a_take_that_is_worked_on_stays(shared: Service, http: httpx.Client, take: str) -> None:
    job = http.post("/lifts", json={"take": take}).json()
    assert http.patch(f"/takes/{take}", json={"name": "other"}).status_code == 409
    assert "being lifted" in http.delete(f"/takes/{take}").json()["error"]
    http.delete(f"/lifts/{job['id']}")
    until(lambda: http.get("/lifts").json()[0]["state"] in ("cancelled", "failed", "done"))


def test_details_hold_what_a_player_needs(shared: Service, http: httpx.Client, take: str) -> None:
    found = http.get(f"/takes/{take}").json()
    assert found["elapsed"] == pytest.approx([i / 24 for i in range(12)]) and found["notes"] == ""
    assert len(found["times"]) == found["frames"] == 12


def test_thumbnails_of_a_take_and_of_its_lift_show_the_same_moment(shared: Service, http: httpx.Client) -> None:
    name = record(shared, 12)
    make_lift(shared, name, (2, 10))
    picture = Image.open(io.BytesIO(http.get(f"/takes/{name}/thumbnail.jpg").content))
    assert picture.size == (64, 48)
    lifted = np.asarray(Image.open(io.BytesIO(http.get(f"/takes/{name}/lifts/embedded-1/thumbnail.jpg").content)))
    assert abs(float(lifted.mean()) - 10 * (6 - 2)) < 4  # frame 6 is the middle of twelve, the fifth of the lift
    assert http.get(f"/takes/{name}/lifts/%2e%2e%2fx/thumbnail.jpg").status_code == 404
    assert http.get(f"/takes/{name}/lifts/nothing/thumbnail.jpg").status_code == 404


def test_edges_are_a_view_of_a_take(http: httpx.Client, take: str) -> None:
    answer = http.get(f"/takes/{take}/frame/3.jpg", params={"channel": "edges"})
    assert Image.open(io.BytesIO(answer.content)).size == (64, 48)


def test_a_video_is_exported_downloaded_and_found(shared: Service, http: httpx.Client, take: str) -> None:
    job = finished(http, http.post("/exports", json={"take": take, "to": "mp4", "frames": [2, 8]}))
    assert (job["state"], job["name"], job["done"], job["total"]) == ("done", f"{take}-2-8.mp4", 6, 6)
    path = Path(job["path"])
    assert path.parent == shared.config.takes / "exports" and path.stat().st_size == job["bytes"]
    assert len(read_video(path)[0]) == 6
    answer = http.get(f"/exports/{job['id']}/download")
    assert answer.content == path.read_bytes() and job["name"] in answer.headers["content-disposition"]
    again = finished(http, http.post("/exports", json={"take": take, "to": "mp4", "frames": [2, 8]}))
    assert again["name"] == f"{take}-2-8-2.mp4"
    assert not list(path.parent.glob(".part-*"))
    path.unlink()
    assert http.get(f"/exports/{job['id']}/download").status_code == 409


def test_a_folder_is_downloaded_as_a_zip(shared: Service, http: httpx.Client, take: str) -> None:
    job = finished(http, http.post("/exports", json={"take": take, "to": "frames", "frames": [0, 2]}))
    folder = Path(job["path"])
    files = {file.relative_to(folder.parent).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    with zipfile.ZipFile(io.BytesIO(http.get(f"/exports/{job['id']}/download").content)) as archive:
        assert archive.testzip() is None and set(archive.namelist()) == set(files)
        assert all(archive.read(name) == file.read_bytes() for name, file in files.items())


def test_a_lift_is_exported_alone_and_beside_its_render(shared: Service, http: httpx.Client) -> None:
    name = record(shared, 12)
    folder = make_lift(shared, name, (2, 10))
    alone = finished(http, http.post("/exports", json={"take": name, "to": "lift", "lift": "embedded-1"}))
    assert Path(alone["path"]).read_bytes() == (folder / "lifted.mp4").read_bytes()
    both = finished(http, http.post("/exports", json={"take": name, "to": "compare", "lift": "embedded-1"}))
    pictures, _ = read_video(both["path"])
    assert pictures.shape[0] == 8 and pictures.shape[2] >= 128
    truth = Take(shared.config.takes / name)[9].color
    shown = pictures[7, 24:48, :64]  # below the caption
    assert np.corrcoef(shown.mean(-1).ravel(), truth[24:48].mean(-1).ravel())[0, 1] > 0.7
    assert pictures[7, 24:48, -60:].std() < 3


def test_a_trim_is_a_take_of_its_own(shared: Service, http: httpx.Client, take: str) -> None:
    job = finished(http, http.post(f"/takes/{take}/trim", json={"frames": [3, 7], "name": "turn"}))
    assert (job["state"], job["name"]) == ("done", "turn")
    made = Take(shared.config.takes / "turn")
    assert [frame.serial for frame in made] == [3, 4, 5, 6]
    for frame in made:
        assert_exact(frame)
    assert len(Take(shared.config.takes / take)) == 12
    assert http.post(f"/takes/{take}/trim", json={"frames": [3, 7], "name": "turn"}).status_code == 409
    assert http.get(f"/exports/{job['id']}/download").status_code == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"take": "nothing", "to": "mp4"}, 404),
        ({"take": "{take}", "to": "exe"}, 422),
        ({"take": "{take}", "to": "take"}, 422),
        ({"take": "{take}", "to": "lift"}, 409),
        ({"take": "{take}", "to": "mp4", "lift": "embedded-1"}, 409),
        ({"take": "{take}", "to": "lift", "lift": "../../x"}, 409),
        ({"take": "{take}", "to": "exr", "channel": "color"}, 409),
        ({"take": "{take}", "to": "mp4", "frames": [5, 5]}, 409),
    ],
)
def test_exports_that_cannot_be(http: httpx.Client, take: str, body: dict[str, Any], status: int) -> None:
    answer = http.post("/exports", json={key: take if value == "{take}" else value for key, value in body.items()})
    assert answer.status_code == status and answer.json()["error"].endswith(".")


def test_an_export_that_fails_says_why_and_leaves_nothing(shared: Service, http: httpx.Client, take: str) -> None:
    job = finished(http, http.post("/exports", json={"take": take, "to": "mp4", "channel": "motion"}))
    assert job["state"] == "failed" and "motion" in job["sentence"] and not Path(job["path"]).exists()
    assert http.delete("/exports/99").status_code == 409


def test_what_there_is_to_lift_with(http: httpx.Client) -> None:
    found = until(lambda: (it := http.get("/models").json()) and not it["pending"] and it, 280, "the models")
    embedded = found["models"][0]
    assert (embedded["name"], embedded["runs"], embedded["live"]) == ("embedded", True, True)
    assert {"ltx-2.3", "wan-2.2"} <= {model["name"] for model in found["models"]}
    assert all(model["verdict"] for model in found["models"]) and found["device"]


def test_the_daemon_s_model_is_chosen_by_name(http: httpx.Client, take: str) -> None:
    before = http.get("/state").json()["model"]
    try:
        assert http.put("/model", json={"name": "vace-1.3b", "lora": "a/b"}).json()["name"] == "vace-1.3b"
        now = http.get("/state").json()["model"]
        assert (now["name"], now["lora"], now["rules"]) == ("vace-1.3b", "a/b", None)
        for wrong in ("/etc", "nothing", "../embedded"):
            assert http.put("/model", json={"name": wrong}).status_code == 409
    finally:
        http.put("/model", json={"name": before["name"], "lora": before["lora"]})
