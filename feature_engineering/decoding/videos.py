"""Decoding: the F frames of a video file, whatever state the file is in. No torch here: workers import it."""

from __future__ import annotations

import bisect
import functools
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

if TYPE_CHECKING:
    from feature_engineering.decoding.sound import Listener

# The formats that are opened. Playlists and concatenations are not among them, as those are texts that make the reader
# open other files.
CONTAINERS = "mov,matroska,avi,flv,live_flv,asf,mpeg,mpegts,mpegvideo,h264,hevc,m4v,ogg,mxf,gif,ivf,nut,wtv,dv,swf,rm"
NO_VIDEOS = {  # how a file begins that is often found under a video's name -> what it is
    rb"\xff\xd8\xff": "a picture (JPEG)",
    rb"\x89PNG": "a picture (PNG)",
    rb"RIFF.{4}WEBP": "a picture (WebP)",
    rb"\s*<(!doctype html|html)": "a web page",
}
MOST_PIXELS = 1 << 26  # of a frame: 8192 x 8192
SCALER = "BICUBIC"  # how colour planes of half the size are scaled up, as OpenCV's reader does it
PQ, HLG, BT2020 = 16, 18, 9  # transfers and primaries by their numbers in ITU-T H.273
PAPER = 203  # cd/m2, the luminance of white paper in HDR pictures (ITU-R BT.2408)
BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
TIMED_CONTAINERS = ("mov", "matroska")  # Their packets carry the time of their frame, which AVI's do not.
Transform = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Captured:
    """The F frames of a video; `real` of them differ, the last one fills up the rest."""

    images: list  # F times (H, W, 3) uint8 RGB, or what the transform made of it
    real: int
    note: str = ""  # what is wrong with the file, where something is


def frame_indices(count: int, frame_num: int) -> np.ndarray:
    """(at most F,) the published positions: evenly from the first frame to the last, truncated; each once."""
    return np.unique(np.linspace(0, count - 1, frame_num).astype(int))


def capture(
    path: Path,
    frame_num: int,
    transform: Transform | None = None,
    threads: int = 0,
    listener: Listener | None = None,
) -> Captured:
    """The F frames of a video at the published positions, upright; where it has fewer, the last one repeats.

    A first pass over the packets, which decodes nothing, tells how many frames there really are, whatever the header
    declares; then only what the wanted frames need is decoded. A file in which that does not come out exactly is
    decoded through, as far as it goes.

    transform: applied to each (H, W, 3) uint8 frame as it comes. threads: of the decoder, 0: as many as it likes.
    listener: is given the packets of the sound on the first pass, so that nothing is read for them alone. ValueError or
    av.FFmpegError where the file gives no frame.
    """
    transform = transform or (lambda image: image)
    index = read_index(path, listener)
    images = _seek(path, index, frame_num, transform, threads) if index.exact else None
    count, declared, broken = len(index.pts), index.declared - index.hidden, index.broken
    if images is None:
        images, count, errors = _decode_through(path, frame_num, transform, threads, expected=count - index.hidden)
        broken = broken or errors
    if not images:
        raise ValueError("no frame of it can be decoded" + (f" ({broken})" if broken else ""))
    notes = [f"{count} of {declared} frames are there"] if count < declared else []
    notes += [index.ends] if index.ends else []
    notes += [f"broken: {broken}"] if broken else []
    return Captured(images + images[-1:] * (frame_num - len(images)), len(images), "; ".join(notes))


@dataclass
class Index:
    """What the packets of a video stream say of it."""

    declared: int  # frames, by the header; 0 where it does not say
    pts: list[int | None] = field(default_factory=list)  # one a packet, in the order of the file
    keys: list[int] = field(default_factory=list)  # the keyframes' times, ascending
    ends: str = ""  # where it ends early, of what declares a duration and no count
    hidden: int = 0  # packets whose frames are not shown, as an edit list has it
    broken: str = ""  # why reading ended early
    exact: bool = False  # whether a frame can be found by its time


