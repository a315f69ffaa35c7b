"""Speed beside plain Hugging Face Trainer: the same rows in the same batches, rounds interleaved in one process."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.names import resolve_name
from data_utils.prepare import Prepared
from mt_dnn.adversarial import build_adversary
from mt_dnn.batch import collate
from mt_dnn.build import build_model, build_splits, build_tasks, build_tokenizer, choose_device
from mt_dnn.config import RunConfig
from mt_dnn.config_file import load_config
from mt_dnn.optim import build_optimizer, build_schedule
from mt_dnn.report import table
from mt_dnn.step import Stepper
from mt_dnn.train import epoch_plan, seed_step

PEERS = ("hf-trainer",)


def throughput_command(
    path: Path, overrides: Sequence[str], *, peer: str, updates: int, rounds: int, as_json: bool
) -> None:
    """Prints examples per second of both and their ratio, each the median over the rounds."""
    if peer not in PEERS:
        raise UserError(f"--peer {peer}: known peers: {', '.join(PEERS)}")
    plain = ["optimizer.name=adamw", "optimizer.lookahead.enabled=false", "train.accumulate=1"]  # what Trainer does too
    result = measure(load_config(path, [*overrides, *plain]), updates=updates, rounds=rounds)
    if as_json:
        print(json.dumps(result))
    else:
        print(table(("figure", "value"), [(key, str(value)) for key, value in result.items()]))


def measure(config: RunConfig, *, updates: int, rounds: int) -> dict[str, Any]:
    """Examples per second of our step and of Trainer's, over the same batches of one task."""
    tasks = build_tasks(config)
    if len(tasks.trained) != 1:
        raise UserError("bench throughput: choose one task, for example 'tasks=[rte]'")
    (name, task), device = next(iter(tasks.trained.items())), choose_device(config.device)
    tokenizer = build_tokenizer(config)
    splits, problems = build_splits(config, [(task, "train")], tokenizer)
    if problems:
        raise UserError(problems[0])
    split = splits[name, "train"]
    plan = [next(part.rows for part in update) for update in epoch_plan(config, {name: len(split)}, 0)]
    full = [rows for rows in plan if len(rows) == config.train.batch_size] or plan
    chunks = [[full[(r * updates + i) % len(full)] for i in range(updates)] for r in range(rounds + 1)]
    ours = OurTrainer(config, build_model(config, tasks, tokenizer).to(device), tasks.trained, split, device)
    theirs = HFTrainer(config, task.n_class, split, tokenizer)
    pairs = []
    for number, chunk in enumerate(tqdm(chunks, desc="rounds", unit="round")):
        seconds = ours(chunk), theirs(chunk)
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
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


class OurTrainer:
    """Our training step, collation included."""

    def __init__(self, config: RunConfig, model: Any, tasks: Any, split: Prepared, device: torch.device) -> None:
        optimizer = build_optimizer(model, config.optimizer)
        self.split, self.device, (self.task, *_) = split, device, tasks
        self.stepper = Stepper(
            model=model.train(),
            tasks=tasks,
            adversary=build_adversary(config.adversary),
            optimizer=optimizer,
            schedule=build_schedule(optimizer, config.schedule, 10_000),
            clip_norm=config.train.clip_norm,
            precision=config.train.precision,
        )

    def __call__(self, chunk: Sequence[Any]) -> float:
        """Seconds for one update per batch of the chunk."""
        start = time.perf_counter()
        for number, rows in enumerate(chunk):
            seed_step(0, number)
            self.stepper([collate(self.split, rows, task=self.task).to(self.device)])
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


class HFTrainer:
    """Plain Trainer on AutoModelForSequenceClassification with dynamic padding."""

    def __init__(self, config: RunConfig, n_class: int, split: Prepared, tokenizer: Any) -> None:
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
        """Seconds between Trainer's first step and its end, so that its set-up is not counted."""
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
