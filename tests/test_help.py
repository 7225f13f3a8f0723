"""`--help` of every script: it ends well, each flag is described and stands in a group with a title."""

from __future__ import annotations

import re
import runpy
import sys
import textwrap

import pytest
from conftest import ROOT

from baselines import METHODS
from common.console import Parser

OF_A_METHOD = ("train.py", "test.py")
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.py")
    if not {"tests", ".venv"} & set(path.relative_to(ROOT).parts) and "\n    run_script(" in path.read_text("utf-8")
)
UNTITLED = ("options", "positional arguments")  # where argparse puts what is in no group
LONGEST = 8  # lines of 100 characters of a paragraph


@pytest.fixture
def asked(monkeypatch, capsys):
    """Parsers that were asked for their help, and what they printed."""
    seen, printed = [], Parser.print_help
    monkeypatch.setenv("COLUMNS", "102")

    def print_help(self, file=None):
        seen.append(self)
        printed(self, file)

    monkeypatch.setattr(Parser, "print_help", print_help)
    return seen


def check(parser: Parser, said: str) -> None:
    for group in parser._action_groups:
        loose = [action for action in group._group_actions if action.dest != "help" and action.option_strings]
        assert group.title not in UNTITLED or not loose, f"in no titled group: {[action.dest for action in loose]}"
    for action in parser._actions:
        assert action.help, f"not described: {action.dest}"
    assert "default: None" not in said
    for paragraph in parser.description.strip().split("\n\n"):
        lines = textwrap.wrap(" ".join(paragraph.split()), 100)
        assert len(lines) <= LONGEST or re.search(r"\n--", paragraph), paragraph  # a list of flags has a line for each
        assert lines[0] in said or paragraph.startswith("--"), "paragraphs run into one another"


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_readable(script, asked, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(ROOT / script), "--help"])
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert ended.value.code == 0
    check(asked[0], capsys.readouterr().out)


@pytest.mark.parametrize("script", OF_A_METHOD)
def test_help_of_every_method_is_readable(script, load_script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "102")
    for model_id in METHODS:
        parser = load_script(script).build_parser(model_id)
        check(parser, parser.format_help())
