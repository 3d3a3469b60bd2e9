"""A running daemon as the commands see it: its HTTP API, found by the connection file.

Works on URLs and JSON; knows nothing of what the answers mean.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.request
from typing import Any

from capture.errors import SenderError, UserError

API = "/api/v1"
ANSWER_SECONDS = 100.0


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

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request, its JSON read; UserError with the daemon's own sentence when it refuses."""
        return json.loads(self.fetch(method, API + path, body))

    def fetch(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of an answer; errors as `call`."""
        request = urllib.request.Request(
            self.url + path, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"},
            method=method,
        )  # fmt: skip
        if token := os.environ.get("REALMASTER_HTTP_TOKEN"):
            request.add_header("Authorization", f"Bearer {token}")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's own
        try:
            with direct.open(request, timeout=ANSWER_SECONDS) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            try:
                sentence = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                sentence = f"The daemon at {self.url} answers with {error.code}."
            raise UserError(sentence) from None
        except (OSError, ValueError) as error:
            raise UserError(
                f"The daemon at {self.url} does not answer ({error}): start one with `realmaster daemon`."
            ) from None


def add_daemon(parser: argparse.ArgumentParser) -> None:
    """`--daemon`: which one is meant."""
    parser.add_argument("--daemon", metavar="URL|ENDPOINT", help="http://HOST:PORT of the daemon, or where its bridges "
                        "connect (default: tcp://127.0.0.1:5790)")  # fmt: skip


def daemon_of(args: argparse.Namespace) -> Daemon:
    """What `add_daemon` declared."""
    where = args.daemon or ""
    return Daemon(where) if where.startswith(("http://", "https://")) else Daemon.at(where or None)
