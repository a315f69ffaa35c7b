"""Measures prediction, evaluation and preparation beside what transformers offers, on the same rows in one process.

The ways of both sides take turns in every round, so that a machine that is slow for a while slows all of them alike.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from tqdm import tqdm

from data_utils.encoded_rows import encode_rows
from data_utils.errors import UserError
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.python_rows import rows_from_python
from data_utils.rows import find_rows, read_records, write_rows
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS
from data_utils.text_table import table
from mt_dnn.bench.synthetic import write_run
from mt_dnn.bench.workload import machine
from mt_dnn.inference.choices import with_precision
from mt_dnn.inference.trained import TrainedModel, load
from mt_dnn.runs.build import build_model, build_tasks, build_tokenizer
from mt_dnn.runs.checkpoints import find_checkpoint
from mt_dnn.runs.config_file import load_config

BATCH = 32  # the peer's batches that the first ratio is about
BATCHES = (1, 8, 32, 128)  # the peer's settings: these batches, of rows as they come and of rows sorted by length
Way = Callable[[], Any]


@dataclass(frozen=True)
class Subject:
    """A model and labelled rows of one of its tasks.

    ``encoder``: the folder of its encoder, as it was before a change of precision. ``records``: the rows by column
    name. ``split``: the same rows as token ids. ``folder``: for temporary files.
    """

    model: TrainedModel
    encoder: Path
    task: TaskDef
    records: list[dict[str, str]]
    split: Prepared
    folder: Path

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """The texts of each row."""
        return [tuple(record[name] for name in DATA_FORMATS[self.task.data_format]) for record in self.records]


def inference_command(
    what: str,
    run: Path | None,
    *,
    task: str | None,
    shape: str | None,
    lengths: str | None,
    rows: int,
    rounds: int,
    precision: str | None,
    as_json: bool,
) -> None:
    """Prints the speed of ``what`` (a key of ``COMPARISONS``) beside that of a peer on the CPU, as a table or as JSON.

    Raises:
        UserError: an option that does nothing here, or what ``build_subject`` raises.
    """
    if run is not None and (shape or lengths):
        option, value = ("--shape", shape) if shape else ("--lengths", lengths)
        raise UserError(f"{option} {value}: {run} has an encoder and rows of its own; give one of them")
    if run is None and task is not None:
        raise UserError(f"--task {task}: the made-up rows have one task; give it with a run folder")
    if what == "prepare" and precision is not None:
        raise UserError(f"--precision {precision}: preparation computes nothing in it; leave it out")
    with TemporaryDirectory(prefix="mt-dnn-bench-") as folder:
        subject = build_subject(
            Path(folder),
            run,
            task=task,
            shape=shape or "minilm",
            lengths=lengths or "sst2",
            rows=rows,
            precision=precision,
        )
        result = compare(*COMPARISONS[what](subject), subject, rounds=rounds)
    if what != "prepare":
        result["precision"] = precision or subject.model.config.train.precision
    if as_json:
        print(json.dumps(result))
    else:
        print(table(("figure", "value"), [(key, str(value)) for key, value in result.items()]))


def build_subject(
    folder: Path,
    run: Path | None,
    *,
    task: str | None = None,
    shape: str = "minilm",
    lengths: str = "sst2",
    rows: int,
    precision: str | None = None,
    overrides: Sequence[str] = (),
) -> Subject:
    """The model of a trained run with its dev rows. Without a run, random weights and made-up rows.

    ``rows``: at most this many rows. ``precision``: of our side (see ``load``). ``shape``, ``lengths``, ``overrides``:
    of what is made up (see synthetic.py).

    Raises:
        UserError: the task is not one that transformers' pipeline answers too, or there are no rows.
    """
    if run is None:
        made = folder / "made"
        made.mkdir(parents=True)
        config = load_config(write_run(made, shape=shape, lengths=lengths, rows=rows), overrides)
        tasks = build_tasks(config)
        tokenizer = build_tokenizer(config)
        network = build_model(config, tasks, tokenizer).eval()
        encoder = folder / "encoder"
        network.encoder.save(encoder)
        config = with_precision(config, network, precision, torch.device("cpu"))
        model = TrainedModel(made, made, config, tasks, tokenizer, network)
        name, split_name = next(iter(tasks.trained)), "train"
    else:
        model, encoder = load(run, device="cpu", precision=precision), find_checkpoint(run) / "encoder"
        name = task or next(iter(model.trained))
        split_name = next(iter(model.task(name).dev_splits), "train")
    definition = model.task(name)
    if definition.task_type not in ("classification", "regression") or definition.data_format not in ("single", "pair"):
        raise UserError(f"bench: {name}: transformers' pipeline only classifies texts; choose another --task")
    records = read_records(find_rows(model.config.data.dir, definition, split_name), definition)
    found = [record for _, record in islice(records, rows)]
    data = model.config.data
    canonical = rows_from_python(found, definition, labelled=True)
    if canonical is None:
        raise UserError(f"bench: {name}: no rows in split '{split_name}'")
    split = encode_rows(canonical, definition, model.tokenizer, max_length=data.max_length, stride=data.stride)
    return Subject(model, encoder, definition, found, split, folder)


def prediction(subject: Subject) -> tuple[Way, dict[str, Way]]:
    """From texts to labels: ``TrainedModel.predict``, and transformers' pipeline with several settings."""
    peer, tokenizer = peer_model(subject), subject.model.tokenizer
    pipe = transformers.TextClassificationPipeline(model=peer, tokenizer=tokenizer, device="cpu")
    columns = ("text", "text_pair")
    inputs = [dict(zip(columns, texts, strict=False)) for texts in subject.texts]
    ordered = sorted(inputs, key=lambda texts: sum(map(len, texts.values())))
    longest = {"truncation": True, "max_length": subject.model.config.data.max_length}
    peers: dict[str, Way] = {
        f"batches of {size}{', sorted' if rows is ordered else ''}": partial(pipe, rows, batch_size=size, **longest)
        for rows in (inputs, ordered)
        for size in BATCHES
    }
    return lambda: subject.model.predict(subject.task.name, subject.texts), peers


