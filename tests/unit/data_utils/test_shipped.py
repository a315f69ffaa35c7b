"""Task files and files of experiments are found from every folder; the user's own files come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_utils import shipped
from data_utils.errors import UserError
from data_utils.shipped import find, notices
from data_utils.task_def import load_task_defs
from tests import ROOT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_of_the_toolkit_is_found_from_another_folder() -> None:
    path = Path("task_defs/quickstart.yml")
    assert find(path) == ROOT / path
    assert notices(path, "mine.yml") == [f"{path} is not in this folder, so that of mt-dnn is read: {ROOT / path}"]
    assert list(load_task_defs(path)) == list(load_task_defs(ROOT / path))


def test_a_file_of_the_user_comes_first(elsewhere: Path) -> None:
    path = Path("task_defs/quickstart.yml")
    path.parent.mkdir()
    path.write_text("mine: {task_type: classification, data_format: single}\n")
    assert find(path) == path and notices(path) == []
    assert list(load_task_defs(path)) == ["mine"]


@pytest.mark.parametrize("name", ["task_defs/none.yml", "setup.py", "tests/tiny.py", "../task_defs/glue.yml", ""])
def test_other_paths_stay_as_they_are(name: str) -> None:
    assert find(name) == Path(name) and notices(name) == []


def test_an_installed_package_has_the_files_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "_shipped"
    (packaged / "task_defs").mkdir(parents=True)
    (packaged / "task_defs" / "glue.yml").write_text("wrong: 1\n")
    monkeypatch.setattr(shipped, "PACKAGED", packaged)
    assert find("task_defs/glue.yml") == packaged / "task_defs" / "glue.yml"
    with pytest.raises(UserError) as caught:  # the message says which file was read
        load_task_defs("task_defs/glue.yml")
    assert str(caught.value).startswith(f"{packaged}/task_defs/glue.yml: wrong: ")
    assert find("task_defs/squad.yml") == Path("task_defs/squad.yml")  # not in the package: nothing else is searched
