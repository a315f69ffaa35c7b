"""Passwords and tokens are hidden, and what only looks like one stays readable."""

from __future__ import annotations

import time

import pytest

from data_utils.errors import UserError, tell
from data_utils.secret_texts import without_secrets
from mt_dnn.distributed.ranks import say

TOKEN = "hf_aBcDeFgHiJkL"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://me:s3cret@host:5000/api", "http://me:***@host:5000/api"),
        ("postgresql+psycopg2://me:a@b:c@host/db", "postgresql+psycopg2://me:***@host/db"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("sqlite:///a.db?uri=true&password=s3cret&mode=rw", "sqlite:///a.db?uri=true&password=***&mode=rw"),
        ("override 'log.api_key=s3cret': unknown", "override 'log.api_key=***': unknown"),
        ("WANDB_API_KEY=s3cret HF_TOKEN=s3cret mt-dnn", "WANDB_API_KEY=*** HF_TOKEN=*** mt-dnn"),
        (f"403 for {TOKEN}.", "403 for ***."),
    ],
)
def test_secrets_are_hidden(text: str, hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    assert without_secrets(text) == hidden
    assert without_secrets(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/a@b",
        "ssh://git@host/repository.git",
        "encoder.pooling=first_token evaluation.batch_tokens=4096",
        "the token, the password and the secret: none",
        "a.tsv:2: label 'dev' is wrong",
        "packages/hf_aBcDeFgHiJkLm",
        "runs/a:b/c@d",
    ],
)
def test_other_texts_stay(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("SHORT_TOKEN", "dev")
    assert without_secrets(text) == text


@pytest.mark.parametrize("part", ["x", "x.", "a://", "a:", "token", "token=", "=@", "://a:"])
def test_a_long_text_takes_no_longer_for_each_character(part: str) -> None:
    begin = time.process_time()
    assert len(without_secrets(part * 100_000)) > 0
    assert time.process_time() - begin < 2


def test_no_message_shows_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret-s3cret")
    assert f"{UserError('a.yml: s3cret-s3cret is wrong')}" == "a.yml: *** is wrong"
    tell("http://me:s3cret-s3cret@host")
    say("log.trackers: failed (s3cret-s3cret)\nhttp://me:other@host")
    output, errors = capsys.readouterr()
    assert (output + errors).count("***") == 3 and "s3cret" not in output + errors and "other" not in output
