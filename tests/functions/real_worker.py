"""Runs functions of an unpacked app in Microsoft's own Python worker, by the protocol of the Functions host.

    python real_worker.py APP < calls.json

Up to Python 3.12 the worker is a process of its own that speaks gRPC (`azure_functions_worker`); from 3.13 on it is a
library, `azure_functions_runtime_v1`, which is called with the same messages. Either must be importable here. Each
call is ``{"function": …}`` with ``"past_due"`` for a timer, ``"message"`` for a queue, and ``"method"``, ``"body"``,
``"query"``, ``"headers"``, ``"params"`` for HTTP; each outcome is one line of JSON: what the host would get, and the
log lines of the invocation. A call with ``"signal"`` ends the worker by it, once the folder ``"reached"`` has a file.
"""

import asyncio
import importlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import uuid
from concurrent import futures
from pathlib import Path

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FIRST_LIBRARY = (3, 13)
WAIT_S = 120


def import_protos():
    """The package of the messages' classes that the worker has."""
    if sys.version_info >= FIRST_LIBRARY:
        from tests import protos  # the library's wheel brings them so
    else:
        from azure_functions_worker import protos
    return protos


class Messages:
    """Makes the host's messages, and reads the worker's."""

    def __init__(self, app):
        self.package, self.app = import_protos(), app
        self.protos = importlib.import_module(f"{self.package.__name__}.FunctionRpc_pb2")

    def init(self):
        return self.protos.WorkerInitRequest(
            host_version="4.1040.300.0", worker_directory=str(self.app), function_app_directory=str(self.app)
        )

    def load(self, name):
        declared = json.loads((self.app / name / "function.json").read_text(encoding="utf-8"))
        info, directions = self.protos.BindingInfo, {"in": 0, "out": 1}
        bindings = {
            binding["name"]: info(type=binding["type"], direction=directions[binding["direction"]])
            for binding in declared["bindings"]
        }
        metadata = self.protos.RpcFunctionMetadata(
            name=name,
            directory=str(self.app / name),
            script_file=str(self.app / name / declared["scriptFile"]),
            bindings=bindings,
        )
        return self.protos.FunctionLoadRequest(function_id=name, metadata=metadata)

    def invoke(self, call):
        declared = json.loads((self.app / call["function"] / "function.json").read_text(encoding="utf-8"))
        (trigger,) = [binding for binding in declared["bindings"] if binding["type"].endswith("Trigger")]
        metadata = {}
        if trigger["type"] == "timerTrigger":
            timer = {"IsPastDue": call["past_due"], "Schedule": {"AdjustForDST": True}, "ScheduleStatus": None}
            data = self.protos.TypedData(json=json.dumps(timer))
        elif trigger["type"] == "queueTrigger":
            data = self.protos.TypedData(string=call["message"])
            values = {"Id": "a-message", "DequeueCount": "1", "PopReceipt": "a-receipt"}
            metadata = {name: self.protos.TypedData(string=value) for name, value in values.items()}
        else:
            http = self.protos.RpcHttp(
                method=call.get("method", "POST"),
                url=f"https://app/api/{trigger['route']}",
                headers=call.get("headers", {}),
                params=call.get("params", {}),
                query=call.get("query", {}),
                body=self.protos.TypedData(bytes=call.get("body", "").encode()),
            )
            data = self.protos.TypedData(http=http)
        return self.protos.InvocationRequest(
            invocation_id=str(uuid.uuid4()),
            function_id=call["function"],
            input_data=[self.protos.ParameterBinding(name=trigger["name"], data=data)],
            trigger_metadata=metadata,
            trace_context=self.protos.RpcTraceContext(trace_parent=TRACEPARENT),
        )

    def outcome(self, response):
        """The outcome, ready for JSON."""
        if response.result.status != self.protos.StatusResult.Success:
            return {"raised": response.result.exception.message}
        put = {output.name: output.data.string for output in response.output_data}
        http = response.return_value.http
        if not http.status_code:
            return {"returned": None, **put}
        body = http.body.bytes or http.body.string
        return {"status": int(http.status_code), "headers": dict(http.headers), "body": json.loads(body), **put}


# --- the worker that is a process ---------------------------------------------------------------


