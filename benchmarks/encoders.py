"""What each encoder of docs/encoders.md costs on this machine per 1,000 videos, as a table of Markdown.

Models of the real size with random weights, which cost what trained ones do; nothing is downloaded. Measured is the
encoder alone, on inputs that are there already, for a few batches, and extrapolated to 1,000 videos: decoding runs
beside it, in processes of its own (benchmarks/features.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import (
    ASTConfig,
    AutoModel,
    AutoModelForImageTextToText,
    BertConfig,
    BlipConfig,
    BlipForConditionalGeneration,
    ClapConfig,
    CLIPConfig,
    Dinov2Config,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    HubertConfig,
    MobileViTConfig,
    PreTrainedConfig,
    Qwen3Config,
    Qwen3VLConfig,
    SiglipConfig,
    SmolVLMConfig,
    TimesformerConfig,
    VideoMAEConfig,
    ViTConfig,
    VJEPA2Config,
    WhisperConfig,
    XCLIPConfig,
)

from common.console import Parser, number, run_script, whole_number
from common.devices import PRECISIONS, add_device_flag, pick_device, pick_precision
from feature_engineering.encoding import images, pooling
from feature_engineering.encoding.clips import frames_of, pool_clips, size_of

VIDEOS, FRAMES = 1000, 10  # FRAMES: of a video, for encoders of pictures; the published number for MicroLens
TEXTS = 64  # encoded at once
# tokens of a title, of one with its frames' captions, of a caption, of what is asked about pictures
TITLE, WITH_CAPTIONS, CAPTION, PROMPT = 16, 160, 20, 30
SHORT_CAPTION = {"max_new_tokens": CAPTION, "min_new_tokens": CAPTION, "do_sample": False, "num_beams": 1}

Model = torch.nn.Module
Run = Callable[[], Any]  # one batch, its result on the CPU


@dataclass(frozen=True)
class Sized:
    """A line of the table: an encoder, the script that takes it, and how a batch of its inputs is made.

    model: of the real size, with random weights. batch: model, number of pictures -> the batch's run, and how many
    videos' inputs are in it. reads: what of a video that is.
    """

    name: str
    script: str
    reads: str
    model: Callable[[], Model]
    batch: Callable[[Model, int], tuple[Run, float]]


# ---- inputs --------------------------------------------------------------------------------------------------------


def random_pixels(model: Model, *shape: int) -> torch.Tensor:
    weights = next(model.parameters())
    return torch.randn(shape, dtype=weights.dtype, device=weights.device)


def pictures(side: int = 224) -> Callable[[Model, int], tuple[Run, float]]:
    def batch(model: Model, count: int) -> tuple[Run, float]:
        pixels = random_pixels(model, count, 3, side, side)
        return lambda: images.pool(model, pixels)[0].cpu(), count / FRAMES

    return batch


def clips(model: Model, count: int) -> tuple[Run, float]:
    frames = frames_of(model.config)
    videos = max(1, count // frames)
    pixels = random_pixels(model, videos, frames, 3, *size_of(model.config))
    return lambda: pool_clips(model, pixels).cpu(), videos


def captions(model: Model, count: int) -> tuple[Run, float]:
    side = model.config.vision_config.image_size
    pixels = random_pixels(model, count, 3, side, side)
    return lambda: model.generate(pixel_values=pixels, **SHORT_CAPTION).cpu(), count / FRAMES


def asked(model: Model, count: int) -> tuple[Run, float]:
    """All frames of one video in one request, whatever `count` says."""
    seen = model.config.vision_config
    if isinstance(model.config, Qwen3VLConfig):  # pictures of 320 x 320, in rows of patches that lie twice in time
        side, depth = 320 // seen.patch_size, seen.temporal_patch_size
        pixels = random_pixels(model, FRAMES * side**2, 3 * depth * seen.patch_size**2)
        given = {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, side, side]] * FRAMES).to(pixels.device)}
        tokens = (side // seen.spatial_merge_size) ** 2
        marks = [model.config.vision_start_token_id], [model.config.vision_end_token_id]
    else:
        given = {"pixel_values": random_pixels(model, 1, FRAMES, 3, seen.image_size, seen.image_size)}
        tokens = (seen.image_size // seen.patch_size // model.config.scale_factor) ** 2
        marks = [5], [6]  # any words
    picture = [*marks[0], *[model.config.image_token_id] * tokens, *marks[1]]
    ids = torch.tensor([picture * FRAMES + [*range(10, 10 + PROMPT)]]).to(given["pixel_values"].device)
    given |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if isinstance(model.config, Qwen3VLConfig):
        given["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    return lambda: model.generate(**given, **SHORT_CAPTION).cpu(), 1


def sounds(windows: int, *shape: int) -> Callable[[Model, int], tuple[Run, float]]:
    """shape: of what a window's feature extractor makes."""

    def batch(model: Model, count: int) -> tuple[Run, float]:
        heard = random_pixels(model, windows, *shape)
        if hasattr(model, "get_audio_features"):
            longer = torch.zeros(windows, 1, dtype=torch.bool, device=heard.device)
            return lambda: model.get_audio_features(heard, is_longer=longer).pooler_output.cpu(), 1
        encoder = model.get_encoder() if model.config.is_encoder_decoder else model
        return lambda: encoder(heard).last_hidden_state.cpu(), 1

    return batch


