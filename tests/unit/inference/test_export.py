"""mt-dnn export: what is refused, the card, the tokenizer, and folders that are complete or absent."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from transformers import AutoConfig, AutoTokenizer

from data_utils.errors import NotSaved, UserError
from mt_dnn.cli.main import main
from mt_dnn.inference.export.card import Content, read_results, write_card
from mt_dnn.inference.export.folder import new_folder
from mt_dnn.inference.export.model import task_model, tokenizer_of
from mt_dnn.inference.export.targets import notes_of
from mt_dnn.inference.export.write import export
from mt_dnn.inference.trained import TrainedModel, load
from mt_dnn.runs.config_file import load_config
from tests.exporting import assert_same_ids, rows_for, run_of
from tests.tiny import tiny_classifier, tiny_encoder

SCORES = {"accuracy": 0.75, "f1": 0.5, "confusion_matrix": [[1, 0], [0, 1]]}
SUMMARY = {
    "selected_step": 1,
    "results": [
        {"task": "same", "split": "dev", "rows": 40, "scores": SCORES, "baseline": {"accuracy": 0.5, "f1": 0.66}},
        {"task": "negated", "split": "dev", "rows": 40, "scores": {"mcc": 0.1}, "baseline": {"mcc": 0.0}},
    ],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by what is special about them."""
    made = {
        "bert": ("bert", ["data.max_length=12", "adversary.mode=tat", "adversary.weight=2"]),
        "electra": ("electra", ["tasks=[same,odd]"]),
        "distilbert": ("distilbert", ["tasks=[same]"]),
        "modernbert": ("modernbert", ["tasks=[same,tagged,guessed,found]"]),
        "attention": ("bert", ["tasks=[same]", "encoder.pooler=attention"]),
        "mix": ("bert", ["tasks=[same]", "encoder.scalar_mix=true"]),
    }
    more = ("linked", "chained", "graded", "tagged", "odd", "guessed", "found")
    return {
        name: run_of(tmp_path_factory.mktemp(name), family, *options, more=more)
        for name, (family, options) in made.items()
    }


REFUSED = [
    ("bert", "--task linked", "no stochastic answer network; train with enable_san: false"),
    ("bert", "--task chained", "no conditional random field; train with crf: false"),
    ("bert", "--task graded", "no ordinal head; train it as task_type: classification or regression"),
    ("bert", "--task same_hard", "has a label_map, which transformers cannot express; use --task same"),
    ("bert", "--task sane", "no task 'sane', did you mean 'same'?"),
    ("bert", "", "--task: .* was trained on several tasks; give one of same, negated"),
    ("bert", "--task same --int8", "--int8: hf has no such files; use --to onnx"),
    ("bert", "--task same --encoder-only", "--encoder-only: leaves out all heads"),
    ("bert", "--task same --pooling mean", "--pooling: needs --to sentence-transformers and --encoder-only"),
    ("bert", "--task same --to onx", "--to: no 'onx', did you mean 'onnx'?"),
    ("bert", "--task tagged --to sentence-transformers", "a CrossEncoder has no sequence_labelling; use --to hf"),
    ("bert", "--encoder-only --to sentence-transformers --pooling meen", "--pooling: no 'meen', did you mean 'mean'?"),
    ("electra", "--task same", "a tanh layer was trained .* 'electra' has gelu there .*encoder.pooler=family"),
    ("distilbert", "--task same", "a tanh layer was trained .* 'distilbert' has relu there"),
    ("modernbert", "--task same", "a tanh layer was trained .* 'modernbert' has gelu and a LayerNorm there"),
    ("modernbert", "--task tagged", "no layer was trained below the head of tagged, but 'modernbert' has gelu and a"),
    ("modernbert", "--task found", "no layer was trained below the head of found, but 'modernbert' has gelu and a"),
    ("modernbert", "--task guessed", "layers of its head are not those that 'modernbert' has .*pooler=family"),
    ("attention", "--task same", "has the pooler attention; train with encoder.pooler=family"),
    ("mix", "--task same", "encoder.scalar_mix: transformers has no mix of levels"),
    ("mix", "--encoder-only", "encoder.scalar_mix: transformers has no mix of levels"),
]


@pytest.mark.parametrize(("run", "options", "said"), REFUSED, ids=[f"{run} {words}" for run, words, _ in REFUSED])
def test_what_cannot_be_exported_is_refused_in_one_line(
    run: str, options: str, said: str, runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(runs[run]), "--output", str(tmp_path / "out"), *options.split()])
    printed = capfd.readouterr()
    assert exit_.value.code == 2 and printed.out == "" and list(tmp_path.iterdir()) == []
    assert printed.err.startswith("mt-dnn: ") and printed.err.count("\n") == 1
    assert re.search(said, printed.err), printed.err


