"""Adversarial modes: what they must equal, where perturbations may lie, which way they go, what they leave alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from data_utils.errors import UserError
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.adversarial.average import build_average
from mt_dnn.adversarial.base import Adversary, Options
from mt_dnn.adversarial.modes import ADVERSARIES, build_adversaries, options_of
from mt_dnn.adversarial.perturbation import per_sentence
from mt_dnn.adversarial.replay import Replay
from mt_dnn.adversarial.vat import VAT
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch, Share
from mt_dnn.batches.collate import collate
from mt_dnn.encoders.dropout import Masks
from mt_dnn.encoders.encoder import EMBEDDINGS, Level
from mt_dnn.encoders.load import load_encoder
from mt_dnn.runs.config import HeadsConfig, RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.runs.start import Parts, start
from mt_dnn.tasks.model import Model
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.loop import Position, train
from tests.parts import parts
from tests.tiny import FAMILIES, tiny_encoder
from tests.workspace import make_workspace

NO_DROPOUT = ["encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0"]
SGD = ["optimizer.name=sgd", "optimizer.lookahead.enabled=false", "schedule.warmup_fraction=0"]
MODES = {name: ({"max_layer": 2} if name == "rapt" else {}) for name in ADVERSARIES}
BALL_MODES = ("freelb", "pgd", "freeat", "yopo")
BALL: dict[str, Any] = {"step_size": 0.3, "radius": 0.25, "init_magnitude": 0.1, "passes": 4}
STEPS: dict[str, Any] = {
    "noise_std": 0.02,
    "step_size": 0.05,
    "radius": 1.0,
    "normalize_gradient": "sentence",
    "gradient_norm": "2",
}
STILL_BALL: dict[str, Any] = {"init_magnitude": 0, "step_size": 0}  # δ stays 0
STILL: dict[str, Any] = {"noise_std": 0, "step_size": 0}
RAW: dict[str, Any] = {"noise_std": 0.02, "radius": 1.0}  # and a step along the gradient as it is


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adversarial")
    make_workspace(folder)
    return folder


@dataclass(frozen=True)
class Spy(View):
    """A view that keeps the states handed to it and the logits it gave."""

    entered: list[Tensor] = field(default_factory=list)  # at level 0
    left: list[Tensor] = field(default_factory=list)  # by passes from there up to a block
    levels: list[Level] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def upto(self, level: Level, words: Tensor | None = None) -> Tensor:
        state = super().upto(level, words)
        if words is not None:
            self.entered.append(words.detach())
            self.left.append(state.detach())
        return state

    def resume(self, state: Tensor, level: Level, *, trains: bool = True) -> Tensor:
        logits = super().resume(state, level, trains=trains)
        self.levels.append(level)
        self.logits.append(logits.detach())
        if level == 0:
            self.entered.append(state.detach())
        return logits

    def deltas(self) -> list[Tensor]:
        """Level-0 perturbations in the order of the passes, each (T, H)."""
        words = self.model.upto(0, self.batch).detach()
        return [state - words for state in self.entered]


def build(folder: Path, *options: str) -> Parts:
    """A run whose weights are large enough for perturbations to matter."""
    return moved(parts(folder, *options))


def untrained(folder: Path, *options: str) -> Parts:
    """As ``build``, for tests that make no update: what each of them gets is a copy of a run that was built once."""
    run, nothing = built_once(folder, *options), cast(Any, None)
    return moved(replace(run, model=copy.deepcopy(run.model), stepper=nothing, decoder=nothing))


@cache
def built_once(folder: Path, *options: str) -> Parts:
    return parts(folder, *options)


def moved(run: Parts) -> Parts:
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    run.model.train()
    return run


def spy_on(
    run: Parts, task: str = "same", *, seed: int = 5, positions: tuple[int, ...] = (0, 1, 2, 3, 4), **more: Any
) -> Spy:
    """Of the first five rows, or of those at some places, as if other ranks had the rest."""
    share = Share(seed, positions, global_size=5)
    batch = collate(run.train_splits[task], [0, 1, 2, 3, 4], task=task, share=share)
    return Spy(run.model, batch, run.tasks.trained[task], Telemetry(), **more)


def adversary(mode: str, task: TaskDef, **options: Any) -> Adversary[Any]:
    chosen = ADVERSARIES[mode].options_type.model_validate({"mode": mode, **MODES[mode], **options})
    return ADVERSARIES[mode](chosen, task)


def losses_of(view: View, mode: str, **options: Any) -> list[Tensor]:
    """The losses of one call; backward has run on each, as the stepper does. Dropout starts from the same masks."""
    torch.manual_seed(5)
    view.masks.position = (0, False)
    view.model.zero_grad()
    losses = []
    for loss in adversary(mode, view.task, **options)(view):
        loss.backward()
        losses.append(loss.detach())
    return losses


def gradients(model: Model) -> dict[str, Tensor]:
    """Copies of all gradients. That of the word embeddings is sparse."""
    return {name: p.grad.clone().to_dense() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], *, atol: float = 1e-6) -> None:
    torch.testing.assert_close(one, other, atol=atol, rtol=1e-4)


def weights(run: Parts) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in run.model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


# What must change nothing.


@pytest.mark.parametrize("family", FAMILIES)
def test_at_delta_zero_every_regularizer_is_exactly_zero(family: str, folder: Path, tmp_path: Path) -> None:
    defs = load_task_defs(folder / "tasks.yml")
    tasks = {name: defs[name] for name in ("same", "overlap")}
    model = Model(load_encoder(name=str(tiny_encoder(tmp_path, family))), tasks, tasks, HeadsConfig(dropout=0.1)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    split: Any = parts(folder).train_splits["same"]
    batch = collate(split, [0, 1, 2, 3], task="same")
    for task in tasks.values():
        own = replace(batch, task=task.name)
        view = View(model, own, task, Telemetry())
        clean = model(own)
        for level in (EMBEDDINGS, *range(model.encoder.num_layers + 1)):
            state = view.upto(level)
            difference = view.divergence(clean, view.resume(state + torch.zeros_like(state), level)).item()
            if level != model.encoder.num_layers:
                assert difference == 0
            else:  # the state at the top level has all tokens; without it the last block computes first tokens only
                assert abs(difference) < 1e-12
            assert view.divergence(clean, view.resume(state + 0.5 * torch.randn_like(state), level)).item() > 1e-6


WITHOUT_EFFECT: list[tuple[str, dict[str, Any]]] = [
    ("rapt", {"magnitude": 0}),
    ("rapt", {"magnitude": 0, "share_prefix": False}),
    ("rapt", {"magnitude": 0, "max_layer": 0}),
    ("rapt", {"magnitude": 1, "weight": 0}),
    ("freelb", STILL_BALL),
    ("freelb", {**STILL_BALL, "include_clean": True}),
    ("freelb", {"passes": 1, "init_magnitude": 0}),
    ("pgd", STILL_BALL),
    ("yopo", STILL_BALL),
    ("vat", STILL),
    ("vat", {**STILL, "projection": "normalize", "steps": 2}),
    ("vat", {**STEPS, "weight": 0}),
    ("tat", {**STILL, "reuse_clean_pass": True}),
    ("tat", {**STEPS, "weight": 0}),
    ("r3f", {"epsilon": 0}),
    ("r3f", {"epsilon": 1, "weight": 0}),
    ("rdrop", {}),
]


@pytest.mark.parametrize("task", ["same", "overlap"])
@pytest.mark.parametrize(("mode", "options"), WITHOUT_EFFECT)
def test_without_perturbation_and_dropout_a_mode_is_plain_training(
    mode: str, options: dict[str, Any], task: str, folder: Path
) -> None:
    view = spy_on(untrained(folder, *NO_DROPOUT), task)
    (plain,) = losses_of(view, "none")
    expected = gradients(view.model)
    losses = losses_of(view, mode, **options)
    torch.testing.assert_close(torch.stack(losses).sum(), plain)
    assert_close(gradients(view.model), expected)


def test_every_pass_of_freeat_is_plain_training_at_delta_zero(folder: Path) -> None:
    view = spy_on(untrained(folder, *NO_DROPOUT))
    (plain,) = losses_of(view, "none")
    assert torch.stack(losses_of(view, "freeat", **STILL_BALL)).tolist() == pytest.approx([plain.item()] * 3)


def test_yopo_with_one_inner_step_is_freelb(folder: Path) -> None:
    run = untrained(folder)  # dropout on: its masks are the same too
    expected = losses_of(spy_on(run), "freelb", **BALL)
    theirs = gradients(run.model)
    torch.testing.assert_close(losses_of(spy_on(run), "yopo", inner_steps=1, **BALL), expected)
    assert_close(gradients(run.model), theirs)
    assert not torch.equal(torch.stack(losses_of(spy_on(run), "yopo", inner_steps=2, **BALL)), torch.stack(expected))


def test_freelb_reports_the_losses_of_its_first_and_last_pass(folder: Path) -> None:
    for mode in ("freelb", "freeat"):
        view = spy_on(untrained(folder))
        losses = losses_of(view, mode, **BALL)
        figures, passes = view.telemetry.values(), len(losses) if mode == "freelb" else 1
        assert figures["first_pass_loss"] == pytest.approx(losses[0].item() * passes)
        assert figures["last_pass_loss"] == pytest.approx(losses[-1].item() * passes)
        assert figures["first_pass_loss"] < figures["last_pass_loss"]  # the steps go up


def test_r3f_leaves_regression_alone(folder: Path) -> None:
    view = spy_on(untrained(folder), "overlap")
    (plain,) = losses_of(view, "none")
    expected = gradients(view.model)
    (loss,) = losses_of(view, "r3f", epsilon=1.0)
    assert torch.equal(loss, plain) and same(gradients(view.model), expected)


def test_a_gradient_at_the_clean_pass_is_that_at_small_noise(folder: Path) -> None:
    deltas = []
    for reuse in (False, True):
        view = spy_on(untrained(folder, *NO_DROPOUT))
        losses_of(view, "tat", **{**STEPS, "noise_std": 1e-5}, reuse_clean_pass=reuse)
        assert len(view.logits) == 3 - reuse  # one forward pass less
        deltas.append(view.deltas()[-1])
    torch.testing.assert_close(deltas[0], deltas[1], atol=1e-5, rtol=1e-2)
    assert per_sentence(deltas[0], view.batch).min() > 0.04


# Dropout masks.


@pytest.mark.parametrize("mode", BALL_MODES)
def test_replayed_masks_give_identical_passes(mode: str, folder: Path) -> None:
    view = spy_on(untrained(folder))
    losses_of(view, mode, **STILL_BALL, reuse_dropout_mask=True)
    assert len(view.logits) >= 3 and all(torch.equal(logits, view.logits[0]) for logits in view.logits)
    view = spy_on(untrained(folder))
    losses_of(view, mode, **STILL_BALL, reuse_dropout_mask=False)
    assert not any(torch.equal(logits, view.logits[0]) for logits in view.logits[1:])


def test_inner_steps_of_yopo_have_the_masks_of_the_full_passes(folder: Path) -> None:
    for reuse in (True, False):
        view = spy_on(untrained(folder))
        losses_of(view, "yopo", **STILL_BALL, inner_steps=3, reuse_dropout_mask=reuse)
        assert len(view.left) == 3 + 2 * 2
        assert all(torch.equal(state, view.left[0]) == reuse for state in view.left[1:])


def test_replayed_masks_give_identical_losses_of_freelb(folder: Path) -> None:
    for options in ({}, {"include_clean": True}):
        kept = losses_of(spy_on(untrained(folder)), "freelb", **STILL_BALL, **options)
        assert len({loss.item() for loss in kept}) == 1
        fresh = losses_of(spy_on(untrained(folder)), "freelb", **STILL_BALL, reuse_dropout_mask=False, **options)
        assert len({loss.item() for loss in fresh}) == len(fresh)


@pytest.mark.parametrize("family", FAMILIES)
def test_passes_of_freelb_share_masks_in_every_family(family: str, tmp_path: Path) -> None:
    """Packed and padded, with a head that draws by itself, and with blocks that run again in the backward pass."""
    make_workspace(tmp_path, more=["linked"])
    encoder, found = tiny_encoder(tmp_path / family, family), []
    for recomputed in ("false", "true"):
        options = [f"encoder.name={encoder}", "tasks=[linked]", f"train.activation_checkpointing={recomputed}"]
        run = build(tmp_path, *options)
        view = spy_on(run, "linked")
        losses = losses_of(view, "freelb", **STILL_BALL)
        assert len(view.logits) == 3 and all(logits.equal(view.logits[0]) for logits in view.logits)
        found.append((torch.stack(losses), gradients(run.model)))
    assert found[0][0].equal(found[1][0]) and same(found[0][1], found[1][1])


def test_a_replay_sets_back_the_generator_of_an_accelerator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, states = torch.device("cuda", 1), {torch.device("cuda", 1): "before"}
    monkeypatch.setattr(torch.cuda, "get_rng_state", states.__getitem__)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({device: state}))
    view: Any = SimpleNamespace(batch=SimpleNamespace(input_ids=SimpleNamespace(device=device)), masks=Masks(0))
    for enabled, then in ((False, "after"), (True, "before")):
        states[device] = "before"
        replay, cpu = Replay(view, enabled=enabled), torch.get_rng_state()
        states[device] = "after"
        torch.rand(3)
        with replay:
            assert states == {device: then} and torch.get_rng_state().equal(cpu) == enabled


@pytest.mark.parametrize("attention", ["packed", "padded"])
@pytest.mark.parametrize("level", ["words", "embeddings"])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("mode", ["vat", "tat"])
def test_replayed_masks_leave_no_regularizer_at_delta_zero(
    mode: str, steps: int, level: str, attention: str, folder: Path
) -> None:
    still = {**STILL, "steps": steps, "level": level}
    view = spy_on(untrained(folder, f"encoder.attention={attention}"))
    losses_of(view, mode, **still, reuse_dropout_mask=True)
    assert view.telemetry.values()["regularizer"] == 0
    view = spy_on(untrained(folder, f"encoder.attention={attention}"))
    losses_of(view, mode, **still, reuse_dropout_mask=False)
    assert view.telemetry.values()["regularizer"] > 1e-5


@pytest.mark.parametrize(
    ("mode", "options", "shared"),
    [
        ("vat", {}, False),
        ("vat", {"reuse_dropout_mask": True}, True),
        ("tat", {"reuse_clean_pass": True}, True),
        ("r3f", {}, True),
        ("rapt", {"max_layer": 0}, True),
        ("rapt", {"max_layer": 0, "share_prefix": False}, False),
    ],
)
def test_dropout_inside_the_embedding_module(mode: str, options: dict[str, Any], shared: bool, folder: Path) -> None:
    """The only dropout here. The floor tells whether the two passes that a mode compares share its mask."""
    run = untrained(folder, "encoder.attention_dropout=0", "heads.dropout=0")
    encoder: Any = run.model.encoder.model.encoder
    for block in encoder.modules():
        if isinstance(block, nn.Dropout):
            block.p = 0.0
    view = spy_on(run)
    quiet = {"r3f": {"epsilon": 0}, "rapt": {"magnitude": 0}}.get(mode, STILL)
    losses_of(view, mode, **quiet, level="embeddings", **options)
    torch.manual_seed(5)
    adversary(mode, view.task, **quiet, level="embeddings", **options).measure_dropout_floor(view)
    figures = view.telemetry.values()
    rounding = 1e-6  # of single precision, on any processor; other masks give more than 1e-5
    assert (figures["regularizer"] < rounding) == (figures["dropout_floor"] < rounding) == shared


# Where perturbations lie and which way they go.


@pytest.mark.parametrize("mode", BALL_MODES)
def test_a_sentence_never_leaves_its_ball(mode: str, folder: Path) -> None:
    view = spy_on(untrained(folder))
    losses_of(view, mode, **BALL)
    lengths = torch.stack([per_sentence(delta, view.batch) for delta in view.deltas()])
    assert lengths[0].max() <= 0.1 and len(lengths) >= 4
    assert lengths.max() <= 0.25 + 1e-5 and lengths[1:].min() > 0.2


@pytest.mark.parametrize("mode", (*BALL_MODES, "vat", "tat"))
def test_without_a_radius_nothing_is_bounded(mode: str, folder: Path) -> None:
    """Then δ is what it is under a radius that nothing reaches."""
    options = {**BALL, "step_size": 2} if mode in BALL_MODES else {"noise_std": 0.001, "step_size": 100, "steps": 3}
    found = []
    for radius in (None, 1e9):
        view = spy_on(untrained(folder))
        losses_of(view, mode, **{**options, "radius": radius})
        found.append(view.deltas()[-1])
    assert torch.equal(*found) and per_sentence(found[0], view.batch).min() > 1


@pytest.mark.parametrize("mode", ["vat", "tat"])
def test_no_entry_leaves_its_interval(mode: str, folder: Path) -> None:
    view = spy_on(untrained(folder))
    losses_of(view, mode, noise_std=0.001, step_size=100, radius=0.01, steps=3)
    sizes = [delta.abs().max().item() for delta in view.deltas()[2:]]
    assert len(sizes) == 3 and all(0.0099 < size <= 0.01 + 1e-6 for size in sizes)


def test_tat_steps_towards_its_targets(folder: Path) -> None:
    view = spy_on(untrained(folder, *NO_DROPOUT))
    losses_of(view, "tat", **STEPS)
    _, before, after = (view.loss(logits, 1 - view.labels, reduction="none") for logits in view.logits)
    assert (after < before - 1e-4).all()


def test_tat_steps_towards_a_wrong_value(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = spy_on(untrained(folder, *NO_DROPOUT), "overlap")
    targets = torch.tensor([4.75, 0.25, 4.0, 3.0, 2.0])
    monkeypatch.setattr("mt_dnn.adversarial.tally.Tally.sample", lambda *_: targets)
    losses_of(view, "tat", **STEPS)
    _, before, after = (view.loss(logits, targets, reduction="none") for logits in view.logits)
    assert (after < before - 1e-4).all()


def test_vat_steps_away_from_the_clean_answer(folder: Path) -> None:
    for task in ("same", "overlap"):
        view = spy_on(untrained(folder, *NO_DROPOUT), task)
        losses_of(view, "vat", **STEPS)
        clean, *perturbed = view.logits
        before, after = (view.divergence(clean, logits, reduction="none") for logits in perturbed)
        assert (after > before).all() and after.mean() > 2 * before.mean()


@pytest.mark.parametrize("mode", BALL_MODES)
def test_ascent_raises_the_loss_of_the_gold_answer(mode: str, folder: Path) -> None:
    view = spy_on(untrained(folder, *NO_DROPOUT))
    losses_of(view, mode, **{**BALL, "step_size": 0.05, "passes": 3})
    losses = torch.stack([view.loss(logits, reduction="none") for logits in view.logits])
    assert len(losses) >= 3 and (losses.diff(dim=0) > 1e-4).all()


@pytest.mark.parametrize(
    ("mode", "options"),
    [("vat", {**STEPS, "steps": 2}), ("vat", {**RAW, "step_size": 300.0})]
    + [("tat", STEPS), ("tat", {**RAW, "step_size": 3.0, "reuse_clean_pass": True})]
    + [(mode, {**BALL, "passes": 2}) for mode in BALL_MODES],
)
def test_a_perturbation_does_not_depend_on_the_rest_of_the_batch(
    mode: str, options: dict[str, Any], folder: Path
) -> None:
    run = untrained(folder, *NO_DROPOUT)

    def perturbation(view: Spy, **more: Any) -> Tensor:
        losses_of(view, mode, **{**options, **more})
        return view.deltas()[-1]

    whole = spy_on(run)
    together, noise = perturbation(whole), perturbation(spy_on(run), step_size=0.0)
    for row in range(5):
        here = slice(int(whole.batch.offsets[row]), int(whole.batch.offsets[row + 1]))
        alone = perturbation(spy_on(run, positions=(row,)))
        torch.testing.assert_close(alone, together[here], atol=2e-5, rtol=1e-3)
        assert (alone - noise[here]).norm() > 0.02


class Damaged(Spy):
    """The gradient of the second example is not a number."""

    def gradient(self, loss: Tensor, of: Tensor, *, keep_graph: bool = False) -> Tensor:
        gradient = super().gradient(loss, of, keep_graph=keep_graph).clone()
        gradient[int(self.batch.offsets[1])] = float("nan")
        return gradient


@pytest.mark.parametrize(
    ("mode", "options"),
    [("vat", {**STEPS, "steps": 2}), ("tat", STEPS), ("tat", {**STEPS, "reuse_clean_pass": True}), ("pgd", BALL)],
)
def test_an_example_without_a_gradient_keeps_its_noise_and_is_counted(
    mode: str, options: dict[str, Any], folder: Path
) -> None:
    view = spy_on(untrained(folder, *NO_DROPOUT))
    losses_of(view, mode, **options)
    damaged = Damaged(view.model, view.batch, view.task, Telemetry())
    (loss,) = losses_of(damaged, mode, **options)
    here = slice(int(view.batch.offsets[1]), int(view.batch.offsets[2]))
    others = torch.ones(len(view.batch.input_ids), dtype=torch.bool)
    others[here] = False
    whole, delta = view.deltas()[-1], damaged.deltas()[-1]
    assert torch.equal(delta[others], whole[others]) and not torch.equal(delta[here], whole[here])
    unmoved = spy_on(untrained(folder, *NO_DROPOUT))
    losses_of(unmoved, mode, **{**options, "step_size": 0.0})
    torch.testing.assert_close(delta[here], unmoved.deltas()[-1][here])
    steps = options.get("steps", 1) if mode != "pgd" else 4
    assert loss.isfinite() and damaged.telemetry.values()["nonfinite"] == steps


class DamagedLate(Spy):
    """As soon as the second example has taken a step, its gradient is not a number."""

    def gradient(self, loss: Tensor, of: Tensor, *, keep_graph: bool = False) -> Tensor:
        gradient = super().gradient(loss, of, keep_graph=keep_graph).clone()
        if self.telemetry.sums:
            gradient[int(self.batch.offsets[1])] = float("nan")
        return gradient


@pytest.mark.parametrize(("mode", "options"), [("vat", {**STEPS, "steps": 2}), ("pgd", {**BALL, "passes": 2})])
def test_an_example_that_loses_its_gradient_goes_back_to_its_noise(
    mode: str, options: dict[str, Any], folder: Path
) -> None:
    view = spy_on(untrained(folder, *NO_DROPOUT))
    damaged = DamagedLate(view.model, view.batch, view.task, Telemetry())
    losses_of(damaged, mode, **options)
    here = slice(int(view.batch.offsets[1]), int(view.batch.offsets[2]))
    start, step, end = damaged.deltas()[-3:]
    assert not torch.equal(step[here], start[here])
    torch.testing.assert_close(end[here], start[here])
    assert damaged.telemetry.values()["nonfinite"] == 1


# What the log says.


@pytest.mark.parametrize(
    ("mode", "options", "length"),
    [
        ("vat", {**STEPS, "steps": 3}, 3 * 0.05),
        ("tat", {**STEPS, "steps": 2}, 2 * 0.05),
        ("freelb", BALL, 3 * 0.3),
        ("freeat", BALL, 3 * 0.3),
        ("pgd", BALL, 4 * 0.3),
        ("yopo", {**BALL, "inner_steps": 3}, 9 * 0.3),
    ],
)
def test_the_share_of_the_gradient_counts_every_step(
    mode: str, options: dict[str, Any], length: float, folder: Path
) -> None:
    view = spy_on(untrained(folder))
    losses_of(view, mode, **options)
    first = view.deltas()[0 if mode in BALL_MODES else 1]  # the clean pass comes before
    noise = per_sentence(first, view.batch)
    expected = (length / (noise + length)).mean().item()
    assert view.telemetry.values()["gradient_share"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("mode", ["vat", "tat", "rapt", "r3f", "rdrop"])
def test_the_regularizer_is_logged_without_its_weight(mode: str, folder: Path) -> None:
    figures = []
    for weight in (1.0, 5.0):
        view = spy_on(untrained(folder))
        losses_of(view, mode, weight=weight)
        figures.append(view.telemetry.values()["regularizer"])
    assert figures[0] == figures[1] > 0


@pytest.mark.parametrize("tally", ["hard", "soft", "fixed"])
def test_tat_counts_what_the_clean_pass_predicts(tally: str, folder: Path) -> None:
    view = spy_on(untrained(folder))
    tat = adversary("tat", view.task, tally=tally)
    for loss in tat(view):
        loss.backward()
    p = view.logits[0].double().softmax(1)
    counted = {"hard": F.one_hot(p.argmax(1), 2).double(), "soft": p, "fixed": torch.zeros_like(p)}[tally]
    expected = torch.stack([counted[view.labels == label].sum(0) for label in range(2)])
    torch.testing.assert_close(torch.tensor(tat.state_dict()["current"], dtype=torch.float64), expected)


def test_a_target_value_lies_anywhere_in_its_bin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number that chooses the bin is not the one that places the value in it."""
    chosen: list[tuple[Tensor, ...]] = []

    def sample(tally: Any, labels: Tensor, *numbers: Tensor) -> Tensor:
        chosen.append(numbers)
        return labels

    monkeypatch.setattr("mt_dnn.adversarial.tally.Tally.sample", sample)
    losses_of(spy_on(untrained(folder), "overlap"), "tat")
    ((chances, inside, _),) = chosen
    assert chances.shape == inside.shape == (5,) and not (chances == inside).any()


