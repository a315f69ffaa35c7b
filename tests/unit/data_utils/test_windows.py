"""Words and answers found in the text, long texts cut into windows and joined again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from data_utils.windows import first_tokens, home_windows
from mt_dnn.batches.collate import collate, share_of_rank
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.spans import Spans
from mt_dnn.tasks.words import WordClasses
from tests.tiny import tiny_encoder
from tests.unit.batches.test_batch import split_of

TAGS = TaskDef(
    name="t",
    task_type="sequence_labelling",
    data_format="words",
    labels=("O", "B-X", "I-X"),
    **TASK_TYPES["sequence_labelling"].defaults,
)
SPAN = TaskDef(name="s", task_type="span", data_format="question_context", **TASK_TYPES["span"].defaults)
MAYBE = SPAN.model_copy(update={"no_answer": True})


@pytest.fixture(scope="module", params=["bert", "roberta"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(str(tiny_encoder(tmp_path_factory.mktemp(request.param), request.param)))


def read(folder: Path, task: TaskDef, rows: list[list[str]], tokenizer: Any, **options: Any) -> Prepared:
    header = ["uid", "label", *(["words"] if task is TAGS else ["question", "context"])]
    lines = ["\t".join(row) for row in [header, *rows]]
    (folder / f"{task.name}_dev.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    chosen = {"max_length": 64, "stride": 4, **options}
    return prepare(task, "dev", data_dir=folder, cache_dir=folder / "cache", tokenizer=tokenizer, **chosen)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=5))
def test_a_token_belongs_where_it_has_most_context(steps: list[tuple[int, int]]) -> None:
    spans, first, last = list[tuple[int, int]](), 0, 0
    for more, length in steps:
        first, last = min(first + more, last), max(last, min(first + more, last) + length)
        spans.append((first, last))
    homes = home_windows(spans)
    assert len(homes) == last
    for token, home in enumerate(homes):
        contexts = [min(token - a, b - 1 - token) for a, b in spans if a <= token < b]
        a, b = spans[home]
        assert a <= token < b and min(token - a, b - 1 - token) == max(contexts)


def test_first_tokens() -> None:
    words = ["New", "York", "is", "x", "!"]  # "New York is x !"
    offsets = np.array([[0, 3], [3, 6], [6, 8], [8, 11], [11, 11], [14, 15]])  # some begin with the space before
    assert first_tokens(words, offsets).tolist() == [0, 1, 3, -1, 5]


def test_every_word_has_its_label_whatever_the_window(tokenizer: Any, tmp_path: Path) -> None:
    """Sentences of up to 60 words in windows of 12 tokens: each word once, at its first token, in order."""
    rng = np.random.default_rng(1)
    vocabulary = ["cat", "unsees", "2b", "dog's", "the"]
    rows, labels = [], []
    for number in range(20):
        words = [vocabulary[i] for i in rng.integers(0, 5, rng.integers(1, 60))]
        own = [TAGS.labels[vocabulary.index(word) % 3] for word in words]  # a word tells its label
        rows.append([f"u{number}", " ".join(own), " ".join(words)])
        labels.append(own)
    split = read(tmp_path, TAGS, rows, tokenizer, max_length=12)
    assert split.labels is not None and split.decisions is not None and split.marked is not None
    assert split.lengths.max() <= 12 and len(split) > 30 and split.uids == [row[0] for row in rows]
    assert [TAGS.labels[label] for label in split.labels] == [label for own in labels for label in own]
    decoded = Decoded(split.labels, np.eye(3)[split.labels])
    lines = list(WordClasses().records(TAGS, split, decoded))
    assert [line["prediction"] for line in lines] == labels
    bounds = WordClasses().answers(TAGS, split, decoded).bounds
    assert bounds is not None and bounds.tolist() == np.cumsum([0, *map(len, labels)]).tolist()
    batch = collate(split, range(len(split)), task="t")
    assert batch.marked is not None and batch.labels is not None
    texts = [text.strip("Ġ") for text in tokenizer.convert_ids_to_tokens(batch.input_ids[batch.marked].tolist())]
    for text, label in zip(texts, batch.labels.tolist(), strict=True):
        assert text in {word[: len(text)] for word in vocabulary if vocabulary.index(word) % 3 == label}
    assert (np.diff(split.decisions) > 0).all()


def test_words_that_a_tokenizer_drops_become_unknown(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_encoder(tmp_path / "bert", "bert")))
    split = read(tmp_path, TAGS, [["u", "O B-X O", "cat \ufeff\ufe0f dog"]], tokenizer)
    batch = collate(split, [0], task="t")
    assert batch.labels is not None and batch.labels.tolist() == [0, 1, 0]
    assert tokenizer.convert_ids_to_tokens(batch.input_ids.tolist())[1:-1] == ["cat", tokenizer.unk_token, "dog"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["u", "O O", "cat dog bird"], "t_dev.tsv:2: 2 labels for 3 words"),
        (["u", "O B-Y", "cat dog"], "label 'B-Y' is not one of O, B-X, I-X"),
        (["u", "O O", "cat  dog"], "t_dev.tsv:2: words: two spaces"),
        (["u", "O", ""], "words: no words"),
    ],
)
def test_wrong_words_are_one_line(row: list[str], message: str, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, TAGS, [row], tokenizer)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ('[[5, "cat"]]', "s_dev.tsv:2: label: the context has 'at ' at character 5, not 'cat'"),
        ('[[-1, "cat"]]', "at character -1"),
        ('["cat"]', "write the answers as JSON"),
        ("cat", "write the answers as JSON"),
        ('[[0, ""]]', "write the answers as JSON"),
        ("[]", "set no_answer: true"),
    ],
)
def test_wrong_answers_are_one_line(label: str, message: str, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, SPAN, [["u", label, "what", "the cat sees"]], tokenizer)


def contexts(rng: np.random.Generator, count: int) -> list[list[str]]:
    rows = []
    for number in range(count):
        words = [["cat", "unsees", "2b", "dog's", "the"][i] for i in rng.integers(0, 5, rng.integers(6, 60))]
        place = int(rng.integers(0, len(words) - 3))
        text, start = " ".join(words[place : place + 2]), len(" ".join(["", *words[:place]])) if place else 0
        rows.append([f"u{number}", json.dumps([[start, text]]), "the red bird", " ".join(words)])
    return rows


def test_right_logits_give_the_right_answer_from_any_window(tokenizer: Any, tmp_path: Path) -> None:
    """Contexts of up to 60 words in windows of 48 tokens; windows without the answer point at their first token."""
    rows = contexts(np.random.default_rng(2), 20)
    split = read(tmp_path, SPAN, rows, tokenizer, max_length=48, stride=12)
    assert split.labels is not None and split.lengths.max() <= 48 and len(split) > 30
    batch = collate(split, range(len(split)), task="s")
    assert batch.decisions is not None and batch.decisions.tolist() == list(range(0, 2 * len(split) + 1, 2))
    outputs, held = [], 0
    for start, end in split.labels.reshape(-1, 2):
        logits = np.zeros((2, 50), np.float32)  # wider than the window, as in a batch with longer ones
        logits[0, start], logits[1, end] = 9, 9
        outputs.append(logits)
        held += start > 0
    assert held >= len(rows) - 2  # an answer may fall on a cut
    decoded = Spans()(SPAN, SPAN, split, outputs)
    answers = Spans().answers(SPAN, split, decoded)
    right = [text in gold for text, gold in zip(answers.predictions, answers.labels, strict=True)]
    assert sum(right) >= len(rows) - 2
    for row, line in zip(rows, Spans().records(SPAN, split, decoded), strict=True):
        assert line["prediction"] and line["prediction"] in row[3]
        for best in line["n_best"]:
            assert row[3][best["start"] :].startswith(best["text"])
        assert sum(best["probability"] for best in line["n_best"]) == pytest.approx(1, abs=1e-3)


def test_no_answer_where_it_is_likelier(tokenizer: Any, tmp_path: Path) -> None:
    rows = [["u", "[]", "the", "cat dog bird"], ["v", '[[4, "dog"]]', "the", "cat dog bird"]]
    (tmp_path / "x").mkdir()
    split = read(tmp_path, MAYBE, rows, tokenizer)
    assert split.labels is not None and split.labels[:2].tolist() == [0, 0]
    start, end = split.labels[2:]
    nothing, dog = np.zeros((2, 12), np.float32), np.zeros((2, 12), np.float32)
    nothing[:, 0], dog[0, start], dog[1, end] = 5, 5, 5
    decoded = Spans()(MAYBE, MAYBE, split, [nothing, dog])
    assert decoded.predictions.tolist() == ["", "dog"] and decoded.scores[0] > 0 > decoded.scores[1]
    assert Spans()(SPAN, SPAN, split, [nothing, dog]).predictions[0] != ""


@given(st.lists(st.tuples(st.floats(-3, 3), st.booleans(), st.booleans()), min_size=1, max_size=12))
@example([(0.0, False, False), (-5e-324, True, True)])
def test_the_threshold_is_the_best_of_all(rows: list[tuple[float, bool, bool]]) -> None:
    """Rows of (score of no answer, has an answer, the text found is right) against every possible threshold."""
    gold = [json.dumps([[0, "cat"]] if answerable else []) for _, answerable, _ in rows]
    split: Any = SimpleNamespace(firsts=np.arange(len(rows)), contexts=SimpleNamespace(answers=pa.array(gold)))
    details = [[("cat" if right else "dog", 0, 1.0), ("", 0, 0.0)] for _, _, right in rows]
    scores = np.array([margin for margin, _, _ in rows])
    decoded = Decoded(np.array(["cat" if right else "dog" for _, _, right in rows], object), scores, details)

    def total(threshold: float) -> int:
        texts = [("cat" if right else "dog") if margin <= threshold else "" for margin, _, right in rows]
        return sum(text == ("cat" if answerable else "") for text, (_, answerable, _) in zip(texts, rows, strict=True))

    threshold = Spans().threshold(split, decoded)
    assert total(threshold) == max(total(bound) for bound in [-9, 0, *scores])
    assert threshold == 0 or total(threshold) > total(0)


def test_an_answer_of_which_nothing_is_left_is_none_for_the_threshold() -> None:
    split: Any = SimpleNamespace(firsts=np.arange(1), contexts=SimpleNamespace(answers=pa.array(['[[0, "An"]]'])))
    decoded = Decoded(np.array(["cat"], object), np.array([-1.0]), [[("cat", 0, 1.0), ("", 0, 0.0)]])
    assert Spans().threshold(split, decoded) < -1


def test_an_answer_has_at_most_thirty_tokens_and_starts_before_it_ends(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_encoder(tmp_path / "bert", "bert")))
    split = read(tmp_path, SPAN, [["u", '[[0, "cat"]]', "the", " ".join(["cat"] * 50)]], tokenizer)
    logits = np.zeros((2, 64), np.float32)
    logits[0, 40], logits[1, 10] = 9, 9  # the end before the start
    logits[0, 5], logits[1, 45] = 8, 8  # too long together
    text = Spans()(SPAN, SPAN, split, [logits]).predictions[0]
    assert 1 <= len(text.split()) <= 30


def test_ranks_count_by_decisions() -> None:
    """The weights of two shares add up to the examples of the batch, each by its words."""
    lengths, decisions = np.array([5, 3, 9]), np.array([0, 4, 5, 12])
    marked = np.concatenate([np.arange(4), [1], np.arange(7)])
    split = split_of(lengths.tolist(), np.zeros(12, np.int64), decisions=decisions, marked=marked)
    shares = [share_of_rank(lengths, rank, 2, 1) for rank in range(2)]
    batches = [collate(split, range(3), task="t", share=share) for share in shares]
    assert [batch.weight for batch in batches] == [3 * 8 / 12, 3 * 4 / 12]
    doubled = batches[0].repeated(2)
    assert doubled.marked is not None and batches[0].marked is not None and doubled.decisions is not None
    tokens = len(batches[0].input_ids)
    assert doubled.marked.tolist() == [*batches[0].marked.tolist(), *(batches[0].marked + tokens).tolist()]
    assert doubled.decisions.tolist() == [0, 1, 8, 9, 16]
