"""A run from configuration to table: resume, train, log, evaluate, save, and predict at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.task_def import dump_task_defs
from mt_dnn.adversarial import build_adversaries
from mt_dnn.average import build_average
from mt_dnn.build import build_model, build_splits, build_tasks, build_tokenizer, choose_device, with_data
from mt_dnn.checkpoint import (
    checkpoint_path,
    last_checkpoint,
    load_encoder_weights,
    load_rest,
    mark_best,
    prune,
    read_state,
    read_tensors,
    save_checkpoint,
)
from mt_dnn.config import RunConfig
from mt_dnn.config_file import differences, dump_config
from mt_dnn.evaluate import Scores, baseline, check_selection, dev_splits, evaluate, score, selection_score
from mt_dnn.folder import locked, same_config, same_tasks, write_json
from mt_dnn.log import MetricsLog
from mt_dnn.optim import build_optimizer, build_schedule
from mt_dnn.optim_state import load_optimizer_tensors, optimizer_tensors
from mt_dnn.predict import write_predictions
from mt_dnn.signals import stop_signals
from mt_dnn.step import Stepper
from mt_dnn.telemetry import Telemetry
from mt_dnn.train import Position, Step, total_steps, train


@dataclass
class Progress:
    """What a checkpoint must know besides weights; the window is what was not logged yet."""

    position: Position = field(default_factory=Position)
    best_step: int | None = None
    best_score: float | None = None
    stale: int = 0
    window: Telemetry = field(default_factory=Telemetry)
    finished: bool = False
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Progress:
        return cls(**{**state, "position": Position(**state["position"]), "window": Telemetry(state["window"])})

    def state_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**own, "position": asdict(self.position), "window": self.window.state_dict()}


class Run:
    """One run and its folder. Everything is checked before the first file is written."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.folder = config, config.output
        same_config(config)
        self.device = choose_device(config.device)
        tasks = build_tasks(config)
        checkpoint = last_checkpoint(self.folder)
        self.tokenizer = build_tokenizer(config, checkpoint)
        splits, self.notices = build_splits(config, tasks.splits, self.tokenizer)
        self.tasks = with_data(tasks, splits, config)
        same_tasks(self.folder, self.tasks.evaluated)
        self.splits = {key: split for key, split in splits.items() if key[0] in self.tasks.evaluated}
        self.train_splits = {name: self.splits[name, "train"] for name in self.tasks.trained}
        self.dev_splits = dev_splits(self.tasks.evaluated, self.splits)
        if config.evaluation.metric is not None:
            scored = {
                name: task for name, task in self.tasks.trained.items() if name in {key[0] for key in self.dev_splits}
            }
            check_selection(config.evaluation.metric, scored)
        self.model = build_model(config, self.tasks, self.tokenizer, checkpoint).to(self.device)
        self.steps = total_steps(config, {name: len(split) for name, split in self.train_splits.items()})
        self.stepper = self._stepper()
        data = {f"{task}/{split}": prepared.manifest["hash"] for (task, split), prepared in self.splits.items()}
        self.progress = Progress(data=data)
        self.decoded: dict[tuple[str, str], Any] = {}  # dev splits, by the model of the last evaluation
        if checkpoint is not None:
            self._resume(checkpoint)

    def _stepper(self) -> Stepper:
        config = self.config
        optimizer = build_optimizer(self.model, config.optimizer)
        fp16 = config.train.precision == "fp16"
        adversaries = build_adversaries(config.adversary, self.tasks.trained)
        warmup_steps = round(config.schedule.warmup_fraction * self.steps)
        return Stepper(
            model=self.model,
            tasks=self.tasks.trained,
            adversaries=adversaries,
            average=build_average(self.model, adversaries.values(), warmup_steps),
            dropout_floor_every_steps=config.log.dropout_floor_every_steps,
            optimizer=optimizer,
            schedule=build_schedule(optimizer, config.schedule, self.steps),
            clip_norm=config.train.clip_norm,
            precision=config.train.precision,
            scaler=torch.amp.GradScaler(self.device.type, enabled=fp16),
        )

    def _resume(self, checkpoint: Path) -> None:
        state = read_state(checkpoint)
        progress = Progress.restore(state["progress"])
        if changed := list(differences(progress.data, self.progress.data)):
            raise UserError(f"{checkpoint}: was trained on other data ({changed[0]}); choose another output")
        self.progress = progress
        load_optimizer_tensors(
            self.stepper.optimizer,
            self._names(),
            read_tensors(checkpoint / "trainer" / "optimizer.safetensors"),
        )
        self.stepper.schedule.load_state_dict(state["schedule"])
        self.stepper.scaler.load_state_dict(state["scaler"])
        for name, adversary in self.stepper.adversaries.items():
            adversary.load_state_dict(state["adversaries"][name])
        if self.stepper.average is not None:
            self.stepper.average.load_state_dict(read_tensors(checkpoint / "trainer" / "average.safetensors"))
        self.notices.append(f"resuming {self.folder} after update {progress.position.step} of {self.steps}")

    def _names(self) -> dict[torch.nn.Parameter, str]:
        return {parameter: name for name, parameter in self.model.named_parameters()}

    def __call__(self) -> dict[str, Any] | int:
        """Trains what remains, finishes and gives the summary; or the number of the signal that stopped it."""
        with locked(self.folder), stop_signals() as stop:
            self._write_inputs()
            for notice in self.notices:
                tqdm.write(notice)
            position = self.progress.position
            log = MetricsLog(self.folder, tensorboard=self.config.log.tensorboard, resume_step=position.step)
            try:
                if not self.progress.finished:
                    self._train(log, stop)
                return stop[0] if stop else self._finish(stop)
            finally:
                log.close()

    def _train(self, log: MetricsLog, stop: list[int]) -> None:
        position = self.progress.position
        started = time.perf_counter()
        window = {"examples": 0, "tokens": 0}
        events = train(self.stepper, self.train_splits, self.config, device=self.device, start=position)
        with tqdm(total=self.steps, initial=position.step, desc="train", unit="update", smoothing=0.1) as bar:
            for event in events:
                self._count(event)
                window = {key: value + getattr(event, key) for key, value in window.items()}
                bar.update()
                if event.position.step % self.config.log.every_steps == 0 or event.last:
                    seconds, started = time.perf_counter() - started, time.perf_counter()
                    record = self._log_record(event, {f"{k}_per_s": v / seconds for k, v in window.items()})
                    log.write(record)
                    bar.set_postfix(loss=f"{record['loss']:.4f}", epoch=event.position.epoch)
                    window = dict.fromkeys(window, 0)
                stopping = bool(stop)  # looked at once: a signal after this line waits for the next update
                self._after_step(event, log, stopping)
                if stopping:
                    tqdm.write(f"stopped after update {event.position.step}; the same command continues from there")
                if stopping or self.progress.finished:
                    return

    def _count(self, event: Step) -> None:
        self.progress.position = event.position
        self.progress.window.mean("loss", event.loss)  # stays on the device until it is logged
        self.progress.window.add(event.telemetry)

    def _check_loss(self) -> None:
        if not math.isfinite(self.progress.window.values().get("loss", 0.0)):
            raise UserError(
                f"update {self.progress.position.step}: the loss is not finite; lower optimizer.lr, or use "
                "train.precision=fp32. The last checkpoint is from before"
            )

    def _log_record(self, event: Step, speed: dict[str, float]) -> dict[str, Any]:
        self._check_loss()
        position, figures = event.position, self.progress.window.values()
        record = {
            "event": "train",
            "step": position.step,
            "epoch": position.epoch,
            "loss": figures.pop("loss"),
            "lr": event.lr,
            "grad_norm": float(event.grad_norm),
            **{key: round(value, 2) for key, value in speed.items()},
        }
        self.progress.window = Telemetry()
        return {**record, "adversary": figures} if figures else record

    def _after_step(self, event: Step, log: MetricsLog, stopping: bool) -> None:
        step, every = event.position.step, self.config.evaluation.every_steps
        self.progress.finished = event.last
        if event.epoch_end:
            self._write_tallies(event.position.epoch)
        if event.last or (event.epoch_end if every is None else step % every == 0):
            self._evaluate(log)
            self._save()
        elif stopping or (self.config.checkpoint.every_steps and step % self.config.checkpoint.every_steps == 0):
            self._save()

    def _write_tallies(self, epoch: int) -> None:
        """What the adversaries have gathered in this epoch, such as the tallies of TAT."""
        for name, adversary in self.stepper.adversaries.items():
            record = adversary.record()
            if record is not None:
                write_json(self.folder / "adversary" / f"{name}-epoch-{epoch:03d}.json", {"epoch": epoch, **record})

    def _evaluate(self, log: MetricsLog) -> None:
        """Scores the dev splits and decides whether this is the best model so far."""
        scores: Scores = {}
        self.decoded = {}
        for task, split, decoded in self._decode(self.dev_splits):
            self.decoded[task, split] = decoded
            gold = self.dev_splits[task, split]
            scores.setdefault(task, {})[split] = score(self.tasks.evaluated[task], gold, decoded)
        progress, metric = self.progress, self.config.evaluation.metric
        own = {name: value for name, value in scores.items() if name in self.tasks.trained}
        value = selection_score(metric, own) if metric is not None and own else None
        best = value is not None and (progress.best_score is None or value > progress.best_score)
        if best:
            progress.best_score, progress.best_step, progress.stale = value, progress.position.step, 0
        elif value is not None:
            progress.stale += 1
            progress.finished |= self.config.evaluation.patience == progress.stale
        position = progress.position
        record = {"step": position.step, "epoch": position.epoch, "scores": scores, "selection": value, "best": best}
        log.write({"event": "evaluation", **record})
        if value is not None:
            mark = " (best so far)" if best else ""
            tqdm.write(f"update {position.step}: dev {metric} {100 * value:.2f}{mark}")

    def _save(self) -> None:
        self._check_loss()
        step = self.progress.position.step
        state = {
            "progress": self.progress.state_dict(),
            "schedule": self.stepper.schedule.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "adversaries": {name: one.state_dict() for name, one in self.stepper.adversaries.items()},
        }
        save_checkpoint(
            self.folder,
            step,
            model=self.model,
            tokenizer=self.tokenizer,
            trainer_tensors=self._trainer_tensors(),
            state=state,
            files=(self.folder / "config.yml", self.folder / "task_defs.yml"),
        )
        best = self.progress.best_step
        if best is not None:
            mark_best(self.folder, best)
        prune(self.folder, {step, best} - {None})  # type: ignore[arg-type]

    def _trainer_tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Files of tensors that only training needs."""
        tensors = {"optimizer": optimizer_tensors(self.stepper.optimizer, self._names())}
        if self.stepper.average is not None:
            tensors["average"] = self.stepper.average.state_dict()
        return tensors

    def _decode(self, splits: Any) -> Iterator[Any]:
        return evaluate(
            self.model,
            {**self.tasks.evaluated, **self.tasks.trained},
            splits,
            batch_size=self.config.evaluation.batch_size,
            precision=self.config.train.precision,
            device=self.device,
        )

    def _decode_remaining(self, splits: Any, known: dict[tuple[str, str], Any]) -> Iterator[Any]:
        """All splits in their order; what the last evaluation has decoded is not decoded again."""
        for key, split in splits.items():
            if key in known:
                yield (*key, known[key])
            else:
                yield from self._decode({key: split})

    def _finish(self, stop: list[int]) -> dict[str, Any] | int:
        """Scores and predictions of the best model on every split but the training ones; writes summary.json."""
        best = self.progress.best_step
        decoded_last = self.decoded
        if best is not None and best != self.progress.position.step:
            decoded_last = {}
            load_encoder_weights(self.model, checkpoint_path(self.folder, best))
            load_rest(self.model, checkpoint_path(self.folder, best))
        splits = {key: split for key, split in self.splits.items() if key[1] != "train"}
        results = []
        for name, split_name, decoded in self._decode_remaining(splits, decoded_last):
            if stop:
                return stop[0]
            task, split = self.tasks.evaluated[name], splits[name, split_name]
            if self.config.evaluation.predictions:
                path = self.folder / "predictions" / f"{name}_{split_name}.jsonl"
                write_predictions(path, task, split.uids, decoded)
            if split.labels is not None:
                constant = baseline(task, split)
                scores = score(task, split, decoded)
                result = {"task": name, "split": split_name, "rows": len(split)}
                results.append({**result, "scores": scores, "baseline": constant})
        summary = {
            "name": self.config.name,
            "seed": self.config.seed,
            "steps": self.progress.position.step,
            "selected_step": best or self.progress.position.step,
            "selection": {"metric": self.config.evaluation.metric, "score": self.progress.best_score},
            "results": results,
        }
        write_json(self.folder / "summary.json", summary)
        return summary

    def _write_inputs(self) -> None:
        if not (self.folder / "config.yml").exists():
            dump_config(self.config, self.folder / "config.yml")
            dump_task_defs(self.tasks.evaluated, self.folder / "task_defs.yml")
