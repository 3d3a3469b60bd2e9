"""The training loop of one expert's adapter, from its first update to its last.

Knows a family's loss and a stream of batches; knows nothing of datasets, files of adapters, or screens. All that is
drawn follows from the seed and the update's number, so that the state to keep is: weights, optimizer, number.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from peft import LoraConfig
from torch import Tensor, nn

from realmaster.train.batches import Batches
from realmaster.train.checkpoints import Checkpoints
from realmaster.train.families.family import Expert, Family
from realmaster.train.gradients import average_gradients
from realmaster.train.settings import Settings, TrainError

NAME = "trained"
"""Under this name the adapter is trained; the lifter's own stands beside it while it lifts a preview."""

PATIENCE = 10
"""So many updates in a row may come to nothing before a training is given up."""

NOISE_BANDS = 4
"""Losses are also told apart by noise level, in so many equal bands."""

LIBRARIES = ("torch", "diffusers", "peft", "accelerate")


class Stopped(Exception):
    """A training that was asked to end, and has saved its state after so many updates."""

    def __init__(self, updates: int) -> None:
        super().__init__(updates)
        self.updates = updates


@dataclass(frozen=True)
class Report:
    """What is told after every update."""

    expert: str
    update: int
    """Counted from 1."""
    loss: float
    """Mean over all samples of the update; not a number where it was none."""
    bands: dict[int, float]
    """Mean loss of the samples in each band of noise levels that occurred."""
    learning_rate: float
    grad_norm: float
    """Before it was shortened."""
    skipped: bool
    """The update was left out, as its gradient was not finite."""
    seconds: float
    """Since the one before."""


def train_expert(
    family: Family,
    expert: Expert,
    batches: Batches,
    settings: Settings,
    accelerator: Accelerator,
    checkpoints: Checkpoints,
    identity: dict[str, Any],
    told: Callable[[Report], None],
    preview: Callable[[int, dict[str, Tensor]], None],
) -> dict[str, Tensor]:
    """Train one expert's adapter; returns its weights as `output.Weights`.

    Every process holds the adapter whole, and gradients are averaged once an update. The frozen base is whole too, or,
    with `settings.shard`, spread over the processes.

    Goes on from the latest of `checkpoints`. identity: what the run is, kept in every state. told: after every update.
    preview: with (updates, weights) at intervals before the end. Raises `Stopped`, `TrainError`.
    """
    transformer = expert.transformer
    weights = add_adapter(family, transformer, settings)
    optimizer = make_optimizer(list(weights.values()), settings)
    average = {name: weight.detach().clone() for name, weight in weights.items()} if settings.average else None
    done = restore(checkpoints, weights, optimizer, average)
    if settings.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()

    trained = list(weights.values())
    if settings.shard:
        shard(transformer, trained, accelerator)
    device, skips = accelerator.device, 0  # Accelerate looks its own up anew each time
    feed = (batch.to(device) for batch in batches.from_update(done))

    def result() -> dict[str, Tensor]:
        kept = average or weights
        return {name.replace(f".{NAME}.", "."): weight.detach().float().cpu() for name, weight in kept.items()}

    def save(updates: int) -> None:
        if accelerator.is_main_process:
            state = {"updates": updates, "weights": weights, "average": average, "optimizer": optimizer.state_dict()}
            checkpoints.save(updates, state | identity | {"versions": versions()})

    transformer.train()
    try:
        batch = next(feed)
        with _asked_to_stop() as stop:
            while done < settings.steps:
                started = time.monotonic()
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate(done)
                if settings.adapter.dropout:  # nothing else asks for it, and it takes its time
                    torch.manual_seed(_dropout_seed(settings.seed, done, accelerator.process_index))

                losses, levels = [], []
                for _ in range(settings.accumulate):
                    with accelerator.autocast():
                        loss = family.losses(transformer, batch)
                    (loss.mean() / settings.accumulate).backward()
                    losses.append(loss.detach().float())
                    levels.append(batch.levels)
                    batch = next(feed)  # made here, as a card still computes; a thread would contend for Python's lock
                average_gradients(trained)
                norm = float(nn.utils.clip_grad_norm_(trained, settings.optimizer.max_grad_norm))

                everywhere = accelerator.gather(torch.stack([torch.cat(losses), torch.cat(levels)], dim=1))
                loss_now = everywhere[:, 0].mean().item()
                finite = math.isfinite(norm) and math.isfinite(loss_now)
                if finite:
                    optimizer.step()
                    if average is not None:
                        keep = min(settings.average, (1 + done) / (10 + done))  # the first weights are soon forgotten
                        with torch.no_grad():
                            torch._foreach_lerp_(list(average.values()), [weight.data for weight in trained], 1 - keep)
                optimizer.zero_grad(set_to_none=True)
                skips = 0 if finite else skips + 1
                done += 1

                rate, spent = optimizer.param_groups[0]["lr"], time.monotonic() - started
                told(Report(expert.name, done, loss_now, _bands(everywhere), rate, norm, not finite, spent))
                if skips == PATIENCE:
                    raise TrainError(
                        f"The last {PATIENCE} losses up to update {done} were not finite: set a lower "
                        'optimizer.learning_rate, or precision = "bf16" or "fp32", and begin anew.'
                    )
                stopping = _agreed(stop(), accelerator)
                if done % settings.checkpoints.every == 0 or done == settings.steps or stopping:
                    save(done)
                if stopping and done < settings.steps:
                    raise Stopped(done)
                every = settings.validation.every
                if every and done % every == 0 and done < settings.steps:
                    preview(done, result())
                    transformer.train()
        return result()
    finally:
        transformer.disable_gradient_checkpointing()
        transformer.eval()
        transformer.delete_adapters(NAME)


