"""Every error luxor-pipelines raises on purpose, in one tree.

    LuxorError
    ├── ConfigurationError            nothing, or something wrong, is configured
    ├── UsageError (ValueError)       the call itself is wrong: a date, a name, an option
    │   ├── InvalidPeriodError        a period that is not mtd, qtr, ytd or <N>m
    │   ├── InvalidNameError          a table or file name that could leave its place in the lake
    │   └── UnknownPipelineError (LookupError)
    ├── LakeError (OSError)           the lake could not do what was asked
    │   ├── AccessError (PermissionError)            credentials refused
    │   ├── UnreachableError (ConnectionError)       no answer from the account
    │   ├── NotFoundError (FileNotFoundError)        definitely not there
    │   │   └── TableNotFoundError
    │   ├── CorruptFileError                         there, but cannot be read
    │   └── ConflictError                            somebody else wrote first
    │       ├── LoadConflictError                    … and kept doing so
    │       ├── RunInProgressError                   the same pipeline and date is running already
    │       └── LockLostError                        … or was started again, this one having stalled
    ├── SchemaError (ValueError)      columns, types, keys or cells that do not fit
    ├── DataError (ValueError)        data that is well formed but cannot be worked with
    │   └── QualityError              … or is so odd that a person has to look before it is written
    └── UnknownAssetError (KeyError)  no such asset or price series

Each carries the next step: ``error.hint``, also the last line of ``str(error)``. Most inherit
the matching builtin as well, so ``except FileNotFoundError`` works.
"""

from __future__ import annotations

import re

__all__ = [
    "AccessError",
    "ConfigurationError",
    "ConflictError",
    "CorruptFileError",
    "DataError",
    "InvalidNameError",
    "InvalidPeriodError",
    "LakeError",
    "LoadConflictError",
    "LockLostError",
    "LuxorError",
    "NotFoundError",
    "QualityError",
    "RunInProgressError",
    "SchemaError",
    "TableNotFoundError",
    "UnknownAssetError",
    "UnknownPipelineError",
    "UnreachableError",
    "UsageError",
    "redact",
    "sample",
]

_SECRETS = re.compile(
    r"""(?ix)
    ( (?:AccountKey|SharedAccessSignature|[?&;]sig|\bsig|client_secret|Authorization) ["']? \s* [=:] \s* ["']? )
    (?: (?:SharedKey|Bearer) \s+ )?
    [^\s;&"',]+
    """
)


def redact(text: str) -> str:
    """Return ``text`` with account keys, signatures and tokens replaced by ``***``."""
    return _SECRETS.sub(r"\1***", text)


def sample(values: object, limit: int = 3) -> str:
    """A few of ``values`` for a message: ``'a', 'b', 'c' and 17 more``."""
    items = list(values)  # type: ignore[call-overload]
    shown = ", ".join(repr(item) for item in items[:limit])
    more = len(items) - limit
    return f"{shown} and {more} more" if more > 0 else shown


class LuxorError(Exception):
    """Base of all errors raised on purpose by luxor-pipelines.

    ``message`` says what happened and where; ``hint`` says what to do next. Both are stripped
    of secrets, since messages of underlying libraries end up in them.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = redact(message)
        self.hint = redact(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigurationError(LuxorError):
    """Nothing, or something wrong, is configured."""


class UsageError(LuxorError, ValueError):
    """The call itself is wrong."""


class InvalidPeriodError(UsageError):
    """A period that is not ``mtd``, ``qtr``, ``ytd`` or ``<N>m``."""


class InvalidNameError(UsageError):
    """A table or file name that could leave its place in the lake."""


class UnknownPipelineError(UsageError, LookupError):
    """No pipeline of that name."""


class LakeError(LuxorError, OSError):
    """The lake could not do what was asked."""


class AccessError(LakeError, PermissionError):
    """The lake refused the credentials."""


class UnreachableError(LakeError, ConnectionError):
    """The lake did not answer."""


class NotFoundError(LakeError, FileNotFoundError):
    """The file, or the whole container, is definitely not there."""


class TableNotFoundError(NotFoundError):
    """The table is definitely not there."""


class CorruptFileError(LakeError):
    """A file is there but cannot be read as what it should be."""


class ConflictError(LakeError):
    """The stored version is no longer the one the write was based on."""


class LoadConflictError(ConflictError):
    """A load met other writers until its attempts ran out; the table is intact."""


class RunInProgressError(ConflictError):
    """The same pipeline is running already for the same reference date; nothing was done."""


class LockLostError(ConflictError):
    """A run stalled, and another took its place; nothing was written after that."""


class SchemaError(LuxorError, ValueError):
    """Columns, types, keys or cells that do not fit the table."""


class DataError(LuxorError, ValueError):
    """Data that is well formed but cannot be worked with, such as an empty ``assets``."""


class QualityError(DataError):
    """Data that did not pass the checks made before it is written; nothing was written.

    The message lists what was found; see `luxor_pipelines.quality`.
    """


class UnknownAssetError(LuxorError, KeyError):
    """No asset or price series of that name."""
