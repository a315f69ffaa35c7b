"""tat: targeted adversarial training.

TAT is VAT (vat.py) with another objective. In VAT, δ moves the output away from the clean output, in any direction. In
TAT, δ moves it towards a wrong answer that the model often gives. tally.py counts how often the model gives each wrong
answer; this file draws wrong answers from these counts.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.tally import Choices, Tally, read_counts
from mt_dnn.adversarial.vat import Objective, Virtual, VirtualOptions
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch
from mt_dnn.section import UsablePath
from mt_dnn.tasks.losses import MISSING

# Answers that have a tally: the same few answers exist in every row. The other answers have none:
# - choices and spans: choice 2 or token 5 means something else in each row;
# - tokens: a vocabulary has too many;
# - class sets: each class is a yes or no, so there is only one wrong answer.
TALLIED = ("class", "word_classes", "number")


class TATOptions(VirtualOptions):
    """Settings of tat."""

    mode: Literal["tat"] = "tat"
    tally: Literal["hard", "soft", "fixed"] = Field(
        "hard", description="hard: counts predictions; soft: adds up probabilities; fixed: keeps the counts of oracle"
    )
    oracle: UsablePath | None = Field(
        None, description="JSON file of counts for the first epoch; default: every wrong answer is equally likely"
    )
    reuse_clean_pass: bool = Field(
        False,
        description="compute the first gradient in the clean pass, at δ = 0; saves one forward pass per batch",
    )


class TAT(Virtual[TATOptions]):
    """δ lowers l(f(x + δ), y_t), the loss for a wrong answer y_t (Pereira et al. 2021, box 1).

    y_t is drawn from all answers but the right one, y. Its probability e(y, y_t) says how often the model gave y_t
    instead of y in the previous epoch. Task types without a tally draw each wrong answer with the same probability.
    """

    options_type = TATOptions

    def __init__(self, options: TATOptions, task: TaskDef) -> None:
        super().__init__(options, task)
        self.tally = _build_tally(options, task)
        self.reuses_clean_pass = options.reuse_clean_pass

    def objective(self, network: View, clean: Tensor) -> Objective:
        """Draws a wrong answer y_t for each decision. Returns the function logits (N, C) → −l(f(x + δ), y_t), (B,).

        It also adds the clean predictions to the tally, for the next epoch. ``clean``: detached logits (N, C).
        """
        # A rank without examples runs the first example of the batch (``Share``), which is not counted.
        if self.options.tally != "fixed" and network.batch.counted > 0:
            self.tally.count(network.labels, network.units.to_user(clean), soft=self.options.tally == "soft")
        # Two random numbers for each decision: the first chooses the wrong answer, the second a value inside its bin.
        chances, fractions = network.draws.chances(), network.draws.chances()
        targets = self.tally.sample(network.labels, chances, fractions, _allowed(clean, network.batch))
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
    """The tally of a task, or ``Choices`` if its type has none.

    Raises:
        UserError: ``oracle`` does not fit the task, or (from Tally) a regression task has no value range.
    """
    if task.type.answer in TALLIED:
        return Tally(task, None if options.oracle is None else read_counts(options.oracle, task))
    if options.oracle is not None:
        kind = task.task_type.replace("_", "-")
        raise UserError(
            f"adversary.oracle: {task.name}: {kind} tasks draw wrong answers evenly and read no counts; leave it out"
        )
    return Choices()


def _allowed(logits: Tensor, batch: Batch) -> Tensor:
    """The logits (N, C), with MISSING for tokens outside the context in a span task. Others stay as they are."""
    if batch.answerable is None:
        return logits
    # Each sequence has two rows of logits, start and end. Both allow the same tokens.
    return logits.masked_fill(~batch.pad(batch.answerable).repeat_interleave(2, 0), MISSING)
