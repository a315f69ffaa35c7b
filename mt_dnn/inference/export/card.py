"""The model card of an export: README.md, as the Hugging Face hub shows it, with scores that the hub reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from data_utils.encoder_names import PACKAGE
from data_utils.errors import UserError, os_errors
from data_utils.files import read_json, read_text
from data_utils.task_def import TaskDef
from mt_dnn.inference.huggingface import HUB_NAME
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.runs.checkpoint import read_state
from mt_dnn.runs.config import RunConfig

LICENCE = "# license: the name of a licence, such as apache-2.0. Write it here before you publish the model."


@dataclass(frozen=True)
class Content:
    """What a card says beside what it reads from the run.

    ``task``: None for an encoder alone. ``library``: the hub's name of the software that loads the folder. ``tag``: the
    hub's name for such models. ``usage``: Python code. ``notes``: sentences about the folder.
    """

    task: TaskDef | None
    library: str
    tag: str
    usage: str
    notes: tuple[str, ...] = ()


def write_card(folder: Path, model: TrainedModel, content: Content) -> None:
    """Writes ``README.md``."""
    results = read_results(model, content.task)
    card = "\n\n".join(filter(None, _parts(model, content, results)))
    (folder / "README.md").write_text(card + "\n", encoding="utf-8")


def read_results(model: TrainedModel, task: TaskDef | None) -> list[dict[str, Any]]:
    """The scores of a task that stand in ``summary.json`` of the run folder. Empty if they are of another checkpoint.

    They are of the checkpoint that the run has selected.

    Raises:
        UserError: the file is damaged.
    """
    checkpoint = model.folder.resolve()
    file = checkpoint.parent.parent / "summary.json"
    if task is None or not file.is_file():
        return []
    with os_errors(file, "cannot be read"):
        content = read_text(file)
    try:
        summary = json.loads(content)
        selected = f"step-{summary['selected_step']:08d}"
        results = [result for result in summary["results"] if result["task"] == task.name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{file}: is damaged ({problem}); restore it, or remove it to write no scores") from None
    return results if checkpoint.name == selected else []


def _parts(model: TrainedModel, content: Content, results: list[dict[str, Any]]) -> Iterator[str]:
    config, task = model.config, content.task
    name = f"{config.name}: {task.name}" if task else f"{config.name}: encoder"
    yield f"---\n{LICENCE}\n{_metadata(model, content, results).to_yaml()}\n---"
    yield f"# {name}"
    trained = ", ".join(model.trained)
    yield (
        f"{_encoder(model)}, fine-tuned on {trained} with seed {config.seed}. "
        f"Made with mt-dnn {version('mt-dnn')}, by the mt-dnn authors, for {content.library}."
    )
    yield f"## Use\n\n```python\n{content.usage}\n```"
    yield "\n".join(f"- {note}" for note in (*content.notes, *_reading(config, task)))
    yield f"## Data\n\n{_data(model, task, results)}"
    if results:
        yield f"## Scores\n\n{_scores(results, config.seed)}"
    yield f"## Training\n\n{_training(model)}"


def _metadata(model: TrainedModel, content: Content, results: list[dict[str, Any]]) -> ModelCardData:
    """The head of the card. ``model-index`` has each score that is a single number."""
    config = model.config
    scores = [
        EvalResult(
            task_type=content.tag,
            dataset_type=result["task"],
            dataset_name=result["task"],
            dataset_split=result["split"],
            metric_type=metric,
            metric_name=f"{metric} (seed {config.seed})",
            metric_value=value,
        )
        for result in results
        for metric, value in result["scores"].items()
        if isinstance(value, float)
    ]
    return ModelCardData(
        model_name=config.name if scores else None,
        eval_results=scores or None,
        base_model=config.encoder.name if on_hub(config.encoder.name, model) else None,
        library_name=content.library,
        pipeline_tag=content.tag,
        tags=["mt-dnn", *([config.adversary.mode] if config.adversary.mode != "none" else [])],
    )


def on_hub(name: str | None, model: TrainedModel) -> bool:
    """Whether the name of an encoder is one on the hub: owner/name, and no such folder, nor one that may have held it.

    A folder may be written as it is seen from a folder above the run, where the command was, or from the current one.
    """
    if name is None or not HUB_NAME.fullmatch(name) or name.startswith("."):
        return False
    return not any((folder / name).parent.exists() for folder in (Path(), *model.run.resolve().parents))


def shown_name(name: str, model: TrainedModel) -> str:
    """The name of an encoder as a card tells it. Of a folder only the last name."""
    return name if name.startswith(PACKAGE) or on_hub(name, model) else Path(name).name


def _encoder(model: TrainedModel) -> str:
    """The encoder in words."""
    encoder = model.config.encoder
    if encoder.name is None:
        return f"A new encoder of the family {(encoder.config or {}).get('model_type')}"
    revision = f" at revision `{encoder.revision}`" if encoder.revision is not None else ""
    return f"The encoder `{shown_name(encoder.name, model)}`{revision}"


def _reading(config: RunConfig, task: TaskDef | None) -> Iterator[str]:
    """Yields how texts have to be given."""
    yield f"Texts are cut after {config.data.max_length} tokens: call the tokenizer with `truncation=True`."
    if task is not None and task.data_format == "pair":
        yield "A row is two texts, in this order: premise, hypothesis."
    if task is not None and task.value_range is not None:
        low, high = task.value_range
        yield f"Values are from {low:g} to {high:g}. The model's output is not clipped to this range."


def row_counts(model: TrainedModel, task: TaskDef) -> dict[str, int]:
    """How many rows the splits of a task have that the run has read, as far as its prepared rows are still there."""
    checkpoint, cache = model.folder, model.config.data.cache_dir
    known = read_state(checkpoint)["progress"]["data"] if (checkpoint / "trainer").is_dir() else {}
    folders = {
        name.partition("/")[2]: cache / f"{name.replace('/', '_')}-{digest}"
        for name, digest in known.items()
        if name.partition("/")[0] == task.name
    }
    found = {split: folder / "manifest.json" for split, folder in folders.items()}
    manifests = {split: read_json(read_text(file), str(file)) for split, file in found.items() if file.is_file()}
    return {split: manifest["rows"] for split, manifest in manifests.items() if isinstance(manifest.get("rows"), int)}


def _data(model: TrainedModel, task: TaskDef | None, results: list[dict[str, Any]]) -> str:
    rows = row_counts(model, task) if task else {}
    rows |= {result["split"]: result["rows"] for result in results}
    named = f"Rows of the task {task.name}" if task else f"Rows of the tasks {', '.join(model.trained)}"
    counts = "".join(f"; {split}: {count} rows" for split, count in rows.items())
    labels = f" Labels: {', '.join(task.labels)}." if task and task.labels else ""
    return f"{named}, from the folder `{model.config.data.dir.name}`{counts}.{labels}"


def _scores(results: list[dict[str, Any]], seed: int) -> str:
    """A table. A score stands beside that of the best prediction which is the same for every row."""
    rows = [
        f"| {result['split']} | {result['rows']} | {metric} | {value:.4f} | {result['baseline'][metric]:.4f} |"
        for result in results
        for metric, value in result["scores"].items()
        if isinstance(value, float)
    ]
    head = "| split | rows | metric | score | constant prediction |\n|---|---|---|---|---|"
    return f"One run, with seed {seed}.\n\n{head}\n" + "\n".join(rows)


def _training(model: TrainedModel) -> str:
    """The settings that are not defaults, as a run file. Of folders only the last name is told."""
    config = model.config
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude={"output", "device", "name"})
    settings["adversary"] = {"mode": config.adversary.mode, **settings.get("adversary", {})}
    settings["task_defs"] = config.task_defs.name
    settings["data"] = {**settings["data"], "dir": config.data.dir.name}
    settings["data"].pop("cache", None)
    for key in ("name", "tokenizer"):
        value = settings["encoder"].get(key)
        if value is not None:
            settings["encoder"][key] = shown_name(value, model)
    if (initial := settings.get("train", {}).get("init_from")) is not None:
        settings["train"]["init_from"] = Path(initial).name
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip()
    adversary = config.adversary.mode
    mode = "No adversary." if adversary == "none" else f"Adversary: {adversary}."
    how = "To train it again, write this into a run file with your paths, and give it to `mt-dnn train`:"
    return f"{mode} {how}\n\n```yaml\n{text}\n```"
