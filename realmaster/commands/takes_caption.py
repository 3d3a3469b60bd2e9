"""`realmaster takes caption`: a take's own prompt, written by a model that looks at it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from realmaster.commands.options import add_take_command, takes_folder

if TYPE_CHECKING:
    from realmaster.progress import Screen


def add(actions: Any) -> None:
    parser = add_take_command(
        actions,
        "caption",
        "have a model describe a take; its lifts use that as their prompt",
        run,
        "city-0001 --caption-model HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        about="Have a vision-language model look at a take and describe it as if it had been filmed. The text is kept\n"
        "as prompt.txt in the take: `lift` uses it where no --prompt is given. Read it first, and edit it as you like.",
    )
    parser.add_argument("--caption-model", required=True, metavar="DIR|ID", help="folder or hub id of a "
                        "vision-language model that transformers knows")  # fmt: skip
    parser.add_argument("--replace", action="store_true", help="replace a prompt that the take has already")


def run(args: argparse.Namespace, screen: Screen) -> Mapping[str, Any]:
    from capture.take import Take
    from realmaster.captions import Captioner, caption_take, check_wanted

    with Take.find(args.take, takes_folder(args)) as take:
        check_wanted(take, args.replace)  # before the model takes its time to load
        with screen.step("loading the model"):
            captioner = Captioner(args.caption_model)
        with screen.step("looking"):
            said = caption_take(take, captioner, args.replace)
        screen.show(f"[green]✓[/] {take.name}: {said}")
        return {"take": take.path, "prompt": said}
