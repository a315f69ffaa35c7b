"""The health check of the image: asks a server for its health; every other command is healthy while it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.request import urlopen

PORT = "8000"  # of mt-dnn serve, unless --port says otherwise


def port(command: list[str]) -> str | None:
    """The port of a server's command line. None if the command serves nothing."""
    if "serve" not in command:
        return None
    named = [text.removeprefix("--port=") for text in command if text.startswith("--port=")]
    named += [command[number + 1] for number, text in enumerate(command[:-1]) if text == "--port"]
    return named[-1] if named else PORT


def main(command: list[str]) -> int:
    """Returns 0 if the container's command is healthy. A server that does not answer raises an error."""
    found = port(command)
    if found is not None:
        with urlopen(f"http://127.0.0.1:{found}/health", timeout=20) as answer:
            return int(answer.status != 200)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")))
