"""The HTTP interface of ``mt-dnn serve``: predictions of a trained model for rows that are sent as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from data_utils.errors import UserError
from data_utils.inputs import readings
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS
from mt_dnn.inference.batcher import Batcher, Draining, Full
from mt_dnn.inference.batcher import Request as Asked
from mt_dnn.inference.predict import WINDOW, predict_inputs
from mt_dnn.inference.requests import Limits, Refused, body_schema, body_type, read_body
from mt_dnn.inference.trained import TrainedModel

try:
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
except ImportError:
    raise UserError("serve: FastAPI or uvicorn is not installed; pip install 'mt-dnn[serve]'") from None

GRACE_S = 30  # at the end, so long the answers may take to reach their clients
REST = 2  # a body that is too large is read up to so many times the limit, so that its client reads the reason
PROBLEM = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
PREDICTION = {"type": "object", "required": ["uid", "prediction"], "properties": {"uid": {"type": "string"}}}
PREDICTIONS = {
    "type": "object",
    "required": ["predictions"],
    "properties": {"predictions": {"type": "array", "items": PREDICTION}},
}
TASKS = {"type": "array", "items": {"type": "object", "required": ["task", "path", "columns"]}}
HEALTH = {"type": "object", "required": ["status", "waiting_rows"]}
REASONS = {
    400: "The body is not JSON, its content type is not application/json, or it does not arrive.",
    413: "The body is larger than the server takes.",
    422: "The body is JSON, but not rows of the task.",
    429: "Too many rows wait. Try again after the seconds in Retry-After.",
    503: "The server is shutting down.",
}


def build_app(model: TrainedModel, limits: Limits, batcher: Batcher) -> FastAPI:
    """The application: POST /predict/{task} for each task of the model, GET /tasks and GET /health."""
    app = FastAPI(
        title="mt-dnn",
        description=f"Predictions of {model.run.name}",
        version="1",
        redoc_url=None,
        redirect_slashes=False,
    )

    async def tasks() -> Response:
        return _json(200, [_described(task) for task in model.tasks.values()])

    async def health() -> Response:
        if batcher.draining:
            raise Refused(503, REASONS[503])
        return _json(200, {"status": "ok", "waiting_rows": batcher.waiting_rows})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        headers = {429: {"Retry-After": "1"}, 503: {"Connection": "close"}}.get(error.status, {})
        return _json(error.status, {"error": error.reason}, headers)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = f"; tasks: {', '.join(model.tasks)}" if request.url.path.startswith("/predict/") else "; see /docs"
        return _json(error.status_code, {"error": f"{error.detail}{known}"}, error.headers or {})

    async def failed(request: Request, error: Exception) -> Response:
        return _json(500, {"error": f"{type(error).__name__}: {error}"})

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, failed)
    app.add_api_route("/tasks", tasks, responses=_responses(TASKS), summary="The tasks that can be asked")
    app.add_api_route("/health", health, responses=_responses(HEALTH, 503), summary="Whether requests are accepted")
    for task in model.tasks.values():
        body = body_type(task, limits)
        app.add_api_route(
            f"/predict/{task.name}",
            _predicting(task, body, limits, batcher),
            methods=["POST"],
            operation_id=f"predict_{task.name}",
            summary=f"Answers of {task.name} ({task.task_type})",
            responses=_responses(PREDICTIONS, *REASONS),
            openapi_extra={
                "requestBody": {"required": True, "content": {"application/json": {"schema": body_schema(body)}}}
            },
        )
    return app


def _predicting(task: TaskDef, body: Any, limits: Limits, batcher: Batcher) -> Callable[..., Awaitable[Response]]:
    """The function that answers requests of a task."""

    async def predict(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(400, "send the header Content-Type: application/json")
        wanted, rows = read_body(await _content(request, limits), body)
        try:
            found = await asyncio.wrap_future(batcher.submit(Asked(task.name, wanted, rows)))
        except Full:
            raise Refused(429, REASONS[429]) from None
        except Draining:
            raise Refused(503, REASONS[503]) from None
        except UserError as error:
            raise Refused(422, f"{error}") from None
        return _json(200, {"predictions": found})

    return predict


async def _content(request: Request, limits: Limits) -> bytes:
    """The body of a request.

    Raises:
        Refused: it is too large, or takes too long.
    """
    try:
        return await asyncio.wait_for(_all_of(request, limits.size), limits.body_s)
    except asyncio.TimeoutError:
        raise Refused(400, f"the body has not arrived within {limits.body_s:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "the body is not complete") from None


async def _all_of(request: Request, most: int) -> bytes:
    content, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= most:
            content += part
        elif size > REST * most:
            break
    if size > most:
        raise Refused(413, f"the body is larger than {most} bytes; send fewer rows at once")
    return bytes(content)


def _described(task: TaskDef) -> dict[str, Any]:
    columns = [task.columns.get(name, name) for name in DATA_FORMATS[task.data_format]]
    described = {"task": task.name, "path": f"/predict/{task.name}", "task_type": task.task_type}
    return {**described, "columns": columns, "labels": list(task.labels)}


def _responses(schema: Any, *codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers that the OpenAPI document declares: success with this schema, and these codes with a reason."""
    found = {200: ("As asked.", schema), **{code: (REASONS[code], PROBLEM) for code in codes}}
    return {
        code: {"description": text, "content": {"application/json": {"schema": answer}}}
        for code, (text, answer) in found.items()
    }