# What modes leave alone.


@pytest.mark.parametrize(
    ("mode", "options"),
    [("vat", {"steps": 2}), ("tat", {"steps": 2}), ("tat", {"reuse_clean_pass": True}), ("pgd", {})],
)
def test_steps_of_delta_compute_no_gradient_of_a_weight(mode: str, options: dict[str, Any], folder: Path) -> None:
    view = spy_on(untrained(folder))
    view.model.zero_grad()
    loss = next(adversary(mode, view.task, **options)(view))
    assert not gradients(view.model)
    loss.backward()
    assert gradients(view.model)


@pytest.mark.parametrize("mode", BALL_MODES)
def test_only_backward_adds_to_the_gradients_of_weights(mode: str, folder: Path) -> None:
    view = spy_on(untrained(folder))
    before: dict[str, Tensor] = {}
    for loss in adversary(mode, view.task, **BALL, **({"inner_steps": 3} if mode == "yopo" else {}))(view):
        assert same(gradients(view.model), before)
        loss.backward()
        before = gradients(view.model)
    assert before and same(gradients(view.model), before)


@pytest.mark.parametrize("mode", [*MODES, "tat reuse"])
def test_frozen_embeddings_change_no_other_gradient(mode: str, folder: Path) -> None:
    mode, _, reuse = mode.partition(" ")
    options = {"reuse_clean_pass": True} if reuse else {}
    view = spy_on(untrained(folder))
    expected = losses_of(view, mode, **options)
    free = gradients(view.model)
    frozen = spy_on(untrained(folder, "optimizer.freeze=[embeddings]"))
    assert not frozen.upto(0).requires_grad
    assert torch.equal(torch.stack(losses_of(frozen, mode, **options)), torch.stack(expected))
    rest = {name: gradient for name, gradient in free.items() if ".embeddings." not in name}
    assert 0 < len(rest) < len(free)
    assert_close(gradients(frozen.model), rest)


