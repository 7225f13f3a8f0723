"""baselines/compare.py from outside and in parts: cells, tables, trivial rows, and statistics against scipy by hand."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from breakage import holding
from comparing import SMALL, contents
from conftest import ROOT
from tiny import make_store, with_creators

from baselines.comparison import ablation, cells, children, report, trivial
from baselines.comparison.cells import Row, Setting, changed
from baselines.comparison.results import Result
from baselines.comparison.tables import Origin, code, escaped, figure, marks, plain
from baselines.comparison.verdicts import judge, sentence
from dataloader.neighbours import Neighbours
from engine.bootstrap import resample
from engine.metrics import METRICS, measure

ROWS = ("--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--row", f"K 2=MMRA {SMALL} --num_of_retrieved_items 2")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "tiny")


# ---- the table -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(store, tmp_path_factory, compare):
    """Two rows that train, one that cannot, two seeds: the results' folder and the exit code."""
    save = tmp_path_factory.mktemp("compared")
    broken = (
        "--row",
        "broken=MMRA --num_of_retrieved_items 7",
        "--jobs",
        1,
    )  # one thread: output and seeds are the process's
    return save / "tiny", compare(store, save, *ROWS, "--seeds", 1, 2, *broken)


@pytest.mark.slow
def test_a_row_that_fails_from_the_shell(store, tmp_path, run):
    words = ("--dataset_path", store.folder.parent, "--dataset_id", "tiny", "--save", tmp_path, "--seeds", 1)
    rows = ("--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--row", "broken=MMRA --num_of_retrieved_items 7")
    done = run("baselines/compare.py", *words, *rows, "--jobs", 2)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("compare.py: 1 cell failed: broken, seed 1: train.py: error: --num_of_retrieved_items 7: ")
    assert "| broken | - | - | - | - | - | - | failed | - |" in done.stdout
    assert re.search(r"\| MMRA \| .*\d\.\d{3}.* \| 1 seed \|", done.stdout)
    assert "`OMP_NUM_THREADS=1 python train.py" in (tmp_path / "tiny" / "table.md").read_text()  # of conftest's one


def test_files_and_their_content(compared, store):
    place, code = compared
    assert code == 1
    names = {path.name for path in place.iterdir() if not path.name.startswith(".")}
    tables = {"table.md", "table.csv", "table.tex", "table.png", "significance.csv", "cells.csv"}
    assert names == tables | {"cells", "trivial"}
    text = (place / "table.md").read_text()
    for word in (store.fingerprint, "`python train.py --model_id MMRA", "broken, seed 2: "):
        assert word in text
    assert "| broken | - | - | - | - | - | - | failed | - |" in text
    assert "| MMRA minus ... |" in text and "- **K 2**: " in text and "- **ridge on the features**: " in text
    table = pd.read_csv(place / "table.csv").set_index("row")
    assert list(table.index[:3]) == ["MMRA", "K 2", "broken"] and len(table) == 8
    assert "| split valid | nMSE | SRC | MAE | RMSE |" in text
    cells = pd.read_csv(place / "cells.csv")
    valid = cells[cells["row"] == "K 2"]["valid_nMSE"].mean()
    assert table.loc["K 2", "valid_nMSE_mean"] == pytest.approx(valid)
    assert (table["fingerprint"] == store.fingerprint).all()
    assert store.fingerprint.encode() in (place / "table.png").read_bytes()
    assert store.fingerprint in (place / "table.tex").read_text()
    assert (table.loc["broken", "failed"], table.loc["MMRA", "failed"]) == (2, 0)


