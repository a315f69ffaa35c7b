"""Settings of adapters: which layers they change, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data_utils.errors import UserError
from mt_dnn.encoders.adapters import AdapterConfig, adapter_tensors, add_adapter, base_tensors, load_adapter
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.load import load_encoder
from mt_dnn.runs.config_file import load_config
from mt_dnn.training.groups import parameter_groups
from tests.parts import parts
from tests.tiny import FAMILIES, tiny_encoder

pytest.importorskip("peft", reason="the extra adapters is not installed")

BASE = {"model_type": "bert"}  # of the size of BERT-base


def adapted(folder: Path, family: str = "bert", pooler: str = "pretrained", **settings: Any) -> Encoder:
    encoder = load_encoder(name=str(tiny_encoder(folder / family, family)), pooler=pooler)
    add_adapter(encoder, AdapterConfig(**settings))
    return encoder


def trained(encoder: Encoder) -> set[str]:
    return {name for name, weight in encoder.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("kind", ["lora", "ia3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_default(family: str, kind: str, tmp_path: Path) -> None:
    """Attention in each block, and for IA3 its feed-forward layers too."""
    encoder = adapted(tmp_path, family, pooler="cls", kind=kind)
    names = trained(encoder)
    assert all(name.startswith(f"{encoder.blocks_name}.") for name in names)
    assert {encoder.depth_of(name) for name in names} == {1, 2}
    layers = {name.split(f".{'lora_A' if kind == 'lora' else 'ia3_l'}.")[0] for name in names if "lora_B" not in name}
    attention = 1 if family == "modernbert" else 2
    feed_forward = 1 if family in ("distilbert", "modernbert", "mpnet") else 2  # layers called output.dense, if any
    assert len(layers) == 2 * (attention if kind == "lora" else attention + feed_forward)
    assert not {name for name in adapter_tensors(encoder) if not name.startswith("base_model.model.")}


@pytest.mark.parametrize(
    ("pooler", "expected"),
    [
        ("pretrained", set()),
        ("fresh", {"model.pooler.dense.weight", "model.pooler.dense.bias"}),
        ("attention", {"pooler.weight"}),
        ("cls", set()),
    ],
)
def test_a_new_pooler_is_trained_and_a_pretrained_one_is_not(pooler: str, expected: set[str], tmp_path: Path) -> None:
    encoder = adapted(tmp_path, pooler=pooler, kind="lora")
    assert {name for name in trained(encoder) if ".lora_" not in name} == expected
    assert {name for name in base_tensors(encoder) if name.startswith("pooler")} == (
        {"pooler.dense.weight", "pooler.dense.bias"} if pooler == "pretrained" else set()
    )


def test_all_linear_layers_of_blocks_can_be_targets(tmp_path: Path) -> None:
    encoder = adapted(tmp_path, kind="lora", targets="all-linear", rank=2)
    assert len(adapter_tensors(encoder)) == 2 * 2 * 6
    assert all(value.shape[0] == 2 for name, value in adapter_tensors(encoder).items() if "lora_A" in name)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("qery",), "adapter.targets: no layer of the encoder is called 'qery', did you mean 'query'?"),
        (("something",), r"no layer of the encoder is called 'something' \(names end like dense, key, query, value\)"),
        (("dense",), "'dense' also names pooler.dense, which is no linear layer of a block; write more of the name"),
        (("word_embeddings",), "'word_embeddings' also names embeddings.word_embeddings, which is no linear layer"),
        (("attention",), r"'attention' also names encoder.layer.0.attention, which is no linear layer of a block"),
    ],
)
def test_targets_that_are_no_linear_layers_are_refused(targets: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        adapted(tmp_path, kind="lora", targets=targets)


def test_settings_that_a_kind_does_not_read_are_refused(workspace: Path) -> None:
    for option in ("adapter.rank=4", "adapter.alpha=3", "adapter.dropout=0.1"):
        with pytest.raises(UserError, match="has no effect with 'ia3'; leave it out"):
            load_config(workspace / "run.yml", ["adapter.kind=ia3", option])
    with pytest.raises(UserError, match="targets has no effect with 'none'; leave it out"):
        load_config(workspace / "run.yml", ["adapter.targets=[query]"])
    assert load_config(workspace / "run.yml", ["adapter.kind=lora", "adapter.targets=all-linear"]).adapter.rank == 8


@pytest.mark.parametrize("targets", ["[]", "''", "['']", "3", "[3]", "{a: b}"])
def test_targets_that_are_no_names_are_refused(targets: str, workspace: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_config(workspace / "run.yml", ["adapter.kind=lora", f"adapter.targets={targets}"])
    message = "override 'adapter.targets': adapter.targets: write ends of names, such as [query, value], or all-linear"
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_single_target_needs_no_brackets(workspace: Path) -> None:
    for text, expected in (("query", ("query",)), ("[query, value]", ("query", "value")), ("all-linear", "all-linear")):
        config = load_config(workspace / "run.yml", ["adapter.kind=lora", f"adapter.targets={text}"])
        assert config.adapter.targets == expected


def test_weights_of_another_shape_are_not_loaded(tmp_path: Path) -> None:
    small, large = (adapted(tmp_path, kind="lora", rank=rank) for rank in (2, 4))
    before = {name: value.clone() for name, value in adapter_tensors(large).items()}
    assert len(load_adapter(large, adapter_tensors(small))) == 8
    assert all(value.equal(before[name]) for name, value in adapter_tensors(large).items())
    assert load_adapter(large, {name: value + 1 for name, value in before.items()}) == []
    assert all(value.equal(before[name] + 1) for name, value in adapter_tensors(large).items())


def test_vectors_of_ia3_have_no_weight_decay(workspace: Path) -> None:
    model = parts(workspace, "adapter.kind=ia3", "tasks=[same]").model
    decayed = [
        p for group in parameter_groups(model, lr=1, weight_decay=1) if group["weight_decay"] for p in group["params"]
    ]
    assert [name for name, p in model.named_parameters() if any(p is d for d in decayed)] == [
        "heads.same.linear.weight"
    ]


def test_an_adapter_is_less_than_a_twentieth_of_the_encoder() -> None:
    """Weights of a checkpoint of BERT-base with the default settings of LoRA, and with a new pooler."""
    with torch.device("meta"):
        encoder = load_encoder(config=BASE, pooler="fresh")
        complete = sum(value.nbytes for value in encoder.state_dict().values())
        add_adapter(encoder, AdapterConfig(kind="lora"))
        tensors = [*adapter_tensors(encoder).values(), *encoder.model.pooler.state_dict().values()]
    assert complete > 430e6
    assert sum(value.nbytes for value in tensors) < 0.05 * complete - 1e6  # the tokenizer has up to a megabyte