@pytest.mark.parametrize("mode", ["vat", "tat", "pgd"])
def test_the_scale_of_inner_losses_cancels(mode: str, folder: Path) -> None:
    deltas = []
    for scale in (1.0, 1024.0):
        view = spy_on(untrained(folder, *NO_DROPOUT), scale=scale)
        losses_of(view, mode, **({"passes": 2} if mode == "pgd" else {"noise_std": 0.02, "radius": 1, "step_size": 30}))
        deltas.append(view.deltas()[-1])
    torch.testing.assert_close(deltas[0], deltas[1], atol=1e-6, rtol=1e-4)
    assert per_sentence(deltas[0], view.batch).min() > 0.1


# Single modes.


@pytest.mark.parametrize(("max_layer", "levels"), [(0, {0}), (1, {1}), (2, {1, 2})])
@pytest.mark.parametrize("shared", [True, False])
def test_rapt_draws_every_level_from_1_to_max_layer(
    max_layer: int, levels: set[int], shared: bool, folder: Path
) -> None:
    run, drawn = untrained(folder), set()
    for seed in range(20):
        view = spy_on(run, seed=seed)
        losses_of(view, "rapt", max_layer=max_layer, share_prefix=shared)
        drawn.add(view.levels[-1])
    assert drawn == levels


