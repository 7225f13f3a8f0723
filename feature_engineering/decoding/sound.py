"""Decoding: the sound of a video file, mono, in windows spread over it, whatever state the file is in.

No torch here: workers import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from feature_engineering.decoding.videos import open_file, reason_of
from feature_engineering.decoding.workers import Failure, attempt

if TYPE_CHECKING:
    from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

LONGEST = 10 * 60  # seconds of a file that are listened to: so many samples fit into a worker's memory
QUIET = 1e-4  # of full scale: what is nowhere louder (-80 dB) is silence, digital or of a microphone that was off
LEAST_RATE = 1000  # samples a second: a header that says less would make minutes of every packet
SHORTEST = 0.1  # seconds: what is shorter is filled up, as convolutions need some samples


class Listener:
    """Decodes the sound of one file while its packets are read, in order: mono float32 at `rate`."""

    def __init__(self, rate: int):
        self.rate = rate
        self.ended = False  # whether all packets that can be read have been
        self._there, self._broken, self._errors = False, "", []
        self._packets = self._count = 0  # packets with something in them, and samples
        self._parts: list[np.ndarray] = []  # (n,) each
        self._resampler: av.AudioResampler | None = None
        self._format: tuple | None = None  # of the frames that the resampler takes

    def streams(self, container) -> list:
        """The stream that a player would take, as a list; empty where there is none."""
        best = container.streams.best("audio") or next(iter(container.streams.audio), None)
        self._there = best is not None
        return [best] if self._there else []

    def take(self, packet: av.Packet) -> None:
        """Packets that cannot be decoded are passed over."""
        if self._count >= LONGEST * self.rate:
            return
        self._packets += packet.size > 0
        if isinstance(result := attempt(self._decode, (packet,)), Failure):
            self._errors.append(result.reason)

    def _decode(self, packet: av.Packet) -> None:
        for frame in packet.decode():
            self._resample(frame)

    def end(self, broken: str) -> None:
        """There are no more packets; broken: why, if reading ended early."""
        self.ended, self._broken = True, broken

    def heard(self) -> tuple[np.ndarray, str]:
        """(n,) samples, none of a file without sound, and what is wrong; ValueError where nothing can be decoded."""
        self._resample(None)
        samples = np.concatenate([*self._parts, np.empty(0, np.float32)])[: LONGEST * self.rate]
        notes = [f"{len(self._errors)} packets of sound cannot be decoded, {self._errors[0]}"] if self._errors else []
        notes += [f"its sound is broken: {self._broken}"] if self._broken and self._there else []
        if (notes or self._packets) and not len(samples):
            raise ValueError("; ".join(notes) or f"nothing comes from its {self._packets} packets of sound")
        return samples, "; ".join(notes)

    def _resample(self, frame: av.AudioFrame | None) -> None:
        form = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler and form != self._format:  # the end, or another format from here on
            self._add(self._resampler.resample(None))
            self._resampler = None
        if frame is None:
            return
        if frame.sample_rate < LEAST_RATE:
            raise ValueError(f"a sampling rate of {frame.sample_rate} Hz")
        if self._resampler is None:
            # Channels are kept and averaged below: FFmpeg's own mix of two equal channels is louder than either. A
            # second at once is several times faster than the thousand samples of a frame.
            self._resampler = av.AudioResampler("fltp", frame.layout, self.rate, frame_size=self.rate)
            self._format = form
        self._add(self._resampler.resample(frame))

    def _add(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self._parts.append(frame.to_ndarray().mean(axis=0))  # (C, n) -> (n,)
            self._count += len(self._parts[-1])


def listen(path: Path, rate: int) -> Listener:
    """What is heard of a file that is read for its sound alone; av.FFmpegError where it cannot be opened."""
    listener, broken = Listener(rate), ""
    with open_file(path) as container:
        streams = listener.streams(container)
        try:
            for packet in container.demux(streams) if streams else ():
                listener.take(packet)
        except av.FFmpegError as error:
            broken = reason_of(error)
    listener.end(broken)
    return listener


def windows(samples: np.ndarray, seconds: float, longest: int, rate: int) -> np.ndarray:
    """(n,) -> (W, l): W windows of l samples each, `seconds` together, spread evenly over the clip.

    The first one begins with the clip and the last one ends with it; a single one is its middle. Of a clip that is not
    longer than `seconds` they follow one another and leave less than a sample a window out. longest: of l. Empty for a
    clip without samples.
    """
    total = min(round(seconds * rate), len(samples))
    if not total:
        return np.empty((0, 0), np.float32)
    count = -(-total // longest)  # W
    length = total // count  # l
    room = len(samples) - length
    starts = np.linspace(0, room, count).astype(int) if count > 1 else np.array([room // 2])
    cut = np.stack([samples[start : start + length] for start in starts])  # (W, l)
    return np.pad(cut, ((0, 0), (0, max(0, int(SHORTEST * rate) - length))))


# ---- what the workers do: a video -> the input of an encoder ---------------------------------------------------------


@dataclass(frozen=True)
class Ear:
    """What a worker has to know of an encoder of sound: its feature extractor and the samples it takes at once."""

    extractor: SequenceFeatureExtractor
    longest: int  # samples of a window
    seconds: float  # of a clip, in all its windows

    @property
    def rate(self) -> int:
        return self.extractor.sampling_rate

    def inputs(self, listener: Listener) -> tuple[np.ndarray, int, str]:
        """An encoder's input (W, ...) float32, how many samples are in each window, and what is wrong with the sound.

        W is 0 where there is no sound, or nothing but silence. ValueError where it cannot be decoded.
        """
        samples, note = listener.heard()
        cut = windows(samples, self.seconds, self.longest, self.rate)  # (W, l)
        if not cut.size or np.abs(cut).max() < QUIET:
            return np.empty((0, 0), np.float32), 0, note
        return self.extract(cut), cut.shape[1], note

    def extract(self, cut: np.ndarray) -> np.ndarray:
        """(W, l) samples -> (W, ...)"""
        # One window at a time: some extractors treat one of several in another way, chosen at random.
        made = [self.extractor(window, sampling_rate=self.rate, return_tensors="np") for window in cut]
        name = self.extractor.model_input_names[0]
        return np.concatenate([np.asarray(one[name], np.float32) for one in made])


_ear: Ear | None = None


def begin(ear: Ear) -> None:
    """Give this process what it has to know."""
    global _ear
    _ear = ear


def from_video(path: Path) -> tuple[np.ndarray, int, str]:
    """As Ear.inputs."""
    return _ear.inputs(listen(path, _ear.rate))
