"""The rows of the quick start: three small tasks and a challenge set, made of the words in its grammar.yml."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data_utils.errors import os_errors
from data_utils.rows import write_rows
from data_utils.shipped import shipped

GRAMMAR = shipped("experiments/quickstart/grammar.yml")
LABELS = ("not_entailment", "entailment")
SIZES = {
    "nli": {"train": 1300, "dev": 200},
    "acceptability": {"train": 1300, "dev": 200},
    "similarity": {"train": 900, "dev": 160},
    "nli_challenge": {"test": 300},
}
Row = dict[str, str]


class Noun(NamedTuple):
    singular: str
    plural: str


class Verb(NamedTuple):
    base: str
    present: str
    past: str
    participle: str


FORMS: Mapping[str, type[Noun] | type[Verb]] = {"person": Noun, "act": Verb, "do": Verb}


class Lexicon:
    """Draws words for slots: ``{act1.past}`` is the past tense of the first verb drawn from ``act``."""

    def __init__(self, words: Mapping[str, Sequence[str]], rng: random.Random) -> None:
        self.rng = rng
        self.words: dict[str, list[Any]] = {
            kind: [FORMS[kind](*entry.split()) for entry in entries] if kind in FORMS else list(entries)
            for kind, entries in words.items()
        }

    def fill(self, *templates: str) -> list[str]:
        """The templates as sentences, equal slots filled alike and slots of one kind all different."""
        slots = sorted(set(re.findall(r"{([a-z]+)(\d)", " ".join(templates))))
        drawn = {kind: self.rng.sample(self.words[kind], len(self.words[kind])) for kind, _ in slots}
        values = {f"{kind}{number}": drawn[kind][int(number)] for kind, number in slots}
        return [sentence(text.format(**values)) for text in templates]


def sentence(text: str) -> str:
    """Capital letter, ``an`` before a vowel, full stop unless there is a mark already."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def nli_rows(lexicon: Lexicon, cases: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """Without end: the cases in turn, each with both labels in turn."""
    for (name, case), label in cycle([(item, label) for item in cases.items() for label in LABELS]):
        premise = case["cues"][label] if "cues" in case else case["premise"]
        hypothesis = case["hypothesis"] if "cues" in case else case[label]
        premise, hypothesis = lexicon.fill(premise, hypothesis)
        yield {"label": label, "premise": premise, "hypothesis": hypothesis, "case": name}


def acceptability_rows(lexicon: Lexicon, cases: Mapping[str, Mapping[str, list[str]]]) -> Iterator[Row]:
    """Without end: the phenomena in turn, each acceptable (1) and not (0) in turn."""
    for (name, case), label in cycle([(item, label) for item in cases.items() for label in ("0", "1")]):
        template = lexicon.rng.choice(case["good" if label == "1" else "bad"])
        yield {"label": label, "premise": lexicon.fill(template)[0], "case": name}


def similarity_rows(grammar: Mapping[str, Any], rng: random.Random) -> Iterator[Row]:
    """Without end: pairs that share from all to none of their slots, scored from 5 (same meaning) to 0."""
    for differing in cycle(range(len(grammar["share"]) + 1)):
        changed = set(rng.sample(list(grammar["share"]), differing))
        first, second, score = {}, {}, 5.0
        for slot, share in grammar["share"].items():
            relations = list(grammar["distance"]) if slot in changed else ["synonym", "same"]
            first[slot], second[slot], distance = related(grammar, slot, relations, rng)
            score -= share * distance
        form = "sentence"
        if rng.random() < 0.15:
            form, score = "negated", score - grammar["negation"]
        premise, hypothesis = grammar["sentence"].format(**first), grammar[form].format(**second)
        label = f"{max(score, 0):.2f}"
        yield {"label": label, "premise": sentence(premise), "hypothesis": sentence(hypothesis)}


def related(
    grammar: Mapping[str, Any], slot: str, relations: Sequence[str], rng: random.Random
) -> tuple[str, str, float]:
    """Two fillers of a slot that stand in one of the relations, and how far apart they are (0 to 1)."""
    kinds = grammar["concepts"][slot]
    kind, other_kind = rng.sample(list(kinds), 2)
    word, synonym = rng.sample(rng.choice(kinds[kind]), 2)
    nouns = slot in ("agent", "object")  # only their kinds can stand in a sentence as hypernyms
    relation = rng.choice([name for name in relations if nouns or name != "hypernym"])
    unrelated = rng.choice(rng.choice(kinds[other_kind]))
    other = {"same": word, "synonym": synonym, "hypernym": kind, "different": unrelated}
    return word, other[relation], grammar["distance"].get(relation, 0.0)


def fresh(rows: Iterator[Row], count: int, seen: set[tuple[str, str]]) -> list[Row]:
    """The next rows whose sentences were not seen before; adds them to ``seen``."""
    found: list[Row] = []
    while len(found) < count:
        row = next(rows)
        key = (row["premise"], row.get("hypothesis", ""))
        if key not in seen:
            seen.add(key)
            found.append(row)
    return found


def generate(output: Path, *, seed: int = 1) -> list[Path]:
    """All files of the quick start, the same for the same seed. Returns their paths."""
    grammar = yaml.safe_load(GRAMMAR.read_text(encoding="utf-8"))
    rng = random.Random(seed)
    lexicon = Lexicon(grammar["words"], rng)
    usual = {name: case for name, case in grammar["nli"].items() if not case.get("held_out")}
    traps = {name: case for name, case in grammar["nli"].items() if not name.startswith("plain/")}
    sources: dict[str, Callable[[], Iterator[Row]]] = {
        "nli": lambda: nli_rows(lexicon, usual),
        "acceptability": lambda: acceptability_rows(lexicon, grammar["acceptability"]),
        "similarity": lambda: similarity_rows(grammar["similarity"], rng),
        "nli_challenge": lambda: nli_rows(lexicon, traps),
    }
    with os_errors(output, "cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
    seen: set[tuple[str, str]] = set()
    return [
        write_split(output, task, split, fresh(sources[task](), count, seen), rng)
        for task, splits in SIZES.items()
        for split, count in splits.items()
    ]


def write_split(output: Path, task: str, split: str, rows: list[Row], rng: random.Random) -> Path:
    rng.shuffle(rows)
    path = output / f"{task}_{split}.tsv"
    numbered = [{"uid": f"{task}-{split}-{number}", **row} for number, row in enumerate(rows)]
    write_rows(path, numbered, list(numbered[0]))
    return path