def test_the_figures_are_those_of_the_predictions(compared, store):
    place, _ = compared
    table, truth = pd.read_csv(place / "table.csv").set_index("row"), store.items.label[store.rows("test")]
    per_cell = pd.read_csv(place / "cells.csv").dropna(subset="run")
    for row, runs in per_cell.groupby("row")["run"]:
        predictions = [pd.read_csv(Path(run) / "predictions.csv")[["prediction"]].to_numpy() for run in runs]
        measured = pd.DataFrame([measure(prediction, truth, store.label) for prediction in predictions])
        for metric in METRICS:
            assert table.loc[row, f"{metric}_mean"] == pytest.approx(measured[metric].mean())
            assert table.loc[row, f"{metric}_std"] == pytest.approx(measured[metric].std(ddof=1))
            assert (
                f"{measured[metric].mean():.3f} ± {measured[metric].std(ddof=1):.3f}"
                in (place / "table.md").read_text()
            )
    assert {"valid_nMSE", "train_seconds", "commit"} <= set(per_cell)
    mean = pd.read_csv(place / "trivial" / "mean_of_train" / "predictions.csv")
    assert mean["item_id"].tolist() == store.items.item_id[store.rows("test")].tolist()
    np.testing.assert_allclose(mean["prediction"], store.items.label[store.rows("train")].mean())


def test_a_second_start_trains_nothing(compared, store, compare, tmp_path, capsys):
    place, _ = compared
    shutil.copytree(place, tmp_path / "tiny")
    before = contents(tmp_path / "tiny" / "cells")
    assert compare(store, tmp_path, *ROWS, "--seeds", 1, 2, "--jobs", 2) == 0
    after = contents(tmp_path / "tiny" / "cells")
    assert after == before
    assert "OMP_NUM_THREADS=" not in (tmp_path / "tiny" / "table.md").read_text()  # as they were made
    assert "broken" not in (tmp_path / "tiny" / "table.md").read_text()
    first, second = (pd.read_csv(folder / "table.csv") for folder in (place, tmp_path / "tiny"))
    columns = [f"{metric}_mean" for metric in METRICS]
    pd.testing.assert_frame_equal(first[first["row"] != "broken"][columns].reset_index(drop=True), second[columns])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--methods", "nobody"), "unknown method nobody; known: "),
        (("--reference", "nobody"), "--reference nobody: no such row; the rows are MMRA"),
        (("--row", "MMRA"), 'expected "NAME=METHOD FLAGS"'),
        (("--row", "MMRA=MMRA --lr 1"), "row MMRA is there twice"),
        (("--row", "a=MMRA --seed 1"), "--seed is set by compare.py itself"),
        (("--row", "a=MMRA alone"), "'alone' is no flag of train.py"),
        (("--row", "a|b=MMRA"), "without |"),
        (("--row", "a\ud800=MMRA"), "printable"),
        (("--row", "a\u2028b=MMRA"), "printable"),
        (("--row", "mean of train=MMRA"), "row mean of train is there twice"),
        (("--row", "a=MMRA --no_such_flag"), "row a: unrecognized arguments: --no_such_flag"),
        (("--row", "a=SVR --lr 1"), "row a: unrecognized arguments: --lr 1"),
        (("--row", "a=MMRA --lr=fast"), "row a: argument --lr: 'fast' is not a number"),
        (("--row", "a=MMRA --no_visual --no_textual"), "row a: --no_visual and --no_textual together"),
        (("--ablation", "--flags", "MMRA: --no_retrieval"), "the reference row MMRA is without retrieval already"),
        (("--flags", "SVR: --x 1"), "--flags SVR: not a row of --methods"),
        (("--flags", "MMRA --x 1"), 'expected "METHOD: FLAGS"'),
        (("--seeds", "1", "1"), "each seed once"),
        (("--dataset_id", "absent"), "no data set here"),
        (("--dataset_id", "tiny/"), "--dataset_id 'tiny/': the name of a folder"),
        (("--dataset_id", "a/b"), "--dataset_id 'a/b': the name of a folder"),
        (("--jobs", "0"), "at least 1 is needed"),
    ],
)
def test_bad_flags(store, tmp_path, compare, flags, message, capsys):
    found = compare(store, tmp_path / "save", "--methods", "MMRA", *flags)
    assert message in (capsys.readouterr().err if found == 2 else found)
    assert not (tmp_path / "save").exists()


def test_a_single_test_item_is_refused_before_training(tmp_path, compare):
    store = make_store(tmp_path / "tiny", sizes={"train": 30, "valid": 10, "test": 1})
    assert "one item in split test" in compare(store, tmp_path / "save")
    assert not (tmp_path / "save").exists()


