"""mt-dnn serve over real sockets: its answers are those of predict, and hostile requests get a reason."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

import mt_dnn
from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS, TASK_TYPES
from mt_dnn.inference.batcher import Batcher
from mt_dnn.inference.predict import Wanted, has_probabilities, predict_file, predict_inputs
from mt_dnn.inference.requests import Limits, Refused, body_schema, body_type, read_body
from mt_dnn.inference.trained import TrainedModel
from tests.hostile import BODY, HEAD, JSON, LIMITS, PAIR, RAW, ROW, refused
from tests.workspace import MORE_TASKS, make_workspace, rows_of

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

import uvicorn

from mt_dnn.inference.service import Server, build_app, serve

TASKS = ["same", "negated", "overlap", "graded", "odd", "tagged", "marks", "guessed", "gap", "found"]
TIMEOUT = 30
PATIENT = replace(LIMITS, body_s=TIMEOUT)
START = f"POST {PAIR} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A short run of every task type."""
    folder = tmp_path_factory.mktemp("serve")
    make_workspace(folder, train_rows=16, more=[*MORE_TASKS])
    options = {"tasks": TASKS, "train.epochs": 1, "optimizer.lr": 5e-3, "data.max_length": 12, "data.stride": 3}
    mt_dnn.train(folder / "run.yml", {**options, "evaluation.predictions": False})
    return mt_dnn.load(folder / "run")


@dataclass
class Running:
    """A server in a thread. ``held``: while it is not set, the model waits."""

    port: int
    server: Server
    held: Event
    thread: Thread

    def ask(self, method: str, path: str, body: Any = None, headers: Any = JSON) -> tuple[int, Any, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            content = response.read()
            return response.status, json.loads(content) if content else content, response.headers
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Sends bytes as they are. Returns what comes back until the server closes the connection or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as stream:
            answer = b""
            try:
                stream.sendall(data)
                stream.shutdown(socket.SHUT_WR)
                while part := stream.recv(65536):
                    answer += part
            except TimeoutError:
                raise
            except OSError:  # the server has closed the connection
                pass
            return answer


def start(model: TrainedModel, limits: Limits = LIMITS) -> Running:
    held, started = Event(), Event()
    held.set()

    def predict(task: str, wanted: Wanted, rows: Any) -> Any:
        assert held.wait(TIMEOUT)
        return predict_inputs(model, model.task(task), rows, wanted)

    batcher = Batcher(predict, queue_rows=LIMITS.queue_rows, batch_rows=100)
    config = uvicorn.Config(build_app(model, limits, batcher), log_level="critical", timeout_graceful_shutdown=10)
    server = Server(config, batcher, started.set)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=server.run, args=([listening],))
    thread.start()
    assert started.wait(TIMEOUT)
    return Running(listening.getsockname()[1], server, held, thread)


def end(running: Running) -> None:
    running.held.set()
    running.server.batcher.drain()  # as a first signal does
    running.thread.join(TIMEOUT)
    assert not running.thread.is_alive()
    running.server.batcher.close()


@pytest.fixture(scope="module")
def running(model: TrainedModel) -> Iterator[Running]:
    running = start(model)
    yield running
    end(running)


