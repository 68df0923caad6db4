"""Text columns of frames, made of a few distinct words without touching each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["coded_column", "text_column"]


def text_column(words: Sequence[str | None] | NDArray[np.object_], codes: NDArray[np.integer[Any]]) -> Any:
    """Return the array of ``words[code]`` for each of ``codes``, as pandas stores text; None is missing."""
    # Taking from a short Series keeps the text in pandas' own representation, never as objects.
    return pd.Series(np.asarray(words, dtype=object), dtype=str).take(codes).array


def coded_column(words: Sequence[str | None] | NDArray[np.object_], codes: NDArray[np.integer[Any]]) -> pd.Categorical:
    """Return what `text_column` does as a categorical, whose categories are the texts in their order."""
    of_word, texts = pd.factorize(np.asarray(words, dtype=object))
    return pd.Categorical.from_codes(of_word[codes], pd.Index(texts, dtype=str), validate=False)
