"""pandas as ``pd``, imported when it is first used.

Modules that commands without a frame import on their way, such as those of `luxor status`, take it from here: pandas
is a third of the time that such a command takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
else:

    class _Pandas:
        def __getattr__(self, name: str) -> Any:
            return getattr(import_module("pandas"), name)

    pd = _Pandas()

__all__ = ["pd"]
