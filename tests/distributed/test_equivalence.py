"""Two and three processes are the same experiment as one, in every adversarial mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mt_dnn.adversarial import ADVERSARIES
from mt_dnn.batch import divided
from mt_dnn.config_file import load_config
from mt_dnn.distributed import is_main
from mt_dnn.run import Run
from mt_dnn.train import Position, train
from tests.distributed.workers import run_ranks
from tests.workspace import make_workspace

OPTIONS = [
    "encoder.dropout=0",
    "encoder.attention_dropout=0",
    "heads.dropout=0",
    "optimizer.name=sgd",  # what it does to a weight is in proportion to the gradient
    "optimizer.lr=0.1",
    "optimizer.lookahead.enabled=false",
    "schedule.name=constant",
    "schedule.warmup_fraction=0",
    "train.epochs=1",
    "tasks=[same,overlap]",
]
SETTINGS = {
    "vat": ["adversary.radius=0.1", "adversary.step_size=1", "adversary.noise_std=0.05"],
    "tat": ["adversary.radius=0.1", "adversary.step_size=1", "adversary.noise_std=0.05"],
    "rapt": ["adversary.max_layer=2", "adversary.weight=20"],
    "r3f": ["adversary.epsilon=0.1"],
    "r4f": ["adversary.epsilon=0.1"],
}
CASES = {f"{mode}-{accumulate}": (mode, accumulate) for mode in ADVERSARIES for accumulate in (1, 2)}


def weights_after_an_epoch(folder: Path, world_size: int) -> None:
    """Writes the weights after an epoch for each mode, with one and with two batches in an update."""
    for name, (mode, accumulate) in CASES.items():
        accumulation = [f"train.accumulate={accumulate}", f"train.mix_tasks={str(accumulate > 1).lower()}"]
        options = [*OPTIONS, *accumulation, f"adversary.mode={mode}", *SETTINGS.get(mode, [])]
        run = Run(load_config(folder / "run.yml", options))
        events = train(run.stepper, run.train_splits, run.config, device=run.device, start=Position())
        assert sum(1 for _ in events) > 5
        if is_main():
            weights = {key: value.detach().contiguous() for key, value in run.model.state_dict().items()}
            save_file(weights, folder / f"{name}-{world_size}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of one, two and three processes. The last batch of each task has one row, fewer than there are ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    make_workspace(folder, train_rows=41)
    weights_after_an_epoch(folder, 1)
    for world_size in (2, 3):
        run_ranks(world_size, weights_after_an_epoch, folder, world_size)
    return folder


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_weights_after_an_epoch_are_those_of_one_process(folder: Path, name: str, world_size: int) -> None:
    alone, together = (load_file(folder / f"{name}-{size}.safetensors") for size in (1, world_size))
    assert alone.keys() == together.keys()
    assert max((alone[key] - together[key]).abs().max().item() for key in alone) < 1e-5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_modes_differ_by_more_than_that(folder: Path, accumulate: int) -> None:
    found = {mode: load_file(folder / f"{mode}-{accumulate}-1.safetensors") for mode in ADVERSARIES if mode != "r4f"}
    plain = found.pop("none")
    found.pop("rdrop")  # without dropout it is plain training
    for mode, weights in found.items():
        assert max((weights[key] - plain[key]).abs().max().item() for key in plain) > 1e-4, mode


def test_shares_are_the_whole_batch() -> None:
    """Each row once, in the share of one rank; a rank without rows counts none."""
    for size in (1, 2, 3, 8, 13):
        lengths = np.arange(size)[::-1] % 5
        for world_size in (1, 2, 3, 4):
            shares = [divided(lengths, rank, world_size, 7) for rank in range(world_size)]
            places = sorted(place for share in shares if share.counts for place in share.places)
            assert places == list(range(size)) and all(share.whole_size == size for share in shares)
