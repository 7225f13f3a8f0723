"""Text encoders obey their folders, and odd ones work where they can or are refused before anything is encoded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from bare import TEXTS, bare_store, call
from tiny_encoders import write_gpt, write_roberta, write_sentences, write_t5

from common.console import InputError
from dataloader.store import FeatureStore
from feature_engineering import retrieval_engineering, textual_engineering
from feature_engineering.encoding import encoders, texts
from feature_engineering.jobs.likewise import Encoders
from feature_engineering.settings import EncoderSettings, TextSettings


def encoded(folder: Path, titles=TEXTS, batch_size: int = 4, **text) -> np.ndarray:
    """(N, D), by batches of the texts as they come."""
    encoder = texts.TextEncoder(EncoderSettings(str(folder), batch_size, "fp32", "cpu"), TextSettings(**text))
    prompts = [encoder.prompt.replace("{text}", title) for title in titles]
    batches = [prompts[at : at + batch_size] for at in range(0, len(prompts), batch_size)]
    return torch.cat([encoder(batch) for batch in batches]).numpy()


def by_the_library(folder: Path, titles=TEXTS, **how) -> np.ndarray:
    """One text at a time, so that no padding acts."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.tokenizer.pad_token = model.tokenizer.pad_token or "<unk>"  # which it asks for even of a single text
    return np.stack([model.encode(title, batch_size=1, show_progress_bar=False, **how) for title in titles])


def made(store: FeatureStore, name: str = "textual") -> dict:
    return store.description.features[name].made["encoder"]


# ---- folders of sentence-transformers --------------------------------------------------------------------------------

SAID = {
    "cls": {"pooling": "cls_token", "normalise": True},
    "max": {"pooling": "max_tokens", "max_length": 5},
    "last": {"pooling": "lasttoken", "prompts": {"query": "query : ", "document": ""}, "default_prompt_name": "query"},
    "mean": {"dense": 6, "normalise": True},
    "weightedmean": {"pooling": "weightedmean_tokens"},
}


@pytest.mark.parametrize("pooling", SAID)
def test_a_folder_of_sentence_transformers_is_obeyed(tmp_path, bert, pooling, capsys):
    said = SAID[pooling]
    folder = write_sentences(tmp_path / "model", bert, **said)
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", folder, "--batch_size", 4)
    expected = by_the_library(folder)
    np.testing.assert_allclose(store.features["textual"], expected, atol=1e-5)
    assert made(store) | {"revision": ""} == {
        "name": "model",
        "revision": "",
        "dtype": "float32",
        "pooling": pooling,
        "prompt": "query : {text}" if "prompts" in said else "{text}",
        "max_length": said.get("max_length", 12),
        "dense": ["16 -> 6 Tanh"] if "dense" in said else [],
        "normalise": said.get("normalise", False),
        "by": "sentence-transformers",
        "folder": str(folder),
    }
    told = capsys.readouterr()
    assert f"model by sentence-transformers: pooling {pooling}, " in told.out and "warning" not in told.err
    # Videos that arrive later are encoded alike, by what was recorded.
    later = Encoders(store, {}, "cpu").texts("textual")
    assert later.acted == {key: value for key, value in made(store).items() if key in later.acted}
    again = later([later.prompt.replace("{text}", TEXTS[2])])[0].numpy()
    np.testing.assert_allclose(again, expected[2], atol=1e-5)


def test_a_typed_flag_that_contradicts_the_folder_acts_and_is_said(tmp_path, bert, capsys):
    folder = write_sentences(
        tmp_path / "model",
        bert,
        "cls_token",
        max_length=8,
        dense=6,
        prompts={"query": "query : "},
        default_prompt_name="query",
    )
    bare_store(tmp_path)
    flags = ("--pooling", "max", "--prompt", "a {text}", "--max_length", 9)
    store = call(textual_engineering, tmp_path, "--encoder", folder, *flags)
    err = capsys.readouterr().err
    assert "warning: --pooling max: the folder of model says cls" in err
    assert "warning: --prompt 'a {text}': the folder of model says 'query : {text}'" in err
    assert "warning: --max_length 9: the folder of model says 8" in err
    other = write_sentences(tmp_path / "other", bert, "max_tokens", max_length=9, dense=6)
    expected = by_the_library(other, [f"a {text}" for text in TEXTS])
    np.testing.assert_allclose(store.features["textual"], expected, atol=1e-5)
    Encoders(store, {}, "cpu").texts("textual")
    assert capsys.readouterr().err == ""  # nobody typed anything now


