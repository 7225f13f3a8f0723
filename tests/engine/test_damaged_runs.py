"""Files of a run that hold what training does not write: --resume, test.py and compare.py say so in a line."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import make_store, refused, run_test, trained

import train
from engine.run import Run

SMALL = ("--feature_dim", 8, "--lr", "1e-3", "--epochs", 2, "--num_of_retrieved_items", 5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    return trained(store, tmp_path_factory.mktemp("runs"), *SMALL)


@pytest.fixture
def run(whole, tmp_path):
    """Without its manifest, which would tell of the damage before what is read of it does."""
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "manifest.jsonl").unlink()
    return folder


def resume(run, *more) -> None:
    train.main(train.build_parser().parse_args(["--resume", str(run), *map(str, more)]))


def changed_line(content: bytes, **values) -> bytes:
    first, *rest = content.splitlines(keepends=True)
    return json.dumps(json.loads(first) | values).encode() + b"\n" + b"".join(rest)


HISTORIES = {
    "not UTF-8": lambda content: b"\xff\xfe\n" + content,
    "deep": lambda content: b"[" * 100_000 + b"\n",
    "empty": lambda content: b"{}\n",
    "a list": lambda content: b"[1]\n",
    "another order": lambda content: b"".join(reversed(content.splitlines(keepends=True))),
    "no number": lambda content: changed_line(content, train_loss="low"),
    "no metrics": lambda content: changed_line(content, valid=[1]),
    "other metrics": lambda content: changed_line(content, valid={"x": 1}),
    "infinite": lambda content: content.replace(b'"score": ', b'"score": 1e999, "was": '),
    "an epoch that is a switch": lambda content: changed_line(content, epoch=True),
    "a best epoch to come": lambda content: changed_line(content, best_epoch=9),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_history(run, load_script, name):
    path = run / "history.jsonl"
    path.write_bytes(HISTORIES[name](path.read_bytes()))
    said = r"history.jsonl line [12]: not what training writes of an epoch"
    with refused(said):
        resume(run)
    if name in ("not UTF-8", "deep", "other metrics"):  # all that is read is read by the same
        with refused(said):
            run_test(load_script, "--model_path", run)
        assert not (run / "metrics.json").exists()


@pytest.mark.slow
def test_one_damaged_history_does_not_end_the_table(store, tmp_path, compare, capsys):
    flags = "--feature_dim 8 --lr 1e-3 --epochs 2 --num_of_retrieved_items 5"
    words = ("--methods", "MMRA", "SVR", "--flags", f"MMRA: {flags}", "--seeds", 1)
    assert compare(store, tmp_path, *words) == 0
    (history,) = tmp_path.glob("tiny/cells/MMRA*/seed1/*/history.jsonl")
    history.write_bytes(b"[" * 100_000 + b"\n")
    (history.parent / "manifest.jsonl").unlink()
    (tmp_path / "tiny" / "table.csv").unlink()
    assert compare(store, tmp_path, *words) == 1
    assert "history.jsonl line 1: not what training writes of an epoch" in capsys.readouterr().err
    assert "| SVR |" in (tmp_path / "tiny" / "table.md").read_text()


def parts(content, place=()):
    """The places in nested dictionaries, lists and tuples."""
    yield place
    numbered = enumerate(content if isinstance(content, list | tuple) else ())
    for name, part in content.items() if isinstance(content, dict) else numbered:
        yield from parts(part, (*place, name))


def replaced(content, place, value):
    if not place:
        return value
    made = copy.copy(content) if isinstance(content, dict) else list(content)
    made[place[0]] = replaced(made[place[0]], place[1:], value)
    return made


VALUES = [None, -1, 10**30, "x", float("nan"), True, [], {}, torch.zeros(3), torch.zeros(3, dtype=torch.int64)]
VALUES += [torch.eye(3).to_sparse(), torch.zeros(1, 1).expand(10**6, 10**6), torch.zeros(5056, dtype=torch.uint8)]


@pytest.mark.slow
def test_states_of_other_types_and_shapes(run):
    state, path = torch.load(run / "last.pt", weights_only=True), run / "last.pt"
    history = (run / "history.jsonl").read_bytes()
    rng, tried = np.random.default_rng(0), 0
    places = [place for place in parts(state) if len(place) < 2 or place[0] in ("optimiser", "random")]
    places = [place for place in places if "foreach" not in place and place != ("best_score",)]
    chosen = [place for place in places if len(place) < 3]
    chosen += [places[one] for one in rng.permutation(len(places))[:8]]
    for place in chosen:
        for value in [VALUES[one] for one in rng.permutation(len(VALUES))[:2]]:
            torch.save(replaced(state, place, value), path)
            with refused(r"last.pt (does not fit this run's config.json|: truncated)|last.pt: truncated"):
                resume(run, "--epochs", 3)
            tried += 1
    assert tried > 33 and (run / "history.jsonl").read_bytes() == history
    torch.save(state, path)
    resume(run, "--epochs", 3)
    assert len(Run(run, {}).history()) == 3


class Code:
    def __reduce__(self):
        return print, ("ran",)


def test_a_checkpoint_with_code_is_refused_without_advice(run, capsys):
    torch.save({"module": Code()}, run / "last.pt")
    with refused(r"last.pt: truncated or not a checkpoint of a run \(it holds other things than tensors and plain"):
        resume(run)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model", "textual_dim"), 10**30),
        (("model", "feature_dim"), 10**18),
        (("model", "use_retrieval"), False),
        (("settings", "batch_size"), 10**30),
        (("settings", "seed"), 10**30),
        (("settings", "device"), ["cpu"]),
        (("settings", "no_retrieval"), True),
        (("data", "fingerprint"), 10**30),
        (("neighbours",), 10**30),
    ],
)
def test_config(run, load_script, place, value):
    path = run / "config.json"
    path.write_text(json.dumps(replaced(json.loads(path.read_text()), place, value)))
    with refused(r"config.json: not the configuration of a run|textual_dim|cannot be made as large"):
        run_test(load_script, "--model_path", run)
    with refused(r"config.json: not the configuration of a run|dimensions changed|cannot be made as large"):
        resume(run)


def test_tensorboard_reads_what_was_recorded_and_of_an_epoch_done_again_the_second(whole, run):
    resume(run, "--epochs", 3)
    Run(run, {}).record_scalars(3, {"loss/train": 7.0, "valid/nMSE": 0.5})  # as if the third was done again
    read = EventAccumulator(str(run))
    read.Reload()
    history = Run(run, {}).history()
    found = [(one.step, one.value) for one in read.Scalars("loss/train")]
    expected = [(record["epoch"], record["train_loss"]) for record in history[:2]] + [(3, 7.0)]
    assert found == [(epoch, pytest.approx(loss, rel=1e-6)) for epoch, loss in expected]
