"""The review of pairs: what it shows, and that what is decided is remembered."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from daemon.web.guard import Guard
from daemon.web.review import create_review_app
from realmaster.commands.pairs_review import serve
from realmaster.pairs.dataset import Dataset
from realmaster.pairs.review import Review, Shelf
from realmaster.pairs.settings import PairsError, load_settings
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
    shelf = Shelf(reviews={"d": Review(dataset, FILTERS)})
    return TestClient(Guard(create_review_app(shelf), None), base_url="http://127.0.0.1")


PAIRS = "/api/v1/datasets/d/pairs"


def decide(client: TestClient, clip: str, decision: str | None) -> int:
    return client.put(f"{PAIRS}/{clip}/decision", json={"decision": decision}).status_code


def test_every_pair_is_shown_with_its_sheet_and_videos(client: TestClient) -> None:
    assert "review.js" in client.get("/").text and client.get("/review.js").status_code == 200
    (entry,) = client.get("/api/v1/datasets").json()
    assert (entry["name"], entry["pairs"], entry["kept"], entry["decided"]) == ("d", 2, 0, 0)
    pairs = client.get(PAIRS).json()
    assert len(pairs) == 2
    assert all(pair["reasons"] and pair["decision"] is None and not pair["kept"] for pair in pairs)
    for kind, content in (("sheet", "image/jpeg"), ("render", "video/mp4"), ("target", "video/mp4")):
        answer = client.get(f"{PAIRS}/{pairs[0]['id']}/{kind}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, content)


def test_a_decision_is_remembered_and_moves_the_files(client: TestClient, dataset: Dataset) -> None:
    first, second = (pair["id"] for pair in client.get(PAIRS).json())
    assert decide(client, first, "keep") == 200
    assert client.get(PAIRS).json()[0]["decision"] == "keep" and client.get(PAIRS).json()[0]["kept"]
    assert client.post("/api/v1/datasets/d/settle").json() == {"pairs": 1, "rejected": 1}
    assert client.get(f"{PAIRS}/{first}/target").status_code == 200
    assert (dataset.path / f"target/{first}.mp4").is_file()
    assert decide(client, first, None) == 200
    assert dataset.settle(FILTERS) == {"pairs": 0, "rejected": 2}
    assert client.get(f"{PAIRS}/{second}/target").status_code == 200


def test_the_address_is_told_once_it_answers(dataset: Dataset) -> None:
    class Told(Exception):
        pass

    def open_at_once(url: str) -> None:
        address = urlsplit(url)
        socket.create_connection((address.hostname, address.port), timeout=5).close()
        raise Told

    with pytest.raises(Told):
        serve(dataset, FILTERS, open_at_once)


def test_a_folder_of_datasets_is_judged_as_each_was_last(dataset: Dataset) -> None:
    most = dict.fromkeys(("offset", "lag", "flicker", "warp_error", "anchor_drift", "identity"), 9)
    least = {"depth_edges": 0.0, "edges_shared": -1.0, "frame_order": 0.0, "novelty": 0.0}
    loose = FILTERS.model_copy(update=most | least)
    shelf = Shelf(dataset.path.parent)
    assert [entry["name"] for entry in shelf.datasets()] == ["d"]
    dataset.settle(loose)
    try:
        assert all(pair["kept"] for pair in shelf.review("d").pairs())
    finally:
        dataset.settle(FILTERS)
    assert not any(pair["kept"] for pair in shelf.review("d").pairs())
    for name in ("..", "take", "nothing", ""):
        with pytest.raises(PairsError):
            shelf.review(name)


@pytest.mark.parametrize(
    ("clip", "body"), [("nothing", {"decision": "keep"}), ("..%2fdataset", {"decision": "keep"}), ("a", {}),
                       ("a", {"decision": "perhaps"})],
)  # fmt: skip
def test_bad_decisions_are_refused(client: TestClient, clip: str, body: dict) -> None:
    assert client.put(f"{PAIRS}/{clip}/decision", json=body).status_code in (404, 405, 409, 422)
