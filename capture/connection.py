"""Where the daemon is and what proves that we may talk to it: the connection file.

Works on one small JSON file per daemon, readable by its owner only, as Jupyter's connection files are. Knows nothing
of sockets or messages.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_runtime_dir

from capture.errors import SenderError, UserError
from capture.files import write_atomically

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5790"


@dataclass(frozen=True)
class Connection:
    """What a connection file says."""

    endpoint: str
    """ZeroMQ endpoint of the daemon, e.g. "tcp://127.0.0.1:5790"."""
    token: str
    """Random secret of this run of the daemon; goes into hello."""
    pid: int
    """Process id of the daemon."""
    http: str
    """Address of the page, "http://127.0.0.1:8765", or empty."""
    key: dict[str, str] | None = None
    """Where the daemon listens beyond this machine: the fields of `capture.keys.BridgeKey`, for bridges here."""


def new_token() -> str:
    """A random 256-bit token as 64 hex digits."""
    return secrets.token_hex(32)


def runtime_dir() -> Path:
    """Folder of the connection files: REALMASTER_RUNTIME_DIR, else the user's runtime folder; UserError where the
    latter is another user's."""
    chosen = os.environ.get("REALMASTER_RUNTIME_DIR")
    if chosen:
        return Path(chosen)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that XDG_RUNTIME_DIR is unset is no news to the user of a bridge
            return Path(user_runtime_dir("realmaster", appauthor=False))
    except OSError as error:
        raise UserError(f"There is no safe runtime folder ({error}): set REALMASTER_RUNTIME_DIR.") from None


def connection_file(port: int) -> Path:
    """Path of the connection file of the daemon that listens on `port`."""
    return runtime_dir() / f"daemon-{port}.json"


def endpoint_port(endpoint: str) -> int:
    """Port of an endpoint of the form tcp://HOST:PORT; UserError for any other form."""
    match = re.fullmatch(r"tcp://([^\s/:]+|\[[^\s/\]]+\]):(\d{1,5})", endpoint)
    if not match or not 1 <= int(match[2]) <= 65535:
        raise UserError(f"The endpoint {endpoint!r} must have the form tcp://HOST:PORT, as {DEFAULT_ENDPOINT}.")
    return int(match[2])


def write_connection(connection: Connection) -> Path:
    """Writes the connection file, at once and for the owner only (mode 0600), and returns its path.

    Raises UserError where the folder cannot be written or belongs to someone else.
    """
    path = connection_file(endpoint_port(connection.endpoint))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "geteuid") and path.parent.stat().st_uid != os.geteuid():
            raise UserError(
                f"The folder {path.parent} belongs to another user: set REALMASTER_RUNTIME_DIR to one of your own."
            )
        write_atomically(path, json.dumps(asdict(connection)).encode(), mode=0o600)
    except OSError as error:
        raise UserError(f"The connection file {path} cannot be written: {error.strerror or error}.") from None
    return path


def read_connection(endpoint: str = DEFAULT_ENDPOINT) -> Connection:
    """What the connection file of the daemon at `endpoint` says; SenderError where there is none or it is damaged."""
    path = connection_file(endpoint_port(endpoint))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        connection = Connection(
            str(values["endpoint"]),
            str(values["token"]),
            int(values["pid"]),
            str(values.get("http") or ""),
            {str(name): str(text) for name, text in values["key"].items()} if values.get("key") else None,
        )
    except FileNotFoundError:
        raise SenderError(
            f"No daemon has left a connection file for {endpoint}: start one with `realmaster daemon`, "
            "or set REALMASTER_TOKEN."
        ) from None
    except OSError as error:
        raise SenderError(f"The connection file {path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SenderError(f"The connection file {path} is damaged: restart the daemon to renew it.") from None
    return connection


def remove_connection(endpoint: str, token: str) -> None:
    """Removes the connection file of the daemon at `endpoint` if it is still the one with `token`."""
    with contextlib.suppress(UserError, OSError):
        if read_connection(endpoint).token == token:
            connection_file(endpoint_port(endpoint)).unlink()
