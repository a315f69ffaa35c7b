"""Two and three processes are the same experiment as one, in every adversarial mode."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.batches.collate import share_of_rank
from mt_dnn.distributed.ranks import is_main
from mt_dnn.distributed.sharded import full_tensors, is_sharded
from mt_dnn.training.loop import Position, train
from tests.distributed.workers import run_ranks
from tests.double import in_double_precision
from tests.extras import missing_extra, skip_without
from tests.parts import parts
from tests.tiny import tiny_encoder
from tests.wild import add_tokens
from tests.workspace import make_workspace, rows_of, write_task

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the weights that all tests here read

OPTIONS = [
    "encoder.dropout=0",
    "encoder.attention_dropout=0",
    "heads.dropout=0",
    "optimizer.name=sgd",  # what it does to a weight is in proportion to the gradient
    "optimizer.lr=0.1",
    "optimizer.lookahead.enabled=false",
    "schedule.name=constant",
    "schedule.warmup_fraction=0",
    "train.batch_size=16",
    "train.epochs=1",
    "tasks=[same,overlap]",
]  # of 16 and 17 rows: three updates, one of them with one row
SETTINGS = {
    "vat": ["adversary.radius=0.1", "adversary.step_size=1", "adversary.noise_std=0.05"],
    "tat": ["adversary.radius=0.1", "adversary.step_size=1", "adversary.noise_std=0.05"],
    "rapt": ["adversary.max_layer=2", "adversary.weight=20"],
    "r3f": ["adversary.epsilon=0.1"],
    "r4f": ["adversary.epsilon=0.1"],
}
MODES = {
    f"{mode}-{accumulate}": [
        f"train.accumulate={accumulate}",
        f"train.epochs={accumulate}",  # three updates, or two of two batches and two of one
        f"train.mix_tasks={str(accumulate > 1).lower()}",
        f"adversary.mode={mode}",
        *SETTINGS.get(mode, []),
    ]
    for mode in ADVERSARIES
    for accumulate in (1, 2)
}
ADAPTIVE = ["optimizer.eps=1e-3", "optimizer.lr=1e-3", "optimizer.layer_decay=0.9"]
ADAPTIVE += ["optimizer.lookahead.enabled=true", "optimizer.lookahead.steps=2"]
OPTIMIZERS = {name: [f"optimizer.name={name}", *ADAPTIVE] for name in ("adamax", "adamw", "adam", "radam")}
DROPOUT = ["encoder.dropout=0.3", "encoder.attention_dropout=0.3", "heads.dropout=0.3", "optimizer.lr=0.02"]
ONE_TASK = ["train.epochs=2"]  # about as many updates as with two tasks
OTHERS = {
    "bregman": ["adversary=preset:vat/smart"],
    "embeddings": ["adversary.mode=tat", "adversary.level=embeddings", *SETTINGS["tat"]],
    "frozen": ["optimizer.freeze=[embeddings]"],
    "recomputed": ["train.activation_checkpointing=true", "adversary.mode=tat", *SETTINGS["tat"]],
    "xlm_r_xl": ["encoder.name=XL", "adversary.mode=freelb"],
    "choices": ["tasks=[odd,same]", "adversary.mode=tat", *SETTINGS["tat"]],
    "words": ["tasks=[tagged,chained]", "adversary.mode=tat", *SETTINGS["tat"]],  # ranks have unlike numbers of words
    "single_words": [  # a rank may have no neighbours
        "data.dir=SINGLE",
        "tasks=[chained]",
        "train.batch_size=8",
        "adversary.mode=freelb",
    ],
    "masks": ["tasks=[guessed,same]", "adversary.mode=vat", *SETTINGS["vat"]],  # ranks have unlike numbers of them
    "ordinal": ["tasks=[graded]", *ONE_TASK, "adversary.mode=tat", *SETTINGS["tat"]],
    "sets": ["tasks=[marks]", *ONE_TASK, "adversary.mode=tat", *SETTINGS["tat"]],
    "spans": ["tasks=[found]", *ONE_TASK, "adversary.mode=tat", *SETTINGS["tat"]],
    "taught": ["tasks=[odd,tagged,found]", "distillation={weight: 0.7, temperature: 2}", "adversary.mode=pgd"],
    "taught_mse": ["task_defs=MSE", "tasks=[odd,found]", "distillation.weight=0.7"],
    "taught_alone": ["data.dir=TEXTS", "tasks=[tagged,marks]", "distillation.weight=1", "adversary.mode=pgd"],
    "weighted": ["task_defs=WEIGHTED", "tasks=[same,tagged]", "optimizer.head_lr=0.3", "adversary.mode=pgd"],
    "added_tokens": ["encoder.name=MARKED", "tasks=[same,negated]", "adversary.mode=freelb"],
    "attention": ["encoder.pooler=attention", "encoder.scalar_mix=true", "adversary.mode=tat", *SETTINGS["tat"]],
    "family": [  # layers of the family in the encoder and in a head
        "encoder.name=MODERN",
        "encoder.pooler=family",
        "tasks=[same,tagged]",
        "adversary.mode=tat",
        *SETTINGS["tat"],
    ],
    "uncertainty": ["train.loss_balance=uncertainty", "train.balance_lr=0.2", *MODES["tat-2"]],
    "shared_head": ["tasks=[same,renamed]", "adversary.mode=tat", *SETTINGS["tat"]],
    "pcgrad": [
        *MODES["freelb-2"],
        "tasks=[same,renamed,overlap]",
        "train.accumulate=3",
        "train.gradient_surgery=pcgrad",
    ],
    "dropout": [*DROPOUT, "tasks=[same,odd]", "adversary.mode=rdrop"],
    "dropout_small": [  # one example for each of two ranks
        *DROPOUT,
        "tasks=[linked]",
        "train.batch_size=2",
        "data.max_rows=7",
    ],
    "dropout_padded": [*DROPOUT, "encoder.attention=padded", "encoder.attention_dropout=0"],
    "dropout_words": [*DROPOUT, "tasks=[tagged,chained,marks]", "adversary.mode=freelb"],
    "padded": ["encoder.attention=padded", "adversary.mode=rapt", *SETTINGS["rapt"]],
}
PATHS = {
    "XL": "xl",
    "MSE": "mse.yml",
    "TEXTS": "texts",
    "SINGLE": "single",
    "WEIGHTED": "weighted.yml",
    "MARKED": "marked",
    "MODERN": "modern",
}
ADAPTED = {
    f"{kind}_{mode}": [
        *DROPOUT,
        "optimizer.lr=1",
        f"adapter.kind={kind}",
        *dropout,
        f"adversary.mode={mode}",
        *SETTINGS.get(mode, []),
    ]
    for kind, dropout, modes in (
        ("lora", ["adapter.dropout=0.3"], ("none", "vat", "tat", "freelb", "rapt", "rdrop")),
        ("ia3", [], ("tat",)),
    )
    for mode in modes
}
OTHERS |= ADAPTED
CASES = {**MODES, **OPTIMIZERS, **OTHERS}
THREE = {  # three ranks share no batch evenly; two need not train these again
    "ddp": [f"{mode}-{1 + number % 2}" for number, mode in enumerate(ADVERSARIES)],
    "fsdp": [f"{mode}-{2 - number % 2}" for number, mode in enumerate(ADVERSARIES)],  # the others
}
REFUSED = ("masks", *ADAPTED)  # with split weights
TOGETHER = {
    ("ddp", 2): [name for name in CASES if name not in THREE["ddp"]],
    ("ddp", 3): THREE["ddp"],
    ("fsdp", 2): [name for name in CASES if name not in (*REFUSED, *THREE["fsdp"])],
    ("fsdp", 3): THREE["fsdp"],
}


def weights_after_training(folder: Path, world_size: int, strategy: str = "ddp") -> None:
    """Writes the weights after the updates of each case."""
    encoders: dict[str, Any] = {}
    for name in TOGETHER.get((strategy, world_size), CASES):
        options = CASES[name]
        if missing_extra(options):
            continue
        chosen = {key: value for key, _, value in (option.partition("=") for option in [*OPTIONS, *options])}
        options = [f"{key}={value}" for key, value in chosen.items()]
        for word, path in PATHS.items():
            options = [option.replace(f"={word}", f"={folder / path}") for option in options]
        with in_double_precision(encoders):
            run = parts(folder, *options, f"distributed.strategy={strategy}")
            assert is_sharded(run.model) == (strategy == "fsdp")
            events = train(run.stepper, run.train_splits, run.plan, device=run.device, start=Position())
            assert sum(1 for _ in events) >= 3
            weights = full_tensors(run.model.state_dict())
        if is_main():
            weights = {key: value.detach().contiguous() for key, value in weights.items()}
            save_file(weights, folder / f"{name}-{strategy}-{world_size}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of one, two and three processes.

    The last batch of each task but ``same`` has one row, fewer than there are ranks.
    """
    folder = tmp_path_factory.mktemp("ranks")
    more = ["odd", "tagged", "chained", "found", "marks", "guessed", "graded", "renamed", "linked"]
    make_workspace(folder, train_rows=17, more=more, soft=True)
    write_task(folder / "data", "same", "train", rows_of("same", 16, 1), soft=True)
    defs = (folder / "tasks.yml").read_text().replace("task_type: span", "task_type: span\n  kd_loss: mse")
    (folder / "mse.yml").write_text(
        defs.replace("task_type: multiple_choice", "task_type: multiple_choice\n  kd_loss: mse")
    )
    tasks = yaml.safe_load((folder / "tasks.yml").read_text())
    tasks["same"] |= {"class_weights": {"same": 3.0}, "label_smoothing": 0.1}
    tasks["tagged"] |= {"class_weights": {"O": 0.2}}
    (folder / "weighted.yml").write_text(yaml.safe_dump(tasks))
    shutil.copytree(folder / "data", folder / "texts")
    for path in (folder / "texts").glob("*_train.tsv"):
        header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
        lines = [header, *([uid, "", *rest] for uid, _, *rest in rows)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines))
    shutil.copytree(folder / "data", folder / "single")
    path = folder / "single" / "chained_train.tsv"
    header, *rows = [line.split("\t")[:3] for line in path.read_text().splitlines()]
    rows = [row if n % 8 == 7 else [value.split()[0] for value in row] for n, row in enumerate(rows)]
    path.write_text("".join("\t".join(line) + "\n" for line in [header, *rows]))
    tiny_encoder(folder / "xl", "xlm-roberta-xl")
    tiny_encoder(folder / "modern", "modernbert")
    add_tokens(tiny_encoder(folder / "marked"), "[E]")
    weights_after_training(folder, 1)
    for strategy, world_size in TOGETHER:
        run_ranks(world_size, weights_after_training, folder, world_size, strategy)
    return folder