def test_an_ablation_does_not_write_over_a_larger_table(compared, store, compare, tmp_path):
    place, _ = compared
    shutil.copytree(place, tmp_path / "tiny")
    before = contents(tmp_path / "tiny")
    found = compare(store, tmp_path, "--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--ablation")
    assert "table.csv has rows that would be lost (K 2, broken); --save in another folder, or type what" in found
    assert contents(tmp_path / "tiny") == before


def test_names_and_flags_that_look_like_markup(store, tmp_path, compare):
    """TeX's in a picture, Markdown's in table.md, and a line break, which would end a comment of table.tex."""
    row = f"$a_$ *x* <b> `c`=MMRA {SMALL}".replace("--lr ", "--lr\n")
    assert compare(store, tmp_path, "--methods", "--row", row, "--reference", row.split("=")[0], "--seeds", 1) == 0
    place = tmp_path / "tiny"
    assert (place / "table.png").exists()
    assert r"| \$a\_\$ \*x\* \<b\> \`c\` |" in (place / "table.md").read_text()
    lines = (place / "table.tex").read_text().splitlines()
    assert all(line.startswith("%") for line in lines[: lines.index(r"\begin{tabular}{lcccccclr}")])


@pytest.mark.slow
def test_one_line_and_exit_code_2_from_the_shell(store, tmp_path, run):
    done = run("baselines/compare.py", "--dataset_path", tmp_path, "--methods", "nobody")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("compare.py: error: row nobody: unknown method")
    done = run("baselines/compare.py", "--dataset_path", tmp_path, "--methods", "--row", "mine=MMRA --preset")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("compare.py: error: row mine: argument --preset: expected one argument")


