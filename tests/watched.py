"""Runs commands in a process that refuses and notes each call to the network. For this process the hub is online."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mt_dnn
from mt_dnn.cli.main import main

SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
ASKING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
CALLED = 3  # the exit code of a process that has called the network
HERE = ("127.0.0.1", "::1")  # processes of one machine talk with each other


def run_watched(arguments: Sequence[str]) -> None:
    """Runs commands one after another. Ends at the first that fails, with its exit code, or with ``CALLED``.

    Args:
        arguments: a file of JSON with a list of commands, and a file. This gets a line of JSON for each call to the
            network: the command, the call and the address. A process that is started gets a line too. The command
            "load" is ``mt_dnn.load``.
    """
    commands, notes = Path(arguments[0]), Path(arguments[1])
    begun: list[str] = []

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            _note(notes, " ".join(begun[:2]), event, str(given[0]))
        elif event in ASKING or (event in SENDING and _is_elsewhere(given[1])):
            address = given[0] if event in ASKING else given[1]
            _note(notes, " ".join(begun[:2]), event, str(address))
            raise SystemExit(CALLED)  # libraries catch other errors, and try again after seconds

    sys.addaudithook(watch)
    for module in [*sys.modules.values()]:
        if vars(module).get("HF_HUB_OFFLINE") is True:
            vars(module)["HF_HUB_OFFLINE"] = False
    for command in json.loads(commands.read_text(encoding="utf-8")):
        begun[:] = command
        try:
            _load(*command[1:]) if command[0] == "load" else main(command)
        except SystemExit as end:
            if end.code:
                raise


def _load(run: str, task: str, *texts: str) -> None:
    mt_dnn.load(run).predict(task, [texts])


def _is_elsewhere(address: object) -> bool:
    """Whether a socket of the internet leads to another machine. Sockets of Unix have a path."""
    return isinstance(address, tuple) and address[0] not in HERE


def _note(file: Path, *values: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(values) + "\n")
