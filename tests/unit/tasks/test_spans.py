"""The threshold of no answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mt_dnn.runs.evaluate import Decoder, dev_scores
from mt_dnn.runs.outputs import Passes, row_outputs
from mt_dnn.tasks.spans import SpanHead, Spans
from tests.parts import parts
from tests.workspace import make_workspace


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scores_of_a_new_threshold_are_those_of_the_saved_model(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workspace(tmp_path, more=["found"])
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(tasks.read_text().replace("task_type: span", "task_type: span\n  no_answer: true"))
    run = parts(tmp_path, "tasks=[found]")
    passes = Passes(max_tokens=500, precision=precision, device=torch.device("cpu"))
    split, task, head = run.train_splits["found"], run.tasks.trained["found"], run.model.heads["found"]
    assert isinstance(head, SpanHead) and task.no_answer
    head.threshold.fill_(0.7)

    def outputs() -> torch.Tensor:
        return torch.cat([torch.tensor(output).flatten() for output in row_outputs(*arguments)])

    arguments = run.model, "found", split, Spans().condensed, passes
    decoded = Spans()(task, task, split, row_outputs(*arguments))
    monkeypatch.setattr(Spans, "threshold", lambda *args: 0.0123)
    answers = Spans().tune(head, task, split, decoded)
    assert head.threshold.item() == pytest.approx(0.7123)
    expected = torch.cat([torch.tensor(output).flatten() for output in answers.outputs])
    torch.testing.assert_close(outputs(), expected, atol=1e-6, rtol=0)


def test_logits_are_kept_only_where_a_threshold_is_tuned(tmp_path: Path) -> None:
    make_workspace(tmp_path, more=["found"])
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(tasks.read_text().replace("task_type: span", "task_type: span\n  no_answer: true"))
    run = parts(tmp_path, "tasks=[found]")
    passes = Passes(max_tokens=500, precision="fp32", device=torch.device("cpu"))
    split = run.train_splits["found"]
    decoder = Decoder(run.model, run.tasks.trained, passes)
    dev, test = (next(decoder({("found", name): split}))[2] for name in ("dev", "test"))
    assert len(dev.outputs) == len(split) and not test.outputs
    assert dev_scores(decoder, {("found", "dev"): split})["found"]["dev"]
