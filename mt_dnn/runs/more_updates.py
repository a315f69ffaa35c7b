"""More epochs for a finished run."""

from __future__ import annotations

from pathlib import Path

from torch.optim.lr_scheduler import LambdaLR

from data_utils.errors import UserError
from mt_dnn.batches.plan import Plan
from mt_dnn.runs.build import build_plan
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.progress import Progress
from mt_dnn.runs.saving import check_resumable
from mt_dnn.training.step import Stepper


def go_on(config: RunConfig, checkpoint: Path, plan: Plan, stepper: Stepper, progress: Progress) -> list[str]:
    """Lets a finished run go on if ``train.epochs`` or ``train.max_steps`` now ask for more updates.

    Call it after the state of the checkpoint was restored. The schedule is that of the longer run, so the learning rate
    jumps to what it gives for the next update.

    Args:
        config: the configuration now. The checkpoint holds the one that it was saved with.
        plan: the plan of ``config``.

    Returns:
        A line that tells the user, or nothing if the plan is the same.

    Raises:
        UserError: fewer updates are asked for, or the updates that were made are not the first ones of ``plan``.
    """
    planned, position = build_plan(load_config(checkpoint / "config.yml"), plan.sizes), progress.position
    if plan.sampling.strategy == "annealed" and plan.epochs != planned.epochs:
        raise UserError(
            f"{config.output}: was planned for {planned.epochs} epochs, train.epochs now asks for {plan.epochs}; "
            "sampling.strategy=annealed plans every epoch by their number, so keep it, or choose another output="
        )
    before, now = planned.total_steps, plan.total_steps
    if now < before:
        raise UserError(
            f"{config.output}: was trained for {before} updates, train.epochs and train.max_steps now ask for {now}; "
            "ask for more, or choose another output="
        )
    if position.epoch > plan.epochs or plan.updates_before(position.epoch, position.update) != position.step:
        raise UserError(
            f"{checkpoint}: its {position.step} updates are not the first ones of this configuration's plan; "
            "choose another output="
        )
    if now == before:
        return []
    progress.finished, progress.stale = False, 0
    check_resumable(checkpoint, progress)
    schedule, groups = stepper.schedule, stepper.optimizer.param_groups
    assert isinstance(schedule, LambdaLR)
    ended = groups[-1]["lr"]
    for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * factor(schedule.last_epoch)
    return [
        f"{config.output}: goes on up to {now} updates after {progress.position.step} of {before}. "
        f"The schedule now spans {now} updates, so the learning rate changes from {ended:.3g} to "
        f"{groups[-1]['lr']:.3g}; a run that is planned for so many updates from the start has other results"
    ]
