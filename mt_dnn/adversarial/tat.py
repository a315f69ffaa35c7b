"""tat: targeted adversarial training.

TAT is VAT (vat.py) with another objective. In VAT, δ goes away from the clean output, in any direction. In TAT, δ goes
towards a wrong answer that the model tends to give. This file draws the wrong answers; tally.py counts the errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.tally import Choices, Tally, read_counts
from mt_dnn.adversarial.vat import Objective, Virtual, VirtualOptions
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch
from mt_dnn.tasks.losses import MISSING

# The answers whose errors can be counted. The position of a choice or of a token in its text means something else in
# each row, the tokens of a vocabulary are too many, and of a yes or no there is only one wrong answer.
TALLIED = ("class", "word_classes", "number")


class TATOptions(VirtualOptions):
    """Settings of tat."""

    mode: Literal["tat"] = "tat"
    tally: Literal["hard", "soft", "fixed"] = Field(
        "hard", description="errors are counted as predictions or as probabilities; fixed: never counted"
    )
    oracle: Path | None = Field(None, description="JSON file of counts to start from; default: uniform")
    reuse_clean_pass: bool = Field(
        False, description="take the first gradient at δ = 0 from the clean pass, one forward pass less"
    )


class TAT(Virtual[TATOptions]):
    """δ descends l(f(x + δ), y_t), where y_t is a wrong target (Pereira et al. 2021, box 1).

    y_t is drawn from C \\ {y} with the probabilities e(y, ·): how often the model took each wrong class for y in the
    last epoch. Task types without a tally draw every wrong answer with the same probability.
    """

    options_type = TATOptions

    def __init__(self, options: TATOptions, task: TaskDef) -> None:
        super().__init__(options, task)
        self.tally = _build_tally(options, task)
        self.reuses_clean_pass = options.reuse_clean_pass

    def objective(self, network: View, clean: Tensor) -> Objective:
        """−l(f(x + δ), y_t) of each example, with a target y_t drawn for each decision.

        Also counts the predictions of the clean pass, for the probabilities of the next epoch.
        """
        if self.options.tally != "fixed" and network.batch.counted:
            self.tally.count(network.labels, clean, soft=self.options.tally == "soft")
        chances, inside = network.draws.chances(), network.draws.chances()
        targets = self.tally.sample(network.labels, chances, inside, _allowed(clean, network.batch))
        return lambda logits: -network.loss(logits, targets, reduction="none")

    def end_epoch(self) -> None:
        self.tally.end_epoch()

    def collect(self) -> None:
        self.tally.collect()

    def state_dict(self) -> dict[str, Any]:
        return self.tally.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tally.load_state_dict(state)

    def record(self) -> dict[str, Any] | None:
        return self.tally.record()


def _build_tally(options: TATOptions, task: TaskDef) -> Tally | Choices:
    """Where the wrong targets of a task come from.

    Raises:
        UserError: the option ``oracle`` does not fit the task, or a regression task has no value range.
    """
    if task.type.answer in TALLIED:
        return Tally(task, None if options.oracle is None else read_counts(options.oracle, task))
    if options.oracle is not None:
        kind = task.task_type.replace("_", "-")
        raise UserError(f"adversary: tat: {task.name}: oracle: {kind} tasks have no tally; leave it out")
    return Choices()


def _allowed(logits: Tensor, batch: Batch) -> Tensor:
    """The logits (N, C), with MISSING where the answer of a span task would start or end outside of the context."""
    if batch.answerable is None:
        return logits
    return logits.masked_fill(~batch.pad(batch.answerable).repeat_interleave(2, 0), MISSING)
