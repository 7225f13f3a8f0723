"""Tables as they come, from file to data set: what each oddity is read as, and that no row is lost in silence."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from common.console import InputError
from dataloader.store import FeatureStore
from feature_engineering.decoding.frames import plan_videos

VIEWS = ("--id_column", "id", "--text_column", "title", "--count_column", "views")


@pytest.fixture(scope="session")
def script(load_script):
    return load_script("data/import_features.py")


@pytest.fixture
def importing(script, tmp_path):
    def start(table, *flags) -> FeatureStore:
        where = ["--table", str(table), "--dataset_path", str(tmp_path / "data"), "--dataset_id", "own", "--overwrite"]
        script.main(script.build_parser().parse_args([*where, *map(str, flags)]))
        return FeatureStore.open(tmp_path / "data" / "own")

    return start


@pytest.fixture
def refused(importing, tmp_path):
    """What is said of a table that cannot be used; nothing is written then."""

    def start(table, *flags) -> str:
        with pytest.raises(InputError) as caught:
            importing(table, *flags)
        assert not (tmp_path / "data").exists() and str(table) in str(caught.value)
        return str(caught.value)

    return start


@pytest.fixture
def odd(shared) -> Path:
    return shared / "data" / "odd_tables"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def counts(store: FeatureStore) -> list:
    return [None if np.isnan(value) else float(value) for value in store.items.popularity[:, 0]]


def skipped(store: FeatureStore) -> list[tuple[str, str]]:
    path = store.folder / "skipped.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["item_id"], row["reason"]) for row in csv.DictReader(file)]


# ---- numbers -------------------------------------------------------------------------------------


def test_thousands_and_millions(importing, odd):
    found = counts(importing(odd / "k_m.csv", *VIEWS))
    assert found[:8] == [1_200_000, 12_300, 1234, 30_000, 900, 5000, 1_500_000_000, 21_000] and found[8:] == [7] * 12


def test_dots_that_group_thousands(importing, odd, capsys):
    assert counts(importing(odd / "eu_dots.csv", *VIEWS)) == [1234, 12500, 987, 45210, 3000] * 4
    assert "column views: dots group thousands ('1.234' is 1234); --decimal ." in capsys.readouterr().out
    assert counts(importing(odd / "eu_dots.csv", *VIEWS, "--decimal", "."))[:2] == [1.234, 12.5]
    flags = ("--id_column", "id", "--text_column", "title", "--label_column", "views")
    assert importing(odd / "eu_dots.csv", *flags).items.label[0, 0] == 1.234


def test_unknown_counts_and_wrong_ones(importing, refused, odd, capsys):
    message = refused(odd / "na.csv", *VIEWS)
    assert "column views: 1 values are no finite number (v9: 'inf')" in message
    assert "column views: 1 values are negative counts (v8: '-1')" in message
    store = importing(odd / "na.csv", *VIEWS, "--on_error", "skip")
    assert counts(store) == [None] * 8 + [7] * 10 and (store.items.split[:8] == "predict").all()
    assert [item for item, _ in skipped(store)] == ["v8", "v9"]
    assert "2 of 20 rows left out, listed in" in capsys.readouterr().out


def test_none_and_na_are_words_of_a_title(importing, tmp_path):
    table = write(tmp_path / "t.csv", "item_id,text\na,None\nb,N/A\nc,-\nd,null\n")
    assert importing(table).items.text.tolist() == ["None", "N/A", "-", "null"]


def test_features_follow_the_rows_that_are_kept(importing, tmp_path):
    lines = [f"v{i},t,{'bad' if i == 3 else i}" for i in range(14)]
    table, array = write(tmp_path / "t.csv", "\n".join(["item_id,text,n", *lines])), np.arange(28.0).reshape(14, 2)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", item_id=[f"v{i}" for i in reversed(range(14))], x=array[::-1])
    flags = ("--count_column", "n", "--on_error", "skip", "--features", f"a={tmp_path}/a.npy", f"b={tmp_path}/b.npz")
    store = importing(table, *flags)
    assert store.features["a"].tolist() == store.features["b"].tolist() == np.delete(array, 3, axis=0).tolist()


def test_features_of_fewer_rows_than_the_table_are_refused(importing, tmp_path):
    table = write(
        tmp_path / "t.csv", "item_id,text,n\n" + "".join(f"v{i},t,{'x' if i == 3 else i}\n" for i in range(14))
    )
    np.save(tmp_path / "a.npy", np.zeros((13, 2)))
    (tmp_path / "b.npz").write_bytes(b"no archive")
    flags = ("--count_column", "n", "--on_error", "skip", "--features", f"a={tmp_path}/a.npy", f"b={tmp_path}/b.npz")
    with pytest.raises(InputError, match=r"a.npy: 13 rows, but there are 14 rows in the table; .*b.npz: truncated or"):
        importing(table, *flags)


def test_flags_of_numbers_and_errors_that_do_nothing(importing, tmp_path):
    table = write(tmp_path / "t.csv", "item_id,text\na,b\n")
    with pytest.raises(InputError, match="--decimal belongs to numbers"):
        importing(table, "--decimal", ".")
    with pytest.raises(InputError, match="--on_error zero is for videos"):
        importing(table, "--on_error", "zero")


# ---- files ---------------------------------------------------------------------------------------


def test_semicolons_whole_titles_and_a_byte_order_mark(importing, odd):
    items = importing(odd / "semi_bom.csv", *VIEWS).items
    assert len(items) == 20 and items.text[0] == "Clip 1, part two" and items.popularity[0, 0] == 10


def test_stray_quotes_swallow_no_rows(importing, odd, capsys):
    items = importing(odd / "quotes2.tsv", *VIEWS).items
    assert items.item_id.tolist() == [f"v{i}" for i in range(1, 21)]
    assert items.text[0] == '"open quote only' and items.text[10] == 'two"'
    assert "1 lines with stray quotes, which were taken as characters of the text (lines 2)" in capsys.readouterr().out


QUOTED = {  # lines -> texts, or what is said
    'a,"one\ntwo",3': ["one\ntwo"],
    'a,"one\nx,y,z",3': ["one\nx,y,z"],  # the first line alone has no three fields
    'a,"one, ""two""",3': ['one, "two"'],
    'a,"one" two,3': ['"one" two'],
    'a,one "two",3': ['one "two"'],
    'a,"one,3\nb,two,4': ['"one', "two"],
    'a,"one,3\nb,"two, three",4': ['"one', "two, three"],
    'a,"one,3\nb,x,4\nc,two",5': ['"one', "x", 'two"'],
    "a,one,3,,": ["one"],
    "a,one,3\n,,\nb,two,4": ["one", "two"],
    'a,"one, two" three,3': "line 2: ',' expected after '\"'; check the quotes",
    "a,one\nb,two,3\nc,three": "line 2: 2 fields, but the header has 3 (item_id, text, count); text that holds",
}


