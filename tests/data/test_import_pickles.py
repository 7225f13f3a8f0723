"""data/import_pickles.py and the reader under it: the published files come in whole, and nothing in them is run."""

from __future__ import annotations

import base64
import os
import pickle
import shutil
import struct

import numpy as np
import pandas as pd
import pytest
from breakage import stopped_at
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.console import InputError
from dataloader.importing.safe_pickle import plain, read_columns
from dataloader.neighbours import Neighbours
from dataloader.store import FeatureStore

SPLITS = ("train", "valid", "test")
FILES = [f"{split}.pkl" for split in SPLITS]


def make_frames(seed: int = 0, k: int = 3) -> dict[str, pd.DataFrame]:
    """Three small tables in the published format: 6, 3 and 3 items, 2 frames x 4."""
    generator, frames, start = np.random.default_rng(seed), {}, 0
    for split, n in {"train": 6, "valid": 3, "test": 3}.items():
        ids = [f"00{start + i}" for i in range(n)]
        bank = [[f"00{j}" for j in range(9) if j != start + i][:k] for i in range(n)]  # rows 0..8: train and valid
        visual = generator.normal(size=(n, 2, 4))
        frames[split] = pd.DataFrame(
            {
                "item_id": ids,
                "text": [f"title {i} \u2028 é" for i in range(n)],
                "visual_feature_embedding_cls": visual.tolist(),
                "visual_feature_embedding_mean": visual.mean(axis=1).tolist(),
                "textual_feature_embedding": generator.normal(size=(n, 5)).tolist(),
                "retrieval_feature": list(generator.normal(size=(n, 6)).astype(np.float32)),
                "label": np.log2(generator.integers(1, 1000, n)),
                "retrieved_item_id_list": bank,
                "retrieved_item_similarity_list": [np.linspace(0.9, 0.5, k).tolist() for _ in range(n)],
            }
        )
        start += n
    return frames


def write_frames(folder, frames, protocol=5):
    folder.mkdir(exist_ok=True)
    for split, frame in frames.items():
        frame.to_pickle(folder / f"{split}.pkl", protocol=protocol)


@pytest.fixture(scope="session")
def script(load_script):
    return load_script("data/import_pickles.py")


@pytest.fixture
def importing(script, tmp_path):
    def start(*flags, raw=tmp_path / "raw") -> FeatureStore:
        where = ["--raw", str(raw), "--dataset_path", str(tmp_path / "data"), "--dataset_id", "set"]
        script.main(script.build_parser().parse_args([*where, *flags]))
        return FeatureStore.open(tmp_path / "data/set", need=("visual", "textual", "retrieval"))

    return start


# ---- what comes in -----------------------------------------------------------------------------


def check_against_pandas(store: FeatureStore, folder) -> None:
    frame = pd.concat([pd.read_pickle(folder / name) for name in FILES], ignore_index=True)
    assert store.items.item_id.tolist() == frame["item_id"].tolist()
    assert store.items.text.tolist() == frame["text"].tolist()
    assert np.allclose(store.items.label[:, 0], frame["label"])
    assert np.array_equal(store.items.popularity[:, 0], np.round(2 ** frame["label"].to_numpy(float)))
    assert np.allclose(store.features["visual"], np.array(frame["visual_feature_embedding_cls"].tolist()), rtol=1e-6)
    assert np.allclose(store.features["textual"], np.array(frame["textual_feature_embedding"].tolist()), rtol=1e-6)
    assert np.array_equal(store.features["retrieval"], np.array(frame["retrieval_feature"].tolist()).astype("f4"))
    neighbours = Neighbours.read(store)
    assert store.items.item_id[neighbours.ids].tolist() == frame["retrieved_item_id_list"].tolist()
    assert np.allclose(neighbours.similarity, np.array(frame["retrieved_item_similarity_list"].tolist()))


