"""What cases stand on: a workspace, a trained run, and models and tokenizers that are loaded once."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest.mock import patch

import yaml

from data_utils import features
from mt_dnn.cli.main import main
from mt_dnn.inference import trained
from tests.wild_input.kinds import DEFS, TASKS
from tests.workspace import make_workspace


def make_ground(folder: Path) -> Path:
    """Writes a workspace with a run that has made two updates, and a task file for each task. Returns the folder."""
    make_workspace(folder, train_rows=16, more=TASKS[3:])
    for task in TASKS:
        (folder / f"{task}.yml").write_text(yaml.safe_dump({task: DEFS[task]}))
    train = ["train", str(folder / "run.yml"), f"tasks=[{','.join(TASKS[:4])}]", "train.max_steps=2"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(train)
        except SystemExit as end:
            assert not end.code
    return folder


@contextlib.contextmanager
def loaded_once() -> Iterator[None]:
    """During the block, a tokenizer or a model that was loaded before is the same object. So cases take less time."""
    kept = {"load_tokenizer": cache(features.load_tokenizer), "load": cache(trained.load)}
    with patch.object(features, "load_tokenizer", kept["load_tokenizer"]), patch.object(trained, "load", kept["load"]):
        yield
