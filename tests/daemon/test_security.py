"""Who is let in over HTTP, and that names never become paths."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from capture.errors import UserError
from daemon.service import DaemonConfig, Service
from daemon.web import connections
from daemon.web.guard import GUESSES


def get(service: Service, path: str = "/api/v1/state", **headers: str) -> httpx.Response:
    return httpx.get(service.http_url + path, headers=headers, timeout=60)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::"])
def test_a_foreign_host_name_is_refused(shared: Service, host: str) -> None:
    """DNS rebinding: a name of somebody else's that resolves to this machine."""
    answer = get(shared, Host=host)
    assert answer.status_code in (400, 421) and "sessions" not in answer.text
    assert get(shared, "/", Host=host).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]:8765", "LOCALHOST:1"])
def test_this_machines_own_names_are_served(shared: Service, host: str) -> None:
    assert get(shared, Host=host).status_code == 200


def test_other_pages_cannot_make_requests(shared: Service) -> None:
    url = f"{shared.http_url}/api/v1/record/start"
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another program's page on this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert httpx.post(url, headers=headers, timeout=60).status_code == 403, headers
    own = {"Origin": shared.http_url, "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(url, headers=own, timeout=60).status_code == 409  # let in; there is no engine


@pytest.mark.parametrize("path", ["events", "stream"])
def test_other_pages_cannot_open_websockets(shared: Service, path: str) -> None:
    async def try_it(origin: str | None) -> None:
        async with connect(f"{shared.http_url.replace('http', 'ws')}/api/v1/{path}", origin=origin):
            pass

    with pytest.raises(InvalidStatus):
        asyncio.run(try_it("http://evil.example"))
    asyncio.run(try_it(shared.http_url))
    asyncio.run(try_it(None))


def raw_get(service: Service, target: str) -> bytes:
    """A GET whose path no client library tidies up."""
    host, port = service.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/app.py",
        "/api/v1/takes/..",
        "/api/v1/takes/%2e%2e%2fsecret",
        "/api/v1/takes/..%5csecret/frame/0.jpg",
        "/api/v1/takes/%2fetc/frame/0.jpg",
        "/api/v1/takes/{take}/lifts/%2e%2e/take.json",
        "/api/v1/takes/{take}/lifts/../take.json",
        "/api/v1/takes/{take}/lifts/%2e%2e%2f%2e%2e/secret.txt",
        "/api/v1/takes/{take}/lifts/x/%2e%2e%2ftake.json",
        "/api/v1/takes/%00/frame/0.jpg",
        "/api/v1/takes/.hidden",
        f"/api/v1/takes/{'long' * 1000}",
        f"/api/v1/takes/{{take}}/lifts/{'long' * 100}/lifted.mp4",
        f"/api/v1/datasets/{'long' * 1000}/pairs",
        f"/{'long' * 1000}",
    ],
)
def test_names_never_become_paths(shared: Service, take: str, target: str) -> None:
    takes = shared.config.takes
    (takes.parent / "secret.txt").write_text("SECRET")
    (takes.parent / "secret").mkdir(exist_ok=True)
    answer = raw_get(shared, target.format(take=take))
    status = int(answer.split()[1])
    assert 400 <= status < 500 and b"SECRET" not in answer and b'"format"' not in answer and b"root:" not in answer


def test_links_out_of_a_lift_are_not_followed(shared: Service, take: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("SECRET")
    folder = shared.config.takes / take / "lifts" / "linked"
    folder.mkdir(parents=True)
    try:
        (folder / "lifted.mp4").symlink_to(tmp_path / "secret.txt")
    except OSError:
        pytest.skip("this system makes no links")
    assert get(shared, f"/api/v1/takes/{take}/lifts/linked/lifted.mp4").status_code == 404


def test_the_page_runs_only_its_own_scripts(shared: Service) -> None:
    policy = get(shared, "/").headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_beyond_this_machine_everything_needs_the_token(tmp_path: Path) -> None:
    config = DaemonConfig(
        takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0", http_token="s3cret-token-of-16"
    )
    with Service(config) as service:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "realmaster-token=wrong"}):
            assert get(service, **headers).status_code == 401
            assert get(service, "/", **headers).status_code == 401
        assert (
            get(service, "/api/v1/state?token=s3cret-token-of-16").status_code == 401
        )  # only the page's link takes it
        assert get(service, Authorization="Bearer s3cret-token-of-16").status_code == 200
        with httpx.Client(base_url=service.http_url, follow_redirects=True, timeout=60) as browser:
            page = browser.get("/?token=s3cret-token-of-16")
            assert page.status_code == 200 and "token" not in str(page.url)
            assert browser.get("/api/v1/state").status_code == 200

        async def without_token() -> None:
            async with connect(f"{service.http_url.replace('http', 'ws')}/api/v1/events"):
                pass

        with pytest.raises(InvalidStatus):
            asyncio.run(without_token())


