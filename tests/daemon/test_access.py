"""Addresses, tokens, and peers that cause errors."""

from __future__ import annotations

import pytest

from capture.errors import UserError
from daemon.access import Offenders, check_listen, is_loopback, is_token, split_http


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)
    check_listen(f"tcp://[{host}]:5790" if ":" in host else f"tcp://{host}:*")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "[::]", "localhost.example.org", "*"])
def test_elsewhere(host: str) -> None:
    assert not is_loopback(host.strip("[]"))
    with pytest.raises(UserError, match="CURVE"):
        check_listen(f"tcp://{host}:5790")


def test_http_elsewhere_needs_a_token_and_says_where_to_put_it() -> None:
    assert split_http("127.0.0.1:0", None) == ("127.0.0.1", 0)
    assert split_http("[::1]:8765", None) == ("::1", 8765)
    assert split_http("0.0.0.0:8765", "a secret that is long") == ("0.0.0.0", 8765)
    with pytest.raises(UserError, match="REALMASTER_HTTP_TOKEN"):
        split_http("0.0.0.0:8765", None)
    for address in ("8765", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"):
        with pytest.raises(UserError, match="HOST:PORT"):
            split_http(address, None)


def test_tokens() -> None:
    assert is_token("grün", "grün") and not is_token("", "grün") and not is_token("grü", "grün")


def test_a_peer_with_many_errors_is_ignored_for_a_while() -> None:
    offenders = Offenders(allowed=3, seconds=5.0, peers=2)
    assert [offenders.offend(b"a", now) for now in (0.0, 1.0)] == [1, 2]
    assert not offenders.ignores(b"a", 1.0)
    assert offenders.offend(b"a", 2.0) == 3
    assert offenders.ignores(b"a", 6.9) and not offenders.ignores(b"b", 6.9)
    assert not offenders.ignores(b"a", 7.0) and offenders.offend(b"a", 7.0) == 1, "old errors are forgotten"
    for peer in (b"b", b"c", b"d"):
        offenders.offend(peer, 7.5)
    assert offenders.offend(b"a", 8.0) == 1, "memory is bounded: others have taken its place"
