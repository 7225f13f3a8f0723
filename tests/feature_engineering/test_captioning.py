"""Captions by multimodal language models: tiny random ones of several architectures, against transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from bare import bare_store, call, write_clip
from PIL import Image
from test_resumption import Killed
from test_texts import draw
from tiny import refused
from tiny_encoders import SMALL, WIDTH, write

from common.console import InputError
from dataloader.store import FeatureStore
from feature_engineering import captioning, retrieval_engineering
from feature_engineering.decoding import pixels
from feature_engineering.encoding import captioner
from feature_engineering.encoding.asking import Asked, Drawn
from feature_engineering.encoding.captioner import captioner_of
from feature_engineering.encoding.captions import captioned_by, read_captions
from feature_engineering.jobs import likewise
from feature_engineering.jobs.progress import Progress
from feature_engineering.settings import CaptionSettings, EncoderSettings

IDS = ("a", "b", "c")
WORDS = [
    "a",
    "the",
    "red",
    "blue",
    "ball",
    "dog",
    "man",
    "runs",
    "plays",
    "what",
    "is",
    "seen",
    "?",
    "user",
    "assistant",
    ":",
]
ASKS = "what is seen ?"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}PICTURE{% else %} {{ c['text'] }}{% endif %}"
    "{% endfor %} {% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)
VISION = {"image_size": 32, "patch_size": 8, "initializer_range": 0.5, **SMALL}


def tokenizer_of(special: list[str], **kinds: str) -> tuple[transformers.PreTrainedTokenizerFast, dict]:
    """Of whole words; and what the model of text is to be."""
    words = ["<unk>", "<pad>", "<eos>", *special, *WORDS]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(words[1 : 3 + len(special)])
    named = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<eos>"}
    text = {"vocab_size": len(words), "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": None, **SMALL}
    text |= {"num_key_value_heads": 1, "initializer_range": 0.5, "max_position_embeddings": 512}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named, **kinds), text


def write_qwen(folder: Path, kind: str, patches: dict) -> Path:
    """Its files as the hub has them; its generation_config.json wants words to be drawn."""
    marks = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video|>"]
    tokenizer, text = tokenizer_of(marks)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "depth": 2, "num_heads": 2, "out_hidden_size": WIDTH}
    patches = {"patch_size": 4, "initializer_range": 0.5} | patches
    numbers = {"vision_start_token_id": 3, "image_token_id": 4, "vision_end_token_id": 5, "video_token_id": 6}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        text_config=text | {"rope_parameters": rope, "head_dim": WIDTH // text["num_attention_heads"]},
        vision_config=sizes | patches,
        **numbers,
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    model.generation_config.update(do_sample=True, temperature=9.0, top_p=0.9, repetition_penalty=1.05)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 1024}
    processor = transformers.Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    write(folder / "preprocessor_config.json", processor.to_dict() | {"processor_class": f"{kind}Processor"})
    write(folder / "chat_template.json", {"chat_template": TEMPLATE.replace("PICTURE", "".join(marks[:3]))})
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory) -> Path:
    """Like Qwen2.5-VL."""
    return write_qwen(tmp_path_factory.mktemp("qwen"), "Qwen2_5_VL", {"window_size": 16, "fullatt_block_indexes": [1]})


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory) -> Path:
    """Like Qwen3-VL."""
    places = {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    return write_qwen(tmp_path_factory.mktemp("qwen3"), "Qwen3VL", places)


@pytest.fixture(scope="session")
def smol(tmp_path_factory) -> Path:
    """Like SmolVLM2, whose processor would also read videos."""
    folder = tmp_path_factory.mktemp("smol")
    tokenizer, text = tokenizer_of(["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"])
    torch.manual_seed(0)
    # Its model takes the side of a patch for the number of tokens of a picture, of which that is a divisor here too.
    config = transformers.SmolVLMConfig(
        image_token_id=4,
        scale_factor=4,
        text_config=text | {"model_type": "llama"},
        vision_config=VISION | {"patch_size": 4},
    )
    transformers.SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edge = {"longest_edge": 32}
    pictures = transformers.SmolVLMImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    write(folder / "preprocessor_config.json", pictures.to_dict() | {"processor_class": "SmolVLMProcessor"})
    write(folder / "processor_config.json", {"image_seq_len": 4, "processor_class": "SmolVLMProcessor"})
    write(folder / "chat_template.json", {"chat_template": TEMPLATE.replace("PICTURE", "<image>")})
    return folder


@pytest.fixture(scope="session")
def idefics(tmp_path_factory) -> Path:
    """Like Idefics 3 and the first SmolVLM."""
    folder = tmp_path_factory.mktemp("idefics")
    tokenizer, text = tokenizer_of(["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"])
    torch.manual_seed(0)
    config = transformers.Idefics3Config(
        image_token_id=4, scale_factor=2, text_config=text | {"model_type": "llama"}, vision_config=VISION
    )
    transformers.Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    edge = {"longest_edge": 32}
    pictures = transformers.Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    template = TEMPLATE.replace("PICTURE", "<image>")
    transformers.Idefics3Processor(pictures, tokenizer, 4, chat_template=template).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def internvl(tmp_path_factory) -> Path:
    """Like InternVL 3, whose tokenizer says which of its tokens stand for a picture."""
    folder, marks = tmp_path_factory.mktemp("internvl"), ["<img>", "<IMG_CONTEXT>", "</img>", "<video>"]
    names = ("start_image_token", "context_image_token", "end_image_token", "video_token")
    tokenizer, text = tokenizer_of(marks, extra_special_tokens=dict(zip(names, marks, strict=True)))
    torch.manual_seed(0)
    config = transformers.InternVLConfig(
        image_token_id=4,
        image_seq_length=4,
        text_config=text | {"model_type": "qwen2"},
        vision_config=VISION | {"use_mean_pooling": False},
    )
    transformers.InternVLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    pictures = transformers.GotOcr2ImageProcessorPil(size=size, crop_to_patches=False).to_dict()
    write(folder / "preprocessor_config.json", pictures | {"processor_class": "InternVLProcessor"})
    write(folder / "processor_config.json", {"image_seq_length": 4, "processor_class": "InternVLProcessor"})
    write(folder / "chat_template.json", {"chat_template": TEMPLATE.replace("PICTURE", "<IMG_CONTEXT>")})
    return folder


@pytest.fixture(scope="session")
def llava(tmp_path_factory) -> Path:
    """Reads 64 tokens, of which a picture takes 16."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer, text = tokenizer_of(["<image>", "<think>", "</think>"])
    text |= {"model_type": "llama", "max_position_embeddings": 64}
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        image_token_index=3, text_config=text, vision_config=VISION | {"model_type": "clip_vision_model"}
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    how = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    template = TEMPLATE.replace("PICTURE", "<image>")
    transformers.LlavaProcessor(pictures, tokenizer, chat_template=template, **how).save_pretrained(folder)
    return folder


