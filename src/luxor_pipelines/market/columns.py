"""Text columns of frames, made of a few distinct words without touching each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from luxor_pipelines.errors import UsageError
from luxor_pipelines.lazy import pd

__all__ = ["Texts", "check_frame", "coded", "coded_column", "text_column"]

Texts: TypeAlias = "Sequence[str | None] | NDArray[np.object_] | pd.Categorical"


def check_frame(frame: object, argument: str) -> None:
    """Raise unless ``frame`` is a frame; ``argument`` is what the error calls it.

    Raises
    ------
    UsageError
    """
    if not isinstance(frame, pd.DataFrame):
        raise UsageError(
            f"{argument} is no DataFrame but of type {type(frame).__name__}.", hint="Give a pandas DataFrame."
        )


def text_column(words: Texts, codes: NDArray[np.integer[Any]]) -> Any:
    """Return the array of ``words[code]`` for each of ``codes``, as pandas stores text; None is missing."""
    # Taking from a short Series keeps the text in pandas' own representation, never as objects.
    return pd.Series(np.asarray(words, dtype=object), dtype=str).take(codes).array


def coded_column(words: Texts, codes: NDArray[np.integer[Any]]) -> pd.Categorical:
    """Return what `text_column` does as a categorical, whose categories are the texts in their order."""
    return (words if isinstance(words, pd.Categorical) else coded(words)).take(codes)


def coded(words: Texts) -> pd.Categorical:
    """Return texts as a categorical, whose categories are in the order of their first occurrence."""
    codes, texts = pd.factorize(np.asarray(words, dtype=object))
    return pd.Categorical.from_codes(codes, pd.Index(texts, dtype=str), validate=False)