# ---- what is there already -------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_comparison_continues(store, tmp_path, compare, capsys):
    """Ctrl-C from the shell ends the cell in training, which the same command then resumes from its last epoch."""
    flags = SMALL.replace("--epochs 2", "--epochs 100 --early_stop_turns 100")  # a second or two
    words = [
        *("--dataset_path", store.folder.parent, "--dataset_id", "tiny", "--save", tmp_path, "--seeds", "1"),
        *("--methods", "MMRA", "--flags", f"MMRA: {flags}"),
    ]
    command = [sys.executable, "baselines/compare.py", *map(str, words)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("tiny/cells/*/seed1/*/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130 and "the same command continues" in stderr and "Traceback" not in stderr
    (cell,) = tmp_path.glob("tiny/cells/*/seed1")
    (unfinished,) = cell.glob("MMRA_tiny_*")
    assert not (unfinished / "cell.json").exists()
    epochs = len((unfinished / "history.jsonl").read_text().splitlines())
    assert 0 < epochs < 100
    assert compare(store, tmp_path, *words[6:]) == 0
    assert list(cell.glob("MMRA_tiny_*")) == [unfinished]
    assert len((unfinished / "history.jsonl").read_text().splitlines()) == 100
    assert "--resume" in (cell / "output.txt").read_text()
    assert json.loads((unfinished / "cell.json").read_text())["seconds"] > 0


def test_what_cannot_be_resumed_is_done_anew_and_what_is_trained_is_only_tested(store, tmp_path, compare, capsys):
    words = ("--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--seeds", 1)
    assert compare(store, tmp_path, *words) == 0
    (first,) = tmp_path.glob("tiny/cells/*/seed1/MMRA_tiny_*")
    (first / "metrics.json").unlink()
    weights, predicted = ((first / name).read_bytes() for name in ("best.safetensors", "predictions.csv"))
    (first / "predictions.csv").write_bytes(predicted.replace(b"1", b"2"))
    capsys.readouterr()
    assert compare(store, tmp_path, *words) == 0
    assert f"{first / 'predictions.csv'}: damaged, so the run is tested anew" in capsys.readouterr().out
    assert (first / "predictions.csv").read_bytes() == predicted
    assert (first / "metrics.json").exists() and (first / "best.safetensors").read_bytes() == weights
    (first / "cell.json").unlink()
    (first / "last.pt").write_bytes(b"damaged")
    assert compare(store, tmp_path, *words) == 0
    runs = set(first.parent.glob("MMRA_tiny_*"))
    assert len(runs) == 2 and first in runs


def test_other_flags_or_other_data_are_not_taken(tmp_path, compare, capsys):
    store = make_store(tmp_path / "data" / "tiny")
    words = ("--methods", "MMRA", "--seeds", 1, "--flags")
    assert compare(store, tmp_path, *words, f"MMRA: {SMALL}") == 0
    (first,) = tmp_path.glob("tiny/cells/*/seed1/MMRA_tiny_*")
    capsys.readouterr()
    assert compare(store, tmp_path, *words, f"MMRA: {SMALL} --alpha 1") == 0
    assert f"MMRA: runs made with {SMALL} are kept, not used: {first.parents[1]}" in capsys.readouterr().out
    assert len(list(tmp_path.glob("tiny/cells/*/seed1/MMRA_tiny_*"))) == 2
    shutil.rmtree(store.folder)
    make_store(tmp_path / "data" / "tiny", label=lambda labels, split: labels + 1)
    assert compare(store, tmp_path, *words, f"MMRA: {SMALL}") == 0
    assert (
        f"1 run(s) made with other data, neighbours or settings are kept, not used: {first}" in capsys.readouterr().out
    )
    runs = list(first.parent.glob("MMRA_tiny_*"))
    assert len(runs) == 2
    used = pd.read_csv(tmp_path / "tiny" / "cells.csv")["run"].tolist()
    assert used == [str(run) for run in runs if run != first]


def test_a_run_resumed_by_hand_with_other_flags_is_not_taken(store, tmp_path, compare, load_script, capsys):
    words = ("--methods", "MMRA", "--flags", f"MMRA: {SMALL}", "--seeds", 1)
    assert compare(store, tmp_path, *words) == 0
    (first,) = tmp_path.glob("tiny/cells/*/seed1/MMRA_tiny_*")
    (first / "cell.json").unlink()  # as if interrupted
    train = load_script("train.py")
    train.main(train.build_parser().parse_args(["--resume", str(first), "--epochs", "3"]))
    assert compare(store, tmp_path, *words) == 0
    assert f"made with other data, neighbours or settings are kept, not used: {first}" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "tiny" / "cells.csv")["run"].tolist() != [str(first)]


def test_damaged_records_of_old_runs_cost_their_cells_alone(compared, store, compare, tmp_path):
    shutil.copytree(compared[0], tmp_path / "tiny")
    cells = sorted(run.parent for run in (tmp_path / "tiny").glob("cells/MMRA_*/seed*/*/cell.json"))
    assert len(cells) == 4
    (cells[0] / "config.json").write_text("{")
    (cells[1] / "cell.json").write_text("{}")
    (cells[2] / "cell.json").write_text('{"row": ')
    config = json.loads((cells[3] / "config.json").read_text()) | {"neighbours": "x", "environment": None}
    (cells[3] / "config.json").write_text(json.dumps(config))
    assert compare(store, tmp_path, *ROWS, "--seeds", 1, 2) == 0
    used = pd.read_csv(tmp_path / "tiny" / "cells.csv")["run"].tolist()
    assert len(used) == 4 and {str(cells[1]), str(cells[2])} <= set(used)
    assert not {str(cells[0]), str(cells[3])} & set(used)


def test_predictions_that_are_not_finite_are_refused(compared, store, compare, tmp_path, capsys):
    shutil.copytree(compared[0], tmp_path / "tiny")
    path = sorted((tmp_path / "tiny").glob("cells/MMRA_*/seed1/*/predictions.csv"))[0]
    table = pd.read_csv(path)
    table.loc[3, "prediction"] = np.nan
    (path.parent / "manifest.jsonl").unlink()  # with it the run is tested anew
    table.to_csv(path, index=False, na_rep="nan")
    assert compare(store, tmp_path, *ROWS, "--seeds", 1, 2) == 1
    assert f"{path}: has predictions that are not finite; delete it to test anew" in capsys.readouterr().err


class Child:
    """Stands for train.py: fails with `code` when it is to resume, else leaves a run on data of `fingerprint`."""

    def __init__(self, code: int | None, fingerprint: str):
        self.code, self.fingerprint, self.words = code, fingerprint, []

    def run(self, words: list[str], output: Path) -> float:
        self.words.append(words[1])
        if words[1] == "--resume":
            raise children.Failed("it failed", self.code)
        config = {"data": {"fingerprint": self.fingerprint}}
        (output.parent / "new").mkdir(parents=True)
        (output.parent / "new" / "config.json").write_text(json.dumps(config))
        return 1.0


@pytest.mark.parametrize(("code", "anew"), [(2, True), (1, False), (-9, False), (130, False), (None, False)])
def test_only_what_cannot_be_resumed_begins_anew(tmp_path, code, anew):
    """Not what ran out of memory, was killed or interrupted: its epochs are there the next time."""
    row, setting = Row("MMRA", "MMRA"), Setting(tmp_path, "data", "tiny", "cpu", "f", None, None)
    old = setting.folder(row, 1) / "old"
    old.mkdir(parents=True)
    config = {"settings": row.settings | {"model_id": "MMRA", "seed": 1}, "data": {"fingerprint": "f"}}
    (old / "config.json").write_text(json.dumps(config))
    (old / "last.pt").touch()
    child = Child(code, "f")
    if anew:
        assert cells._train(setting, row, 1, child)[0] == old.parent / "new"
    else:
        with pytest.raises(children.Failed, match="it failed"):
            cells._train(setting, row, 1, child)
    assert child.words == (["--resume", "--model_id"] if anew else ["--resume"])


def test_data_that_change_while_a_cell_trains_make_it_fail(tmp_path):
    setting = Setting(tmp_path, "data", "tiny", "cpu", "f", None, None)
    with pytest.raises(children.Failed, match="the data set changed meanwhile"):
        cells._train(setting, Row("MMRA", "MMRA"), 1, Child(None, "another"))


def test_two_at_a_time_are_refused(store, tmp_path, compare):
    with holding(tmp_path / "tiny"):
        assert "or what it started, is writing here" in compare(store, tmp_path, "--methods", "MMRA")


# ---- the ablation ----------------------------------------------------------------------------------


def test_ablation(tmp_path, compare, capsys):
    """K 6 stored, 3 frames: what lies beyond is left out."""
    store = make_store(tmp_path / "data" / "tiny")
    flags = SMALL.replace("--epochs 2", "--epochs 1")
    code = compare(store, tmp_path, "--methods", "MMRA", "--flags", f"MMRA: {flags}", "--seeds", 1, "--ablation")
    place = tmp_path / "tiny"
    assert {"ablation.md", "ablation.csv", "ablation.png", "sensitivity.png"} <= {p.name for p in place.iterdir()}
    table = pd.read_csv(place / "ablation.csv")
    tried = {sweep: rows["value"].tolist() for sweep, rows in table.groupby("sweep") if sweep != "parts"}
    assert tried["K"] == [1, 5] and tried["frames"] == [1, 2, 3]
    assert tried["alpha"] == [0, 0.2, 0.4, 0.6, 0.8, 1] and tried["temperature"] == [0.05, 0.1, 0.3, 1]
    same = table[table["row"] == "MMRA"]
    assert same["sweep"].tolist() == ["parts", "K", "alpha", "temperature", "frames"]
    assert same["nMSE_mean"].nunique() == 1  # K 5, alpha 0.6 ... are the reference itself, trained once
    trained = {path.parent.name for path in place.glob("cells/*/seed1")}
    assert len(trained) == 1 + 4 + 1 + 5 + 3 + 2
    out = capsys.readouterr().out
    assert "left out of the ablation: K 10, 20, 50: the data set has 6 stored neighbours" in out
    text = (place / "ablation.md").read_text()
    assert "frames 5, 10: the data set has 3 stored frames" in text and "| MMRA, K 5 (reference) |" in text
    by_row = table.drop_duplicates("row").set_index("row")
    config = json.loads(next(place.glob("cells/*no_retrieval_*/seed1/*/config.json")).read_text())
    assert config["settings"]["no_retrieval"] and by_row.loc["MMRA without retrieval", "nMSE_mean"] > 0
    assert code == 0 and not table["failed"].any()
    more = ("--row", f"MMRA, alpha 1=MMRA {flags} --alpha 1 --lr 1e-2")  # named as the ablation names another model
    assert compare(store, tmp_path, "--methods", "MMRA", "--flags", f"MMRA: {flags}", "--seeds", 1, *more) == 0
    assert "not used" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "parts", "left_out"),
    [
        ("--no_retrieved_label", ["retrieval", "visual", "textual"], ["the retrieved labels: that is"]),
        (
            "--no_visual",
            ["retrieval", "the retrieved labels"],
            ["visual: that is", "textual: the reference has textual features alone"],
        ),
    ],
)
def test_a_part_that_the_reference_lacks_is_left_out_of_the_ablation(store, tmp_path, flags, parts, left_out):
    reference = Row("MMRA", "MMRA", (flags,))
    model = {"alpha": 0.6, "frame_num": 3}
    (tmp_path / "config.json").write_text(json.dumps({"settings": reference.settings, "model": model}))
    variants, said = ablation.plan(reference, tmp_path, store, 6)
    rows = [variant.row for variant in variants if variant.sweep == "parts"]
    assert [row.name for row in rows] == ["MMRA", *(f"MMRA without {part}" for part in parts)]
    assert len({row.folder for row in rows}) == len(rows) and all(row.settings for row in rows)  # none is refused
    for found, expected in zip(said, left_out, strict=False):
        assert found.startswith(f"without {expected}")