@torch.inference_mode()
def expected_of_qwen(folder: Path, pictures: list[Image.Image]) -> str:
    """One request, its tokens written down by hand: its processor of pictures and text would want torchvision."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = transformers.Qwen2VLImageProcessorPil.from_pretrained(folder)(images=pictures, return_tensors="pt")
    pads = ["<|image_pad|>" * int(grid.prod() // 4) for grid in pixels["image_grid_thw"]]
    marks = "".join(f"<|vision_start|>{pad}<|vision_end|>" for pad in pads)
    tokens = tokenizer(f"user : {marks} {ASKS} assistant :", return_tensors="pt")
    kinds = (tokens["input_ids"] == 4).int()
    new = model.generate(**tokens, **pixels, mm_token_type_ids=kinds, do_sample=False, max_new_tokens=8)
    return tokenizer.decode(new[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@torch.inference_mode()
def expected_of_idefics(folder: Path, pictures: list[Image.Image]) -> str:
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder, backend="pil")
    content = [*({"type": "image", "image": one} for one in pictures), {"type": "text", "text": ASKS}]
    how = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = processor.apply_chat_template([{"role": "user", "content": content}], **how)
    new = model.generate(**inputs, do_sample=False, max_new_tokens=8)
    return processor.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@torch.inference_mode()
def expected_of_internvl(folder: Path, pictures: list[Image.Image]) -> str:
    """Of each picture the whole one alone or, where it is cut up, its parts and the whole one; four tokens each."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.GotOcr2ImageProcessorPil.from_pretrained(folder)
    pixels = processor(images=pictures, crop_to_patches=True, return_tensors="pt")
    marks = "".join(f"<img>{'<IMG_CONTEXT>' * 4 * int(parts)}</img>" for parts in pixels.pop("num_patches"))
    tokens = tokenizer(f"user : {marks} {ASKS} assistant :", return_tensors="pt")
    new = model.generate(**tokens, **pixels, do_sample=False, max_new_tokens=8)
    return tokenizer.decode(new[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@torch.inference_mode()
def expected_of_smol(folder: Path, pictures: list[Image.Image]) -> str:
    """Of four tokens for each picture, written down by hand."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = transformers.SmolVLMImageProcessorPil.from_pretrained(folder)(images=[pictures], return_tensors="pt")
    around = "<fake_token_around_image>"
    marks = f"{around}<global-img>{'<image>' * 4}{around}" * len(pictures)
    tokens = tokenizer(f"user : {marks} {ASKS} assistant :", return_tensors="pt")
    new = model.generate(**tokens, **pixels, do_sample=False, max_new_tokens=8)
    return tokenizer.decode(new[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def ask(folder: Path, frame_num: int = 2, batch_size: int = 32, **captions) -> Asked:
    captions = {"prompt": ASKS, "max_new_tokens": 8} | captions
    encoder = EncoderSettings(encoder=str(folder), batch_size=batch_size, device="cpu")
    return captioner_of(encoder, CaptionSettings(**captions), frame_num)


def some_pictures(number: int) -> np.ndarray:
    """(number,) of different sizes"""
    rng, pictures = np.random.default_rng(0), np.empty(number, object)
    for i in range(number):
        pictures[i] = rng.integers(0, 256, (40, 30 + 7 * (i % 3), 3), dtype=np.uint8)
    return pictures


@pytest.fixture
def altered(tmp_path, llava):
    """altered(name, content): a copy of llava's folder in which a file has this content, or is missing."""

    def alter(name: str, content: str | None) -> Path:
        folder = tmp_path / "llava"
        folder.mkdir(exist_ok=True)
        for path in llava.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        return folder

    return alter


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("qwen", expected_of_qwen),
        ("qwen3", expected_of_qwen),
        ("idefics", expected_of_idefics),
        ("smol", expected_of_smol),
        ("internvl", expected_of_internvl),
    ],
)
def test_a_caption_is_what_the_model_says_of_all_frames_of_a_video(model, expected, tmp_path, request):
    encoder = request.getfixturevalue(model)
    store = bare_store(tmp_path, (*IDS, "without"))
    folder = draw(tmp_path, IDS, 2)
    with Image.open(folder / "b_0.png") as image:  # frames of one item may differ in size, and so may items
        image.resize((30, 70)).save(folder / "b_0.png")
    asked = ("--encoder", encoder, "--prompt", ASKS, "--max_new_tokens", 8, "--workers", 1)
    call(captioning, tmp_path, *asked, "--batch_size", 4)  # two videos at once
    captions = read_captions(store.folder / "captions.jsonl")
    assert list(captions) == list(IDS)
    for item_id in IDS:
        pictures = [Image.open(folder / f"{item_id}_{k}.png").convert("RGB") for k in range(2)]
        assert captions[item_id] == [expected(encoder, pictures)]
    assert len({texts[0] for texts in captions.values()}) == 3  # they do depend on the pictures
    said = captioned_by(store.folder / "captions.jsonl")
    assert {name: said[name] for name in ("prompt", "temperature", "seed", "frames_per_request", "frame_num")} == {
        "prompt": ASKS,
        "temperature": 0.0,
        "seed": None,
        "frames_per_request": 2,
        "frame_num": 2,
    }
    assert "no picture of it" in (store.folder / "skipped.csv").read_text()


