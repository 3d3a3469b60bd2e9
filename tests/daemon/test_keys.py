"""A daemon that listens beyond this machine: with a key a bridge gets in, without or with a wrong one it does not, and
the log says who was turned away."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from capture.errors import SenderError, UserError
from capture.keys import BridgeKey, KeyRing, new_pair, read_bridge_key, save_bridge_key
from capture.take import Take
from daemon.ingest import Ingest
from realmaster.cli import main

from .engines import assert_exact, engine, send, until


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    monkeypatch.setenv("REALMASTER_KEYS", str(tmp_path / "keys"))
    return KeyRing()


def save(path: Path, key: BridgeKey) -> Path:
    save_bridge_key(path, key)
    return path


def test_without_keys_it_listens_on_this_machine_only(ring: KeyRing, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="daemon keys NAME"):
        Ingest("tcp://0.0.0.0:*", takes=tmp_path / "takes").bind()


def test_keys_are_made_listed_and_revoked(ring: KeyRing, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "game.key.json"
    assert main(["daemon", "keys", "game-pc", "-o", str(out)]) == 0
    key = read_bridge_key(out)
    assert ring.allowed() == {key.public_key: "game-pc"} and ring.pair()[0] == key.server_key
    if sys.platform != "win32":
        assert [path.stat().st_mode & 0o777 for path in (out, ring.folder / "daemon.json")] == [0o600, 0o600]
    assert main(["daemon", "keys", "game-pc", "-o", str(tmp_path / "again.json")]) == 1
    assert main(["daemon", "keys"]) == 0 and "game-pc" in capsys.readouterr().out
    assert main(["daemon", "keys", "game-pc", "--revoke"]) == 0 and ring.allowed() == {}
    out.write_text("{}")
    with pytest.raises(SenderError, match="is no key file"):
        read_bridge_key(out)


def test_who_has_a_key_gets_in_and_the_log_names_the_others(
    ring: KeyRing, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "realmaster.daemon")
    good = save(tmp_path / "good.json", ring.add("game-pc"))
    late = save(tmp_path / "late.json", ring.add("old-pc"))
    ring.revoke("old-pc")
    server = ring.pair()[0]
    stranger = save(tmp_path / "stranger.json", BridgeKey("x", server, *new_pair()))
    other = save(tmp_path / "other.json", BridgeKey("x", new_pair()[0], *new_pair()))
    with Ingest("tcp://0.0.0.0:*", takes=tmp_path / "takes", auto_record=True) as ingest:
        port = ingest.endpoint.rsplit(":", 1)[1]
        endpoint = f"tcp://127.0.0.2:{port}" if sys.platform == "linux" else f"tcp://127.0.0.1:{port}"
        for key in (late, stranger):
            with pytest.raises(SenderError, match="does not let this key in"):
                engine(endpoint, key=key, connect_timeout=60).close()
        with pytest.raises(SenderError, match="No daemon answers"):  # with this key it would be another daemon
            engine(endpoint, key=other, connect_timeout=1.5).close()
        run = tmp_path / "elsewhere"  # another machine has no connection file of this daemon
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("REALMASTER_RUNTIME_DIR", str(run))
            with pytest.raises(SenderError, match="asks for a key"):  # the token alone opens nothing
                engine(endpoint, token=ingest.token, connect_timeout=60).close()
            assert ingest.state["sessions"] == []
            with engine(endpoint, key=good, connect_timeout=30) as sender:
                send(sender, 5)
        with engine(f"tcp://127.0.0.1:{port}", connect_timeout=30) as local:  # bridges here find theirs in the file
            send(local, 2)
        away = [record.getMessage() for record in caplog.records if "turned away" in record.getMessage()]
        assert any("is not allowed" in line for line in away) and any("no key" in line for line in away)
        assert all("127.0.0." in line for line in away)
    takes = sorted((Take(path) for path in (tmp_path / "takes").iterdir()), key=len)
    assert [len(take) for take in takes] == [2, 5]
    for frame in takes[1]:
        assert_exact(frame)


def _namespaces() -> bool:
    """Whether this system lets us make network namespaces."""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "ip", "nsenter"))):
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0


BRIDGE = """
import sys
from tests.daemon.engines import engine, send
from capture.errors import SenderError
try:
    with engine(sys.argv[1], key=sys.argv[2] or None, token=None if sys.argv[2] else "x", connect_timeout=30) as sender:
        send(sender, 5)
    print("sent", sender.goodbye.received)
except SenderError as error:
    print("refused:", error)
"""
DAEMON = """
import sys, logging
from pathlib import Path
logging.basicConfig(level="INFO", format="%(message)s")
from daemon.ingest import Ingest
ingest = Ingest("tcp://10.77.0.1:5790", takes=Path(sys.argv[1]), auto_record=True)
ingest.bind()
print("bound", flush=True)
ingest.run()
"""


@pytest.mark.skipif(not _namespaces(), reason="no network namespaces here: needs Linux with unshare and ip")
def test_two_hosts(ring: KeyRing, tmp_path: Path) -> None:
    """Daemon and bridge in network namespaces of their own, with a virtual cable between them."""
    good = save(tmp_path / "good.json", ring.add("game-pc"))
    stranger = save(tmp_path / "stranger.json", BridgeKey("x", ring.pair()[0], *new_pair()))
    far = tmp_path / "far"
    setup = """
set -e
ip link set lo up
unshare -n sleep 300 & far=$!
trap "kill $far" EXIT
ours=$(readlink /proc/self/ns/net)
for n in $(seq 100); do [ "$(readlink /proc/$far/ns/net)" != "$ours" ] && break; sleep 0.05; done
ip link add near type veth peer name far netns $far
ip addr add 10.77.0.1/24 dev near; ip link set near up
nsenter -t $far -n ip addr add 10.77.0.2/24 dev far
nsenter -t $far -n ip link set far up
"$PY" -c "$DAEMON" "$TAKES" > "$OUT.daemon" 2>&1 & daemon=$!
trap "kill $daemon $far" EXIT
for n in $(seq 600); do grep -q bound "$OUT.daemon" && break; sleep 0.1; done
for key in "$GOOD" "$STRANGER" ""; do
    REALMASTER_RUNTIME_DIR="$OUT.run" nsenter -t $far -n "$PY" -c "$BRIDGE" tcp://10.77.0.1:5790 "$key"
done
"""
    environment = os.environ | {
        "PY": sys.executable, "DAEMON": DAEMON, "BRIDGE": BRIDGE, "TAKES": str(tmp_path / "takes"), "OUT": str(far),
        "GOOD": str(good), "STRANGER": str(stranger), "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    done = subprocess.run(
        ["unshare", "-rn", "bash", "-c", setup], capture_output=True, text=True, timeout=200, env=environment,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    told = far.with_suffix(".daemon").read_text() if far.with_suffix(".daemon").exists() else ""
    if "Operation not permitted" in done.stderr or "not supported" in done.stderr:
        pytest.skip(f"no virtual cable can be laid here: {done.stderr.strip()[-200:]}")
    lines = done.stdout.split("\n")
    assert lines[0] == "sent 5", (done.stdout, done.stderr, told)
    assert "does not let this key in" in lines[1] and "asks for a key" in lines[2]
    assert "10.77.0.2 was turned away: its key" in told and "10.77.0.2 was turned away: it has no key" in told
    (take,) = (tmp_path / "takes").iterdir()
    until(lambda: len(Take(take)) == 5)