def test_the_reference_is_marked_whatever_its_name():
    reference = Row("MMRA, K 50", "MMRA")
    rows = {name: result(name, [0.5]) for name in (reference.name, "MMRA, K 50, K 5")}
    marked = report._at_value(ablation.Variant("K", 50, reference), reference, rows)
    assert marked.name == "MMRA, K 50, K 50 (reference)"
    other = Row("MMRA, K 50, K 5", "MMRA", ("--num_of_retrieved_items", "5"))
    assert report._at_value(ablation.Variant("K", 5, other), reference, rows).name == other.name


def test_cells_made_on_different_devices_or_threads_are_told():
    cell = {"run": "r", "commit": "c", "threads": 2.0, "device": "cuda"}
    assert report.made_by(pd.DataFrame([cell, cell])) == ["cells of commit `c` with 2 threads on cuda: 2"]
    assert len(report.made_by(pd.DataFrame([cell, cell | {"device": "cpu"}]))) == 3
    assert len(report.made_by(pd.DataFrame([cell, cell | {"threads": 1.0, "commit": None}]))) == 3


def test_flags_are_changed_by_name():
    flags = ("--lr", "1e-4", "--num_of_retrieved_items=50", "--no_shuffle")
    assert changed(flags, {"--lr": "1"}, ("--num_of_retrieved_items",)) == ("--lr", "1", "--no_shuffle")
    assert changed((), {"--no_retrieval": None}) == ("--no_retrieval",)
    assert (
        Row("a", "M", flags).folder == Row("b", "M", (*flags[3:], *flags[:2], "--num_of_retrieved_items", "50")).folder
    )
    assert Row("a", "M", flags).folder != Row("a", "M", flags[:2]).folder != Row("a", "M").folder == "M"


