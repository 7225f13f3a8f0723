"""The encoders that docs/encoders.md lists, each in a small form: the vectors of transformers' own call."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from bare import TEXTS, bare_store, call, write_clip
from conftest import ROOT
from PIL import Image
from test_resumption import in_this_process
from tiny import refused
from tiny_encoders import (
    FRAMES,
    IMAGE,
    SMALL,
    STEPS,
    write_dinov2,
    write_dinov3,
    write_dinov3_convnext,
    write_mobilevit,
    write_naflex,
    write_sentences,
    write_siglip,
    write_timesformer,
    write_videomae,
    write_vjepa2,
    write_words,
    write_xclip,
)

from benchmarks import encoders as benchmark
from common.console import InputError
from feature_engineering import captioning, retrieval_engineering, textual_engineering, visual_engineering
from feature_engineering.decoding import frames as decoding
from feature_engineering.decoding.videos import capture
from feature_engineering.encoding.captions import read_captions

PICTURES = 3
IDS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(decoding, "in_workers", in_this_process)


# ---- what transformers says of a picture or a clip ---------------------------------------------------------------

Vector = Callable[[Path, list[Image.Image]], torch.Tensor]  # folder, pictures -> (B, D)


def processed(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    """(B, 3, H, W) by transformers' own processor; VideoMAE's takes a video."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(pictures, return_tensors="pt")["pixel_values"].reshape(len(pictures), 3, IMAGE, IMAGE)


