"""Metadata from a table's columns to a prediction: what each column is taken for, what is fitted on train alone."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import predictions, refused, trained

from common.console import InputError
from dataloader.encoding import Encoding, of_time, tree_columns
from dataloader.importing.metadata import is_consequence, what_it_is
from dataloader.importing.newcomers import read_newcomers
from dataloader.importing.settings import TableSettings
from dataloader.metadata import Metadata
from dataloader.neighbours import Known
from dataloader.store import FeatureStore
from engine.run import Run

N = 300


def table() -> pd.DataFrame:
    """Videos whose views follow followers, the category and the hour, as a crawler would leave them."""
    rng = np.random.default_rng(0)
    followers = np.exp(rng.normal(8, 2, N)).astype(int)
    category = rng.choice(["food", "dance", "news"], N, p=[0.5, 0.3, 0.2])
    published = pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 60 * 24, N), "h")
    hour = published.hour.to_numpy()
    lift = np.select([category == "food", category == "dance"], [2, 0], -2) + np.sin(2 * np.pi * hour / 24)
    views = np.exp2(6 + 0.5 * np.log2(followers + 1) + lift + rng.normal(0, 0.3, N)).astype(int)
    return pd.DataFrame(
        {
            "item_id": [f"v{i:03d}" for i in range(N)],
            "text": [f"title number {i}" for i in range(N)],
            "views": views,
            "likes": (views * 0.1).astype(int),
            "creator": rng.choice([f"u{i}" for i in range(60)], N),
            "followers": [f"{f / 1000:.1f}K" if f > 10**4 else f"{f:,}" for f in followers],
            "category": category,
            "published": published.strftime("%Y-%m-%d %H:%M"),
            "counted": (published + pd.to_timedelta(rng.integers(24, 240, N), "h")).strftime("%Y-%m-%d %H:%M"),
            "length": [f"{s // 60:02d}:{s % 60:02d}" for s in rng.integers(5, 600, N)],
            "verified": rng.choice(["true", "false"], N),
            "music_id": rng.choice(["7506832682593095111", "7506832682593095222"], N),
            "country": "US",
            "nothing": "",
            "link": [f"https://example.org/{i}" for i in range(N)],
        }
    )


FLAGS = ("--count_column", "views", "--user_column", "creator", "--time_column", "published")
FLAGS += ("--label_time_column", "counted")


@pytest.fixture
def importing(load_script, tmp_path, capsys):
    script = load_script("data/import_features.py")

    def run(frame: pd.DataFrame, *flags: str) -> tuple[FeatureStore, str]:
        frame.to_csv(tmp_path / "t.csv", index=False)
        where = ["--table", str(tmp_path / "t.csv"), "--dataset_path", str(tmp_path), "--dataset_id", "mine"]
        script.main(script.build_parser().parse_args([*where, *FLAGS, *flags]))
        return FeatureStore.open(tmp_path / "mine"), capsys.readouterr().out

    return run


def test_all_takes_what_was_known_and_says_of_each_column_what_it_is(importing):
    store, said = importing(table(), "--metadata_columns", "all")
    assert store.metadata.kinds == {
        "followers": "number",
        "category": "category",
        "published": "time",
        "length": "number",
        "verified": "yes/no",
        "music_id": "category",
        "age_days": "number",
    }
    for line in (
        "  item_id: left out: the items' ids",
        "  text: left out: their text",
        "  views: left out: what is predicted",
        "  likes: left out: a count made after publication",
        "  creator: left out: creators' ids",
        "  country: left out: the same in every row",
        "  nothing: left out: nothing in it",
        "  link: left out: nearly every value is another: ids or texts",
        "  category: category (3 values)",
        "  counted: left out: when the count was taken",
    ):
        assert line in said
    frame = table()
    numbers = [float(f[:-1]) * 1000 if f.endswith("K") else float(f.replace(",", "")) for f in frame["followers"]]
    np.testing.assert_allclose(store.metadata.columns["followers"], numbers, rtol=1e-15)
    seconds = [60 * int(text[:2]) + int(text[3:]) for text in frame["length"]]
    np.testing.assert_array_equal(store.metadata.columns["length"], seconds)
    age = (pd.to_datetime(frame["counted"]) - pd.to_datetime(frame["published"])).dt.total_seconds() / 86400
    np.testing.assert_allclose(store.metadata.columns["age_days"], age)


def test_a_left_out_column_that_is_named_is_taken_and_marks_every_result(importing, load_script, tmp_path, capsys):
    store, _ = importing(table(), "--metadata_columns", "all", "likes", "creator")
    assert store.metadata.kinds["likes"] == "number" and store.metadata.kinds["creator"] == "category"
    assert store.description.consequences == ["likes"]
    run = trained(store, tmp_path / "runs", "--model_id", "Hyfea", "--trees", 5)
    mark = "COUNTED AFTER PUBLICATION, and among the inputs: likes"
    predictions(load_script, run)
    assert mark in (run / "log.txt").read_text() and mark in capsys.readouterr().out
    assert mark in json.loads((run / "metrics.json").read_text())["heading"]
    compare = load_script("baselines/compare.py")
    words = ["--dataset_path", str(tmp_path), "--dataset_id", "mine", "--save", str(tmp_path / "c"), "--methods"]
    compare.main(compare.build_parser().parse_args(words))
    assert "COUNTED AFTER PUBLICATION" in (tmp_path / "c" / "mine" / "table.md").read_text()


def test_named_columns_kinds_and_what_is_refused(importing):
    store, _ = importing(table(), "--metadata_columns", "length=category", "followers", "--horizon", "7")
    assert store.metadata.kinds == {"length": "category", "followers": "number", "age_days": "number"}
    refusals = {
        ("--metadata_columns", "views"): "views: that is what is predicted",
        ("--metadata_columns", "foo"): "no column foo",
        ("--metadata_columns", "category=number"): "column category: 300 values are no finite number",
        ("--horizon", "7"): "--horizon is for the age among the metadata",
        ("--metadata_columns", "followers"): "other metadata are here already",
    }
    for flags, why in refusals.items():
        with refused(why):
            importing(table(), *flags, *(["--overwrite"] if "category" in flags[-1] or "foo" in flags else []))


def test_the_age_is_never_of_today_and_the_horizon_fills_it(importing):
    frame = table()
    frame.loc[:9, "counted"] = ""
    store, _ = importing(frame, "--metadata_columns", "followers")
    assert np.isnan(store.metadata.columns["age_days"][:10]).all()
    store, _ = importing(frame, "--metadata_columns", "followers", "--horizon", "7", "--overwrite")
    assert (store.metadata.columns["age_days"][:10] == 7).all()
    assert store.metadata.columns["age_days"][10:].min() >= 1


def test_dots_that_may_group_thousands_are_said(importing):
    frame = table()
    frame["followers"] = [f"{1 + i % 900}.{i % 1000:03d}" for i in range(N)]
    said_of = "column followers: dots are decimal points, though three digits follow each ('1.000' is 1); --decimal ,"
    store, said = importing(frame, "--metadata_columns", "followers")
    assert said_of in said and store.metadata.columns["followers"][1] == pytest.approx(2.001)
    store, said = importing(frame, "--metadata_columns", "followers", "--decimal", ",", "--overwrite")
    assert "decimal points" not in said and store.metadata.columns["followers"][1] == 2001
    frame.loc[3, "followers"] = "0.5"  # which no group of thousands can be
    assert "decimal points" not in importing(frame, "--metadata_columns", "followers", "--overwrite")[1]
    frame["followers"] = [f"{1 + i % 900}.{i % 1000:03d}K" for i in range(N)]  # a suffix scales decimals
    assert "decimal points" not in importing(frame, "--metadata_columns", "followers", "--overwrite")[1]


def test_what_is_said_of_the_age_of_new_items(importing, tmp_path, capsys):
    """Only of those whose own is not known."""
    store, _ = importing(table(), "--metadata_columns", "followers")
    new, usual = table().head(9).assign(title="new"), float(np.nanmedian(store.metadata.columns["age_days"]))
    for unknown in (0, 4, 9):
        new["counted"] = table()["counted"].where(np.arange(len(table())) >= unknown).head(9)
        new.to_csv(tmp_path / "new.csv", index=False)
        capsys.readouterr()
        found = read_newcomers(store, tmp_path / "new.csv", TableSettings(), "predict", None)
        said = capsys.readouterr().out
        expected = f"age_days: {usual:.1f} days, the median of the data set, for {unknown} of 9 items"
        assert (expected in said) == (unknown > 0) and ("age_days" in said) == (unknown > 0)
        age = found.metadata.columns["age_days"]
        assert (age[:unknown] == usual).all() and np.isfinite(age).all()


def test_bad_cells_are_all_named_or_skipped(importing, tmp_path):
    frame = table()
    frame.loc[[3, 5], "followers"] = "many"
    with refused(r"column followers: 2 values are no finite number \(v003: 'many', v005: 'many'\)"):
        importing(frame, "--metadata_columns", "all")
    assert not (tmp_path / "mine").exists()
    store, _ = importing(frame, "--metadata_columns", "all", "--on_error", "skip")
    skipped = pd.read_csv(tmp_path / "mine" / "skipped.csv")
    assert len(store) == len(store.metadata) == N - 2 and skipped["item_id"].tolist() == ["v003", "v005"]


@pytest.mark.parametrize("method", ["Hyfea", "SVR", "MFTM"])
def test_they_learn_from_metadata_alone_and_a_run_can_be_tested_again(importing, load_script, tmp_path, method):
    store, _ = importing(table(), "--metadata_columns", "all")
    small = ("--epochs", 5, "--tabnet_weight", 0) if method == "MFTM" else ()
    run = trained(store, tmp_path / "runs", "--model_id", method, *small)
    first = predictions(load_script, run)
    truth = store.items.label[store.rows("test")]
    assert ((first - truth) ** 2).mean() < 0.5 * truth.var()
    config = Run.open(run, "").config
    assert config["data"]["metadata"] == store.metadata.kinds and config["data"]["modalities"] == ["metadata"]
    if method != "Hyfea":
        assert config["data"]["metadata_features"] == Encoding.load(run).names
    np.testing.assert_array_equal(predictions(load_script, run), first)
    again = trained(store, tmp_path / "again", "--model_id", method, *small)
    np.testing.assert_array_equal(predictions(load_script, again), first)


def with_textual(store: FeatureStore) -> FeatureStore:
    rng = np.random.default_rng(1)
    for name in ("textual", "retrieval"):
        with store.add_array(name, (len(store), 6), "float32") as out:
            out[:] = rng.standard_normal((len(store), 6))
    return store


def test_published_networks_take_metadata_only_where_asked(importing, load_script, tmp_path):
    store = with_textual(importing(table(), "--metadata_columns", "all")[0])
    small = ("--no_retrieval", "--epochs", 2, "--feature_dim", 8)
    plain = Run.open(trained(store, tmp_path / "plain", *small), "").config
    assert plain["data"]["modalities"] == ["textual"] and plain["model"]["textual_dim"] == 6
    run = trained(store, tmp_path / "asked", *small, "--modalities", "textual", "metadata")
    config = Run.open(run, "").config
    width = 6 + len(Encoding.load(run).names)
    assert config["data"]["modalities"] == ["textual", "metadata"] and config["model"]["textual_dim"] == width
    assert "MMRA as published knows no metadata; they stand behind the textual vector" in (run / "log.txt").read_text()
    assert np.isfinite(predictions(load_script, run)).all()
    alone = trained(store, tmp_path / "alone", *small, "--modalities", "metadata")
    assert Run.open(alone, "").config["model"]["textual_dim"] == width - 6
    assert np.isfinite(predictions(load_script, alone)).all()


def test_neighbours_bring_their_metadata_too(importing, load_script, tmp_path):
    store = with_textual(importing(table(), "--metadata_columns", "all")[0])
    retriever = load_script("retriever.py")
    where = ["--dataset_path", str(tmp_path), "--dataset_id", "mine", "--num_of_retrieved_items", "5"]
    retriever.main(retriever.build_parser().parse_args(where))
    small = ("--epochs", 1, "--feature_dim", 8, "--num_of_retrieved_items", 5)
    run = trained(store, tmp_path / "runs", *small, "--modalities", "textual", "metadata")
    assert np.isfinite(predictions(load_script, run)).all()


def test_the_encoding_saw_train_alone(importing, tmp_path):
    store, _ = importing(table(), "--metadata_columns", "all")
    run = trained(store, tmp_path / "a", "--model_id", "SVR")
    train = set(store.rows("train"))
    frame = table()
    others = [row for row in range(N) if row not in train]
    frame.loc[others, "category"] = "never seen"
    frame.loc[others, "followers"] = "999999999"
    shutil.rmtree(tmp_path / "mine")
    other, _ = importing(frame, "--metadata_columns", "all")
    assert Encoding.load(run).names == Encoding.load(trained(other, tmp_path / "b", "--model_id", "SVR")).names
    rows = store.rows("train")
    one, two = (Encoding.fit(s.metadata.take(rows)).transform(s.metadata, s.folder)[rows] for s in (store, other))
    np.testing.assert_array_equal(one, two)


def test_the_encoding_by_hand():
    """Against the closed forms: ranks through the normal's quantiles, circles, indicators, rare categories as one."""
    n = 400
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0, 4, n))
    values[:7] = np.nan
    times = np.datetime64("2024-01-01T06:00:00", "us") + np.arange(n) * np.timedelta64(1, "D")
    words = np.array(["a"] * 200 + ["b"] * 190 + ["c"] * 8 + ["d", None], object)
    flag = np.where(np.arange(n) < 30, -1, np.arange(n) % 2).astype(np.int8)
    metadata = Metadata({"x": values, "t": times, "w": words, "f": flag})
    encoding = Encoding.fit(metadata)
    found = dict(zip(encoding.names, encoding.transform(metadata, None).T, strict=True))
    assert {"x", "x is unknown", "f", "f is unknown", "w = a", "w = b", "w = c", "w = (rare)"} <= set(found)
    assert (found["x"][:7] == 0).all() and (found["x is unknown"] == np.isnan(values)).all()
    order = np.argsort(values[7:])
    assert (np.diff(found["x"][7:][order]) >= 0).all() and abs(found["x"][7:].std() - 1) < 0.01
    middle = found["x"][7:][order][20:-20]  # heavy tails are gone: the quantiles of a normal, on one line
    from scipy.stats import norm

    line = norm.ppf((np.arange(n - 7) / (n - 8))[20:-20])
    assert np.corrcoef(middle, line)[0, 1] > 0.9999
    np.testing.assert_allclose(found["t: hour sine"], np.sin(np.pi / 2), atol=1e-6)  # six o'clock
    weekday = 2 * np.pi * (np.arange(n) % 7) / 7  # 2024 began on a Monday
    np.testing.assert_allclose(found["t: weekday cosine"], np.cos(weekday), atol=1e-6)
    assert found["w = (rare)"].tolist() == [0.0] * 398 + [1.0, 1.0]
    assert found["f is unknown"].tolist() == [1.0] * 30 + [0.0] * 370
    new = Metadata({"x": values[:2], "t": times[:2], "w": np.array(["never", "a"], object), "f": flag[:2]})
    row = dict(zip(encoding.names, encoding.transform(new, None)[0], strict=True))
    assert row["w = (rare)"] == 1 and row["w = a"] == 0


