"""Numbers and paths of settings: those that no counter, file system or optimizer takes are refused with their key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from data_utils.errors import UserError
from mt_dnn.runs.config_file import load_config
from mt_dnn.section import LARGEST, PositiveInt, Section, Seed, UsablePath


class Settings(Section):
    count: PositiveInt = 1
    seed: Seed = 1
    rate: float = 1.0
    path: UsablePath = Path("a")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("count", value) for value in (0, LARGEST + 1, 10**30, 10**5000, float("inf"))),
        *(("seed", value) for value in (-1, 2**63, 10**20)),
        *(("rate", value) for value in (float("inf"), float("nan"), "nan", 1e39, -1e31)),
        *(("path", value) for value in ("a" * 256, "ä" * 128, "a/" * 2001, "a\0b", "\ud800")),
    ],
    ids=lambda value: ascii(value)[:20] if isinstance(value, str) else f"{type(value).__name__}",
)
def test_what_nothing_can_use_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as found:
        Settings.model_validate({key: value})
    assert [problem["loc"] for problem in found.value.errors()] == [(key,)]


def test_what_can_be_used_stays() -> None:
    given = {"count": LARGEST, "seed": 2**63 - 1, "rate": 1e30, "path": Path("ä" * 127, "a" * 255)}
    assert Settings.model_validate(given).model_dump() == given


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.betas=[1.5,2]", "optimizer.betas.0: Input should be less than 1 (got 1.5)"),
        ("optimizer.betas=[0.9,-1]", "optimizer.betas.1: Input should be greater than or equal to 0 (got -1)"),
        ("optimizer.eps=-1", "optimizer.eps: Input should be greater than or equal to 0 (got -1)"),
        ("optimizer.lr=.inf", "optimizer.lr: Input should be a finite number (got inf)"),
        ("seed=1" + "0" * 20, "seed: Input should be less than 9223372036854775808"),
        ("seed=" + "9" * 5000, "a number of 5,000 digits"),
        ("data.max_rows=1" + "0" * 30, "data.max_rows: Input should be less than or equal to 1000000000"),
        ("sampling.temperature=1e-300", "sampling.temperature: "),
        ("tasks={a,b}", "tasks: Input should be a list"),
        ("tasks=" + "[" * 3000 + "]" * 3000, "is nested too deeply"),
        ("a" + ".a" * 3000 + "=1", "no key of a run file"),
        ("x" * 100_000 + "=1", "unknown key 'xxx"),
        ("output=" + "a" * 300, "output: is too long: a name has at most 255 bytes"),
        ('output="a\\0b"', "holds a character that is no text"),
        ("name=\udc80", "unacceptable character #xdc80"),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_an_override_that_nothing_can_use_is_one_short_line(workspace: Path, override: str, said: str) -> None:
    with pytest.raises(UserError) as found:
        load_config(workspace / "run.yml", [override])
    assert said in str(found.value) and len(str(found.value)) < 700
