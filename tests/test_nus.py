"""data/NUS/preprocess.py: the release as it is distributed, on invented videos and on the real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from dataloader.console import InputError
from dataloader.splits import published_split, time_split, user_split
from dataloader.store import FeatureStore

CAPTIONS = [
    "",
    "plain",
    "with \r inside",
    "line \u2028 separator \x0b \x85",
    "emoji 😀 ::::",
    " spaces ",
    '"quoted", NA',
]


class Release:
    """An invented release of n videos, written to a folder; change a field before `write` to break it."""

    def __init__(self, folder, n=40):
        self.folder, self.n = folder, n
        generator = np.random.default_rng(0)
        self.ids = [str(10**18 + 7 * i) for i in range(n)]
        self.texts = [CAPTIONS[i % len(CAPTIONS)] for i in range(n)]
        self.counts = generator.integers(0, 10**6, (n, 4))
        self.times = [
            f"2014-{1 + i % 12:02}-{1 + i % 28:02}T10:00:{i % 60:02}.000000" for i in generator.permutation(n)
        ]
        self.users = [f"user{i}" for i in generator.integers(0, n // 2, n)]

    def truth(self, row, with_id=False):
        loops, *others = self.counts[row]
        fields = [f"{float(loops)}", *map(str, others), self.times[row]]
        return "::::".join([self.ids[row], *fields] if with_id else fields)

    def write(self, with_id=False, order=None, users=True):
        self.folder.mkdir(exist_ok=True)
        self.put("video_id.txt", self.ids)
        self.put("video_text.txt", self.texts)
        self.put("ground_truth.txt", [self.truth(row, with_id) for row in (range(self.n) if order is None else order)])
        if users:
            pairs = [f"{video}::::{user}" for video, user in zip(self.ids, self.users, strict=True)]
            self.put("video_user.txt", pairs[::-1])  # another order than the ids
        return self

    def put(self, name, lines):
        (self.folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())


@pytest.fixture(scope="session")
def preprocess(load_script):
    return load_script("data/NUS/preprocess.py")


@pytest.fixture
def release(tmp_path):
    return Release(tmp_path / "raw")


@pytest.fixture
def importing(preprocess, tmp_path):
    def start(*flags) -> FeatureStore:
        where = ["--raw", str(tmp_path / "raw"), "--dataset_path", str(tmp_path / "data")]
        preprocess.main(preprocess.build_parser().parse_args([*where, *flags]))
        return FeatureStore.open(tmp_path / "data" / "NUS")

    return start


def test_captions_labels_and_the_published_split(release, importing, capsys):
    release.write()
    store = importing()
    items = store.items
    assert items.item_id.tolist() == release.ids
    assert items.text.tolist() == release.texts
    assert np.array_equal(items.popularity[:, 0], release.counts[:, 0])
    assert np.allclose(items.label[:, 0], np.log2(release.counts[:, 0] + 1.0))
    train, held_out = train_test_split(np.arange(40), test_size=0.2, random_state=9)
    test, valid = train_test_split(held_out, test_size=0.5, random_state=18)
    for name, rows in {"train": train, "valid": valid, "test": test}.items():
        assert store.rows(name).tolist() == sorted(rows)
    assert store.family == "NUS" and "splits: train 32, valid 4, test 4" in capsys.readouterr().out


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_id_column_is_taken_where_it_is(release, importing, shuffled):
    plain = release.write() and importing()
    release.write(with_id=True, order=np.random.default_rng(1).permutation(40) if shuffled else None)
    assert importing("--overwrite").fingerprint == plain.fingerprint


def test_windows_line_ends_and_a_byte_order_mark(release, importing):
    plain = release.write() and importing()
    for path in release.folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert importing("--overwrite").fingerprint == plain.fingerprint


def test_every_label(release, importing):
    release.write()
    for column, name in enumerate(("loops", "likes", "reposts", "comments")):
        store = importing("--label", name, "--overwrite")
        assert store.info["label"]["names"] == [name]
        assert np.array_equal(store.items.popularity[:, 0], release.counts[:, column])
    store = importing("--label", "all", "--overwrite")
    assert store.items.label_dim == 4 and np.allclose(store.items.label, np.log2(release.counts + 1))


def test_split_by_user_keeps_a_user_on_one_side(release, importing):
    release.write()
    items = importing("--split_by", "user").items
    sides = pd.DataFrame({"user": release.users, "split": items.split}).groupby("user")["split"].nunique()
    assert sides.max() == 1 and set(items.split) == {"train", "valid", "test"}


def test_split_by_time_puts_the_newest_last(release, importing):
    release.write()
    items, times = importing("--split_by", "time").items, np.array(release.times, "M8[us]")
    newest = {split: times[items.split == split].max() for split in ("train", "valid", "test")}
    oldest = {split: times[items.split == split].min() for split in ("train", "valid", "test")}
    assert newest["train"] <= oldest["valid"] and newest["valid"] <= oldest["test"]
    assert [int((items.split == split).sum()) for split in ("train", "valid", "test")] == [32, 4, 4]


def test_users_are_not_needed_for_the_other_splits(release, importing):
    release.write(users=False)
    importing()
    with pytest.raises(InputError, match=r"video_user.txt: no such file"):
        importing("--split_by", "user", "--overwrite")


def test_features_are_taken_along_and_normalised(release, importing):
    release.write()
    histogram = np.random.default_rng(0).integers(0, 172800, (40, 5)).astype("f4")
    np.savez(release.folder / "histogram_feature.npz", arr_0=histogram, other=np.zeros(3))
    np.savez(release.folder / "text_sentence2vec_feature.npz", arr_0=np.ones((40, 7), "f4"))
    assert np.allclose(np.linalg.norm(importing().visual, axis=-1), 1, atol=1e-5)  # the default: standard+l2
    store = importing("--normalise", "visual=standard", "--overwrite")
    train = store.visual[store.rows("train"), 0]  # (32, 5)
    assert store.visual.shape == (40, 1, 5) and store.textual.shape == (40, 7)
    assert np.allclose(train.mean(axis=0), 0, atol=1e-5) and np.allclose(train.std(axis=0), 1, atol=1e-4)
    statistics = store.info["arrays"]["visual"]["statistics"]
    assert np.allclose(np.array(store.visual[:, 0]) * statistics["std"] + statistics["mean"], histogram, rtol=1e-3)
    assert np.array_equal(importing("--normalise", "none", "--overwrite").visual[:, 0], histogram)


# ---- bad input ---------------------------------------------------------------------------------


def fields_of_line(release, number, change):
    path = release.folder / "ground_truth.txt"
    lines = path.read_text().splitlines()
    fields = lines[number - 1].split("::::")
    lines[number - 1] = "::::".join(change(fields))
    release.put("ground_truth.txt", lines)


BREAKAGES = {
    "no folder": (lambda r: r.folder.rename(r.folder.with_name("moved")), "no such folder"),
    "no ids": (lambda r: (r.folder / "video_id.txt").unlink(), "video_id.txt: no such file"),
    "empty ids": (lambda r: r.put("video_id.txt", []), "video_id.txt: empty"),
    "duplicate ids": (lambda r: r.put("video_id.txt", [r.ids[1], *r.ids[1:]]), "video_id.txt: 1 duplicate ids (1000"),
    "no texts": (lambda r: (r.folder / "video_text.txt").unlink(), "video_text.txt: no such file"),
    "short texts": (lambda r: r.put("video_text.txt", r.texts[:-1]), "39 lines, but video_id.txt has 40"),
    "not utf-8": (lambda r: (r.folder / "video_text.txt").write_bytes(b"\xff\n" * 40), "video_text.txt: not UTF-8"),
    "no truth": (lambda r: (r.folder / "ground_truth.txt").unlink(), "ground_truth.txt: no such file"),
    "short truth": (lambda r: r.put("ground_truth.txt", [r.truth(0)]), "ground_truth.txt: 1 lines, but"),
    "a word": (lambda r: fields_of_line(r, 3, lambda f: ["many", *f[1:]]), "ground_truth.txt line 3: "),
    "negative": (lambda r: fields_of_line(r, 3, lambda f: [f[0], "-1", *f[2:]]), "line 3: counts must be numbers >= 0"),
    "nan": (lambda r: fields_of_line(r, 3, lambda f: ["nan", *f[1:]]), "line 3: counts must be numbers >= 0"),
    "no time": (
        lambda r: fields_of_line(r, 3, lambda f: [*f[:4], ""]),
        "line 3: counts must be numbers >= 0 with a ti",
    ),
    "a bad time": (lambda r: fields_of_line(r, 3, lambda f: [*f[:4], "noon"]), "ground_truth.txt line 3: "),
    "a field less": (lambda r: fields_of_line(r, 3, lambda f: f[:-1]), "line 3: found"),
    "an id in one line": (lambda r: fields_of_line(r, 3, lambda f: [r.ids[2], *f]), "line 3: found"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_bad_input_is_named_and_nothing_is_written(release, importing, tmp_path, name):
    breakage, message = BREAKAGES[name]
    breakage(release.write())
    with pytest.raises(InputError) as caught:
        importing()
    assert message in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_ids_in_the_truth_that_are_foreign_repeated_or_missing(release, importing):
    release.write(with_id=True)
    fields_of_line(release, 5, lambda f: ["17", *f[1:]])
    with pytest.raises(InputError, match=r"ground_truth.txt line 5: video 17, which is not in video_id.txt"):
        importing()
    release.write(with_id=True)
    fields_of_line(release, 5, lambda f: [release.ids[0], *f[1:]])
    with pytest.raises(InputError, match=r"line 5: video \d+, a second time"):
        importing()
    release.write(with_id=True)
    fields_of_line(release, 5, lambda f: f[1:])
    with pytest.raises(InputError, match=r"line 5: found"):
        importing()


def test_users_that_are_missing_or_malformed(release, importing):
    release.write()
    release.put("video_user.txt", [f"{video}::::u" for video in release.ids[1:]])
    with pytest.raises(InputError, match=r"video_user.txt: no user for 1 videos"):
        importing("--split_by", "user")
    release.put("video_user.txt", ["just one field"])
    with pytest.raises(InputError, match=r"video_user.txt line 1: found 'just one field'"):
        importing("--split_by", "user")


def test_features_that_do_not_fit(release, importing, tmp_path):
    release.write()
    features = np.ones((40, 5), "f4")
    for array, message in [(features[:-1], "39 rows, but there are 40 items"), (features * np.nan, "40 of 40 items")]:
        np.savez(release.folder / "histogram_feature.npz", arr_0=array)
        with pytest.raises(InputError, match="histogram_feature.npz: " + message):
            importing()
    assert not (tmp_path / "data").exists()


def test_normalising_features_that_are_not_there(release, importing):
    release.write()
    for mode in ("visual=l2", "standard"):
        with pytest.raises(InputError, match=f"--normalise {mode}: no such features"):
            importing("--normalise", mode)


def test_command_line_refuses_in_one_line_and_does_not_overwrite(run, release, tmp_path):
    script = ("data/NUS/preprocess.py", "--raw", release.folder, "--dataset_path", tmp_path / "data")
    done = run(*script)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "no such folder" in done.stderr
    release.write()
    assert run(*script).returncode == 0
    before = (tmp_path / "data/NUS/dataset.json").read_bytes()
    done = run(*script)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "--overwrite" in done.stderr and (tmp_path / "data/NUS/dataset.json").read_bytes() == before


def test_too_few_to_split():
    for split, given in ((published_split, 9), (time_split, np.arange(9)), (user_split, np.repeat(np.arange(9), 5))):
        with pytest.raises(InputError, match=r"9 (items|users) are too few"):
            split(given)


# ---- the real release --------------------------------------------------------------------------


def test_the_real_videos(shared, preprocess, tmp_path):
    raw = shared / "data/nus_vine_10k"
    if not raw.is_dir():
        pytest.skip(f"no {raw}")
    preprocess.main(preprocess.build_parser().parse_args(["--raw", str(raw), "--dataset_path", str(tmp_path)]))
    store = FeatureStore.open(tmp_path / "NUS", need=("visual", "textual"))
    label, test = store.items.label[:, 0], store.rows("test")
    assert [len(store.rows(split)) for split in ("train", "valid", "test")] == [8000, 1000, 1000]
    assert store.visual.shape == (10000, 1, 50) and store.textual.shape == (10000, 100)
    assert label.std() == pytest.approx(2.783, abs=5e-4)
    mean = label[store.rows("train")].mean()  # the mean predictor of the release's README
    assert ((label[test] - mean) ** 2).mean() / label[test].var() == pytest.approx(1.003, abs=1e-3)
    assert np.abs(label[test] - mean).mean() == pytest.approx(2.169, abs=1e-3)
    assert 0.1 < (store.items.text == "").mean() < 0.2