class Host:
    """The host's end of the stream."""

    def __init__(self, messages):
        import grpc

        self.messages, self.logs = messages, {}
        self._to_worker, self._from_worker = queue.Queue(), queue.Queue()
        protos = messages.package

        class Servicer(protos.FunctionRpcServicer):
            def EventStream(servicer, incoming, context):
                threading.Thread(target=self._read, args=(incoming,), daemon=True).start()
                yield from iter(self._to_worker.get, None)

        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        protos.add_FunctionRpcServicer_to_server(Servicer(), self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.process = None

    def _read(self, incoming):
        try:
            for message in incoming:
                if message.WhichOneof("content") == "rpc_log":
                    log = message.rpc_log
                    self.logs.setdefault(log.invocation_id, []).append(log.message)
                else:
                    self._from_worker.put(message)
        except Exception as error:  # noqa: BLE001 - the stream ends when the worker does
            self._from_worker.put(error)

    def start(self):
        """Start the worker as its own starter does in Azure: the app's packages come before the worker's."""
        import azure_functions_worker

        packages = self.messages.app / ".python_packages" / "lib" / "site-packages"
        source = Path(azure_functions_worker.__file__).parents[1]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(packages), str(source)]),
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsScriptRoot": str(self.messages.app),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        options = {"--host": "127.0.0.1", "--port": self._port, "--workerId": "a-worker", "--requestId": "a-request"}
        arguments = [str(part) for option in options.items() for part in option]
        command = [sys.executable, "-m", "azure_functions_worker", *arguments, "--grpcMaxMessageLength", "100000000"]
        self.process = subprocess.Popen(
            command, cwd=self.messages.app, env=environment, stdout=sys.stderr, stderr=sys.stderr
        )
        self.expect("start_stream")

    def ask(self, content):
        """Send a request; return what it is answered."""
        self.send(content)
        return self.expect(next(iter(content)).replace("_request", "_response"))

    def send(self, content):
        self._to_worker.put(self.messages.protos.StreamingMessage(request_id="a-request", **content))

    def expect(self, kind):
        message = self._from_worker.get(timeout=WAIT_S)
        if isinstance(message, Exception):
            raise message
        assert message.WhichOneof("content") == kind, message
        return getattr(message, kind)

    def stop(self):
        self._to_worker.put(None)
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_S)
        self._server.stop(None)


def run_process(messages, calls, tell):
    """Run the calls in a worker process."""
    host = Host(messages)
    try:
        host.start()
        success = messages.protos.StatusResult.Success
        assert host.ask({"worker_init_request": messages.init()}).result.status == success
        for name in functions(messages.app):
            loaded = host.ask({"function_load_request": messages.load(name)})
            assert loaded.result.status == success, loaded.result.exception.message
        for call in calls:
            host.send({"invocation_request": messages.invoke(call)})
            if "signal" in call:
                while not any(Path(call["reached"]).glob("*.json")) and host.process.poll() is None:
                    threading.Event().wait(0.02)
                host.process.send_signal(call["signal"])
                tell({"function": call["function"], "ended": host.process.wait(WAIT_S)})
                return
            response = host.expect("invocation_response")
            log = host.logs.get(response.invocation_id)
            tell({"function": call["function"], **messages.outcome(response), "log": log})
    finally:
        host.stop()


# --- the worker that is a library ---------------------------------------------------------------


async def run_library(messages, calls, tell):
    """Run the calls by the library's own handlers, as the proxy in Azure does."""
    sys.path[:0] = [str(messages.app / ".python_packages" / "lib" / "site-packages")]
    sys.path.append(str(messages.app))
    import azure_functions_runtime_v1 as runtime

    logs = {}

    class Handler(logging.Handler):
        def emit(self, record):
            logs.setdefault(runtime.invocation_id_cv.get(), []).append(self.format(record))

    logging.getLogger().addHandler(Handler())
    logging.getLogger().setLevel(logging.INFO)

    class Request:
        def __init__(self, **content):
            self.name = next(iter(content))
            self.request = messages.protos.StreamingMessage(request_id="a-request", **content)
            self.properties = {"host": "127.0.0.1", "protos": messages.package}

    success = messages.protos.StatusResult.Success
    runtime.start_threadpool_executor()
    initial = await runtime.worker_init_request(Request(worker_init_request=messages.init()))
    assert initial.result.status == success
    for name in functions(messages.app):
        loaded = await runtime.function_load_request(Request(function_load_request=messages.load(name)))
        assert loaded.result.status == success, loaded.result.exception.message
    for call in calls:
        response = await runtime.invocation_request(Request(invocation_request=messages.invoke(call)))
        tell({"function": call["function"], **messages.outcome(response), "log": logs.get(response.invocation_id)})


# --- either -------------------------------------------------------------------------------------


def functions(app):
    """The names of the app's functions."""
    return sorted(path.parent.name for path in app.glob("*/function.json"))


def main():
    """Read calls from stdin, and print their outcomes."""
    messages, calls = Messages(Path(sys.argv[1]).resolve()), json.load(sys.stdin)

    def tell(outcome):
        print(json.dumps(outcome), flush=True)

    if sys.version_info >= FIRST_LIBRARY:
        asyncio.run(run_library(messages, calls, tell))
    else:
        run_process(messages, calls, tell)


if __name__ == "__main__":
    main()
