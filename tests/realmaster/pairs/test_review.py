"""The review page: what it shows, and that what is decided is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from daemon.web.guard import Guard
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.review import create_app
from realmaster.pairs.settings import load_settings
from tests.realmaster.pairs.city_takes import city_take
from tests.realmaster.pairs.test_run import HERE, make

FILTERS = load_settings().filters


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("review")
    take = city_take(folder / "take", 18, size=(96, 64))
    make(take, folder / "d", propagator=f"{HERE}:ShiftedPropagator")
    return Dataset(folder / "d")


@pytest.fixture
def client(dataset: Dataset) -> TestClient:
    return TestClient(Guard(create_app(dataset, FILTERS), None), base_url="http://127.0.0.1")


def test_every_pair_is_shown_with_its_sheet_and_videos(client: TestClient) -> None:
    assert "review.js" in client.get("/").text and client.get("/review.js").status_code == 200
    pairs = client.get("/pairs").json()
    assert len(pairs) == 2 and all(pair["reasons"] and pair["decision"] is None for pair in pairs)
    for kind, content in (("sheet", "image/jpeg"), ("render", "video/mp4"), ("target", "video/mp4")):
        answer = client.get(f"/{kind}/{pairs[0]['id']}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, content)


def test_a_decision_is_remembered_and_moves_the_files(client: TestClient, dataset: Dataset) -> None:
    first, second = (pair["id"] for pair in client.get("/pairs").json())
    assert client.post("/decide", json={"id": first, "decision": "keep"}).status_code == 200
    assert client.get("/pairs").json()[0]["decision"] == "keep"
    assert Dataset(dataset.path).settle(FILTERS) == {"pairs": 1, "rejected": 1}
    assert client.get(f"/target/{first}").status_code == 200 and (dataset.path / f"target/{first}.mp4").is_file()
    client.post("/decide", json={"id": first, "decision": None})
    assert dataset.settle(FILTERS) == {"pairs": 0, "rejected": 2}
    assert client.get(f"/target/{second}").status_code == 200


@pytest.mark.parametrize(
    "decision", [{"id": "nothing", "decision": "keep"}, {"id": "../dataset", "decision": "keep"}, {"id": "a"},
                 {"id": "a", "decision": "perhaps"}],
)  # fmt: skip
def test_bad_decisions_are_refused(client: TestClient, decision: dict) -> None:
    assert client.post("/decide", json=decision).status_code in (404, 422)


def test_nothing_but_the_pairs_is_served(client: TestClient, dataset: Dataset) -> None:
    for path in ("/target/nothing", "/records/x", "/target/..%2F..%2Fdataset.json", "/sheet/%2Fetc%2Fpasswd"):
        assert client.get(path).status_code in (404, 422)
    stranger = TestClient(client.app, base_url="http://evil.example")
    assert stranger.get("/pairs").status_code == 421
    assert client.post("/decide", json={"id": "a"}, headers={"origin": "http://evil.example"}).status_code == 403
    assert not Path(dataset.path / "decisions.jsonl").read_text().count("evil")
