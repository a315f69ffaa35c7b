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
        (f"/home/{TOKEN}/runs", "/home/***/runs"),
        ("wrong password: wonderland", "wrong password: ***"),
        ("/data/run/token=2/config.yml: no such file", "/data/run/token=***/config.yml: no such file"),
        ("/data/pad_token=[PAD]/rte_train.tsv:3: label", "/data/pad_token=***/rte_train.tsv:3: label"),
        ("http://host/path?token=a/b:c&x=1", "http://host/path?token=***&x=1"),
        ("AWS_SECRET_ACCESS_KEY=a/b+c: wrong", "AWS_SECRET_ACCESS_KEY=***: wrong"),
        ("token=\"a b\" password='a/b', x='y'", "token=\"***\" password='***', x='y'"),
        ("https://hf_abc@huggingface.co/x", "https://***@huggingface.co/x"),
        ("http://me:pa/ss@host", "http://me:***@host"),
        ("http://me:s3cret@host/a@b", "http://me:***@host/a@b"),
        ("mt-dnn --token s3cret --hub-api-key s3cret x", "mt-dnn --token *** --hub-api-key *** x"),
        ("{token: s3cret}", "{token: ***}"),
        ('{"a": 1, "hub.token": "s3cret", "b": 2}', '{"a": 1, "hub.token": "***", "b": 2}'),
    ],
)
def test_secrets_are_hidden(text: str, hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    monkeypatch.setenv("POSTGRES_PASSWORD", "wonderland")
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
        "http://localhost:5000?to=me@example.com",
        "http://localhost:5000/?to=me@example.com",
        "file://c:/runs/a@b",
        "/home/wonderland/runs: cannot be written",
        "override 'log.token=': must be 'a text'",
        "mt-dnn: No such option: --token",
        "run.yml: log.token: unknown key",
        "bench --batch-tokens 4096 --token --json",
    ],
)
def test_other_texts_stay(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("POSTGRES_PASSWORD", "wonderland")
    monkeypatch.setenv("SHORT_TOKEN", "dev")
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "part",
    [
        *("x", "x.", "a://", "a:", "token", "token=", "=@", "://a:", "http://a", "http://a:b/", "/", "/token", "--"),
        *("--token", "--token ", "{", "{token", "{token:", "{ ", ",", "token='", 'token="', "token=:", "-", "://a:b@"),
        *("?token=a&", "/a=", "token ", "://a:1", "/token=a", "{token: '", " --a"),
    ],
)
def test_a_long_text_takes_no_longer_for_each_character(part: str) -> None:
    begin = time.process_time()
    assert len(without_secrets(part * 40_000)) > 0
    assert time.process_time() - begin < 2


def test_no_message_shows_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret-s3cret")
    assert f"{UserError('a.yml: s3cret-s3cret is wrong')}" == "a.yml: *** is wrong"
    tell("http://me:s3cret-s3cret@host")
    say("log.trackers: failed (s3cret-s3cret)\nhttp://me:other@host")
    output, errors = capsys.readouterr()
    assert (output + errors).count("***") == 3 and "s3cret" not in output + errors and "other" not in output
