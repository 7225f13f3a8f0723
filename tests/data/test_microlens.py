"""data/MicroLens-100k/preprocess.py: the release in every form it is distributed in, on invented videos."""

from __future__ import annotations

import csv
import re
import shlex
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from common.console import InputError
from dataloader.description import Label
from dataloader.MicroLens.dataset import COUNT_FILES, LIKES, TITLES, VIDEOS, read_raw
from dataloader.store import FeatureStore

PAIRS_CSV, PAIRS_TSV = COUNT_FILES["pairs"]
(COMMENTS,) = COUNT_FILES["comments"]
SCRIPT = "data/MicroLens-100k/preprocess.py"
WRITTEN_TITLES = [  # as it stands in the file -> what it says
    ("plain", "plain"),
    ("", ""),
    (" a blank, and commas, in front", "a blank, and commas, in front"),
    ('"quoted, ""twice"""', 'quoted, "twice"'),
    ('"Stop" he said, "now"', '"Stop" he said, "now"'),
    ('""', ""),
    ("emoji 😀 \u2028 \x85 \x0b # tag", "emoji 😀 \u2028 \x85 \x0b # tag"),
    ('" kept blanks "', " kept blanks "),
    ("\r inside\rit", "inside\rit"),
]


class Release:
    """An invented release of n videos; change a field before a `write` to break it."""

    def __init__(self, folder, n=40):
        self.folder, self.n = folder, n
        self.generator = np.random.default_rng(0)
        self.ids = [str(1 + 3 * i) for i in range(n)]
        self.titles = [WRITTEN_TITLES[i % len(WRITTEN_TITLES)][0] for i in range(n)]
        self.expected = [WRITTEN_TITLES[i % len(WRITTEN_TITLES)][1] for i in range(n)]
        self.comments = self.generator.integers(1, 9, n)
        users = self.generator.integers(1, 30, self.comments.sum())
        pairs = zip(users, np.repeat(self.ids, self.comments), strict=True)
        self.pairs = self.generator.permutation([(str(user), item) for user, item in pairs]).tolist()
        folder.mkdir(parents=True)
        self.put(TITLES, [f"{item},{title}" for item, title in zip(self.ids, self.titles, strict=True)])

    def put(self, name, lines):
        content = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
        (self.folder / name).write_bytes(content)
        return self

    def lines(self, name):
        return (self.folder / name).read_bytes().decode().split("\n")[:-1]

    def change(self, name, number, line):
        lines = self.lines(name)
        lines[number - 1] = line
        return self.put(name, lines)

    def triples(self, separator=","):
        return [separator.join([*pair, str(1_583_378_629_552 + i)]) for i, pair in enumerate(self.pairs)]

    def lists(self):
        of_user = {}
        for user, item in self.pairs:
            of_user.setdefault(user, []).append(item)
        return [f"{user}\t{' '.join(items)}" for user, items in of_user.items()]

    def comment_lines(self):
        texts = ["hi", "", "tabs\tin\tit", '"quotes', "1,2,3", "5\r5", " "]
        return [f"{user}\t{item}\t{texts[i % len(texts)]}" for i, (user, item) in enumerate(self.pairs)]

    def likes(self, separator="\t"):
        return [separator.join([item, str(10 * i), str(1000 * i)]) for i, item in enumerate(self.ids, start=1)]


@pytest.fixture
def release(tmp_path):
    release = Release(tmp_path / "raw")
    return release.put(PAIRS_CSV, release.triples())


@pytest.fixture(scope="session")
def preprocess(load_script):
    return load_script(SCRIPT)


@pytest.fixture
def importing(preprocess, tmp_path):
    def start(*flags) -> FeatureStore:
        where = ["--raw", str(tmp_path / "raw"), "--dataset_path", str(tmp_path / "data")]
        preprocess.main(preprocess.build_parser().parse_args([*where, *flags]))
        return FeatureStore.open(tmp_path / "data" / "MicroLens-100k")

    return start


@pytest.fixture
def sequence(preprocess, monkeypatch) -> list:
    """The --videos of every start, in place of the feature steps, which have tests of their own."""
    starts = []
    monkeypatch.setattr(
        preprocess, "run_sequence", lambda store, settings, typed: starts.append(settings.videos) or store
    )
    return starts