def by_hand(pictures: list[Image.Image], edge: int | None = None) -> torch.Tensor:
    """What the classes for torchvision say that they do: the shorter side to `edge` and cropped, or to the size."""
    rows = []
    for picture in pictures:
        short, size = min(picture.size), (IMAGE, IMAGE)
        if edge:
            size = tuple(int(edge * side / short) for side in picture.size)
        small = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float64)
        top, left = ((side - IMAGE) // 2 for side in small.shape[:2])
        cropped = small[top : top + IMAGE, left : left + IMAGE]
        rows.append(((cropped / 255 - STEPS["image_mean"]) / STEPS["image_std"]).transpose(2, 0, 1))
    return torch.tensor(np.stack(rows), dtype=torch.float32)


def loaded(kind: str, folder: Path) -> torch.nn.Module:
    return getattr(transformers, kind).from_pretrained(folder).eval()


def siglip(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    return loaded("SiglipModel", folder).vision_model(processed(folder, pictures)).pooler_output


def clip_model(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    model = loaded("CLIPModel", folder)
    return model.visual_projection(model.vision_model(processed(folder, pictures)).pooler_output)


def pooler(kind: str, hand: bool = False) -> Vector:
    def vector(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
        pixels = by_hand(pictures) if hand else processed(folder, pictures)
        return loaded(kind, folder)(pixels).pooler_output

    return vector


def first_token(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    return loaded("ViTModel", folder)(processed(folder, pictures)).last_hidden_state[:, 0]


def pooled_map(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    model = loaded("DINOv3ConvNextModel", folder)
    return model.layer_norm(model.model(by_hand(pictures)).last_hidden_state.mean((2, 3)))


def videomae(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    return loaded("VideoMAEModel", folder)(processed(folder, pictures)[None]).last_hidden_state.mean(1)


def timesformer(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    return loaded("TimesformerModel", folder)(processed(folder, pictures)[None]).last_hidden_state[:, 0]


def xclip(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    """Its forward pass gives the same vector with length 1, beside that of a text."""
    model, clips = loaded("XCLIPModel", folder), processed(folder, pictures)[None]
    vector = model.get_video_features(clips).pooler_output
    both = model(input_ids=torch.tensor([[0, 3, 8]]), pixel_values=clips)
    torch.testing.assert_close(torch.nn.functional.normalize(vector), both.video_embeds)
    return vector


def vjepa2(folder: Path, pictures: list[Image.Image]) -> torch.Tensor:
    output = loaded("VJEPA2Model", folder)(by_hand(pictures, edge=36)[None])  # with its predictor
    return output.last_hidden_state.mean(1)


PICTURE_ENCODERS: dict[str, tuple[str | Callable[[Path], Path], Vector, str]] = {
    # name -> a fixture or what writes its folder, its vectors, and what dataset.json calls these
    "google/vit-base-patch16-224-in21k": ("vit", first_token, "cls"),
    "openai/clip-vit-large-patch14": ("clip", clip_model, "projected"),
    "google/siglip2-base-patch16-224": (write_siglip, siglip, "projected"),
    "facebook/dinov2-base": (write_dinov2, pooler("Dinov2Model"), "cls"),
    "facebook/dinov3-vitb16-pretrain-lvd1689m": (write_dinov3, pooler("DINOv3ViTModel", hand=True), "cls"),
    "facebook/dinov3-convnext-tiny-pretrain-lvd1689m": (write_dinov3_convnext, pooled_map, "pooler"),
    "apple/mobilevit-small": (write_mobilevit, pooler("MobileViTModel"), "pooler"),
}
CLIP_ENCODERS: dict[str, tuple[Callable[[Path], Path], Vector, str]] = {
    "MCG-NJU/videomae-base": (write_videomae, videomae, "mean"),
    "facebook/timesformer-base-finetuned-k400": (write_timesformer, timesformer, "cls"),
    "microsoft/xclip-base-patch32": (write_xclip, xclip, "projected"),
    "facebook/vjepa2-vitl-fpc64-256": (write_vjepa2, vjepa2, "mean"),
}


def draw(folder: Path, ids=IDS, number: int = PICTURES) -> dict[str, list[Image.Image]]:
    """Pictures of 50 x 40 in files."""
    rng, drawn = np.random.default_rng(0), {}
    folder.mkdir(parents=True)
    for item_id in ids:
        blocks = (rng.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in range(number))
        drawn[item_id] = [Image.fromarray(block).resize((50, 40)) for block in blocks]
        for k, picture in enumerate(drawn[item_id]):
            picture.save(folder / f"{item_id}_{k}.png")
    return drawn


@torch.inference_mode()
@pytest.mark.parametrize("name", PICTURE_ENCODERS)
def test_a_picture_has_the_vector_that_transformers_gives_it(tmp_path, request, name):
    make, vector, pooling = PICTURE_ENCODERS[name]
    folder = request.getfixturevalue(make) if isinstance(make, str) else make(tmp_path / "encoder")
    bare_store(tmp_path, ids=IDS)
    drawn = draw(tmp_path / "set/frames")
    store = call(visual_engineering, tmp_path, "--encoder", folder, "--batch_size", 4)
    found, expected = store.features["visual"], np.stack([vector(folder, drawn[one]) for one in IDS])
    assert found.shape == expected.shape and found.shape[:2] == (len(IDS), PICTURES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found[:, 0], axis=0).max() > 1e-3  # the pictures are told apart
    assert store.description.features["visual"].made["encoder"]["pooling"] == pooling


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIP_ENCODERS)
def test_a_clip_has_one_vector_of_the_frames_that_the_model_takes(tmp_path, name):
    make, vector, pooling = CLIP_ENCODERS[name]
    folder = make(tmp_path / "encoder")
    bare_store(tmp_path, ids=IDS)
    drawn = draw(tmp_path / "set/frames", number=FRAMES)
    store = call(visual_engineering, tmp_path, "--encoder", folder, "--batch_size", 2 * FRAMES + 1)
    found, expected = store.features["visual"], np.stack([vector(folder, drawn[one]) for one in IDS])
    assert found.shape == expected.shape and found.shape[:2] == (len(IDS), 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found[:, 0], axis=0).max() > 1e-3
    made = store.description.features["visual"].made["encoder"]
    assert made["pooling"] == pooling and made["frame_num"] == FRAMES


# ---- clips -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_clips_of_videos_short_and_broken_ones_and_those_that_arrive_later(tmp_path, load_script):
    encoder, videos = write_videomae(tmp_path / "encoder"), tmp_path / "videos"
    videos.mkdir()
    counts = {"v0": 11, "v1": 2, "v2": 7, "new0": 11, "new1": 9}
    for seed, (item_id, count) in enumerate(counts.items()):
        noise = np.random.default_rng(seed).integers(0, 256, (count, 40, 48, 3), dtype=np.uint8)
        write_clip(videos / f"{item_id}.mp4", noise)
    (videos / "v3.mp4").write_bytes(b"no video")
    importing = load_script("data/import_features.py")
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    table(tmp_path / "old.csv", [f"v{k}" for k in range(10)])  # as few as can be split; most have no video
    columns = ("--text_column", "title", "--count_column", "views")
    run_main(importing, *where, "--table", tmp_path / "old.csv", *columns)
    store = call(visual_engineering, tmp_path, "--encoder", encoder, "--videos", videos)
    assert store.items.item_id.tolist() == ["v0", "v1", "v2"] and store.features["visual"].shape[:2] == (3, 1)
    lines = (tmp_path / "set/captured.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["real"] for line in lines] == [4, 2, 4]
    table(tmp_path / "new.csv", ["new0", "new1"])
    append = ("--append", tmp_path / "new.csv", "--videos", videos)
    run_main(importing, *where, *append)
    store = type(store).open(store.folder)
    assert store.items.item_id.tolist() == ["v0", "v1", "v2", "new0", "new1"]
    for row, item_id in zip(store.features["visual"], store.items.item_id, strict=True):
        pictures = [Image.fromarray(image) for image in capture(videos / f"{item_id}.mp4", FRAMES).images]
        np.testing.assert_allclose(row, videomae(encoder, pictures), atol=1e-5)


def table(path: Path, ids: list[str]) -> None:
    rows = "".join(f"{item_id},a title,{7 + k}\n" for k, item_id in enumerate(ids))
    path.write_text(f"item_id,title,views\n{rows}", "utf-8")


def run_main(script, *flags) -> None:
    script.main(script.build_parser().parse_args([str(flag) for flag in flags]))


@torch.inference_mode()
@pytest.mark.parametrize("number", [1, 9])
def test_of_pictures_a_clip_is_made_as_of_a_video(tmp_path, capsys, number):
    """Of more than it takes those at the published positions; of fewer the last one again."""
    encoder = write_timesformer(tmp_path / "encoder")
    bare_store(tmp_path, ids=IDS)
    drawn = draw(tmp_path / "set/frames", number=number)
    store = call(visual_engineering, tmp_path, "--encoder", encoder, "--frame_num", FRAMES)
    taken = [0] * FRAMES if number == 1 else [0, 2, 5, 8]
    for row, item_id in zip(store.features["visual"], IDS, strict=True):
        np.testing.assert_allclose(row, timesformer(encoder, [drawn[item_id][k] for k in taken]), atol=1e-5)
    said = f"most items have 1 of the {FRAMES} pictures that the video encoder takes: the last one repeats"
    assert (said in capsys.readouterr().out) == (number == 1)
    with refused(f"--frame_num 7: the video encoder .* makes one vector of {FRAMES} frames; leave it out"):
        call(visual_engineering, tmp_path, "--encoder", encoder, "--frame_num", 7, "--overwrite")


# ---- texts and pictures by one model, captions, texts ------------------------------------------------------------


@torch.inference_mode()
def test_titles_and_frames_are_fused_by_siglip(tmp_path):
    encoder = write_siglip(tmp_path / "encoder")
    bare_store(tmp_path, ids=IDS, titles=TEXTS[1:])
    drawn = draw(tmp_path / "set/frames")
    store = call(retrieval_engineering, tmp_path, "--source", "fused", "--encoder", encoder)
    model = loaded("SiglipModel", encoder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    for row, item_id, text in zip(store.features["retrieval"], IDS, TEXTS[1:], strict=False):
        tokens = tokenizer(text, padding="max_length", max_length=16, return_tensors="pt")["input_ids"]
        both = model(input_ids=tokens, pixel_values=processed(encoder, drawn[item_id]))
        frames = torch.nn.functional.normalize(both.image_embeds.mean(dim=0), dim=0)
        expected = frames + both.text_embeds[0]  # both of length 1
        np.testing.assert_allclose(row, expected, atol=1e-5)


@pytest.mark.slow
@torch.inference_mode()
def test_the_published_captioner(tmp_path, blip):
    bare_store(tmp_path, ids=IDS)
    drawn = draw(tmp_path / "set/frames")
    call(captioning, tmp_path, "--encoder", blip)
    model = loaded("BlipForConditionalGeneration", blip)
    tokens = model.generate(pixel_values=processed(blip, drawn["b"]), max_new_tokens=20, do_sample=False)
    texts = transformers.AutoTokenizer.from_pretrained(blip).batch_decode(tokens, skip_special_tokens=True)
    assert read_captions(tmp_path / "set/captions.jsonl")["b"] == [text.strip() for text in texts]


def angle(model, tokens) -> torch.Tensor:
    states = model(**tokens).last_hidden_state
    return (states[:, 0] + states.mean(dim=1)) / 2


def first(model, tokens) -> torch.Tensor:
    return model(**tokens).last_hidden_state[:, 0]


PUBLISHED_TEXTS = {  # name -> script, flags, prompt, vector
    "WhereIsAI/angle-bert-base-uncased-nli-en-v1": (textual_engineering, (), "{}", angle),
    "WhereIsAI/UAE-Large-V1": (
        retrieval_engineering,
        ("--source", "text", "--max_length", 12),
        "Represent this sentence for searching relevant passages: {}",
        first,
    ),
}


@pytest.mark.slow  # as what their folders say has tests elsewhere
@torch.inference_mode()
@pytest.mark.parametrize("name", PUBLISHED_TEXTS)
def test_the_published_encoders_of_texts(tmp_path, bert, name):
    script, flags, prompt, vector = PUBLISHED_TEXTS[name]
    folder = shutil.copytree(bert, tmp_path / name.rpartition("/")[2])
    bare_store(tmp_path)
    store = call(script, tmp_path, "--encoder", folder, *flags)
    model, tokenizer = loaded("BertModel", bert), transformers.AutoTokenizer.from_pretrained(bert)
    for row, text in zip(next(iter(store.features.values())), TEXTS, strict=True):
        tokens = tokenizer(prompt.format(text), truncation=True, max_length=12, return_tensors="pt")
        np.testing.assert_allclose(row, vector(model, tokens)[0], atol=1e-5)


def write_qwen3(folder: Path) -> Path:
    size = write_words(folder, ("<pad>",), pad_token="<pad>")
    torch.manual_seed(0)
    config = transformers.Qwen3Config(vocab_size=size, num_key_value_heads=1, head_dim=8, **SMALL)
    transformers.Qwen3Model(config).save_pretrained(folder)
    return folder


SENTENCE_ENCODERS = {  # name -> how its folder pools; each of them brings vectors to length 1
    "sentence-transformers/all-MiniLM-L6-v2": ("bert", "mean_tokens"),
    "intfloat/multilingual-e5-small": ("bert", "mean_tokens"),
    "Qwen/Qwen3-Embedding-0.6B": (write_qwen3, "lasttoken"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SENTENCE_ENCODERS)
def test_encoders_of_texts_are_used_as_their_folders_say(tmp_path, request, name):
    make, pooling = SENTENCE_ENCODERS[name]
    of = request.getfixturevalue(make) if isinstance(make, str) else make(tmp_path / "plain")
    folder = write_sentences(tmp_path / name.rpartition("/")[2], of, pooling, normalise=True)
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", folder)
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS))
    np.testing.assert_allclose(store.features["textual"], expected, atol=1e-5)


# ---- what is refused ---------------------------------------------------------------------------------------------


def changed(write: Callable[[Path], Path], file: str = "config.json", **values) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder) / file
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")
        return folder

    return make


OWN = {"AutoModel": "own.Own", "AutoConfig": "own.OwnConfig", "AutoImageProcessor": "own.OwnProcessor"}
PROCESSOR = "preprocessor_config.json"
REFUSED = {
    "code": (changed(write_dinov2, model_type="own", auto_map=OWN), "needs code that came with it (trust_remote_code)"),
    "code of a processor": (
        changed(write_dinov2, PROCESSOR, image_processor_type="OwnProcessor", auto_map=OWN),
        "needs code that came with it (trust_remote_code), which is never executed",
    ),
    "naflex": (write_naflex, "cannot encode a picture (its processor makes 16 x 192 values of one"),
    "timm": (changed(write_dinov2, model_type="timm_wrapper"), "requires the timm library"),
    "no frames": (changed(write_videomae, num_frames=0), "its configuration asks for 0 frames"),
    "many frames": (changed(write_vjepa2, frames_per_clip=10**9), "its configuration asks for 1000000000 frames"),
    "text for a number": (changed(write_vjepa2, frames_per_clip="x"), "transformers cannot load it"),
    "another size": (
        changed(write_videomae, PROCESSOR, crop_size={"height": 40, "width": 40}),
        "its processor makes pictures of 40 x 40 pixels, its model takes 32 x 32",
    ),
    "no size": (changed(write_dinov3, PROCESSOR, size=None), "does not say its size"),
    "half a mean": (changed(write_dinov3, PROCESSOR, image_mean=[0.5]), "cannot encode a picture (mean must have 3"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_used_is_refused_in_a_sentence_and_runs_no_code(tmp_path, why):
    make, message = REFUSED[why]
    folder = make(tmp_path / "encoder")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    bare_store(tmp_path, ids=IDS)
    draw(tmp_path / "set/frames", number=1)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        call(visual_engineering, tmp_path, "--encoder", folder)
    assert "\n" not in str(error.value) and str(error.value).startswith("--encoder encoder: ")
    assert not (tmp_path / "ran").exists() and not list((tmp_path / "set").glob("visual*"))


def test_a_video_encoder_embeds_no_frame_alone(tmp_path):
    bare_store(tmp_path, ids=IDS)
    draw(tmp_path / "set/frames", number=FRAMES)
    for make in (write_xclip, write_videomae):
        folder = make(tmp_path / make.__name__)
        with refused("--source frames takes CLIP or its kin|cannot encode a picture"):
            call(retrieval_engineering, tmp_path, "--source", "frames", "--encoder", folder)


# ---- the list ----------------------------------------------------------------------------------------------------


# What test_sound.py compares with transformers' own calls in tiny form.
OF_SOUND = (
    "laion/clap-htsat-unfused",
    "MIT/ast-finetuned-audioset-10-10-0.4593",
    "facebook/hubert-base-ls960",
    "openai/whisper-base",
)
# And test_captioning.py.
ASKED = ("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "Qwen/Qwen3-VL-2B-Instruct")


def named_in(page: str) -> list[str]:
    """The encoders of the hub that the lines of a page's tables name."""
    lines = [line for line in (ROOT / page).read_text("utf-8").splitlines() if line.startswith("|")]
    return [name for line in lines for name in re.findall(r"`([\w.-]+/[\w.-]+)`", line) if not name.endswith(".py")]


def test_what_the_pages_list_is_what_is_tested_here_and_measured():
    tested = {*PICTURE_ENCODERS, *CLIP_ENCODERS, *PUBLISHED_TEXTS, *SENTENCE_ENCODERS}
    tested |= {"Salesforce/blip-image-captioning-base", *OF_SOUND, *ASKED}
    listed = named_in("docs/encoders.md")
    assert len(listed) == len(set(listed)) and set(listed) == tested
    assert [one.name for one in benchmark.ENCODERS] == listed
    assert set(named_in("README.md")) <= tested and len(named_in("README.md")) > 8


@pytest.mark.slow
def test_what_is_measured_has_the_real_size():
    """Millions of weights, as publishers count them; of MobileViT without its classifier, of BLIP shared ones once."""
    millions = {"vit-base": 86, "clip-vit-large": 428, "siglip2": 375, "dinov2-base": 87, "dinov3-vitb16": 86}
    millions |= {"convnext-tiny": 28, "mobilevit": 4.9, "videomae": 86, "timesformer": 121, "xclip": 196}
    millions |= {
        "vjepa2": 326,
        "blip": 224,
        "angle": 109,
        "MiniLM": 22.7,
        "e5-small": 118,
        "Qwen3-Emb": 596,
        "UAE": 335,
    }
    millions |= {"clap": 154, "MIT/ast": 86, "hubert": 94.4, "whisper-base": 72.6}
    millions |= {"SmolVLM2": 256.5, "Qwen3-VL": 2128}
    for one in benchmark.ENCODERS:
        with torch.device("meta"):
            size = sum(weights.numel() for weights in one.model().parameters()) / 1e6
        (expected,) = (value for name, value in millions.items() if name in one.name)
        assert abs(size / expected - 1) < 0.02, one.name


@pytest.mark.slow
def test_the_benchmark_prints_lines_of_the_table(run):
    names = ["apple/mobilevit-small", "sentence-transformers/all-MiniLM-L6-v2"]
    done = run("-m", "benchmarks.encoders", "--seconds", 0, "--batch_size", 1, "--encoder", *names)
    lines = [line for line in done.stdout.splitlines() if line.startswith("| `")]
    assert done.returncode == 0 and [re.match(r"\| `(.+?)`", line)[1] for line in lines] == names, done.stderr
    assert all(re.search(r"\| [\d.]+ (s|min|h) \|$", line) for line in lines)
