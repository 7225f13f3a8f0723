"""data/NUS/preprocess.py: the release as it is distributed, on invented videos and on the real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from nus_release import Release
from sklearn.model_selection import train_test_split

from common.console import InputError
from dataloader.importing.splits import published_split, time_split, user_split
from dataloader.store import FeatureStore


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


def by_id(store) -> pd.DataFrame:
    items = store.items
    columns = {"text": items.text, "count": items.popularity[:, 0], "user": items.user, "time": items.time}
    return pd.DataFrame(columns, index=items.item_id).sort_index()


def truth_of(release) -> pd.DataFrame:
    """What `by_id` must find, from the fields that the release was written from."""
    times = np.array(release.times, "M8[us]")
    columns = {"text": release.texts, "count": release.counts[:, 0].astype(float), "user": release.users, "time": times}
    return pd.DataFrame(columns, index=np.array(release.ids, object)).sort_index()


def test_the_id_column_is_taken_where_it_is(release, importing, capsys):
    plain = release.write() and importing()
    release.write(with_id=True)
    assert importing("--overwrite").fingerprint == plain.fingerprint
    assert "ground_truth.txt: each line names its id" in capsys.readouterr().out
    release.lines = np.random.default_rng(1).permutation(40).tolist()  # neither list's order, as nothing else has it
    release.write(with_id=True)
    release.put(
        "video_user.txt", [f"{video}::::{user}" for video, user in zip(release.ids, release.users, strict=True)]
    )
    pd.testing.assert_frame_equal(by_id(importing("--overwrite")), truth_of(release))


# ---- two orders --------------------------------------------------------------------------------


@pytest.fixture
def two_orders(release):
    """As the real release: text, counts, times and users in one order, video_id.txt and the histograms in another."""
    release.lines = np.roll(np.arange(40).reshape(8, 5), 1, axis=1).ravel().tolist()
    release.lines[:10] = range(10)  # where both agree
    release.write()
    histogram = np.arange(40, dtype="f4")[:, None] + np.linspace(0, 1, 5, dtype="f4")
    np.savez(release.folder / "histogram_feature.npz", arr_0=histogram)
    sentence = np.array(release.lines, "f4")[:, None] + np.zeros((40, 7), "f4")
    np.savez(release.folder / "text_sentence2vec_feature.npz", arr_0=sentence)
    return release


def features_by_id(store) -> dict[str, tuple[float, float]]:
    visual, textual = store.features["visual"][:, 0, 0], store.features["textual"][:, 0]
    return {item: (float(v), float(t)) for item, v, t in zip(store.items.item_id, visual, textual, strict=True)}


def test_two_orders_are_told_by_the_times(two_orders, importing, capsys):
    store = importing("--normalise", "none")
    pd.testing.assert_frame_equal(by_id(store), truth_of(two_orders))
    assert features_by_id(store) == {video: (i, i) for i, video in enumerate(two_orders.ids)}
    assert store.items.text.tolist() == [two_orders.texts[row] for row in two_orders.lines]  # rows stay as texts stand
    out = capsys.readouterr().out
    assert "ground_truth.txt: the order of video_user.txt (of the 30 lines where" in out
    assert "video_text.txt: line by line as ground_truth.txt; nothing in the file says so" in out
    assert "histogram_feature.npz: the order of video_id.txt; nothing in the file says so" in out
    assert store.description.features["visual"].made["order"].startswith("the order of video_id.txt")


def test_the_other_order_is_told_too(two_orders, importing):
    """ground_truth.txt, and so the texts, in the order of video_id.txt; users are found by their ids."""
    two_orders.put("ground_truth.txt", [two_orders.truth(row) for row in range(40)])
    two_orders.put("video_text.txt", two_orders.texts)
    pd.testing.assert_frame_equal(by_id(importing()), truth_of(two_orders))


def test_files_that_name_their_ids_need_no_order(two_orders, importing, capsys):
    shuffled = np.random.default_rng(2).permutation(40)
    ids = np.array(two_orders.ids)[shuffled]
    np.savez(two_orders.folder / "histogram_feature.npz", arr_0=shuffled[:, None] * np.ones((1, 5), "f4"), ids=ids)
    store = importing("--normalise", "none")
    assert [v for v, _ in features_by_id(store).values()] == [float(row) for row in two_orders.lines]
    assert "histogram_feature.npz: it names the ids of its rows" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--order histogram_feature.npz=video_id: it names the ids"):
        importing("--order", "histogram_feature.npz=video_id", "--overwrite")
    two_orders.put("ground_truth.txt", [two_orders.truth(row, with_id=True) for row in two_orders.lines])
    with pytest.raises(InputError, match=r"--order ground_truth.txt=video_id: its lines name their ids themselves"):
        importing("--order", "ground_truth.txt=video_id", "--overwrite")


def garble(release, rows, by="1000 s"):
    number, unit = by.split()
    release.times = [
        str(np.datetime64(time) + np.timedelta64(int(number) * (1 + row % 3), unit)) if row in rows else time
        for row, time in enumerate(release.times)
    ]
    release.put("ground_truth.txt", [release.truth(row) for row in release.lines])


def test_garbled_times_are_refused_unless_order_says(two_orders, importing, tmp_path):
    """All of them, so that nothing is told; and those of some lines, which then contradict the others."""
    times = list(two_orders.times)
    garble(two_orders, range(40), "7 h")
    with pytest.raises(InputError, match=r"its created times do not tell whose lines they are .*--order ground_truth"):
        importing()
    two_orders.times = times
    garble(two_orders, range(10, 22))
    with pytest.raises(InputError, match=r"its created times contradict one another .*--order ground_truth.txt=video_"):
        importing()
    assert not (tmp_path / "data").exists()
    store = importing("--order", "ground_truth.txt=video_user")
    pd.testing.assert_frame_equal(by_id(store), truth_of(two_orders))


def test_lines_that_speak_for_either_list_are_refused(two_orders, importing):
    half = [*two_orders.lines[:25], *range(25, 40)]  # the last lines in the order of video_id.txt
    two_orders.put("ground_truth.txt", [two_orders.truth(row) for row in half])
    with pytest.raises(InputError, match=r"created times contradict one another .* of 15 agree.* of 15 with those"):
        importing()


def test_order_overrules(two_orders, importing):
    store = importing("--normalise", "none", "--order", "histogram_feature.npz=video_user", "video_text.txt=video_id")
    found = features_by_id(store)
    assert [found[two_orders.ids[row]][0] for row in two_orders.lines] == list(range(40))
    assert store.items.item_id.tolist() == two_orders.ids  # rows stand as texts
    assert dict(zip(store.items.item_id, store.items.time, strict=True)) == dict(
        zip(two_orders.ids, np.array(two_orders.times, "M8[us]"), strict=True)
    )


def test_orders_of_several_flags_add_up(two_orders, importing, capsys):
    importing("--order", "ground_truth.txt=video_user", "--order", "histogram_feature.npz=video_user")
    out = capsys.readouterr().out
    assert "ground_truth.txt: the order of video_user.txt, as --order says; 40 of 40 created times agree" in out
    assert "histogram_feature.npz: the order of video_user.txt, as --order says" in out


def test_users_of_more_videos_and_blank_lines(two_orders, importing):
    lines = [f"{two_orders.ids[row]}::::{two_orders.users[row]}" for row in two_orders.lines]
    two_orders.put("video_user.txt", ["7::::somebody", *lines, "8::::somebody", "", ""])
    pd.testing.assert_frame_equal(by_id(importing()), truth_of(two_orders))


@pytest.mark.parametrize("ids", ["words", "huge", "of one moment"])
def test_ids_that_hold_no_time(two_orders, importing, ids):
    made = {"words": "v{}", "huge": "9" * 5000 + "{:03}", "of one moment": "42{:03}"}[ids]
    two_orders.ids = [made.format(i) for i in range(40)]
    two_orders.write()
    with pytest.raises(InputError, match=r"do not tell whose lines they are \(.* of 0 agree .* of 0 with"):
        importing()
    importing("--order", "ground_truth.txt=video_user")


def test_an_array_without_axes_is_refused(two_orders, importing):
    np.savez(two_orders.folder / "histogram_feature.npz", arr_0=np.float32(3))
    with pytest.raises(InputError, match=r"histogram_feature.npz: shape \(\), expected"):
        importing()


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("video_text.txt", "--order video_text.txt: expected FILE=video_user or FILE=video_id, where FILE is one of"),
        ("nothing.txt=video_id", "--order nothing.txt=video_id: expected"),
        ("video_text.txt=alphabet", "--order video_text.txt=alphabet: expected"),
    ],
)
def test_an_order_that_is_none(two_orders, importing, order, message):
    with pytest.raises(InputError, match=message):
        importing("--order", order)
    with pytest.raises(InputError, match=r"video_text.txt is given two orders"):
        importing("--order", "video_text.txt=video_id", "video_text.txt=video_user")


def test_one_order_is_taken_unless_the_times_contradict_it(release, importing, capsys):
    release.write(users=False)
    importing()
    assert "the only one there is (40 of 40 created times agree with the ids)" in capsys.readouterr().out
    garble(release, range(40), "9 h")  # nothing to do with the ids
    importing("--overwrite")
    assert "its times tell nothing" in capsys.readouterr().out
    release.lines = [*range(1, 10), 0, *range(10, 40)]  # another order, and no list that has it
    release.times = Release(release.folder).times
    release.write(users=False)
    with pytest.raises(InputError, match=r"of 10 of 40 lines contradict the times in the ids .*no video_user.txt with"):
        importing("--overwrite")
    with pytest.raises(InputError, match=r"video_user.txt does not hold the ids of video_id.txt"):
        importing("--order", "ground_truth.txt=video_user", "--overwrite")
    importing("--order", "ground_truth.txt=video_id", "--overwrite")


def test_windows_line_ends_and_a_byte_order_mark(release, importing):
    plain = release.write() and importing()
    for path in release.folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert importing("--overwrite").fingerprint == plain.fingerprint


def test_every_label(release, importing):
    release.write()
    for column, name in enumerate(("loops", "likes", "reposts", "comments")):
        store = importing("--label", name, "--overwrite")
        assert list(store.label.names) == [name]
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
    assert importing().items.origin == ("time",)
    with pytest.raises(InputError, match=r"--split_by user: 40 of 40 videos have no user in .*video_user.txt"):
        importing("--split_by", "user", "--overwrite")


def test_features_are_taken_along_and_normalised(release, importing):
    release.write()
    histogram = np.random.default_rng(0).integers(0, 172800, (40, 5)).astype("f4")
    np.savez(release.folder / "histogram_feature.npz", arr_0=histogram, other=np.zeros(3))
    np.savez(release.folder / "text_sentence2vec_feature.npz", arr_0=np.ones((40, 7), "f4"))
    assert np.allclose(
        np.linalg.norm(importing().features["visual"], axis=-1), 1, atol=1e-5
    )  # the default: standard+l2
    store = importing("--normalise", "visual=standard", "--overwrite")
    train = store.features["visual"][store.rows("train"), 0]  # (32, 5)
    assert store.features["visual"].shape == (40, 1, 5) and store.features["textual"].shape == (40, 7)
    assert np.allclose(train.mean(axis=0), 0, atol=1e-5) and np.allclose(train.std(axis=0), 1, atol=1e-4)
    statistics = store.description.features["visual"].made["statistics"]
    assert np.allclose(
        np.array(store.features["visual"][:, 0]) * statistics["std"] + statistics["mean"], histogram, rtol=1e-3
    )
    assert np.array_equal(importing("--normalise", "none", "--overwrite").features["visual"][:, 0], histogram)


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
    "duplicate ids": (lambda r: r.put("video_id.txt", [r.ids[1], *r.ids[1:]]), "video_id.txt: 1 duplicate ids (1"),
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
    "now": (lambda r: fields_of_line(r, 3, lambda f: [*f[:4], "now"]), "ground_truth.txt line 3: "),
    "a far year": (lambda r: fields_of_line(r, 3, lambda f: [*f[:4], "999999-01-01"]), "ground_truth.txt line 3: "),
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


def test_users_that_are_missing_or_malformed(release, importing, capsys):
    release.write()
    release.put("video_user.txt", [f"{video}::::u" for video in release.ids[1:]])
    with pytest.raises(InputError, match=r"--split_by user: 1 of 40 videos have no user"):
        importing("--split_by", "user")
    assert importing().items.user.tolist() == ["", *["u"] * 39]
    assert "video_user.txt: no user for 1 of 40 videos" in capsys.readouterr().out
    release.put("video_user.txt", ["just one field"])
    with pytest.raises(InputError, match=r"video_user.txt line 1: found 'just one field'"):
        importing("--overwrite")
    release.put("video_user.txt", [f"{release.ids[0]}::::u", f"{release.ids[0]}::::w"])
    with pytest.raises(InputError, match=r"video_user.txt line 2: video \d+ has user u further up, here w"):
        importing("--overwrite")


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


@pytest.mark.slow
def test_command_line_refuses_in_one_line_and_does_not_overwrite(run, release, tmp_path):
    script = ("data/NUS/preprocess.py", "--raw", release.folder, "--dataset_path", tmp_path / "data")
    done = run(*script)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "no such folder" in done.stderr
    release.write()
    assert run(*script).returncode == 0
    before = (tmp_path / "data/NUS/dataset.json").read_bytes()
    done = run(*script, "--label", "likes")
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "--overwrite" in done.stderr and (tmp_path / "data/NUS/dataset.json").read_bytes() == before


def test_too_few_to_split():
    for split, given in ((published_split, 9), (time_split, np.arange(9)), (user_split, np.repeat(np.arange(9), 5))):
        with pytest.raises(InputError, match=r"9 (items|users).* are too few"):
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
    assert store.features["visual"].shape == (10000, 1, 50) and store.features["textual"].shape == (10000, 100)
    assert label.std() == pytest.approx(2.783, abs=5e-4)
    mean = label[store.rows("train")].mean()  # the mean predictor of the release's README
    assert ((label[test] - mean) ** 2).mean() / label[test].var() == pytest.approx(1.003, abs=1e-3)
    assert np.abs(label[test] - mean).mean() == pytest.approx(2.169, abs=1e-3)
    assert 0.1 < (store.items.text == "").mean() < 0.2
    # As the release's README found them: who made what, where ids and users are joined rightly.
    items, train = store.items, store.rows("train")
    known = np.isin(items.user[test], items.user[train])
    assert known.sum() == 855 and len(set(items.user)) == 2573
    mean_of = pd.Series(label[train]).groupby(items.user[train]).mean()
    error = mean_of[items.user[test][known]].to_numpy() - label[test][known]
    assert (error**2).mean() / label[test][known].var() == pytest.approx(0.10, abs=0.01)
    held = np.array([int(video) >> 22 for video in items.item_id]) * np.timedelta64(1, "ms")
    moment = items.time - held
    assert np.ptp(moment) < np.timedelta64(2, "s")  # an id holds its time