# ---- trivial rows ------------------------------------------------------------------------------------


def test_neighbours_labels_by_hand(store):
    neighbours = Neighbours.read(store)
    label = store.items.label[:, 0]

    def by_hand(split, k, temperature):
        found = []
        for row in store.rows(split):
            ids, similarity = neighbours.ids[row][:k], neighbours.similarity[row][:k].astype(float)
            weight = np.ones(k) if temperature is None else np.exp(similarity / temperature)
            found.append(np.sum(weight * label[ids]) / np.sum(weight))
        return np.array(found)

    for temperatures in ((None,), trivial.TEMPERATURES):
        truth = label[store.rows("valid")]
        errors = {(k, t): np.mean((by_hand("valid", k, t) - truth) ** 2) for k in range(1, 7) for t in temperatures}
        best = min(errors, key=errors.get)
        predict, chosen = trivial.neighbour_labels(store, neighbours, temperatures)
        np.testing.assert_allclose(predict(store.rows("test"))[:, 0], by_hand("test", *best), rtol=1e-5)
        assert f"K = {best[0]}" in chosen and (best[1] is None or f"temperature {best[1]:g}" in chosen)


def test_items_without_neighbours_are_given_the_mean(store):
    neighbours = Neighbours.read(store)
    ids = neighbours.ids.copy()
    alone = store.rows("test")[0]
    ids[alone] = -1
    padded = Neighbours(ids, neighbours.similarity, 6, "train", "tests", store.fingerprint)
    mean = store.items.label[store.rows("train")].mean()
    for temperature in (None, 0.1):
        assert trivial.weighed_labels(store, padded, np.array([alone]), 3, temperature) == pytest.approx(mean)