def test_days_weeks_and_hours_against_pandas():
    times = pd.date_range("1969-12-20", "2031-03-01", freq="37h").to_numpy().astype("M8[us]")
    found, stamps = of_time(times), pd.DatetimeIndex(times)
    np.testing.assert_array_equal(found["weekday"], stamps.dayofweek)
    np.testing.assert_allclose(found["hour"], stamps.hour)
    np.testing.assert_array_equal(np.floor(found["day of year"]) + 1, stamps.dayofyear)


cells = st.one_of(st.none(), st.text(max_size=5), st.integers(-10, 10**12), st.floats(), st.booleans(), st.dates())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12), st.lists(cells, min_size=1, max_size=30))
def test_any_column_is_taken_for_something(name, values):
    kind, why_not = what_it_is(name, values)
    assert kind in ("number", "category", "time", "yes/no") and isinstance(why_not, str)


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=3, max_size=3),
    words=st.lists(
        st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)), min_size=3, max_size=3
    ),
    flags=st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3),
    times=st.lists(st.integers(-(10**15), 4 * 10**15), min_size=3, max_size=3),
)
def test_what_is_written_is_read_again(tmp_path_factory, numbers, words, flags, times):
    columns = {"a": np.array(numbers, float), "b": np.array([*words, None], object)[:-1]}
    columns |= {"c": np.array(flags, np.int8), "d": np.array(times).astype("M8[us]")}
    path = tmp_path_factory.mktemp("m") / "metadata.parquet"
    Metadata(columns).write(path)
    again = Metadata.read(path)
    assert again.kinds == Metadata(columns).kinds and again.digest() == Metadata(columns).digest()
    for name, values in columns.items():
        np.testing.assert_array_equal(again.columns[name], values)


