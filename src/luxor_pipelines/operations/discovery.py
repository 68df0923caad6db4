"""The pipelines there are, and the parameters they take.

Listing is quick: modules are found and described from their source, none is imported.
"""

from __future__ import annotations

import ast
import difflib
import functools
import graphlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import io
import logging
import pkgutil
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luxor_pipelines import pipelines
from luxor_pipelines.errors import ConfigurationError, UnknownPipelineError, UsageError, sample, shown
from luxor_pipelines.pipelines import Declaration

if TYPE_CHECKING:
    from luxor_pipelines.lake.types.schema import TableSchema
    from luxor_pipelines.pipelines import PipelineResult

__all__ = [
    "ENTRY_POINTS",
    "Pipeline",
    "check_params",
    "declarations",
    "declared_schemas",
    "find_pipelines",
    "get_pipeline",
    "in_order",
    "parse_params",
]

logger = logging.getLogger(__name__)

ENTRY_POINTS = "luxor_pipelines.pipelines"
"""The entry-point group through which other packages add pipelines: name to module or function."""

_GIVEN = ("ref_date", "lq", "now")
_RESERVED = (*_GIVEN, "lake", "if_running")
"""Arguments of `run` itself, which no parameter of a pipeline may set."""

_NAME = re.compile(r"[\w-]{1,100}", re.ASCII)
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that can be run: its name, where its code is, and which package it came with.

    ``target`` is a module with a function ``run``, or ``module:function``.
    """

    name: str
    target: str
    package: str

    @property
    def description(self) -> str:
        """The first paragraph of the module's docstring, read from its source: nothing is imported."""
        return " ".join(_docstring(_source(self.target.partition(":")[0])).split("\n\n")[0].split())

    def load(self) -> Callable[..., PipelineResult]:
        """Import the pipeline's function.

        Raises
        ------
        ConfigurationError
            Its package cannot be imported or has no such function.
        """
        module, _, attribute = self.target.partition(":")
        try:
            target: Any = importlib.import_module(module)
            for part in filter(None, attribute.split(".")):
                target = getattr(target, part)
            function: Callable[..., PipelineResult] = target if callable(target) else target.run
        except (Exception, SystemExit) as error:
            told = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
            raise ConfigurationError(
                f"The pipeline {self.name} ({self.target}, of {self.package}) cannot be imported: {told}.",
                hint=f"Install or repair the package {self.package} and what it needs.",
            ) from error
        return function

    def declaration(self) -> Declaration:
        """Import the pipeline, and return what it declares; a module's ``SCHEMA`` alone declares its output.

        Raises
        ------
        ConfigurationError
            Its package cannot be imported.
        """
        function = self.load()
        module = inspect.getmodule(function)
        declared = getattr(function, "DECLARATION", None) or getattr(module, "DECLARATION", None)
        if isinstance(declared, Declaration):
            return declared
        schema = getattr(module, "SCHEMA", None)
        return Declaration(outputs=() if schema is None else (schema,))


def find_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name, in alphabetical order; none can replace one of ours.

    Ours are the modules of `luxor_pipelines.pipelines` that define ``run`` and whose name does not
    start with ``_``; others come from packages that are installed, by the entry-point group
    ``luxor_pipelines.pipelines``. None is imported.
    """
    by_name: dict[str, Pipeline] = {}
    for module in pkgutil.iter_modules(pipelines.__path__):
        target = f"{pipelines.__name__}.{module.name}"
        if not module.name.startswith("_") and _defines_run(target):
            by_name[module.name] = Pipeline(module.name, target, "luxor-pipelines")
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        package = entry.dist.name if entry.dist else entry.module
        target = entry.module + (f":{entry.attr}" if entry.attr else "")
        pipeline = Pipeline(entry.name, target, package)
        if not _NAME.fullmatch(entry.name):  # records and leases have it in their paths
            reason = "its name is not of letters a to z, digits, - and _ alone"
        elif by_name.setdefault(entry.name, pipeline) != pipeline:
            reason = f"{by_name[entry.name].package} has one of that name"
        else:
            continue
        _tell_unused(entry.name, package, reason)
    return dict(sorted(by_name.items()))


@functools.cache  # a command looks for pipelines several times
def _tell_unused(name: str, package: str, reason: str) -> None:
    logger.warning("The pipeline %s of %s is not used: %s.", name, package, reason)


def get_pipeline(name: str) -> Pipeline:
    """Return the pipeline of that name; ``-`` and ``_`` are the same.

    Raises
    ------
    UnknownPipelineError
        There is no such pipeline; the message lists those that exist and a likely one.
    """
    pipelines_by_name = find_pipelines()
    plain = str(name).strip().lower().replace("-", "_")
    for candidate in (str(name), plain):
        if candidate in pipelines_by_name:
            return pipelines_by_name[candidate]
    near = difflib.get_close_matches(plain[:100], pipelines_by_name, n=1)
    raise UnknownPipelineError(
        f"There is no pipeline {shown(name)}.",
        hint=(f"Did you mean {near[0]}? " if near else "") + f"There are: {', '.join(pipelines_by_name)}.",
    )


@functools.cache
def _source(module: str) -> str:
    """Return a module's source; an empty text where there is none."""
    try:
        spec = importlib.util.find_spec(module)
        text: str | None = spec.loader.get_source(module) if spec and spec.loader else None  # type: ignore[attr-defined]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - finding a module imports the packages it is in
        logger.debug("No source of %s: %s", module, error)
        return ""
    return text or ""


