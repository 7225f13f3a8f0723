"""A short part of the campaign of faults: nothing may end in what must never be; what it judges by can tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.faults.judging import content, differences, of_ended
from benchmarks.faults.running import Ended


def ended(code: int | None, stderr: str = "", killed: bool = False) -> Ended:
    return Ended(code, killed, "", stderr, 1.0)


def test_what_must_never_be_is_told():
    assert of_ended(ended(0, "warning: odd")) is None and of_ended(ended(None, killed=True)) is None
    assert of_ended(ended(2, "x.py: error: a: no such file\n")) is None
    assert of_ended(ended(1, "x\ncompare.py: 1 cell failed: SVR, seed 1: a: damaged\n")) is None
    assert of_ended(ended(None)) == "hang"
    assert of_ended(ended(1, "Traceback (most recent call last):\n  ...")) == "traceback"
    assert of_ended(ended(1, "x")) == of_ended(ended(2, "two\nlines")) == of_ended(ended(139)) == "odd end"


def test_content_is_compared_leaf_by_leaf(tmp_path: Path):
    for name, loss in (("MMRA_w_20260101-000000", 1.5), ("MMRA_w_20270101-111111-2", 2.5)):
        (tmp_path / name[-1] / name).mkdir(parents=True)
        record = {"loss": loss, "seconds": loss, "of": [1, {"x": "y"}]}
        (tmp_path / name[-1] / name / "a.json").write_text(json.dumps(record))
        (tmp_path / name[-1] / name / "log.txt").write_text(name)
        (tmp_path / name[-1] / name / "a.npy").write_bytes(b"1")
    one, other = content(tmp_path / "0"), content(tmp_path / "2")
    assert differences(one, other, set()) == ["MMRA_w/a.json: /0/loss"]
    assert not differences(one, other, {"MMRA_w/a.json: /0/loss"})
    (tmp_path / "2" / "MMRA_w_20270101-111111-2" / "a.npy").write_bytes(b"2")
    assert "MMRA_w/a.npy" in differences(one, content(tmp_path / "2"), set())


@pytest.mark.slow
def test_a_short_campaign(tmp_path, run):
    words = ("-m", "benchmarks.faults", "--seed", 5, "--minutes", 5, "--work", tmp_path)
    done = run(*words, "--trials", 10)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 trials, 0 with an outcome that must not be" in done.stdout
    again = run(*words, "--trials", 11)  # it goes on with the next
    assert again.returncode == 0 and "11 trials" in again.stdout, again.stdout + again.stderr
    lines = (tmp_path / "seed5/trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["trial"] for line in lines] == list(range(11))
