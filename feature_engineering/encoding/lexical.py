"""Texts -> vectors of their words: names, hashtags and emoji, which sentence encoders smooth away, find their like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

# A token is a word with its accents and vowel signs, a #hashtag, a @name, or one emoji or punctuation mark. \X takes an
# emoji that consists of several characters, a flag or a family, as one.
TOKEN = regex.compile(r"[#@]?\w+|(?![\s\p{C}])\X")
# What may follow an emoji without making it another one: whether it is drawn as text or as picture, and skin tones.
VARIANT = regex.compile(r"[\uFE0E\uFE0F\U0001F3FB-\U0001F3FF]")
# Scripts that put no space between words. Where one stands between two blanks, words are found as all sequences of one
# to three characters, blanks included.
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")
LONGEST = 3
DIMENSIONS = 512  # as good on split valid of 10,000 Vine videos as all words (docs/results/nus_vine_10k.md)


def tokens(text: str) -> list[str]:
    """Words, and of what is written without spaces each run of up to LONGEST characters, with their vowel signs."""
    found = []
    for stretch in VARIANT.sub("", text).split():
        if not UNSPACED.search(stretch):
            found += TOKEN.findall(stretch)
            continue
        alone = regex.findall(r"\X", stretch)
        letters, found = [" ", *alone, " "], found + alone
        for n in range(2, LONGEST + 1):
            found += ["".join(letters[i : i + n]) for i in range(len(letters) + 1 - n)]
    return found


@dataclass(frozen=True)
class Lexical:
    """TF-IDF of the words of two and more texts, by latent semantic analysis at most DIMENSIONS wide.

    The analysis keeps the words that many texts have in common and weakens the rare ones. words is None where no word
    stands in two of the texts that it was fitted on, analysis where there are no more words than dimensions.
    """

    words: TfidfVectorizer | None
    analysis: TruncatedSVD | None

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Lexical:
        """Vocabulary, weights and axes of these texts: those of split train."""
        words = TfidfVectorizer(tokenizer=tokens, token_pattern=None, sublinear_tf=True, min_df=2, dtype=np.float32)
        try:
            fitted = words.fit_transform(texts)  # (n, V) sparse
        except ValueError:  # scikit-learn raises it where no word stands in two of the texts.
            return cls(None, None)
        if fitted.shape[1] <= DIMENSIONS:
            return cls(words, None)
        with threadpool_limits(1):  # Several threads would sum in another order each time, which changes the last bits.
            return cls(words, TruncatedSVD(DIMENSIONS, random_state=0).fit(fitted))

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """N texts -> (N, R) float32, of length 1 before the analysis and at most 1 after it, 0 without a known word.

        R is 0 where there are no words.
        """
        if self.words is None or not len(texts):
            return np.zeros((len(texts), 0), np.float32)
        vectors = self.words.transform(texts)  # (N, V) sparse
        if self.analysis is None:
            return vectors.toarray()
        with threadpool_limits(1):
            return self.analysis.transform(vectors).astype(np.float32)  # (N, DIMENSIONS)
