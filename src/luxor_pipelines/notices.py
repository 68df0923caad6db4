"""Warnings that point at the line of the caller outside this package."""

from __future__ import annotations

import inspect
import warnings

__all__ = ["NoEffectWarning", "warn", "warn_without_effect"]

_PACKAGE = __name__.partition(".")[0]
_warned: set[tuple[str, str]] = set()


class NoEffectWarning(UserWarning):
    """A parameter that is accepted for familiarity, and changes nothing, was given."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called into this package."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def warn_without_effect(method: str, parameter: str, reason: str, *, since: str = "0.1.0") -> None:
    """Warn, once in a process, that a parameter of a method changes nothing.

    Parameters
    ----------
    reason
        Why it does not, and what to use instead: whole sentences.
    """
    if (method, parameter) not in _warned:
        _warned.add((method, parameter))
        warn(f"{method}({parameter}=…) has had no effect since luxor-pipelines {since}. {reason}", NoEffectWarning)
