"""Exports a trained run: what ``mt-dnn export`` does."""

from __future__ import annotations

from pathlib import Path

from data_utils.errors import UserError, did_you_mean
from mt_dnn.inference.export.folder import check_new, new_folder
from mt_dnn.inference.export.targets import write_hf, write_sentence_transformers
from mt_dnn.inference.trained import load

TARGETS = ("hf", "sentence-transformers")


def export(
    run: Path | str,
    output: Path | str,
    *,
    target: str = "hf",
    task: str | None = None,
    encoder_only: bool = False,
    pooling: str | None = None,
) -> None:
    """Writes a folder that other software loads. It is complete or absent.

    Args:
        run: a run folder or one of its checkpoints, as for ``mt_dnn.load``.
        output: the folder to write. It must not exist, or be empty.
        target: who loads it: ``hf`` (transformers) or ``sentence-transformers``.
        task: the task whose head is exported. Default: the one that was trained.
        encoder_only: export the shared encoder without a head, for vectors of texts.
        pooling: with sentence-transformers and ``encoder_only``: ``mean`` (the default), ``cls`` or ``max``.

    Raises:
        UserError: the folder exists, options contradict each other, there is no such task, or the target cannot express
            what the run has trained.
        NotSaved: the disk is full.
    """
    output = Path(output)
    check_options(target, task, encoder_only, pooling)
    check_new(output)
    model = load(run, "cpu", precision="fp32")
    if not encoder_only and task is None:
        if len(model.trained) > 1:
            raise UserError(f"--task: {run} was trained on several tasks; give one of {', '.join(model.trained)}")
        (task,) = model.trained
    with new_folder(output) as folder:
        if target == "hf":
            write_hf(model, task, folder, output.name)
        else:
            write_sentence_transformers(model, task, folder, output.name, pooling or "mean")


def check_options(target: str, task: str | None, encoder_only: bool, pooling: str | None) -> None:
    """Raises UserError for an unknown target, or options that have no effect together."""
    if target not in TARGETS:
        raise UserError(f"--to: no '{target}'{did_you_mean(target, TARGETS)} (known: {', '.join(TARGETS)})")
    if encoder_only and task is not None:
        raise UserError(f"--encoder-only: leaves out all heads, and --task asks for that of {task}; give one of them")
    if pooling is not None and not (encoder_only and target == "sentence-transformers"):
        raise UserError("--pooling: needs --to sentence-transformers and --encoder-only; leave it out")
