"""Plain Hugging Face Trainer on the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import nn

from data_utils.encoder_names import resolve_name
from data_utils.errors import UserError
from mt_dnn.bench.counts import Counted
from mt_dnn.bench.workload import BenchRows, Spent, now, since
from mt_dnn.encoders.load import EncoderConfig
from mt_dnn.encoders.pretrained import (
    ATTENTION_DROPOUT_NAMES,
    DROPOUT_NAMES,
    keep_blocks,
    make_config,
    read_config,
    set_dropout,
)

NAME = f"transformers {transformers.__version__} Trainer, dynamic padding"


def check_peer(rows: BenchRows, command: str) -> None:
    """Raises UserError unless Trainer can train this task on this device. Messages begin with ``command``."""
    if find_spec("accelerate") is None:
        raise UserError(f"{command}: Trainer needs accelerate; pip install 'mt-dnn[peer]'")
    if rows.split.groups is not None or rows.split.decisions is not None:
        raise UserError(f"{command}: Trainer only classifies; choose a classification or regression task")
    if rows.config.train.precision == "fp16" and rows.device.type == "cpu":
        raise UserError(f"{command}: Trainer has no fp16 on a CPU; set train.precision=bf16 or fp32")


class HFTrainer:
    """One Trainer, on AutoModelForSequenceClassification with dynamic padding, on one device.

    ``encoder``: the transformers model of our encoder, whose weights the peer copies if they are random. Default: it
    draws weights of its own.
    """

    def __init__(self, rows: BenchRows, encoder: nn.Module | None = None) -> None:
        self.rows = rows
        self.model = classifier(rows.config.encoder, rows.task.n_class)
        if encoder is not None and rows.config.encoder.name is None:
            self.model.base_model.load_state_dict(encoder.state_dict(), strict=False)
        self.counted = Counted()

    def train(self, chunk: Sequence[Any], rounds: int, between: Callable[[int], None]) -> list[Spent]:
        """Makes one update per batch of the chunk in each round. Returns what each round took, with collation.

        All rounds are one call of ``Trainer.train``, because each call prepares the model anew and wraps it once more.
        The DataLoader reads one batch ahead, so a round collates its own batches but the first, and then the first of
        the next round, which is the same batch. ``counted`` counts the first step of the second round.

        Args:
            between: called before each round with its number, from 0, and after the last one. Its time is not counted.
        """
        every = [[*map(int, rows)] for _ in range(rounds) for rows in chunk]
        features = {row: self._features(row) for rows in chunk for row in map(int, rows)}
        batches: Any = torch.utils.data.DataLoader(
            features,  # type: ignore[arg-type]  # a mapping from numbers is a data set too
            batch_sampler=[*every, every[0]],
            collate_fn=transformers.DataCollatorWithPadding(self.rows.tokenizer),
            pin_memory=self.rows.device.type == "cuda",  # as Trainer's own DataLoader does
        )
        clock = _Rounds(len(chunk), between, self.rows.synchronize, self.counted)
        with TemporaryDirectory() as folder:
            arguments = self._arguments(folder, len(every))
            trainer = transformers.Trainer(
                model=self.model, args=arguments, train_dataset=batches.dataset, callbacks=[clock]
            )
            trainer.get_train_dataloader = lambda: trainer.accelerator.prepare(batches)  # type: ignore[method-assign]
            trainer.remove_callback(transformers.trainer_callback.ProgressCallback)
            trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
            try:
                trainer.train()
            finally:
                clock.stop_counting()
        return clock.spent

    def _features(self, row: int) -> dict[str, Any]:
        split = self.rows.split
        assert split.labels is not None  # a training split
        part = slice(int(split.offsets[row]), int(split.offsets[row + 1]))
        features = {"input_ids": split.tokens[part].tolist(), "labels": split.labels[row].item()}
        return {**features, "token_type_ids": split.token_types[part].tolist()}

    def _arguments(self, folder: str, steps: int) -> transformers.TrainingArguments:
        config, device = self.rows.config, self.rows.device
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=config.train.batch_size,
            learning_rate=config.optimizer.lr,
            weight_decay=config.optimizer.weight_decay,
            max_grad_norm=config.train.clip_norm or 0.0,
            bf16=config.train.precision == "bf16",
            fp16=config.train.precision == "fp16",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=device.type == "cpu",
        )
        if arguments.n_gpu > 1:
            arguments._n_gpu = 1  # with several GPUs Trainer would share each batch among them (DataParallel)
        return arguments


class _Rounds(transformers.TrainerCallback):
    """Takes the time of each round of ``updates`` steps, and counts the operations of one step."""

    def __init__(
        self, updates: int, between: Callable[[int], None], synchronize: Callable[[], None], counted: Counted
    ) -> None:
        self.updates, self.between, self.synchronize, self.counted = updates, between, synchronize, counted
        self.spent: list[Spent] = []
        self.counting = False

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._start_round()
        if state.global_step == self.updates:
            self.counted.__enter__()
            self.counting = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.updates + 1:
            self.stop_counting()
        if state.global_step % self.updates == 0:
            self.synchronize()
            self.spent.append(since(self.start))
            self._start_round()

    def stop_counting(self) -> None:
        """Leaves the count, also if a step has failed within it."""
        if self.counting:
            self.counted.__exit__(None, None, None)
        self.counting = False

    def _start_round(self) -> None:
        self.between(len(self.spent))
        self.start = now()


def classifier(options: EncoderConfig, n_class: int) -> Any:
    """AutoModelForSequenceClassification with the encoder that the options describe.

    Raises:
        UserError: the encoder does not exist, or its family does not support a setting.
    """
    settings = read_config(options.name) if options.name is not None else make_config(options.config or {})
    set_dropout(settings, options.dropout, DROPOUT_NAMES, "encoder.dropout")
    set_dropout(settings, options.attention_dropout, ATTENTION_DROPOUT_NAMES, "encoder.attention_dropout")
    settings.num_labels = n_class
    kind = transformers.AutoModelForSequenceClassification
    if options.name is None:
        return kind.from_config(settings)
    model = kind.from_pretrained(resolve_name(options.name), config=settings, dtype=torch.float32)
    if options.blocks is not None:
        keep_blocks(model.base_model, options.blocks)
    return model