def test_titles_labels_and_the_published_split(release, importing, capsys):
    items = importing().items
    assert items.item_id.tolist() == release.ids and items.text.tolist() == release.expected
    assert np.array_equal(items.popularity[:, 0], release.comments)
    assert np.allclose(items.label[:, 0], np.log2(release.comments))
    train, held_out = train_test_split(np.arange(40), test_size=0.2, random_state=9)
    test, valid = train_test_split(held_out, test_size=0.5, random_state=18)
    for name, rows in {"train": train, "valid": valid, "test": test}.items():
        assert items.rows(name).tolist() == sorted(rows)
    out = capsys.readouterr().out
    assert f"comments counted in {PAIRS_CSV}\n" in out and "splits: train 32, valid 4, test 4" in out
    assert "next: python feature_engineering/textual_engineering.py" in out
    assert "or, and: python feature_engineering/visual_engineering.py" in out


FORMS = {
    "pairs.csv": lambda r: r.put(PAIRS_CSV, r.triples()),
    "pairs.csv, header": lambda r: r.put(PAIRS_CSV, ["user,item,timestamp", *r.triples()]),
    "pairs.csv, other header": lambda r: r.put(PAIRS_CSV, ["userID, videoID, timestamp", *r.triples(", ")]),
    "pairs.csv of lists": lambda r: r.put(PAIRS_CSV, r.lists()),
    "pairs.tsv": lambda r: r.put(PAIRS_TSV, r.lists()),
    "pairs.tsv, header": lambda r: r.put(PAIRS_TSV, ["user\titems", *r.lists()]),
    "pairs.tsv of triples": lambda r: r.put(PAIRS_TSV, r.triples("\t")),
    "pairs.tsv with commas": lambda r: r.put(PAIRS_TSV, r.triples()),
    "comments": lambda r: r.put(COMMENTS, r.comment_lines()),
    "comments, header": lambda r: r.put(COMMENTS, ["user\titem\tcomment", *r.comment_lines()]),
    "comments that are no UTF-8": lambda r: r.put(
        COMMENTS, "".join(f"{line}\n" for line in r.comment_lines()).encode() + b"x\xff\n"
    ),
}


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_counts(tmp_path, name, windows):
    release = Release(tmp_path / "raw")
    FORMS[name](release)
    if windows:
        for path in release.folder.iterdir():
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    raw = read_raw(release.folder)
    assert raw.item_id.tolist() == release.ids and raw.title.tolist() == release.expected
    assert raw.counts["comments"].tolist() == release.comments.tolist()
    assert raw.notes[0] == f"comments counted in {next(p.name for p in release.folder.iterdir() if p.name != TITLES)}"


@pytest.mark.parametrize("header", ["item,title", "videoID, title", '"item","title"'])
def test_a_header_of_titles_is_no_item(release, header):
    plain = read_raw(release.folder)
    release.put(TITLES, [header, *release.lines(TITLES)])
    with_header = read_raw(release.folder)
    assert with_header.item_id.tolist() == plain.item_id.tolist() and with_header.title.tolist() == plain.title.tolist()


def test_ids_need_not_be_numbers(tmp_path):
    release = Release(tmp_path / "raw").put(TITLES, ["v-1, one", "v_2,two, 2"])
    for name, lines in {
        PAIRS_CSV: ["u,v-1,1", "u,v_2,2", "w,v_2,3"],
        PAIRS_TSV: ["u\tv-1 v_2", "w\tv_2"],
        COMMENTS: ["u\tv-1\t", "u\tv_2\thi, you", "w\tv_2"],
    }.items():
        release.put(name, lines)
        assert read_raw(release.folder).counts["comments"].tolist() == [1, 2]
        (release.folder / name).unlink()


def test_the_first_count_file_is_used_and_a_flag_chooses_another(release, importing, capsys):
    release.put(PAIRS_TSV, ["1\t1 1"]).put(COMMENTS, ["1\t1\thi", *release.comment_lines()])
    assert importing().items.popularity[0, 0] == release.comments[0]
    assert f"counted in {PAIRS_CSV} (also there: {PAIRS_TSV}, {COMMENTS})" in capsys.readouterr().out
    assert importing("--counts", "comments", "--overwrite").items.popularity[0, 0] == release.comments[0] + 1
    assert f"counted in {COMMENTS}" in capsys.readouterr().out
    (release.folder / PAIRS_CSV).unlink()
    assert f"counted in {PAIRS_TSV}" in read_raw(release.folder, counts="pairs").notes[0]
    (release.folder / COMMENTS).unlink()
    with pytest.raises(InputError, match=rf"--counts comments: no {COMMENTS} in .*; there is {PAIRS_TSV}"):
        importing("--counts", "comments")