@pytest.mark.parametrize("lines", QUOTED)
def test_quotes(importing, refused, tmp_path, lines):
    table = write(tmp_path / "t.csv", f"item_id,text,count\n{lines}\n")
    if isinstance(QUOTED[lines], str):
        assert QUOTED[lines] in refused(table)
    else:
        assert importing(table).items.text.tolist() == QUOTED[lines]


def test_lines_that_do_not_fit_are_all_named_or_skipped(importing, refused, tmp_path):
    table = write(tmp_path / "t.csv", "item_id,text\na,one\nb\nc,three\nd,4,5\n")
    message = refused(table)
    assert "line 3: 1 fields, but the header has 2" in message and "1 more do not fit (line 5)" in message
    store = importing(table, "--on_error", "skip")
    assert store.items.item_id.tolist() == ["a", "c"]
    assert [why[:15] for _, why in skipped(store)] == ["line 3: 1 field", "line 5: 3 field"]


def test_two_columns_leave_it_open_what_a_quote_is(refused, tmp_path):
    table = write(tmp_path / "t.csv", 'item_id,text\na,"one\nb,two"\n')
    assert "line 2: a quote opens here and closes in line 3: one text, or 2 rows" in refused(table)


TEXT = "item_id,title,views\nv1,Grüße aus Köln,1\nv2,größer und schöner,2\nv3,Café Müller,3\n"
CHINESE = "item_id,title,views\n" + "".join(f"v{i},今天天气很好我们去公园,{i}\n" for i in range(4))
ENCODED = {
    "utf-8-sig": (TEXT, ""),
    "utf-16": (TEXT, ""),
    "utf-16-le": (TEXT, "read as utf-16-le"),
    "utf-16-be": (TEXT, "read as utf-16-be"),
    "utf-32": (TEXT, ""),
    "latin-1": (TEXT, "not UTF-8; read as cp1252, by its characters ('v1,Grüße aus Köln,1'); --encoding names another"),
    "gb18030": (CHINESE, "not UTF-8; read as gb18030"),
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_encodings_are_found_and_said_or_named(importing, tmp_path, capsys, encoding):
    text, said = ENCODED[encoding]
    table, flags = write(tmp_path / "t.csv", text, encoding), ("--text_column", "title")
    right = [line.split(",")[1] for line in text.splitlines()[1:]]
    assert importing(table, *flags).items.text.tolist() == right
    out = capsys.readouterr().out
    assert said in out and ("read as" in out) == bool(said)
    assert importing(table, *flags, "--encoding", encoding).items.text.tolist() == right
    assert "read as" not in capsys.readouterr().out


def test_latin_1_as_it_comes(importing, odd):
    assert importing(odd / "latin1.csv", *VIEWS).items.text[0] == "Café Müller 1"


def test_a_wrong_encoding_is_refused(refused, script, tmp_path, capsys):
    table = write(tmp_path / "t.csv", TEXT)
    assert "not ascii" in refused(table, "--text_column", "title", "--encoding", "ascii")
    for name in ("klingon", "hex"):
        with pytest.raises(SystemExit):
            script.build_parser().parse_args(["--table", "t", "--dataset_id", "d", "--encoding", name])
    assert "'hex' is no encoding" in capsys.readouterr().err


SEPARATED = {
    "t.csv": "item_id\ttext\n1\ta, b; c\n",
    "t.tsv": "item_id,text\n1,a\n",
    "u.csv": "sep=;\nitem_id;text\n1;a, b\n",
    "v.csv": "\ufeffsep=|\r\nitem_id|text\r\n1|a, b\r\n",
    "t.txt": "item_id;text, long;text\n1;x;a, b\n",
}


@pytest.mark.parametrize("name", SEPARATED)
def test_separators_whatever_the_ending(importing, tmp_path, name):
    items = importing(write(tmp_path / name, SEPARATED[name])).items
    assert items.item_id.tolist() == ["1"] and items.text[0].startswith("a")


def test_compressed(importing, tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"item_id,text\n1,a\n"))
    assert importing(tmp_path / "t.csv.gz").items.text.tolist() == ["a"]


