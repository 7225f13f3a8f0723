"""What the world is made of: clips and a table, releases as they are distributed, small encoders of random weights."""

from __future__ import annotations

import csv
import importlib.util
import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.faults.running import ROOT
from common.console import InputError

ITEMS, NEW = 60, 6
SUBJECTS = ("red ball", "blue ball", "grey cat", "old dog", "long road", "small boat")
RATE = 8000  # of the clips' sound
RELEASED = 30  # videos of a release


def write_raw(raw: Path) -> None:
    """In a process of its own: encoders are computed, and what has computed cannot be forked."""
    if not (pid := os.fork()):
        try:
            _draw(raw)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise InputError(f"{raw}: could not be made")


def _draw(raw: Path) -> None:
    rng = np.random.default_rng(0)
    for name, table, ids in (("videos", "items", range(ITEMS)), ("new", "new", range(ITEMS, ITEMS + NEW))):
        (raw / name).mkdir(parents=True)
        for number in ids:
            _write_clip(raw / name / f"v{number}.mp4", rng, sound=number % 3 > 0)
        with (raw / f"{table}.csv").open("w", newline="") as file:
            rows = [[f"v{i}", f"{SUBJECTS[i % 6]} {i % 5}", f"t{i % 3}", f"c{i % 9}", 10 + i * 37 % 101] for i in ids]
            csv.writer(file).writerows([["item_id", "title", "tag", "creator", "views"], *rows])
    _write_nus(raw / "nus", rng)
    _write_microlens(raw / "microlens", rng)
    _write_pickles(raw / "pickles", rng)
    names = [f"{i + 1}_{frame}.jpg" for i in range(RELEASED) for frame in range(2)]
    np.savez(raw / "pictures.npz", names=names, features=rng.random((len(names), 6)).astype("f4"))
    _write_encoders(raw / "encoders")


def _write_clip(path: Path, rng: np.random.Generator, sound: bool) -> None:
    """Three pictures of noise, and 0.6 s of it where it has sound."""
    import av

    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = out.add_stream("aac", rate=RATE, layout="mono") if sound else None
        for _ in range(3):
            picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode())
        if audio:
            heard = av.AudioFrame.from_ndarray(rng.normal(0, 0.1, (1, RATE * 3 // 5)).astype("f4"), "fltp", "mono")
            heard.sample_rate, heard.pts, heard.time_base = RATE, 0, Fraction(1, RATE)
            out.mux([*audio.encode(heard), *audio.encode()])


def _lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_nus(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    ids = [str(10**17 + 7919 * i) for i in range(RELEASED)]
    counts = rng.integers(0, 10**6, (RELEASED, 4))
    days = [f"2014-{1 + i % 12:02}-{1 + i % 28:02}T10:00:00.000000" for i in range(RELEASED)]
    _lines(folder / "video_id.txt", ids)
    _lines(folder / "video_text.txt", [f"{SUBJECTS[i % 6]} {i}" for i in range(RELEASED)])
    records = zip(counts.tolist(), days, strict=True)
    _lines(folder / "ground_truth.txt", ["::::".join([str(float(n[0])), *map(str, n[1:]), day]) for n, day in records])
    _lines(folder / "video_user.txt", [f"{video}::::u{i % 7}" for i, video in enumerate(ids)])
    for name, width in (("histogram_feature", 5), ("text_sentence2vec_feature", 7)):
        np.savez(folder / f"{name}.npz", arr_0=rng.random((RELEASED, width)).astype("f4"))


def _write_microlens(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    _lines(folder / "MicroLens-100k_title_en.csv", [f"{i + 1},{SUBJECTS[i % 6]}, {i}" for i in range(RELEASED)])
    pairs = [f"{user},{item + 1},{1_583_378_629_552 + user}" for user in range(40) for item in range(RELEASED)]
    _lines(folder / "MicroLens-100k_pairs.csv", [pair for pair in pairs if rng.random() < 0.3])


def _write_pickles(folder: Path, rng: np.random.Generator) -> None:
    """train.pkl, valid.pkl and test.pkl as the published code has them, with three neighbours each."""
    import pandas as pd

    folder.mkdir()
    start, bank = 0, 20
    for split, n in {"train": 14, "valid": 6, "test": 6}.items():
        visual = rng.normal(size=(n, 2, 4))
        ids = [f"00{start + i}" for i in range(n)]
        frame = pd.DataFrame(
            {
                "item_id": ids,
                "text": [f"title {item}" for item in ids],
                "visual_feature_embedding_cls": visual.tolist(),
                "visual_feature_embedding_mean": visual.mean(axis=1).tolist(),
                "textual_feature_embedding": rng.normal(size=(n, 5)).tolist(),
                "retrieval_feature": list(rng.normal(size=(n, 6)).astype("f4")),
                "label": rng.random(n) * 10,
                "retrieved_item_id_list": [[f"00{j}" for j in range(bank) if f"00{j}" != item][:3] for item in ids],
                "retrieved_item_similarity_list": [np.linspace(0.9, 0.5, 3).tolist() for _ in ids],
            }
        )
        frame.to_pickle(folder / f"{split}.pkl")
        start += n


def _write_encoders(folder: Path) -> None:
    import torch
    import transformers

    spec = importlib.util.spec_from_file_location("small_encoders", ROOT / "data/demo/small_encoders.py")
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    small.write_image_encoder(folder / "vit", 0)
    small.write_text_encoder(folder / "bert", [f"{subject} {i}" for subject in SUBJECTS for i in range(5)], 0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "ball", "cat"])}
    special = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = {"vocab_size": len(words), "encoder_hidden_size": 16, "initializer_range": 0.5, **special, **sizes}
    torch.manual_seed(0)
    config = transformers.BlipConfig(text_config=text, vision_config={"image_size": 16, "patch_size": 8, **sizes})
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder / "blip")
    transformers.BertTokenizer(vocab=words).save_pretrained(folder / "blip")
    transformers.BlipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "blip")
    layers = {"conv_dim": [8, 8], "conv_stride": [5, 4], "conv_kernel": [10, 8], "num_feat_extract_layers": 2}
    position = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(vocab_size=5, **layers, **position, **sizes)
    ).save_pretrained(folder / "wave")
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True).save_pretrained(folder / "wave")
