"""Every adversarial mode against the algorithm box of its paper: loss and every parameter gradient, dropout off."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.adversarial.presets import read_preset
from mt_dnn.adversarial.tally import Choices, Tally
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch, Share
from mt_dnn.batches.draws import Draws
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.load import load_encoder
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.model import Model
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.parallel import Parallel
from mt_dnn.training.step import Stepper
from tests.copies import fresh
from tests.parity import boxes
from tests.parity.boxes import BOXES, Example, Net, Ordered, Vocabulary
from tests.tiny import tiny_encoder

pytestmark = pytest.mark.usefixtures("in_float64")

TOLERANCE = 1e-9  # absolute and relative; in double precision, rounding stays far below
EFFECT = 1e-4  # what makes a difference changes a gradient or weight by at least this
SEEDS = (3, 6)  # rapt draws the first block with one, the second with the other
FAMILIES: dict[str, dict[str, int]] = {"bert": {}, "xlm-roberta": {"pad_token_id": 1}}
TASKS = {
    "classes": TaskDef(
        name="classes",
        task_type="classification",
        data_format="pair",
        labels=("a", "b", "c"),
        **TASK_TYPES["classification"].defaults,
    ),
    "scores": TaskDef(
        name="scores",
        task_type="regression",
        data_format="pair",
        value_range=(0.0, 2.0),
        **TASK_TYPES["regression"].defaults,
    ),
    "choices": TaskDef(
        name="choices", task_type="multiple_choice", data_format="choices", **TASK_TYPES["multiple_choice"].defaults
    ),
}
TASKS |= {
    "tags": TaskDef(
        name="tags",
        task_type="sequence_labelling",
        data_format="words",
        labels=("O", "B-X", "I-X"),
        **TASK_TYPES["sequence_labelling"].defaults,
    ),
    "sets": TaskDef(
        name="sets",
        task_type="multi_label",
        data_format="pair",
        labels=("a", "b"),
        **TASK_TYPES["multi_label"].defaults,
    ),
    "grades": TaskDef(
        name="grades",
        task_type="ordinal",
        data_format="pair",
        labels=("a", "b", "c", "d"),
        **TASK_TYPES["ordinal"].defaults,
    ),
    "blanks": TaskDef(name="blanks", task_type="masked_lm", data_format="single", **TASK_TYPES["masked_lm"].defaults),
    "gaps": TaskDef(name="gaps", task_type="cloze", data_format="cloze", **TASK_TYPES["cloze"].defaults),
    "spans": TaskDef(name="spans", task_type="span", data_format="question_context", **TASK_TYPES["span"].defaults),
}
SOME = ("classes", "scores", "choices", "tags", "spans")  # for what the type of a task hardly changes
FEW = ("classes", "scores")
SENTENCES = {name: [[5], [11], [7]] for name in TASKS}
SENTENCES |= {"choices": [[2, 3], [4, 2, 5], [3, 4]], "gaps": [[4, 1, 3], [2, 6], [5, 2]]}
PLACES = [[1, 3], [2, 9], [4, 5]]
# Tokens that the head reads; none: all, as starts and as ends.
READ: dict[str, list[Any]] = {"tags": PLACES, "blanks": PLACES, "spans": [[], [], []]}
GOLD = {
    "tags": torch.tensor([2, 0, 1, 1, 0, 2]),
    "spans": torch.tensor([1, 3, 0, 0, 2, 6]),
    "blanks": torch.tensor([12, 50, 7, 33, 61, 18]),
    "sets": torch.tensor([1, 0, 0, 0, 1, 1]),
    "grades": torch.tensor([2, 0, 3]),
    "classes": torch.tensor([2, 0, 1]),
    "scores": torch.tensor([0.25, 1.5, 0.75]),
    "choices": torch.tensor([1, 2, 0]),
    "gaps": torch.tensor([2, 0, 1]),
}
WRONG = {
    "tags": torch.tensor([0, 1, 0, 2, 2, 1]),
    "spans": torch.tensor([0, 4, 10, 1, 3, 5]),
    "blanks": torch.tensor([40, 9, 70, 12, 5, 26]),
    "sets": torch.tensor([0, 1, 1, 1, 0, 0]),
    "grades": torch.tensor([0, 1, 1]),
    "classes": torch.tensor([0, 1, 0]),
    "scores": torch.tensor([1.125, 0.375, 1.875]),
    "choices": torch.tensor([0, 1, 1]),
    "gaps": torch.tensor([0, 1, 0]),
}
OFFSET, SPREAD = -0.5, 1.25  # the units of scores: the boxes are trained on (y − OFFSET) / SPREAD
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

CLIP = {"noise_std": 0.05, "step_size": 0.5, "radius": 0.2}  # raw gradients
CLIP_SCALED = {"noise_std": 0.05, "step_size": 0.1, "radius": 0.12}
WIDE = {"level": "embeddings", "noise_std": 0.2, "step_size": 2.0, "radius": 0.8}  # these states are larger
NORMALIZE = {"noise_std": 0.05, "step_size": 0.3, "radius": 0.3, "projection": "normalize"}
BALL = {"step_size": 0.3, "radius": 0.5, "init_magnitude": 0.2}
NARROW = {"step_size": 0.3, "radius": 0.3, "init_magnitude": 0.8}  # δ_0 already lies outside the ball

Options = dict[str, Any]
Case = tuple[str, Options]
GRADIENT_STEPS: list[Case] = [  # a number of steps or passes is added to each
    ("vat", CLIP),
    ("vat", {**CLIP_SCALED, "normalize_gradient": "token", "weight": 2.0}),
    ("vat", {**NORMALIZE, "normalize_gradient": "sentence", "gradient_norm": "2"}),
    ("tat", CLIP),
    ("tat", {**CLIP_SCALED, "normalize_gradient": "sentence", "weight": 2.0}),
    ("tat", {**NORMALIZE, "normalize_gradient": "token", "gradient_norm": "2"}),
    ("tat", {**NORMALIZE, "stop_gradient": "none"}),
    ("tat", {**CLIP, "reuse_clean_pass": True}),
    ("tat", {**CLIP, "noise_std": 0.0, "reuse_clean_pass": True}),
    ("vat", {**CLIP, "stop_gradient": "none"}),
    ("vat", WIDE),
    ("vat", {**WIDE, "projection": "normalize", "reuse_dropout_mask": True}),
    ("tat", {**WIDE, "projection": "normalize"}),
    ("tat", {**WIDE, "reuse_clean_pass": True}),
    ("vat", {**CLIP, "stop_gradient": "kl_target"}),
    ("vat", {**CLIP, "divergence": "kl"}),
    ("vat", {**CLIP, "divergence": "js"}),
    ("vat", {**CLIP, "divergence": "hellinger"}),
    ("vat", {**CLIP, "bregman": {"mu": 0.7}}),
    ("vat", {**CLIP, "step_size": 0.0, "bregman": {"mu": 0.7}, "stop_gradient": "none"}),
    ("freelb", BALL),
    ("freelb", NARROW),
    ("freelb", {**BALL, "include_clean": True}),
    ("pgd", BALL),
    ("pgd", NARROW),
    ("yopo", {**BALL, "inner_steps": 1}),
    ("yopo", {**BALL, "inner_steps": 3}),
    ("yopo", {**NARROW, "inner_steps": 3}),
]
COUNTS = {"vat": "steps", "tat": "steps", "freelb": "passes", "pgd": "passes", "yopo": "passes", "freeat": "passes"}
NOISE_ALONE: list[Case] = [
    ("rapt", {"max_layer": 0, "norm": "sentence", "share_prefix": True, "magnitude": 0.5}),
    ("rapt", {"max_layer": 0, "norm": "token", "share_prefix": False, "magnitude": 0.5}),
    ("rapt", {"max_layer": 0, "level": "embeddings", "share_prefix": True, "magnitude": 1.0}),
    ("rapt", {"max_layer": 0, "level": "embeddings", "norm": "token", "share_prefix": False, "magnitude": 1.0}),
    ("rapt", {"max_layer": 2, "norm": "sentence", "share_prefix": True, "magnitude": 0.5}),
    ("rapt", {"max_layer": 2, "norm": "sentence", "share_prefix": False, "magnitude": 0.5}),
    ("rapt", {"max_layer": 2, "norm": "token", "share_prefix": True, "magnitude": 0.5}),
    ("rapt", {"max_layer": 2, "norm": "token", "share_prefix": False, "magnitude": 0.5}),
    ("rapt", {"max_layer": 2, "magnitude": 0.5, "stop_gradient": "none", "divergence": None, "weight": 2.0}),
    ("rapt", {"max_layer": 2, "magnitude": 0.5, "stop_gradient": "kl_target"}),
    ("r3f", {"noise": "uniform", "epsilon": 0.3}),
    ("r3f", {"noise": "normal", "epsilon": 0.2, "weight": 2.0}),
    ("r3f", {"level": "embeddings", "noise": "uniform", "epsilon": 1.0}),
    ("r4f", {"noise": "uniform", "epsilon": 0.3}),
    ("r4f", {"noise": "normal", "epsilon": 0.2}),
    ("rdrop", {"head_dropout": 0.0}),
    ("rdrop", {"head_dropout": 0.3}),
    ("rdrop", {"head_dropout": 0.3, "weight": 2.0}),
]


def name_of(value: Any) -> str:
    """A readable id of a case's settings."""
    return ",".join(f"{key}={setting}" for key, setting in value.items()) if isinstance(value, dict) else str(value)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A tiny encoder of each family, its weights moved so that biases are not zero and logits differ."""
    made = {}
    for family, shape in FAMILIES.items():
        made[family] = tiny_encoder(tmp_path_factory.mktemp(family), family, **shape)
        model = AutoModel.from_pretrained(made[family])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(made[family])
    yield made
    for folder in made.values():  # no test has changed what the next one got
        for kept, again in zip(load_both(folder), load_both.__wrapped__(folder), strict=True):
            assert_same(kept.double().state_dict(), again.double().state_dict())


@pytest.fixture(params=list(FAMILIES))
def folder(folders: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    """Made once for all tests, in whatever order they ask: with the module's scope pytest makes it again each time."""
    return folders[request.param]