@pytest.mark.parametrize("separator", ["\t", ",", " ", ", ", "   "])
@pytest.mark.parametrize("header", [[], ["item\tlikes\tviews"], ["video_id, likes, views"]])
def test_likes_and_views_are_kept_and_can_be_the_label(release, importing, separator, header):
    release.put(LIKES, [*header, *release.likes(separator)])
    store = importing()
    assert store.items.extra["likes"].tolist() == [10 * i for i in range(1, 41)]
    assert store.items.extra["views"].tolist() == [1000 * i for i in range(1, 41)]
    assert store.items.extra["comments"].tolist() == release.comments.tolist()
    store = importing("--label", "views", "--log_offset", "1", "--overwrite")
    assert store.label == Label(("views",), "log2", 1, "published")
    assert np.allclose(store.items.label[:, 0], np.log2(1000 * np.arange(1, 41) + 1))


def test_likes_need_no_comments(release, importing):
    (release.folder / PAIRS_CSV).unlink()
    release.put(LIKES, release.likes())
    assert set(importing("--label", "likes").items.extra) == {"likes", "views"}


def test_items_without_a_label_are_left_out_and_listed(release, importing, tmp_path, capsys):
    lost = release.ids[5:8]
    release.put(PAIRS_CSV, [line for line in release.triples() if line.split(",")[1] not in lost])
    release.put(LIKES, [line for line in release.likes() if line.split("\t")[0] != release.ids[0]])
    store = importing()
    kept = [item for item in release.ids if item not in lost]
    assert store.items.item_id.tolist() == kept and [len(store.rows(split)) for split in ("train", "test")] == [29, 4]
    listed_there = list(csv.DictReader((tmp_path / "data/MicroLens-100k/skipped.csv").open()))
    assert [(row["item_id"], row["stage"]) for row in listed_there] == [(item, "items") for item in lost]
    assert listed_there[0]["reason"] == "0 comments, and --log_offset 0: no logarithm"
    out, err = capsys.readouterr()
    assert "3 of 40 items have no label: left out" in out and f"nothing on 1 items ({release.ids[0]})" in out
    assert err.splitlines()[-1].startswith("warning: 3 of 40 items (8%) could not be used; see ")
    assert np.isnan(store.items.extra["likes"][0])
    assert len(importing("--log_offset", "1", "--overwrite")) == 40  # a count of 0 has a label then
    assert not (tmp_path / "data/MicroLens-100k/skipped.csv").exists()
    assert len(importing("--label", "likes", "--overwrite")) == 39 and "warning" not in capsys.readouterr().err


def test_comments_of_unknown_items_and_repeated_lines_are_said(release):
    lines = release.triples()
    release.put(PAIRS_CSV, [*lines, "7,999999,5", "8,999999,5", "9,x,5", lines[0]])
    raw = read_raw(release.folder)
    assert raw.counts["comments"].sum() == len(lines) + 1
    assert f"1 lines of {PAIRS_CSV} repeat another one; each is counted, as published" in raw.notes
    text = f"3 of {len(lines) + 4} comments are of 2 items that {TITLES} does not have (999999, x): not counted"
    assert text in raw.notes


def test_a_comment_over_several_lines_counts_once_and_is_said(release):
    (release.folder / PAIRS_CSV).unlink()
    lines = release.comment_lines()
    lines[2] += "\nsecond line\tof\tit\n\n12 4 not tabs\nlast\t4"
    raw = read_raw(release.put(COMMENTS, lines).folder)
    assert raw.counts["comments"].tolist() == release.comments.tolist()
    assert raw.notes[1].endswith("taken for further lines of the comment above, not counted (lines 4, 6, 7)")


def test_the_second_start_goes_on_and_other_items_are_refused(release, importing, tmp_path, capsys, sequence):
    first = importing()
    with first.add_array("textual", (40, 3), "float32") as array:
        array[:] = 1
    capsys.readouterr()
    (tmp_path / "v").mkdir()
    assert importing("--videos", str(tmp_path / "v")).fingerprint == first.fingerprint
    assert "the data set is there already, going on" in capsys.readouterr().out and sequence[-1] == tmp_path / "v"
    first.keep(np.arange(40) > 3)  # as a later step does with what it cannot use
    assert len(importing()) == 36
    before = (tmp_path / "data/MicroLens-100k/dataset.json").read_bytes()
    for flags in (["--log_offset", "1"], ["--label", "likes"]):
        release.put(LIKES, release.likes())
        with pytest.raises(InputError, match=r"a data set of other items or labels is here already; --overwrite"):
            importing(*flags)
    assert (tmp_path / "data/MicroLens-100k/dataset.json").read_bytes() == before
    assert len(importing("--overwrite")) == 40


