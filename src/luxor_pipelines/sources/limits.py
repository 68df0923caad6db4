"""Limits on what is read of a raw file: nothing in ``raw/`` is trusted."""

from __future__ import annotations

from dataclasses import dataclass, fields

from luxor_pipelines.errors import CorruptFileError
from luxor_pipelines.settings import Settings

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The limits of one file. A file beyond a limit is refused by name; ``LUXOR_RAW_<NAME>`` sets each.

    Attributes
    ----------
    bytes
        Size of the file as it lies there.
    unpacked
        Size once unpacked, in bytes.
    rows
        Rows, or in a file with a column per asset, prices.
    cells
        Cells of the columns of dates, assets and prices, blank or not.
    bad_rows
        Rows with the wrong number of cells; of other bad rows, how many are kept for the quarantine.
    seconds
        Time to read it.
    memory
        Bytes of memory that workbooks and Parquet files take while they are read.
    total
        Prices of all files of a run; the files that come after this number are refused.
    """

    bytes: int = Settings.raw_bytes
    unpacked: int = Settings.raw_unpacked
    rows: int = Settings.raw_rows
    cells: int = Settings.raw_cells
    bad_rows: int = Settings.raw_bad_rows
    seconds: float = Settings.raw_seconds
    memory: int = Settings.raw_memory
    total: int = Settings.raw_total

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings give."""
        return cls(**{limit.name: getattr(settings, f"raw_{limit.name}") for limit in fields(cls)})

    def refused(self, file: str, fault: str, limit: str) -> CorruptFileError:
        """Return the error for a file beyond a limit: ``fault`` describes it, ``limit`` names the attribute."""
        return CorruptFileError(
            f"{file} {fault}.",
            hint=f"Check where it comes from. If it is genuine, split it, or raise LUXOR_RAW_{limit.upper()}.",
        )