def texts(tokens: int, how: str) -> Callable[[Model, int], tuple[Run, float]]:
    def batch(model: Model, count: int) -> tuple[Run, float]:
        ids = torch.randint(5, 1000, (TEXTS, tokens), device=next(model.parameters()).device)
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return lambda: pooling.pool(model, given, how).cpu(), TEXTS

    return batch


# ---- the table -----------------------------------------------------------------------------------------------------

VISUAL, AUDIO, CAPTIONS = "visual_engineering.py", "audio_engineering.py", "captioning.py"
TEXTUAL, RETRIEVAL = "textual_engineering.py", "retrieval_engineering.py"
OF_FRAMES, OF_TITLE, OF_ALL = f"{FRAMES} frames", "title", "title and captions"


def of(config: Callable[..., PreTrainedConfig], **sizes: Any) -> Callable[[], Model]:
    return lambda: AutoModel.from_config(config(**sizes))


def wide(hidden: int, layers: int, heads: int) -> dict[str, int]:
    """The sizes of a transformer whose inner layer is four times as wide."""
    return {
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def of_frames(name: str, model: Callable[[], Model], side: int = 224) -> Sized:
    return Sized(name, VISUAL, OF_FRAMES, model, pictures(side))


def of_clip(name: str, config: type[PreTrainedConfig]) -> Sized:
    return Sized(name, VISUAL, f"clip of {frames_of(config())} frames", of(config), clips)


def of_sound(name: str, model: Callable[[], Model], batch: Callable[[Model, int], tuple[Run, float]]) -> Sized:
    return Sized(name, AUDIO, "30 s of sound", model, batch)


def of_title(name: str, model: Callable[[], Model], how: str) -> Sized:
    return Sized(name, TEXTUAL, OF_TITLE, model, texts(TITLE, how))


WHISPER_BASE = {"layers": 6, "attention_heads": 8, "ffn_dim": 2048}
ENCODERS = (
    of_frames("google/vit-base-patch16-224-in21k", of(ViTConfig)),
    of_frames(
        "openai/clip-vit-large-patch14",
        of(
            CLIPConfig,
            text_config=wide(768, 12, 12),
            vision_config={"patch_size": 14, **wide(1024, 24, 16)},
            projection_dim=768,
        ),
    ),
    of_frames("google/siglip2-base-patch16-224", of(SiglipConfig, text_config={"vocab_size": 256000})),
    of_frames("facebook/dinov2-base", of(Dinov2Config, image_size=518, patch_size=14)),
    of_frames(
        "facebook/dinov3-vitb16-pretrain-lvd1689m", of(DINOv3ViTConfig, num_register_tokens=4, **wide(768, 12, 12))
    ),
    of_frames("facebook/dinov3-convnext-tiny-pretrain-lvd1689m", of(DINOv3ConvNextConfig)),
    of_frames("apple/mobilevit-small", of(MobileViTConfig), side=256),
    of_clip("MCG-NJU/videomae-base", VideoMAEConfig),
    of_clip("facebook/timesformer-base-finetuned-k400", TimesformerConfig),
    of_clip("microsoft/xclip-base-patch32", XCLIPConfig),
    of_clip("facebook/vjepa2-vitl-fpc64-256", VJEPA2Config),
    of_sound("laion/clap-htsat-unfused", of(ClapConfig), sounds(3, 1, 1001, 64)),
    of_sound("MIT/ast-finetuned-audioset-10-10-0.4593", of(ASTConfig), sounds(3, 1024, 128)),
    of_sound("facebook/hubert-base-ls960", of(HubertConfig), sounds(3, 160_000)),
    of_sound(
        "openai/whisper-base",
        of(
            WhisperConfig,
            d_model=512,
            **{f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in WHISPER_BASE.items()},
        ),
        sounds(1, 80, 3000),
    ),
    Sized(
        "Salesforce/blip-image-captioning-base",
        CAPTIONS,
        OF_FRAMES,
        lambda: BlipForConditionalGeneration(BlipConfig(text_config={"encoder_hidden_size": 768})),
        captions,
    ),
    Sized(
        "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
        CAPTIONS,
        OF_FRAMES,
        lambda: AutoModelForImageTextToText.from_config(
            SmolVLMConfig(
                image_token_id=49190,
                scale_factor=4,
                text_config={
                    "model_type": "llama",
                    "vocab_size": 49280,
                    "max_position_embeddings": 8192,
                    **(wide(576, 30, 9) | {"intermediate_size": 1536, "num_key_value_heads": 3, "head_dim": 64}),
                },
                vision_config={"image_size": 512, "patch_size": 16, **wide(768, 12, 12)},
            )
        ),
        asked,
    ),
    Sized(
        "Qwen/Qwen3-VL-2B-Instruct",
        CAPTIONS,
        OF_FRAMES,
        lambda: AutoModelForImageTextToText.from_config(
            Qwen3VLConfig(
                tie_word_embeddings=True,
                text_config={
                    "tie_word_embeddings": True,
                    "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]},
                    **(wide(2048, 28, 16) | {"intermediate_size": 6144, "num_key_value_heads": 8, "head_dim": 128}),
                },
                vision_config={
                    "depth": 24,
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "out_hidden_size": 2048,
                    "deepstack_visual_indexes": [5, 11, 17],
                },
            )
        ),
        asked,
    ),
    of_title("WhereIsAI/angle-bert-base-uncased-nli-en-v1", of(BertConfig), "cls_avg"),
    of_title("sentence-transformers/all-MiniLM-L6-v2", of(BertConfig, **wide(384, 6, 12)), "mean"),
    of_title("intfloat/multilingual-e5-small", of(BertConfig, vocab_size=250037, **wide(384, 12, 12)), "mean"),
    of_title(
        "Qwen/Qwen3-Embedding-0.6B",
        of(
            Qwen3Config,
            vocab_size=151669,
            **(wide(1024, 28, 16) | {"intermediate_size": 3072, "num_key_value_heads": 8, "head_dim": 128}),
        ),
        "last",
    ),
    Sized(
        "WhereIsAI/UAE-Large-V1", RETRIEVAL, OF_ALL, of(BertConfig, **wide(1024, 24, 16)), texts(WITH_CAPTIONS, "cls")
    ),
)


# ---- measuring -----------------------------------------------------------------------------------------------------


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    names = [one.name for one in ENCODERS]
    measured.add_argument("--encoder", nargs="+", default=names, choices=names, metavar="NAME", help="all without it")
    measured.add_argument("--seconds", type=number(0), default=10.0, help="at least so long each, of whole batches")
    measured.add_argument("--batch_size", type=whole_number(1), default=8, help="pictures encoded at once")
    measured.add_argument("--precision", default="auto", choices=("auto", *PRECISIONS), help="of the encoders")
    add_device_flag(measured)
    return parser


def main(args) -> None:
    device = pick_device(args.device)
    precision = pick_precision(args.precision, device)
    transformers.utils.logging.set_verbosity_error()  # Token ids of texts play no part here.
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{str(precision).removeprefix('torch.')}, {place}, batches of {args.batch_size} pictures or {TEXTS} texts\n")
    print("| encoder | script | reads of a video | per 1,000 videos |\n|---|---|---|---|")
    for one in ENCODERS:
        if one.name in args.encoder:
            torch.manual_seed(0)
            model = one.model().eval().to(device, precision)
            run, videos = one.batch(model, args.batch_size)
            taken = VIDEOS / videos * seconds_a_batch(run, args.seconds)
            print(f"| `{one.name}` | `{one.script}` | {one.reads} | {in_words(taken)} |", flush=True)


@torch.inference_mode()
def seconds_a_batch(run: Run, least: float) -> float:
    """The mean over batches of `least` seconds; the first one does not count where it is not the only one."""
    times = [timed(run)]
    if times[0] < least:
        times = list(until(run, least))
    return sum(times) / len(times)


def until(run: Run, least: float) -> Iterator[float]:
    passed = 0.0
    while passed < least:
        passed += (took := timed(run))
        yield took


def timed(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_words(taken: float) -> str:
    """Seconds, with two digits that count."""
    for unit, size in (("h", 3600), ("min", 60)):
        if taken >= 1.5 * size:
            return f"{taken / size:.1f} {unit}" if taken < 10 * size else f"{taken / size:.0f} {unit}"
    return f"{taken:.1f} s" if taken < 10 else f"{taken:.0f} s"


if __name__ == "__main__":
    run_script(build_parser(), main)
