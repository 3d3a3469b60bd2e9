"""The dataset folder: what is in it, and how it stays whole whatever happens.

    pairs.jsonl        one line a pair that is fit to train on: id, render, target, cues, caption, scores, provenance
    rejected.jsonl     the ledger: one line a pair that is not, with its scores and the reasons
    render/ target/ cues/KIND/ sheets/      ID.mp4 (sheets: ID.jpg), of the pairs
    rejected/...       the same folders, of the ledger
    README.md          the dataset's card
    dataset.json       what the pairs were made with
    filters.json       the thresholds that they were last judged by
    decisions.jsonl    what a person decided: keep or drop
    records/ID.json    all that is known of a clip, written once it is done
    work/              what is done of unfinished clips; plan.json, the clips that are to be made

A clip is done when its record is there. pairs.jsonl, the ledger and the places of the files follow from records,
decisions and thresholds (`Dataset.settle`), so that a crash can spoil none of them.

Knows files; knows no model.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from capture.files import replacing, write_atomically
from realmaster.pairs.settings import FilterSettings, PairsError, load_settings
from realmaster.pairs.verdicts import HIGHER_IS_BETTER, PairScores, reasons

VERSION = 1
KEEP, DROP = "keep", "drop"

PAIRS, REJECTED, DECISIONS, ABOUT, FILTERS, CARD = (
    "pairs.jsonl",
    "rejected.jsonl",
    "decisions.jsonl",
    "dataset.json",
    "filters.json",
    "README.md",
)
VIDEO, SHEET = ".mp4", ".jpg"


class Dataset:
    """A dataset folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records_folder, self.work = path / "records", path / "work"

    @classmethod
    def find(cls, path: Path) -> Dataset:
        """One that exists. Raises `PairsError`."""
        if not (path / ABOUT).is_file():
            raise PairsError(f"{path} is no dataset of pairs: it has no {ABOUT}.")
        return cls(path)

    @property
    def about(self) -> dict[str, Any]:
        """What its pairs are made with; empty for a new folder. Raises `PairsError`."""
        try:
            return dict(json.loads((self.path / ABOUT).read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, TypeError) as error:
            raise PairsError(f"{self.path / ABOUT} cannot be read ({error}): restore it from a copy.") from error

    def begin(self, about: dict[str, Any], resume: bool) -> None:
        """Claim the folder for pairs of this making. Raises `PairsError` when it holds something else."""
        about = json.loads(json.dumps({"format": VERSION, **about}))
        before = self.about
        if not before and self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise PairsError(f"{self.path} holds something that is no dataset of pairs: choose another folder with -o.")
        if before and not resume:
            raise PairsError(f"{self.path} holds a dataset already: --resume goes on with it, -o chooses another.")
        if before and before != about:
            changed = sorted(name for name in {*before, *about} if before.get(name) != about.get(name))
            raise PairsError(
                f"{self.path} holds pairs made with another {' and '.join(changed)}: go on with the same, or choose "
                "another folder with -o."
            )
        try:
            for folder in (self.records_folder, self.work):
                folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / ABOUT, (json.dumps(about, indent=2) + "\n").encode())
        except OSError as error:
            raise PairsError(
                f"{self.path} cannot be written ({error.strerror}): choose another folder with -o."
            ) from error

    def abandon(self) -> None:
        """Take the claim on a folder back in which nothing was made."""
        (self.path / ABOUT).unlink(missing_ok=True)
        for folder in (self.records_folder, self.work, self.path):
            with suppress(OSError):  # it is not empty
                folder.rmdir()

    # -- one clip

    def record_path(self, clip: str) -> Path:
        return self.records_folder / f"{clip}.json"

    def save_record(self, record: dict[str, Any]) -> None:
        """A clip is done. Raises OSError."""
        write_atomically(self.record_path(record["id"]), (json.dumps(record) + "\n").encode())

    def record(self, clip: str) -> dict[str, Any] | None:
        """What is known of a clip that is done."""
        try:
            return dict(json.loads(self.record_path(clip).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def records(self) -> Iterator[dict[str, Any]]:
        """Of every clip that is done, in the order of their ids."""
        for path in sorted(self.records_folder.glob("*.json")):
            if (record := self.record(path.stem)) is not None:
                yield record

    def save_arrays(self, clip: str, stage: str, about: dict[str, Any], **arrays: np.ndarray) -> None:
        """Keep what a stage made of a clip until it is done. Raises OSError."""
        with replacing(self.work / f"{clip}.{stage}.npz") as path, path.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]

    def load_arrays(self, clip: str, stage: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """What `save_arrays` kept, if it is whole."""
        try:
            with np.load(self.work / f"{clip}.{stage}.npz", allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return json.loads(str(arrays.pop("about"))), arrays
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def has_arrays(self, clip: str, stage: str) -> bool:
        return (self.work / f"{clip}.{stage}.npz").is_file()

    def clear_work(self, clip: str) -> None:
        for path in self.work.glob(f"{clip}.*.npz"):
            path.unlink(missing_ok=True)

    # -- the whole

    def decisions(self) -> dict[str, str]:
        """Clip -> keep or drop, as a person last decided."""
        found = {}
        for line in _lines(self.path / DECISIONS):
            if line.get("decision") in (KEEP, DROP, None):
                found[str(line.get("id"))] = line.get("decision")
        return {clip: decision for clip, decision in found.items() if decision}

    def decide(self, clip: str, decision: str | None) -> None:
        """Remember a person's decision; None takes it back. Raises `PairsError`, OSError."""
        if decision not in (KEEP, DROP, None):
            raise PairsError(f"A decision is {KEEP} or {DROP}, not {decision!r}.")
        if self.record(Path(clip).name) is None:
            raise PairsError(f"There is no pair {clip!r} in {self.path}.")
        line = json.dumps({"id": clip, "decision": decision, "time": round(time.time())}) + "\n"
        with (self.path / DECISIONS).open("ab") as file:
            file.write(line.encode())

    def filters(self) -> FilterSettings:
        """The thresholds that it was last judged by; the shipped ones where it was not yet."""
        try:
            return FilterSettings.model_validate_json((self.path / FILTERS).read_bytes())
        except (OSError, ValueError):  # pydantic's ValidationError is a ValueError
            return load_settings().filters

    def settle(self, filters: FilterSettings) -> dict[str, int]:
        """Bring pairs.jsonl, the ledger, the card and the places of the files in line with records, decisions and
        thresholds; returns how many pairs there are and how many are rejected. Raises OSError."""
        decisions = self.decisions()
        pairs, rejected = [], []
        for record in self.records():
            why, decision = verdict(record, filters), decisions.get(record["id"])
            made = bool(record.get("target"))
            good = made and (decision == KEEP or (not why and decision != DROP))
            if made:
                self._place(record, good)
            entry = {key: value for key, value in record.items() if key not in ("failure", "retry", "seconds")}
            if decision:
                entry["decision"] = decision
            if good:
                pairs.append(entry)
            else:
                moved = {
                    key: _rejected(record[key]) for key in ("render", "target", "cues", "sheet") if record.get(key)
                }
                rejected.append(entry | moved | {"reasons": why or ["dropped by hand"]})
        _write_lines(self.path / PAIRS, pairs)
        _write_lines(self.path / REJECTED, rejected)
        write_atomically(self.path / FILTERS, (filters.model_dump_json(indent=2) + "\n").encode())
        counts = {"pairs": len(pairs), "rejected": len(rejected)}
        write_atomically(self.path / CARD, card(self.about, pairs, rejected).encode())
        return counts

    def pairs(self) -> list[dict[str, Any]]:
        """The lines of pairs.jsonl."""
        return list(_lines(self.path / PAIRS))

    def rejected(self) -> list[dict[str, Any]]:
        """The lines of the ledger."""
        return list(_lines(self.path / REJECTED))

    def _place(self, record: dict[str, Any], good: bool) -> None:
        for name in (record["render"], record["target"], record["sheet"], *record["cues"].values()):
            right, wrong = self.path / name, self.path / _rejected(name)
            if not good:
                right, wrong = wrong, right
            if wrong.exists():
                right.parent.mkdir(parents=True, exist_ok=True)
                os.replace(wrong, right)


def verdict(record: dict[str, Any], filters: FilterSettings) -> list[str]:
    """Why a clip gave no pair that is fit to train on; empty when it did."""
    if record.get("failure"):
        return [str(record["failure"])]
    return reasons(PairScores.from_dict(record["scores"]), filters)


def card(about: dict[str, Any], pairs: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> str:
    """The dataset's card, Markdown with the front matter that hubs read."""
    takes = sorted({pair["provenance"]["take"] for pair in pairs})
    frames = sum(pair["provenance"]["frames"][1] - pair["provenance"]["frames"][0] for pair in pairs)
    sizes = sorted({"x".join(map(str, pair["size"])) for pair in pairs})
    licences = [line for line in about.get("licences", []) if line]
    names = {name for pair in pairs for name, value in pair["scores"].items() if value is not None}
    lines = [
        "---",
        "task_categories: [video-to-video]",
        "tags: [render-to-real, paired-video, in-context-lora]",
        "---",
        "# Pairs: render and photoreal target",
        "",
        f"{len(pairs)} pairs, {frames} frames of {', '.join(sizes) or 'no size'}, from {len(takes)} take"
        f"{'s' * (len(takes) != 1)}; {len(rejected)} clips were turned down (`{REJECTED}` says why).",
        "",
        "The targets are **generated**: stills of each clip were turned into photographs by an image editor, and "
        "carried to every frame along the engine's geometry.",
        "",
        f"- Editor: {model_name(about.get('editor', {}))}",
        f"- Propagator: {model_name(about.get('propagator', {}))}",
        *(f"- Licence of what made them: {line}" for line in licences),
        f"- Takes: {', '.join(takes) or 'none'}. The render's own licence is the game's.",
        "",
        f"`{PAIRS}` has one pair a line: `id`, `render`, `target`, `cues` (paths from here), `caption`, `scores`, "
        "`provenance` (take, frames, models, seeds).",
        "",
        "| score | median | worst kept |",
        "|---|---|---|",
    ]
    for name in sorted(names):
        values = [pair["scores"][name] for pair in pairs if pair["scores"].get(name) is not None]
        # Of the others less is better, or, where a score has a sign, nearer to 0.
        values = sorted(values) if name in HIGHER_IS_BETTER else sorted(map(abs, values), reverse=True)
        lines.append(f"| {name} | {values[len(values) // 2]:.3f} | {values[0]:.3f} |")
    return "\n".join(lines) + "\n"


def model_name(facts: dict[str, Any]) -> str:
    """Of an editor or propagator, for others to read: a hub id, a plugin, or a folder's own name. Where that lies on
    this machine is nobody's business in a dataset that is given away."""
    base = str(facts.get("base") or facts.get("plugin", ""))
    return Path(base).name if Path(base).is_absolute() else base


def _rejected(name: Any) -> Any:
    if isinstance(name, dict):
        return {key: _rejected(value) for key, value in name.items()}
    return f"rejected/{name}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects of a file of lines; broken lines are left out."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
