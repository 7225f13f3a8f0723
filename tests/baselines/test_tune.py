"""baselines/tune.py from outside: what it finds, what it goes on with, what it refuses, and what it never reads."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import optuna
import pytest
from comparing import contents, exit_code
from conftest import ROOT
from tiny import FORETOLD, MADE_OF_OTHERS, make_store, remade, trained

from baselines import METHODS, recipe
from baselines.comparison import children
from baselines.tuning.plan import make_plan
from baselines.tuning.study import SECONDS, opened
from common.console import InputError
from common.lock import locked
from dataloader.encoding import Encoding
from dataloader.neighbours import Neighbours
from dataloader.search.exact import search
from dataloader.store import FeatureStore
from engine.run import Run
from engine.space import Choice, Range, parse_space

SMALL = "--feature_dim 8 --epochs 2 --num_of_retrieved_items 5"
TOY = ("--model_id", "MMRA", "--flags", SMALL, "--space", "lr=1e-3:1e-1:log", "--seeds", 1)
QUICK = ("--model_id", "SVR", "--seeds", 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny", k=12)


@pytest.fixture(scope="module")
def tune(load_script, scripts_here):
    """tune(store or stores, save, *flags) in this process, its trainings too; what it exits with.

    stop: the training of that number is not done: Ctrl-C, or with `code` it ends with that and what it `says`.
    """
    script, (_, wait) = load_script("baselines/tune.py"), scripts_here

    def call(stores, save, *flags, stop: int | None = None, code: int | None = None, says: str = ""):
        stores = stores if isinstance(stores, list) else [stores]
        ids = [store.folder.name for store in stores]
        where = ("--dataset_path", stores[0].folder.parent, "--dataset_id", *ids, "--save", save, "--name", "s")
        words, handler, trainings = [str(word) for word in (*where, *flags)], signal.getsignal(signal.SIGTERM), []

        def counting(self, words, file):
            trainings.append(words)
            if len(trainings) == stop:
                if code is not None:
                    file.write(says.encode())
                    return code
                raise KeyboardInterrupt
            return wait(self, words, file)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(children.Children, "_wait", counting)
            patch.setattr(sqlite3, "connect", unsynced)
            try:
                return exit_code(lambda: script.main(script.build_parser().parse_args(words)))
            finally:
                signal.signal(signal.SIGTERM, handler)

    return call


def unsynced(path, connect=sqlite3.connect, **how):
    """Nothing here outlives the machine, and waiting for its disk takes longer than the trials."""
    connection = connect(path, **how)
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def table(save) -> list[dict]:
    """trials.csv without what is timed."""
    with (save / "s" / "trials.csv").open(newline="", encoding="utf-8") as file:
        return [{name: cell for name, cell in line.items() if name != "seconds"} for line in csv.DictReader(file)]


# ---- what it finds -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(store, tune, tmp_path_factory):
    """A search of a learning rate whose default is far too small: its folder, and what it printed."""
    save = tmp_path_factory.mktemp("toy")
    assert tune(store, save, *TOY, "--trials", 4) == 0
    return save


def test_it_finds_better_than_a_bad_default(toy, store):
    lines, best = table(toy), contents_of(toy)
    assert [line["state"] for line in lines] == ["complete"] * 4 and lines[0]["lr"] == ""  # 1e-5 is not in the space
    values = [float(line["value"]) for line in lines]
    assert min(values) == best["value"] < values[0] == best["value_of_defaults"]
    assert best["number"] == values.index(min(values)) and best["trials"] == 4
    assert best["data"] == {"tiny": f"fingerprint {store.fingerprint}, retrieval neighbours {digest(store)}"}
    text = (toy / "s" / "study.md").read_text()
    for word in (store.fingerprint, "seeds: 1", "4 complete", f"{best['value']:.4f}", best["train"][0], best["row"]):
        assert word in text
    assert {path.name for path in (toy / "s").iterdir()} == {
        *("study.db", "trials.csv", "best.json", "study.md", "runs", ".lock")
    }


def digest(store) -> str:
    return Neighbours.read(store).digest()


def with_neighbours(store, k: int):
    found = search(store.features["retrieval"], store.rows("train"), k)
    Neighbours(*found, k, "train", "tests", store.fingerprint).write(store)
    return store


def test_the_best_is_a_run_that_train_py_makes_again(toy, store, tmp_path):
    """Of all runs it alone is kept, and its flags give its value to the last bit."""
    best = contents_of(toy)
    (kept,) = (toy / "s").glob("runs/*/cells/*/seed1/*/config.json")
    again = trained(store, tmp_path, "--model_id", "MMRA", *best["flags"], "--seed", 1)
    assert best["value"] == Run(kept.parent, {}).valid()["nMSE"] == Run(again, {}).valid()["nMSE"]
    assert not (kept.parent / "metrics.json").exists()  # nothing was tested


def test_what_is_finished_says_so_and_more_trials_go_on(toy, store, tune, tmp_path, load_script, capsys):
    """The command that it names next compares the best with the defaults."""
    shutil.copytree(toy, tmp_path, dirs_exist_ok=True)
    before = table(toy)
    assert tune(store, tmp_path, *TOY, "--trials", 4, stop=1) == 0
    out = capsys.readouterr().out
    assert out.startswith("finished already: 4 trials; more with") and table(tmp_path) == before
    line = next(line for line in out.splitlines() if line.startswith("next: python baselines/compare.py "))
    compare = load_script("baselines/compare.py")
    args = compare.build_parser().parse_args(shlex.split(line)[3:])
    rows = compare.plan_rows(args.methods, args.flags, args.row, args.seeds, args.typed["reference"], False)
    assert [row.name for row in rows] == ["MMRA, tuned", "MMRA"]
    assert list(rows[0].flags) == contents_of(toy)["flags"] and rows[1].settings["feature_dim"] == 8
    assert tune(store, tmp_path, *TOY, "--trials", 5) == 0
    assert table(tmp_path)[:4] == before and len(table(tmp_path)) == 5


def test_several_data_sets_against_the_defaults_of_each(store, tune, tmp_path, capsys):
    """Ratios to the defaults; what is worse on every cell is pruned, is not the best, and keeps what it has."""
    other = make_store(tmp_path / "other", label=lambda label, split: label**3)
    shutil.copytree(store.folder, tmp_path / "tiny")
    stores = [FeatureStore.open(tmp_path / name) for name in ("tiny", "other")]
    words = ("--model_id", "SVR", "--space", "C=1e-6:1e-2:log", "--flags", "--epsilon 0.2", "--seeds", 1, 2, 3)
    assert tune(stores, tmp_path / "save", *words, "--trials", 3) == 0
    lines, names = (
        table(tmp_path / "save"),
        [f"{name}, seed {seed}" for seed in (1, 2, 3) for name in ("tiny", "other")],
    )
    assert float(lines[0]["value"]) == pytest.approx(1) and other.fingerprint in json.dumps(
        contents_of(tmp_path / "save")
    )
    assert lines[0]["tiny, seed 1"] == lines[0]["tiny, seed 2"] != lines[0]["other, seed 1"]
    assert "C" in lines[0] and "epsilon" not in lines[0]
    for line in lines[1:]:
        there = {name: float(line[name]) / float(lines[0][name]) for name in names if line[name]}
        assert line["state"] == "pruned" and 4 <= len(there) < 6
        assert float(line["value"]) == pytest.approx(np.mean(list(there.values()))) and float(line["value"]) > 1
    assert contents_of(tmp_path / "save")["number"] == 0
    assert "--minutes; the defaults are the best yet" in capsys.readouterr().out.splitlines()[-1]
    text = (tmp_path / "save" / "s" / "study.md").read_text()
    assert "Nothing that was tried is better than the defaults" in text and "every seed gave the same" in text


@pytest.mark.slow
def test_trainings_at_a_time_change_nothing_but_when_a_trial_is_given_up(store, tmp_path, run):
    shutil.copytree(store.folder, tmp_path / "tiny")
    make_store(tmp_path / "other", label=lambda label, split: label**3)
    words = ("--model_id", "SVR", "--space", "C=1e-6:1e-2:log", "--seeds", 1, 2, "--name", "s", "--trials", 2)
    words = ("--dataset_path", tmp_path, "--dataset_id", "tiny", "other", *words)
    one, four = (run("baselines/tune.py", *words, "--save", tmp_path / n, "--jobs", n) for n in ("1", "4"))
    assert one.returncode == four.returncode == 0, one.stderr + four.stderr
    assert table(tmp_path / "1") == table(tmp_path / "4")  # four cells are never given up


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_ctrl_c_ends_all_trainings_of_a_trial(store, tmp_path):
    words = ["--model_id", "MMRA", "--flags", "--feature_dim 8 --epochs 10000 --early_stop_turns 10000", "--seeds"]
    words += ["1", "2", "--jobs", "2", "--trials", "1", "--save", str(tmp_path), "--name", "s"]
    where = ["--dataset_path", str(store.folder.parent), "--dataset_id", store.folder.name]
    command = [sys.executable, "baselines/tune.py", *where, *words, "--space", "lr=1e-3:1e-1:log"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(runs := list(tmp_path.glob("s/runs/*/cells/*/seed*/*/last.pt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "the same command continues" in said
    assert len(runs) == 2
    for last in runs:
        with locked(last.parent):  # nobody works there any longer
            pass


def contents_of(save) -> dict:
    return json.loads((save / "s" / "best.json").read_text())


def test_a_trial_that_fails_is_told_with_its_reason_and_the_search_goes_on(store, tune, tmp_path, capsys):
    """More neighbours than there are, and a learning rate that ends in NaN."""
    space = ("num_of_retrieved_items=5|50", "lr=1e-3|1e30")
    words = ("--model_id", "MMRA", "--flags", "--feature_dim 8 --epochs 1", "--seeds", 1, "--space", *space)
    assert tune(store, tmp_path, *words, "--trials", 9) == 0
    lines = table(tmp_path)
    reasons = {(line["num_of_retrieved_items"], line["lr"]): line["reason"] for line in lines[1:]}
    assert "--num_of_retrieved_items 50: " in reasons["50", "1e-3"] and "finite in no epoch" in reasons["5", "1e30"]
    assert reasons["5", "1e-3"] == "" and {line["state"] for line in lines} == {"failed", "complete"}
    assert "failed (" in (tmp_path / "s" / "study.md").read_text()
    words = ("--model_id", "MMRA", "--flags", "--feature_dim 8 --epochs 1 --lr 1e30", "--seeds", 1, "--trials", 2)
    assert tune(store, tmp_path / "all", *words) == 1
    assert "no trial came to a value" in capsys.readouterr().err


def test_out_of_memory_is_a_failed_trial_but_of_the_defaults_of_several_data_sets(store, tune, tmp_path):
    shutil.copytree(store.folder, tmp_path / "tiny")
    shutil.copytree(store.folder, tmp_path / "other")
    assert tune(store, tmp_path, *QUICK, "--trials", 3, stop=2, code=-9) == 0
    assert [line["state"] for line in table(tmp_path)] == ["complete", "failed", "complete"]
    assert "train.py was ended by signal 9 (9: out of memory?)" in table(tmp_path)[1]["reason"]
    stores = [FeatureStore.open(tmp_path / name) for name in ("tiny", "other")]
    said = tune(stores, tmp_path / "two", *QUICK, "--trials", 1, stop=2, code=-9)
    assert "the defaults failed, so there is nothing to compare with" in said and "signal 9" in said
    assert tune(stores, tmp_path / "two", *QUICK, "--trials", 1) == 0  # it did not count
    assert [line["value"] for line in table(tmp_path / "two")] == ["1.0"]


def test_a_full_disk_is_no_failed_trial(store, tune, tmp_path):
    full = "train.py: error: x: no room on the disk: it takes 1.0 MB, 0.0 kB are free (No space left on device)\n"
    words = (store, tmp_path, *QUICK, "--trials", 3)
    said = tune(*words, stop=2, code=2, says=full)
    assert "x: no room on the disk" in said and "with room on the disk the same command continues" in said
    assert [line["state"] for line in table(tmp_path)] == ["complete"]
    assert tune(*words) == 0 and [line["state"] for line in table(tmp_path)] == ["complete"] * 3


# ---- stopping and going on -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(store, tune, tmp_path_factory):
    """Beyond the first ten trials, which are random, those follow from what came before."""
    save = tmp_path_factory.mktemp("undisturbed")
    assert tune(store, save, *QUICK, "--trials", 12) == 0
    return table(save)


@pytest.mark.slow
def test_interrupted_is_as_if_it_had_not_been(store, tune, tmp_path, undisturbed, capsys):
    """In the first trial, in one of the random ones, in the same again, and in one that follows from the others."""
    for stop in (1, 6, 1, 6):
        assert tune(store, tmp_path, *QUICK, "--trials", 12, stop=stop) == 130
        assert "the same command continues" in capsys.readouterr().err
    assert tune(store, tmp_path, *QUICK, "--trials", 12) == 0
    assert table(tmp_path) == undisturbed and len({line["C"] for line in undisturbed}) == 12


@pytest.mark.slow
def test_killed_is_as_if_it_had_not_been(toy, store, tune, tmp_path, run):
    """kill -9 after an epoch of the third trial, which goes on with its second."""
    code = f"""if True:
        import os, runpy, sys, train
        from baselines.comparison import children
        from engine.network import Network
        record, epochs = Network._record, []
        def killing(self, *args):
            record(self, *args)
            epochs.append(1)
            if len(epochs) == 5:
                os.kill(os.getpid(), 9)
        def wait(self, words, file):
            train.main(train.build_parser().parse_args(words[1:]))
            return 0
        Network._record, children.Children._wait = killing, wait
        sys.argv = {
        [
            "tune.py",
            "--dataset_path",
            str(store.folder.parent),
            "--dataset_id",
            "tiny",
            "--name",
            "s",
            *map(str, (*TOY, "--trials", 4)),
            "--save",
            str(tmp_path),
        ]
    }
        runpy.run_path("baselines/tune.py", run_name="__main__")
    """
    assert run("-c", code).returncode == -signal.SIGKILL
    assert len(table(tmp_path)) == 2
    assert tune(store, tmp_path, *TOY, "--trials", 4) == 0
    assert table(tmp_path) == table(toy)


def test_the_minutes_are_of_all_starts(store, tune, tmp_path, capsys):
    assert tune(store, tmp_path, *QUICK, "--trials", 2) == 0
    study = optuna.load_study(study_name="search", storage=opened(tmp_path / "s" / "study.db"))
    assert study.user_attrs[SECONDS] > 0
    study.set_user_attr(SECONDS, 31 * 60.0)
    capsys.readouterr()
    assert tune(store, tmp_path, *QUICK, stop=1) == 0  # 30 minutes, if nothing else is said
    assert capsys.readouterr().out.startswith("finished already: 2 trials")
    assert tune(store, tmp_path, *QUICK, "--minutes", 45, "--trials", 3) == 0
    assert len(table(tmp_path)) == 3


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_id", "nobody"), "--model_id nobody: unknown method; known: MMRA"),
        ((*QUICK, "--dataset_id", "nowhere"), "no data set here"),
        ((*QUICK, "--dataset_id", "tiny", "tiny"), "each data set once"),
        ((*QUICK, "--name", "a/b"), "--name 'a/b'"),
        ((*QUICK, "--device", "nonsense"), "--device nonsense: not on this machine"),
        (("--model_id", "SVR", "--seeds", 1, 1), "each seed once"),
        ((*QUICK, "--flags", "--lr 1"), "--flags: unrecognized arguments: --lr 1"),
        ((*QUICK, "--flags", "--seed 1"), "--seed is set by tune.py itself"),
        ((*QUICK, "--flags", "C 1"), "'C' is no flag of train.py"),
        ((*QUICK, "--flags", "--C '1"), "No closing quotation"),
        ((*QUICK, "--space", "C"), "expected as in lr=1e-4:1e-2:log"),
        ((*QUICK, "--space", "C=1:2:lin"), "expected as in"),
        ((*QUICK, "--space", "C=a:b"), "expected as in"),
        ((*QUICK, "--space", "lr=1:2"), "SVR has no flag --lr"),
        ((*QUICK, "--space", "C=2:1"), "must be smaller"),
        ((*QUICK, "--space", "C=nan:1"), "must be finite"),
        ((*QUICK, "--space", "C=-1:1"), "must be above 0"),
        ((*QUICK, "--space", "epsilon=0:1:log"), "with :log both numbers must be above 0"),
        ((*QUICK, "--space", "C=1|1"), "two different values"),
        ((*QUICK, "--space", "C=1:2", "C=1:3"), "--space C: is there twice"),
        ((*QUICK, "--space", "C=1:2", "--flags", "--C 1"), "--flags says what it is in every trial"),
        ((*QUICK, "--space", "seed=1:2"), "set by tune.py itself"),
        ((*QUICK, "--space", "max_train_items=2.5:9"), "takes whole numbers"),
        ((*QUICK, "--space", "modalities=visual|textual"), "takes several values"),
        ((*QUICK, "--flags", "--C 1 --epsilon 1"), "leaves nothing of the search space of SVR"),
        (("--model_id", "MMRA", "--space", "optim=Adam|Nobody"), "'Nobody' is none of Adam, AdamW, SGD"),
        (("--model_id", "MMRA", "--space", "optim=1:2"), "takes no numbers"),
        (("--model_id", "MMRA", "--space", "no_shuffle=a|b"), "is a switch"),
        (("--model_id", "MMRA", "--space", "num_of_retrieved_items=2:19"), "hold 12 neighbours an item"),
        (("--model_id", "LARK", "--space", "loss=MSE|BCE"), "--loss BCE: LARK weighs labels"),
    ],
)
def test_what_cannot_be_meant_is_refused(store, tmp_path, tune, flags, message):
    assert message in tune(store, tmp_path, "--trials", 1, *flags)
    assert not list(tmp_path.iterdir())


def test_bad_input_from_the_shell(store, tmp_path, run):
    where = ("--dataset_path", store.folder.parent, "--dataset_id", "tiny", "--save", tmp_path)
    for flags, message in (((*QUICK, "--trials", 0), "0 is too small"), (("--model_id", "nobody"), "unknown method")):
        done = run("baselines/tune.py", *where, *flags)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign", "attribute"])
def test_a_damaged_study_is_refused_and_left_alone(toy, store, tmp_path, tune, damage):
    shutil.copytree(toy, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "s" / "study.db"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "attribute":
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE study_user_attributes SET value_json = '[1]' WHERE key = 'made_of'")
    else:
        path.write_bytes(b"no study" if damage == "text" else b"")
        if damage == "foreign":
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE a (b)")
    before = contents(tmp_path)
    assert "damaged or not a study of tune.py" in tune(store, tmp_path, *TOY, "--trials", 9)
    assert contents(tmp_path) == before


def test_a_study_of_another_search_is_refused_and_left_alone(toy, store, tune, tmp_path):
    save = tmp_path / "save"
    shutil.copytree(toy, save)
    shutil.copytree(store.folder, tmp_path / "tiny")
    other = make_store(tmp_path / "changed" / "tiny", k=6, label=lambda label, split: label + 1)
    fewer = with_neighbours(FeatureStore.open(tmp_path / "tiny"), 5)
    more = ("--trials", 9)
    before = contents(save)
    for where, flags, message in (
        (store, (*TOY[:-1], 2), "seeds 1, now 2"),
        (store, (*TOY, "--space", "lr=1e-3:1:log"), "search space lr 0.001:0.1:log, now lr 0.001:1.0:log"),
        (store, (*TOY, "--flags", f"{SMALL} --no_retrieved_label"), "--flags --feature_dim 8"),
        (store, QUICK, "method MMRA, now SVR"),
        (other, TOY, f"now tiny fingerprint {other.fingerprint}"),
        (fewer, TOY, f"retrieval neighbours {digest(fewer)}"),
    ):
        said = tune(where, save, *flags, *more)
        assert "a study of another search (" in said and message in said
    assert contents(save) == before


def test_without_optuna_one_sentence_says_what_to_install(store, tmp_path, tune, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install -r requirements-tune.txt" in tune(store, tmp_path, *QUICK)
    assert (ROOT / "requirements-tune.txt").is_file()


# ---- spaces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name in METHODS if name not in (*FORETOLD, *MADE_OF_OTHERS)])
def test_every_method_has_a_space_that_its_flags_take(method):
    plan = make_plan(method, "", [])
    assert len(plan.space) >= 2 and not plan.left_out and set(plan.space) == set(plan.how.search)
    assert set(plan.defaults()) <= set(plan.space)


def test_a_method_without_a_space_needs_one(monkeypatch):
    monkeypatch.setattr("baselines.tuning.plan.recipe", lambda name: replace(recipe(name), search={}))
    with pytest.raises(InputError, match="^--model_id SVR: no search space stands with this method; say one, as in"):
        make_plan("SVR", "", [])
    assert list(make_plan("SVR", "", ["C=1:2"]).space) == ["C"]


def test_what_fixed_flags_rule_out_is_left_out_and_said():
    plan = make_plan("MMRA", "--no_retrieval --lr 1e-4", [])
    assert list(plan.space) == ["alpha", "feature_dim", "label_scale"] and len(plan.left_out) == 2
    assert "does nothing with --no_retrieval" in plan.left_out[0]
    assert make_plan("MMRA", "--preset recommended", []).defaults()["lr"] == 1e-4
    assert make_plan("MMRA", "", []).only_stored(20).space["num_of_retrieved_items"] == Range(5, 20)


def test_ranges_as_typed(load_script):
    words = ["--model_id", "MMRA", "--dataset_id", "a", "--flags", "--no_retrieval", "--trials", "3"]
    args = load_script("baselines/tune.py").build_parser().parse_args(words)
    assert (args.flags, args.trials) == ("--no_retrieval", 3)  # a flag alone is its value all the same
    assert parse_space("lr=1e-4:1e-2:log") == ("lr", Range(1e-4, 1e-2, log=True))
    assert parse_space("--depth=4:8") == ("depth", Range(4, 8)) and str(Range(4, 8)) == "4:8"
    assert parse_space("optim=Adam|AdamW") == ("optim", Choice(("Adam", "AdamW")))
    plan = make_plan("RetrievalBoost", "", ["depth=4:8"])
    assert type(plan.space["depth"].low) is int and plan.defaults()["depth"] == 6


# ---- what is never read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        pytest.param("MMRA", SMALL, marks=pytest.mark.slow),
        pytest.param(
            "LARK", "--feature_dim 8 --epochs 1 --ensemble 2 --num_of_retrieved_items 5", marks=pytest.mark.slow
        ),
        ("RetrievalBoost", "--trees 5 --components 2 --ensemble 1 --num_of_retrieved_items 5"),
        ("TMALL", "--epochs 1"),  # learns from the features of split test too
    ],
)
def test_no_label_of_split_test_is_read(store, tune, tmp_path, monkeypatch, method, flags):
    """Other labels of split test give the same values to the last bit, and so do labels that are NaN."""
    # It is written for test.py alone, and skops looks for it through every module that the tests have imported.
    monkeypatch.setattr(Encoding, "save", lambda *_: None)
    items, test = store.items, store.rows("test")
    changed, popularity = items.label.copy(), items.popularity.copy()
    changed[test] = -100 * changed[test][::-1]
    popularity[test] = np.exp2(-3)
    shutil.copytree(store.folder, tmp_path / "data" / "tiny")
    other = FeatureStore.open(tmp_path / "data" / "tiny")
    other = with_neighbours(remade(other, replace(items, label=changed, popularity=popularity)), 12)
    assert other.fingerprint != store.fingerprint
    words = ("--model_id", method, "--flags", flags, "--space", "lr=1e-3:1e-1:log", "--seeds", 1)
    words = (*words, "--trials", 2 if method == "MMRA" else 1)
    assert tune(store, tmp_path / "one", *words) == tune(other, tmp_path / "two", *words) == 0

    reading, opening = [], FeatureStore.open.__func__

    def without_labels(cls, folder, need=()):
        opened = opening(cls, folder, need)
        label, counts = opened.items.label.copy(), opened.items.popularity.astype(float)
        label[test], counts[test] = np.nan, np.nan
        reading.append(folder)
        opened.items = replace(opened.items, label=label, popularity=counts)
        return opened

    monkeypatch.setattr(FeatureStore, "open", classmethod(without_labels))
    assert tune(store, tmp_path / "three", *words) == 0
    assert len(reading) >= 2  # here, and where each trial was trained
    assert table(tmp_path / "one") == table(tmp_path / "two") == table(tmp_path / "three")
    assert all(float(line["value"]) for line in table(tmp_path / "one"))