def test_damaged_files_are_named(importing, load_script, tmp_path):
    store, _ = importing(table(), "--metadata_columns", "all")
    run = trained(store, tmp_path / "runs", "--model_id", "SVR")
    (run / "manifest.jsonl").unlink()  # by which all damage is found before a file is read
    saved = run / "metadata.skops"
    whole = saved.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK\x03\x04" + whole[50:]):
        saved.write_bytes(content)
        with refused("metadata.skops: truncated or not the encoding"):
            predictions(load_script, run)
    saved.unlink()
    with refused("metadata.skops: no such file"):
        predictions(load_script, run)
    path = store.folder / "metadata.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "followers"] = 1.0
    frame.to_parquet(path)
    with pytest.raises(InputError, match=r"metadata\.parquet: not the columns that dataset\.json describes"):
        FeatureStore.open(store.folder)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"metadata\.parquet: truncated"):
        FeatureStore.open(store.folder)


def test_items_that_are_left_out_take_their_metadata_with_them(importing):
    store, _ = importing(table(), "--metadata_columns", "all")
    before, kept = store.metadata, np.arange(N) % 3 != 0
    after = store.keep(kept).metadata
    assert after.digest() == before.take(kept).digest() and len(after) == kept.sum()


def test_creators_can_be_made_anonymous(importing, tmp_path):
    frame = table().drop(columns=["item_id"])
    frame["creator"] = "Ms " + frame["creator"].str.upper()
    frame.loc[5, "followers"] = "many"
    flags = ("--metadata_columns", "followers", "creator", "--on_error", "skip")
    plain, _ = importing(frame, *flags)
    store, said = importing(frame, *flags, "--anonymise", "--overwrite")
    assert "Ms " not in said
    for path in store.folder.iterdir():
        assert b"Ms U" not in path.read_bytes() and b"MS U" not in path.read_bytes(), path
    assert store.items.user[0] == "creator1" and len(set(store.items.user)) == len(set(plain.items.user))
    assert (store.metadata.columns["creator"] == store.items.user).all()
    pairs = set(zip(plain.items.user, store.items.user, strict=True))
    assert len(pairs) == len(set(store.items.user))
    appended = pd.concat([frame, frame.assign(creator="Ms New", text="new")])
    more, _ = importing(appended, *flags, "--anonymise", "--overwrite")
    assert more.items.user[: len(store)].tolist() == store.items.user.tolist()
    with refused("--anonymise is for creators' names"):
        importing(frame, "--anonymise", "--user_column", "")


