"""README.md and docs/: the commands of their code blocks are run on small data, their links and paths lead somewhere.

A command of a code block in README.md or docs/guide.md is run, unless NOT_RUN gives a reason; its flags are checked
then. So a new block is run by this test as it stands, or has to be listed here. Of every other command that a page
names the flags are checked.
"""

from __future__ import annotations

import csv
import functools
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bare import TEXTS
from conftest import ROOT
from nus_release import Release
from tiny import make_store

import engine.evaluation
from baselines import recipe
from common.console import InputError
from dataloader.store import FeatureStore

RUN = ("README.md", "docs/guide.md")
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
NOT_COMMANDS = ("text", "bibtex", "python")  # languages of code blocks that hold none

TORCHRUN = "torchrun "  # what it starts is run by tests/test_distributed.py
NOT_RUN = {
    "pip install -r requirements.txt": "what the tests run in is installed already",
    "pip install -r requirements-dev.txt": "what the tests run in is installed already",
    "python data/demo/run.py": "takes two minutes; it is what CI runs",
    "python -m pytest": "it is what runs this test",
}
# What stands in a command -> what it is on small data, in the folder that the commands of a page are run in;
# <run> is the newest folder in train_results.
PLACES = {
    "<folder of the release>": "release",
    "=MMRA --preset recommended": "=MMRA --preset recommended --epochs 2",  # a row of compare.py
}
# What is typed after a command, where a later flag goes before an earlier one: small encoders, nothing from the hub,
# two epochs of narrow networks, a smaller table. train.py: those of the flags that the method has.
APPENDED = {
    "feature_engineering/textual_engineering.py": "--encoder {bert}",
    "train.py": "--epochs 2 --feature_dim 8",
    "baselines/compare.py": "--methods SVR --seeds 2024 --jobs 1",
}


# ---- what a page holds --------------------------------------------------------------------------


def code_blocks(page: str) -> list[tuple[str, str]]:
    """(language, content) of each."""
    return re.findall(r"^```(\S*)\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def block_commands(page: str) -> list[str]:
    """In the order of the page."""
    text = "".join(content for language, content in code_blocks(page) if language not in NOT_COMMANDS)
    lines = text.replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def prose(page: str) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def quoted(page: str) -> list[str]:
    """What stands in backticks."""
    return [" ".join(part.split()) for part in re.findall(r"`([^`]+)`", prose(page))]


def named_commands() -> Iterator[tuple[str, str]]:
    """(page, command) of all that is only named, or is in a block of a page whose blocks are not run."""
    for page in PAGES:
        inline = [part for part in quoted(page) if part.startswith("python ")]
        blocks = [] if page in RUN else [part for part in block_commands(page) if part.startswith("python ")]
        blocks += [part for part in block_commands(page) if part.startswith(TORCHRUN)]
        yield from ((page, command) for command in (*blocks, *inline))


# ---- running, and checking flags ----------------------------------------------------------------


@pytest.fixture(scope="module")
def script(load_script):
    """A script by its path, loaded once."""
    return functools.cache(load_script)


def words_of(command: str, run_folder: Path | str) -> list[str]:
    """A command's words after `python`, with the placeholders replaced."""
    for placeholder, place in {**PLACES, "<run>": str(run_folder)}.items():
        command = command.replace(placeholder, place)
    words = shlex.split(command)
    return words[words.index("train.py") :] if words[0] == "torchrun" else words[1:]


@pytest.fixture
def run_page(script, compare, bert, tmp_path, monkeypatch):
    """Run the commands of a page's blocks, one after the other, in tmp_path."""

    def run_command(command: str) -> None:
        runs = sorted(Path("train_results").glob("*"), key=lambda path: path.stat().st_mtime_ns)
        path, *flags = words_of(command, runs[-1] if runs else "<run>")
        flags += appended(path, flags, bert)
        if path == "baselines/compare.py":  # its trainings in this process too
            store = FeatureStore.open(Path("data") / flags[flags.index("--dataset_id") + 1])
            assert compare(store, "compare_results", *flags) == 0
        else:
            script(path).main(script(path).build_parser().parse_args(flags))

    def run_all(page: str, upto: int | None = None) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(engine.evaluation, "draw", lambda *_: {})  # a run's pictures have tests elsewhere
        commands = [one for one in block_commands(page) if one not in NOT_RUN and not one.startswith(TORCHRUN)]
        for command in commands[:upto]:
            assert re.match(r"python \S+\.py", command), f"{page}: neither run nor listed in NOT_RUN: {command}"
            try:
                run_command(command)
            except (InputError, SystemExit) as error:
                if not (isinstance(error, SystemExit) and error.code in (0, None)):  # --help ends so
                    pytest.fail(f"{page}: $ {command}\n{error}")

    return run_all


def appended(path: str, flags: list[str], bert: Path) -> list[str]:
    """The words of APPENDED for a script that is given `flags`."""
    words = APPENDED.get(path, "").format(bert=bert).split()
    if path != "train.py":
        return words
    model_id = flags[flags.index("--model_id") + 1] if "--model_id" in flags else "MMRA"
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for flag, value in pairs if flag[2:] in recipe(model_id).flags() for word in (flag, value)]