def test_cls_avg_is_another_pooling_of_a_folder_too(tmp_path, bert):
    folder = write_sentences(tmp_path / "model", bert)
    mean, first = encoded(folder, pooling="mean"), encoded(folder, pooling="cls")
    np.testing.assert_allclose(encoded(folder, pooling="cls_avg"), (mean + first) / 2, atol=1e-6)


def test_unfinished_work_of_another_folder_is_not_gone_on_with(tmp_path, bert):
    folder = write_sentences(tmp_path / "model", bert, normalise=True)
    modules = json.loads((folder / "modules.json").read_text())
    for wanted in (modules, modules[:-1]):
        (folder / "modules.json").write_text(json.dumps(wanted))
        encoder = texts.TextEncoder(EncoderSettings(str(folder), device="cpu"), TextSettings())
        if wanted is modules:
            texts.encode_texts(TEXTS, encoder, tmp_path / "progress", overwrite=False)
    with pytest.raises(InputError, match=r"the unfinished work of another command \(normalise True, now False\)"):
        texts.encode_texts(TEXTS, encoder, tmp_path / "progress", overwrite=False)


def test_prompts_without_a_default_are_named_and_not_taken(tmp_path, bert, capsys):
    folder = write_sentences(tmp_path / "model", bert, prompts={"query": "query : ", "passage": "dog "})
    np.testing.assert_allclose(encoded(folder), by_the_library(folder), atol=1e-5)
    out = capsys.readouterr().out
    assert "none is taken unasked (query 'query : ', passage 'dog '); to take one: --prompt 'query : {text}'" in out
    typed = encoded(folder, prompt="query : {text}")
    np.testing.assert_allclose(typed, by_the_library(folder, prompt_name="query"), atol=1e-5)


def test_a_prompt_that_is_not_pooled_is_not(tmp_path, bert):
    folder = write_sentences(tmp_path / "model", bert, prompts={"query": "query : "}, default_prompt_name="query")
    pooling = json.loads((folder / "1_Pooling/config.json").read_text()) | {"include_prompt": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    np.testing.assert_allclose(encoded(folder), by_the_library(folder), atol=1e-5)


def test_data_sets_of_before_stay_as_they_were_made(tmp_path, bert):
    """They do not say by which library: transformers alone, pooled as recorded, whatever the folder says."""
    folder = write_sentences(tmp_path / "model", bert, "cls_token", normalise=True)
    bare_store(tmp_path)
    store = call(textual_engineering, tmp_path, "--encoder", bert)
    described = json.loads((store.folder / "dataset.json").read_text())
    encoder = described["arrays"]["textual"]["encoder"]
    for name in ("by", "dense", "normalise"):
        del encoder[name]
    encoder |= {"name": "model", "folder": str(folder)}
    (store.folder / "dataset.json").write_text(json.dumps(described))
    (store.folder / "manifest.jsonl").unlink()  # which such a data set has not
    later = Encoders(FeatureStore.open(store.folder), {}, "cpu").texts("textual")
    np.testing.assert_allclose(later(list(TEXTS)), store.features["textual"], atol=1e-6)


def test_published_encoders_stay_as_published_whatever_their_folders_say(tmp_path, bert):
    said = {"prompts": {"query": "dog "}, "default_prompt_name": "query"}
    folder = write_sentences(tmp_path / "UAE-Large-V1", bert, "max_tokens", normalise=True, **said)
    bare_store(tmp_path)
    store = call(retrieval_engineering, tmp_path, "--encoder", folder, "--source", "text")
    recorded = made(store, "retrieval")
    assert recorded["pooling"] == "cls" and recorded["by"] == "transformers"
    assert recorded["prompt"].startswith("Represent this sentence")
    np.testing.assert_allclose(encoded(folder), encoded(bert, pooling="cls"), atol=1e-6)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", [{"path": "", "type": "own.Own"}], "of code that came with it (own.Own), which is not exec"),
        ("modules.json", {"path": ""}, "is no list of modules"),
        (
            "config_sentence_transformers.json",
            {"model_type": "CrossEncoder"},
            "a CrossEncoder of sentence-transformers",
        ),
        (
            "1_Pooling/config.json",
            {"word_embedding_dimension": 16, "pooling_mode": "x"},
            "cannot load it (Invalid pool",
        ),
    ],
)
def test_folders_that_cannot_be_obeyed_are_refused(tmp_path, bert, file, content, message):
    folder = write_sentences(tmp_path / "model", bert)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(InputError) as refused:
        encoded(folder)
    assert message in str(refused.value) and str(refused.value).startswith("--encoder model: ")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path, bert):
    from safetensors.torch import load_file, save_file

    folder = write_sentences(tmp_path / "model", bert)
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.0.output.dense.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="its checkpoint lacks 1 of the weights"):
        encoded(folder)