def test_videos_that_are_there_are_named_not_used(release, importing, preprocess, capsys, sequence):
    importing()
    assert "the videos are there" not in capsys.readouterr().out
    (release.folder / VIDEOS).mkdir()
    importing("--log_offset", "1", "--overwrite")
    out = capsys.readouterr().out
    hint = re.search(r"the videos are there; with all that follows from them: python (.*)", out)[1]
    assert hint.startswith(SCRIPT) and not any(sequence) and "--overwrite" not in hint
    args = preprocess.build_parser().parse_args(shlex.split(hint)[1:])
    assert args.log_offset == 1 and Path(args.videos) == release.folder / VIDEOS
    preprocess.main(args)  # the command is right: it goes on with what is there
    assert sequence[-1] == release.folder / VIDEOS and "the videos are there" not in capsys.readouterr().out


# ---- what the formats can express comes back -----------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=30)
IDS = st.integers(0, 10**9).map(str)


def reading(files: dict[str, str]):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content.encode())
        return read_raw(Path(folder))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(IDS, ANY_TEXT, st.booleans()), min_size=1, unique_by=lambda row: row[0]), st.booleans())
def test_titles_round_trip(rows, header):
    lines, expected = ["item,title"] if header else [], []
    for item, title, quoted in rows:
        plain = title.strip()
        whole = re.fullmatch(r'"([^"]|"")*"', plain)
        quoted = quoted or whole  # a title that looks like a quoted field can be written as one alone
        lines.append(f"{item}," + ('"' + title.replace('"', '""') + '"' if quoted else title))
        expected.append(title if quoted else plain)
    raw = reading({TITLES: "\n".join(lines), PAIRS_CSV: f"1,{rows[0][0]},1"})
    assert raw.item_id.tolist() == [row[0] for row in rows] and raw.title.tolist() == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(IDS, st.integers(0, 30).map(str)), min_size=1), st.sampled_from(["csv", "tsv", "list"]), ANY_TEXT
)
def test_pairs_round_trip(pairs, form, text):
    items = list(dict.fromkeys(item for _, item in pairs))
    titles = "".join(f"{item},t\n" for item in items)
    separator = "," if form == "csv" else "\t"
    content = "".join(f"{user}{separator}{item}{separator}{i}\n" for i, (user, item) in enumerate(pairs))
    if form == "list":
        content = "".join(f"{user}\t{item} {item}\n" for user, item in pairs)
    true = Counter(item for _, item in pairs)
    counts = reading({TITLES: titles, PAIRS_TSV: content}).counts["comments"]
    assert counts.tolist() == [true[item] * (2 if form == "list" else 1) for item in items]
    comments = "".join(f"{user}\t{item}\t{text}\n" for user, item in pairs)
    assert reading({TITLES: titles, COMMENTS: comments}).counts["comments"].tolist() == [true[item] for item in items]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([TITLES, PAIRS_CSV, COMMENTS, LIKES]))
def test_no_bytes_end_in_a_traceback(content, name):
    with tempfile.TemporaryDirectory() as folder:
        for other, good in {TITLES: b"1,a\n", PAIRS_CSV: b"1,1,1\n", LIKES: b"1 2 3\n"}.items():
            (Path(folder) / other).write_bytes(good)
        (Path(folder) / name).write_bytes(content)
        for counts in ("pairs", "comments"):
            try:
                read_raw(Path(folder), counts=counts)
            except InputError as error:
                assert "\n" not in str(error)


# ---- bad input -----------------------------------------------------------------------------------

