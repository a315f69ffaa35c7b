"""SIGTERM and SIGHUP end a command as an exit does, so that it tidies up."""

from __future__ import annotations

import os
import signal

import pytest

from mt_dnn.distributed.signals import exit_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_exits_and_a_second_one_does_not_cut_the_tidying(number: int, received: list[int]) -> None:
    tidied = False
    with pytest.raises(SystemExit) as exit_, exit_on_signals():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            tidied = True
    assert exit_.value.code == 128 + number and tidied and not received
    os.kill(os.getpid(), number)
    assert received == [number], "the handler from before is back"


def test_a_signal_that_is_ignored_stays_ignored(received: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with exit_on_signals():
        os.kill(os.getpid(), signal.SIGHUP)
    assert not received and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
