"""A run from configuration to table: resume, train, log, evaluate, save, and predict at the end."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_utils.errors import UserError
from data_utils.task_def import dump_task_defs
from mt_dnn.adversarial.average import build_average
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.distributed.launch import explained
from mt_dnn.distributed.ranks import all_gather, barrier, is_main, local_device, main_first, max_over_ranks, say
from mt_dnn.distributed.sharded import local_parts
from mt_dnn.runs.build import (
    build_model,
    build_plan,
    build_splits,
    build_tasks,
    build_tokenizer,
    check_soft_labels,
    choose_device,
    with_data,
    with_memory_options,
)
from mt_dnn.runs.checkpoint import (
    checkpoint_path,
    last_checkpoint,
    load_encoder_weights,
    load_rest,
    mark_best,
    prune,
    read_state,
    read_trainer_tensors,
    save_checkpoint,
)
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import differences, dump_config
from mt_dnn.runs.evaluate import (
    Decoder,
    Scores,
    check_selection,
    dev_splits,
    result,
    score,
    selection_score,
    tune_threshold,
)
from mt_dnn.runs.folder import check_unlocked, locked, same_config, same_tasks, write_json
from mt_dnn.runs.log import MetricsLog
from mt_dnn.runs.predictions import write_predictions
from mt_dnn.runs.progress import Progress
from mt_dnn.runs.signals import stop_signals
from mt_dnn.tasks.model import Model
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.balance import build_balance
from mt_dnn.training.loop import Step, train
from mt_dnn.training.optimizer_state import load_optimizer_tensors, optimizer_tensors
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.parallel import Parallel, distribute
from mt_dnn.training.schedules import build_schedule
from mt_dnn.training.step import Stepper
from mt_dnn.training.surgery import build_surgery


class Run:
    """One run and its folder. Everything is checked before the first file is written."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.folder = config, config.output
        main_first(lambda: check_unlocked(config.output) if is_main() else None)
        same_config(config)
        self.device = choose_device(local_device(config.device))
        tasks = build_tasks(config)
        checkpoint = last_checkpoint(self.folder)
        self.tokenizer = build_tokenizer(config, checkpoint)
        splits, self.notices = main_first(lambda: build_splits(config, tasks.splits, self.tokenizer))
        self.tasks = with_data(tasks, splits, config)
        same_tasks(self.folder, self.tasks.evaluated)
        self.splits = {key: split for key, split in splits.items() if key[0] in self.tasks.evaluated}
        self.train_splits = {name: self.splits[name, "train"] for name in self.tasks.trained}
        check_soft_labels(config, self.tasks.trained, self.train_splits)
        self.dev_splits = dev_splits(self.tasks.evaluated, self.splits)
        if config.evaluation.metric is not None:
            scored = {
                name: task for name, task in self.tasks.trained.items() if name in {key[0] for key in self.dev_splits}
            }
            check_selection(config.evaluation.metric, scored)
        self.plan = build_plan(config, {name: len(split) for name, split in self.train_splits.items()})
        self.steps = self.plan.total_steps
        self.stepper = self._stepper(build_model(config, self.tasks, self.tokenizer, checkpoint))
        self.model = self.stepper.model
        data = {f"{task}/{split}": prepared.manifest["hash"] for (task, split), prepared in self.splits.items()}
        self.progress = Progress(data=data)
        self.decoder = Decoder(
            self.model,
            {**self.tasks.evaluated, **self.tasks.trained},
            batch_size=config.evaluation.batch_size,
            precision=config.train.precision,
            device=self.device,
        )
        if checkpoint is not None:
            self._resume(checkpoint)

    def _stepper(self, model: Model) -> Stepper:
        config, strategy = self.config, self.config.distributed.strategy
        fp16 = config.train.precision == "fp16"
        adversaries = build_adversaries(config.adversary, self.tasks.trained)
        warmup_steps = round(config.schedule.warmup_fraction * self.steps)
        average = build_average(model, adversaries.values(), warmup_steps)
        if average is not None:
            distribute(average.model, self.device, strategy)
        distribute(with_memory_options(model, config.train), self.device, strategy)
        optimizer = build_optimizer(model, config.optimizer)
        return Stepper(
            parallel=Parallel(model),
            tasks=self.tasks.trained,
            adversaries=adversaries,
            average=average,
            balance=build_balance(
                config.train.loss_balance,
                config.train.balance_lr,
                self.tasks.trained,
                self.train_splits,
                self.device,
            ),
            dropout_floor_every_steps=config.log.dropout_floor_every_steps,
            distillation=config.distillation,
            surgery=build_surgery(config.train.gradient_surgery, adversaries),
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
        names = self._names()
        weights = {name: parameter for parameter, name in names.items()}
        slow = {f"lookahead::{name}": parameter for name, parameter in weights.items()}
        tensors = read_trainer_tensors(checkpoint, "optimizer", {**weights, **slow})
        load_optimizer_tensors(self.stepper.optimizer, names, tensors)
        self.stepper.schedule.load_state_dict(state["schedule"])
        self.stepper.scaler.load_state_dict(state["scaler"])
        self.stepper.balance.load_state_dict(state["balance"])
        for name, adversary in self.stepper.adversaries.items():
            adversary.load_state_dict(state["adversaries"][name])
        if self.stepper.average is not None:
            self.stepper.average.load_state_dict(read_trainer_tensors(checkpoint, "average", self.model.state_dict()))
        self.notices.append(f"resuming {self.folder} after update {progress.position.step} of {self.steps}")

    def _names(self) -> dict[torch.nn.Parameter, str]:
        return {parameter: name for name, parameter in self.model.named_parameters()}

    def __call__(self) -> dict[str, Any] | int:
        """Trains what remains, finishes and gives the summary; or the number of the signal that stopped it."""
        with locked(self.folder) if is_main() else nullcontext(), stop_signals() as stop:
            barrier()  # all have read what was there
            if is_main():
                self._write_inputs()
            for notice in self.notices:
                say(notice)
            position = self.progress.position
            log = MetricsLog(self.folder, tensorboard=self.config.log.tensorboard, resume_step=position.step)
            try:
                with explained(lambda: f"after update {self.progress.position.step}"):
                    stopped = 0 if self.progress.finished else self._train(log, stop)
                    return stopped or self._finish(stop)
            finally:
                log.close()

    def _train(self, log: MetricsLog, stop: list[int]) -> int:
        """Trains what remains; returns the number of the signal that stopped it, or 0."""
        position = self.progress.position
        started = time.perf_counter()
        window = {"examples": 0, "tokens": 0}
        events = train(self.stepper, self.train_splits, self.plan, device=self.device, start=position)
        with tqdm(
            total=self.steps, initial=position.step, desc="train", unit="update", smoothing=0.1, disable=not is_main()
        ) as bar:
            for event in events:
                self.progress.count(event)
                window = {key: value + getattr(event, key) for key, value in window.items()}
                bar.update()
                if event.position.step % self.config.log.every_steps == 0 or event.last:
                    seconds, started = time.perf_counter() - started, time.perf_counter()
                    record = self._log_record(event, window, seconds)
                    log.write(record)
                    bar.set_postfix(loss=f"{record['loss']:.4f}", epoch=event.position.epoch)
                    window = dict.fromkeys(window, 0)
                stopping = max_over_ranks(stop[0] if stop else 0)  # a signal after this line waits for the next update
                self._after_step(event, log, bool(stopping))
                if stopping:
                    say(f"stopped after update {event.position.step}; the same command continues from there")
                if stopping or self.progress.finished:
                    return stopping
        return 0

    def _figures(self) -> dict[str, float]:
        """The figures since the last line of the log, over all ranks.

        Raises:
            UserError: the loss is not finite.
        """
        figures = self.progress.collect()
        self._require(math.isfinite(figures.get("loss", 0.0)), "the loss")
        return figures

    def _check_model(self) -> None:
        """Before anything is scored or saved. An infinite gradient spoils weights while the loss is still finite.

        Raises:
            UserError: the loss since the last line of the log, or a weight, is not finite.
        """
        self._figures()
        spoilt = any(not bool(weight.isfinite().all()) for weight in local_parts(self.model.parameters()))
        self._require(not max_over_ranks(spoilt), "a weight")

    def _require(self, finite: bool, what: str) -> None:
        if not finite:
            raise UserError(
                f"update {self.progress.position.step}: {what} is not finite; lower optimizer.lr, or use "
                "train.precision=fp32. The last checkpoint is from before"
            )

    def _log_record(self, event: Step, window: dict[str, int], seconds: float) -> dict[str, Any]:
        position, figures = event.position, self._figures()
        counts = all_gather(window)
        record = {
            "event": "train",
            "step": position.step,
            "epoch": position.epoch,
            "loss": figures.pop("loss"),
            "lr": event.lr,
            "grad_norm": float(event.grad_norm),
            **{f"{key}_per_s": round(sum(own[key] for own in counts) / seconds, 2) for key in window},
        }
        self.progress.window = Telemetry()
        groups = {"loss_factors": self.stepper.balance.figures(), "adversary": figures}
        return {**record, **{name: group for name, group in groups.items() if group}}

    def _after_step(self, event: Step, log: MetricsLog, stopping: bool) -> None:
        step, every = event.position.step, self.config.evaluation.every_steps
        self.progress.finished = event.last
        if event.epoch_end:
            self._write_tallies(event.position.epoch)
        evaluates = event.last or (event.epoch_end if every is None else step % every == 0)
        saves = self.config.checkpoint.every_steps and step % self.config.checkpoint.every_steps == 0
        if evaluates or saves or stopping:
            self._check_model()
            if evaluates:
                self._evaluate(log)
            self._save()

    def _write_tallies(self, epoch: int) -> None:
        """What the adversaries have gathered in this epoch, such as the tallies of TAT."""
        for name, adversary in self.stepper.adversaries.items():
            record = adversary.record()
            if record is not None and is_main():
                write_json(self.folder / "adversary" / f"{name}-epoch-{epoch:03d}.json", {"epoch": epoch, **record})

    def _evaluate(self, log: MetricsLog) -> None:
        """Scores the dev splits and decides whether this is the best model so far."""
        scores: Scores = {}
        self.decoder.forget()
        for task, split, decoded in self.decoder(self.dev_splits):
            gold, definition = self.dev_splits[task, split], self.tasks.evaluated[task]
            if task in self.model.heads and tune_threshold(self.model, definition, gold, decoded):
                self.decoder.forget(task)
                ((_, _, decoded),) = self.decoder({(task, split): gold})
            scores.setdefault(task, {})[split] = score(definition, gold, decoded)
        progress, metric = self.progress, self.config.evaluation.metric
        own = {name: value for name, value in scores.items() if name in self.tasks.trained}
        value = selection_score(metric, own) if metric is not None and own else None
        best = value is not None and progress.better(value)
        progress.finished |= value is not None and self.config.evaluation.patience == progress.stale
        position = progress.position
        record = {"step": position.step, "epoch": position.epoch, "scores": scores, "selection": value, "best": best}
        log.write({"event": "evaluation", **record})
        if value is not None:
            mark = " (best so far)" if best else ""
            say(f"update {position.step}: dev {metric} {100 * value:.2f}{mark}")

    def _save(self) -> None:
        for adversary in self.stepper.adversaries.values():
            adversary.collect()
        step = self.progress.position.step
        state = {
            "progress": self.progress.state_dict(),
            "schedule": self.stepper.schedule.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "balance": self.stepper.balance.state_dict(),
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
        if is_main():
            if best is not None:
                mark_best(self.folder, best)
            prune(self.folder, {step, best} - {None})  # type: ignore[arg-type]
        barrier()

    def _trainer_tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Files of tensors that only training needs."""
        tensors = {"optimizer": optimizer_tensors(self.stepper.optimizer, self._names())}
        if self.stepper.average is not None:
            tensors["average"] = self.stepper.average.state_dict()
        return tensors

    def _finish(self, stop: list[int]) -> dict[str, Any] | int:
        """Scores and predictions of the best model on every split but the training ones; writes summary.json."""
        best = self.progress.best_step
        if best != self.progress.position.step:
            self.decoder.forget()
        if best is not None and best != self.progress.position.step:
            load_encoder_weights(self.model, checkpoint_path(self.folder, best))
            load_rest(self.model, checkpoint_path(self.folder, best))
        splits = {key: split for key, split in self.splits.items() if key[1] != "train"}
        results = []
        for name, split_name, decoded in self.decoder(splits):
            if stopped := max_over_ranks(stop[0] if stop else 0):
                return stopped
            task, split = self.tasks.evaluated[name], splits[name, split_name]
            if self.config.evaluation.predictions and is_main():
                path = self.folder / "predictions" / f"{name}_{split_name}.jsonl"
                write_predictions(path, task, split, decoded)
            if split.labels is not None:
                results.append(result(task, split_name, split, decoded))
        summary = {
            "name": self.config.name,
            "seed": self.config.seed,
            "steps": self.progress.position.step,
            "selected_step": best or self.progress.position.step,
            "selection": {"metric": self.config.evaluation.metric, "score": self.progress.best_score},
            "results": results,
        }
        if is_main():
            write_json(self.folder / "summary.json", summary)
        return summary

    def _write_inputs(self) -> None:
        if not (self.folder / "config.yml").exists():
            dump_config(self.config, self.folder / "config.yml")
            dump_task_defs(self.tasks.evaluated, self.folder / "task_defs.yml")
