"""RunConfig: everything that a run file may say. Other packages define the sections with their settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from mt_dnn.adversarial.modes import AnyOptions, options_of
from mt_dnn.adversarial.none import NoneOptions
from mt_dnn.batches.sampling import SamplingConfig
from mt_dnn.encoders.adapters import AdapterConfig
from mt_dnn.encoders.load import EncoderConfig
from mt_dnn.runs.trackers import TrackerName
from mt_dnn.section import NonNegativeInt, PositiveInt, Section, Seed, UsablePath
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.soft_labels import DistillationConfig
from mt_dnn.training.optimizers import OptimizerConfig
from mt_dnn.training.schedules import ScheduleConfig


class DataConfig(Section):
    """Where the canonical rows are and how they become token ids."""

    dir: UsablePath = Field(description="folder of canonical rows, `<task>_<split>.tsv` and the like")
    cache: UsablePath | None = Field(None, description="folder of prepared Arrow files; default: `<dir>/prepared`")
    max_length: PositiveInt = Field(
        512, description="longest sequence in tokens; longer rows are truncated, and `prepare` counts them"
    )
    stride: NonNegativeInt = Field(
        128, description="tokens that two neighbouring windows share, for tasks whose long texts are cut into windows"
    )
    max_rows: PositiveInt | None = Field(None, description="use only the first rows of each training split")
    sample: bool = Field(
        False,
        description="with max_rows: draw the rows from the file with a fixed seed, the same ones in all runs, "
        "instead of its first ones",
    )
    carve: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="set about this share of the training rows aside as split carved, stratified by label, rows with "
        "the same first text together; evaluation.metric then reads it instead of the dev splits",
    )
    held_out: PositiveInt | None = Field(
        None, description="with max_rows: score at most so many of the rows behind them, as split held_out"
    )
    max_eval_rows: PositiveInt | None = Field(
        None,
        description="read at most so many rows of each file that is not trained on, drawn with a fixed seed, the same "
        "ones in all runs",
    )
    max_unknown_share: float = Field(
        0.5, ge=0, le=1, description="training refuses splits with a larger share of tokens unknown to the tokenizer"
    )

    @model_validator(mode="after")
    def _all_read(self) -> DataConfig:
        keys = {"sample", "held_out"}
        self._refuse_unread("max_rows: null", keys, keys if self.max_rows else set())
        return self

    @property
    def cache_dir(self) -> Path:
        return self.cache or self.dir / "prepared"


FastPath = Literal["attention", "dropout", "last_block", "word_gradients"]
FAST_PATHS: tuple[FastPath, ...] = get_args(FastPath)


class TrainConfig(Section):
    """The training loop."""

    epochs: PositiveInt = Field(3, description="passes over the training rows")
    max_steps: PositiveInt | None = Field(None, description="stop after this many updates")
    batch_size: PositiveInt = Field(32, description="examples in one forward and backward pass")
    batch_sizes: dict[str, PositiveInt] = Field(default_factory=dict, description="batch size of single tasks")
    accumulate: PositiveInt = Field(1, description="batches per update")
    mix_tasks: bool = Field(False, description="with accumulate > 1: one update takes batches from several tasks")
    clip_norm: float | None = Field(1.0, gt=0, description="global gradient norm; null: no clipping")
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = Field(
        "fp32",
        description="number type of forward passes; weights stay in fp32, and with fp16 the loss is scaled; "
        "tf32 (GPUs only): fp32, but matrices are multiplied with fewer digits",
    )
    activation_checkpointing: bool = Field(
        False,
        description="keep only the input of each block, and run the block again in the backward pass: less memory, "
        "more time",
    )
    compile: bool = Field(False, description="torch.compile of the encoder's blocks; the first updates take longer")
    loss_balance: Literal["none", "log_classes", "uncertainty"] = Field(
        "none",
        description="log_classes: divide each loss by the log of the task's number of classes; uncertainty: learn σ of "
        "each task and divide its loss by σ², or by 2σ² for mse",
    )
    balance_lr: float = Field(
        0.01, gt=0, description="with uncertainty: the learning rate of log σ², which has no schedule"
    )
    gradient_surgery: Literal["none", "pcgrad"] = Field(
        "none",
        description="pcgrad: remove from each task's gradient the part that points against the gradient of another "
        "task of the update; needs the extra pcgrad",
    )
    fast_paths: tuple[FastPath, ...] = Field(
        FAST_PATHS,
        description="ways to save time that change no result beyond rounding and the draw of dropout masks; on a CPU "
        "attention works only together with dropout; []: none",
    )
    apex_layer_norm: bool = Field(False, description="use the LayerNorm of NVIDIA's apex, which has to be installed")
    init_from: UsablePath | None = Field(
        None, description="start from the encoder of this run, checkpoint or .pt file of the old MT-DNN"
    )
    init_heads: bool = Field(
        False, description="with init_from: take its heads too, for tasks of the same name whose heads fit"
    )

    @model_validator(mode="after")
    def _all_read(self) -> TrainConfig:
        self._refuse_unread(
            self.loss_balance, {"balance_lr"}, {"balance_lr"} if self.loss_balance == "uncertainty" else set()
        )
        self._refuse_unread("init_from: null", {"init_heads"}, {"init_heads"} if self.init_from else set())
        if self.gradient_surgery != "none" and not (self.accumulate > 1 and self.mix_tasks):
            raise ValueError(
                f"gradient_surgery: {self.gradient_surgery} needs several tasks in one update; "
                "set accumulate above 1 and mix_tasks=true"
            )
        return self


class PredictionsConfig(Section):
    """Which predictions are written at the end of a run, and what is in them."""

    splits: Literal["all", "labelled"] = Field("all", description="all splits but train, or only those with labels")
    text: bool = Field(False, description="write the texts of each row too")


class EvaluationConfig(Section):
    """When dev splits are scored, and how the best model is chosen."""

    every_steps: PositiveInt | None = Field(None, description="updates between evaluations; default: each epoch")
    metric: str | None = Field(
        "mean",
        description="chooses the best model: mean, `<task>` (mean of its metrics), `<task>.<metric>`, or `<task>.loss` "
        "or loss, the training loss of dev rows, a mean over tasks in the units of their rows; null: the last one",
    )
    patience: PositiveInt | None = Field(None, description="stop after this many evaluations without a new best")
    batch_tokens: PositiveInt | None = Field(
        None,
        description="the most tokens in one forward pass, padding included, for rows of like length; default: 2048 on "
        "a CPU, else 16384",
    )
    batch_size: PositiveInt | None = Field(
        None, description="the most examples in one forward pass; default: as many as batch_tokens allows"
    )
    predictions: bool | PredictionsConfig = Field(
        True,
        description="write predictions of dev and test splits at the end; or a mapping of the two keys below",
    )

    @property
    def predicted(self) -> PredictionsConfig | None:
        """Which predictions are written; None: none."""
        if isinstance(self.predictions, bool):
            return PredictionsConfig() if self.predictions else None
        return self.predictions

    @model_validator(mode="after")
    def _patience_needs_a_metric(self) -> EvaluationConfig:
        if self.metric is None and self.patience is not None:
            raise ValueError("patience: needs a metric to compare; set evaluation.metric or leave patience out")
        return self


class CheckpointConfig(Section):
    """When checkpoints are saved; the last one and the best one are kept."""

    every_steps: PositiveInt | None = Field(
        None, description="updates between checkpoints; each evaluation saves one too"
    )
    keep_optimizer: bool | Literal["while_running"] = Field(
        True,
        description="save the optimizer's state, most of a checkpoint, which resuming needs; while_running: not for a "
        "finished run, which then cannot get more epochs; false: never, so a run that was cut off starts again",
    )


class DistributedConfig(Section):
    """How several processes train one model."""

    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="ddp: every process holds all weights; fsdp: each holds a part of every weight, for large encoders",
    )
    timeout_s: PositiveInt = Field(1800, description="seconds that a process waits for the others before it gives up")
    stop_timeout_s: PositiveInt = Field(
        600,
        description="with --gpus: seconds that the processes have to save after a signal, before they are killed; "
        "a scheduler's time between signal and end has to be longer",
    )


class LogConfig(Section):
    """What is logged while a run trains."""

    every_steps: PositiveInt = Field(
        20,
        description="updates between two records of metrics.jsonl; on a CPU the figures of the adversary are means "
        "over all updates since the last record, on a GPU over the last one and those that measured the dropout floor",
    )
    dropout_floor_every_steps: PositiveInt | None = Field(
        100,
        description="updates between two measurements of the regulariser with dropout alone; null: never",
    )
    trackers: tuple[TrackerName, ...] = Field(
        (), description="show the records in these too: tensorboard, wandb, mlflow; each needs the extra of its name"
    )

    @model_validator(mode="before")
    @classmethod
    def _old_spelling(cls, values: Any) -> Any:
        """``tensorboard: true`` in older run files means that ``tensorboard`` is among ``trackers``."""
        if not isinstance(values, Mapping) or not isinstance(values.get("tensorboard"), bool):
            return values
        rest = {key: value for key, value in values.items() if key != "tensorboard"}
        trackers = cls._without_brackets(rest.get("trackers", ()))
        if not values["tensorboard"] or not isinstance(trackers, list | tuple) or "tensorboard" in trackers:
            return rest
        return {**rest, "trackers": [*trackers, "tensorboard"]}

    @field_validator("trackers", mode="before")
    @classmethod
    def _without_brackets(cls, trackers: object) -> object:
        """``log.trackers=wandb`` means ``log.trackers=[wandb]``."""
        return [trackers] if isinstance(trackers, str) else trackers


class RunConfig(Section):
    """Everything that a run file may say. ``mt-dnn config --schema`` prints it as a JSON Schema."""

    name: str = Field("run", pattern=r"^[\w.-]+$", description="name of the run; default: the name of its file")
    task_defs: UsablePath = Field(description="task file: what the tasks are")
    tasks: tuple[str, ...] | None = Field(
        None, description="training tasks; default: every task of the file that has a train split"
    )
    seed: Seed = Field(1, description="decides new weights, data order, noise and dropout")
    output: UsablePath = Field(Path("runs/run-seed1"), description="run folder; default: `runs/<name>-seed<seed>`")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 …")
    data: DataConfig
    encoder: EncoderConfig
    adapter: AdapterConfig = AdapterConfig()
    heads: HeadsConfig = HeadsConfig()
    distillation: DistillationConfig = DistillationConfig()
    sampling: SamplingConfig = SamplingConfig()
    train: TrainConfig = TrainConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    distributed: DistributedConfig = DistributedConfig()
    log: LogConfig = LogConfig()
    adversary: AnyOptions = Field(NoneOptions(), description="a mode and its settings, or `preset:<name>`")

    @field_validator("tasks", mode="before")
    @classmethod
    def _task_without_brackets(cls, tasks: object) -> object:
        """``tasks=rte`` means ``tasks=[rte]``."""
        return [tasks] if isinstance(tasks, str) else tasks

    @model_validator(mode="after")
    def _strategy_of_adapters(self) -> RunConfig:
        if self.adapter.kind != "none" and self.distributed.strategy == "fsdp":
            raise ValueError("distributed.strategy: fsdp cannot split an encoder with an adapter; use ddp")
        return self

    @model_validator(mode="after")
    def _settings_of_single_tasks(self) -> RunConfig:
        for task in self.adversary.tasks:
            try:
                options_of(self.adversary, task)
            except ValueError as error:
                raise ValueError(f"adversary.{error}") from None
        return self
