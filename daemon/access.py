"""Who may reach the daemon: this machine's own addresses, and elsewhere only with a token.

Works on addresses, tokens and names of peers; knows nothing of sockets, messages or requests.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from capture.connection import endpoint_port
from capture.errors import UserError

LEAST_TOKEN = 16
"""Characters of a token that a person chose."""


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only: localhost, 127.0.0.0/8 or ::1."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def check_listen(endpoint: str, keys: bool = False) -> bool:
    """Whether the ZeroMQ endpoint reaches beyond this machine. UserError unless it has the form tcp://HOST:PORT, PORT
    perhaps *, and when it reaches beyond while there are no keys: nothing else is safe without encryption. (ZeroMQ
    itself would take port 99999 for 34463.)"""
    endpoint_port(endpoint[:-1] + "1" if endpoint.endswith(":*") else endpoint)
    host = endpoint.removeprefix("tcp://").rsplit(":", 1)[0].strip("[]")
    if is_loopback(host):
        return False
    if not keys:
        raise UserError(
            f"The daemon does not listen on {endpoint}: any address but this machine's own (127.0.0.1) needs CURVE "
            "keys; make one for each bridge with `realmaster daemon keys NAME`."
        )
    return True


def split_http(address: str, token: str | None) -> tuple[str, int]:
    """(host, port) of an HTTP address HOST:PORT; UserError for another form, and for one that reaches beyond this
    machine while there is no token."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"The HTTP address {address!r} must have the form HOST:PORT, as 127.0.0.1:8765.")
    if token is not None and len(token) < LEAST_TOKEN:
        raise UserError(
            f"The token for the page has {len(token)} characters, which can be guessed: set REALMASTER_HTTP_TOKEN to "
            f"{LEAST_TOKEN} or more, from a password generator."
        )
    if not is_loopback(host) and token is None:
        raise UserError(
            f"The page is not served on {address}: any address but this machine's own (127.0.0.1) needs a token; "
            "set REALMASTER_HTTP_TOKEN to a secret of your own."
        )
    return host, int(port)


def is_token(shown: str, token: str) -> bool:
    """Whether the token that somebody shows is the right one, in a time that tells nothing about it."""
    return hmac.compare_digest(shown.encode(), token.encode())


@dataclass
class _Offences:
    since: float
    count: int = 0
    ignored_until: float = 0.0


class Offenders:
    """Peers that cause errors: one that causes `allowed` within `seconds` is ignored for as long.

    Times are seconds of one monotonic clock. Memory is bounded, whatever peers come.
    """

    def __init__(self, allowed: int, seconds: float, peers: int = 1024) -> None:
        self._allowed, self._seconds, self._peers = allowed, seconds, peers
        self._offences: OrderedDict[bytes, _Offences] = OrderedDict()

    def ignores(self, peer: bytes, now: float) -> bool:
        """Whether nothing of this peer is to be read now."""
        offences = self._offences.get(peer)
        return offences is not None and now < offences.ignored_until

    def offend(self, peer: bytes, now: float) -> int:
        """Count an error of the peer; returns how many there were lately."""
        offences = self._offences.setdefault(peer, _Offences(now))
        self._offences.move_to_end(peer)
        while len(self._offences) > self._peers:
            self._offences.popitem(last=False)
        if now - offences.since > self._seconds:
            offences.since, offences.count = now, 0
        offences.count += 1
        if offences.count >= self._allowed:
            offences.ignored_until = now + self._seconds
        return offences.count