@pytest.fixture(params=list(TASKS))
def task(request: pytest.FixtureRequest) -> TaskDef:
    return TASKS[request.param]


@cache
def load_both(folder: Path) -> tuple[Encoder, Any]:
    """The encoder as the toolkit and as plain transformers load it, to be copied."""
    plain: Any = AutoModel.from_pretrained(folder, attn_implementation="eager", **NO_DROPOUT)
    return load_encoder(name=str(folder), dropout=0.0, attention_dropout=0.0), plain


def make_model(folder: Path, task: TaskDef, *, head_dropout: float = 0.0) -> Model:
    """The toolkit's model, its head large enough to matter."""
    encoder = fresh(load_both(folder)[0])
    encoder.draws_masks = False  # the boxes draw the head's masks from torch's generator
    model = Model(encoder, {task.name: task}, {task.name: task}, HeadsConfig(dropout=head_dropout))
    if task.name == "scores":
        units: Any = model.units(task.name)
        units.load_state_dict({"offset": torch.tensor(OFFSET), "spread": torch.tensor(SPREAD)})
    torch.manual_seed(1)
    for name, parameter in model.heads.named_parameters():
        nn.init.normal_(parameter, std=1.0 if ".norm." in name else 0.2)
    return model.train()


def make_net(folder: Path, model: Model, task: TaskDef, *, spectral: bool = False) -> Net:
    """The same weights in a plain transformers model and head."""
    encoder = fresh(load_both(folder)[1])
    encoder.load_state_dict(model.encoder.model.state_dict())
    width, ours = encoder.config.hidden_size, model.heads[task.name]
    head: nn.Linear | Ordered | Vocabulary = nn.Linear(width, 2 if task.name == "spans" else task.n_class)
    if task.name == "grades":
        head = Ordered(width, task.n_class)
    if task.name == "blanks":
        head = Vocabulary(width, encoder.config.vocab_size, encoder.config.layer_norm_eps)
    head.load_state_dict((ours.linear if isinstance(head, nn.Linear) else ours).state_dict())  # type: ignore[union-attr]
    return Net(encoder.train(), head, spectral)