@pytest.mark.parametrize(
    "options",
    [["adversary.mode=rapt"], ["adversary.tasks.same.mode=rapt", "adversary.mode=none"]],
)
def test_rapt_asks_for_no_more_blocks_than_there_are(options: list[str], folder: Path) -> None:
    with pytest.raises(UserError, match=r"adversary\S*max_layer: 3, but the encoder has 2 blocks") as caught:
        parts(folder, *options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [["adversary.mode=rapt", "adversary.max_layer=1"], ["adversary.mode=yopo"]])
def test_modes_that_go_on_from_a_block_refuse_a_scalar_mix(options: list[str], folder: Path) -> None:
    with pytest.raises(UserError, match=r"^encoder\.scalar_mix: .*; set encoder\.scalar_mix=false"):
        parts(folder, "encoder.scalar_mix=true", *options)
    run = parts(folder, "encoder.scalar_mix=true", "adversary.mode=rapt", "adversary.max_layer=0")
    assert run.model.encoder.mix is not None


def updates(run: Parts, config: RunConfig, count: int) -> dict[str, Tensor]:
    """Weights after so many updates of the run."""
    steps = train(run.stepper, run.train_splits, run.plan, device=run.device, start=Position())
    for _ in range(count):
        next(steps)
    return weights(run)


