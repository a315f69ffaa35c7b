"""Compares our speed with plain Hugging Face Trainer, on the same rows in the same batches.

Both take turns in every round of one process.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from data_utils.encoder_names import resolve_name
from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.text_table import table
from mt_dnn.bench.workload import build_workload, machine
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config

PEERS = ("hf-trainer",)


def throughput_command(
    path: Path, overrides: Sequence[str], *, peer: str, updates: int, rounds: int, as_json: bool
) -> None:
    """Prints the examples per second of our step and of the peer, and their ratio.

    Raises:
        UserError: an unknown peer.
    """
    if peer not in PEERS:
        raise UserError(f"--peer: no peer '{peer}' (known: {', '.join(PEERS)})")
    plain = ["optimizer.name=adamw", "optimizer.lookahead.enabled=false", "train.accumulate=1"]  # what Trainer does too
    result = measure(load_config(path, [*overrides, *plain]), updates=updates, rounds=rounds)
    if as_json:
        print(json.dumps(result))
    else:
        print(table(("figure", "value"), [(key, str(value)) for key, value in result.items()]))


def measure(config: RunConfig, *, updates: int, rounds: int) -> dict[str, Any]:
    """Measures the examples per second of our step and of Trainer, on the same batches. Returns medians over rounds.

    Raises:
        UserError: the configuration does not choose one classification or regression task.
    """
    work = build_workload(config, "bench throughput")
    if work.split.groups is not None or work.split.decisions is not None:
        raise UserError("bench throughput: Trainer only classifies; choose a classification or regression task")
    split, chunks = work.split, work.chunks(updates, rounds)
    ours, theirs = work.stepper(config.adversary), HFTrainer(config, work.task.n_class, split, work.tokenizer)
    pairs = []
    for number, chunk in enumerate(tqdm(chunks, desc="rounds", unit="round")):
        seconds = work.seconds(ours, chunk), theirs(chunk)
        if number > 0:  # the first round warms up both
            pairs.append([sum(map(len, chunk)) / value for value in seconds])
    tokens = sum(int(split.lengths[rows].sum()) for chunk in chunks for rows in chunk)
    padded = sum(len(rows) * int(split.lengths[rows].max()) for chunk in chunks for rows in chunk)
    return {
        "ours_examples_per_s": round(statistics.median(p[0] for p in pairs), 2),
        "peer_examples_per_s": round(statistics.median(p[1] for p in pairs), 2),
        "ratio": round(statistics.median(p[0] / p[1] for p in pairs), 3),
        "ratio_min": round(min(p[0] / p[1] for p in pairs), 3),
        "ratio_max": round(max(p[0] / p[1] for p in pairs), 3),
        "peer": f"transformers {transformers.__version__} Trainer, dynamic padding",
        "batch_size": config.train.batch_size,
        "padding_share": round(1 - tokens / padded, 3),
        **machine(work.device),
    }


class HFTrainer:
    """Plain Trainer on AutoModelForSequenceClassification with dynamic padding."""

    def __init__(self, config: RunConfig, n_class: int, split: Prepared, tokenizer: PreTrainedTokenizerBase) -> None:
        name = resolve_name(config.encoder.name or "")
        self.config, self.tokenizer = config, tokenizer
        self.rows: Any = []
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(name, num_labels=n_class)
        bounds, labels = split.offsets, split.labels
        assert labels is not None  # a training split
        for row in range(len(split)):
            part = slice(int(bounds[row]), int(bounds[row + 1]))
            features = {"input_ids": split.tokens[part].tolist(), "labels": labels[row].item()}
            self.rows.append({**features, "token_type_ids": split.token_types[part].tolist()})

    def __call__(self, chunk: Sequence[Any]) -> float:
        """Seconds from the beginning of Trainer's first step to its end. Its set-up is not counted."""
        clock = _Clock()
        batches: Any = torch.utils.data.DataLoader(
            self.rows,
            batch_sampler=[list(map(int, rows)) for rows in chunk],
            collate_fn=transformers.DataCollatorWithPadding(self.tokenizer),
        )
        with TemporaryDirectory() as folder:
            trainer = transformers.Trainer(
                model=self.model, args=self._arguments(folder, len(chunk)), train_dataset=self.rows, callbacks=[clock]
            )
            trainer.get_train_dataloader = lambda: trainer.accelerator.prepare(batches)  # type: ignore[method-assign]
            trainer.remove_callback(transformers.trainer_callback.ProgressCallback)
            trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
            trainer.train()
        return clock.seconds

    def _arguments(self, folder: str, steps: int) -> transformers.TrainingArguments:
        return transformers.TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=self.config.train.batch_size,
            learning_rate=self.config.optimizer.lr,
            weight_decay=self.config.optimizer.weight_decay,
            max_grad_norm=self.config.train.clip_norm or 0.0,
            bf16=self.config.train.precision == "bf16",
            fp16=self.config.train.precision == "fp16",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=self.config.device == "cpu",
        )


class _Clock(transformers.TrainerCallback):
    """Wall time from the first step to the end of training."""

    seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.start = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = time.perf_counter() - self.start