def test_a_folder_with_something_in_it_stays_as_it_is(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already; choose another --output"):
        export(runs["attention"], tmp_path, encoder_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(tmp_path / "a" / "b") as folder:
        (folder / "half").write_text("…")
        raise KeyError
    assert list((tmp_path / "a").iterdir()) == []
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "all").write_text("…")
        assert [path.name for path in (tmp_path / "a").iterdir()] == [folder.name]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_an_error_of_another_file_is_not_one_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, new_folder(tmp_path / "out"):
        (tmp_path / "weights").read_bytes()
    assert raised.value.filename == str(tmp_path / "weights") and list(tmp_path.iterdir()) == []
    with (
        pytest.raises(UserError, match=r"out: cannot be written \(No such file"),
        new_folder(tmp_path / "out") as folder,
    ):
        (folder / "none" / "file").write_text("…")
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(NotSaved, match=r"out: cannot be written \(No space"), new_folder(tmp_path / "out") as folder:
        raise full


def test_a_stopped_export_leaves_nothing(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, received: list[int]
) -> None:
    def stopped(model: TrainedModel, task: str | None, folder: Path, name: str) -> None:
        (folder / "half").write_text("…")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("mt_dnn.inference.export.write.write_hf", stopped)
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(runs["bert"]), "--encoder-only", "--output", str(tmp_path / "out")])
    assert exit_.value.code == 128 + signal.SIGTERM and list(tmp_path.iterdir()) == [] and not received


@pytest.fixture
def scored(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run, with scores."""
    folder = shutil.copytree(runs["bert"], tmp_path_factory.mktemp("scored") / "run", symlinks=True)
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    return folder


@pytest.fixture
def exported(scored: Path, tmp_path: Path) -> Path:
    """The task same of a run with scores."""
    export(scored, tmp_path / "out", task="same")
    return tmp_path / "out"


def test_the_hub_reads_the_scores_of_the_card(exported: Path, runs: dict[str, Path]) -> None:
    card = ModelCard.load(exported / "README.md")
    name, scores = model_index_to_eval_results(card.data.to_dict()["model-index"])
    found = {(score.dataset_name, score.dataset_split, score.metric_type): score.metric_value for score in scores}
    assert name == "run" and found == {("same", "dev", "accuracy"): 0.75, ("same", "dev", "f1"): 0.5}
    assert card.data.pipeline_tag == "text-classification" and card.data.library_name == "transformers"
    assert card.data.license is None and card.data.base_model is None and card.data.tags == ["mt-dnn", "tat"]


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("FacebookAI/roberta-base", "hub", "FacebookAI/roberta-base"),
        ("encoders/distilbert-cased", "folder", "distilbert-cased"),
        ("encoders/gone", "folder", "gone"),
        ("beside/deleted", "folder", "deleted"),
        ("some/where/else", "folder", "else"),
        ("./some/encoder", "folder", "encoder"),
        ("../some/encoder", "folder", "encoder"),
        ("~/encoder", "folder", "encoder"),
        ("/home/someone/secret/encoder", "folder", "encoder"),
        ("package:some_package/model", "folder", "package:some_package/model"),
    ],
)
def test_only_a_name_on_the_hub_is_a_base_model(
    name: str, kind: str, shown: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of a folder only the last name is told, also if it is no longer there."""
    (tmp_path / "encoders" / "distilbert-cased").mkdir(parents=True)
    beside = runs["bert"].parent / "beside"  # the command was run there, and the export is made somewhere else
    beside.mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    model = load(runs["bert"])
    revision = "v1" if kind == "hub" else None
    encoder = model.config.encoder.model_copy(update={"name": name, "tokenizer": name, "revision": revision})
    model.config = model.config.model_copy(update={"encoder": encoder})
    write_card(tmp_path, model, Content(None, "transformers", "feature-extraction", ""))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == (name if kind == "hub" else None)
    settings = yaml.safe_load(card.text.split("```yaml\n")[1].split("```")[0])
    version = " at revision `v1`" if kind == "hub" else ""
    assert f"The encoder `{shown}`{version}, fine-tuned" in card.text
    assert {settings["encoder"]["name"], settings["encoder"]["tokenizer"]} == {shown}


def test_a_model_of_transformers_is_no_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder, classifier = tiny_encoder(tmp_path / "encoder"), tiny_classifier(tmp_path / "classifier")
    capfd.readouterr()
    for folder, options in ((encoder, ""), (encoder, "--encoder-only"), (classifier, ""), (classifier, "--to=onnx")):
        with pytest.raises(SystemExit) as exit_:
            main(["export", str(folder), "--output", str(tmp_path / "out"), *options.split()])
        said = "is a model of transformers, not a run; use it as it is, or give the folder of a run\n"
        assert exit_.value.code == 2 and capfd.readouterr().err == f"mt-dnn: {folder}: {said}"
    assert not (tmp_path / "out").exists()


def test_the_card_says_how_the_run_was_trained(exported: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    assert "| dev | 40 | accuracy | 0.7500 | 0.5000 |" in text and "One run, with seed 1." in text
    assert "; train: 8 rows; dev: 40 rows; test: 9 rows." in text
    assert "Adversary: tat." in text and "the mt-dnn authors" in text and "Labels: different, same." in text
    assert str(runs["bert"].parent) not in text, "a card tells no paths"
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    (tmp_path / "run.yml").write_text(yaml.safe_dump(settings))
    again, trained = load_config(tmp_path / "run.yml"), load_config(runs["bert"] / "config.yml")
    assert (again.adversary, again.train, again.seed) == (trained.adversary, trained.train, trained.seed)


def test_the_example_of_the_card_runs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported.parent)
    code = (exported / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, "card", "exec"), {})


