"""From videos and texts to features: each step's throughput against what bounds it, or what was done before it.

pipeline  ViT-B/16 with random weights on F frames of each clip, videos to vectors, against the encoder alone on ready
          tensors: decoding should hide behind it
sound     CLAP with random weights on 30 s of the sound of 12 clips of a minute: the share of the time that its encoder
          computes in and does not wait for decoding, and the rate against the encoder alone on ready tensors
capture   10 frames of a 60 s H.264 clip of 720 x 1280, against reading every frame with OpenCV, as published
texts     a sentence encoder on real captions, against one text at a time
memory    peak resident memory of visual_engineering.py with four times as many videos
The clips, captions and the sentence encoder are those of the folder MMRA_SHARED (default ../shared).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ViTConfig, ViTImageProcessorPil, ViTModel

from benchmarks.synthetic import report
from common.console import InputError, Parser, run_script, whole_number
from common.devices import PRECISIONS, add_device_flag
from dataloader.description import Label
from dataloader.importing.video_files import VIDEO_SUFFIXES, unusable
from dataloader.items import Items
from dataloader.store import FeatureStore
from feature_engineering.decoding.frames import plan_videos
from feature_engineering.decoding.sound import listen
from feature_engineering.decoding.videos import capture, frame_indices
from feature_engineering.encoding.images import ImageEncoder, encode_frames
from feature_engineering.encoding.sounds import Hearing, SoundEncoder
from feature_engineering.encoding.texts import TextEncoder, encode_texts
from feature_engineering.settings import DecodingSettings, EncoderSettings, TextSettings

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("pipeline", "sound", "capture", "texts", "memory")
HEARD = 30.0  # seconds of a clip's sound
CLIP_SECONDS, CLIP_WIDTH, CLIP_HEIGHT, CLIP_RATE = 60, 720, 1280, 30


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--part", nargs="+", default=PARTS, choices=PARTS, help="what is measured")
    measured.add_argument("--frame_num", type=whole_number(1), default=10, help="F")
    measured.add_argument("--batch_size", type=whole_number(1), default=32, help="frames encoded at once")
    measured.add_argument("--workers", type=whole_number(1), default=1, help="processes that decode")
    measured.add_argument("--precision", default="bf16", choices=PRECISIONS, help="of the ViT")
    add_device_flag(measured)
    return parser


def main(args) -> None:
    shared = Path(os.environ.get("MMRA_SHARED", ROOT.parent / "shared"))
    if not shared.is_dir():
        raise InputError(f"{shared}: no such folder; MMRA_SHARED names the one with clips/, data/ and models/")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        encoding = EncoderSettings("", args.batch_size, args.precision, args.device)
        parts = {
            "pipeline": lambda: pipeline(shared, place, encoding, args.frame_num, args.workers),
            "sound": lambda: sound(place, encoding, args.workers),
            "capture": lambda: capture_part(shared, place),
            "texts": lambda: texts(shared, place, args.device),
            "memory": lambda: memory(shared, place, args.workers, args.device),
        }
        for part in args.part:
            parts[part]()


def store_of(folder: Path, ids: list[str], texts: list[str]) -> FeatureStore:
    n = len(ids)
    zeros, split = np.zeros((n, 1)), np.full(n, "train", object)
    items = Items(np.array(ids, object), np.array(texts, object), zeros, zeros, split)
    label = Label(("popularity",))
    return FeatureStore.create(folder, items, family="MicroLens", label=label, overwrite=True)


def clips(shared: Path) -> dict[str, Path]:
    paths = sorted(path for path in (shared / "clips").iterdir() if path.suffix in VIDEO_SUFFIXES)
    return {path.stem: path for path in paths if not unusable(path)}


def write_vit(folder: Path, **config) -> Path:
    """A ViT-B/16 unless `config` says otherwise, with random weights."""
    torch.manual_seed(0)
    ViTModel(ViTConfig(**config)).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)
    return folder


# ---- the parts ---------------------------------------------------------------------------------------------------


def pipeline(shared: Path, folder: Path, encoding: EncoderSettings, frame_num: int, workers: int) -> None:
    videos = clips(shared)
    source = folder / "videos"
    source.mkdir()
    for item_id, path in videos.items():
        (source / f"{item_id}{path.suffix}").symlink_to(path.resolve())
    store = store_of(folder / "pipeline", list(videos), [""] * len(videos))
    vit = str(write_vit(folder / "vit"))
    encoder, batch_size = ImageEncoder(replace(encoding, encoder=vit)), encoding.batch_size
    plan = plan_videos(store, source, frame_num)
    frames = len(videos) * frame_num
    before = encoder_rate(encoder, batch_size)
    start = time.perf_counter()
    decoding = DecodingSettings(workers=workers, on_error="fail")
    encode_frames(store.folder / "visual.progress", plan, encoder, decoding, overwrite=True)
    rate = frames / (time.perf_counter() - start)
    limit = (before + encoder_rate(encoder, batch_size)) / 2
    shape = {"videos": len(videos), "frames": frames, "batch_size": batch_size, "workers": workers}
    report("features", "pipeline_frames_per_s", rate, limit, "the encoder alone on ready tensors", **shape)


def encoder_rate(encoder: ImageEncoder, batch_size: int, repeats: int = 8) -> float:
    """Frames a second of the encoder on tensors that are there already: the mean over `repeats` batches."""
    batch = np.random.default_rng(0).standard_normal((batch_size, 3, 224, 224), dtype=np.float32)
    encoder(batch).float().cpu()
    start = time.perf_counter()
    torch.cat([encoder(batch) for _ in range(repeats)]).float().cpu()
    return repeats * batch_size / (time.perf_counter() - start)


class Watched(Hearing):
    """Knows how long the encoder was busy; not with the first video, which it has to wait for."""

    def __init__(self, *args, **how):
        super().__init__(*args, **how)
        self.busy, self.first = 0.0, None

    def take(self, item_id, result) -> None:
        start = time.perf_counter()
        super().take(item_id, result)
        self._vectors[-1] = self._vectors[-1].cpu()  # on a GPU it is ready only now
        now = time.perf_counter()
        self.busy += now - start if self.first else 0
        self.first = self.first or now


def sound(folder: Path, encoding: EncoderSettings, workers: int) -> None:
    videos = folder / "sounding"
    videos.mkdir()
    write_sounding_clip(folder / "minute.mp4")
    ids = [f"v{number}" for number in range(12)]
    for item_id in ids:
        (videos / f"{item_id}.mp4").symlink_to(folder / "minute.mp4")
    encoder = SoundEncoder(replace(encoding, encoder=str(write_clap(folder / "clap"))), HEARD)
    plan = plan_videos(store_of(folder / "sound", ids, [""] * len(ids)), videos, 1)
    hearing = Watched(folder / "audio.progress", plan, encoder, "fail", overwrite=True)
    hearing.finish(DecodingSettings(workers=workers))
    taken = time.perf_counter() - hearing.first
    inputs, samples, _ = encoder.ear.inputs(listen(folder / "minute.mp4", encoder.ear.rate))  # (3, ...)
    start = time.perf_counter()
    for _ in ids:
        encoder(inputs, samples).cpu()
    alone = len(ids) / (time.perf_counter() - start)
    shape = {"videos": len(ids), "windows": len(inputs), "seconds": CLIP_SECONDS, "workers": workers}
    rates = {"videos_per_s": (len(ids) - 1) / taken, "videos_per_s_alone": alone}
    report("features", "sound_busy_share", hearing.busy / taken, 1.0, "an encoder that never waits", **rates, **shape)


def write_clap(folder: Path) -> Path:
    """The encoder of sound of laion/clap-htsat-unfused by its size, with random weights, and next to none of texts."""
    torch.manual_seed(0)
    none = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    ClapModel(ClapConfig(text_config={"vocab_size": 10, **none})).save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return folder


def write_sounding_clip(path: Path, rate: int = 44100) -> None:
    """A minute of noise that swells, stereo, as AAC."""
    noise = np.random.default_rng(0).standard_normal((2, CLIP_SECONDS * rate), dtype=np.float32)
    noise *= 0.2 * np.sin(np.arange(CLIP_SECONDS * rate, dtype=np.float32) / rate) ** 2
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(noise, "fltp", "stereo")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode())


def capture_part(shared: Path, folder: Path) -> None:
    import cv2  # only this part needs it

    path = folder / "long.mp4"
    write_long_clip(path, sorted(clips(shared).values()))
    ours, theirs, rates = [], [], {"ours": [], "theirs": []}
    for _ in range(3):
        start = time.perf_counter()
        ours = capture(path, 10).images
        rates["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        theirs = read_all(cv2, path, 10)
        rates["theirs"].append(time.perf_counter() - start)
    difference = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(ours, theirs, strict=True))
    fast, slow = sorted(rates["ours"])[1], sorted(rates["theirs"])[1]
    of = "reading every frame with OpenCV"
    report("features", "capture_s", fast, slow, of, slow / fast, largest_pixel_difference=difference, unit="times")


def read_all(cv2, path: Path, frame_num: int) -> list[np.ndarray]:
    """The published way: every frame is read, those at the wanted positions are kept."""
    video, images, count = cv2.VideoCapture(str(path)), [], 0
    wanted = set(frame_indices(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), frame_num).tolist())
    while True:
        there, image = video.read()
        if not there:
            return images
        if count in wanted:
            images.append(image[:, :, ::-1])
        count += 1


def write_long_clip(path: Path, sources: list[Path]) -> None:
    """Real pictures for a minute, by x264 with its defaults: a keyframe every 250 frames or cut, three B-frames."""
    total, written = CLIP_SECONDS * CLIP_RATE, 0
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=CLIP_RATE)
        stream.width, stream.height, stream.pix_fmt = CLIP_WIDTH, CLIP_HEIGHT, "yuv420p"
        while written < total:
            for source in sources:
                with av.open(str(source)) as video:
                    for frame in video.decode(video=0):
                        if written == total:
                            break
                        frame = frame.reformat(CLIP_WIDTH, CLIP_HEIGHT, "yuv420p")
                        frame.pts, frame.time_base = written, Fraction(1, CLIP_RATE)
                        frame.pict_type = 0
                        out.mux(stream.encode(frame))
                        written += 1
        out.mux(stream.encode())


def texts(shared: Path, folder: Path, device: str) -> None:
    captions = (shared / "data/nus_vine_10k/video_text.txt").read_text("utf-8").split("\n")[:10000]
    settings = EncoderSettings(str(shared / "models/all-MiniLM-L6-v2"), 64, "fp32", device)
    encoder = TextEncoder(settings, TextSettings())
    some = captions[::10]
    encoder(some[:1])
    start = time.perf_counter()
    for text in some:
        encoder([text]).cpu()
    alone = len(some) / (time.perf_counter() - start)
    start = time.perf_counter()
    encode_texts(captions, encoder, folder / "texts.progress", overwrite=True)
    rate = len(captions) / (time.perf_counter() - start)
    report("features", "texts_per_s", rate, alone, "one text at a time", texts=len(captions), unit="times")


def memory(shared: Path, folder: Path, workers: int, device: str) -> None:
    vit = write_vit(folder / "small", hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2)
    peaks = []
    for copies in (1, 4):
        source, place = folder / f"videos{copies}", folder / f"memory{copies}"
        source.mkdir()
        ids = []
        for item_id, path in clips(shared).items():
            for copy in range(copies):
                ids.append(f"{item_id}.{copy}")
                (source / f"{item_id}.{copy}{path.suffix}").symlink_to(path.resolve())
        store_of(place / "set", ids, [""] * len(ids))
        command = ["feature_engineering/visual_engineering.py", "--dataset_path", place, "--dataset_id", "set"]
        command += ["--videos", source, "--encoder", vit, "--workers", workers, "--device", device]
        subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        peaks.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
    report("features", "peak_bytes_4x", peaks[1], peaks[0], "peak with a quarter of the videos", videos=len(ids))


if __name__ == "__main__":
    run_script(build_parser(), main)