def as_rows(task: str, columns: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    """Rows of a task in the form of JSON."""
    rows = []
    for number, row in enumerate(rows_of(task, count, 2)):
        texts = [text for text in row[2:] if text]
        named: dict[str, Any] = dict(zip([name for name in columns if "choice" not in name], texts, strict=False))
        if "choice1" in columns:
            named["choices"] = texts[len(named) :]
        if "words" in named:
            named["words"] = named["words"].split()
        rows.append({"uid": f"row-{number}", **named})
    return rows


def rounded(predictions: Any) -> Any:
    """Numbers to five digits: rows that share a batch with others differ in the last."""
    return json.loads(json.dumps(predictions), parse_float=lambda text: round(float(text), 5) + 0.0)


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_those_of_predict(running: Running, model: TrainedModel, task: str, tmp_path: Path) -> None:
    definition = model.task(task)
    rows = as_rows(task, DATA_FORMATS[definition.data_format], 12)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = Wanted(probabilities=has_probabilities(definition), logits=True)
    body: dict[str, Any] = {"rows": rows, "logits": True}
    if wanted.probabilities:
        body["probabilities"] = True
    status, found, _ = running.ask("POST", f"/predict/{task}", body)
    assert status == 200, found
    assert rounded(found["predictions"]) == rounded(list(predict_file(model, task, str(file), wanted)))


def test_an_empty_text_gets_no_prediction_and_a_row_without_uid_its_number(running: Running) -> None:
    rows = [{"premise": " ", "hypothesis": "b"}, {"premise": "a", "hypothesis": "b"}]
    status, found, _ = running.ask("POST", "/predict/same", {"rows": rows})
    empty, full = found["predictions"]
    assert status == 200 and full["uid"] == "2" and full["prediction"] is not None
    assert empty == {"uid": "1", "prediction": None, "reason": "row 1: premise is empty"}


def test_tasks_health_and_the_document(running: Running, model: TrainedModel) -> None:
    status, tasks, _ = running.ask("GET", "/tasks")
    assert status == 200 and [task["task"] for task in tasks] == list(model.tasks)
    assert running.ask("GET", "/health")[:2] == (200, {"status": "ok", "waiting_rows": 0})
    paths = running.ask("GET", "/openapi.json")[1]["paths"]
    assert set(paths) == {"/tasks", "/health", *(f"/predict/{name}" for name in model.tasks)}
    for name in model.tasks:
        declared = paths[f"/predict/{name}"]["post"]
        assert set(declared["responses"]) == {"200", "400", "413", "422", "429", "503"}
        row = declared["requestBody"]["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
        assert row["additionalProperties"] is False and "$ref" not in json.dumps(declared)


def test_hostile_requests_get_a_reason_and_stop_nothing(running: Running) -> None:
    cases = list(refused())
    assert len(cases) + len(RAW) >= 200
    wrong = []
    for method, path, headers, body, code in cases:
        status, found, _ = running.ask(method, path, body, headers)
        if status != code or not found["error"]:
            wrong.append((method, path, headers, body and body[:200], status, found))
    assert not wrong
    answers = [running.raw(data) for data in RAW]
    assert all(answer == b"" or answer.startswith(b"HTTP/1.1 4") for answer in answers), answers
    assert sum(bool(answer.partition(b"\r\n\r\n")[2]) for answer in answers) >= len(RAW) - 8
    status, found, _ = running.ask("POST", "/predict/same", BODY)
    assert status == 200 and found["predictions"][0]["uid"] == "1"
    assert running.ask("GET", "/health")[:2] == (200, {"status": "ok", "waiting_rows": 0})


def test_the_words_of_a_row_have_the_characters_of_a_text_together(running: Running) -> None:
    """Words count with the spaces between them, as in a text."""
    longest = ["xx", *["x"] * (LIMITS.characters // 2 - 1)]
    assert len(" ".join(longest)) == LIMITS.characters
    assert running.ask("POST", "/predict/tagged", {"rows": [{"words": longest}]})[0] == 200
    status, found, _ = running.ask("POST", "/predict/tagged", {"rows": [{"words": ["a"]}, {"words": ["xx", *longest]}]})
    assert status == 422
    assert found["error"] == "row 2: words: the words have 503 characters with the spaces between them, at most 500"


@pytest.mark.parametrize(
    ("task", "body", "location"),
    [
        ("same", {"rows": [ROW, {"premise": "a"}]}, "row 2: hypothesis: Field required"),
        ("same", {"rows": [ROW, ROW, 1]}, "row 3: Input should be "),
        ("same", {"rows": 1}, "rows: Input should be "),
        ("same", {"rows": [ROW], "logits": 1}, "logits: Input should be "),
        ("same", [], "Input should be "),
        ("tagged", {"rows": [{"words": ["a"]}, {"words": ["a", "b c"]}]}, "row 2: words 2: "),
        ("odd", {"rows": [{"premise": "a", "choices": ["b", "c", ""]}]}, "row 1: choices 3: "),
        ("odd", {"rows": [{"premise": "a", "choices": ["b"]}]}, "row 1: choices: "),
    ],
)
def test_rows_words_and_choices_of_messages_count_from_1(running: Running, task: str, body: Any, location: str) -> None:
    status, found, _ = running.ask("POST", f"/predict/{task}", body)
    assert status == 422 and found["error"].startswith(location), found


def test_columns_have_the_names_of_the_task_file_or_ours() -> None:
    task = TaskDef(
        name="odd",
        task_type="multiple_choice",
        data_format="choices",
        columns={"premise": "Text A", "choices": "Options", "uid": "Key"},
        **TASK_TYPES["multiple_choice"].defaults,
    )
    body = body_type(task, LIMITS)
    for row in (
        {"Text A": "a", "Options": ["b", "c"], "Key": "7"},
        {"premise": "a", "choices": ["b", "c"], "uid": "7"},
        {"Text A": "a", "choices": ["b", "c"], "uid": "7"},
    ):
        (found,) = read_body(json.dumps({"rows": [row]}).encode(), body)[1]
        assert found.values == {"premise": "a", "choices": ["b", "c"], "uid": "7"}
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"Options": ["b", "c"]}, "row 1: Text A: Field required"),
        ({"Text A": "a", "premise": "a", "Options": ["b", "c"]}, "row 1: premise: Extra inputs are not permitted"),
    )
    for row, problem in wrong:
        with pytest.raises(Refused, match=problem):
            read_body(json.dumps({"rows": [row]}).encode(), body)
    assert list(body_schema(body)["properties"]["rows"]["items"]["properties"]) == ["Text A", "Options", "Key"]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"rows": [ROW], "logits": true, "logits": false}', "logits"),
        ('{"rows": [{"premise": "a", "premise": "b", "hypothesis": "c"}]}', "premise"),
        ('{"rows": [1], "rows": [ROW]}', "rows"),
    ],
)
def test_a_key_that_occurs_twice_is_refused(running: Running, body: str, key: str) -> None:
    content = body.replace("ROW", json.dumps(ROW)).encode()
    status, found, _ = running.ask("POST", "/predict/same", content, JSON)
    assert (status, found) == (422, {"error": f"'{key}' occurs twice; keep one"})