def _json(status: int, content: Any, headers: Any = None) -> Response:
    text = json.dumps(content, ensure_ascii=False)
    return Response(text.encode(), status, headers, media_type="application/json")


class Server(uvicorn.Server):
    """Ends at SIGTERM or SIGINT after it has answered what it had accepted. A second signal ends it at once.

    The code is then 128 + the number of the signal, as shells report it. The port stays open while a client still sends
    its request or reads its answer, so that others get an answer too, for ``timeout_graceful_shutdown`` at most.
    """

    def __init__(self, config: uvicorn.Config, batcher: Batcher, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.batcher, self.say_started = batcher, started
        self.last_moment: float | None = None  # when slow clients are given up; None: rows may still be computed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.say_started()

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.batcher.draining:
            os._exit(128 + sig)  # uvicorn would wait for open connections, and Python for what computes
        self.batcher.drain()

    async def on_tick(self, counter: int) -> bool:
        if self.batcher.draining and self.batcher.idle:
            now = time.monotonic()
            if self.last_moment is None:
                self.last_moment = now + (self.config.timeout_graceful_shutdown or 0)
            if not self.server_state.tasks or now >= self.last_moment:  # a task is a request that is not answered
                self.config.timeout_graceful_shutdown = max(1, round(self.last_moment - now))
                self.should_exit = True
        return await super().on_tick(counter)


def serve(model: TrainedModel, host: str, port: int, limits: Limits, say: Callable[[str], None]) -> None:
    """Serves a model until SIGTERM or SIGINT. ``say`` gets a line as soon as requests are accepted.

    Raises:
        UserError: the address cannot be used.
    """
    if not host:
        raise UserError("--host is empty; give an address, such as 127.0.0.1")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(
            f"--host {host} --port {port}: cannot be used ({reason}); choose another address or port"
        ) from None
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    batcher = Batcher(
        lambda task, wanted, rows: predict_inputs(model, readings(model.task(task))[-1], rows, wanted),
        queue_rows=limits.queue_rows,
        batch_rows=WINDOW,
    )
    config = uvicorn.Config(
        build_app(model, limits, batcher), log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S
    )
    with listening:
        Server(
            config, batcher, lambda: say(f"serving {', '.join(model.tasks)} at {address} (page: {address}/docs)")
        ).run([listening])
    batcher.close()