BREAKAGES = {
    "no folder": (lambda r: r.folder.rename(r.folder.with_name("moved")), "raw: no such folder"),
    "no titles": (lambda r: (r.folder / TITLES).unlink(), f"{TITLES}: no such file"),
    "empty titles": (lambda r: r.put(TITLES, []), f"{TITLES}: empty; expected item,title"),
    "only a header": (lambda r: r.put(TITLES, ["item,title"]), f"{TITLES}: empty"),
    "a title without a comma": (
        lambda r: r.change(TITLES, 3, "7"),
        f"{TITLES}: expected item,title, found line 3: '7'",
    ),
    "a title over two lines": (lambda r: r.change(TITLES, 3, '7,"a\nb, c"'), "line 4: 'b, c\"'"),
    "a title without an id": (lambda r: r.change(TITLES, 3, ",lost"), "line 3: ',lost'"),
    "an item twice": (lambda r: r.change(TITLES, 3, "1,again"), "line 3: '1,again', this item a second time"),
    "titles not utf-8": (
        lambda r: r.put(TITLES, b"1,a\n" + b"2,caf\xe9\n"),
        "line 2: '2,caf\ufffd', not UTF-8",
    ),
    "titles in utf-16": (lambda r: r.put(TITLES, "1,a\n4,b\n".encode("utf-16")), f"{TITLES}: expected item,title"),
    "title,item": (lambda r: r.put(TITLES, ["title,item", "a,1"]), f"{TITLES} line 1: a header of other columns"),
    "many lines": (lambda r: r.put(TITLES, ["1,a"] + ["x"] * 20), "line 6: 'x' and 15 more"),
    "no counts": (lambda r: (r.folder / PAIRS_CSV).unlink(), f"no {PAIRS_CSV} or {PAIRS_TSV} or {COMMENTS} in "),
    "empty pairs": (lambda r: r.put(PAIRS_CSV, b""), f"{PAIRS_CSV}: empty; expected user,item,timestamp or user<TAB>"),
    "two fields": (lambda r: r.change(PAIRS_CSV, 1, "1,4"), "expected user,item,timestamp, found line 1: '1,4'"),
    "four fields": (lambda r: r.change(PAIRS_CSV, 9, "1,4,5,6"), "line 9: '1,4,5,6'"),
    "no item": (lambda r: r.change(PAIRS_CSV, 9, "1,,5"), "line 9: '1,,5'"),
    "a time in words": (lambda r: r.change(PAIRS_CSV, 9, "1,4,noon"), "line 9: '1,4,noon'"),
    "a header in the middle": (lambda r: r.change(PAIRS_CSV, 9, "user,item,timestamp"), "line 9: 'user,item,timest"),
    "item first": (lambda r: r.change(PAIRS_CSV, 1, "item,user,timestamp"), "line 1: a header of other columns"),
    "a cut line": (lambda r: r.put(PAIRS_TSV, ["1\t1 4", "2\t"]) and (r.folder / PAIRS_CSV).unlink(), "line 2: '2\\t'"),
    "other items": (lambda r: r.put(PAIRS_CSV, ["1,a.0,1"]), "none of its 1 comments is of an item of"),
    "a comment without ids": (
        lambda r: r.put(COMMENTS, ["hello"]) and (r.folder / PAIRS_CSV).unlink(),
        f"{COMMENTS}: expected user<TAB>item<TAB>comment, found line 1: 'hello'",
    ),
    "likes in words": (lambda r: r.put(LIKES, ["1\tmany\t3"]), f"{LIKES}: expected item, likes, views, found line 1"),
    "negative likes": (lambda r: r.put(LIKES, ["1\t-1\t3"]), f"{LIKES}: expected item, likes, views, found line 1"),
    "endless likes": (lambda r: r.put(LIKES, ["1 2 " + "9" * 400]), f"{LIKES}: expected item, likes, views, found"),
    "thousands": (lambda r: r.put(LIKES, ["1\t1,234"]), f"{LIKES}: expected item, likes, views, found line 1"),
    "likes twice": (lambda r: r.put(LIKES, ["1 2 3", "1 2 3"]), "line 2: '1 2 3', this item a second time"),
    "views first": (lambda r: r.put(LIKES, ["item views likes", "1 2 3"]), "line 1: a header of other columns"),
    "empty likes": (lambda r: r.put(LIKES, b""), f"{LIKES}: empty"),
    "too few": (lambda r: r.put(TITLES, ["1,a", "4,b"]), "2 of 2 items have a label; three splits need at least 10"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_bad_input_is_named_and_nothing_is_written(release, importing, tmp_path, name):
    breakage, message = BREAKAGES[name]
    breakage(release)
    with pytest.raises(InputError) as caught:
        importing()
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_all_files_are_complained_of_at_once(release, importing):
    release.change(TITLES, 3, "x").change(PAIRS_CSV, 3, "y").put(LIKES, ["z"])
    with pytest.raises(InputError) as caught:
        importing()
    assert all(part in str(caught.value) for part in (f"{TITLES}: ", f"{PAIRS_CSV}: ", f"{LIKES}: "))


def test_likes_as_the_label_need_their_file(release, importing):
    with pytest.raises(InputError, match=rf"{LIKES}: no such file; --label likes needs it"):
        importing("--label", "likes")


@pytest.mark.slow
def test_the_script_from_outside(run, release, tmp_path):
    script = (SCRIPT, "--raw", release.folder, "--dataset_path", tmp_path / "data")
    good = release.lines(PAIRS_CSV)
    release.change(PAIRS_CSV, 2, "broken\r\u2028")
    done = run(*script)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert f"{PAIRS_CSV}: expected user,item,timestamp, found line 2" in done.stderr
    assert not (tmp_path / "data").exists()
    release.put(PAIRS_CSV, good)
    assert run(*script).returncode == 0
    done = run(*script, "--log_offset", "1")
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "--overwrite" in done.stderr