def test_the_published_files(shared, importing, capsys):
    raw = shared / "reference/published_pickles"
    store = importing(raw=raw)
    check_against_pandas(store, raw)
    assert [len(store.rows(split)) for split in SPLITS] == [48, 6, 6]
    neighbours = Neighbours.read(store)
    assert (neighbours.k, neighbours.bank, neighbours.backend) == (5, "train+valid", "published")
    assert "--num_of_retrieved_items 5" in capsys.readouterr().out
    assert store.label.scale == "log2" and np.allclose(store.label.inverse(store.items.label), store.items.popularity)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(importing, tmp_path, protocol):
    write_frames(tmp_path / "raw", make_frames(), protocol)
    check_against_pandas(importing(), tmp_path / "raw")


def test_mean_frame_half_precision_and_other_kinds_of_list(importing, tmp_path):
    frames = make_frames()
    for frame in frames.values():
        frame["visual_feature_embedding_mean"] = [tuple(value) for value in frame["visual_feature_embedding_mean"]]
        frame["textual_feature_embedding"] = [list(np.float32(value)) for value in frame["textual_feature_embedding"]]
        frame["retrieved_item_id_list"] = [np.array(value) for value in frame["retrieved_item_id_list"]]
        frame["retrieved_item_similarity_list"] = [np.array(v, ">f4") for v in frame["retrieved_item_similarity_list"]]
        frame["label"] = frame["label"].astype(object)
    frames["train"].loc[1, "text"] = None
    write_frames(tmp_path / "raw", frames)
    store = importing("--visual", "mean", "--dtype", "float16", "--family", "NUS")
    assert (
        store.features["visual"].shape == (12, 1, 4)
        and store.features["visual"].dtype == np.float16
        and store.family == "NUS"
    )
    expected = [value for frame in frames.values() for value in frame["visual_feature_embedding_mean"]]
    assert np.allclose(store.features["visual"][:, 0], expected, atol=2e-3)
    assert store.items.text[1] == "" and Neighbours.read(store).k == 3


def test_lists_of_frames_as_arrays_and_whole_number_ids(importing, tmp_path):
    frames = make_frames()
    for frame in frames.values():
        frame["visual_feature_embedding_cls"] = [np.asfortranarray(v) for v in frame["visual_feature_embedding_cls"]]
        frame["item_id"] = frame["item_id"].astype(int)
        frame["retrieved_item_id_list"] = [[int(v) for v in value] for value in frame["retrieved_item_id_list"]]
    write_frames(tmp_path / "raw", frames)
    store = importing()
    assert store.items.item_id.tolist() == [str(i) for i in range(12)]
    assert np.allclose(store.features["visual"][0], frames["train"]["visual_feature_embedding_cls"][0])


def test_shorter_lists_are_padded_and_the_bank_is_named(importing, tmp_path):
    frames = make_frames()
    for frame in frames.values():
        for row in range(len(frame)):
            frame.at[row, "retrieved_item_id_list"] = [f"00{j}" for j in range(6) if f"00{j}" != frame["item_id"][row]][
                :2
            ]
            frame.at[row, "retrieved_item_similarity_list"] = [0.5, 0.25]
    frames["test"].at[2, "retrieved_item_id_list"], frames["test"].at[2, "retrieved_item_similarity_list"] = (
        ["005"],
        [1],
    )
    write_frames(tmp_path / "raw", frames)
    neighbours = Neighbours.read(importing())
    assert neighbours.bank == "train" and neighbours.ids[11].tolist() == [5, -1]


def test_files_without_neighbours_come_in_without(importing, tmp_path, capsys):
    columns = ["retrieved_item_id_list", "retrieved_item_similarity_list"]
    write_frames(tmp_path / "raw", {split: frame.drop(columns=columns) for split, frame in make_frames().items()})
    store = importing()
    assert not (store.folder / "neighbours.npz").exists() and "next: python retriever.py" in capsys.readouterr().out


# ---- what is refused ---------------------------------------------------------------------------


def put(column, row, value):
    def change(frame):
        frame[column] = frame[column].astype(object)
        frame.at[row, column] = value

    return change


