"""The paper's second half in miniature: an adapter distilled from the pipeline's pairs, and one trained on true pairs.

    python benchmarks/distil.py OUT [--streets 3000:3100] [--steps 1300]

Records OUT/takes, short drives through streets; makes pairs of them, OUT/pipeline, as `realmaster pairs` does; puts the
truth in the place of the targets of the very same clips, OUT/truth; and trains an adapter from nothing on either, by
`realmaster train --model embedded`: OUT/distilled and OUT/true. Base and decoder are the embedded model's. What is
there is not made again. At the end it says how to score them beside the model that ships and the pipeline itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from capture.take import Take
from capture.video import write_video
from engine_bridges.city.bridge import city_from_take
from engine_bridges.city.clips import HELD_OUT
from engine_bridges.city.scene import City
from engine_bridges.city.takes import record_take
from realmaster.models.recipe import multiplies_bfloat16_faster

SIZE = (256, 144)


def with_truth(pairs: Path, takes: Path, out: Path) -> None:
    """A twin of a dataset whose targets are the engine's own reference shading."""
    for folder in ("render", "target"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    lines = []
    for line in (pairs / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        about = pair["provenance"]
        target = out / "target" / f"{pair['id']}.mp4"
        if not target.exists():
            take = Take(takes / Path(about["take"]).name)
            city = city_from_take(take)
            pictures = (city.reference(take[index].serial) for index in range(*about["frames"]))
            write_video(target, pictures, fps=pair["fps"])
        kept = {name: pair[name] for name in ("id", "caption", "size", "fps", "provenance")}
        shutil.copy(pairs / pair["render"], out / "render")
        lines.append(json.dumps({**kept, "render": f"render/{target.name}", "target": f"target/{target.name}"}))
    (out / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def realmaster(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "realmaster", *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--streets", default="3000:3100", help="seeds A:B, from A up to B - 1")
    parser.add_argument("--frames", type=int, default=9, help="of each take, which makes one pair of five")
    parser.add_argument("--steps", type=int, default=1300)
    args = parser.parse_args()
    first, last = (int(part) for part in args.streets.split(":"))
    if not 0 <= first < last <= HELD_OUT:
        parser.error(f"--streets wants A:B with 0 <= A < B <= {HELD_OUT}: later streets are held out")
    takes, pairs = args.out / "takes", args.out / "pipeline"
    for seed in range(first, last):
        if not (takes / f"street-{seed}").exists():
            start = 40 + seed % 50
            record_take(takes / f"street-{seed}", City(seed, SIZE), range(start, start + args.frames))
    realmaster("pairs", *sorted(takes.iterdir()), "-o", pairs, "--workers", "2", "--resume")
    with_truth(pairs, takes, args.out / "truth")
    settings = args.out / "settings.toml"
    fast = torch.cuda.is_available() or multiplies_bfloat16_faster()
    settings.write_text(f'precision = "{"bf16" if fast else "fp32"}"\n[validation]\nevery = 0\n')
    for dataset, adapter in ((pairs, "distilled"), (args.out / "truth", "true")):
        realmaster("train", dataset, "-o", args.out / adapter, "--model", "embedded", "--steps", str(args.steps),
                   "--settings", settings, "--resume")  # fmt: skip
    print(f"\npython benchmarks/study.py embedded editing pipeline distilled={args.out}/distilled true={args.out}/true")


if __name__ == "__main__":
    main()