def test_parts_in_subfolders_come_from_the_hub_too(tmp_path, bert, monkeypatch):
    folder, asked = write_sentences(tmp_path / "model", bert, dense=6), []
    (folder / "2_Dense/model.safetensors").rename(folder / "2_Dense/pytorch_model.bin")

    def download(repository, revision, allow_patterns):
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(encoders, "snapshot_download", download)
    encoders.fetch("owner/name")
    assert asked == [encoders.HUB_FILES, [*encoders.HUB_FILES, "2_Dense/*.bin"]]


def test_a_repository_of_onnx_alone_is_named(tmp_path, monkeypatch):
    hub = SimpleNamespace(list_repo_files=lambda repository, revision: ["config.json", "onnx/model.onnx"])
    monkeypatch.setattr(encoders, "snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(encoders, "HfApi", lambda: hub)
    with pytest.raises(
        InputError, match=r"--encoder owner/name: its weights are there as ONNX \(onnx/model.onnx\) alone"
    ):
        encoders.fetch("owner/name")


def test_a_plain_encoder_is_as_it_was(shared):
    """all-MiniLM-L6-v2, a folder of transformers: the mean of the tokens, as by sentence-transformers."""
    folder = shared / "models/all-MiniLM-L6-v2"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    titles = ["a cat", "how to bake bread in ten minutes", ""]
    with torch.inference_mode():
        states = [model(**tokenizer(title, return_tensors="pt")).last_hidden_state[0].mean(0) for title in titles]
    np.testing.assert_allclose(encoded(folder, titles), np.stack(states), atol=1e-5)


# ---- odd models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_of_the_padding_does_not_matter(tmp_path, side, pooling):
    """Nor that the tokenizer has no token to pad with."""
    folder = write_gpt(tmp_path / "gpt", padding_side=side)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.GPT2Model.from_pretrained(folder).eval()
    expected = []
    for text in TEXTS:
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected.append({"mean": states.mean(0), "cls": states[0], "max": states.amax(0), "last": states[-1]}[pooling])
    np.testing.assert_allclose(encoded(folder, pooling=pooling, batch_size=6), np.stack(expected), atol=1e-5)
    if side == "left" and pooling in ("mean", "last"):
        said = {"mean": "mean_tokens", "last": "lasttoken"}[pooling]
        of = write_sentences(tmp_path / "model", folder, said)
        np.testing.assert_allclose(encoded(of, batch_size=6), by_the_library(of), atol=1e-5)


def test_an_empty_title_without_a_token_is_zeros(tmp_path):
    folder = write_gpt(tmp_path / "gpt")
    for of in (folder, write_sentences(tmp_path / "model", folder)):
        vectors = encoded(of, ["dog", "", "a red ball"])
        assert not vectors[1].any() and vectors[[0, 2]].any(axis=1).all()
        assert not encoded(of, ["", ""]).any()
        bare_store(tmp_path, titles=("dog", "", "a red ball"))
        store = call(textual_engineering, tmp_path, "--encoder", of, "--normalise", "l2")
        assert not store.features["textual"][1].any()


def test_of_an_encoder_decoder_the_encoder_is_taken(tmp_path):
    folder = write_t5(tmp_path / "t5")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.T5EncoderModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in TEXTS]
    np.testing.assert_allclose(encoded(folder), np.stack(states), atol=1e-5)
    of = write_sentences(tmp_path / "model", folder)
    np.testing.assert_allclose(encoded(of), by_the_library(of), atol=1e-5)
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=8
    )
    transformers.BartModel(config).save_pretrained(shutil.copytree(folder, tmp_path / "bart"))
    assert encoded(tmp_path / "bart").shape == (len(TEXTS), 16)


