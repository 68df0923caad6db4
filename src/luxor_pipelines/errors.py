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
    │   ├── ForeignTableError                        another program's: read only, or not even that
    │   ├── CorruptFileError                         there, but cannot be read
    │   └── ConflictError                            somebody else wrote first
    │       ├── LoadConflictError                    … and kept doing so
    │       ├── FileLockedError                      another process keeps a file locked, on local disk
    │       ├── MoveInProgressError                  a table is between its place and the archive
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
from collections.abc import Callable, Container, Iterator
from itertools import takewhile
from pathlib import Path
from traceback import extract_tb, format_list
from typing import TypeVar
from urllib.parse import quote, quote_plus, unquote

__all__ = [
    "AccessError",
    "ConfigurationError",
    "ConflictError",
    "CorruptFileError",
    "DataError",
    "FileLockedError",
    "ForeignTableError",
    "InvalidNameError",
    "InvalidPeriodError",
    "LakeError",
    "LoadConflictError",
    "LockLostError",
    "LuxorError",
    "MoveInProgressError",
    "NotFoundError",
    "QualityError",
    "RunInProgressError",
    "SchemaError",
    "Secret",
    "TableNotFoundError",
    "UnknownAssetError",
    "UnknownPipelineError",
    "UnreachableError",
    "UsageError",
    "conceal",
    "conceal_address",
    "holds_secret",
    "redact",
    "sample",
    "scrubbed",
    "shown",
    "visible",
]

_PACKAGE = str(Path(__file__).parent)
_SECRETS = re.compile(
    r"""(?ix)
    ( (?:AccountKey|SharedAccessSignature|\bsig|(?:%3F|%26)sig|client_secret|Authorization)
      ["']? \s* (?:[=:]|%3D) \s* ["']? )
    (?: (?:SharedKey|Bearer) \s+ )?
    (?!…|\*\*\*) [^\s;&"',]+
    """
)
_SHORTEST = 6
"""Shorter texts are not masked: that would garble messages and hide nothing."""
_MESSAGE_MAX = 4_000
"""The most characters of a message, which may quote a caller's values and has to be readable."""

_concealed: dict[str, None] = {}


class Secret(str):
    """Text whose ``repr`` is masked, and with it every traceback that shows variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"


def conceal(secret: str) -> None:
    """Register a secret, so that `redact` masks it from now on in every form it may be quoted in.

    `redact` finds secrets by the name before them, such as ``sig=``, without this; a registered one is also found
    where no name stands before it, percent-encoded or without its line breaks.
    """
    for part in (secret, *secret.split()):
        quoted = (quote(part, "", errors="replace"), quote_plus(part, errors="replace"), str.__repr__(part)[1:-1])
        for form in (part, part.strip(), unquote(part), *quoted):
            if len(form) >= _SHORTEST:
                _concealed[form] = None


def conceal_address(address: str, public: Container[str] = ()) -> None:
    """Register the password of a URL, and the values of its query except those whose names are ``public``."""
    for setting in address.partition("?")[2].split("&"):
        name, equals, value = setting.partition("=")
        if name.lower() not in public:
            conceal(value if equals else name)
    password = re.match(r"[^/?#]*//[^/?#@]*?:([^/?#]*)@", address)
    if password:
        conceal(password[1])


def redact(text: str) -> str:
    """Return ``text`` with account keys, signatures and tokens replaced by ``***``."""
    text = _SECRETS.sub(r"\1***", text)
    for secret in sorted(_concealed, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, "***")
    return text


_E = TypeVar("_E", bound="LuxorError")


def holds_secret(error: BaseException) -> bool:
    """Return whether ``error``, or an exception in its chain, quotes a secret in its text, arguments or notes."""
    return any(redact(text) != text for link in _chain(error) for text in _texts(link))


def scrubbed(error: _E) -> _E:
    """Return ``error``, its chain replaced by one exception with the redacted text where it quotes a secret.

    Notebooks and hosts print the whole chain. Raise the result outside of any ``except`` block, since Python would
    chain the exception that is being handled there again.
    """
    if holds_secret(error):
        causes = [f"{type(link).__name__}: {link}" for link in _chain(error) if link is not error]
        error.__cause__ = LuxorError("; ".join(causes)) if causes else None
        error.__context__ = None
        error.__notes__ = [redact(note) for note in getattr(error, "__notes__", [])]
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and everything it was caused by, raised beside, or groups."""
    links: list[BaseException | None] = [error]
    visited: set[int] = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in visited:
            visited.add(id(link))
            yield link
            links += [link.__context__, link.__cause__]
            links += link.exceptions if isinstance(link, BaseExceptionGroup) else ()


