"""Models of transformers, loaded as if they were runs, beside transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoTokenizer, pipeline

import mt_dnn
from data_utils.errors import NotSaved, UserError
from mt_dnn.cli.main import app
from mt_dnn.inference.huggingface import task_name
from mt_dnn.inference.predict import predict_all, predict_file
from tests.tiny import CLASSES, FAMILIES, tiny_classifier, tiny_encoder
from tests.wild import weights, write_weights

TEXTS = ["the cat sees a dog", "not", "a small red bird likes the old man , the woman", "the cat"]
PAIRS = [(first, second) for first, second in zip(TEXTS, reversed(TEXTS), strict=True)]


def plain_logits(folder: Path, texts: list[Any], kind: str, dtype: torch.dtype) -> np.ndarray:
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder).to(dtype).eval()
    columns = [texts] if isinstance(texts[0], str) else [list(column) for column in zip(*texts, strict=True)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(*columns, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**encoded).logits.numpy()


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "xlm-roberta-xl"])
def test_classification_is_that_of_transformers(family: str, tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path, family)
    model = mt_dnn.load(folder, device="cpu")
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        model.model.to(dtype)
        for task, texts in (("default", TEXTS), ("default_pair", PAIRS)):
            expected = plain_logits(folder, texts, "SequenceClassification", dtype)
            found = np.concatenate(model.logits(task, texts))
            assert len({tuple(row) for row in found.round(3).tolist()}) == 4
            np.testing.assert_allclose(found, expected, atol=tolerance, rtol=tolerance)
    answers = model.predict("default", TEXTS)
    expected = plain_logits(folder, TEXTS, "SequenceClassification", torch.float64)
    assert [answer["prediction"] for answer in answers] == [CLASSES[row.argmax()] for row in expected]
    assert list(answers[0]["scores"]) == list(CLASSES.values())


def test_answers_are_those_of_the_pipeline(tmp_path: Path) -> None:
    """Also of a file, and through the task of a task file."""
    folder = tiny_classifier(tmp_path / "model")
    classify: Any = pipeline("text-classification", model=str(folder), top_k=None)
    model = mt_dnn.load(str(folder), device="cpu")
    (tmp_path / "rows.txt").write_text("\n".join(TEXTS) + "\n")
    for answers in (model.predict("default", TEXTS), predict_file(model, "default", str(tmp_path / "rows.txt"))):
        for answer, expected in zip(answers, classify(TEXTS), strict=True):
            assert answer["prediction"] == expected[0]["label"]
            scores = {entry["label"]: entry["score"] for entry in expected}
            assert answer["scores"] == pytest.approx(scores, abs=1e-5)
    labels = [answer["prediction"] for answer in model.predict("default", TEXTS)]
    rows = [{"premise": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    assert model.score("default", rows) == {"accuracy": 1.0}
    definition = "task_type: classification, data_format: single, labels: [bad, fine, good]"
    (tmp_path / "tasks.yml").write_text(f"default: {{{definition}}}\nmine: {{{definition}, head: default}}\n")
    mine = mt_dnn.load(folder, device="cpu", task_defs=tmp_path / "tasks.yml")
    assert mine.predict("mine", TEXTS) == model.predict("default", TEXTS)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_words_are_labelled_as_by_transformers(family: str, tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path, family, "TokenClassification", id2label={0: "O", 1: "B-X", 2: "I-X"})
    model = mt_dnn.load(folder, device="cpu")
    texts = ["the cat sees a strange dog", "not", "a bird"]
    expected = plain_logits(folder, texts, "TokenClassification", torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, found, logits in zip(texts, model.logits("default", texts), expected, strict=True):
        words = tokenizer(text).word_ids()
        heads = [words.index(number) for number in range(len(text.split(" ")))]
        np.testing.assert_allclose(found, logits[heads], atol=1e-5, rtol=1e-5)
    answers = model.predict("default", texts)
    assert [len(answer["prediction"]) for answer in answers] == [6, 1, 2]
    if family == "bert":
        tag: Any = pipeline("token-classification", model=str(folder), ignore_labels=[])
        named = {entry["start"]: entry["entity"] for entry in tag(texts[0])}
        starts = [0, *(number + 1 for number, character in enumerate(texts[0]) if character == " ")]
        assert answers[0]["prediction"] == [named[start] for start in starts]


def test_values_and_sets_of_labels(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "value", id2label={0: "score"})
    found = mt_dnn.load(folder, device="cpu").predict("default", TEXTS)
    expected = plain_logits(folder, TEXTS, "SequenceClassification", torch.float32)
    np.testing.assert_allclose([answer["prediction"] for answer in found], expected[:, 0], atol=1e-5)
    folder = tiny_classifier(tmp_path / "set", problem_type="multi_label_classification")
    logits = plain_logits(folder, TEXTS, "SequenceClassification", torch.float32)
    found = mt_dnn.load(folder, device="cpu").predict("default", TEXTS)
    for answer, row in zip(found, logits, strict=True):
        assert answer["prediction"] == [name for number, name in CLASSES.items() if row[number] > 0]
        np.testing.assert_allclose(list(answer["scores"].values()), 1 / (1 + np.exp(-row)), atol=1e-5)


def test_the_model_card_names_the_task(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path)
    card = "---\nmodel-index:\n- name: x\n  results:\n  - dataset:\n      name: {}\n---\n# x\n"
    for name, tasks in (("sst2", ["sst2", "sst2_pair"]), ("GLUE SST-2!", ["default", "default_pair"])):
        (folder / "README.md").write_text(card.format(name))
        assert list(mt_dnn.load(folder, device="cpu").tasks) == tasks
    for content in ("no card", "---\n: [\n---\n", "---\na: b\n---\n"):
        (folder / "README.md").write_text(content)
        assert list(mt_dnn.load(folder, device="cpu").tasks) == ["default", "default_pair"]


def test_an_encoder_only_embeds(tmp_path: Path) -> None:
    model = mt_dnn.load(tiny_encoder(tmp_path), device="cpu")
    assert not model.tasks and model.embed(TEXTS).shape == (4, 32)
    with pytest.raises(UserError, match=r"no task 'default'"):
        model.predict("default", TEXTS)


def test_vectors_of_a_classifier_are_those_of_its_encoder(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    encoded = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = plain(**encoded, output_hidden_states=True)
    model = mt_dnn.load(folder, device="cpu")
    for level in (0, 1, 2):
        found = model.embed(TEXTS, pooling="cls", level=level)
        np.testing.assert_allclose(found, output.hidden_states[level][:, 0].numpy(), atol=1e-5)
    token_model = tiny_classifier(tmp_path / "words", kind="TokenClassification")
    with pytest.raises(UserError, match="pooling: this encoder has no trained pooler; use cls, mean, max"):
        mt_dnn.load(token_model, device="cpu").embed(TEXTS, pooling="pooler")


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    for part, family in (("classifier", "bert"), ("pooler", "deberta-v2")):
        folder = tiny_classifier(tmp_path / part, family)
        kept = {name: value for name, value in weights(folder).items() if part not in name}
        write_weights(folder, kept)
    for source, message in (
        (tmp_path / "classifier", "the checkpoint lacks 2 weights: classifier.bias, classifier.weight"),
        (tmp_path / "pooler", f"{tmp_path / 'pooler'}: the checkpoint lacks weights: pooler.dense"),
        ("owner/absent-model", "owner/absent-model: no such folder here, and the hub cannot be reached"),
        ("package:no_such_package/model", "no_such_package"),
    ):
        with pytest.raises(UserError) as error:
            mt_dnn.load(source, device="cpu")
        assert message in str(error.value) and "\n" not in str(error.value)


def test_the_command_asks_which_texts_are_read(tmp_path: Path) -> None:
    """The task for single texts would ignore the second text of a pair."""
    (tmp_path / "rows.csv").write_text("premise,hypothesis\na cat,a dog\n")
    command = ["--input", str(tmp_path / "rows.csv"), "--device", "cpu"]
    folder = tiny_classifier(tmp_path / "model")
    with pytest.raises(
        UserError, match=r"several tasks; give one of default \(single\), default_pair \(pair\), or --all-tasks"
    ):
        app(["predict", str(folder), *command], standalone_mode=False)
    encoder = tiny_encoder(tmp_path / "encoder")
    for further in ([], ["--all-tasks"], ["--task", "default"]):
        with pytest.raises(UserError, match=f"^{encoder}: is an encoder without a task; predict with a trained run"):
            app(["predict", str(encoder), *command, *further], standalone_mode=False)
    words = tiny_classifier(tmp_path / "words", kind="TokenClassification")
    (tmp_path / "rows.csv").write_text("words\na cat\n")
    app(["predict", str(words), *command, "--output", str(tmp_path / "out.jsonl")], standalone_mode=False)
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 1


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_classifier(tmp_path / "cache")
    asked: list[Any] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    model = mt_dnn.load("owner/model", device="cpu")
    assert list(model.tasks) == ["default", "default_pair"] and str(model.run) == "owner/model"
    assert model.folder == folder
    assert [name for name, _ in asked] == ["owner/model"] and "*.safetensors" in asked[0][1]["allow_patterns"]
    assert "*.bin" not in asked[0][1]["allow_patterns"]


def test_weights_in_the_format_of_pytorch_are_fetched_only_if_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_classifier(tmp_path / "cache")
    expected = mt_dnn.load(folder, device="cpu").logits("default", CLASSES.values())
    state = weights(folder)
    (folder / "model.safetensors").unlink()
    asked: list[list[str]] = []

    def snapshot_download(name: str, *, allow_patterns: list[str], **options: Any) -> str:
        asked.append(allow_patterns)
        if "pytorch_model*.bin" in allow_patterns:
            torch.save(state, folder / "pytorch_model.bin")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    found = mt_dnn.load("owner/model", device="cpu").logits("default", CLASSES.values())
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    assert len(asked) == 2 and asked[1] == ["pytorch_model*.bin"]


@pytest.mark.parametrize("family", ["bert", "electra", "deberta-v2"])
def test_token_types_are_read_only_if_the_tokenizer_gives_them(family: str, tmp_path: Path) -> None:
    """The post-processor of the tokenizer makes types 0 and 1 for pairs all the same."""
    folder = tiny_classifier(tmp_path, family, type_vocab_size=2)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    found: dict[bool, np.ndarray] = {}
    for given in (True, False):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if given else [])]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
        tokenizer.save_pretrained(folder)
        encoded = AutoTokenizer.from_pretrained(folder)(*zip(*PAIRS, strict=True), padding=True, return_tensors="pt")
        assert ("token_type_ids" in encoded) is given
        with torch.no_grad():
            output = plain(**encoded, output_hidden_states=True)
        model = mt_dnn.load(folder, device="cpu")
        model.model.double()
        found[given] = np.concatenate(model.logits("default_pair", PAIRS))
        np.testing.assert_allclose(found[given], output.logits.numpy(), atol=1e-10)
        states = output.hidden_states[-1][:, 0].numpy()
        np.testing.assert_allclose(model.embed(PAIRS, pooling="cls"), states, atol=1e-10)
    assert abs(found[True] - found[False]).max() > 1e-3


def test_an_encoder_alone_reads_token_types_as_its_tokenizer_says(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.init_kwargs["model_input_names"] = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    encoded = AutoTokenizer.from_pretrained(folder)(*zip(*PAIRS, strict=True), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = transformers.AutoModel.from_pretrained(folder).eval()(**encoded).last_hidden_state
    found = mt_dnn.load(folder, device="cpu").embed(PAIRS, pooling="cls")
    np.testing.assert_allclose(found, states[:, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problem_type": "regression"}, "predicts 3 numbers for a text; only models with one number can be read"),
        ({"id2label": {0: "a", 1: "a", 2: "b"}}, "its labels, id2label in config.json, are of no task: "),
    ],
)
def test_settings_of_no_task_are_one_line(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path, **settings)
    with pytest.raises(UserError) as error:
        mt_dnn.load(folder, device="cpu")
    assert str(error.value).startswith(f"{folder}: {message}") and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"---\na: \xff\n---\n", b"---\na: 2020-99-99\n---\n"])
def test_a_card_that_cannot_be_read_names_no_task(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(content)
    assert task_name(tmp_path) == "default"


def test_an_encoder_predicts_no_file(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a cat\n")
    model = mt_dnn.load(tiny_encoder(tmp_path / "encoder"), device="cpu")
    with pytest.raises(UserError, match="is an encoder without a task"):
        list(predict_all(model, str(tmp_path / "rows.txt")))
    with pytest.raises(UserError, match=r"no task 'rte' \(it is an encoder without a task\)$"):
        list(predict_file(model, "rte", str(tmp_path / "rows.txt")))


def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.txt").write_text("a cat\n")
    folder = tiny_classifier(tmp_path / "model")
    with Path("/dev/full").open("w") as full:  # closing it writes what is left, as the end of the process does
        monkeypatch.setattr("sys.stdout", full)
        command = ["predict", str(folder), "--task", "default", "--input", str(tmp_path / "rows.txt")]
        with pytest.raises(
            NotSaved, match=r"^standard output: cannot be written \(No space left on device\); make room"
        ):
            app([*command, "--device", "cpu"], standalone_mode=False)
