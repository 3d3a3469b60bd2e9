"""A whole training: a dataset in, a folder out with an adapter that lifts.

    OUT/settings.toml, run.json     what was asked, of which model and dataset
    OUT/log.jsonl, logs/            every update; the same for TensorBoard
    OUT/checkpoints/                the states to go on from
    OUT/previews/                   held-out clips, lifted as it went on
    OUT/...                         the adapter as it stands: see `output`

Puts the parts in their order; what each does stands in its own file. Knows no screen.
"""

from __future__ import annotations

import dataclasses
import json
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, ProjectConfiguration

from capture.files import write_atomically
from realmaster import __version__
from realmaster.lift.lifter import LiftError, Progress
from realmaster.lift.loading import lifter_of
from realmaster.lift.memory import count_parameters, give_back
from realmaster.lift.profiles import Profile, family_of, load_profile
from realmaster.settings import to_toml
from realmaster.train.advice import Advice, advise
from realmaster.train.batches import Batches, Sample
from realmaster.train.checkpoints import Checkpoints
from realmaster.train.dataset import Dataset, Pair, read_dataset
from realmaster.train.families.family import Expert, Family
from realmaster.train.latents import LatentsCache
from realmaster.train.loop import NOISE_BANDS, Log, Report, probe, train_expert, versions
from realmaster.train.output import Weights, write_adapter, write_card, write_profile, zero_weights
from realmaster.train.settings import Settings, TrainError, load_settings
from realmaster.train.validation import keep_scores, lift_pairs, lifting_as

RUN, SETTINGS = "run.json", "settings.toml"

FREE = {"steps", "checkpoints", "trackers", "gradient_checkpointing", "shard"}
"""Settings that may be others when a training is taken up again: they do not change what an update does. So may those
of validation, but for the number of clips."""

SPREAD = {DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP}
"""Ways of Accelerate to spread a training over processes."""

TRACK_SECONDS = 1.0
"""Trackers are told at most so often; `log.jsonl` has every update."""

LONG = timedelta(hours=6)
"""So long processes wait for the first one, which lifts previews alone."""


def asked_settings(
    out: Path, model: str | None, file: Path | None, overrides: dict[str, Any], resume: bool
) -> Settings:
    """The settings of a new training, or of the one to go on with in `out`, under what is asked now.
    Raises `TrainError`."""
    if resume and (out / SETTINGS).exists():
        kept = tomllib.loads((out / SETTINGS).read_text(encoding="utf-8"))
        before = load_settings(overrides=kept)
        now = load_settings(file, overrides=overrides, under=kept)
        if changed := _changes(before, now):
            raise TrainError(
                f"The training in {out} was begun with other settings ({', '.join(changed)}): go on with its own, "
                "or begin another with another -o."
            )
        return now
    return load_settings(file, recipe=model, overrides=overrides)


def _changes(before: Settings, now: Settings) -> list[str]:
    """Names of settings that differ and must not."""
    changed = []
    for name, value in before.model_dump().items():
        new = getattr(now, name)
        if name == "validation":
            if value["clips"] != new.clips:
                changed.append("validation.clips")
        elif name not in FREE and value != now.model_dump()[name]:
            changed.append(name)
    return changed