@pytest.mark.parametrize("with_labels", [False, True])
def test_ridge_by_hand(store, with_labels):
    """The closed form on standardised features, and on the neighbours' labels, the penalty chosen on valid."""
    x = np.concatenate([store.features["visual"].reshape(len(store), -1), store.features["textual"]], axis=1).astype(
        float
    )
    neighbours = Neighbours.read(store) if with_labels else None
    if with_labels:
        weighing = trivial.choose_weighing(store, neighbours, trivial.TEMPERATURES)
        x = np.hstack([x, trivial.weighed_labels(store, neighbours, np.arange(len(store)), *weighing)])
        x[store.items.split == "predict"] = 0
    train = store.rows("train")
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    y = store.items.label[:, 0]
    found = {}
    for alpha in trivial.ALPHAS:
        gram = x[train].T @ x[train] + alpha * np.eye(x.shape[1])
        found[alpha] = y[train].mean() + x @ np.linalg.solve(gram, x[train].T @ (y[train] - y[train].mean()))
    valid = store.rows("valid")
    best = min(found, key=lambda alpha: np.mean((found[alpha][valid] - y[valid]) ** 2))
    predict, chosen = trivial.ridge(store, neighbours)
    np.testing.assert_allclose(predict(store.rows("test"))[:, 0], found[best][store.rows("test")], rtol=1e-4)
    assert chosen.startswith(f"alpha {best:g}") and ("; labels: K = " in chosen) == with_labels


def test_trivial_rows_with_several_targets_and_without_neighbours(tmp_path):
    store = make_store(tmp_path / "tiny", label_dim=2, k=None)
    rows = trivial.trivial_rows(store, None)
    assert list(rows) == ["mean of train", "ridge on the features"]
    assert all(row.prediction.shape == (20, 2) for row in rows.values())
    np.testing.assert_allclose(
        rows["mean of train"].prediction[0], store.items.label[store.items.split == "train"].mean(axis=0)
    )


def test_the_creators_other_videos_by_hand(tmp_path):
    """Shrunken means of each creator's labels in train, the shrinkage chosen on valid; else the mean of train."""
    store = with_creators(make_store(tmp_path / "tiny", k=None), 12)
    items, label = store.items, store.items.label[:, 0]
    user = items.user.copy()
    user[store.rows("test")[:2]] = ["", "nobody else"]
    store.items = replace(items, user=user)
    train, mean = store.rows("train"), label[store.rows("train")].mean()

    def by_hand(row, m):
        own = [label[other] for other in train if user[other] == user[row] != ""]
        return (sum(own) + m * mean) / (len(own) + m) if own else mean

    valid = store.rows("valid")
    errors = {m: np.mean([(by_hand(row, m) - label[row]) ** 2 for row in valid]) for m in trivial.SHRINKAGES}
    best = min(errors, key=errors.get)
    predict, chosen = trivial.creator_means(store)
    found = predict(store.rows("test"))[:, 0]
    np.testing.assert_allclose(found, [by_hand(row, best) for row in store.rows("test")])
    assert found[:2].tolist() == [mean, mean]
    there, truth = found[2:], label[store.rows("test")[2:]]
    nmse = np.mean((there - truth) ** 2) / truth.var()
    known = f"18 of 20 videos are of creators in train, with nMSE {nmse:.3f} on these"
    assert chosen == f"shrinkage {best:g}; {known}"
    assert list(trivial.trivial_rows(store, None)) == [
        "mean of train",
        "the creator's other videos",
        "ridge on the features",
    ]


# ---- words and tables --------------------------------------------------------------------------------