def test_counts_of_the_video_are_told_from_those_of_its_creator():
    late = (
        "likes",
        "like_count",
        "diggCount",
        "playCount",
        "comments",
        "播放量",
        "点赞",
        "danmaku",
        "num_views",
        "いいね数",
    )
    early = ("followers", "author_likes", "channelViews", "duration", "hour", "粉丝数", "title_length")
    assert all(map(is_consequence, late)) and not any(map(is_consequence, early))
    numbers, words = tree_columns({"t": "time", "n": "number", "w": "category", "f": "yes/no"})
    assert numbers == ["t: hour", "t: weekday", "t: day of year", "t: day", "n", "f"] and words == ["w"]


def test_a_raw_count_given_as_a_label_is_told_of(importing, load_script, tmp_path, capsys):
    script = load_script("data/import_features.py")
    where = ["--table", str(tmp_path / "t.csv"), "--dataset_path", str(tmp_path), "--dataset_id"]
    for column, told in (("views", True), ("score", False), ("grade", False)):
        frame = table()
        frame["score"] = np.log2(frame["views"] + 1)
        frame["grade"] = np.arange(N) % 10
        frame.to_csv(tmp_path / "t.csv", index=False)
        script.main(script.build_parser().parse_args([*where, column, "--label_column", column]))
        said = capsys.readouterr().out
        assert ("look like raw counts" in said) is told
        assert (f"--count_column {column} makes the label" in said) is told