def probe(family: Family, expert: Expert, batches: Batches, settings: Settings, accelerator: Accelerator) -> float:
    """Seconds that an update will take, by one forward and backward pass (and one before it, to warm up) that change
    nothing."""
    transformer = expert.transformer
    add_adapter(family, transformer, settings)
    if settings.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    transformer.train()
    try:
        batch = batches.make(0, 0).to(accelerator.device)
        for _ in range(2):
            started = time.monotonic()
            with accelerator.autocast():
                family.losses(transformer, batch).mean().backward()
            if accelerator.device.type == "cuda":
                torch.cuda.synchronize(accelerator.device)
        return (time.monotonic() - started) * settings.accumulate
    finally:
        transformer.eval()
        transformer.disable_gradient_checkpointing()
        transformer.delete_adapters(NAME)


def add_adapter(family: Family, transformer: Any, settings: Settings) -> dict[str, nn.Parameter]:
    """Give the frozen transformer an adapter that changes nothing yet; returns its weights, float32."""
    plan = settings.adapter
    transformer.requires_grad_(False)
    torch.manual_seed(settings.seed)
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.rank * plan.scale,
        lora_dropout=plan.dropout,
        target_modules=list(plan.targets or family.targets),
        init_lora_weights=True,
    )
    try:
        transformer.add_adapter(config, adapter_name=NAME)
    except ValueError as error:
        raise TrainError(f"adapter.targets name no layer of this model ({error}).") from error
    weights = {name: weight for name, weight in transformer.named_parameters() if weight.requires_grad}
    for weight in weights.values():
        weight.data = weight.data.float()
    return weights


def shard(transformer: nn.Module, whole: list[nn.Parameter], accelerator: Accelerator) -> None:
    """Spread a transformer's frozen blocks over the processes (FSDP2): each keeps its part of every block, and a block
    is put together while it computes. The parameters `whole` stay as they are. From now on the transformer computes in
    all processes together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for blocks in [part for part in transformer.children() if isinstance(part, nn.ModuleList)]:
        for block in blocks:
            kept = set(whole) & set(block.parameters())
            fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=kept)


def make_optimizer(weights: list[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    plan = settings.optimizer
    options: dict[str, Any] = {"lr": plan.learning_rate, "betas": plan.betas, "weight_decay": plan.weight_decay}
    if plan.name == "adamw":
        return torch.optim.AdamW(weights, fused=True, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise TrainError(
            "The 8-bit optimizer needs bitsandbytes: pip install 'realmaster[train]', or set optimizer.name to adamw."
        ) from None
    return AdamW8bit(weights, **options)


def restore(
    checkpoints: Checkpoints,
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor] | None,
) -> int:
    """Put the latest state in place; returns the updates it has behind it."""
    state = checkpoints.load()
    if state is None:
        return 0
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(state["weights"][name])
        for name, tensor in (average or {}).items():
            tensor.copy_(state["average"][name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["updates"])


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _bands(samples: Tensor) -> dict[int, float]:
    """Mean loss by band of noise level, of `[N, 2]` losses and levels."""
    bands: dict[int, list[float]] = {}
    for loss, level in samples.tolist():
        bands.setdefault(min(int(level * NOISE_BANDS), NOISE_BANDS - 1), []).append(loss)
    return {band: sum(losses) / len(losses) for band, losses in sorted(bands.items())}


def _dropout_seed(*numbers: int) -> int:
    from realmaster.train.batches import generator

    return generator(*numbers, 1).initial_seed()


def _agreed(stop: bool, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop: they stop together."""
    if accelerator.num_processes == 1:
        return stop
    asked = torch.tensor([float(stop)], device=accelerator.device)
    return bool(accelerator.reduce(asked).item())


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """A question whether SIGTERM or Ctrl-C has come: the update under way is finished and saved. A second Ctrl-C ends
    at once."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    before = {}
    with contextlib.suppress(ValueError):  # only the main thread may
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, note)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Log:
    """`log.jsonl`: a line of JSON for every update, each update once. Written at once, to a file that stays open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def forget_after(self, expert: str, update: int) -> None:
        """Take out what a run wrote about later updates before it was killed: they are done again."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut short
                row = json.loads(line)
                if row["expert"] != expert or row["update"] <= update:
                    kept.append(line)
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def add(self, report: Report) -> None:
        row = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in vars(report).items()}
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", buffering=1)  # line by line
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