@pytest.fixture
def check_flags(script, tmp_path, capsys):
    """Parse a command as its script does; required flags may be missing where a command is only named."""
    make_store(tmp_path / "tiny")
    words = ["--dataset_path", str(tmp_path), "--dataset_id", "tiny", "--save", str(tmp_path / "runs"), "--epochs", "1"]
    train = script("train.py")
    train.main(train.build_parser().parse_args([*words, "--feature_dim", "8", "--num_of_retrieved_items", "5"]))
    (run,) = (tmp_path / "runs").iterdir()

    def check(page: str, command: str, *, complete: bool) -> None:
        path, *flags = words_of(re.sub(r"<(?!run>)[^>]*>", "placeholder", command), run)
        if path == "-m":
            name, *flags = flags
            spec = importlib.util.find_spec(name)
            assert spec, f"{page}: no module {name}: {command}"
            name += ".__main__" if spec.submodule_search_locations else ""
            made = importlib.import_module(name) if name.startswith(("benchmarks.", "prediction.")) else None
        else:
            assert (ROOT / path).is_file(), f"{page}: no script {path}: {command}"
            made = script(path) if "def build_parser" in (ROOT / path).read_text("utf-8") else None
        if made is None:  # it has no flags of its own
            return
        parser = made.build_parser()
        for action in parser._actions:
            action.required &= complete
        try:
            parser.parse_args(flags)
        except SystemExit as error:
            if error.code not in (0, None):
                pytest.fail(f"{page}: {command}\n{capsys.readouterr().err}")

    return check


# ---- small data ---------------------------------------------------------------------------------