def test_a_column_is_one_however_it_is_written(importing, tmp_path):
    frame = table()
    with refused("Views: that is what is predicted"):
        importing(frame, "--metadata_columns", "Views")
    with refused("ｖｉｅｗｓ: that is what is predicted"):
        importing(frame, "--metadata_columns", "ｖｉｅｗｓ")
    store, _ = importing(frame, "--metadata_columns", "followers", "Followers", "FOLLOWERS")
    assert list(store.metadata.columns) == ["followers", "age_days"]
    store, _ = importing(frame, "--metadata_columns", "Creator", "--anonymise", "--overwrite")
    assert (store.metadata.columns["creator"] == store.items.user).all()
    frame["creator_name"] = "Name of " + frame["creator"]
    store, said = importing(frame, "--metadata_columns", "all", "--anonymise", "--overwrite")
    assert "creator_name: left out: it tells creators apart" in said and "creator_name" not in store.metadata.columns
    with refused("--metadata_columns creator_name: it tells creators apart"):
        importing(frame, "--metadata_columns", "creator_name", "--anonymise", "--overwrite")


@pytest.mark.parametrize("method", ["SVR", "Hyfea"])
def test_names_that_collide_with_those_that_are_made(importing, load_script, tmp_path, method):
    """published: day, category_music beside category = music, a name with NUL, a number called as CatBoost would."""
    frame = table().rename(columns={"followers": "published: day"})
    frame["category"] = frame["category"].replace("food", "music")
    frame["category_music"] = np.arange(N) % 7
    frame["0"] = np.arange(N) % 5
    frame["c0"] = [f"x{i % 4}" for i in range(N)]
    store, _ = importing(frame, "--metadata_columns", "all")
    assert {"published: day", "category_music", "0", "c0"} <= set(store.metadata.columns)
    run = trained(store, tmp_path / "runs", "--model_id", method, *(("--trees", 5) if method == "Hyfea" else ()))
    assert np.isfinite(predictions(load_script, run)).all()
    names = Encoding.fit(store.metadata).names
    assert len(set(names)) == len(names) and {"category = music", "category_music", "c0 = x1"} <= set(names)


