"""The command mt-dnn serve: a signal in the middle of work loses no accepted request, a second one ends it at once."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import mt_dnn
from tests import forks

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

REQUESTS, ROWS, TIMEOUT = 30, 100, 120


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def start(workspace: Path, *options: str) -> tuple[Any, int]:
    """Trains a run of one update and serves it. Returns the process, and the port at which it accepts requests."""
    mt_dnn.train(workspace / "run.yml", {"tasks": ["same"], "train.max_steps": 1, "evaluation.predictions": False})
    port = free_port()
    process = forks.start("serve", str(workspace / "run"), "--port", str(port), *options)
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            assert ask(port, "GET", "/health")[0] == 200
            return process, port
        except ConnectionError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)


def test_a_second_signal_ends_it_at_once(workspace: Path) -> None:
    process, port = start(workspace)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as stream:
        stream.sendall(b"POST /predict/same HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
        stream.sendall(b"Content-Length: 100\r\n\r\n{")  # the rest is waited for
        assert ask(port, "GET", "/health")[0] == 200  # by now the server has these bytes
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + TIMEOUT
        while ask(port, "GET", "/health")[0] != 503:  # it has heard the signal, and waits only for the open request
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM


def test_sigterm_answers_what_was_accepted_and_exits_with_0(workspace: Path) -> None:
    process, port = start(workspace, "--queue", "100000", "--batch-size", "1")  # one row at a time takes long
    deadline = time.monotonic() + TIMEOUT
    answers: list[tuple[int, Any]] = []
    rows = [{"premise": "the cat sleeps", "hypothesis": f"the dog {n}"} for n in range(ROWS)]
    threads = [
        threading.Thread(target=lambda: answers.append(ask(port, "POST", "/predict/same", {"rows": rows})))
        for _ in range(REQUESTS)
    ]
    for thread in threads:
        thread.start()
    while (waiting := ask(port, "GET", "/health")[1]["waiting_rows"]) < ROWS * (REQUESTS - 21):
        assert time.monotonic() < deadline, waiting
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(TIMEOUT)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert f"serving same, same_hard at http://127.0.0.1:{port}" in errors
    answered = [len(found["predictions"]) for status, found in answers if status == 200]
    assert answered and set(answered) == {ROWS}
    assert len(answers) == REQUESTS and {status for status, _ in answers} <= {200, 503}
    assert len(answered) * ROWS >= waiting
