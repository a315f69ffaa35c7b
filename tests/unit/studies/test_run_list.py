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
    ],
)
def test_a_run_whose_configuration_cannot_be_read_says_so(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "run" / "config.yml"
    file.parent.mkdir()
    file.symlink_to(tmp_path / "gone") if content is None else file.write_text(content, encoding="utf-8")
    (state,) = run_states(tmp_path)
    assert state.state == "unreadable" and said in state.error and "task" not in state.error