def test_by_time_nothing_held_out_lies_beyond_all_that_train_has_seen(importing):
    """A day as a number would: every item of test at the same bound."""
    store, _ = importing(table(), "--metadata_columns", "published", "--split_by", "time")
    encoding = Encoding.fit(store.metadata.take(store.rows("train")))
    held = encoding.transform(store.metadata, store.folder)[store.rows("test")]
    assert np.abs(held).max() <= 6 and "published: day" not in encoding.names
    age = encoding.names.index("age_days")
    assert len(np.unique(held[:, age])) > 10


def test_metadata_are_a_data_set_and_stay_when_features_come_later(importing, tmp_path):
    frame = table().drop(columns=["text"])
    store, said = importing(frame, "--metadata_columns", "followers")
    assert store.modalities == ("metadata",) and "--model_id Hyfea" in said
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((N, 4)).astype("f4"))
    store, _ = importing(frame, "--textual", str(tmp_path / "v.npy"))
    assert store.modalities == ("textual", "metadata")
    with refused("other metadata are here already"):
        importing(frame, "--metadata_columns", "category", "--textual", str(tmp_path / "v.npy"))


def test_times_that_cannot_be_are_told(importing):
    swapped = table().rename(columns={"published": "counted", "counted": "published"})
    store, said = importing(swapped, "--metadata_columns", "followers", "--split_by", "time")
    assert "warning: 300 items were counted before they were published" in said
    known = Known.of(store)
    assert (known.since >= store.items.time.astype("i8")).all()