class Training:
    """One training, step by step: `load`, `encode`, `advice`, `train`."""

    def __init__(self, folder: Path, out: Path, model: str, settings: Settings, resume: bool = False) -> None:
        """Reads the dataset and the folder to write, before anything heavy. Raises `TrainError`, `LiftError`."""
        self.out, self.settings = out, settings
        self.model = model
        self.lifts_with = load_profile(model)
        self.family_name = family_of(self.lifts_with)
        if self.family_name == "vace":
            raise TrainError("VACE lifts from geometry without an adapter: train on a Wan or LTX-2 model.")
        self.dataset: Dataset = read_dataset(folder, (settings.cue, *settings.references), self._caption())
        self.held_out, self.pairs = held_out(self.dataset.pairs, settings.validation.clips)
        plan = settings.validation
        self.shown = (self.held_out or self.pairs)[: plan.clips if plan.every else 0]
        """Pairs that previews are made of: those held out, or, of a small dataset, some that are trained on."""
        self.accelerator = self._accelerator()
        self._claim(resume)
        self.family: Family
        self.samples: list[Sample] = []
        self._track_next = 0.0

    def load(self) -> None:
        """Load the model. Raises `LiftError`."""
        profile = training_profile(self.lifts_with, self.settings)
        lifter = lifter_of(profile, str(self.accelerator.device), memory="auto")
        if lifter.plan.offload:
            raise TrainError(
                f'{profile.base} does not fit this card: set quantise = "int8" or "nf4" in the settings, or '
                "choose a smaller model."
            )
        step, longest = lifter.rules.frame_step, max(pair.frames for pair in self.dataset.pairs)
        window = min(self.settings.window or profile.window, (longest - 1) // step * step + 1)
        if window > 1 and self.settings.neighbours > 1:
            raise TrainError(
                "neighbours are for models that lift frame by frame, and this one sees more at once: leave them out or "
                "set window to 1."
            )
        sides = max(max(pair.target.width, pair.target.height) for pair in self.dataset.pairs)
        captions = {pair.caption for pair in self.dataset.pairs}
        self.profile = profile.model_copy(
            update={
                "window": window,
                "overlap": profile.overlap if profile.overlap < window else min(1, window - 1),
                "max_side": min(profile.max_side, max(64, sides)),
                "prompt": captions.pop() if len(captions) == 1 else profile.prompt,
            }
        )
        lifter.adapt(self.profile)
        downscale = self.settings.reference_downscale
        lifter.reference_downscale = downscale
        lifter.rules = dataclasses.replace(lifter.rules, size_multiple=lifter.rules.size_multiple * downscale)
        if self.family_name == "wan":
            from realmaster.train.families.wan import WanFamily

            self.family = WanFamily(lifter)
        else:
            from realmaster.train.families.ltx2 import LTX2Family

            self.family = LTX2Family(lifter)
        self.family.loss = self.settings.loss
        chosen = [expert for expert in self.family.experts if expert.mark in ("", *self.settings.experts)]
        self.experts: list[Expert] = chosen

    def encode(self, progress: Progress | None = None) -> int:
        """Encode what is not encoded yet; returns how many files this process made."""
        settings, dataset = self.settings, self.dataset
        self.cache = LatentsCache(
            latents_folder(dataset.folder, self.out),
            self.family,
            (settings.cue, *settings.references),
            self.profile.window,
            settings.trigger,
        )
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        lifter = self.family.lifter
        made = self.cache.encode(self.pairs, process, processes, progress)
        if lifter._prompts is not None and self.accelerator.is_main_process:  # previews then find them encoded
            texts = [self.cache.text(pair.caption) for pair in self.shown]
            with torch.inference_mode():
                lifter._prompts([*texts, self.profile.negative_prompt])
        lifter._encoder = None  # the text encoder has done its work
        give_back(lifter.device)
        self.accelerator.wait_for_everyone()
        self.samples = self.cache.samples(self.pairs, self.settings.neighbours)
        return made

    def advice(self) -> Advice:
        """What this will take."""
        free = torch.cuda.mem_get_info(self.accelerator.device)[0] if self.accelerator.device.type == "cuda" else None
        lifter = self.family.lifter
        return advise(
            self.family,
            self.profile,
            self.settings,
            self.dataset.pairs,
            len(self.held_out),
            self.samples,
            self.accelerator.num_processes,
            loading=sum(count_parameters(part) for part in lifter.base.iterdir()) * lifter.dtype.itemsize,
            free=free,
        )

    def seconds_per_update(self) -> float:
        """Measured on this machine, on the first expert."""
        expert = self.experts[0]
        return probe(self.family, expert, self._batches(expert), self.settings, self.accelerator)

    def train(self, told: Callable[[Report], None] | None = None, say: Callable[[str], None] | None = None) -> None:
        """Train every expert and write what it left behind. told: after each update. say: a line now and then.

        Raises `Stopped` once the state is saved, `TrainError`.
        """
        self._say = say or (lambda text: None)
        self._trackers()
        finished: dict[str, Weights] = {}
        leads = self.accelerator.is_main_process
        with closing(Log(self.out / "log.jsonl")) as log:
            for number, expert in enumerate(self.experts):
                checkpoints = Checkpoints(self.out / "checkpoints", expert.name, self.settings.checkpoints.keep)
                before = checkpoints.load()
                if leads:
                    log.forget_after(expert.name, before["updates"] if before else 0)
                    self._warn_of_versions(before)

                def tell(report: Report, number: int = number) -> None:
                    if leads:
                        log.add(report)
                        if told is not None:
                            told(report)
                        self._track(report, number)

                def preview(updates: int, weights: Weights, expert: Expert = expert) -> None:
                    self._preview(expert, updates, finished | {expert.mark: weights})

                weights = train_expert(
                    self.family,
                    expert,
                    self._batches(expert),
                    self.settings,
                    self.accelerator,
                    checkpoints,
                    {"dataset": self.dataset.digest},
                    tell,
                    preview,
                )
                finished[expert.mark] = weights
                self._preview(expert, self.settings.steps, finished)
        self._write(finished, last=True)
        self.accelerator.end_training()

    def _batches(self, expert: Expert) -> Batches:
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        return Batches(self.samples, self.cache.words(""), self.settings, expert.span, process, processes)

    def _caption(self) -> str | None:
        """What pairs without a caption get; None where captions say nothing to the model."""
        index = Path(self.lifts_with.base) / "model_index.json"
        if index.is_file() and json.loads(index.read_text("utf-8")).get("text_encoder") == [None, None]:
            return None
        return self.settings.caption

    def _claim(self, resume: bool) -> None:
        """Make the folder this training's. Raises `TrainError` when it is another's."""
        said = {"model": self.model, "dataset": str(self.dataset.folder), "dataset_sha256": self.dataset.digest}
        try:
            kept = json.loads((self.out / RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = None
        if not resume and self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            more = "go on with it by --resume, or " if kept else ""
            raise TrainError(f"{self.out} is there already: {more}choose another folder with -o.")
        if kept is not None and kept["dataset_sha256"] != self.dataset.digest:
            raise TrainError(
                f"The training in {self.out} was begun with another dataset or another state of it ({kept['dataset']}):"
                " choose another folder with -o."
            )
        if kept is not None and kept["model"] != self.model:
            raise TrainError(f"The training in {self.out} was begun with --model {kept['model']}: go on with that.")
        self.accelerator.wait_for_everyone()  # all have looked before one writes
        if self.accelerator.is_main_process:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                write_atomically(self.out / RUN, (json.dumps(said, indent=2) + "\n").encode())
                write_atomically(self.out / SETTINGS, to_toml(self.settings.model_dump(mode="json")).encode())
            except OSError as error:
                raise TrainError(
                    f"{self.out} cannot be written ({error.strerror}): choose a folder that you may write to with -o."
                ) from error
        self.accelerator.wait_for_everyone()

    def _accelerator(self) -> Accelerator:
        precision = self.settings.precision
        if precision == "auto":
            precision = "bf16" if torch.cuda.is_available() else "fp32"
        trackers = self.settings.trackers
        if trackers is None:
            trackers = ("tensorboard",) if find_spec("tensorboard") else ()
        try:
            accelerator = Accelerator(
                cpu=not torch.cuda.is_available(),  # as lifters choose; without it, processes would not find together
                mixed_precision="no" if precision == "fp32" else "bf16",
                log_with=list(trackers) or None,
                project_config=ProjectConfiguration(str(self.out), logging_dir=str(self.out / "logs")),
                kwargs_handlers=[InitProcessGroupKwargs(timeout=LONG)],
            )
        except ValueError as error:
            raise TrainError(f"Accelerate cannot be set up so ({error}): see trackers and precision.") from error
        if accelerator.distributed_type not in SPREAD:
            raise TrainError(
                f"Training does not run under {accelerator.distributed_type.value}: configure Accelerate for plain "
                "data parallelism or for FSDP."
            )
        if accelerator.distributed_type == DistributedType.FSDP:
            self.settings = self.settings.model_copy(update={"shard": True})
        if self.settings.shard and self.settings.quantise:
            raise TrainError("A quantised base cannot be spread over processes: leave out either shard or quantise.")
        if accelerator.num_processes == 1:
            self.settings = self.settings.model_copy(update={"shard": False})
        return accelerator

    def _trackers(self) -> None:
        plain = (str, int, float, bool)
        flat = {key: value for key, value in self.settings.model_dump().items() if isinstance(value, plain)}
        self.accelerator.init_trackers("train", config=flat)

    def _track(self, report: Report, number: int) -> None:
        """Tell the trackers, of updates that are faster than `TRACK_SECONDS` not of all: TensorBoard's writes to disk
        each time, and waits for it."""
        if time.monotonic() < self._track_next and report.update != self.settings.steps:
            return
        self._track_next = time.monotonic() + TRACK_SECONDS
        mark = f"{report.expert}/" if len(self.experts) > 1 else ""
        values = {"loss": report.loss, "learning_rate": report.learning_rate, "grad_norm": report.grad_norm}
        for band, loss in report.bands.items():
            values[f"loss at noise {band / NOISE_BANDS:g} to {(band + 1) / NOISE_BANDS:g}"] = loss
        step = report.update + number * self.settings.steps
        self.accelerator.log({f"{mark}{name}": value for name, value in values.items()}, step=step)

    def _preview(self, expert: Expert, updates: int, weights: dict[str, Weights]) -> None:
        """The adapter as it stands, and held-out clips lifted with it: by the first process alone, or, where the base
        is spread over all, by all, of which the first keeps what came of it."""
        self._write(weights)
        folder = self.out / "previews" / f"{expert.name}-{updates:06d}"
        wanted = bool(self.shown) and not (folder / "scores.json").exists()
        self.accelerator.wait_for_everyone()
        if wanted and self.accelerator.is_main_process:
            self._lift(folder, updates)
        elif wanted and self.settings.shard:
            with TemporaryDirectory() as nowhere:
                self._lift(Path(nowhere), updates)
        self.accelerator.wait_for_everyone()

    def _lift(self, folder: Path, updates: int) -> None:
        try:
            with lifting_as(self.family.lifter, load_profile(self.out)) as lifter:
                rows = lift_pairs(lifter, self.shown, self.settings.validation, folder)
        except (LiftError, torch.OutOfMemoryError) as error:
            self._say(f"no preview after update {updates}: {str(error).splitlines()[0]}")
            return
        keep_scores(folder, rows)
        for row in rows:
            told = {f"{key} of {row['pair']}": value for key, value in row.items() if isinstance(value, float)}
            self.accelerator.log(told, step=updates)
        kind = "held-out clips" if self.held_out else "clips (not held out: the dataset is small)"
        self._say(f"update {updates}: {kind} lifted to {folder}")

    def _write(self, weights: dict[str, Weights], last: bool = False) -> None:
        """Adapter, profile and card, of the experts as far as they are trained; those that are not change nothing."""
        if not self.accelerator.is_main_process:
            return
        some = next(iter(weights.values()))
        metadata = self._metadata() | ({"scores": json.dumps(self.all_scores())} if last else {})
        for expert in self.family.experts:
            of_expert = weights.get(expert.mark) or zero_weights(some)
            scale = self.settings.adapter.scale
            write_adapter(self.out, expert.mark, of_expert, scale, metadata, self.family.trainers_name)
        name = "." if len(self.family.experts) > 1 else "pytorch_lora_weights.safetensors"
        write_profile(self.out, self.profile.model_copy(update={"adapter": name}))
        if self.lifts_with.training is not None:
            of_base = {"base": self.lifts_with.base, "sampling": self.lifts_with.sampling}
            fast = self.profile.model_copy(update={"adapter": name, **of_base})
            write_profile(self.out, fast, "distilled.toml")
        facts = {
            "updates": self.settings.steps,
            "pairs": f"{len(self.pairs)}, {len(self.held_out)} held out",
            "clips": f"{self.profile.window} frames, longer side {self.profile.max_side}",
            "dataset (SHA-256)": self.dataset.digest,
            "made with": ", ".join(f"{key} {value}" for key, value in versions().items()),
        }
        settings = self.settings.model_dump(mode="json", exclude_defaults=True)
        write_card(self.out, self.profile, facts, self.all_scores(), settings)

    def all_scores(self) -> list[dict[str, Any]]:
        """Those of all previews of this run, also from before it was taken up again."""
        rows = []
        for file in sorted((self.out / "previews").glob("*/scores.json")):
            expert, update = file.parent.name.rsplit("-", 1)
            rows += [{"expert": expert, "update": int(update), **row} for row in json.loads(file.read_text("utf-8"))]
        return rows

    def _metadata(self) -> dict[str, str]:
        """What an adapter's file says of itself."""
        said = {
            "base_model": self.profile.base if not Path(self.profile.base).is_dir() else Path(self.profile.base).name,
            "family": family_of(self.profile),
            "rank": str(self.settings.adapter.rank),
            "recipe": json.dumps(self.settings.model_dump(mode="json")),
            "dataset_sha256": self.dataset.digest,
            "software": f"realmaster {__version__}",
        }
        if self.settings.trigger:
            said["trigger"] = self.settings.trigger
        if self.settings.reference_downscale != 1:
            said["reference_downscale_factor"] = str(self.settings.reference_downscale)
        return said

    def _warn_of_versions(self, state: dict[str, Any] | None) -> None:
        changed = [
            f"{k} {v}, now {versions()[k]}" for k, v in (state or {}).get("versions", {}).items() if versions()[k] != v
        ]
        if changed:
            self._say(f"the training was begun with {'; '.join(changed)}: losses may differ a little")


def held_out(pairs: Sequence[Pair], count: int) -> tuple[list[Pair], list[Pair]]:
    """(held out, trained on): which are held out follows from their names alone. Of fewer than ten pairs none are."""
    if len(pairs) < 10:
        return [], list(pairs)
    order = sorted(pairs, key=lambda pair: sha256(pair.id.encode()).digest())
    chosen = {pair.id for pair in order[: min(count, len(pairs) // 5)]}
    return [p for p in pairs if p.id in chosen], [p for p in pairs if p.id not in chosen]


def training_profile(profile: Profile, settings: Settings) -> Profile:
    """The profile that is trained on, and lifted with in previews: without an adapter, on the base that is not
    distilled where there is one."""
    changes: dict[str, Any] = {
        "adapter": None,
        "training": None,
        "cue": settings.cue,
        "references": list(settings.references),
        "trigger": settings.trigger,
        "max_side": settings.max_side or profile.max_side,
        "quantise": settings.quantise or profile.quantise,
        "gguf": None,
        # What speeds lifting up need not have a backward pass.
        "attention": None,
        "compile": False,
        "upscale": None,
    }
    if profile.training is not None:
        changes |= {"base": profile.training.base, "sampling": profile.training.sampling}
    if settings.precision == "fp32":
        changes["dtype"] = "float32"
    return profile.model_copy(update=changes)


def latents_folder(dataset: Path, out: Path) -> Path:
    """Where encoded videos are kept: with the dataset, for the next training, or with the output where that cannot be
    written."""
    folder = dataset / ".latents"
    try:
        folder.mkdir(exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError:
        return out / "latents"