@pytest.mark.parametrize(
    ("ranks", "name"),
    [
        pytest.param(f"{how}-{size}", name, marks=skip_without(CASES[name]))
        for (how, size), names in TOGETHER.items()
        for name in names
    ],
)
def test_weights_are_those_of_one_process(folder: Path, ranks: str, name: str) -> None:
    alone, together = (load_file(folder / f"{name}-{how}.safetensors") for how in ("ddp-1", ranks))
    assert alone.keys() == together.keys()
    assert max((alone[key] - together[key]).abs().max().item() for key in alone) < 1e-10


@pytest.mark.parametrize("accumulate", [1, 2])
def test_modes_differ_by_more_than_that(folder: Path, accumulate: int) -> None:
    modes = [mode for mode in ADVERSARIES if mode != "r4f"]
    found = {mode: load_file(folder / f"{mode}-{accumulate}-ddp-1.safetensors") for mode in modes}
    plain = found.pop("none")
    found.pop("rdrop")  # without dropout it is plain training
    for mode, weights in found.items():
        assert max((weights[key] - plain[key]).abs().max().item() for key in plain) > 1e-5, mode


def test_shares_are_the_whole_batch() -> None:
    """Each row once, in the share of one rank; a rank without rows counts none."""
    for size in (1, 2, 3, 8, 13):
        lengths = np.arange(size)[::-1] % 5
        for world_size in (1, 2, 3, 4):
            shares = [share_of_rank(lengths, rank, world_size, 7) for rank in range(world_size)]
            places = sorted(place for share in shares if share.counts for place in share.positions)
            assert places == list(range(size)) and all(share.global_size == size for share in shares)