def test_shares_that_leave_a_side_empty_are_refused(importing):
    """By sklearn's rounding some do not; the last does whatever the split is by."""
    frame = table().head(12)
    for flags in (("98", "1", "1"), ("60", "1", "39"), ("1", "1e-20", "1"), ("1e6", "1e-9", "1e-9")):
        for by in ("random", "user", "time"):
            try:
                store, _ = importing(frame, "--split_by", by, "--overwrite", "--shares", *flags)
                assert flags[0] != "1e6" and all(len(store.items.rows(split)) for split in ("train", "valid", "test"))
            except InputError as error:
                assert "leave train, valid or test empty" in str(error)


@pytest.mark.parametrize("by", ["random", "user", "time"])
def test_shares_seeds_and_what_is_said_of_them(importing, by):
    flags = ("--split_by", by, "--shares", "60", "25", "15")
    store, said = importing(table(), *flags, *(("--split_seed", "3") if by != "time" else ()))
    items = store.items
    counts = {split: len(items.rows(split)) for split in ("train", "valid", "test")}
    if by == "user":  # the shares are of users
        sides = [set(items.user[items.rows(split)]) for split in counts]
        users = len(set(items.user))
        assert [len(side) / users for side in sides] == pytest.approx([0.6, 0.25, 0.15], abs=0.03)
        assert not (sides[0] & sides[1] or sides[1] & sides[2] or sides[0] & sides[2])
    else:
        assert counts == pytest.approx({"train": 180, "valid": 75, "test": 45}, abs=5)
    if by == "time":
        latest = [items.time[items.rows(split)].max() for split in counts]
        earliest = [items.time[items.rows(split)].min() for split in counts]
        assert latest[0] < earliest[1] and latest[1] < earliest[2]
    words = f"{by} 60/25/15" + (", seed 3" if by != "time" else "")
    assert store.label.split_by == words and f"(by {words})" in said
    again, _ = importing(table(), *flags, "--overwrite", *(("--split_seed", "3") if by != "time" else ()))
    assert (again.items.split == items.split).all()
    if by != "time":
        other, _ = importing(table(), *flags, "--overwrite", "--split_seed", "4")
        assert (other.items.split != items.split).any()


def test_of_metadata_alone_the_next_command_trains(importing, load_script):
    """Nothing else is there to be made of it; its next line is a whole command, and runs."""
    store, said = importing(table().drop(columns="text", errors="ignore"), "--metadata_columns", "all")
    assert not store.items.has_text and not store.arrays
    next_line, other = said.splitlines()[-2:]
    command = next_line.partition("next: python ")[2]
    assert command.startswith("train.py ") and "<" not in command and other.startswith("or, with videos, before it: ")
    script = load_script("train.py")
    words = [*shlex.split(command)[1:], "--save", str(store.folder.parent / "runs"), "--trees", "2", "--depth", "2"]
    script.main(script.build_parser().parse_args(words))
    assert list((store.folder.parent / "runs").glob("Hyfea_*"))
