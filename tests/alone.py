"""A plugin for pytest: each test runs in a process that has run no other test.

    python -m pytest -p tests.alone tests/unit

A test that needs what another one has left behind fails then. Of the parametrized cases of a function only the first
one runs. Shared fixtures are made anew for every test, so this takes long.
"""

from __future__ import annotations

import gc
import json
import os
import traceback
from typing import Any

import pytest
from _pytest.runner import runtestprotocol


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the first case of each function."""
    first: dict[str, pytest.Item] = {}
    for item in items:
        first.setdefault(item.nodeid.partition("[")[0], item)
    items[:] = first.values()


def pytest_collection_finish() -> None:
    """A child copies a page of memory only if it changes it, and collecting garbage changes all."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool:
    """Runs a test in a child process, and reports here what the child says of it."""
    hook, place, config = item.ihook, {"nodeid": item.nodeid, "location": item.location}, item.config
    hook.pytest_runtest_logstart(**place)
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        said = [hook.pytest_report_to_serializable(config=config, report=report) for report in _reports(item)]
        with os.fdopen(sender, "w", encoding="utf-8") as pipe:
            json.dump(said, pipe)
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    read = (hook.pytest_report_from_serializable(config=config, data=data) for data in json.loads(text or "[]"))
    for report in list(read) or [_failed(item, "the process has died")]:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(**place)
    return True


def _reports(item: pytest.Item) -> list[Any]:
    try:
        return runtestprotocol(item, log=False, nextitem=None)
    except BaseException:
        return [_failed(item, traceback.format_exc())]


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
