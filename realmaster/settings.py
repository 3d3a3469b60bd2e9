"""Settings of a task: one validated value, from the defaults that ship, a person's TOML file and the command line.

Works on plain values and pydantic models; knows no task.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from capture.errors import UserError


class Part(BaseModel):
    """Settings, or a table of them. What it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Part)


def read_settings(
    kind: type[T],
    under: Mapping[str, Any],
    path: Path | None = None,
    over: Mapping[str, Any] | None = None,
    error: type[UserError] = UserError,
) -> T:
    """The values `under`, with those of the TOML file at `path` and then `over` in their place (all nested, as in
    TOML). Raises `error`, one sentence."""
    values = dict(under)
    if path is not None:
        try:
            values = merged(values, tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as reason:
            raise error(f"The settings {path} cannot be read ({reason.strerror}): name a TOML file.") from reason
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
            raise error(f"The settings {path} are not valid TOML: {reason}.") from reason
    try:
        return kind(**merged(values, over or {}))
    except ValidationError as reason:
        first = reason.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        told = f"The settings {path}" if path is not None else "The command line's settings"
        raise error(f"{told} are wrong{f' at {where}' if where else ''}: {first['msg']}.") from reason


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of `changes` in their place, table by table."""
    result = dict(values)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


def to_toml(values: Mapping[str, Any], table: str = "") -> str:
    """Plain values as TOML: scalars, lists of them and tables; None is left out."""
    lines = [f"{key} = {_scalar(value)}" for key, value in values.items() if not isinstance(value, Mapping | None)]
    text = "".join(line + "\n" for line in lines)
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            name = f"{table}{key}"
            text += f"\n[{name}]\n{to_toml(value, name + '.')}"
    return text


def _scalar(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, str):
        # JSON escapes only what TOML escapes too, but leaves out DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