def _texts(error: BaseException) -> list[str]:
    """Return what a traceback or a display of ``error`` can show."""
    return [str(error), repr(error), repr(error.args), *map(str, getattr(error, "__notes__", []))]


def shown(value: object, limit: int = 100) -> str:
    """Return the ``repr`` of ``value`` for a message, its middle left out where it is long."""
    text = repr(value[: 4 * limit] if isinstance(value, str | bytes) else value)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 4 :]}"


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but for tabs and line feeds, other line breaks, and marks that turn the direction of a text."""


def visible(text: str, escape: Callable[[int], str] = "\\x{:02x}".format) -> str:
    """Return ``text`` with its control characters written as escapes, which a terminal shows and does not obey."""
    return _CONTROLS.sub(lambda match: escape(ord(match[0])), text)


def sample(values: object, limit: int = 3) -> str:
    """Return a few of ``values`` for a message: ``'a', 'b', 'c' and 17 more``."""
    items = list(values)  # type: ignore[call-overload]
    examples = ", ".join(shown(item) for item in items[:limit])
    left_out = len(items) - limit
    return f"{examples} and {left_out} more" if left_out > 0 else examples


class LuxorError(Exception):
    """Base of all errors raised on purpose by luxor-pipelines.

    ``message`` says what happened and where; ``hint`` says what to do next. Both are stripped
    of secrets, since messages of underlying libraries end up in them.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        message = redact(message)
        self.message = message if len(message) <= _MESSAGE_MAX else f"{message[:_MESSAGE_MAX]}…"
        self.hint = redact(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the call into this library, and the message, not what lies between."""
        outside = takewhile(lambda frame: not frame.filename.startswith(_PACKAGE), extract_tb(self.__traceback__))
        return [
            *(redact(line) for line in format_list([*outside][-1:])),
            f"{type(self).__name__}: {self}",
            "(All frames: import traceback, sys; traceback.print_exception(sys.last_value))",
        ]


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


class ForeignTableError(LakeError):
    """The table is another program's: a folder that is read and not written, or a format that is not read either.

    ``kind`` is ``folder``, ``delta``, ``iceberg`` or ``hudi``.
    """

    def __init__(self, message: str, *, hint: str = "", kind: str = "folder") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class CorruptFileError(LakeError):
    """A file is there but cannot be read as what it should be."""


class ConflictError(LakeError):
    """The stored version is no longer the one the write was based on."""


class LoadConflictError(ConflictError):
    """A load met other writers until its attempts ran out; the table is intact."""


class FileLockedError(ConflictError):
    """Another process kept a file locked for longer than ``LUXOR_LOCK_TIMEOUT``; nothing was written."""


class MoveInProgressError(ConflictError):
    """A table is being moved to the archive or back, or such a move was cut short; it is not read or written."""


class RunInProgressError(ConflictError):
    """The same pipeline is running already for the same reference date; nothing was done."""


class LockLostError(ConflictError):
    """A run no longer holds its lease, since it stalled and another took its place, or its process was told to end.

    Nothing was written after that was seen.
    """


class SchemaError(LuxorError, ValueError):
    """Columns, types, keys or cells that do not fit the table."""


class DataError(LuxorError, ValueError):
    """Data that is well formed but cannot be worked with, such as an empty ``assets``."""


class QualityError(DataError):
    """Data that did not pass the checks made before it is written; nothing was written.

    The message lists what was found; see `luxor_pipelines.quality.gate`.
    """


class UnknownAssetError(LuxorError, KeyError):
    """No asset or price series of that name."""