def test_what_is_drawn_depends_on_the_seed_and_the_video_alone(idefics):
    pictures, names = some_pictures(10), [f"v{i}" for i in range(5)]

    def texts(batch: int, seed: int, names: list[str]) -> list[str]:
        model = ask(idefics, batch_size=2 * batch, temperature=1.5, seed=seed)
        each = [(pictures[2 * i :][: 2 * batch], names[i:][:batch]) for i in range(0, 5, batch)]
        return [text for batch in each for text in model(*batch)]

    drawn = texts(5, 7, names)
    assert drawn == texts(1, 7, names) == texts(2, 7, names)
    assert drawn != texts(5, 8, names)
    other = texts(5, 7, [*names[:3], "x", names[4]])
    assert [a == b for a, b in zip(drawn, other, strict=True)] == [True, True, True, False, True]


def test_frames_are_made_no_larger_than_is_said():
    for size, expected in (((4000, 2000), (1097, 548)), ((1080, 1920), (581, 1034)), ((30, 40), (30, 40))):
        assert pixels.within(Image.new("L", size), pixels.LARGEST).size == expected


def test_words_are_drawn_by_their_probability():
    scores, temperature = torch.tensor([[2.0, 1.0, 0.0, -float("inf"), 3.0]]), 0.8
    draw = Drawn(temperature, 3, ["a video"])
    counts = np.bincount([int(draw(None, scores).argmax()) for _ in range(4000)], minlength=5)
    expected = torch.softmax(scores[0] / temperature, 0).numpy()
    assert np.abs(counts / 4000 - expected).max() < 4 * 0.5 / 4000**0.5 and counts[3] == 0


