"""A running daemon as the commands see it: its HTTP API, found by the connection file.

Works on URLs and JSON; knows nothing of what the answers mean.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from capture.errors import SenderError, UserError
from realmaster.commands.options import add_command

API = "/api/v1"
ANSWER_SECONDS, AT_ONCE_SECONDS = 100.0, 5.0


class Daemon:
    """The API of the daemon at `url`. REALMASTER_HTTP_TOKEN is shown where it is set."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @classmethod
    def at(cls, endpoint: str | None = None) -> Daemon:
        """The daemon on this machine whose bridges connect to `endpoint`. Raises UserError when there is none."""
        from capture.connection import DEFAULT_ENDPOINT, read_connection

        endpoint = endpoint or DEFAULT_ENDPOINT
        try:
            url = read_connection(endpoint).http
        except SenderError:
            raise UserError(f"No daemon runs at {endpoint}: start one with `realmaster daemon`.") from None
        if not url:
            raise UserError(f"What listens on {endpoint} is no `realmaster daemon`, and has no API.")
        return cls(url)

    def answers(self) -> bool:
        """Whether it is there, and hears us."""
        try:
            with self._answer("GET", f"{API}/state", None, AT_ONCE_SECONDS):
                return True
        except UserError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request, its JSON read; UserError with the daemon's own sentence when it refuses."""
        return json.loads(self.fetch(method, API + path, body))

    def fetch(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of an answer; errors as `call`."""
        with self._answer(method, path, body) as answer:
            data: bytes = answer.read()
            return data

    def download(self, path: str, out: Path | None = None) -> Path:
        """Save what the daemon sends, however much, to `out` or, here, under the name that it gives; errors as `call`,
        and for a file that exists."""
        with self._answer("GET", path, None) as answer:
            target = out or Path(Path(answer.headers.get_filename() or "download").name)
            if target.exists():
                raise UserError(f"{target} exists: choose another file with -o.")
            part = target.with_name(f".{target.name}.part")
            try:
                with part.open("wb") as file:
                    shutil.copyfileobj(answer, file)
                part.rename(target)
            finally:
                part.unlink(missing_ok=True)
        return target

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Any, timeout: float = ANSWER_SECONDS
    ) -> Iterator[http.client.HTTPResponse]:
        request = urllib.request.Request(
            self.url + path, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"},
            method=method,
        )  # fmt: skip
        if token := os.environ.get("REALMASTER_HTTP_TOKEN"):
            request.add_header("Authorization", f"Bearer {token}")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's own
        try:
            with direct.open(request, timeout=timeout) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            try:
                sentence = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                sentence = f"The daemon at {self.url} answers with {error.code}."
            raise UserError(sentence) from None
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)
            raise UserError(
                f"The daemon at {self.url} does not answer ({why}): start one with `realmaster daemon`."
            ) from None


def path_of(*names: str) -> str:
    """A path of the API, whatever the names hold."""
    return "/" + "/".join(urllib.parse.quote(name, safe="") for name in names)


def add_action(
    actions: Any, name: str, summary: str, run: Callable[..., Mapping[str, Any]], example: str, about: str = ""
) -> argparse.ArgumentParser:
    """Declare `realmaster daemon NAME` with `--daemon`; the example is what follows `daemon`."""
    parser = add_command(actions, name, summary, run=run, example=f"realmaster daemon {example}", about=about)
    add_daemon(parser)
    return parser


def add_daemon(parser: argparse.ArgumentParser) -> None:
    """`--daemon`: which one is meant."""
    parser.add_argument("--daemon", metavar="URL|ENDPOINT", help="http://HOST:PORT of the daemon, or where its bridges "
                        "connect (default: tcp://127.0.0.1:5790)")  # fmt: skip


def daemon_of(args: argparse.Namespace) -> Daemon:
    """What `add_daemon` declared."""
    where = args.daemon or ""
    return Daemon(where) if where.startswith(("http://", "https://")) else Daemon.at(where or None)
