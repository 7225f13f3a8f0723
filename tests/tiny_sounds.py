"""Small encoders of sound with random weights, one of each kind, and clips whose sound is known in closed form."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import transformers
from tiny_encoders import SMALL

MEL = 16


def write_clap(folder: Path) -> Path:
    """At 8 kHz, 2 s at once."""
    sizes = {"window_size": 2, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4], "patch_embeds_hidden_size": 8}
    depth = {"depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16, "aff_block_r": 2, "num_classes": 3}
    audio = {"num_mel_bins": MEL, "projection_dim": 10, "mlp_ratio": 2.0, **sizes, **depth}
    text = {"vocab_size": 20, "max_position_embeddings": 20, **SMALL}
    torch.manual_seed(0)
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=10)
    transformers.ClapModel(config).save_pretrained(folder)
    heard = {"sampling_rate": 8000, "hop_length": 80, "max_length_s": 2, "fft_window_size": 256, "frequency_max": 4000}
    transformers.ClapFeatureExtractor(feature_size=MEL, truncation="rand_trunc", **heard).save_pretrained(folder)
    return folder


def write_ast(folder: Path) -> Path:
    """At 16 kHz, 1.28 s at once."""
    torch.manual_seed(0)
    heard = {"num_mel_bins": MEL, "max_length": 128}
    config = transformers.ASTConfig(patch_size=8, frequency_stride=8, time_stride=8, **heard, **SMALL)
    transformers.ASTModel(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(sampling_rate=16000, **heard).save_pretrained(folder)
    return folder


def write_wave(folder: Path, kind: str = "Wav2Vec2", **config) -> Path:
    """Wav2Vec2 or Hubert, at 8 kHz, of any length."""
    torch.manual_seed(0)
    layers = {"conv_dim": [8, 8, 8], "conv_stride": [5, 4, 4], "conv_kernel": [10, 8, 4], "num_feat_extract_layers": 3}
    position = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    made = getattr(transformers, f"{kind}Config")(vocab_size=5, **layers, **position, **SMALL, **config)
    getattr(transformers, f"{kind}Model")(made).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=True).save_pretrained(folder)
    return folder


def write_whisper(folder: Path) -> Path:
    """At 16 kHz, 3 s at once, to which whatever is shorter is filled up."""
    torch.manual_seed(0)
    parts = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in WHISPER.items()}
    tokens = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    most = {"max_source_positions": 150, "max_target_positions": 10}
    config = transformers.WhisperConfig(num_mel_bins=MEL, d_model=16, **parts, **tokens, **most)
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(MEL, sampling_rate=16000, chunk_length=3).save_pretrained(folder)
    return folder


WHISPER = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}
ENCODERS = {
    "clap": write_clap,
    "ast": write_ast,
    "wav2vec2": write_wave,
    "hubert": lambda folder: write_wave(folder, "Hubert"),
    "whisper": write_whisper,
}


def tones(seconds: float, rate: int, *amplitudes: float, first: int = 300) -> np.ndarray:
    """(C, n) float32: a sine in each channel, of `first` Hz in the first second and of 100 Hz more in each other."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * (first + 100 * np.floor(time)) * time)
    return np.stack([amplitude * wave for amplitude in amplitudes]).astype(np.float32)


def write_clip(
    path: Path, sound: np.ndarray | None, rate: int = 16000, codec: str = "alac", frames: int = 4, **options
) -> Path:
    """Noise of 32 x 32 pixels, five pictures a second, beside the sound (C, n), which alac keeps to the bit."""
    rng = np.random.default_rng(len(path.stem))
    with av.open(str(path), "w", options=options) as out:
        video = out.add_stream("libx264", rate=5) if frames else None
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)] if sound is not None else ""
        audio = out.add_stream(codec, rate=rate, layout=layout) if layout else None
        if video:
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            for picture in rng.integers(0, 256, (frames, 32, 32, 3), np.uint8):
                out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            out.mux(video.encode())
        if audio:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
            for part in av.AudioResampler(audio.format, layout, rate).resample(frame):
                out.mux(audio.encode(part))
            out.mux(audio.encode())
    return path
