"""The end of a run: the best model predicts and scores all splits, and ``summary.json`` is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mt_dnn.adversarial.modes import options_of
from mt_dnn.distributed.ranks import is_main, say
from mt_dnn.runs.checkpoint import checkpoint_path, load_encoder_weights, load_rest
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.evaluate import result
from mt_dnn.runs.folder import check_not_lost, write_json
from mt_dnn.runs.log import mean_figures
from mt_dnn.runs.notes import adversary_notes, predicts_constant, schedule_notes, score_notes
from mt_dnn.runs.predictions import row_texts, write_predictions
from mt_dnn.runs.start import Parts
from mt_dnn.tasks.base import Decoded


def finish(
    config: RunConfig,
    parts: Parts,
    best_answers: Mapping[tuple[str, str], Decoded],
    stopped: Callable[[], int],
) -> dict[str, Any] | int:
    """Predicts and scores all splits except training splits with the best model, and writes ``summary.json``.

    Args:
        best_answers: the answers of the best model to dev splits, if this process has found it.
        stopped: gives the number of the signal that has stopped the run, or 0.

    Returns:
        The summary, or the number of the signal.
    """
    progress, folder = parts.progress, config.output
    last, best = progress.position.step, progress.best_step
    if best is not None and best != last:
        parts.decoder.known = dict(best_answers)
        load_encoder_weights(parts.model.encoder, checkpoint_path(folder, best))
        load_rest(parts.model, checkpoint_path(folder, best))
    predictions = config.evaluation.predicted
    unlabelled = predictions is not None and predictions.splits == "all"
    splits = {
        (task, split): prepared
        for (task, split), prepared in parts.splits.items()
        if split != "train" and (prepared.labels is not None or unlabelled)
    }
    results, constant = [], []
    for name, split_name, decoded in parts.decoder(splits):
        if stopped_by := stopped():
            say("stopped after the last update; the same command scores the model and writes its predictions")
            return stopped_by
        task, split = parts.tasks.evaluated[name], splits[name, split_name]
        if predictions is not None and is_main():
            check_not_lost(folder)
            path = folder / "predictions" / f"{name}_{split_name}.jsonl"
            texts = row_texts(task, split_name, split, config.data.dir) if predictions.text else None
            write_predictions(path, task, split, decoded, texts)
        if split.labels is not None:
            results.append(result(task, split_name, split, decoded))
            if predicts_constant(decoded):
                constant.append(f"{name} ({split_name})")
    summary = {
        "name": config.name,
        "seed": config.seed,
        "steps": last,
        "selected_step": best or last,
        "selection": {"metric": config.evaluation.metric, "score": progress.best_score},
        "results": results,
    }
    if is_main():
        summary["notes"] = list(_notes(config, parts, results, constant))
        write_json(folder / "summary.json", summary)
    return summary


def _notes(
    config: RunConfig, parts: Parts, results: Sequence[Mapping[str, Any]], constant: Sequence[str]
) -> Iterator[str]:
    yield from score_notes(results, constant)
    modes = {options_of(config.adversary, name).mode for name in parts.tasks.trained}
    yield from adversary_notes("/".join(sorted(modes)), mean_figures(config.output / "metrics.jsonl"))
    yield from schedule_notes(config, parts.progress.position.step, parts.plan.total_steps)
