"""The method: render clip in, photoreal clip out.

Importing this package costs nothing: torch and the model libraries are loaded by the first use of
`load_lifter`, so that recorders and `realmaster --help` start at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realmaster.lift import load_lifter

__all__ = ["__version__", "load_lifter"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load_lifter":
        from realmaster.lift import load_lifter

        return load_lifter
    raise AttributeError(f"module 'realmaster' has no attribute {name!r}")