ids, scores = "retrieved_item_id_list", "retrieved_item_similarity_list"
visual = "visual_feature_embedding_cls"
BROKEN = {
    "train": {
        "item 001 is its own neighbour": put(ids, 1, ["000", "001", "002"]),
        "item 001 has neighbours of split test, whose labels must not be seen (009)": put(
            ids, 1, ["000", "009", "002"]
        ),
        "item 001 has neighbours that are in none of the three files (x)": put(ids, 1, ["000", "x", "002"]),
        "item 001 has a neighbour twice": put(ids, 1, ["000", "000", "002"]),
        "item 001 has 3 neighbours, but 2 similarities": put(scores, 1, [0.5, 0.25]),
        "item 001 has similarities that are not finite numbers": put(scores, 1, [0.5, np.nan, 1]),
        "retrieved_item_id_list: 1 items without a list (item ids 001)": put(ids, 1, 17),
        f"{visual}: 1 of 6 items do not hold 2 x 4 numbers (item ids 001)": put(visual, 1, [[1.0] * 4]),
        f"{visual}: 1 of 6 items do not hold 2 x 4 numbers (item ids 002)": put(visual, 2, [[1.0] * 4, [1.0] * 3]),
        f"{visual}: 1 of 6 items do not hold 2 x 4 numbers (item ids 003)": put(visual, 3, None),
        f"{visual}: 1 of 6 items do not hold 2 x 4 numbers (item ids 004)": put(visual, 4, [["a"] * 4] * 2),
        "textual_feature_embedding: 1 of 6 items have NaN": put("textual_feature_embedding", 1, [np.nan] * 5),
        "textual_feature_embedding: 5 of 6 items do not": put("textual_feature_embedding", 0, [1.0]),
        "retrieval_feature: 1 of 6 items have NaN or infinite values (item ids 002)": put(
            "retrieval_feature", 2, np.full(6, np.inf)
        ),
        "label: 1 of 6 items have NaN or infinite values (item ids 003)": put("label", 3, np.nan),
        "label: 1 of 6 items do not hold a number (item ids 000)": put("label", 0, "many"),
        "text: 1 items without text (item ids 002)": put("text", 2, ["a", "list"]),
        "item_id: 1 values are neither text nor whole numbers (1.5)": put("item_id", 0, 1.5),
    },
    "valid": {
        "visual features of shape (3, 4), but {raw}/train.pkl has (2, 4)": lambda frame: frame.__setitem__(
            visual, [[[0.5] * 4] * 3] * 3
        ),
        "1 duplicate item ids (000)": put("item_id", 0, "000"),
        "no column label (found item_id, text": lambda frame: frame.drop(columns="label", inplace=True),
        "has neighbours but no column retrieved_item_similarity_list": lambda f: f.drop(columns=scores, inplace=True),
        "no column retrieved_item_id_list, which": lambda frame: frame.drop(columns=[ids, scores], inplace=True),
        "no items in it": lambda frame: frame.drop(index=range(3), inplace=True),
    },
}


@pytest.mark.parametrize(("split", "message"), [(split, message) for split in BROKEN for message in BROKEN[split]])
def test_a_broken_column_is_named_and_nothing_is_written(importing, tmp_path, split, message):
    frames = make_frames()
    BROKEN[split][message](frames[split])
    write_frames(tmp_path / "raw", frames)
    with pytest.raises(InputError) as caught:
        importing()
    assert message.format(raw=tmp_path / "raw") in str(caught.value)
    if "duplicate" not in message:
        assert f"{split}.pkl" in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_what_float16_cannot_hold_is_named(importing, tmp_path):
    frames = make_frames()
    frames["test"].at[1, "textual_feature_embedding"] = [1e5] * 5
    write_frames(tmp_path / "raw", frames)
    with pytest.raises(InputError, match=r"test.pkl: textual_feature_embedding: 1 of 3 .*\(item ids 0010\) as float16"):
        importing("--dtype", "float16")
    assert importing().features["textual"][10, 0] == 1e5