def test_a_body_that_does_not_arrive_is_not_waited_for(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=TIMEOUT) as stream:
        stream.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert stream.recv(65536).startswith(b"HTTP/1.1 400 ")


def in_thread(running: Running, found: list[Any], rows: int) -> Thread:
    thread = Thread(target=lambda: found.append(running.ask("POST", "/predict/same", {"rows": [ROW] * rows})))
    thread.start()
    return thread


def until(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_queue_says_when_to_come_back(running: Running) -> None:
    running.held.clear()
    found: list[Any] = []
    threads = [in_thread(running, found, 1)]
    until(lambda: running.server.batcher._computing)
    threads += [in_thread(running, found, 30)]
    until(lambda: running.server.batcher.waiting_rows == 30)
    status, refused, headers = running.ask("POST", "/predict/same", {"rows": [ROW] * 11})
    assert status == 429 and refused["error"] and headers["Retry-After"] == "1"
    running.held.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted((status, len(answer["predictions"])) for status, answer, _ in found) == [(200, 1), (200, 30)]


def test_the_end_waits_for_what_was_accepted_and_refuses_what_comes_later(model: TrainedModel) -> None:
    running = start(model)
    running.held.clear()
    found: list[Any] = []
    threads = [in_thread(running, found, 1)]
    until(lambda: running.server.batcher._computing)
    threads += [in_thread(running, found, rows) for rows in (2, 3)]
    until(lambda: running.server.batcher.waiting_rows == 5)
    running.server.handle_exit(signal.SIGTERM, None)
    status, refused, headers = running.ask("POST", "/predict/same", {"rows": [ROW]})
    assert status == 503 and "shutting down" in refused["error"] and headers["Connection"] == "close"
    assert running.ask("GET", "/health")[0] == 503
    end(running)
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted((status, len(answer["predictions"])) for status, answer, _ in found) == [(200, 1), (200, 2), (200, 3)]


def slow_clients(running: Running, count: int) -> list[socket.socket]:
    """Connections of clients that have sent the head of a request, and half of its body."""
    streams = [socket.create_connection(("127.0.0.1", running.port), timeout=TIMEOUT) for _ in range(count)]
    for stream in streams:
        stream.sendall(START.encode() + BODY[:1])
    until(lambda: len(running.server.server_state.tasks) == count)
    return streams


def test_the_end_answers_new_connections_while_slow_clients_send(model: TrainedModel) -> None:
    running = start(model, PATIENT)
    streams = slow_clients(running, 200)
    running.server.handle_exit(signal.SIGTERM, None)
    for path in ("/health", "/predict/same") * 5:
        status, refused, headers = running.ask("POST" if "same" in path else "GET", path, {"rows": [ROW]})
        assert status == 503 and "shutting down" in refused["error"] and headers["Connection"] == "close"
        time.sleep(0.1)  # until the server looks again whether it may end
    for stream in streams:
        stream.sendall(BODY[1:])
        assert stream.recv(65536).startswith(b"HTTP/1.1 503 ")
        stream.close()
    running.thread.join(TIMEOUT)
    with pytest.raises(ConnectionError):
        running.ask("GET", "/health")
    end(running)


def test_the_end_does_not_wait_for_slow_clients_for_ever(model: TrainedModel) -> None:
    running = start(model, PATIENT)
    running.server.config.timeout_graceful_shutdown = 1
    begun, streams = time.monotonic(), slow_clients(running, 3)
    running.server.handle_exit(signal.SIGTERM, None)
    running.thread.join(TIMEOUT)
    assert not running.thread.is_alive() and 1 < time.monotonic() - begun < 8
    for stream in streams:
        stream.close()
    end(running)


def test_an_empty_host_does_not_mean_every_address() -> None:
    with pytest.raises(UserError, match="--host is empty"):
        serve(None, "", 0, None, print)  # type: ignore[arg-type]