def test_positions_that_are_taken_by_the_padding_are_not_used(tmp_path):
    folder = write_roberta(tmp_path / "roberta")
    long = "dog ball a red " * 5
    for of in (folder, write_sentences(tmp_path / "model", folder, max_length=12)):
        encoder = texts.TextEncoder(EncoderSettings(str(of), device="cpu"), TextSettings())
        assert encoder.max_length == 10 and encoder([long]).isfinite().all()
        with pytest.raises(InputError, match="takes 10 tokens at most"):
            encoded(of, max_length=11)
    # Data sets of before recorded all of the table.
    made = {"max_length": 12}
    again = texts.TextEncoder(EncoderSettings(str(folder), device="cpu"), TextSettings(**made), made=made)
    assert again.max_length == 10


def test_tokens_that_the_model_has_not_are_refused_before_anything_is_encoded(tmp_path):
    folder = write_gpt(tmp_path / "gpt", embedded=10)
    for of in (folder, write_sentences(tmp_path / "model", folder)):
        bare_store(tmp_path)
        with pytest.raises(
            InputError, match=r"its tokenizer makes tokens \(.*\) of which its model, which knows 10, has"
        ):
            call(textual_engineering, tmp_path, "--encoder", of)
        assert not (tmp_path / "set/textual.progress").exists()
        bare_store(tmp_path, titles=("a", "ball"))  # which it has
        call(textual_engineering, tmp_path, "--encoder", of)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path, bert):
    for of in (bert, write_gpt(tmp_path / "gpt"), write_sentences(tmp_path / "model", bert)):
        folder = shutil.copytree(of, tmp_path / f"{of.name}-without")
        for file in folder.glob("*token*"):
            file.unlink()
        with pytest.raises(InputError, match=r"--encoder .*-without: its folder has no tokenizer \(.*tokenizer.json"):
            encoded(folder)


@pytest.mark.parametrize(
    ("file", "kind"),
    [("onnx/model.onnx", "ONNX"), ("tf_model.h5", "TensorFlow"), ("adapter_model.safetensors", "an adap")],
)
def test_weights_in_layouts_that_are_not_read_are_named(tmp_path, bert, file, kind):
    for of in (bert, write_sentences(tmp_path / "model", bert)):
        folder = shutil.copytree(of, tmp_path / f"{of.name}-only")
        (folder / "model.safetensors").unlink()
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"x")
        with pytest.raises(InputError, match=rf"its weights are there as {kind}.* \({file}\) alone, which is not read"):
            encoded(folder)


def test_the_share_of_unknown_tokens_is_said_and_a_large_one_warned_of(tmp_path, bert, capsys):
    bare_store(tmp_path, titles=("a red ball", "一只 狗 dog"))
    call(textual_engineering, tmp_path, "--encoder", bert, "--prompt", "query : {text}")
    told = capsys.readouterr()
    # Four characters of Chinese, each a word of its own to BERT; the prompt does not count.
    assert "42.9% of the tokens of 2 different texts are unknown to it" in told.out
    assert "warning: 43% of the tokens are unknown to bert0" in told.err
    bare_store(tmp_path)
    call(textual_engineering, tmp_path, "--encoder", bert)
    told = capsys.readouterr()
    assert "0.0% of the tokens of 5 different texts" in told.out and "unknown" not in told.err