def test_guessing_the_token_is_cut_short(tmp_path: Path) -> None:
    config = DaemonConfig(
        takes=tmp_path / "takes", listen="tcp://127.0.0.1:*", http="127.0.0.1:0", http_token="s3cret-token-of-16"
    )
    with Service(config) as service, httpx.Client(base_url=service.http_url, timeout=60) as client:
        for number in range(GUESSES):
            assert client.get("/api/v1/state", headers={"Authorization": f"Bearer {number}"}).status_code == 401
        for token in ("guess", "s3cret-token-of-16"):  # the right one would else be told from the wrong ones
            answer = client.get("/api/v1/state", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 429 and "token" in answer.json()["error"]
    with pytest.raises(UserError, match="can be guessed"):
        Service(DaemonConfig(takes=tmp_path / "takes", http="127.0.0.1:0", http_token="short")).start()


def dialogue(service: Service, sent: bytes, seconds: float = 60.0) -> bytes:
    """What the daemon says to these bytes until it closes the connection."""
    host, port = service.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            while part := connection.recv(65536):
                answer += part
    return answer


def test_headers_and_bodies_beyond_all_measure_are_refused(shared: Service) -> None:
    start = b"POST /api/v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    assert b" 400 " in dialogue(shared, start + b"X: " + b"a" * 200_000 + b"\r\n\r\n").split(b"\r\n")[0]
    many = b"".join(b"X-%d: a\r\n" % number for number in range(20_000))
    assert b" 400 " in dialogue(shared, start + many + b"\r\n").split(b"\r\n")[0]
    assert b" 413 " in dialogue(shared, start + b"Content-Length: 99999999999\r\n\r\n").split(b"\r\n")[0]
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert b" 413 " in dialogue(shared, start + b"Transfer-Encoding: chunked\r\n\r\n" + 20 * chunk).split(b"\r\n")[0]
    whole = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(80))  # none large, and all at once
    assert b" 431 " in dialogue(shared, start + whole + b"\r\n").split(b"\r\n")[0]
    nested = b'{"on": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = dialogue(shared, start + b"Content-Length: %d\r\n\r\n" % len(nested) + nested)
    assert answer.split()[1] in (b"400", b"422") and b'"error"' in answer
    for length in (b"-1", b"x", b"1, 2"):
        assert b" 400 " in dialogue(shared, start + b"Content-Length: " + length + b"\r\n\r\n").split(b"\r\n")[0]
    assert get(shared).status_code == 200


def test_a_client_that_drips_its_request_is_cut_off(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 2.0)
    for begin in (
        b"",
        b"GET /api/v1/sta",
        b"POST /api/v1/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    ):
        began = time.monotonic()
        assert dialogue(shared, begin) == b""
        assert time.monotonic() - began >= 1.9  # not at once
    answer = dialogue(
        shared, b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/v1/"
    )  # the second one drips
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1

    async def watch() -> None:
        async with connect(f"{shared.http_url.replace('http', 'ws')}/api/v1/events") as events:
            await events.recv()
            await asyncio.sleep(2.5)
            await (await events.ping())  # a WebSocket may stay

    asyncio.run(watch())


def test_a_thousand_connections_keep_nobody_out(shared: Service) -> None:
    host, port = shared.http_url.removeprefix("http://").split(":")
    crowd = []
    try:
        for _ in range(1000):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex((host, int(port)))
            crowd.append(connection)
        assert get(shared).status_code == 200
        assert len(shared._web._server.server_state.connections) <= connections.MOST_CONNECTIONS + 1  # type: ignore[union-attr]
    finally:
        for connection in crowd:
            connection.close()
    assert get(shared).status_code == 200