def evaluation(subject: Subject) -> tuple[Way, dict[str, Way]]:
    """From token ids to predictions: our evaluation, and plain transformers on padded batches."""
    model, split = peer_model(subject), subject.split
    features = [
        {"input_ids": split.tokens[start:stop].tolist(), "token_type_ids": split.token_types[start:stop].tolist()}
        for start, stop in pairwise(split.offsets)
    ]
    collator = transformers.DataCollatorWithPadding(subject.model.tokenizer)
    unknown = {"token_type_ids"} if getattr(model.config, "type_vocab_size", 0) < 2 else set[str]()

    def run(rows: list[dict[str, Any]], size: int) -> list[Any]:
        predicted: list[Any] = []
        with torch.inference_mode():
            for start in range(0, len(rows), size):
                batch = collator(rows[start : start + size])
                inputs = {name: values for name, values in batch.items() if name not in unknown}
                predicted += model(**inputs).logits.softmax(-1).tolist()
        return predicted

    ordered = sorted(features, key=lambda row: len(row["input_ids"]))
    peers: dict[str, Way] = {
        f"batches of {size}{', sorted' if rows is ordered else ''}": partial(run, rows, size)
        for rows in (features, ordered)
        for size in BATCHES
    }
    return lambda: subject.model.decode(subject.task, split), peers


def preparation(subject: Subject) -> tuple[Way, dict[str, Way]]:
    """From a file of rows to a file of token ids, and the tokenizer alone on lists of texts in memory."""
    task, tokenizer, data = subject.task, subject.model.tokenizer, subject.model.config.data
    source = subject.folder / f"{task.name}_train.tsv"
    write_rows(source, subject.records, list(subject.records[0]))
    columns = [list(texts) for texts in zip(*subject.texts, strict=True)]

    def to_file() -> None:
        with TemporaryDirectory(dir=subject.folder) as cache:
            prepare(
                task,
                "train",
                data_dir=subject.folder,
                cache_dir=Path(cache),
                tokenizer=tokenizer,
                max_length=data.max_length,
                stride=data.stride,
            )

    def tokenize(size: int) -> None:
        for start in range(0, len(subject.records), size):
            part = [texts[start : start + size] for texts in columns]
            tokenizer(*part, truncation=True, max_length=data.max_length)

    return to_file, {f"batches of {size}": partial(tokenize, size) for size in (*BATCHES, 1000)}


COMPARISONS: Mapping[str, Callable[[Subject], tuple[Way, dict[str, Way]]]] = {
    "predict": prediction,
    "evaluate": evaluation,
    "prepare": preparation,
}


def compare(ours: Way, peers: Mapping[str, Way], subject: Subject, *, rounds: int) -> dict[str, Any]:
    """Times our way and all of the peer's. Returns medians over ``rounds``; one more round warms up.

    ``ratio`` compares with the peer at batches of 32, ``ratio_to_best`` with its fastest setting. The figures of
    ``cpu`` are the same of processor seconds, which other programs on the machine disturb less.
    """
    ways = {"ours": ours, **peers}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in tqdm(range(rounds + 1), desc="rounds", unit="round"):
        names = [*ways]
        shift = number % len(names)  # so that no way is always the first of a round
        for name in names[shift:] + names[:shift]:
            begun = time.perf_counter(), time.process_time()
            with quiet_transformers():
                ways[name]()
            spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
            if number > 0:
                seconds[name].append(spent)
    rows, tokens = len(subject.records), int(subject.split.lengths.sum())
    reference = f"batches of {BATCH}"
    best = min(peers, key=lambda name: statistics.median(wall for wall, _ in seconds[name]))

    def ratios(peer: str, clock: int) -> list[float]:
        return [theirs[clock] / spent[clock] for spent, theirs in zip(seconds["ours"], seconds[peer], strict=True)]

    walls = {name: statistics.median(wall for wall, _ in values) for name, values in seconds.items()}
    against, against_best = ratios(reference, 0), ratios(best, 0)
    return {
        "rows": rows,
        "tokens": tokens,
        "ours_rows_per_s": round(rows / walls["ours"], 1),
        "ours_tokens_per_s": round(tokens / walls["ours"]),
        "peer_rows_per_s": round(rows / walls[reference], 1),
        "ratio": round(statistics.median(against), 3),
        "ratio_min": round(min(against), 3),
        "ratio_max": round(max(against), 3),
        "cpu_ratio": round(statistics.median(ratios(reference, 1)), 3),
        "best_peer": best,
        "best_peer_rows_per_s": round(rows / walls[best], 1),
        "ratio_to_best": round(statistics.median(against_best), 3),
        "ratio_to_best_min": round(min(against_best), 3),
        "ratio_to_best_max": round(max(against_best), 3),
        "cpu_ratio_to_best": round(statistics.median(ratios(best, 1)), 3),
        **machine(torch.device("cpu")),
    }


def peer_model(subject: Subject) -> Any:
    """The same encoder in transformers, with a head of the same size. The head is new; it costs as much as ours."""
    classes = subject.task.n_class
    with quiet_transformers():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(subject.encoder, num_labels=classes)
    return model.eval()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hides notes of transformers, for example that a pipeline is used in a loop."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