def test_what_a_model_cannot_read_at_once_is_asked_of_each_frame(llava, capsys):
    both, alone = ask(llava, 2), ask(llava, 4)
    assert (both.frames_per_request, alone.frames_per_request) == (2, 1)
    assert "does not take 4 frames at once (72 tokens and 8 new ones, of 64 at most)" in capsys.readouterr().out
    pictures = some_pictures(4)
    assert alone(pictures, list("wxyz")) == [ask(llava, 1)(one, "v")[0] for one in np.split(pictures, 4)]


@pytest.mark.parametrize(
    ("opens", "said", "caption"),
    [
        ("", "<think> a dog ? </think> the  red ball <eos> <pad>", "the red ball"),
        ("", "the dog runs <eos>", "the dog runs"),
        ("", "<think> a dog ?", ""),
        ("", "<eos> <pad>", ""),
        (" <think>", "a dog ? </think> the dog", "the dog"),
        (" <think>", "a dog ?", ""),
        ("{% if enable_thinking is not defined %} <think>{% endif %}", "a dog", "a dog"),
    ],
)
def test_an_answer_is_what_follows_the_thoughts(altered, monkeypatch, opens, said, caption):
    model = ask(altered("chat_template.jinja", TEMPLATE.replace("PICTURE", "<image>").replace("t :", f"t :{opens}")))
    tokens = model._tokenizer(said, return_tensors="pt")["input_ids"]
    monkeypatch.setattr(model, "_generate", lambda *_: tokens)
    assert model(some_pictures(2), ["v"]) == [caption]


