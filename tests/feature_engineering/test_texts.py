"""Texts -> textual features and retrieval vectors; captions: with tiny random encoders, against transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from bare import TEXTS, bare_store, call
from PIL import Image
from tiny import refused

import retriever
from common.console import InputError
from dataloader.store import FeatureStore
from feature_engineering import captioning, retrieval_engineering, textual_engineering
from feature_engineering.encoding.captions import read_captions
from feature_engineering.encoding.lexical import Lexical
from feature_engineering.encoding.pooling import pool
from feature_engineering.jobs import progress

IDS = ("a", "b", "c", "d", "e", "f")


@torch.inference_mode()
def expected_text(folder: Path, text: str, pooling: str) -> np.ndarray:
    """One text at a time, so without padding."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    states = transformers.BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].numpy()
    return {"mean": states.mean(0), "cls": states[0], "cls_avg": 0.5 * states[0] + 0.5 * states.mean(0)}[pooling]


@pytest.mark.parametrize("pooling", ["mean", "cls", "cls_avg"])
def test_text_poolings(tmp_path, bert, pooling):
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--pooling", pooling, "--batch_size", 4)
    expected = np.stack([expected_text(bert, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(store.features["textual"], expected, atol=2e-6)
    assert store.description.features["textual"].made["encoder"]["pooling"] == pooling
    assert "retrieval" not in store.features


def test_equal_texts_get_equal_vectors_and_both_outputs_are_the_same(tmp_path, bert):
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--output", "both", "--batch_size", 2)
    assert np.array_equal(store.features["textual"][0], store.features["textual"][1])
    assert np.array_equal(store.features["textual"], store.features["retrieval"])


def test_prompt_is_what_is_encoded(tmp_path, bert):
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--prompt", "query : {text}")
    np.testing.assert_allclose(store.features["textual"][3], expected_text(bert, "query : dog", "mean"), atol=2e-6)
    with pytest.raises(InputError, match="no {text}"):
        call(textual_engineering, tmp_path, "--encoder", bert, "--prompt", "query:", "--overwrite")


def test_long_texts_are_cut_to_what_the_encoder_takes_and_counted(tmp_path, bert, capsys):
    bare_store(tmp_path)
    prompt = " ".join(["dog"] * 30) + " {text}"
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--prompt", prompt)
    # 30 words, the text's own five at most, and the two special tokens
    assert "5 of 5 different texts are longer than 12 tokens (the longest: 37) and were cut" in capsys.readouterr().out
    np.testing.assert_allclose(
        store.features["textual"], np.repeat(store.features["textual"][:1], len(store), axis=0), atol=1e-6
    )


def test_existing_features_are_not_replaced_unasked(tmp_path, bert):
    bare_store(tmp_path)
    call(textual_engineering, tmp_path, "--encoder", bert)
    with pytest.raises(InputError, match="--overwrite"):
        call(textual_engineering, tmp_path, "--encoder", bert, "--pooling", "cls")
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--overwrite", "--normalise", "l2")
    np.testing.assert_allclose(np.linalg.norm(store.features["textual"], axis=1), 1, atol=1e-6)


@torch.inference_mode()
def test_clip_gives_its_projected_text_embedding(tmp_path, clip):
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", clip)
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(clip)(TEXTS[2], return_tensors="pt")
    states = model.text_model(**tokens).last_hidden_state[0]  # the last token is the end of the text
    expected = model.text_projection(states[-1])
    np.testing.assert_allclose(store.features["textual"][2], expected, atol=2e-6)
    assert store.description.features["textual"].made["encoder"]["pooling"] == "projected"


def test_clip_takes_77_tokens_or_whatever_it_has_positions_for(tmp_path, clip, capsys):
    bare_store(tmp_path)
    flags = ("--encoder", clip, "--prompt", "a red ball " * 20 + "{text}")
    store = call(textual_engineering, tmp_path, *flags)
    assert "are longer than 32 tokens" in capsys.readouterr().out
    assert store.description.features["textual"].made["encoder"]["max_length"] == 32


def test_published_encoders_get_their_own_pooling_and_prompt(tmp_path, bert):
    for name, pooling in (("angle-bert-base-uncased-nli-en-v1", "cls_avg"), ("UAE-Large-V1", "cls"), ("other", "mean")):
        bare_store(tmp_path)
        folder = tmp_path / name
        folder.symlink_to(bert, target_is_directory=True)
        (tmp_path / "models" / name).mkdir(parents=True)
        for file in bert.iterdir():
            (tmp_path / "models" / name / file.name).write_bytes(file.read_bytes())
        store = call(textual_engineering, tmp_path, "--encoder", tmp_path / "models" / name)
        assert store.description.features["textual"].made["encoder"]["pooling"] == pooling
        store = call(retrieval_engineering, tmp_path, "--encoder", tmp_path / "models" / name, "--source", "text")
        prompt = store.description.features["retrieval"].made["encoder"]["prompt"]
        assert prompt.startswith("Represent this sentence") == (name == "UAE-Large-V1")


def test_a_killed_job_goes_on_to_the_same_bits(tmp_path, bert, monkeypatch):
    ids = [f"v{i}" for i in range(6)]
    flags = ("--encoder", bert, "--batch_size", 1)
    monkeypatch.setattr("feature_engineering.encoding.texts.SHARD_BATCHES", 2)
    bare_store(tmp_path, ids)
    whole = np.array(call(textual_engineering, tmp_path, *flags).features["textual"])
    bare_store(tmp_path, ids)
    commit, done = progress.Progress.commit, []

    def killed(self, *shard, **notes):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(shard[0])
        commit(self, *shard, **notes)

    monkeypatch.setattr(progress.Progress, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        call(textual_engineering, tmp_path, *flags)
    assert (tmp_path / "set/textual.progress/done.jsonl").exists()
    monkeypatch.setattr(progress.Progress, "commit", lambda self, *s, **n: (done.append(s[0]), commit(self, *s, **n)))
    with pytest.raises(InputError, match=r"unfinished work of another command \(pooling mean, now cls\); --overwrite"):
        call(textual_engineering, tmp_path, *flags, "--pooling", "cls")
    store = call(textual_engineering, tmp_path, *flags)
    assert done == [0, 1, 2]  # five different texts, two a shard; the first was not done again
    assert store.features["textual"].tobytes() == whole.tobytes()
    assert not (tmp_path / "set/textual.progress").exists()


# ---- where encoders come from ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_that_is_not_there_offline_is_named_with_what_to_download(tmp_path, run):
    import os

    bare_store(tmp_path)
    where = ("--dataset_path", tmp_path, "--dataset_id", "set")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    result = run("feature_engineering/textual_engineering.py", *where, "--encoder", "owner/name@abc", env=environment)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert "hf download owner/name --revision abc" in result.stderr


def test_weights_that_would_run_code_are_not_loaded(tmp_path, bert):
    class Malicious:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    folder = tmp_path / "evil"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((bert / name).read_bytes())
    torch.save({"weight": Malicious()}, folder / "pytorch_model.bin")
    bare_store(tmp_path)
    with pytest.raises(InputError, match="--encoder evil: "):
        call(textual_engineering, tmp_path, "--encoder", folder)
    assert not (tmp_path / "ran").exists()


def test_code_beside_the_weights_is_not_trusted(tmp_path, bert):
    folder = tmp_path / "remote"
    folder.mkdir()
    for file in bert.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModel": "own.Own", "AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    bare_store(tmp_path)
    with pytest.raises(InputError, match="--encoder remote: needs code that came with it .trust_remote_code."):
        call(textual_engineering, tmp_path, "--encoder", folder)
    assert not (tmp_path / "ran").exists()


def test_bfloat16_is_close_and_recorded(tmp_path, bert):
    bare_store(tmp_path)
    exact = np.array(call(textual_engineering, tmp_path, "--encoder", bert).features["textual"])
    store = call(textual_engineering, tmp_path, "--encoder", bert, "--precision", "bf16", "--overwrite")
    assert store.description.features["textual"].made["encoder"]["dtype"] == "bfloat16"
    assert 0 < np.abs(store.features["textual"] - exact).max() < 0.1


# ---- captions and retrieval vectors -------------------------------------------------------------------------------


def draw(tmp_path: Path, ids, frame_num: int) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "set/frames"
    folder.mkdir()
    for item_id in ids:
        for k in range(frame_num):
            picture = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(picture).resize((50, 40)).save(folder / f"{item_id}_{k}.png")
    return folder


@pytest.mark.slow
@torch.inference_mode()
def test_captions_are_blips_own(tmp_path, blip):
    bare_store(tmp_path, IDS[:3])
    folder = draw(tmp_path, IDS[:3], 2)
    call(captioning, tmp_path, "--encoder", blip, "--max_new_tokens", 6, "--batch_size", 4)
    captions = read_captions(tmp_path / "set/captions.jsonl")
    assert list(captions) == ["a", "b", "c"]
    model = transformers.BlipForConditionalGeneration.from_pretrained(blip).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(blip, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(blip)
    for item_id in IDS[:3]:
        for k in range(2):
            image = Image.open(folder / f"{item_id}_{k}.png").convert("RGB")
            pixels = processor(images=image, return_tensors="pt")["pixel_values"]
            tokens = model.generate(pixel_values=pixels, max_new_tokens=6, do_sample=False)
            expected = tokenizer.decode(tokens[0], skip_special_tokens=True).strip()
            assert captions[item_id][k] == expected
    assert len({text for texts in captions.values() for text in texts}) > 1  # they do depend on the picture
    with pytest.raises(InputError, match="here already .encoder's max_new_tokens 6, now 20.; --overwrite"):
        call(captioning, tmp_path, "--encoder", blip)
    before = (tmp_path / "set/captions.jsonl").stat()
    call(captioning, tmp_path, "--encoder", blip, "--max_new_tokens", 6)  # made already
    assert (tmp_path / "set/captions.jsonl").stat() == before


def test_retrieval_vectors_of_title_and_captions(tmp_path, bert):
    bare_store(tmp_path)
    with pytest.raises(InputError, match=r"captions of 6 of 6 items are missing; .*captioning.py"):
        call(retrieval_engineering, tmp_path, "--encoder", bert)
    lines = [json.dumps({"item_id": item_id, "captions": ["red ball", "dog"]}) for item_id in IDS]
    (tmp_path / "set/captions.jsonl").write_text("\n".join(lines))
    store = call(retrieval_engineering, tmp_path, "--encoder", bert)
    np.testing.assert_allclose(
        store.features["retrieval"][3], expected_text(bert, "dog [SEP] red ball [SEP] dog", "mean"), atol=2e-6
    )
    (tmp_path / "set/captions.jsonl").write_text(lines[0] + "\n{broken")
    with pytest.raises(InputError, match=r"captions.jsonl line 2: expected"):
        call(retrieval_engineering, tmp_path, "--encoder", bert, "--overwrite")


@torch.inference_mode()
def test_retrieval_vectors_of_clip(tmp_path, clip, vit):
    bare_store(tmp_path)
    folder = draw(tmp_path, IDS, 2)
    store = call(retrieval_engineering, tmp_path, "--encoder", clip, "--source", "frames")
    frames = np.array(store.features["retrieval"])
    store = call(retrieval_engineering, tmp_path, "--encoder", clip, "--source", "fused", "--overwrite")
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(clip, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip)
    for row, item_id in enumerate(IDS):
        images = [Image.open(folder / f"{item_id}_{k}.png").convert("RGB") for k in range(2)]
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        embedded = model.get_image_features(pixel_values=pixels).pooler_output
        mean = torch.nn.functional.normalize(embedded, dim=1).mean(0)
        mean = torch.nn.functional.normalize(mean, dim=0)
        tokens = tokenizer(TEXTS[row], return_tensors="pt")
        text = torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output[0], dim=0)
        np.testing.assert_allclose(frames[row], mean, atol=5e-6)
        np.testing.assert_allclose(store.features["retrieval"][row], mean + text, atol=5e-6)
    assert store.description.features["retrieval"].made["source"] == "fused"
    with pytest.raises(InputError, match="takes CLIP or its kin"):
        call(retrieval_engineering, tmp_path, "--encoder", vit, "--source", "fused", "--overwrite")


def test_retrieval_vectors_of_the_features_compare_both_modalities_and_words(tmp_path):
    """Cosine of the joined vectors: the weighted mean, by squared weights, of the cosines of each part."""
    titles = ("a red ball", "a dog", "ball", "the red ball", "dog", "")  # split train has the first and the fourth
    bare_store(tmp_path, titles=titles)
    with refused(r"no features to compare yet; make them with: .*textual_engineering.py"):
        call(retrieval_engineering, tmp_path, "--source", "features", "--lexical_weight", 0)
    store, rng = FeatureStore.open(tmp_path / "set"), np.random.default_rng(0)
    visual, textual = 3 * rng.standard_normal((len(IDS), 2, 4)), 5 * rng.standard_normal((len(IDS), 3))
    for name, array in (("visual", visual), ("textual", textual)):
        with store.add_array(name, array.shape, "float32") as out:
            out[:] = array
    weights = ("--source", "features", "--visual_weight", 0.5, "--lexical_weight")
    with pytest.raises(InputError, match="--normalise standard takes the weights of --source features away"):
        call(retrieval_engineering, tmp_path, *weights, 0, "--normalise", "standard")
    store = call(retrieval_engineering, tmp_path, *weights, 0)
    expected = (cosines(textual) + 0.25 * cosines(visual.mean(1))) / 1.25
    np.testing.assert_allclose(cosines(np.array(store.features["retrieval"])), expected, atol=1e-6)
    assert store.description.features["retrieval"].made["visual_weight"] == 0.5
    store = call(retrieval_engineering, tmp_path, *weights, 2, "--overwrite")
    assert store.description.features["retrieval"].made["lexical_weight"] == 2
    words = store.features["retrieval"][:, 7:]
    np.testing.assert_allclose(
        words, 2 * Lexical.fit(store.items.text[store.items.split == "train"]).transform(titles), atol=1e-6
    )
    assert np.linalg.norm(words, axis=1).max() == pytest.approx(2)


def test_items_whose_features_are_all_zero_are_named(tmp_path, capsys):
    store = with_ones(tmp_path)
    for name in ("visual", "textual"):
        with store.add_array(name, store.features[name].shape, "float32", overwrite=True) as out:
            out[1:] = 1
    store = call(retrieval_engineering, tmp_path, "--source", "features", "--lexical_weight", 0)
    assert "1 of 6 items have nothing to compare, and get no neighbours (a)" in capsys.readouterr().out
    assert not store.features["retrieval"][0].any() and store.features["retrieval"][1:].any(axis=1).all()


def test_a_text_without_a_token_is_zeros():
    """As tokenizers without special tokens make of an empty one: its states are those of padding, or NaN."""
    states = torch.full((2, 3, 4), torch.nan)
    states[0] = torch.arange(12.0).view(3, 4)

    def encoder(**_):
        return SimpleNamespace(last_hidden_state=states)

    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    for pooling in ("mean", "cls", "cls_avg"):
        vectors = pool(encoder, {"attention_mask": mask}, pooling)
        assert torch.isfinite(vectors).all() and not vectors[1].any() and vectors[0].any()
    torch.testing.assert_close(pool(encoder, {"attention_mask": mask}, "mean")[0], states[0, :2].mean(dim=0))


def test_retrieval_vectors_of_features_that_were_replaced_are_told_apart(tmp_path, capsys):
    with_ones(tmp_path)
    where = ("--num_of_retrieved_items", 1)
    store = call(retrieval_engineering, tmp_path, "--source", "features")
    call(retriever, tmp_path, *where)
    assert "warning" not in capsys.readouterr().err
    with store.add_array("textual", store.features["textual"].shape, "float32", overwrite=True) as out:
        out[:] = 2
    call(retriever, tmp_path, *where)
    assert "the retrieval vectors were made of other textual features than those here now" in capsys.readouterr().err


def test_the_unfinished_work_of_an_encoder_is_not_replaced_unasked(tmp_path):
    with_ones(tmp_path)
    unfinished = tmp_path / "set/retrieval.progress"
    unfinished.mkdir()
    with pytest.raises(InputError, match="the unfinished work of another command .*--overwrite drops it"):
        call(retrieval_engineering, tmp_path, "--source", "features")
    assert unfinished.exists()
    call(retrieval_engineering, tmp_path, "--source", "features", "--overwrite")
    assert not unfinished.exists()
    with pytest.raises(
        InputError, match="other retrieval features are here already .encoder none, now x; source features, now text."
    ):
        call(retrieval_engineering, tmp_path, "--source", "text", "--encoder", "x")


def test_titles_without_a_common_word_leave_the_features(tmp_path, capsys):
    with_ones(tmp_path)
    store = call(retrieval_engineering, tmp_path, "--source", "features")
    assert store.features["retrieval"].shape == (len(IDS), 7)
    assert "no word stands in two titles of split train" in capsys.readouterr().out


def with_ones(place: Path) -> FeatureStore:
    """Titles without a common word, features of ones."""
    bare_store(place, titles=[f"alone{row}" for row in range(len(IDS))])
    store = FeatureStore.open(place / "set")
    for name, shape in (("visual", (len(IDS), 2, 4)), ("textual", (len(IDS), 3))):
        with store.add_array(name, shape, "float32") as out:
            out[:] = 1
    return store


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize(
    "flags",
    [
        ("--encoder", "x", "--source", "text", "--workers", 2),
        ("--encoder", "x", "--source", "frames", "--prompt", "{text}"),
        ("--encoder", "x", "--source", "features"),
        ("--source", "features", "--max_length", 7),
        ("--encoder", "x", "--source", "text", "--visual_weight", 0.5),
        ("--encoder", "x", "--source", "text", "--lexical_weight", 0.5),
    ],
)
def test_flags_that_would_do_nothing_are_refused(tmp_path, flags):
    bare_store(tmp_path)
    with pytest.raises(InputError, match="does nothing with --source"):
        call(retrieval_engineering, tmp_path, *flags)


def test_a_run_killed_right_after_writing_goes_on(tmp_path, bert, monkeypatch):
    """Between the two arrays of --output both: the same command writes what is missing."""
    bare_store(tmp_path)
    flags = ("--encoder", bert, "--output", "both")
    write, written = FeatureStore.add_array, []

    def killed(self, name, *args, **more):
        if name == "retrieval" and not written:
            written.append(name)
            raise KeyboardInterrupt
        return write(self, name, *args, **more)

    monkeypatch.setattr(FeatureStore, "add_array", killed)
    with pytest.raises(KeyboardInterrupt):
        call(textual_engineering, tmp_path, *flags)
    assert list(FeatureStore.open(tmp_path / "set").features) == ["textual"]
    store = call(textual_engineering, tmp_path, *flags)
    assert (
        np.array_equal(store.features["textual"], store.features["retrieval"])
        and not (tmp_path / "set/textual.progress").exists()
    )


def test_the_hash_of_the_weights_does_not_depend_on_the_precision(tmp_path, bert):
    revisions = set()
    for precision in ("fp32", "bf16"):
        bare_store(tmp_path)
        store = call(textual_engineering, tmp_path, "--encoder", bert, "--precision", precision)
        revisions.add(store.description.features["textual"].made["encoder"]["revision"])
    assert len(revisions) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--source", "frames"), "takes a CLIP: name it"),
        (("--source", "frames", "--on_error", "zero", "--encoder", "x"), "similar to nothing"),
        (("--source", "text", "--max_length", 13), "takes 12 tokens at most"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, bert, flags, message):
    bare_store(tmp_path)
    encoder = () if "--source" in flags and flags[1] == "frames" else ("--encoder", bert)
    with pytest.raises(InputError, match=message):
        call(retrieval_engineering, tmp_path, *encoder, *flags)
