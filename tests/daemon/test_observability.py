"""What the daemon tells of itself: figures for Prometheus, all for support, logs as JSON, and `realmaster doctor`."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from capture.video import read_video
from daemon import logs
from daemon.service import Service
from realmaster.cli import main

from .conftest import record
from .engines import engine, send, until

GAME = 'a "game"\\ <b>\nrealmaster_sessions 99'


def figures(service: Service) -> dict[tuple[str, str], float]:
    text = httpx.get(f"{service.http_url}/metrics", timeout=60).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        (s.name, s.labels.get("game") or s.labels.get("process") or s.labels.get("kind", "")): s.value for s in samples
    }


def test_figures_for_prometheus(shared: Service) -> None:
    with engine(shared.endpoint, token=shared.token, game=GAME) as sender:
        send(sender, 7)
        until(lambda: [s for s in shared.state()["sessions"] if s["frames"] == 7])
        found = figures(shared)
    assert found["realmaster_sessions", ""] == 1
    assert found["realmaster_session_frames_total", GAME] == 7
    assert found["realmaster_lift_process_ends_total", "hang"] == 0
    assert found["realmaster_process_memory_bytes", "ingest"] > 1e6
    assert found["realmaster_disk_free_bytes", ""] > 0


def test_all_for_support_and_no_token(shared: Service) -> None:
    told = httpx.get(f"{shared.http_url}/api/v1/support", timeout=60).json()
    assert {process["name"] for process in told["processes"]} >= {"main", "ingest"}
    assert told["config"]["takes"] == str(shared.config.takes) and told["libraries"]["numpy"]
    assert shared.token not in json.dumps(told) and "http_token" not in json.dumps(told)


def test_logs_are_one_line_a_record_whatever_the_game_is_called() -> None:
    record = logging.LogRecord("realmaster.daemon", logging.INFO, "", 0, "session opened: %s", (GAME,), None)
    record.fields = {"game": GAME}
    told = json.loads(logs._JsonForm().format(record))
    assert told["message"].endswith(GAME) and told["game"] == GAME and told["level"] == "info"
    line = logs._TextForm().format(record)
    assert "\n" not in line and r"\nrealmaster_sessions" in line


def test_the_command_line_does_what_the_page_does(shared: Service, capsys: pytest.CaptureFixture[str]) -> None:
    def ask(*words: str) -> dict:
        capsys.readouterr()
        assert main(["daemon", *words, "--daemon", shared.http_url, "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    with engine(shared.endpoint, token=shared.token) as sender:
        send(sender, 3)
        until(lambda: [s for s in shared.state()["sessions"] if s["frames"] == 3])
        assert len(ask("status")["sessions"]) == 1
        (name,) = ask("record", "start")["takes"]
        send(sender, 3, first=3)
        until(lambda: shared.state()["sessions"][0]["recorded"] == 3)
        assert ask("record", "stop")["takes"] == [name]
        assert ask("replay", "--seconds", "5")["takes"] != [name]
        assert ask("control", "pause")["name"] == "pause"
        until(lambda: [control for control in sender.controls() if control.name == "pause"])
    until(lambda: [t for t in shared.state()["takes"] if t["name"] == name and t["state"] == "closed"])
    job = ask("lift", name, "--frames", "0:2", "--prompt", "dusk")
    assert (job["take"], job["frames"], job["prompt"]) == (name, [0, 2], "dusk")
    ask("cancel", job["id"])
    until(lambda: ask("lifts")["lifts"][0]["state"] in ("cancelled", "failed"))
    assert ask("retry", job["id"])["state"] in ("queued", "running")
    ask("cancel", job["id"])
    assert ask("live", "off")["on"] is False
    assert ask("call", "GET", f"/takes/{name}")["answer"]["frames"] == 3
    assert main(["daemon", "cancel", "77", "--daemon", shared.http_url]) == 1
    assert main(["daemon", "lift", name, "--model", "none-such", "--daemon", shared.http_url]) == 1
    with pytest.raises(SystemExit, match="2"):
        main(["daemon", "call", "GET", "/takes", "--data", "{", "--daemon", shared.http_url])


def test_the_command_line_does_with_takes_and_pairs_what_the_page_does(
    shared: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def ask(*words: str) -> dict[str, Any]:
        assert main(["daemon", *words, "--daemon", shared.http_url, "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    def done(job: dict[str, Any]) -> None:
        until(lambda: {each["id"]: each["state"] for each in ask("exports")["exports"]}[job["id"]] == "done")

    odd = "[/bold] [red]"  # means nothing to the terminal
    name = record(shared, 6, game=odd)
    assert next(take for take in ask("takes")["takes"] if take["name"] == name)["game"] == odd
    assert ask("rename", name, "drive")["take"] == "drive"
    assert ask("notes", "drive", odd)["notes"].strip() == odd == ask("notes", "drive")["notes"].strip()

    job = ask("export", "drive", "--to", "mp4", "--frames", "1:4", "--channel", "depth")
    done(job)
    saved = ask("download", job["id"])
    assert saved["file"] == job["name"] and len(read_video(tmp_path / job["name"])[0]) == 3
    assert main(["daemon", "download", job["id"], "--daemon", shared.http_url]) == 1  # it exists
    job = ask("export", "drive", "--to", "frames")
    done(job)
    assert ask("download", job["id"])["file"] == f"{job['name']}.zip"
    assert zipfile.ZipFile(f"{job['name']}.zip").testzip() is None and not list(tmp_path.glob(".*"))
    job = ask("trim", "drive", "2:", "--name", "end")
    done(job)
    assert next(take for take in ask("takes")["takes"] if take["name"] == "end")["frames"] == 4
    assert ask("cancel", job["id"], "--export")["state"] == "done"

    entry = ask("delete", "end")
    assert [each["id"] for each in ask("trash")["trash"]] == [entry["id"]]
    assert ask("trash", "--restore", entry["id"])["take"] == "end"
    assert ask("trash", "--delete", ask("delete", "end")["id"])["bytes"] > 0
    ask("delete", "drive")
    assert ask("trash", "--empty")["bytes"] > 0 == len(ask("trash")["trash"])
    assert main(["daemon", "delete", "../x", "--daemon", shared.http_url]) == 1

    assert "embedded" in {model["name"] for model in ask("models")["models"]}
    assert ask("model", "embedded")["name"] == "embedded"
    assert main(["daemon", "model", "/etc", "--daemon", shared.http_url]) == 1
    assert ask("pairs")["datasets"] == []
    with pytest.raises(SystemExit, match="2"):
        main(["daemon", "pairs", "--keep", "0", "--daemon", shared.http_url])
    for words in (["no-such"], ["no-such", "--keep", "0"], ["no-such", "--settle"]):
        assert main(["daemon", "pairs", *words, "--daemon", shared.http_url]) == 1


def test_what_a_game_calls_itself_is_no_markup(
    shared: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine(shared.endpoint, token=shared.token, game="[/bold] [red]") as sender:
        send(sender, 1)
        until(lambda: [s for s in shared.state()["sessions"] if s["frames"] == 1])
        assert main(["daemon", "status", "--daemon", shared.http_url]) == 0
        assert "[/bold] [red]" in capsys.readouterr().out


def test_doctor_reads_a_running_daemon(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from realmaster.commands import doctor
    from realmaster.commands.client import Daemon

    monkeypatch.setattr(Daemon, "at", classmethod(lambda cls: cls(service.http_url)))
    found = {finding.name: finding for finding in doctor._daemon()}
    assert found["daemon"].state == "ok" and service.http_url in found["daemon"].found
    assert "process ingest" in found
