"""Loads and calls functions as the Python worker does; run as a program, in a process of its own.

    python -S -I host.py APP < calls.json

``APP`` is a folder with host.json at its root. Nothing but the standard library, the app's root and its
``.python_packages`` is on the path. Each call is ``{"function": …}`` with ``"past_due"`` for a timer,
``"body"``, ``"params"`` for HTTP, ``"message"`` for a queue; each outcome is one line of JSON on stdout, all logs go
to stderr.
"""

import concurrent.futures
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

NAMESPACE = "__app__"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Context:
    """A function's invocation, as the worker describes it."""

    invocation_id = "0b8f9c39-5d53-4f9a-8d45-7a0a1c0f3d11"
    function_name = ""
    function_directory = ""
    thread_local_storage = None
    retry_context = None

    class trace_context:
        trace_parent = TRACEPARENT
        trace_state = ""
        attributes: ClassVar = {}


class Out:
    """An output binding: what a function sets goes into the outcome."""

    def __init__(self):
        self.value = None

    def set(self, value):
        self.value = value

    def get(self):
        return self.value


def bind(main):
    """The function with its context and output bindings, where it takes them."""
    parameters = inspect.signature(main).parameters
    outputs = {name: Out() for name in parameters if name in ("message", "again") and "Out" in str(parameters[name])}
    context = {"context": Context()} if "context" in parameters else {}
    bound = functools.partial(main, **outputs, **context)
    bound.outputs = outputs
    return bound


def load(app, name):
    """The function ``main`` of a folder, imported under the name that the worker gives it."""
    declared = json.loads((app / name / "function.json").read_text(encoding="utf-8"))
    script = app / name / declared.get("scriptFile", "__init__.py")
    assert script.is_file(), f"{script} does not exist"
    namespace = sys.modules.get(NAMESPACE)
    if namespace is None:
        spec = importlib.machinery.ModuleSpec(NAMESPACE, None)
        spec.submodule_search_locations = []
        namespace = sys.modules[NAMESPACE] = importlib.util.module_from_spec(spec)
    namespace.__path__ = [str(app)]
    parts = [NAMESPACE, name, *([] if script.stem == "__init__" else [script.stem])]
    module = importlib.import_module(".".join(parts))
    return getattr(module, declared.get("entryPoint", "main"))


def call(main, request):
    """Call a function with what the worker would hand it; its outcome, ready for JSON."""
    import azure.functions as func
    from azure.functions.timer import TimerRequest

    if "past_due" in request:
        argument = TimerRequest(past_due=request["past_due"])
    elif "message" in request:
        argument = func.QueueMessage(id="a-message", body=request["message"].encode())
    else:
        body = request.get("body", "").encode()
        options = {"headers": request.get("headers"), "route_params": request.get("params", {})}
        argument = func.HttpRequest(request.get("method", "POST"), "/api", body=body, **options)
    bound = bind(main)
    try:
        result = bound(argument)
    except Exception as error:  # noqa: BLE001 - the outcome, whatever it is
        return {"raised": type(error).__name__, "message": str(error)}
    put = {name: out.get() for name, out in bound.outputs.items() if out.get() is not None}
    if isinstance(result, func.HttpResponse):
        return {"status": result.status_code, "body": json.loads(result.get_body()), **put}
    assert result is None, f"a timer returned {result!r}: the worker fails a function that does"
    return {"returned": None, **put}


def tell_at(name, pause):
    """Have the function of that name tell that it was reached, and with ``pause`` never return."""
    module, _, attribute = name.rpartition(".")
    function = getattr(importlib.import_module(module), attribute)

    def told(*args, **options):
        print(json.dumps({"reached": name}), flush=True)
        return threading.Event().wait() if pause else function(*args, **options)

    setattr(importlib.import_module(module), attribute, told)


def set_clock_back(days):
    """Have lakes that are opened from now on live some days ago."""
    lake = importlib.import_module("luxor_pipelines.lake.lake")
    clock = lake._system_clock
    lake._system_clock = lambda: clock() - timedelta(days=days)


def run(app):
    """Read calls from stdin, and print their outcomes."""
    # Where the app's root comes first, on some plans, and where it comes last, on others, must not matter.
    sys.path += [str(app), str(app / ".python_packages" / "lib" / "site-packages")]

    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    requests = json.load(sys.stdin)
    mains = [load(app, request["function"]) for request in requests]
    from luxor_pipelines import hosting

    hosting.prepare_worker()
    # Signals are handled in the main thread, functions run on others.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for main, request in zip(mains, requests, strict=True):
            if "days_ago" in request:
                set_clock_back(request["days_ago"])
            if "tell" in request:
                tell_at(request["tell"], pause=request.get("pause", False))
            outcome = pool.submit(call, main, request).result()
            print(json.dumps({"function": request["function"], **outcome}), flush=True)
    import luxor_pipelines

    print(json.dumps({"library": luxor_pipelines.__file__, "path": sys.path}), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