def result(name: str, values: list[float], prediction=None, trivial: bool = False) -> Result:
    """A row whose seeds measured `values` in every metric."""
    if prediction is None:
        prediction = np.random.default_rng(len(name)).normal(size=(len(values), 4, 1))
    measured = [dict.fromkeys(METRICS, value) for value in values]
    method, seeds = "" if trivial else "MMRA", list(range(len(values)))
    return Result(name, method, prediction, measured, measured, seeds)


def test_best_and_second_with_ties():
    rows = [result(str(value), [value]) for value in (0.7004, 0.7, 0.8, float("nan"), 0.9, 0.8)]
    assert marks(rows, "nMSE") == ["best", "best", "second", "", "", "second"]
    assert marks(rows, "SRC") == ["", "", "second", "", "best", "second"]
    assert marks(rows[3:4], "MAE") == [""] and marks(rows[:2], "MAE") == ["best", "best"]


def test_spread_over_seeds():
    assert figure(result("a", [0.7, 0.8]), "MAE") == "0.750 ± 0.071"
    assert figure(result("a", [0.7]), "MAE") == "0.700" and result("a", [0.7]).seeds_in_words == "1 seed"
    same = result("a", [0.7, 0.7], np.ones((2, 4, 1)))
    assert figure(same, "MAE") == "0.700" and same.seeds_in_words == "2 seeds, deterministic" and same.std("MAE") == 0
    assert figure(result("a", [float("nan")]), "SRC") == "-"
    assert result("a", [0.7], trivial=True).seeds_in_words == "deterministic"


def test_latex_is_escaped():
    assert escaped("a_b & 50 % {x} #1 $ ~ ^ \\ ±") == (
        r"a\_b \& 50 \% \{x\} \#1 \$ \textasciitilde{} \textasciicircum{} \textbackslash{} $\pm$"
    )


def test_markdown_is_escaped():
    assert plain("Contextual_LSTM K<5> [x] `c` a*b*c _d_ \\") == (
        r"Contextual_LSTM K\<5\> \[x\] \`c\` a\*b\*c \_d\_ \\"
    )
    assert plain("a|b\n&lt; ~~c~~ $d$") == r"a\|b \&lt; \~\~c\~\~ \$d\$"
    assert code("a\n`b` ``c") == "``` a `b` ``c ```" and code("a  b") == "`a b`"


def test_names_of_columns_are_shown_as_they_are():
    """Whoever made the table named them."""
    said = {"environment": {}, "command": "", "dataset_id": "d|e", "fingerprint": "", "neighbours": "", "n": 2}
    origin = Origin(**said, label="<b>loops</b> (as given)", folds="", seeds=[1], consequences=["a|b", "<i>c</i>"])
    caption = report.Report(None, None, None, None, origin, {})._caption()
    assert r"label \<b\>loops\</b\> (as given)." in caption and r"among the metadata: a\|b, \<i\>c\</i\>." in caption


def test_words_say_what_is_and_what_is_not_shown():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 1))
    good, alike, bad = (truth + s * rng.normal(size=(1, 300, 1)) for s in (0.5, 0.5, 2))
    rows = [result(name, [0.5], prediction) for name, prediction in (("good", good), ("alike", alike), ("bad", bad))]
    verdicts = judge(rows, resample([good, alike, bad], truth, 0), "good", truth, None, 0)
    assert sentence(verdicts[0]).startswith("**alike**: for nMSE, SRC and MAE no difference is shown. That the items'")
    assert sentence(verdicts[1]) == (
        "**bad**: good is better in nMSE, SRC and MAE. good's absolute errors are the smaller ones (p < 0.001)."
    )
    (_, reverse) = judge(rows[::-1], resample([bad, alike, good], truth, 0), "bad", truth, None, 0)
    assert sentence(reverse).startswith(
        "**good**: bad is worse in nMSE, SRC and MAE. bad's absolute errors are the larger"
    )


def test_repeatable_flags_are_all_kept(load_script):
    args = load_script("baselines/compare.py").build_parser().parse_args(["--row", "a=MMRA", "--row", "b=MMRA"])
    assert args.row == args.typed["row"] == ["a=MMRA", "b=MMRA"] and "flags" not in args.typed
