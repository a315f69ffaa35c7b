"""Files for people who cite, report and check: they agree with setup.py and with each other."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

TOP = (
    "CHANGELOG.md CITATION.cff CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md constraints-lowest.txt "
    "constraints.txt data_utils docker docs experiments mt_dnn pyproject.toml scripts setup.py task_defs tests "
    "zensical.toml"
)
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def of_setup(name: str) -> Any:
    """An argument of setup()."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == name]
    return ast.literal_eval(keywords[-1].value)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_no_stray_file_is_committed() -> None:
    """For example what a profiler wrote."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    top = {name.split("/")[0] for name in tracked.split("\0") if name}
    assert sorted(name for name in top if not name.startswith(".")) == sorted(TOP.split())


def test_the_citation_names_the_version_and_nobody_invented() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "type"} < set(citation)
    assert (citation["version"], citation["license"]) == (of_setup("version"), of_setup("license"))
    assert citation["authors"] == [{"name": of_setup("author")}]
    assert not {"doi", "url", "repository-code", "identifiers", "contact"} & set(citation)


def test_the_changelog_begins_with_the_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert headings[0] == of_setup("version") and len(set(headings)) == len(headings)


def test_the_workflow_runs_the_test_command_on_every_python() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    commands = [step.get("run", "") for step in jobs["suite"]["steps"]]
    assert any("bash scripts/test.sh" in command for command in commands)
    low, high = re.findall(r"3\.(\d+)", of_setup("python_requires"))
    assert jobs["suite"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(low), int(high))]
    lowest = " ".join(step.get("run", "") for step in jobs["lowest"]["steps"])
    (documented,) = re.findall(r"pip (install -c .*?) &&", (ROOT / "constraints-lowest.txt").read_text())
    assert documented in lowest
    assert {"3.10", "3.13"} <= set(jobs["lowest"]["strategy"]["matrix"]["python"])


def test_the_workflow_asks_for_known_vulnerabilities_of_all_pinned_versions() -> None:
    """``--strict``: a version of which nothing is known fails too."""
    job = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["vulnerabilities"]
    assert "make audit PYTHON=python" in job["steps"][-1]["run"]
    assert {"3.10", "3.13"} <= set(job["strategy"]["matrix"]["python"])  # some versions are pinned for 3.10 alone
    (recipe,) = re.findall(r"^audit:.*\n\t(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert {"pip_audit", "--strict", "constraints.txt"} <= set(recipe.split())


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_they_need(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) and all(field["attributes"]["label"] for field in form["body"])
    assert {field["type"] for field in form["body"]} <= {"textarea", "input", "dropdown", "checkboxes", "markdown"}
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_there_are_issue_forms() -> None:
    assert [path.stem for path in FORMS] == ["bug", "feature", "result"]


def test_the_image_copies_what_there_is_and_has_extras_that_there_are() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.M) for name in line.split()]
    assert {"setup.py", "data_utils", "mt_dnn", "task_defs", "experiments"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", text, flags=re.M)
    known = re.findall(r'^    "([a-z]+)": \[', (ROOT / "setup.py").read_text(encoding="utf-8"), flags=re.M)
    assert extras and set(extras.split(",")) <= set(known)
    (pinned,) = re.findall(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M)
    assert set(re.findall(r"torch==(\S+)", text)) == {pinned}
    assert "\nHEALTHCHECK " in text and "\nUSER trainer\n" in text


def test_the_health_check_asks_the_port_of_a_server() -> None:
    spec = spec_from_file_location("healthcheck", ROOT / "docker" / "healthcheck.py")
    assert spec is not None and spec.loader is not None
    check = module_from_spec(spec)
    spec.loader.exec_module(check)
    base = ["python", "/usr/local/bin/mt-dnn", "serve", "runs/a"]
    assert [check.port([*base, *more]) for more in ([], ["--port", "81"], ["--port=82"])] == ["8000", "81", "82"]
    assert check.main(["mt-dnn", "train", "run.yml"]) == 0
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        check.main([*base, "--port", str(port)])
