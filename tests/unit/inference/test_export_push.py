"""mt-dnn export --push, against a server that plays the hub."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from data_utils.errors import NotSaved, UserError
from mt_dnn.cli.main import main
from mt_dnn.inference.export.push import push_folder, token_of
from tests.exporting import run_of

TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    """Keeps the requests and the files of the last commit. ``refuses``: what it answers to a commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.requests: list[tuple[str, str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.refuses: int | None = None


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        self.server.requests.append((path, self.headers.get("Authorization", ""), body))
        address = f"http://127.0.0.1:{self.server.server_port}/someone/model"
        if path == "/api/repos/create":
            self._answer(200, {"url": address, "name": "someone/model", "id": "1"})
        elif path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            self._answer(200, {"files": modes})
        elif path.endswith("/commit/main") and self.server.refuses is None:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer(200, {"commitUrl": f"{address}/commit/{'0' * 40}", "commitOid": "0" * 40})
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        else:
            self._answer(self.server.refuses or 404, {"error": "no"})

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Authorization", ""), b""))
        self._answer(200, {"id": "someone/model", "sha": "0" * 40, "siblings": [], "private": True})

    def _answer(self, code: int, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "1_Pooling").mkdir()
    for name in ("README.md", "config.json", "model.safetensors", "1_Pooling/config.json"):
        (tmp_path / name).write_text("{}" if name.endswith("json") else f"of {name}")
    return tmp_path


def test_all_files_are_uploaded_with_the_token(hub: Hub, folder: Path) -> None:
    address = push_folder(folder, "someone/model", TOKEN)
    assert address.endswith("/someone/model/commit/" + "0" * 40)
    on_disk = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert hub.files == on_disk and len(on_disk) == 4
    path, authorization, body = hub.requests[0]
    created = json.loads(body)
    assert path == "/api/repos/create" and created.get("visibility", created.get("private")) in ("private", True)
    commits = [(path, sent) for path, sent, _ in hub.requests if "/commit/" in path]
    assert authorization == f"Bearer {TOKEN}" and commits == [("/api/models/someone/model/commit/main", authorization)]


def test_a_name_without_an_owner_is_a_repository_of_the_owner_of_the_token(hub: Hub, folder: Path) -> None:
    push_folder(folder, "model", TOKEN)
    assert [path for path, *_ in hub.requests if "/commit/" in path] == ["/api/models/someone/model/commit/main"]


def test_a_hub_that_cannot_be_reached_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nothing listens there
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(
            NotSaved, match=r"someone/model: not pushed \(.*refused.*\); .*later with: hf upload"
        ) as error:
            push_folder(folder, "someone/model", TOKEN)
    assert "\n" not in str(error.value)


def test_a_hub_that_refuses_is_said_and_the_folder_stays(hub: Hub, folder: Path) -> None:
    hub.refuses = 403
    with pytest.raises(NotSaved, match=r"someone/model: not pushed .*is complete, so push it later") as error:
        push_folder(folder, "someone/model", TOKEN)
    assert str(error.value).endswith(f"later with: hf upload someone/model {folder} . --private")
    assert TOKEN not in str(error.value) and "\n" not in str(error.value) and (folder / "README.md").exists()


def test_a_wrong_name_is_refused(hub: Hub, folder: Path) -> None:
    with pytest.raises(UserError, match="write it as name/repository"):
        push_folder(folder, "some one/model/x", TOKEN)
    assert hub.requests == []


def test_the_token_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_on_disk")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UserError, match="--push: HF_TOKEN is not set"):
        token_of()
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    assert token_of() == TOKEN


def test_without_a_token_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(tmp_path), "--output", str(tmp_path / "out"), "--push", "someone/model"])
    assert exit_.value.code == 2 and list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err.startswith("mt-dnn: --push: HF_TOKEN is not set")


def test_the_command_pushes_what_it_wrote(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path, "bert", "tasks=[same]", more=())
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(run), "--output", str(tmp_path / "out"), "--push", "someone/model"])
    assert exit_.value.code == 0 and set(hub.files) == {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.safetensors" in hub.files and "mt-dnn: pushed to http://" in capfd.readouterr().out
