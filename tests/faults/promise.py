"""What must be true after a call has failed, and after the next start of the same command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.commands import is_temporary, results
from tests.faults.shim import DENIED, KILLED

LOSS = "loss: "  # a broken promise that begins like this costs the user results, files or the next start
INTERNAL = re.compile(r"[0-9a-f]{16}\.tmp|\.step-\d+\.tmp|<_io|Traceback|errno|Errno|os error")
MOST_CHARACTERS = 2000
IN_STEPS = re.compile(r"(^|/)(metrics\.jsonl|environment\.json|spent\.json|awaited\.json)$")  # these have several forms


def lines(printed: str) -> list[str]:
    """What was printed, without bars that were overwritten."""
    return [line for line in re.split(r"[\r\n]+", printed) if line.strip()]


def table(printed: str, beginnings: tuple[str, ...]) -> list[str]:
    return [line for line in lines(printed) if line.startswith(beginnings) and not line.startswith("mt-dnn: ")]


def broken_end(code: int, printed: str, call: str, kind: str, folder: Path, processes: int) -> Iterator[str]:
    """What is wrong with the end of a command in which a call has failed. A launcher ends with code 1 after a kill."""
    if "Traceback" in printed or "Exception ignored" in printed:
        yield "a traceback"
    if kind == KILLED:
        if code not in ((-9, -25) if processes == 1 else (1,)):
            yield f"{LOSS}goes on when it is killed"
        return
    if code == 0:
        return
    if code not in ((1, 2) if kind == DENIED or call == "flock" else (1,)):
        yield f"exit code {code}"
    # Of several processes the others say that one has died, and may do so last.
    message = ([line for line in lines(printed) if "another rank has died" not in line] or [""])[-1]
    if not message.startswith("mt-dnn: ") or len(message) > MOST_CHARACTERS:
        yield f"the last line is no message: {message[:200]}"
    elif str(folder) not in message:
        yield f"names no file: {message}"
    elif ";" not in message:
        yield f"says not what to do: {message}"
    if INTERNAL.search(message):
        yield f"names an internal: {message}"


def broken_files(
    found: Mapping[str, bytes], old: Mapping[str, bytes], complete: Mapping[str, Any], printed: str, kind: str
) -> Iterator[str]:
    """What is wrong with the files after a call has failed.

    Args:
        found: the files now.
        old: those of the user.
        complete: those of an undisturbed run, see ``results``.
    """
    for name, content in old.items():
        if found.get(name) != content:
            yield f"{LOSS}{name} of the user was changed or deleted"
    for name, content in found.items():
        if is_temporary(name):
            # A killed process cannot tidy up. What cannot be removed is said.
            if kind != KILLED and not any(f"/{part}" in printed for part in _names(name)):
                yield f"leaves {name}"
        elif name in complete and not IN_STEPS.search(name) and isinstance(complete[name], bytes):
            if content != complete[name] and not _is_earlier(name, content):
                yield f"{LOSS}{name} is not complete"
        elif name.endswith((".json", ".jsonl")) and name not in old and not _is_json(name, content):
            yield f"{LOSS}{name} is cut off"


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def broken_results(
    found: Mapping[str, bytes], expected: Mapping[str, Any], printed: Sequence[str], wanted: Sequence[str], said: str
) -> Iterator[str]:
    """How results and table differ from those of an undisturbed run.

    ``said``: what the command printed. Files that it names may be left over. Rows that it cannot keep may be missing.
    """
    now = results(dict(found))
    for name in differences(now, expected):
        left_over = name not in expected and any(f"/{part}" in said for part in _names(name))
        not_kept = name not in now and any(f"/{part}: cannot be written" in said for part in Path(name).parents)
        if not (left_over or not_kept):
            yield f"{LOSS}{name} differs from that of an undisturbed run"
    if list(printed) != list(wanted):
        yield f"{LOSS}the table differs from that of an undisturbed run"


def unflushed(calls: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The files that were renamed before all that was written to them was flushed, by the calls of a command."""
    written: dict[str, bool] = {}  # whether it is on disk
    for call, name in calls:
        if call in ("write", "native write", "truncate"):
            written[name] = False
        elif call == "fsync" and name in written:
            written[name] = True
        elif call == "rename":
            yield from (file for file, on_disk in written.items() if not on_disk and _same_folder(file, name))
            written = {file: on_disk for file, on_disk in written.items() if not _same_folder(file, name)}


def _same_folder(file: str, renamed: str) -> bool:
    """Whether a temporary file is that of a name, or in the temporary folder of a name."""
    target = Path(renamed)
    beside = target.parent / f".{target.name}."
    return file.startswith(str(beside)) or file == f"{target}.partial"


def _is_earlier(name: str, content: bytes) -> bool:
    """Whether a file may be what the command has written there before: a link to an earlier checkpoint."""
    return Path(name).name == "best" and content.startswith(b"checkpoints/step-")


def _is_json(name: str, content: bytes) -> bool:
    """Whether it is JSON. The last line of a log may be cut off."""
    try:
        _ = [json.loads(line) for line in content.split(b"\n")[:-1]] if name.endswith(".jsonl") else json.loads(content)
    except ValueError:
        return False
    return True


def _names(name: str) -> list[str]:
    """The file and the folders above it that are not shared with other files of a run."""
    above = [str(folder) for folder in Path(name).parents]
    return [name, *(folder for folder in above if Path(folder).name.startswith((".", "step-")) and folder != ".")]
