"""What ``mt-dnn runs`` says of run folders whose files are missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt_dnn.studies.run_list import run_states


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "config.yml: no such configuration of a run"),
        ("a: [\n", "config.yml:2: not readable as YAML: "),
        ("- a\n", "config.yml: is not the configuration of a run"),
        ("adversary: vat\n", "config.yml: adversary: 'vat': Input should be a valid dictionary"),
        ("adversary: {mode: [vat]}\n", "config.yml: adversary.mode: "),
        ("tasks: 3\n", "config.yml: tasks: 3: Input should be a valid list"),
        ("seed: [1]\n", "config.yml: seed: "),
    ],
)
def test_a_run_whose_configuration_cannot_be_read_says_so(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "run" / "config.yml"
    file.parent.mkdir()
    file.symlink_to(tmp_path / "gone") if content is None else file.write_text(content, encoding="utf-8")
    (state,) = run_states(tmp_path)
    assert state.state == "unreadable" and said in state.error and "task definition" not in state.error


NO_RECORD = "is no record of a run (it has no '"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("record.json", "{", "record.json: not JSON ("),
        ("record.json", "[]", "record.json: a JSON object is expected, not list; remove this file, and mt-dnn sweep"),
        ("record.json", '{"error": "x"}', f"record.json: {NO_RECORD}run'); remove this file, and mt-dnn sweep"),
        ("record.json", '{"run": "a", "results": 1}', f"record.json: {NO_RECORD}id'); remove this file"),
        ("summary.json", "{", "summary.json: not JSON ("),
        ("summary.json", "[]", "summary.json: a JSON object is expected, not list"),
        ("summary.json", '{"selection": "dev"}', "summary.json: selection: 'dev': Input should be a valid"),
        ("summary.json", '{"selection": {"score": "high"}}', "summary.json: selection.score: 'high': Input should be"),
        ("summary.json", '{"selection": {"metric": 1}}', "summary.json: selection.metric: 1: Input should be"),
        ("task_defs.yml", "- a", "task_defs.yml: is no task file; restore it, or remove the folder"),
        ("task_defs.yml", "", "task_defs.yml: "),
    ],
)
def test_a_run_with_a_file_of_another_kind_says_so_and_the_others_are_listed(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    for run in ("bad", "good"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "config.yml").write_text("seed: 7\nadversary: {mode: vat}\n", encoding="utf-8")
    (tmp_path / "bad" / name).write_text(content, encoding="utf-8")
    (tmp_path / "good" / "summary.json").write_text('{"selection": {"metric": "loss", "score": -0.5}}')
    bad, good = run_states(tmp_path)
    assert bad.state == "unreadable" and said in bad.error and "\n" not in bad.error
    assert (good.state, good.mode, good.seed, good.score_text) == ("finished", "vat", 7, "0.5000")
