"""Messages are one line that a terminal can show, of at most 2,000 characters, whatever the user has written."""

from __future__ import annotations

import pytest

from data_utils.errors import LONGEST, SHOWN, UserError, did_you_mean, listed, printable, shortened, shown, unknown_key


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a.tsv:2: label 'ö 猫 …'", "a.tsv:2: label 'ö 猫 …'"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("\x9b2J\x7f\0", r"\x9b2J\x7f\x00"),
        ("\u202eabc\u2028\ufeff", r"\u202eabc\u2028\ufeff"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_what_a_terminal_does_not_show_is_written_as_an_escape(text: str, printed: str) -> None:
    assert printable(text) == printed == str(UserError(text))


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = f"a.tsv:2: label '{'x' * 300_000}' is wrong; write another"
    message = str(UserError(text))
    assert len(message) == LONGEST
    assert message.startswith("a.tsv:2: label 'xxx") and message.endswith("xxx' is wrong; write another")
    assert f" … ({len(text):,} characters) … " in message
    assert len(str(UserError("\x1b" * LONGEST))) == LONGEST
    assert str(UserError("x" * LONGEST)) == "x" * LONGEST


def test_values_and_lists_in_messages_are_short() -> None:
    assert shown("a\n") == r"'a\n'" and shown([1.5, None]) == "[1.5, None]"
    assert len(shown("x" * 9000)) == len(shortened("y" * 9000)) == SHOWN
    assert shown(16**5000) == "a value of type int that is too large to show"
    assert listed(["a", "b"]) == "a, b"
    names = [f"l{number}" for number in range(20_000)]
    assert listed(names).endswith(", l29, … (20,000 in all)") and listed(names).startswith("l0, l1, ")
    assert len(listed(["x" * 9000])) == SHOWN


def test_a_long_name_is_compared_and_shown_in_part() -> None:
    assert did_you_mean("x" * 100_000, ["dropout"]) == ""
    assert len(str(unknown_key("a.yml", "x" * 100_000, ["dropout"]))) < 2 * SHOWN