def test_files_that_are_no_tables(importing, tmp_path):
    write_frames(tmp_path / "raw", make_frames())
    path = tmp_path / "raw/valid.pkl"
    sound = path.read_bytes()
    contents = {
        b"": "truncated or not a pickled table",
        b"PK\x03\x04 something else": "truncated or not a pickled table",
        sound[:-1]: "truncated or not a pickled table",
        sound[:300]: "truncated or not a pickled table",
        pickle.dumps([1, 2]): "holds a list, expected a pandas DataFrame",
        pickle.dumps(np.zeros(3)): "holds a array, expected a pandas DataFrame",
    }
    for content, message in contents.items():
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            importing()
        assert f"{path}: {message}" in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match=r"no valid.pkl; train.pkl, valid.pkl and test.pkl were expected"):
        importing()
    assert not (tmp_path / "data").exists()


# ---- code in a pickle --------------------------------------------------------------------------


class Attack:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


ATTACKS = {
    "os.system by protocol 0": (b"cos\nsystem\n(S'true'\ntR.", "refuses to load os.system"),
    "os.system by STACK_GLOBAL": (b"\x80\x04" + short("os") + short("system") + b"\x93.", "refuses to load os.system"),
    "a dotted name": (
        b"\x80\x04" + short("numpy") + short("ndarray.tofile") + b"\x93.",
        "refuses to load numpy.ndarray.tofile",
    ),
    "a dotted module": (
        b"\x80\x04" + short("pandas.core.frame") + short("DataFrame.eval") + b"\x93.",
        "refuses to load pandas.core.frame.DataFrame.eval",
    ),
    "a class that pandas itself offers": (b"cpandas\nread_pickle\n.", "refuses to load pandas.read_pickle"),
    "terminal escapes in the name": (b"cos\n\x1b[2Jsystem\n.", r"refuses to load os.\x1b[2Jsystem"),
    "a name that is no text": (b"\x80\x04K\x01" + short("system") + b"\x93.", "STACK_GLOBAL requires str"),
    "INST": (b"(S'true'\nios\nsystem\n.", "instruction b"),
    "OBJ": (b"(cnumpy\nndarray\no.", "instruction b'o'"),
    "a persistent id": (b"Pthing\n.", "instruction b'P'"),
    "a binary persistent id": (b"K\x01Q.", "instruction b'Q'"),
    "the extension registry": (b"\x82\x01.", r"instruction b'\x82'"),
    "keyword construction": (b"\x80\x04cnumpy\nndarray\n)}\x92.", r"instruction b'\x92'"),
    "an outside buffer": (b"\x80\x05\x97.", r"instruction b'\x97'"),
    "a patched class": (b"cpandas\nDataFrame\n}X\x01\x00\x00\x00aK\x01sb.", "a state for a Named"),
    "a call of a value": (b"K\x01)R.", "a call of a int"),
    "a call of a result": (b"cnumpy\ndtype\n)R)R.", "a call of a Made"),
    "two states": (b"cnumpy\ndtype\n)RK\x01bK\x02b.", "a second one"),
    "a huge text": (b"\x8d" + struct.pack("<Q", 2**40) + b"a.", f"a value of {2**40} bytes in a file of 11"),
    "a huge byte array": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.", f"a value of {2**40} bytes in a file of"),
    "a huge frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"a.", f"a value of {2**40} bytes in a file of"),
    "a huge memo": (b"K\x01r" + struct.pack("<I", 2**32 - 1) + b".", "holds a int, expected a pandas DataFrame"),
    "a list in itself": (b"]\x94h\x00a.", "holds a list"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused_by_name(tmp_path, name):
    content, message = ATTACKS[name]
    path = tmp_path / "train.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_columns(path, ("item_id",))
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_table_is_not_run(tmp_path, run, protocol):
    frames, trace = make_frames(), tmp_path / "was_run"
    frames["train"]["text"] = [Attack(os.mkdir, str(trace)) for _ in range(6)]
    write_frames(tmp_path / "raw", frames, protocol)
    with pytest.raises(InputError, match=r"train.pkl: refuses to load (posix|nt).mkdir: only tables of plain"):
        read_columns(tmp_path / "raw/train.pkl", ("item_id",))
    assert not trace.exists()
    if protocol == 5:  # once as a user does
        done = run("data/import_pickles.py", "--raw", tmp_path / "raw", "--dataset_path", tmp_path / "data")
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
        assert "refuses to load posix.mkdir" in done.stderr
        assert not trace.exists() and not (tmp_path / "data").exists()


def table_of(column: bytes) -> bytes:
    """A protocol 2 pickle of a table with one column `item_id`, whose array is made by the instructions `column`."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tc__builtin__\nbytes\n)RtR"
    name = b"X\x07\x00\x00\x00item_id"
    names = array + b"(K\x01(K\x01t" + dtype_of("O8") + b"I00\n](" + name + b"etb"
    axis = b"cpandas.core.indexes.base\n_new_Index\n(cpandas\nIndex\n}X\x04\x00\x00\x00data" + names + b"stR"
    block = (
        b"cpandas._libs.internals\n_unpickle_block\n("
        + array
        + column
        + b"bc__builtin__\nslice\n(K\x00K\x01K\x01tRK\x02tR"
    )
    manager = b"cpandas.core.internals.managers\nBlockManager\n((" + block + b"t](" + axis + b"NetR"
    return b"\x80\x02cpandas\nDataFrame\n)\x81}X\x04\x00\x00\x00_mgr" + manager + b"sb."


def dtype_of(code: str, state: bytes = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t") -> bytes:
    return b"cnumpy\ndtype\n(X" + struct.pack("<I", len(code)) + code.encode() + b"I00\nI01\ntR" + state + b"b"


RAW = b"c_codecs\nencode\n(X\x08\x00\x00\x00AAAAAAAAX\x06\x00\x00\x00latin1tR"
FORGED = {
    "objects from bytes": b"(K\x01(K\x01K\x01t" + dtype_of("O8") + b"I00\n" + RAW + b"t",
    "a shape beyond the bytes": b"(K\x01(K\x01J\x00\x00\x00\x40t" + dtype_of("i8") + b"I00\n" + RAW + b"t",
    "a negative shape": b"(K\x01(J\xff\xff\xff\xffJ\xfe\xff\xff\xfft" + dtype_of("i8") + b"I00\n" + RAW + b"t",
    "a record type": b"(K\x01(K\x01K\x01t" + dtype_of("V8") + b"I00\n" + RAW + b"t",
    "a type with fields": b"(K\x01(K\x01K\x01t"
    + dtype_of("i8", b"(K\x03X\x01\x00\x00\x00<N(X\x01\x00\x00\x00atNtN")
    + b"I00\n"
    + RAW
    + b"t",
    "another codec": b"(K\x01(K\x01K\x01t"
    + dtype_of("i8")
    + b"I00\nc_codecs\nencode\n(X\x04\x00\x00\x00AAAAX\x04\x00\x00\x00utf8tRt",
    "no numbers at all": b"K\x01",
}


def test_the_forging_tool_makes_a_sound_table(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(table_of(b"(K\x01(K\x01K\x01t" + dtype_of("i8") + b"I00\n" + RAW + b"t"))
    assert read_columns(path, ("item_id",))["item_id"].tolist() == [0x4141414141414141]


@pytest.mark.parametrize("name", FORGED)
def test_forged_arrays_are_refused(tmp_path, name):
    path = tmp_path / "a.pkl"
    path.write_bytes(table_of(FORGED[name]))
    with pytest.raises(InputError, match="truncated or not a pickled table"):
        read_columns(path, ("item_id",))


def test_knotted_lists_are_no_features(importing, tmp_path):
    """Thirty lists, each twice the one before: 2^30 numbers if anyone unfolded them."""
    frames, knot = make_frames(), [1.0, 1.0]
    for _ in range(30):
        knot = [knot, knot]
    frames["train"].at[0, visual] = knot
    frames["train"].at[1, "text"] = "sound"
    write_frames(tmp_path / "raw", frames)
    with pytest.raises(InputError, match=r"train.pkl: visual_feature_embedding_cls: 1 of 6 items do not hold 2 x 4"):
        importing()


# A table of pandas 1.5.3 and numpy 1.26.4 in protocol 4: {"item_id": ["007"], "label": [1.5]}, rows picked (Int64Index)
PANDAS_1 = (
    "gASVAwMAAAAAAACMEXBhbmRhcy5jb3JlLmZyYW1llIwJRGF0YUZyYW1llJOUKYGUfZQojARfbWdylIwecGFuZGFzLmNvcmUuaW50ZXJuYWxz"
    "Lm1hbmFnZXJzlIwMQmxvY2tNYW5hZ2VylJOUjBZwYW5kYXMuX2xpYnMuaW50ZXJuYWxzlIwPX3VucGlja2xlX2Jsb2NrlJOUjBVudW1weS5j"
    "b3JlLm11bHRpYXJyYXmUjAxfcmVjb25zdHJ1Y3SUk5SMBW51bXB5lIwHbmRhcnJheZSTlEsAhZRDAWKUh5RSlChLAUsBSwGGlGgPjAVkdHlw"
    "ZZSTlIwCTziUiYiHlFKUKEsDjAF8lE5OTkr/////Sv////9LP3SUYoldlIwDMDA3lGF0lGKMCGJ1aWx0aW5zlIwFc2xpY2WUk5RLAEsBSwGH"
    "lFKUSwKHlFKUaAtoDmgRSwCFlGgTh5RSlChLAUsBSwGGlGgYjAJmOJSJiIeUUpQoSwOMATyUTk5OSv////9K/////0sAdJRiiUMIAAAAAAAA"
    "+D+UdJRiaCNLAUsCSwGHlFKUSwKHlFKUhpRdlCiMGHBhbmRhcy5jb3JlLmluZGV4ZXMuYmFzZZSMCl9uZXdfSW5kZXiUk5RoOYwFSW5kZXiU"
    "k5R9lCiMBGRhdGGUaA5oEUsAhZRoE4eUUpQoSwFLAoWUaBuJXZQojAdpdGVtX2lklIwFbGFiZWyUZXSUYowEbmFtZZROdYaUUpRoO4wbcGFu"
    "ZGFzLmNvcmUuaW5kZXhlcy5udW1lcmljlIwKSW50NjRJbmRleJSTlH2UKGg/aA5oEUsAhZRoE4eUUpQoSwFLAYWUaBiMAmk4lImIh5RSlChL"
    "A2gvTk5OSv////9K/////0sAdJRiiUMIAQAAAAAAAACUdJRiaEhOdYaUUpRlhpRSlIwEX3R5cJSMCWRhdGFmcmFtZZSMCV9tZXRhZGF0YZRd"
    "lIwFYXR0cnOUfZSMBl9mbGFnc5R9lIwXYWxsb3dzX2R1cGxpY2F0ZV9sYWJlbHOUiHN1Yi4="
)


def test_a_table_that_the_installed_pandas_cannot_load(tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(base64.b64decode(PANDAS_1))
    columns = read_columns(path, ("item_id", "label"))
    assert columns["item_id"].tolist() == ["007"] and columns["label"].tolist() == [1.5]


# ---- properties --------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.lists(values, min_size=1, max_size=8), st.integers(0, 5))
def test_any_plain_values_survive(tmp_path, column, protocol):
    objects = np.empty(len(column), object)
    objects[:] = [(value,) for value in column]
    path = tmp_path / "a.pkl"
    pd.DataFrame({"c": objects, "n": np.arange(len(column)), "f": 0.5}).to_pickle(path, protocol=protocol)
    read = read_columns(path, ("c", "n", "f"))
    assert unfolded([value for (value,) in read["c"]]) == column
    assert read["n"].tolist() == list(range(len(column))) and set(read["f"]) == {0.5}


def unfolded(value):
    if isinstance(value, list | tuple):
        return type(value)(map(unfolded, value))
    return {key: unfolded(entry) for key, entry in value.items()} if isinstance(value, dict) else plain(value)


@quick
@given(st.integers(-(2**62), 2**62), st.sampled_from(["i1", ">i4", "u8", "f2", ">f4", "f8", "U5", "b1"]), st.data())
def test_any_array_survives(tmp_path, seed, dtype, data):
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
    array = np.random.default_rng(abs(seed)).integers(0, 99, shape).astype(dtype)
    order, protocol = data.draw(st.permutations(range(len(shape)))), data.draw(st.integers(0, 5))
    column = np.empty(2, object)
    column[0], column[1] = np.ascontiguousarray(array).transpose(order), np.array(7).astype(dtype)[()]
    path = tmp_path / "a.pkl"
    pd.DataFrame({"c": column}).to_pickle(path, protocol=protocol)
    read = [plain(value) for value in read_columns(path, ("c",))["c"]]
    assert read[0].dtype == array.dtype and np.array_equal(read[0], column[0]) and read[1] == column[1]


@quick
@example(protocol=2, changes=[(0.650390625, 0)], kept=1.0)
@given(st.integers(0, 5), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6), st.floats(0, 1))
def test_damaged_files_end_in_one_kind_of_error(tmp_path, script, protocol, changes, kept):
    content = bytearray(pickle.dumps(make_frames()["train"], protocol=protocol))
    for place, byte in changes:
        content[int(place * (len(content) - 1))] = byte
    path = tmp_path / "train.pkl"
    path.write_bytes(content[: int(len(content) * kept)] if kept < 0.5 else content)
    try:
        script.read_part(path, visual, "float32")
    except InputError as error:
        assert str(error).startswith(f"{path}: ")


@quick
@given(st.binary(max_size=200))
@example(b"\x80\x05.")
@example(b"(.")
@example(b"0.")
@example(b"cnumpy\nndarray\n.")
@example(b"cpandas\nDataFrame\n)\x81.")
def test_random_bytes_end_in_one_kind_of_error(tmp_path, content):
    path = tmp_path / "train.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_columns(path, ("item_id",))


def test_a_finished_data_set_is_not_overwritten_unasked(importing, tmp_path):
    write_frames(tmp_path / "raw", make_frames())
    before = importing().fingerprint
    write_frames(tmp_path / "raw", make_frames(seed=1))
    with pytest.raises(InputError, match="--overwrite replaces it"):
        importing()
    assert FeatureStore.open(tmp_path / "data/set").fingerprint == before
    assert importing("--overwrite").fingerprint != before


def test_an_import_that_is_killed_goes_on_and_a_finished_one_says_so(importing, tmp_path, monkeypatch, capsys):
    write_frames(tmp_path / "raw", make_frames())
    whole, number = importing(), 0
    neighbours, place = Neighbours.read(whole), tmp_path / "data" / "set"
    shutil.rmtree(place)
    while stopped_at(monkeypatch, (number := number + 1), importing):
        assert importing().fingerprint == whole.fingerprint
        assert Neighbours.read(FeatureStore.open(place)).digest() == neighbours.digest()
        shutil.rmtree(place)
    assert number > 9
    capsys.readouterr()
    importing()
    assert "finished already, nothing was missing" in capsys.readouterr().out
    frames = make_frames()
    frames["train"]["retrieved_item_similarity_list"] = [[0.8, 0.7, 0.1]] * 6
    write_frames(tmp_path / "raw", frames)
    with pytest.raises(InputError, match="other neighbours are here already; --overwrite"):
        importing()