def test_a_json_array(importing, refused, tmp_path):
    objects = [{"item_id": 1, "text": "a", "nested": [1]}, {"item_id": 2**60 + 1, "text": None}]
    for name in ("t.json", "t.jsonl"):
        items = importing(write(tmp_path / name, json.dumps(objects, indent=1))).items
        assert items.item_id.tolist() == ["1", str(2**60 + 1)] and items.text.tolist() == ["a", ""]
    lines = "\n".join(map(json.dumps, objects))
    assert len(importing(write(tmp_path / "t.json", lines)).items) == 2
    shutil.rmtree(tmp_path / "data")
    assert "line 2: not JSON" in refused(write(tmp_path / "t.json", '[{"item_id": 1},\n{]'))


def excel(path: Path, **sheets: list[list]) -> Path:
    """As Excel writes it, without a library: numbers as numbers, texts as texts, None as no cell."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    files, listing, relations = {}, "", ""
    overrides = f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
    for n, (name, rows) in enumerate(sheets.items(), start=1):
        content = ""
        for r, row in enumerate(rows, start=1):
            cells = ""
            for place, value in zip("ABCDEFG", row, strict=False):
                if isinstance(value, str):
                    cells += f'<c r="{place}{r}" t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'
                elif value is not None:
                    cells += f'<c r="{place}{r}"><v>{value!r}</v></c>'
            content += f'<row r="{r}">{cells}</row>'
        files[f"xl/worksheets/sheet{n}.xml"] = f'<worksheet xmlns="{main}"><sheetData>{content}</sheetData></worksheet>'
        listing += f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>'
        relations += f'<Relationship Id="rId{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        overrides += f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{kind}.worksheet+xml"/>'
    first = f'<Relationship Id="rId1" Type="{office}/officeDocument" Target="xl/workbook.xml"/>'
    rels = f'<Relationships xmlns="{package}/relationships">'
    types = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    files["[Content_Types].xml"] = f'<Types xmlns="{package}/content-types">{types}{overrides}</Types>'
    files["_rels/.rels"] = f"{rels}{first}</Relationships>"
    files["xl/workbook.xml"] = f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{listing}</sheets></workbook>'
    files["xl/_rels/workbook.xml.rels"] = f"{rels}{relations}</Relationships>"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, f'<?xml version="1.0"?>{content}')
    return path


def test_excel(importing, tmp_path):
    rows = [[None], ["item_id", "text", "n"], [7, "None", "1.2K"], ["b", None, 3.5], [None], ["c", 5, None]]
    items = importing(excel(tmp_path / "t.xlsx", one=rows, empty=[])).items
    assert items.item_id.tolist() == ["7", "b", "c"] and items.text.tolist() == ["None", "", "5"]


def test_sheets_of_an_excel_file(importing, refused, tmp_path):
    one, two = [["item_id", "text"], ["a", "x"]], [["item_id", "text"], ["b", "y"]]
    table = excel(tmp_path / "t.xlsx", one=one, two=two)
    assert "2 sheets (one, two); say which with --sheet" in refused(table)
    assert "no sheet 'three' (found one, two)" in refused(table, "--sheet", "three")
    assert "--encoding does nothing for .xlsx files" in refused(table, "--encoding", "utf-8")
    assert importing(table, "--sheet", "two").items.item_id.tolist() == ["b"]


def test_names_that_nobody_uses_may_be_double_or_empty(importing, odd, tmp_path):
    assert len(importing(odd / "dupcol_other.csv", *VIEWS).items) == 20
    assert len(importing(write(tmp_path / "t.csv", "item_id,text,,\na,b,c,d\n")).items) == 1


def test_names_that_differ_in_case_or_spaces(importing, refused, tmp_path, capsys):
    table = write(tmp_path / "t.csv", "Item_ID, Title ,VIEWS\na,b,3\n")
    assert importing(table, "--text_column", "title").items.text.tolist() == ["b"]
    assert "column title is called ' Title ' here" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "data")
    assert "several columns of the name Title, TITLE" in refused(
        write(tmp_path / "u.csv", "item_id,Title,TITLE\na,b,c\n"), "--text_column", "title"
    )


# ---- ids, and several rows of one video --------------------------------------------------------------


def test_ids_of_its_own_do_not_change_when_rows_are_appended(importing, refused, tmp_path, capsys):
    head, rows = "title,by,views\n", ["x,anna,1", "y,anna,2", "x,bo,3", "x,anna,4"]
    flags = ("--text_column", "title", "--user_column", "by")
    first = importing(write(tmp_path / "t.csv", head + "\n".join(rows)), *flags).items.item_id.tolist()
    assert "no column item_id: ids were made of text, user and time" in capsys.readouterr().out
    assert len(set(first)) == 4 and first[3] == f"{first[0]}-2"
    counted = [row[:-1] + "9" for row in rows]
    later = importing(write(tmp_path / "t.csv", head + "\n".join([*counted, "z,bo,1"])), *flags).items.item_id.tolist()
    assert later[:4] == first
    shutil.rmtree(tmp_path / "data")
    assert "no column id (found title" in refused(tmp_path / "t.csv", *flags, "--id_column", "id")
    assert "no column item_id, text (found views)" in refused(write(tmp_path / "u.csv", "views\n3\n"))


SNAPSHOTS = """item_id,title,by,views,at
a,x,anna,5,2024-01-03
b,y,bo,1,2024-01-01
a,x,anna,7,2024-01-01
a,X!,anna,6,2024-01-02
"""
KEPT = {  # flags -> count of a
    ("first",): 5,
    ("last",): 6,
    ("max",): 7,
    ("first", "--label_time_column", "at"): 7,
    ("last", "--label_time_column", "at"): 5,
}


@pytest.mark.parametrize("flags", KEPT)
def test_several_snapshots_of_a_video(importing, tmp_path, capsys, flags):
    table = write(tmp_path / "t.csv", SNAPSHOTS + "".join(f"c{i},z,bo,3,2024-01-01\n" for i in range(10)))
    store = importing(table, "--text_column", "title", "--count_column", "views", "--keep", *flags)
    assert dict(zip(store.items.item_id, counts(store), strict=True))["a"] == KEPT[flags] and len(store) == 12
    assert [item for item, _ in skipped(store)] == ["a", "a"]
    assert f"--keep {flags[0]}: 2 rows are other snapshots of 1 videos" in capsys.readouterr().out


def test_the_same_video_under_other_ids(importing, tmp_path):
    table = write(tmp_path / "t.csv", "item_id,title,by\na,x,anna\nb,x,anna\nc,x,\nd,x,\ne,x,bo\n")
    store = importing(table, "--text_column", "title", "--keep", "first", "--same_video", "title", "by")
    assert store.items.item_id.tolist() == ["a", "c", "d", "e"] and [item for item, _ in skipped(store)] == ["b"]


def test_snapshots_are_never_settled_by_chance(refused, tmp_path):
    table = write(tmp_path / "t.csv", SNAPSHOTS)
    flags = ("--text_column", "title", "--label_column", "views")
    assert "2 duplicate item ids (a); --keep first, last or max settles" in refused(table, *flags)


def test_flags_of_snapshots_that_do_nothing(importing, tmp_path):
    table = write(tmp_path / "t.csv", SNAPSHOTS)
    with pytest.raises(InputError, match="--same_video needs --keep"):
        importing(table, "--same_video", "title")
    with pytest.raises(InputError, match="--keep max needs the counts"):
        importing(table, "--text_column", "title", "--keep", "max")


def test_ids_that_a_spreadsheet_rounded(refused, odd):
    flags = ("--id_column", "video_id", "--text_column", "title", "--count_column", "views")
    message = refused(odd / "float_id.csv", *flags)
    assert "column video_id: 20 ids have lost digits (7.5069E+18, " in message and "export them anew as text" in message


def test_long_ids_of_excel_are_lost_and_short_ones_are_not(importing, refused, tmp_path):
    long = excel(tmp_path / "t.xlsx", one=[["item_id", "text"], [7506832682593095123, "a"]])
    assert "1 ids have lost digits" in refused(long)
    text = excel(tmp_path / "t.xlsx", one=[["item_id", "text"], ["7506832682593095123", "a"], [12, "b"]])
    assert importing(text).items.item_id.tolist() == ["7506832682593095123", "12"]


def test_ids_that_are_alike_but_for_spaces_are_one(refused, tmp_path):
    assert "1 duplicate item ids (a)" in refused(write(tmp_path / "t.csv", "item_id,text\na,x\n a\u200b,y\n"))


# ---- files of videos -----------------------------------------------------------------------------


@pytest.fixture
def videos(script, tmp_path, monkeypatch) -> Path:
    """A folder of files under the names of videos; no step is run on them."""
    monkeypatch.setattr(script, "run_sequence", lambda store, *_, **__: store)
    monkeypatch.setattr(script.commands, "next_steps", lambda store: "")
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


def test_a_column_names_each_videos_file(importing, odd, videos):
    with (odd / "nest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        (videos / row["video_path"]).parent.mkdir(parents=True, exist_ok=True)
        (videos / row["video_path"]).write_bytes(b"x")
    flags = ("--id_column", "pid", "--text_column", "title", "--count_column", "views", "--videos", videos)
    store = importing(odd / "nest.csv", *flags, "--video_column", "video_path")
    plan = plan_videos(store, videos, 2)
    assert not plan.reasons and plan.inputs == [videos / row["video_path"] for row in rows]
    plan = plan_videos(importing(odd / "nest.csv", *flags), videos, 2)
    assert len(plan.reasons) == len(rows)  # their names are not the ids


def test_ids_that_name_no_file_are_refused_before_anything_is_written(importing, refused, tmp_path, videos):
    (videos / "x.mp4").write_bytes(b"x")
    table = write(tmp_path / "t.csv", "item_id,text,file\na/b,x,x.mp4\n..,y,x.mp4\n")
    assert "2 item ids cannot name a file" in refused(table, "--videos", videos)
    assert "2 item ids cannot" in refused(table, "--videos", videos, "--video_column", "file", "--keep_frames")
    assert len(importing(table, "--videos", videos, "--video_column", "file")) == 2
    assert len(importing(table)) == 2  # no file is named by them


def test_files_outside_the_folder_or_nowhere(refused, tmp_path, videos):
    for file in ("../x.mp4", "/x.mp4", "C:\\x.mp4", "https://example.org/x.mp4"):
        table = write(tmp_path / "t.csv", f"item_id,text,file\na,x,{file}\n")
        message = refused(table, "--videos", videos, "--video_column", "file")
        assert "column file: 1 files are not in the folder --videos (a: " in message
    table = write(tmp_path / "t.csv", "item_id,text,file\na,x,x.mp4\n")
    message = refused(table, "--videos", videos, "--video_column", "file")
    assert "nothing for any of the 1 items (a: missing: x.mp4 is not there)" in message


def test_a_video_column_without_videos(importing, tmp_path):
    with pytest.raises(InputError, match="--video_column does nothing without --videos"):
        importing(write(tmp_path / "t.csv", "item_id,text\na,b\n"), "--video_column", "file")


def test_every_row_is_an_item_or_is_listed(importing, tmp_path):
    """Bad cells, lines that do not fit and snapshots in one table, whose ids are made."""
    lines = [
        "a,2024-01-01,1",
        "a,2024-01-01,2",
        "b,someday,3",
        "c",
        "d,2024-01-01,x",
        *(f"e{i},,{i}" for i in range(10)),
    ]
    table = write(tmp_path / "t.csv", "\n".join(["title,at,n", *lines]))
    flags = ("--text_column", "title", "--time_column", "at", "--count_column", "n")
    store = importing(table, *flags, "--keep", "last", "--on_error", "skip")
    assert len(store) + len(skipped(store)) == len(lines) == 15 and store.items.popularity[0, 0] == 2
    assert [why.partition(":")[0] for _, why in skipped(store)] == ["line 2", "line 4", "line 5", "line 6"]
    assert [len(item) for item, _ in skipped(store)] == [16, 16, 0, 16]