def _docstring(source: str) -> str:
    """Return a module's docstring, from the first tokens of its source: parsing all of it takes a while."""
    try:
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        first = next(token for token in tokens if token.type not in {tokenize.COMMENT, tokenize.NL})
        if first.type == tokenize.STRING and next(tokens).type in {tokenize.NEWLINE, tokenize.COMMENT}:
            value = ast.literal_eval(first.string)
            return inspect.cleandoc(value) if isinstance(value, str) else ""
        return ast.get_docstring(ast.parse(source)) or ""
    except (tokenize.TokenError, SyntaxError, ValueError) as error:
        logger.debug("No docstring: %s", error)
    return ""


def _defines_run(module: str) -> bool:
    return re.search(r"^def\s+run\s*[\[(]", _source(module), re.MULTILINE) is not None


def declarations() -> dict[str, Declaration]:
    """Return what each pipeline declares, by name; one that cannot be imported is left out, with a warning."""
    declared: dict[str, Declaration] = {}
    for pipeline in find_pipelines().values():
        try:
            declared[pipeline.name] = pipeline.declaration()
        except ConfigurationError as error:
            logger.warning("What %s declares is not known: %s", pipeline.name, error)
    return declared


def declared_schemas() -> dict[str, TableSchema]:
    """Return the schemas of the tables that pipelines write, by table."""
    outputs = (schema for declaration in declarations().values() for schema in declaration.outputs)
    schemas: dict[str, TableSchema] = {}
    for schema in outputs:
        schemas.setdefault(schema.name, schema)
    return schemas


def in_order(names: Iterable[str]) -> list[str]:
    """Return pipelines so that each comes after those that write its inputs; else in the order given.

    One that cannot be imported is taken for one without inputs and outputs.

    Raises
    ------
    UnknownPipelineError
    ConfigurationError
        Some pipelines need each other's tables.
    """
    declared: dict[str, Declaration] = {}
    for pipeline in map(get_pipeline, names):
        try:
            declared[pipeline.name] = pipeline.declaration()
        except ConfigurationError as error:  # running it says so
            logger.debug("%s", error)
            declared[pipeline.name] = Declaration(outputs=())
    writers = {schema.name: name for name, declaration in declared.items() for schema in declaration.outputs}
    sorter = graphlib.TopologicalSorter(
        {
            name: [writers[table] for table in declaration.inputs if writers.get(table, name) != name]
            for name, declaration in declared.items()
        }
    )
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        raise ConfigurationError(
            f"The pipelines {sample(error.args[1])} need each other's tables.", hint="Correct their DECLARATION."
        ) from error


def parse_params(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a pipeline from texts like ``key=value``, by the types its ``run`` declares.

    ``true`` and ``false`` for a flag, numbers, ``a,b`` for a list; all else is text.

    Raises
    ------
    UsageError
        Not of that form, given twice, not a parameter of the pipeline, or not of its type.
    """
    pipeline = get_pipeline(name)
    function = pipeline.load()
    accepted = inspect.signature(function).parameters
    params: dict[str, Any] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        key = key.replace("-", "_")
        if not equals or not key:
            raise UsageError("A parameter is not of the form key=value.", hint="Write it like --param fetch=true.")
        if key in params:
            raise UsageError(f"The parameter {key} is given twice.", hint="Give it once.")
        params[key] = _typed(key, value, accepted[key].annotation) if key in accepted else value
    check_params(pipeline, function, params)
    return params


def _typed(key: str, value: str, annotation: object) -> Any:
    declared = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    words = set(re.findall(r"\w+", declared))
    if words & {"Sequence", "list", "tuple", "Iterable"}:
        return [item.strip() for item in value.split(",") if item.strip()]
    if "str" in words:
        return value
    try:
        if "bool" in words:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[value.lower()]
        return int(value) if "int" in words else float(value) if "float" in words else value
    except (ValueError, KeyError) as error:
        raise UsageError(f"The parameter {key} does not take that value.", hint=f"It takes a {declared}.") from error


def check_params(pipeline: Pipeline, function: Callable[..., Any], params: Mapping[str, Any]) -> None:
    """Refuse parameters that the pipeline's function does not accept.

    Raises
    ------
    UsageError
        Lists what it accepts.
    """
    signature = inspect.signature(function).parameters.values()
    accepted = [parameter.name for parameter in signature if parameter.name not in _GIVEN]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature)
    unknown = [key for key in params if key in _RESERVED or not (takes_any or key in accepted)]
    if unknown:
        near = difflib.get_close_matches(unknown[0], accepted, n=1)
        raise UsageError(
            f"The pipeline {pipeline.name} has no parameter {sample(unknown)}.",
            hint=(f"Did you mean {near[0]}? " if near else "") + f"It accepts: {', '.join(accepted) or 'none'}.",
        )
