"""Vectors of words: TF-IDF against its formula, fewer dimensions against all words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_engineering.encoding import lexical
from feature_engineering.encoding.lexical import Lexical, tokens


def lexical_vectors(texts, known):
    return Lexical.fit([text for text, is_known in zip(texts, known, strict=True) if is_known]).transform(texts)


def test_what_is_written_without_spaces_is_found_by_its_characters():
    assert tokens("猫 a #b!") == ["猫", " 猫", "猫 ", " 猫 ", "a", "#b", "!"]
    assert tokens("东京塔") == ["东", "京", "塔", " 东", "东京", "京塔", "塔 ", " 东京", "东京塔", "京塔 "]
    assert "กี่" in tokens("ที่กี่") and "ี่" not in tokens("ที่กี่")  # with their vowel signs
    assert tokens("안녕 하세요") == ["안녕", "하세요"] and tokens("Größe été") == ["Größe", "été"]
    texts = ["今天的天气真好", "天气不好", "hello world", "hello there", "天气很好吗"]
    vectors = lexical_vectors(texts, np.ones(5, bool))
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.1 and alike[0, 4] > 0.1 and alike[0, 2] == alike[1, 3] == 0


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4))
@settings(deadline=None)
def test_any_text_has_tokens_or_none(texts):
    for text in texts:
        assert all(isinstance(token, str) and token for token in tokens(text))


@given(st.lists(st.lists(st.sampled_from(["a", "b", "#c", "😂", "d!", ""]), max_size=4).map(" ".join), min_size=1))
def test_lexical_vectors_are_tf_idf(texts):
    """Against the formula by hand: (1 + log tf) * (1 + log((1 + n) / (1 + df))), length 1; words of two train texts."""
    known = np.arange(len(texts)) < max(1, len(texts) // 2)
    split = [text.replace("!", " !").split() for text in texts]
    train = [words for words, is_known in zip(split, known, strict=True) if is_known]
    df = Counter(word for words in train for word in set(words))
    vocabulary = sorted(word for word, count in df.items() if count >= 2)
    expected = np.zeros((len(texts), len(vocabulary)))
    for row, words in enumerate(split):
        for column, word in enumerate(vocabulary):
            if word in words:
                idf = 1 + np.log((1 + len(train)) / (1 + df[word]))
                expected[row, column] = (1 + np.log(words.count(word))) * idf
    norm = np.linalg.norm(expected, axis=1, keepdims=True)
    expected /= np.where(norm > 0, norm, 1)
    np.testing.assert_allclose(lexical_vectors(texts, known), expected, atol=1e-6)


def test_many_words_are_brought_to_fewer_dimensions(monkeypatch):
    """The nearest rank of all to the words' own vectors: its error is what their other singular values say."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 30, size=6)) for _ in range(60)]
    known = np.arange(60) < 40
    every_word = lexical_vectors(texts, known)
    monkeypatch.setattr(lexical, "DIMENSIONS", 25)
    fewer = lexical_vectors(texts, known)
    assert every_word.shape == (60, 30) and fewer.shape == (60, 25) and fewer.dtype == np.float32
    lost = np.square(every_word[known]).sum() - np.square(fewer[known]).sum()
    others = np.linalg.svd(every_word[known].astype(np.float64), compute_uv=False)[25:]
    assert lost == pytest.approx(np.square(others).sum(), rel=1e-3)
    np.testing.assert_array_equal(fewer, lexical_vectors(texts, known))
    replaced = [text if is_known else "w1" for text, is_known in zip(texts, known, strict=True)]
    np.testing.assert_array_equal(fewer[known], lexical_vectors(replaced, known)[known])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't @me #LOL!!", ["Don", "'", "t", "@me", "#LOL", "!", "!"]),
        ("👍🏽👍❤️❤", ["👍", "👍", "❤", "❤"]),  # without the skin's tone and the variation selector
        ("👨‍👩‍👧🇩🇪🇫🇷", ["👨‍👩‍👧", "🇩🇪", "🇫🇷"]),  # a family and two flags, each whole
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("cafe\u0301 \u200b x", ["cafe\u0301", "x"]),
    ],
)
def test_words_hashtags_and_emoji_stay_whole(text, expected):
    assert tokens(text) == expected