def write_table(path: Path, number: int = 90, first: int = 0) -> None:
    """Titles from the number `first` on, of which the first five have no count; 90 are enough for 50 neighbours."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        views = {i: "" if i < 5 else rng.integers(1000) for i in range(first, first + number)}
        rows = [
            [f"v{i}", f"{TEXTS[i % 6]} {i % 7}", views[i], f"2024-01-{1 + i % 28:02d}", i % 3, i % 9] for i in views
        ]
        csv.writer(file).writerows([["item_id", "title", "views", "published", "category", "creator"], *rows])


def small_data(folder: Path) -> None:
    """What the commands of docs/guide.md read: tables, arrays, a release, and `mine`, a data set with all features."""
    write_table(folder / "t.csv")
    rng = np.random.default_rng(1)
    np.save(folder / "thumbnails.npy", rng.standard_normal((90, 12)).astype("f4"))
    np.save(folder / "a.npy", rng.standard_normal((90, 9)).astype("f4"))
    Release(folder / "release", 80).write()
    np.savez(folder / "release" / "histogram_feature.npz", arr_0=rng.random((80, 5), dtype="f4"))
    make_store(folder / "data" / "mine")


# ---- the tests ----------------------------------------------------------------------------------


def test_the_commands_of_the_readme_end_in_a_prediction(run_page, tmp_path):
    """Its commands, typed in order, predict the videos of another table, and learn counts of a third."""
    write_table(tmp_path / "videos.csv", 150)
    write_table(tmp_path / "new.csv", 3, first=150)
    write_table(tmp_path / "counted.csv", 8, first=150)
    run_page("README.md")
    with (tmp_path / "predictions" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        counts = {row["item_id"]: float(row["prediction_count"]) for row in csv.DictReader(file)}
    assert sorted(counts) == ["v150", "v151", "v152"] and np.isfinite(list(counts.values())).all()
    assert "v151" in (tmp_path / "predictions" / "report.html").read_text("utf-8")
    assert len(FeatureStore.open(tmp_path / "data" / "mine")) == 158


def test_twenty_lines_of_python_end_in_a_prediction(run_page, tmp_path, monkeypatch, capsys):
    """The block of docs/python.md, behind the first commands of the README."""
    write_table(tmp_path / "videos.csv", 150)
    write_table(tmp_path / "new.csv", 3, first=150)
    run_page("README.md", upto=2)
    ((_, block),) = (found for found in code_blocks("docs/python.md") if found[0] == "python")
    exec(compile(block, "docs/python.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("v150,")


@pytest.mark.slow
def test_the_commands_of_the_guide_run(run_page, tmp_path):
    """The blocks of docs/guide.md in order: data sets of any features, another method, the real result, the table."""
    small_data(tmp_path)
    run_page("docs/guide.md")
    with np.load(tmp_path / "data/t/neighbours.npz") as found:
        assert len(found["ids"]) == 90
    assert "MMRA recommended" in (tmp_path / "compare_results/NUS/table.md").read_text("utf-8")


def test_every_block_holds_commands_or_says_that_it_holds_none():
    """A block of another language would be neither run nor checked. What NOT_RUN lists stands in one of the blocks."""
    for page in PAGES:
        if unknown := {language for language, _ in code_blocks(page)} - {"", *NOT_COMMANDS}:
            pytest.fail(f"{page}: blocks of {unknown} are neither run nor known to hold no commands")
    assert set(NOT_RUN) <= {command for page in RUN for command in block_commands(page)}


def test_what_is_not_run_has_the_flags_of_its_script(check_flags):
    """The listed commands, and that what pip is to install is there."""
    for command in NOT_RUN:
        if command.startswith("pip install -r "):
            assert (ROOT / command.split()[-1]).is_file()
        else:
            check_flags("NOT_RUN", command, complete=True)


def test_commands_that_are_named_have_the_flags_of_their_scripts(check_flags):
    """Commands between words, in tables, and in the blocks of other pages."""
    named = list(named_commands())
    assert len(named) > 20
    for page, command in named:
        check_flags(page, command, complete=False)


def test_relative_links_lead_somewhere():
    """Files and headings; pages of other sites are not visited."""
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", prose(page)):
            if target.startswith(("http:", "https:")):
                continue
            found = ((ROOT / page).parent / target).resolve() if target else ROOT / page
            assert found.exists(), f"{page} links to {target}, which is not there"
            if anchor:
                assert anchor[1:] in headings(found), f"{page} links to {target}{anchor}: no such heading"


def headings(page: Path) -> set[str]:
    """As they are linked to."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_paths_of_code_exist():
    """What ends in .py and names a folder; a path with a placeholder is none."""
    for page in PAGES:
        for part in quoted(page):
            for path in re.findall(r"[\w./<>-]+/[\w-]+\.py\b", part):
                assert "<" in path or (ROOT / path).is_file(), f"{page} names {path}, which is not there"
