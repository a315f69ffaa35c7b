"""The loop of a run and its folder: train, log, evaluate, save, finish. ``start`` builds the parts of the run."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from torch import nn

from data_utils.bars import bar
from data_utils.errors import NotSaved, UserError, public_name, refused
from mt_dnn.distributed.launch import explained
from mt_dnn.distributed.output import lasting_output
from mt_dnn.distributed.ranks import barrier, is_main, max_over_ranks, say
from mt_dnn.distributed.sharded import local_parts
from mt_dnn.distributed.signals import stop_signals
from mt_dnn.runs.banner import banner
from mt_dnn.runs.base import write_base
from mt_dnn.runs.checkpoints import last_checkpoint, mark_best
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.environment import write_environment
from mt_dnn.runs.evaluate import dev_scores, reads_loss, selection_score
from mt_dnn.runs.finish import finish
from mt_dnn.runs.folder import locked, write_inputs, write_json
from mt_dnn.runs.log import MetricsLog
from mt_dnn.runs.progress import Progress, Speed
from mt_dnn.runs.saving import forget_attempt, save
from mt_dnn.runs.start import start
from mt_dnn.runs.trackers import Ending, check_installed
from mt_dnn.tasks.base import Decoded
from mt_dnn.training.loop import Step, train
from mt_dnn.training.step import Stepper

Hopeless = Callable[[int, float], bool]


class Run:
    """One run. ``Run(config)`` checks everything. Calling the object trains and writes the run folder.

    If several processes train together, each of them makes a ``Run`` and calls it.

    Args:
        shown: whether the user sees bars and a line for each evaluation.
        hopeless: gets epoch and score of an evaluation in mid run. If it returns True, the run stops as at SIGUSR1.
    """

    def __init__(self, config: RunConfig, *, shown: bool = True, hopeless: Hopeless = lambda *_: False) -> None:
        check_installed(config.log.trackers)
        self.config, self.folder, self.parts = config, config.output, start(config, shown=shown)
        self.shown, self.hopeless = shown, hopeless
        self.best_answers: dict[tuple[str, str], Decoded] = {}  # of the best model, if this process has found it

    def __call__(self, *, ends_process: bool = False) -> dict[str, Any] | int:
        """Makes the updates that remain, then scores the best model and writes its predictions.

        ``ends_process``: the process ends soon afterwards (see ``stop_signals``).

        Returns:
            The content of ``summary.json``, or the number of the signal that stopped the run.

        Raises:
            NotSaved: a file of the folder cannot be written.
            UserError: the folder cannot be made or is in use, or a loss or weight is not finite.
        """
        progress = self.parts.progress
        lock = locked(self.folder) if is_main() else nullcontext()
        with lock, lasting_output(), unsaved(self.folder), stop_signals(ends_process=ends_process) as received:
            barrier()  # now all processes have read the folder in start(), so the main process may write into it
            if is_main():
                if progress.position.step == 0:
                    forget_attempt(self.folder)
                write_inputs(self.folder, self.config, self.parts.tasks.evaluated)
                if progress.position.step == 0:
                    write_base(self.folder, self.parts.model.encoder)
                write_environment(self.folder, self.config, self.parts)
                if progress.best_step is not None:  # a kill may have come between the last checkpoint and the link
                    mark_best(self.folder, progress.best_step)
            if self.shown:
                say(banner(self.config, self.parts))
            for notice in self.parts.notices:
                say(notice)
            log = open_log(self.config, progress.position.step)
            ending: Ending = "failed"
            try:
                with explained(lambda: f"after update {progress.position.step}"):
                    stopped_by = 0 if progress.finished else self._train(log, received)
                    outcome = stopped_by or finish(
                        self.config, self.parts, self.best_answers, lambda: first_signal(received)
                    )
                ending = "stopped" if isinstance(outcome, int) else "finished"
                return outcome
            finally:
                log.close(ending)

    def _train(self, log: MetricsLog, received: list[int]) -> int:
        """Makes the updates that remain. Returns the number of the signal that stopped it, or 0."""
        parts, progress = self.parts, self.parts.progress
        position, steps, epochs = progress.position, parts.plan.total_steps, parts.plan.epochs
        speed, kept = Speed(), self.config.checkpoint.keep_optimizer
        hidden = not (self.shown and is_main())
        with bar(
            None,
            "train",
            "update",
            hidden=hidden,
            delay=0,
            count=steps,
            initial=position.step,
            smoothing=0.1,
            leave=True,
        ) as shown:
            for event in train(parts.stepper, parts.train_splits, parts.plan, device=parts.device, start=position):
                progress.count(event)
                speed.count(event)
                shown.update()
                if event.position.step % self.config.log.every_steps == 0 or event.last:
                    record = train_record(event, progress, parts.stepper, speed, self.folder)
                    log.write(record)
                    shown.set_postfix(loss=f"{record['loss']:.4f}", epoch=f"{record['epoch']}/{epochs}")
                elif event.position.step == position.step + 1 and not hidden:
                    shown.set_postfix(loss=f"{float(event.loss):.4f}")
                asked = stopped_by = first_signal(received)  # a signal that comes later is seen after the next update
                progress.finished = event.last
                if event.epoch_end:
                    write_tallies(self.folder, parts.stepper, event.position.epoch)
                evaluates = self._evaluates_after(event)
                if evaluates or self._saves_after(event) or stopped_by:
                    check_finite(parts.model, progress, self.folder)
                    if evaluates:
                        shown.set_description("evaluate")
                        hopeless = self._evaluate(log)
                        stopped_by = stopped_by or (signal.SIGUSR1 if hopeless else 0)
                    log.flush()
                    shown.set_description("save")
                    save(self.folder, parts.tokenizer, parts.stepper, progress, keep_optimizer=kept)
                    log.commit()
                    shown.set_description("train")
                if asked:
                    goes_on = "the same command continues from there"
                    if kept is False and not progress.finished:
                        goes_on = "the same command starts again, because checkpoint.keep_optimizer is false"
                    say(f"stopped after update {event.position.step}; {goes_on}")
                if stopped_by or progress.finished:
                    return stopped_by
        raise RuntimeError(f"the plan ended after update {progress.position.step} of {steps}")

    def _evaluates_after(self, event: Step) -> bool:
        every = self.config.evaluation.every_steps
        return event.last or (event.epoch_end if every is None else event.position.step % every == 0)

    def _saves_after(self, event: Step) -> bool:
        every = self.config.checkpoint.every_steps
        return every is not None and event.position.step % every == 0

    def _evaluate(self, log: MetricsLog) -> bool:
        """Scores the dev splits, logs that, and notes if this model is the best so far. Returns if it is hopeless."""
        parts, progress = self.parts, self.parts.progress
        metric, patience = self.config.evaluation.metric, self.config.evaluation.patience
        scores = dev_scores(parts.decoder, parts.dev_splits)
        of_trained = {task: by_split for task, by_split in scores.items() if task in parts.tasks.trained}
        value = selection_score(metric, of_trained) if metric is not None and of_trained else None
        best = value is not None and progress.better(value)
        if best:
            self.best_answers = dict(parts.decoder.known)
        progress.finished |= value is not None and patience == progress.stale
        step, epoch = progress.position.step, progress.position.current_epoch
        record = {"step": step, "epoch": epoch, "scores": scores, "selection": value, "best": best}
        log.write({"event": "evaluation", **record})
        if value is not None and self.shown:
            score = f"{-value:.4f}" if reads_loss(metric) else f"{100 * value:.2f}"
            say(f"update {step}: dev {metric} {score}{' (best so far)' if best else ''}")
        return value is not None and not progress.finished and self.hopeless(epoch, value)


def open_log(config: RunConfig, resume_step: int) -> MetricsLog:
    """Opens the log of a run, and its trackers with the first record. ``resume_step``: updates made before."""
    name, settings = config.output.name, config.model_dump(mode="json")
    trackers = config.log.trackers
    return MetricsLog(config.output, resume_step=resume_step, trackers=trackers, name=name, settings=settings)


@contextmanager
def unsaved(folder: Path) -> Iterator[None]:
    """Turns an OSError of the block into NotSaved, for example when the disk is full."""
    try:
        yield
    except OSError as error:
        file = public_name(error.filename) if error.filename else folder
        kept = ""  # a disk that fails may not list its folders either
        with suppress(OSError):
            kept = "there is no checkpoint yet" if last_checkpoint(folder) is None else "the last checkpoint is whole"
        raise refused(file, "cannot be written", error, kept=kept, kind=NotSaved) from None


def train_record(event: Step, progress: Progress, stepper: Stepper, speed: Speed, folder: Path) -> dict[str, Any]:
    """Makes a line of the log: means since the last line, over all ranks. Begins a new window of progress and speed.

    ``folder``: of the run, for messages.

    Raises:
        UserError: the loss is not finite.
    """
    per_second = speed.per_second()
    figures = finite_figures(progress, folder)
    progress.new_window()
    record = {
        "event": "train",
        "step": event.position.step,
        "epoch": event.position.current_epoch,
        "loss": figures.pop("loss"),
        "lr": event.lr,
        "grad_norm": float(event.grad_norm),
        **per_second,
    }
    losses = {name: figures.pop(f"loss/{name}") for name in stepper.tasks if f"loss/{name}" in figures}
    groups = {"losses": losses, "loss_factors": stepper.balance.figures(), "adversary": figures}
    return {**record, **{name: group for name, group in groups.items() if group}}


def finite_figures(progress: Progress, folder: Path) -> dict[str, float]:
    """The means since the last line of the log, over all ranks.

    Raises:
        UserError: the loss is not finite.
    """
    figures = progress.collect()
    if not math.isfinite(figures.get("loss", 0.0)):
        raise not_finite("the loss", progress, folder)
    return figures


def check_finite(model: nn.Module, progress: Progress, folder: Path) -> None:
    """Checks the loss and every weight before a model is scored or saved. Every rank has to call it.

    An infinite gradient makes weights infinite or NaN, while the loss of its update is still finite.

    Raises:
        UserError: the loss since the last line of the log, or a weight, is not finite.
    """
    finite_figures(progress, folder)
    spoilt = any(not bool(weight.isfinite().all()) for weight in local_parts(model.parameters()))
    if max_over_ranks(spoilt):
        raise not_finite("a weight", progress, folder)


def first_signal(received: list[int]) -> int:
    """The number of the first signal, or 0. All ranks get the same, even if only one of them has received a signal."""
    return max_over_ranks(received[0] if received else 0)


def not_finite(what: str, progress: Progress, folder: Path) -> UserError:
    there = last_checkpoint(folder) is not None
    saved = "The last checkpoint was saved before this" if there else "There is no checkpoint yet"
    return UserError(
        f"update {progress.position.step}: {what} is not finite; lower optimizer.lr, or use "
        f"train.precision=fp32. {saved}"
    )


def write_tallies(folder: Path, stepper: Stepper, epoch: int) -> None:
    """Writes the adversaries' records of an epoch, such as the tallies of TAT, into ``adversary/``."""
    for name, adversary in stepper.adversaries.items():
        record = adversary.record()
        if record is not None and is_main():
            write_json(folder / "adversary" / f"{name}-epoch-{epoch:03d}.json", {"epoch": epoch, **record})
