"""The repository's own files agree with each other."""

import re
import subprocess

import pytest
import yaml
from packaging.requirements import Requirement

from tools.book import ROOT, Site, chapters

URL = re.compile(r"github\.com/[\w.-]+/vae_teach\b|[\w-]+\.github\.io/vae_teach\b")
DERIVED = {"CITATION.cff", "README.md", "CHANGELOG.md", "pyproject.toml"}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def tracked():
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listing.stdout.splitlines()]


def test_the_address_is_written_once():
    site = Site.read()
    right = {url.removeprefix("https://") for url in (site.repository, site.pages)}
    for path in tracked():
        try:
            found = set(URL.findall(path.read_text()))
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        assert found <= right, path
        if path.suffix != ".ipynb" and path.name not in DERIVED | {"_config.yml"}:
            assert not found, f"{path}: derive the address from _config.yml"


def test_colab_constraints_pin_exactly():
    lines = (ROOT / "colab-constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {"jax", "flax", "numpy"} <= {pin.name for pin in pins}
    assert all(str(pin.specifier).startswith("==") for pin in pins)


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 40


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_is_whole(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow[True]  # YAML reads the key "on" as true
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"] <= 60
        assert all({"uses", "run"} & set(step) for step in job["steps"])


def test_readme_names_only_targets_that_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        named = re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)
        assert set(named) <= set(targets), page


def test_requirements_are_made_as_they_say():
    header = (ROOT / "requirements.txt").read_text().splitlines()[1]
    assert header.removeprefix("#").strip() in (ROOT / "Makefile").read_text()


def test_notebooks_run_as_in_colab_in_ci_and_all_of_them_weekly():
    (two,) = re.findall(r'make colab COLAB="(.*)"', (ROOT / ".ci/run").read_text())
    assert len(two.split()) == 2
    assert {f"book/{name}" for name in two.split()} <= chapters().keys()
    weekly = yaml.safe_load((ROOT / ".github/workflows/weekly.yml").read_text())
    runs = [s.get("run") for job in weekly["jobs"].values() for s in job["steps"]]
    assert "make colab" in runs