def read_index(path: Path, listener: Listener | None = None) -> Index:
    """Read the packets of the first video stream, decoding none; ValueError where there is no such stream.

    listener: takes those of the sound.
    """
    with open_file(path) as container:
        stream = _video_stream(container)
        index, orderly = Index(declared=stream.frames), True
        if container.format.name.startswith("mov"):
            # The edit list of such a file may leave frames out on purpose, which are then not missing.
            index.declared = min(stream.frames, len(stream.index_entries))
        streams = [stream, *(listener.streams(container) if listener else ())]
        try:
            for packet in container.demux(streams):
                if packet.stream_index != stream.index:
                    listener.take(packet)
                    continue
                if not packet.size:
                    continue
                index.hidden += packet.is_discard
                orderly = orderly and packet.pts is not None and not packet.is_discard
                orderly = orderly and (packet.is_keyframe or bool(index.keys))
                index.pts.append(packet.pts)
                if packet.is_keyframe:
                    index.keys.append(packet.pts)
        except av.FFmpegError as error:
            index.broken = reason_of(error)
        if listener:
            listener.end(index.broken)
        if not stream.frames:
            index.ends = _ends_early(container, stream, index.pts)
        index.exact = orderly and not index.broken and 0 < len(set(index.pts)) == len(index.pts)
        index.exact = index.exact and container.format.name.startswith(TIMED_CONTAINERS)
        # A packet of VP8 may show nothing. In all other codecs that the tests decode, a packet is a frame.
        index.exact = index.exact and stream.codec_context.name != "vp8"
        if index.exact:
            index.keys.sort()
        return index