def test_the_threshold_of_no_answer_is_a_setting(tmp_path: Path) -> None:
    """A linear layer cannot subtract it at the first token only."""
    run = run_of(tmp_path, "bert", "tasks=[found]", more=("found",))
    (file,) = run.glob("checkpoints/*/task_defs.yml")
    tasks = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({"found": {**tasks["found"], "no_answer": True}}))
    model, rows = load(run), rows_for("found", 4)
    model.model.heads["found"].threshold.fill_(0.5)  # type: ignore[operator]
    ours, exported = model.logits("found", rows), task_model(model, "found")
    assert exported.config.no_answer_threshold == 0.5 and "is above 0.5" in notes_of(exported)[0]
    for row, logits in zip(rows, ours, strict=True):
        found = exported(**tokenizer_of(model, exported)(row["question"], row["context"], return_tensors="pt"))
        both = torch.cat([found.start_logits, found.end_logits]).detach()
        both[:, 0] -= 0.25
        torch.testing.assert_close(both, torch.from_numpy(logits), atol=1e-5, rtol=0)


def test_files_of_sentence_transformers(runs: dict[str, Path], tmp_path: Path) -> None:
    """As the library writes them since its version 2."""
    export(runs["bert"], tmp_path / "out", target="sentence-transformers", encoder_only=True, pooling="max")

    def content(name: str) -> Any:
        return json.loads((tmp_path / "out" / name).read_text())

    parts = {part["path"]: part["type"].rpartition(".")[2] for part in content("modules.json")}
    assert parts == {"": "Transformer", "1_Pooling": "Pooling"}
    chosen = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}
    assert content("1_Pooling/config.json") == {"word_embedding_dimension": 32, **chosen}
    assert content("sentence_bert_config.json") == {"max_seq_length": 12, "do_lower_case": False}
    export(runs["bert"], tmp_path / "cross", target="sentence-transformers", task="overlap")
    settings = json.loads((tmp_path / "cross" / "config.json").read_text())
    assert settings["sentence_transformers"] == {"activation_fn": "torch.nn.modules.linear.Identity"}
    card = (tmp_path / "cross" / "README.md").read_text(encoding="utf-8")
    assert "- Values are from 0 to 5. The model's output is not clipped to this range." in card
    assert "- The output is the value itself, in the units of the training rows." in card


def test_sentence_transformers_loads_its_folders(runs: dict[str, Path], tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    model, rows = load(runs["bert"]), rows_for("overlap", 8)
    texts = [row["premise"] for row in rows]
    export(runs["bert"], tmp_path / "out", target="sentence-transformers", encoder_only=True)
    vectors = library.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts)
    assert vectors == pytest.approx(model.embed(texts), abs=1e-5)
    export(runs["bert"], tmp_path / "cross", target="sentence-transformers", task="overlap")
    values = library.CrossEncoder(str(tmp_path / "cross"), device="cpu").predict([tuple(row.values()) for row in rows])
    expected = [row.get("output", row["prediction"]) for row in model.predict("overlap", rows)]
    assert values == pytest.approx(expected, abs=1e-5)


def test_scores_of_another_checkpoint_are_left_out(scored: Path) -> None:
    (scored / "summary.json").write_text(json.dumps({**SUMMARY, "selected_step": 2}))
    model = load(scored)
    assert read_results(model, model.task("same")) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is damaged (Expecting"),
        ("[]", "is damaged (list indices"),
        ("{}", "is damaged (no 'selected_step'); rest"),
    ],
)
def test_a_damaged_summary_is_named_and_nothing_is_exported(
    content: str, said: str, scored: Path, tmp_path: Path
) -> None:
    file = scored / "summary.json"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        export(scored, tmp_path / "out", task="same")
    assert f"{file}: {said}" in str(error.value) and not list(tmp_path.iterdir())


def test_labels_and_lengths_are_those_of_the_run(exported: Path, runs: dict[str, Path]) -> None:
    settings, tokenizer = AutoConfig.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    assert settings.id2label == {0: "different", 1: "same"} and settings.label2id == {"different": 0, "same": 1}
    assert settings.problem_type == "single_label_classification"
    assert settings.architectures == ["BertForSequenceClassification"] and tokenizer.model_max_length == 12
    model, rows = load(runs["bert"]), rows_for("same")
    split: Any = model._encode("same", rows)[1]
    assert split.manifest["truncated"] > 10
    assert_same_ids(tokenizer, split, "same", rows)
