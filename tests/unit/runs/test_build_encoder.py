"""Which version of an encoder on the hub a run reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from data_utils.errors import UserError
from mt_dnn.inference.export.write import export
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.studies.identity import Identity
from tests.parts import parts
from tests.tiny import tiny_encoder
from tests.wild import add_tokens, on_the_hub

OLD, NEW = "a" * 40, "b" * 40
TABLE = "embeddings.word_embeddings.weight"


@pytest.fixture
def tables(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Two versions of the encoder someone/tiny in the local cache of the hub; the word embeddings of each by commit.

    The tokenizer of the older one has a token more.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(workspace / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = {}
    for seed, (branch, commit) in enumerate([("v1", OLD), ("main", NEW)]):
        folder = tiny_encoder(workspace / branch, seed=seed)
        found[commit] = load_file(folder / "model.safetensors")[TABLE]
        if commit == OLD:
            add_tokens(folder, "[OLD]")
        on_the_hub(folder, workspace / "hub", "someone/tiny", branch=branch, commit=commit)
    return found


@pytest.mark.parametrize(("revision", "commit"), [(None, NEW), ("v1", OLD), (OLD, OLD), ("main", NEW)])
def test_weights_and_tokenizer_are_those_of_the_revision(
    revision: str | None, commit: str, workspace: Path, tables: dict[str, torch.Tensor]
) -> None:
    chosen = [f"encoder.revision={revision}"] if revision else []
    options = ["encoder.name=someone/tiny", "tasks=[same]", "train.max_steps=2", *chosen]
    run = parts(workspace, *options)
    words = run.model.encoder.model.get_input_embeddings().weight
    assert words[: len(tables[commit])].equal(tables[commit])
    assert isinstance(run.tokenizer, PreTrainedTokenizerFast)
    assert ("[OLD]" in run.tokenizer.get_vocab()) == (commit == OLD)
    Run(load_config(workspace / "run.yml", options), shown=False)()
    (entry,) = json.loads((workspace / "run" / "environment.json").read_text())
    assert entry["encoder"] == {
        "name": "someone/tiny",
        "commit": commit,
        "sha256": {},
        **({"revision": revision} if revision else {}),
    }
    Run(load_config(workspace / "run.yml", options), shown=False)()  # from the checkpoint, which has no revision


def test_a_revision_that_names_no_weights_is_said(workspace: Path, tables: dict[str, torch.Tensor]) -> None:
    first = ["encoder.name=someone/tiny", "encoder.revision=v1", "tasks=[same]", "train.max_steps=2"]
    Run(load_config(workspace / "run.yml", [*first, f"output={workspace / 'first'}"]), shown=False)()
    notice = "encoder.revision: says nothing of the weights here, because they come from train.init_from"
    assert notice not in parts(workspace, *first).notices
    assert notice in parts(workspace, *first, f"train.init_from={workspace / 'first'}").notices


@pytest.mark.parametrize(
    ("revision", "options", "expected"),
    [
        ("main", (), ("someone/tiny", "main")),
        (None, (), ("someone/tiny", None)),
        (None, ("encoder.blocks=[0]",), (None, None)),
        ("v1", (), (None, None)),  # whose tokenizer has a token that the encoder has no row for
    ],
)
def test_an_adapter_names_the_encoder_that_it_belongs_to(
    revision: str | None,
    options: tuple[str, ...],
    expected: tuple[str | None, str | None],
    workspace: Path,
    tables: dict[str, torch.Tensor],
) -> None:
    pytest.importorskip("peft", reason="the extra adapters is not installed")
    chosen = ["encoder.name=someone/tiny", *options, *([f"encoder.revision={revision}"] if revision else [])]
    settings = ["adapter.kind=lora", "tasks=[same]", "train.max_steps=2", *chosen]
    Run(load_config(workspace / "run.yml", settings), shown=False)()
    export(workspace / "run", workspace / "out", encoder_only=True)
    config = json.loads((workspace / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == expected
    name, revision = expected
    version = f', revision="{revision}"' if revision else ""
    code = f'AutoModel.from_pretrained("{name or "run/base"}"{version})'
    assert code in (workspace / "out" / "README.md").read_text()


def test_a_revision_is_part_of_what_a_run_computes(workspace: Path) -> None:
    plain, pinned = (
        Identity(load_config(workspace / "run.yml", ["tasks=[same]", "encoder.name=someone/tiny", *more])).settings_id
        for more in ([], [f"encoder.revision={OLD}"])
    )
    assert plain != pinned
    pinned_config = load_config(workspace / "run.yml", ["encoder.name=someone/tiny", "encoder.revision=v1"])
    assert pinned_config.encoder.origin == "someone/tiny at revision v1"  # as tables name it


def test_what_has_no_revisions_is_refused(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"encoder.revision: has no effect here, because encoder.name is no name"):
        parts(workspace, "encoder.revision=v1", "tasks=[same]")
    with pytest.raises(UserError, match="the hub cannot be reached"):
        parts(workspace, "encoder.name=someone/none", "encoder.revision=v1", "tasks=[same]")