def test_the_head_of_r4f_has_spectral_norm_one(folder: Path) -> None:
    config = load_config(folder / "run.yml", ["adversary.mode=r4f", "adversary.tasks.negated.mode=none"])
    run = start(config)
    updates(run, config, 18)
    run.model.eval()
    heads: Any = run.model.heads
    norms = {name: torch.linalg.matrix_norm(heads[name].linear.weight, 2).item() for name in heads}
    assert norms["same"] == pytest.approx(1, abs=1e-3) and norms["overlap"] == pytest.approx(1, abs=1e-3)
    assert norms["negated"] < 0.8


def test_every_linear_layer_of_an_r4f_head_is_normalised(tmp_path: Path) -> None:
    make_workspace(tmp_path, more=["linked"])
    heads = parts(tmp_path, "tasks=[linked]", "adversary.mode=r4f").model.heads
    layers = [layer for layer in heads.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) > 1 and all(is_parametrized(layer, "weight") for layer in layers)


def test_the_norm_of_an_r4f_head_is_computed_in_full_precision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, autocast would multiply in 16 bits."""
    model, enabled, multiply = parts(folder, "tasks=[same]", "adversary.mode=r4f").model, [], torch.mv
    linear: Any = model.heads["same"].get_submodule("linear")

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        enabled.append(torch.is_autocast_enabled("cpu"))
        return multiply(*args, **kwargs)

    monkeypatch.setattr(torch, "mv", watched)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.ones(2, 32)).dtype == torch.bfloat16
    assert enabled and not any(enabled)


def test_the_head_of_r4f_survives_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    def predictions(run: Parts) -> list[Tensor]:
        return [torch.from_numpy(decoded.scores) for _, _, decoded in run.decoder(run.dev_splits)]

    options = ["adversary.mode=r4f", "train.epochs=1", f"output={tmp_path / 'run'}"]
    run = Run(load_config(folder / "run.yml", options))
    untrained, summary = predictions(run.parts), run()
    again = Run(load_config(folder / "run.yml", options))
    assert "resuming" in again.parts.notices[-1]
    pairs = list(zip(predictions(run.parts), predictions(again.parts), untrained, strict=True))
    assert all(torch.equal(one, other) and not torch.equal(one, start) for one, other, start in pairs)
    assert again() == summary


def test_freeat_makes_an_optimizer_step_after_each_pass(folder: Path) -> None:
    for mode, expected in (("freeat", 4), ("freelb", 1)):
        run = build(folder, *SGD, f"adversary.mode={mode}", "adversary.passes=4")
        made: list[int] = []
        run.stepper.optimizer.register_step_post_hook(lambda *_, made=made: made.append(1))
        run.stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
        assert len(made) == expected and run.stepper.schedule.last_epoch == 1


def test_freeat_replays_a_batch_as_so_many_plain_updates(folder: Path) -> None:
    """At δ = 0 without dropout: K ordinary steps on one batch; the loss reported is their mean."""
    options = [*SGD, *NO_DROPOUT, "schedule.name=constant", "optimizer.lr=0.1"]
    run, plain = (
        build(folder, *options, "adversary.mode=freeat", "adversary.step_size=0", "adversary.init_magnitude=0"),
        build(folder, *options),
    )
    batch = collate(run.train_splits["same"], [0, 1, 2], task="same")
    loss, *_ = run.stepper([batch])
    losses = [plain.stepper([batch])[0].item() for _ in range(3)]
    assert losses[0] > losses[1] > losses[2] and loss.item() == pytest.approx(sum(losses) / 3)
    assert_close(weights(run), weights(plain))


def test_freelb_beside_freeat_goes_with_its_optimizer_steps(folder: Path) -> None:
    """At δ = 0 without dropout each pass of both is an ordinary step, on the weights that the one before has made."""
    options = [*SGD, *NO_DROPOUT, "schedule.name=constant", "optimizer.lr=0.1"]
    zero = "step_size: 0, init_magnitude: 0"
    modes = [f"adversary={{mode: freeat, {zero}, tasks: {{negated: {{mode: freelb, {zero}}}}}}}"]
    run, plain = build(folder, *options, *modes), build(folder, *options)
    tasks = plain.stepper.tasks
    third = {**tasks, "negated": tasks["negated"].model_copy(update={"loss_weight": 1 / 3})}
    plain_stepper = replace(plain.stepper, tasks=third)
    update = [collate(run.train_splits[task], [0, 1, 2], task=task) for task in ("same", "negated")]
    run.stepper(update)
    for _ in range(3):
        plain_stepper(update)
    assert_close(weights(run), weights(plain))


def test_the_average_follows_the_weights(folder: Path) -> None:
    bregman = ["adversary.mode=vat", "adversary.bregman={mu: 1, beta: 0.9, beta_after_warmup: 0.5}"]
    run = build(folder, *NO_DROPOUT, *bregman, *SGD, "optimizer.lr=0.1")
    average = build_average(run.model, run.stepper.adversaries.values(), 2)  # of the weights as they are by now
    assert average is not None and not average.model.training
    assert not any(p.requires_grad for p in average.model.parameters())
    stepper = replace(run.stepper, average=average)
    batch = collate(run.train_splits["same"], [0, 1, 2], task="same")
    expected, terms = {name: value.double() for name, value in weights(run).items()}, []
    for step in range(4):
        terms.append(stepper([batch], step)[2].values()["bregman"])
        beta = 0.9 if step < 2 else 0.5
        expected = {name: beta * expected[name] + (1 - beta) * value for name, value in weights(run).items()}
        for name, slow in average.model.named_parameters():
            torch.testing.assert_close(slow.double(), expected[name], atol=1e-6, rtol=0)
    assert terms[0] == 0 and all(term > 0 for term in terms[1:])  # slow and fast weights are equal at the start


def test_tasks_share_one_average(folder: Path) -> None:
    options = ["adversary.mode=vat", "adversary.bregman.beta=0.9", "adversary.tasks.same.bregman.beta=0.8"]
    with pytest.raises(UserError, match=r"adversary\.tasks: bregman\.beta"):
        parts(folder, *options)
    assert build(folder, "adversary.mode=vat").stepper.average is None


# Warm start, settings of single tasks, the dropout floor.


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("none", "r4f")])  # r4f has another head
def test_a_warm_start_is_plain_training_and_then_ends(mode: str, folder: Path) -> None:
    options = [f"adversary.mode={mode}", "adversary.warm_start_steps=2", "schedule.name=constant"]
    options += [f"adversary.{key}={value}" for key, value in MODES[mode].items()]
    adversarial = load_config(folder / "run.yml", options)
    plain = load_config(folder / "run.yml", ["schedule.name=constant"])
    after = {count: [updates(start(c), c, count) for c in (adversarial, plain)] for count in (2, 3)}
    assert same(*after[2]) and not same(*after[3])


def options(mode: str, tasks: dict[str, Any] | None = None, **own: Any) -> Options:
    return ADVERSARIES[mode].options_type.model_validate({"mode": mode, "tasks": tasks or {}, **own})


def test_tasks_have_settings_of_their_own(folder: Path) -> None:
    overrides = ["adversary.mode=freelb", "adversary.step_size=0.3", "adversary.tasks.same.radius=0.2"]
    overrides += ["adversary.tasks.negated.mode=none", "adversary.tasks.overlap={mode: rapt, max_layer: 1}"]
    run = parts(folder, *overrides)
    chosen = {name: one.options.model_dump() for name, one in run.stepper.adversaries.items()}
    assert {name: own["mode"] for name, own in chosen.items()} == {
        "same": "freelb",
        "negated": "none",
        "overlap": "rapt",
    }
    assert (chosen["same"]["radius"], chosen["same"]["step_size"]) == (0.2, 0.3)
    assert (chosen["overlap"]["max_layer"], chosen["overlap"]["magnitude"]) == (1, 2.0)
    for name, figure in (("same", "gradient_share"), ("overlap", "regularizer"), ("negated", None)):
        batch = collate(run.train_splits[name], [0, 1], task=name)
        figures = run.stepper([batch], 1)[2].values()
        assert figure in figures if figure else set(figures) == {f"loss/{name}"}


def test_a_task_of_the_same_mode_takes_the_settings_of_the_run() -> None:
    shared = options(
        "freelb", {"rte": {"radius": 0.2}, "mnli": {"mode": "pgd"}}, passes=5, radius=0.7, warm_start_steps=7
    )
    rte, other, mnli = (options_of(shared, name).model_dump() for name in ("rte", "cola", "mnli"))
    assert (rte["radius"], rte["passes"], rte["warm_start_steps"]) == (0.2, 5, 7)
    assert (other["radius"], other["passes"]) == (0.7, 5)
    assert (mnli["mode"], mnli["passes"], mnli["warm_start_steps"]) == ("pgd", 3, 0)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"mode": "freelbb"}, r"tasks\.rte\.mode: no mode 'freelbb', did you mean 'freelb'"),
        ({"radus": 0.1}, r"tasks\.rte\.radus: no such setting of freelb, did you mean 'radius'"),
        ({"magnitude": 0.1}, r"tasks\.rte\.magnitude: no such setting of freelb"),
        ({"mode": "rapt", "radius": 0.1}, r"tasks\.rte\.radius: no such setting of rapt"),
        ({"passes": 0}, r"tasks\.rte\.passes: "),
        (3, r"tasks\.rte: write a mapping"),
        ({"tasks": {"mnli": {"radius": 0.1}}}, r"tasks\.rte\.tasks"),  # would never be read
    ],
)
def test_a_bad_setting_of_a_task_is_one_line(own: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        options_of(options("freelb", {"rte": own}), "rte")
    assert "\n" not in str(caught.value)


def test_settings_of_a_task_that_is_not_trained_are_refused(folder: Path) -> None:
    tasks = {name: task for name, task in load_task_defs(folder / "tasks.yml").items() if name in ("same", "overlap")}
    with pytest.raises(UserError, match=r"adversary\.tasks: 'sam' is not a training task, did you mean 'same'"):
        build_adversaries(options("freelb", {"sam": {"radius": 1}}), tasks)
    assert build_adversaries(options("freelb", {"same": {"radius": 1}}), tasks)["same"].options.radius == 1


def test_tat_without_a_value_range_is_refused_before_anything_is_written(folder: Path) -> None:
    task = load_task_defs(folder / "tasks.yml")["overlap"].model_copy(update={"value_range": None})
    with pytest.raises(UserError, match="value_range") as caught:
        build_adversaries(options("tat"), {"overlap": task})
    assert "overlap" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("mode", "batches"), [("rapt", 2), ("vat", 2), ("r4f", 1)])
def test_measuring_the_dropout_floor_changes_no_weight(mode: str, batches: int, folder: Path) -> None:
    """It is a setting of the log, which may change between a run and its resumption."""
    after = []
    for every in ("1", "null"):
        own = [f"adversary.{key}={value}" for key, value in MODES[mode].items()]
        overrides = [
            f"adversary.mode={mode}",
            *own,
            f"log.dropout_floor_every_steps={every}",
            f"train.accumulate={batches}",
        ]
        config = load_config(folder / "run.yml", overrides)
        after.append(updates(start(config), config, 6))
    assert same(*after)


def mean_figures(folder: Path, mode: str, count: int, **own: Any) -> dict[str, float]:
    overrides = [f"adversary.mode={mode}", *(f"adversary.{key}={value}" for key, value in own.items())]
    run = build(folder, *SGD, *overrides, "log.dropout_floor_every_steps=1", "optimizer.lr=1e-6")
    batch = collate(run.train_splits["same"], list(range(24)), task="same")
    figures = Telemetry()
    for _ in range(count):
        figures.add(run.stepper([batch])[2])
    return figures.values()


@pytest.mark.parametrize(
    ("mode", "own"),
    [
        ("vat", STILL),
        ("vat", {**STILL, "divergence": "js"}),
        ("vat", {**STILL, "reuse_dropout_mask": "true"}),
        ("tat", {**STILL, "reuse_dropout_mask": "true"}),
        ("rapt", {"max_layer": 0, "magnitude": 0}),
        ("rapt", {"max_layer": 2, "magnitude": 0}),
        ("rapt", {"max_layer": 2, "magnitude": 0, "share_prefix": "false"}),
        ("rdrop", {}),
    ],
)
def test_the_dropout_floor_is_the_regularizer_at_delta_zero(mode: str, own: dict[str, Any], folder: Path) -> None:
    figures = mean_figures(folder, mode, 12, **own)
    assert figures["dropout_floor"] == pytest.approx(figures["regularizer"], rel=0.35)


def test_the_dropout_floor_is_that_of_the_weights_before_the_update(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build(folder, *SGD, "adversary.mode=vat", "log.dropout_floor_every_steps=1", "optimizer.lr=0.1")
    before, measured = weights(run), list[dict[str, Tensor]]()

    def clean_passes(self: VAT, network: View) -> tuple[Tensor, Tensor]:
        measured.append(weights(run))
        return super(VAT, self).clean_passes(network)

    monkeypatch.setattr(VAT, "clean_passes", clean_passes)
    run.stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    assert len(measured) == 1 and same(measured[0], before) and not same(weights(run), before)


@pytest.mark.parametrize(("mode", "passes"), [("vat", 2), ("tat", 2), ("pgd", 1), ("freelb", 3), ("rdrop", 1)])
def test_passes_for_the_perturbation_alone_need_no_wrapper(folder: Path, mode: str, passes: int) -> None:
    """The wrapper of several ranks sees the passes that train the weights, and no others."""
    run = untrained(folder, "tasks=[same]")
    through_wrapper: list[Level] = []

    def wrapper(state: Tensor, level: Level, batch: Batch) -> Tensor:
        through_wrapper.append(level)
        return run.model.resume(state, level, batch)

    view = spy_on(run, parallel_resume=wrapper)
    losses_of(view, mode)
    assert len(through_wrapper) == passes <= len(view.levels)
    assert (len(view.levels) > passes) == (mode in ("vat", "tat", "pgd"))