def test_what_cannot_caption_is_refused_before_a_video_is_decoded(altered, vit, blip, llava, tmp_path):
    with refused("a model of the type vit, which captions no pictures; take BLIP or an image-text-to-text model"):
        ask(vit)
    code = json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}})
    with refused("llava: needs code that came with it .*never executed"):
        ask(altered("config.json", code))
    with refused("llava: has no chat template, so nothing can be asked of it"):
        ask(altered("chat_template.jinja", None))
    with refused(r"llava: cannot caption a picture \(its chat template has no place for 1 picture\)"):
        ask(altered("chat_template.jinja", TEMPLATE.replace("PICTURE", "")))
    with refused("llava: cannot caption a picture"):
        ask(altered("chat_template.jinja", TEMPLATE.replace("PICTURE", "<other>")))
    with refused(r"llava: has no processor of pictures and text that transformers knows \(OwnProcessor\)"):
        ask(altered("processor_config.json", '{"processor_class": "OwnProcessor"}'))
    with refused("llava: transformers cannot load it"):
        ask(altered("processor_config.json", None))
    with refused("--prompt does nothing with BLIP"):
        ask(blip)
    with refused("--temperature does nothing with BLIP"):
        ask(blip, prompt=None, temperature=1.0)
    with refused("--seed does nothing at --temperature 0"):
        ask(llava, seed=1)
    with refused("--prompt ' ': asks nothing"):
        ask(llava, prompt=" ")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_file_and_what_is_refused_is_listed(qwen, tmp_path, monkeypatch):
    ids = tuple(f"v{i}" for i in range(6))
    store = bare_store(tmp_path, ids)
    folder, path = draw(tmp_path, ids, 2), store.folder / "captions.jsonl"
    Image.new("RGB", (4, 900)).save(folder / "v3_1.png")
    asked = ("--encoder", qwen, "--max_new_tokens", 6, "--temperature", 1.0, "--seed", 2, "--workers", 1)
    monkeypatch.setattr(captioner, "SHARD_ITEMS", 2)
    commit = Progress.commit

    def killed_at(shard: int):
        def commit_or_die(self, number, *args, **notes):
            if number == shard:
                raise Killed
            commit(self, number, *args, **notes)

        monkeypatch.setattr(Progress, "commit", commit_or_die)

    killed_at(1)
    with pytest.raises(Killed):
        call(captioning, tmp_path, *asked, "--prompt", ASKS)
    with pytest.raises(InputError, match="unfinished work of another command .prompt what is seen"):
        call(captioning, tmp_path, *asked, "--prompt", "the dog ?")
    killed_at(-1)
    with pytest.raises(InputError, match="item v3: the captioner's processor refuses it .absolute aspect ratio"):
        call(captioning, tmp_path, *asked, "--prompt", ASKS, "--on_error", "fail")
    call(captioning, tmp_path, *asked, "--prompt", ASKS)
    first = path.read_bytes()
    assert list(read_captions(path)) == ["v0", "v1", "v2", "v4", "v5"]
    assert """v3,captions,"the captioner's processor refuses it""" in (store.folder / "skipped.csv").read_text()
    monkeypatch.setattr(captioner, "SHARD_ITEMS", 32)
    for number in (1, 32):  # undisturbed, and other videos beside each
        call(captioning, tmp_path, *asked, "--prompt", ASKS, "--overwrite", "--batch_size", number)
        assert path.read_bytes() == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "how"), [("idefics", ("--prompt", ASKS, "--temperature", 1.2, "--seed", 5)), ("blip", ())]
)
def test_new_videos_are_captioned_as_those_of_the_data_set(
    model, how, bert, tmp_path, load_script, request, monkeypatch
):
    old, new = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], ["k", "l"]
    rng = np.random.default_rng(0)
    (tmp_path / "videos").mkdir()
    for item_id in (*old, *new):
        write_clip(tmp_path / f"videos/{item_id}.mp4", rng.integers(0, 256, (4, 32, 48, 3), dtype=np.uint8))

    def table(name: str, ids: list[str]) -> Path:
        path = tmp_path / f"{name}.csv"
        path.write_text(
            "item_id,title,views\n" + "".join(f"{item_id},a red ball,{9 + i}\n" for i, item_id in enumerate(ids))
        )
        return path

    importing = load_script("data/import_features.py")
    columns, videos = ("--text_column", "title", "--count_column", "views"), ("--videos", tmp_path / "videos")
    asked = ("--encoder", request.getfixturevalue(model), "--max_new_tokens", 6, *how)
    path = tmp_path / "set/captions.jsonl"

    def make(ids: list[str], *flags) -> None:
        call(importing, tmp_path, "--table", table("table", ids), *columns, *flags)
        call(captioning, tmp_path, *asked, *videos, "--frame_num", 2, "--workers", 1)
        call(retrieval_engineering, tmp_path, "--encoder", bert)

    make([*old, *new])
    together, vectors = path.read_text().splitlines(), np.array(FeatureStore.open(path.parent).features["retrieval"])
    make(old, "--overwrite")
    assert path.read_text().splitlines() == together[:11]
    append = ("--append", table("more", new), *videos, "--workers", 1)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(likewise, "from_sources", Mock(side_effect=Killed))
        call(importing, tmp_path, *append)
    path.write_text("\n".join([together[0].replace('"max_new_tokens": 6', '"max_new_tokens": 7'), *together[1:11], ""]))
    with pytest.raises(InputError, match="unfinished work of another --append .*made of another like"):
        call(importing, tmp_path, *append)
    path.write_text("\n".join([*together[:11], ""]))
    call(importing, tmp_path, *append)
    assert path.read_text().splitlines() == together
    np.testing.assert_allclose(FeatureStore.open(path.parent).features["retrieval"], vectors, atol=1e-6)