def make_batch(task: TaskDef, seed: int = SEEDS[0]) -> Batch:
    sentences = SENTENCES[task.name]
    sizes, generator = [size for own in sentences for size in own], torch.Generator().manual_seed(2)
    total, counts = sum(sizes), torch.tensor([len(own) for own in sentences])
    zero = torch.zeros(1, dtype=torch.int64)
    return Batch(
        task=task.name,
        input_ids=torch.randint(5, 90, (total,), generator=generator),
        token_type_ids=torch.randint(0, 2, (total,), generator=generator),
        position_ids=torch.cat([torch.arange(length) for length in sizes]),
        offsets=torch.cat([zero, torch.tensor(sizes).cumsum(0)]),
        labels=GOLD[task.name],
        longest=max(sizes),
        share=Share(seed, tuple(range(len(sentences))), len(sentences)),
        groups=torch.cat([zero, counts.cumsum(0)]) if task.name in ("choices", "gaps") else None,
        most_choices=int(counts.max()),
        decisions=torch.tensor([0, 2, 4, 6]) if len(GOLD[task.name]) > len(sentences) else None,
        marked=torch.tensor([1, 3, 7, 14, 20, 21]) if task.name in ("tags", "blanks") else None,
    )


def examples_of(net: Net, batch: Batch) -> list[Example]:
    """The batch as the boxes read it; XLM-R knows one token type."""
    assert batch.labels is not None
    types = batch.token_type_ids if net.encoder.config.type_vocab_size > 1 else torch.zeros_like(batch.token_type_ids)
    sentences = SENTENCES[batch.task]
    tokens = [sum(sizes) for sizes in sentences]
    read: list[Any] = READ.get(batch.task) or [None] * len(sentences)
    gold = answers(batch.labels)
    rows = zip(batch.input_ids.split(tokens), types.split(tokens), gold, sentences, read, strict=True)
    return [Example(*row, two_way=batch.task == "sets") for row in rows]