def _ends_early(container, stream, times: list[int | None]) -> str:
    """Matroska counts no frames; its stream's duration is a tag, or the file's where there is no other stream."""
    duration = (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0
    if tag := re.match(r"(\d+):(\d\d):(\d\d\.\d+)", stream.metadata.get("DURATION", "")):
        duration = 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    shown = sorted(time for time in times if time is not None) or [0]
    end, gap = (float(span * stream.time_base) for span in (shown[-1], max(np.diff(shown), default=0)))
    early = duration - end > max(0.1 * duration, 2 * gap, 0.5)
    return f"it ends after {end:.1f} of {duration:.1f} s" if early else ""


def _seek(path: Path, index: Index, frame_num: int, transform: Transform, threads: int) -> list | None:
    """The wanted frames, skipping from keyframe to keyframe; None where one is not found where it should be."""
    times = sorted(index.pts)
    wanted = [times[i] for i in frame_indices(len(times), frame_num)]
    pending, found = set(wanted), {}
    try:
        with open_file(path) as container:
            stream = _video_stream(container, threads)
            # A frame that no other refers to need not be decoded on the way. Only H.264 marks such frames reliably.
            skips = stream.codec_context.name == "h264"
            packets, at = container.demux(stream), index.keys[0]
            for time in wanted:
                key = index.keys[bisect.bisect_right(index.keys, time) - 1]
                if time not in found and key > at:
                    container.seek(key, stream=stream)
                    packets, at = container.demux(stream), key
                while time not in found:
                    packet = next(packets)
                    if skips:
                        stream.codec_context.skip_frame = "DEFAULT" if packet.pts in pending else "NONREF"
                    for frame in packet.decode():
                        if frame.pts in pending and frame.pts not in found:
                            if frame.is_corrupt:
                                return None
                            found[frame.pts] = transform(to_rgb(frame))
    except (av.FFmpegError, StopIteration):
        return None
    return [found[time] for time in wanted]


def _decode_through(
    path: Path, frame_num: int, transform: Transform, threads: int, expected: int
) -> tuple[list, int, str]:
    """The wanted frames of all that can be decoded, how many those are, and what went wrong on the way."""
    for _ in range(2):
        # Where the first pass finds another number of frames than was expected, its count says what the second wants.
        wanted = set(frame_indices(max(1, expected), frame_num).tolist())
        images, count, errors = [], 0, []
        for frame in _decoded(path, threads, errors):
            if count in wanted:
                images.append(transform(to_rgb(frame)))
            count += 1
        if count == expected or not count:
            break
        expected = count
    return images, count, f"{len(errors)} packets cannot be decoded, {errors[0]}" if errors else ""


def _decoded(path: Path, threads: int, errors: list[str]) -> Iterator[av.VideoFrame]:
    """Every frame that can be decoded; packets that cannot are passed over."""
    with open_file(path) as container:
        packets = container.demux(_video_stream(container, threads))
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                errors.append(reason_of(error))
                return
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                errors.append(reason_of(error))


def open_file(path: Path):
    """As a file, even where its name looks like an address (pipe:0, concat:a|b), and nothing that it points to."""
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        return av.open(f"file:{path}", metadata_errors="replace", container_options=options)
    except av.FFmpegError:
        with path.open("rb") as file:
            start = file.read(64)
        if kind := next((kind for begins, kind in NO_VIDEOS.items() if re.match(begins, start, re.IGNORECASE)), None):
            raise ValueError(f"{kind} under a video's name") from None
        raise


def _video_stream(container, threads: int = 1):
    """The first stream of moving pictures (others may be the cover of a song)."""
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise ValueError("no video stream in it")
    stream = streams[0]
    context = stream.codec_context
    _refuse_huge(context.width, context.height)
    # A stream whose frames grow later is refused then, before memory is taken for them.
    context.options = {"max_pixels": str(MOST_PIXELS)}
    context.thread_count = threads
    stream.thread_type = "AUTO" if threads != 1 else "NONE"
    return stream


def _refuse_huge(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"frames of {width} x {height} are too large")


def reason_of(error: av.FFmpegError) -> str:
    return error.strerror or type(error).__name__


# ---- a frame as a player shows it --------------------------------------------------------------------------------


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8: upright, in the colours and the brightness of an ordinary screen, on black where transparent."""
    if frame.color_trc in (PQ, HLG):
        image = _tone_mapped(frame)
    elif any(component.is_alpha for component in frame.format.components):
        image = frame.to_ndarray(format="rgba", interpolation=SCALER).astype(np.uint16)
        image = ((image[..., :3] * image[..., 3:] + 127) // 255).astype(np.uint8)
    else:
        image = frame.to_ndarray(format="rgb24", interpolation=SCALER)
    # Phones store pictures as the sensor lies, and beside them the angle (counterclockwise) that sets them upright.
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))


def _tone_mapped(frame: av.VideoFrame) -> np.ndarray:
    """HDR -> SDR, colorimetrically: the white of paper (203 cd/m2, ITU-R BT.2408) becomes the white of the picture.

    What is brighter is white too. FFmpeg's scaler gives the same within rounding, and takes 3 s to prepare for it.
    """
    encoded = frame.to_ndarray(format="rgb48le", interpolation=SCALER)  # (H, W, 3) uint16
    light = _light(frame.color_trc)[encoded]  # float32, 1 is the white of paper
    if frame.color_trc == HLG:  # the scene's light -> the light of a screen of 1000 cd/m2
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (np.maximum(luminance, 1e-6) ** 0.2)[..., None] * (1000 / PAPER)
    if frame.color_primaries == BT2020:
        light = light @ BT2020_TO_BT709.T
    return (255 * np.clip(light, 0, 1) ** (1 / 2.4) + 0.5).astype(np.uint8)  # ITU-R BT.1886


@functools.cache
def _light(transfer: int) -> np.ndarray:
    """(65536,) the light that each 16-bit code stands for: BT.2100's PQ in units of PAPER, or HLG of the scene."""
    code = np.linspace(0, 1, 1 << 16)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = code ** (1 / m2)
    return (10000 / PAPER * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)).astype(np.float32)


def family_frames(family: str) -> int:
    """F of the paper for the data set's family."""
    return importlib.import_module(f"dataloader.{family}.dataset").FRAME_NUM
