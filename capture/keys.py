"""CURVE keys for bridges and daemons on different machines: who the daemon is, and whom it lets in.

Works on small JSON files, readable by their owner only. Knows nothing of sockets. Keys are Z85 text of 40 characters,
as ZeroMQ makes and takes them.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zmq
from platformdirs import user_config_dir

from capture.errors import SenderError, UserError
from capture.files import write_atomically


@dataclass(frozen=True)
class BridgeKey:
    """What a bridge on another machine needs: one file, made by `realmaster daemon keys NAME`."""

    name: str
    server_key: str
    """Public key of the daemon: nobody else can answer in its place."""
    public_key: str
    secret_key: str


def new_pair() -> tuple[str, str]:
    """(public, secret). Raises UserError where ZeroMQ was built without CURVE."""
    if not zmq.has("curve"):
        raise UserError("This ZeroMQ was built without CURVE: install the pyzmq wheel, which has it.")
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def read_bridge_key(path: str | Path) -> BridgeKey:
    """What a bridge's key file says; SenderError where it is missing or damaged."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        key = BridgeKey(*(str(values[name]) for name in ("name", "server_key", "public_key", "secret_key")))
    except OSError as error:
        raise SenderError(f"The key file {path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, KeyError, TypeError):
        key = BridgeKey("", "", "", "")
    if not all(len(text) == 40 for text in (key.server_key, key.public_key, key.secret_key)):
        raise SenderError(f"{path} is no key file: make one with `realmaster daemon keys NAME`, and copy it whole.")
    return key


class KeyRing:
    """The daemon's own pair and the bridges it lets in, in `folder` (default: REALMASTER_KEYS, else the user's
    configuration folder). Raises UserError for files that cannot be read or written."""

    def __init__(self, folder: Path | None = None) -> None:
        chosen = os.environ.get("REALMASTER_KEYS")
        self.folder = folder or Path(chosen or Path(user_config_dir("realmaster", appauthor=False)) / "keys")
        self._file = self.folder / "daemon.json"

    @property
    def exists(self) -> bool:
        return self._file.is_file()

    def pair(self) -> tuple[str, str]:
        """The daemon's (public, secret)."""
        values = self._read()
        return str(values["public_key"]), str(values["secret_key"])

    def allowed(self) -> dict[str, str]:
        """Public key -> name of each bridge that is let in."""
        return {str(key): str(name) for name, key in dict(self._read().get("allowed", {})).items()}

    def add(self, name: str) -> BridgeKey:
        """Make a key for a bridge and let it in; the daemon's own pair is made with the first one."""
        values: dict[str, Any] = {}
        if self.exists:
            values = self._read()
        else:
            values["public_key"], values["secret_key"] = new_pair()
        allowed: dict[str, str] = dict(values.get("allowed", {}))
        if name in allowed:
            raise UserError(f"There is a key for {name} already: revoke that one first, or choose another name.")
        public, secret = new_pair()
        self._write(values | {"allowed": allowed | {name: public}})
        return BridgeKey(name, str(values["public_key"]), public, secret)

    def revoke(self, name: str) -> None:
        """Let a bridge in no more, from its next connection on."""
        values = self._read()
        allowed = dict(values.get("allowed", {}))
        if allowed.pop(name, None) is None:
            raise UserError(f"There is no key for {name}; there are: {', '.join(allowed) or 'none'}.")
        self._write(values | {"allowed": allowed})

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self._file.read_text(encoding="utf-8"))
            if len(values["public_key"]) == len(values["secret_key"]) == 40 and isinstance(values, dict):
                return values
        except FileNotFoundError:
            raise UserError(
                "There are no CURVE keys yet: make one for each bridge with `realmaster daemon keys NAME`."
            ) from None
        except OSError as error:
            raise UserError(f"The keys in {self._file} cannot be read: {error.strerror or error}.") from None
        except (ValueError, KeyError, TypeError):
            pass
        raise UserError(f"The keys in {self._file} are damaged: delete the file and make new ones.")

    def _write(self, values: dict[str, Any]) -> None:
        save_secret(self._file, values)


def save_bridge_key(path: Path, key: BridgeKey) -> None:
    """Write a bridge's key file."""
    save_secret(path, asdict(key))


def save_secret(path: Path, values: dict[str, Any]) -> None:
    """Write JSON that only its owner can read. Raises UserError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode(), mode=0o600)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from None