def answers(labels: Tensor) -> Tensor:
    """Labels by example, as the boxes read them: one each, or a row of several."""
    if labels.is_floating_point():
        return (labels.double() - OFFSET) / SPREAD
    return labels if len(labels) == 3 else labels.view(3, -1)


def plain_name(name: str) -> str:
    """A parameter of the toolkit's model by its name in a ``Net``."""
    if name.startswith("encoder.model."):
        return name.replace("encoder.model.", "encoder.", 1)
    return "head." + name.split(".", 2)[2].replace("parametrizations.weight.original", "weight")


def gradients_of(model: Model) -> dict[str, Tensor]:
    return {plain_name(name): p.grad for name, p in model.named_parameters() if p.grad is not None}


def weights_of(model: Model) -> dict[str, Tensor]:
    return {plain_name(name): p.detach().clone() for name, p in model.named_parameters()}


def run_mode(
    model: Model, task: TaskDef, mode: str, options: Options, *, seed: int = SEEDS[0], average: Model | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the toolkit's mode, after the seed."""
    adversary = ADVERSARIES[mode](ADVERSARIES[mode].options_type.model_validate(options), task)
    view = View(model=model, batch=make_batch(task, seed), task=task, telemetry=Telemetry(), average=average)
    torch.manual_seed(seed)
    total = torch.zeros(())
    for loss in adversary(view):
        loss.backward()
        total += loss.detach()
    return total, gradients_of(model)


def prepare(model: Model, task: TaskDef, mode: str, options: Options) -> None:
    """What the mode changes of the model; R4F's power iteration is run until it stands still."""
    ADVERSARIES[mode].prepare(ADVERSARIES[mode].options_type.model_validate(options), model, task.name)
    layer: Any = next(module for module in model.heads[task.name].modules() if isinstance(module, nn.Linear))
    for _ in range(300 if mode == "r4f" else 0):
        _ = layer.weight


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Two sets of gradients or weights, the same in every parameter."""
    assert ours.keys() == theirs.keys() and len(theirs) > 30
    for name, expected in theirs.items():
        labelled = f"{name}: {{}}".format
        torch.testing.assert_close(ours[name], expected, atol=TOLERANCE, rtol=TOLERANCE, msg=labelled)


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


def compare(
    folder: Path, task: TaskDef, mode: str, options: Options, patch: pytest.MonkeyPatch, *, seed: int = SEEDS[0]
) -> dict[str, Tensor]:
    """Runs the mode and its box on the same weights and noise; returns the gradients, which agree."""
    settings = dict(options)
    head_dropout = settings.pop("head_dropout", 0.0)
    model = make_model(folder, task, head_dropout=head_dropout)
    net = make_net(folder, model, task, spectral=mode == "r4f")
    unseen = ("share_prefix", "reuse_dropout_mask")  # without dropout they change nothing
    for_box: Options = {key: value for key, value in options.items() if key not in unseen}
    average = None
    if "bregman" in options:
        average = copy.deepcopy(model)
        torch.manual_seed(4)
        with torch.no_grad():
            for parameter in average.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        for_box["slow"] = make_net(folder, average, task)
    if mode == "tat":
        for kind in (Tally, Choices):
            patch.setattr(kind, "sample", lambda self, *_: WRONG[task.name])
        for_box["targets"] = answers(WRONG[task.name])
    prepare(model, task, mode, settings)
    loss, ours = run_mode(model, task, mode, settings, seed=seed, average=average)
    expected = BOXES[mode](net, examples_of(net, make_batch(task)), seed, **for_box)
    torch.testing.assert_close(loss, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert_same(ours, {name: p.grad for name, p in net.parameters().items() if p.grad is not None})
    assert len(ours) == len(list(model.parameters())) - 2 * (task.name in READ)  # heads that need no pooler
    return ours


@cache
def of_plain_training(folder: Path, name: str) -> dict[str, Tensor]:
    return run_mode(make_model(folder, TASKS[name]), TASKS[name], "none", {})[1]


def test_plain_training(folder: Path, task: TaskDef, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = compare(folder, task, "none", {}, monkeypatch)
    idle: tuple[str, ...] = ("key.bias",)  # softmax does not see what all options share
    if task.name in ("choices", "gaps", "spans"):
        idle += ("head.linear.bias",)
    if task.name == "spans":
        idle += ("layer.1.output.LayerNorm.bias",)
    assert min(gradient.abs().max().item() for name, gradient in ours.items() if not name.endswith(idle)) > 1e-4


@pytest.mark.parametrize(
    ("folder", "task", "count"),
    [("bert", task, 3) for task in TASKS]
    + [("bert", task, 1) for task in FEW]  # a loop that ends at once
    + [("xlm-roberta", task, 2) for task in SOME],  # other positions and token types
    indirect=["folder", "task"],
)
@pytest.mark.parametrize(("mode", "options"), GRADIENT_STEPS, ids=name_of)
def test_modes_with_gradient_steps(
    folder: Path, task: TaskDef, mode: str, options: Options, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VAT and TAT (TAT paper, eq. 1 and box 1), FreeLB (its paper, box 1), PGD, YOPO; their steps matter."""
    options = {**options, COUNTS[mode]: count}
    ours = compare(folder, task, mode, options, monkeypatch)
    assert furthest(ours, of_plain_training(folder, task.name)) > EFFECT
    if "bregman" not in options and count != 2 and (mode in ("vat", "tat", "pgd") or count > 1):
        still = run_mode(make_model(folder, task), task, mode, {**options, "step_size": 0.0})[1]
        assert furthest(ours, still) > EFFECT


@pytest.mark.parametrize("name", ["cola", "mnli", "rte", "sst2"])
def test_presets_of_freelb_make_the_passes_of_its_scripts(folder: Path, name: str) -> None:
    """And those of the paper make as many passes as its box."""
    task = TASKS["classes"]
    found, expected = {}, {}
    for kind in ("scripts", "paper"):
        settings = read_preset(f"freelb/roberta_large/{name}/{kind}", "test")
        sizes = {key: value for key, value in settings.items() if key not in ("mode", "passes")}
        model = make_model(folder, task)
        net = make_net(folder, model, task)
        found[kind] = run_mode(model, task, "freelb", settings)[1]
        examples = examples_of(net, make_batch(task))
        if kind == "paper":
            boxes.freelb(net, examples, SEEDS[0], passes=settings["passes"], **sizes)
        else:
            names = {"step_size": "adv_lr", "radius": "max_norm", "init_magnitude": "rand_init_mag"}
            options = {names[key]: value for key, value in sizes.items()}
            boxes.freelb_scripts(net, examples, SEEDS[0], adv_steps=settings["passes"] - 1, **options)
        expected[kind] = {key: p.grad for key, p in net.parameters().items() if p.grad is not None}
        assert_same(found[kind], expected[kind])
    assert furthest(found["scripts"], found["paper"]) > TOLERANCE


@pytest.mark.parametrize(
    ("folder", "task", "seed"),
    [("bert", task, seed) for task in TASKS for seed in SEEDS] + [("xlm-roberta", task, SEEDS[1]) for task in SOME],
    indirect=["folder", "task"],
)
@pytest.mark.parametrize(("mode", "options"), NOISE_ALONE, ids=name_of)
def test_modes_with_noise_alone(
    folder: Path, task: TaskDef, mode: str, options: Options, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RAPT (RAPT paper, box 1), R3F, R4F and R-Drop; without a term for values, or without dropout, they are plain."""
    ours = compare(folder, task, mode, options, monkeypatch, seed=seed)
    plain = of_plain_training(folder, task.name)
    if (mode, task.name) in (("r3f", "scores"), ("rdrop", "blanks")) or options.get("head_dropout") == 0:
        assert_same(ours, plain)
    else:
        assert furthest(ours, plain) > 2 * EFFECT


def test_rapt_draws_each_block(task: TaskDef) -> None:
    """The two seeds above perturb the states of different blocks."""
    levels = set()
    for seed in SEEDS:
        levels.add(Draws(make_batch(task, seed)).integer(1, 2))
    assert levels == {1, 2}


@pytest.mark.parametrize("steps", [1, 3])
def test_tat_may_take_its_first_gradient_from_the_clean_pass(
    folder: Path, task: TaskDef, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without noise that is the exact gradient; with noise the difference shrinks as σ does, to rounding at 1e-5."""
    for kind in (Tally, Choices):
        monkeypatch.setattr(kind, "sample", lambda self, *_: WRONG[task.name])
    apart = {}
    for noise_std in (0.0, 1e-5, 0.05):
        options = {**CLIP, "steps": steps, "noise_std": noise_std}
        exact, reused = (
            run_mode(make_model(folder, task), task, "tat", {**options, "reuse_clean_pass": reuse})[1]
            for reuse in (False, True)
        )
        apart[noise_std] = furthest(exact, reused)
    assert apart[0.0] < 1e-6 and apart[0.05] > 1e-3
    assert apart[1e-5] < 1e-3 * apart[0.05]


def after_update(model: Model, task: TaskDef, options: Options, lr: float) -> Tensor:
    """Trains the model for one update in mode freeat; returns the loss."""
    adversary = ADVERSARIES["freeat"](ADVERSARIES["freeat"].options_type.model_validate(options), task)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    stepper = Stepper(
        parallel=Parallel(model),
        tasks={task.name: task},
        adversaries={task.name: adversary},
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0),
        clip_norm=None,
    )
    torch.manual_seed(SEEDS[0])
    return stepper([make_batch(task)])[0]


@pytest.mark.parametrize("sizes", [BALL, NARROW], ids=name_of)
@pytest.mark.parametrize("passes", [1, 3])
def test_freeat_steps_after_each_pass(folder: Path, task: TaskDef, passes: int, sizes: Options) -> None:
    """Weights after one update with plain gradient descent; gradients of a single pass (Shafahi et al. 2019, box 1)."""
    lr, options = 0.05, {**sizes, "passes": passes}
    model = make_model(folder, task)
    net = make_net(folder, model, task)
    before = weights_of(model)
    loss = after_update(model, task, options, lr)
    expected = BOXES["freeat"](net, examples_of(net, make_batch(task)), SEEDS[0], **options, lr=lr)
    if task.name == "scores":  # the step gives the loss in the user's units
        expected = expected * SPREAD**2
    torch.testing.assert_close(loss, expected, atol=TOLERANCE, rtol=TOLERANCE)
    after = weights_of(model)
    assert_same(after, {name: p.detach() for name, p in net.parameters().items()})
    assert furthest(before, after) > 2 * EFFECT
    if passes == 1:
        gradients = run_mode(make_model(folder, task), task, "freeat", options)[1]
        assert_same(gradients, {name: p.grad for name, p in net.parameters().items() if p.grad is not None})
    else:
        still = make_model(folder, task)
        after_update(still, task, {**options, "step_size": 0.0}, lr)
        assert furthest(after, weights_of(still)) > EFFECT / 5
