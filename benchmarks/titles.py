"""Data sets of any size whose vectors lie as those of real titles do, written in blocks.

A title's vector is made as its words make it: most words are rare, half of a title's are of its topic, some titles are
those of their topic with little changed, and all share a direction. More titles have more topics and words, by the
square root of their number. Fitted to the 8,488 titles of the Vine videos that are not empty, as all-MiniLM-L6-v2 gives
them: `python -m benchmarks.titles --vectors textual.npy` prints the cosine of a title to its nearest, 10th and 50th (a
tenth, half and nine tenths of the titles have less) and to all others (mean, deviation), and what of the ten nearest an
index of 217 lists finds in 3, 12 and 48 of them, and a graph with 16, 64 and 256 candidates:

        nearest         10th            50th            all       lists         graph
real    .47  .60  .90   .36  .46  .61   .30  .38  .51   .15  .09  .62 .81 .94   .92 .95 .99
these   .47  .61  .94   .36  .48  .67   .29  .40  .52   .14  .12  .60 .80 .95   .95 .99 1.0
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.console import Parser, run_script
from common.files import open_array
from dataloader.description import Label
from dataloader.importing.splits import published_split
from dataloader.items import Items
from dataloader.search.exact import unit
from dataloader.search.index import library
from dataloader.store import FeatureStore

ROWS_AT_ONCE = 8192
OF = 8488  # titles that have these many words and topics
WORDS, RARITY = 20_000, 1.0  # of all titles; a word's frequency falls with its rank to this power
TOPICS, OF_A_TOPIC, OF_ITS_TOPIC = 300, 10, 0.5  # words of a topic; share of a title's words that are its topic's
LENGTH = 5  # words of a title, on average
REST = 0.3  # length of what no word explains
REPEATED, CHANGED = 0.12, 0.3  # share of titles that are their topic's, and the length of what is changed in them
COMMON = 0.4  # length of what all share
LABEL_BETWEEN, LABEL_WITHIN = 2.0, 1.5  # deviations of the label: of the topics and within them
ASKED = 500  # titles of which is printed how near others are


class Titles:
    """The words and topics of `items` titles, and which topic each is of."""

    def __init__(self, items: int, width: int, seed: int = 0):
        rng, growth = np.random.default_rng(seed), (items / OF) ** 0.5
        self.words, self.topics = max(OF_A_TOPIC, round(WORDS * growth)), max(1, round(TOPICS * growth))
        falling = (np.arange(1, width + 1) + 5) ** -0.5
        self.falling = (falling / np.linalg.norm(falling)).astype(np.float32)  # deviation of each direction
        rank = np.arange(1, self.words + 1) + 10
        share = rank**-RARITY
        self.drawn = np.cumsum(share / share.sum())  # (V,) a word is drawn by a number below these
        rare = np.sqrt(-np.log(share / share.sum()))
        self.vectors = rng.standard_normal((self.words, width), dtype=np.float32) * self.falling  # (V, D)
        self.vectors *= (rare / rare.max()).astype(np.float32)[:, None]
        self.own = self._draw(rng, (self.topics, OF_A_TOPIC))
        share = 1 / (np.arange(self.topics) + 5)
        self.of = rng.choice(self.topics, items, p=share / share.sum())  # (N,)
        self.repeats = rng.random(items) < REPEATED
        self.label = rng.normal(0, LABEL_BETWEEN, self.topics)

    def _draw(self, rng: np.random.Generator, shape) -> np.ndarray:
        return np.minimum(np.searchsorted(self.drawn, rng.random(shape)), self.words - 1)

    def block(self, start: int, stop: int, seed: int) -> np.ndarray:
        """(b, D) float32 of length 1, the same for the same seed and start."""
        rng, of, repeats = np.random.default_rng((seed, start)), self.of[start:stop], self.repeats[start:stop]
        length = np.where(repeats, LENGTH, np.maximum(1, rng.poisson(LENGTH, len(of))))
        vectors = np.zeros((len(of), self.vectors.shape[1]), np.float32)
        for place in range(length.max(initial=0)):
            long = np.flatnonzero(length > place)
            topical = (rng.random(len(long)) < OF_ITS_TOPIC) | repeats[long]
            which = np.where(repeats[long], place % OF_A_TOPIC, rng.integers(0, OF_A_TOPIC, len(long)))
            word = np.where(topical, self.own[of[long], which], self._draw(rng, len(long)))
            vectors[long] += self.vectors[word]
        vectors /= np.sqrt(np.maximum(length, 1))[:, None]
        rest = np.where(repeats, CHANGED * rng.random(len(of)), REST).astype(np.float32)
        vectors += rng.standard_normal(vectors.shape, dtype=np.float32) * self.falling * rest[:, None]
        vectors = unit(vectors)
        vectors[:, 0] += COMMON
        return unit(vectors)


def titled_store(folder: Path, items: int, width: int, frames: int = 1) -> FeatureStore:
    """Features retrieval (N, D), and, unless frames is 0, textual (N, D) and visual (N, F, D), float16.

    The label is the topic's and noise, so that neighbours and features say something of it.
    """
    titles, rng = Titles(items, width), np.random.default_rng(1)
    label = (6 + titles.label[titles.of] + rng.normal(0, LABEL_WITHIN, items))[:, None]  # (N, 1)
    ids = np.array([str(i) for i in range(items)], object)
    table = Items(ids, np.full(items, "", object), np.full((items, 1), np.nan), label, published_split(items))
    store = FeatureStore.create(folder, table, family="MicroLens", label=Label(("popularity",)))
    shapes = {"retrieval": (items, width)}
    if frames:
        shapes |= {"textual": (items, width), "visual": (items, frames, width)}
    for name, shape in shapes.items():
        with store.add_array(name, shape, "float16") as out:
            for start in range(0, items, ROWS_AT_ONCE):
                stop = min(items, start + ROWS_AT_ONCE)
                if len(shape) == 2:  # the text is what is retrieved by
                    out[start:stop] = titles.block(start, stop, 0)
                for frame in range(shape[1] if len(shape) == 3 else 0):
                    out[start:stop, frame] = titles.block(start, stop, 1 + frame)
    return store


# ---- how near they lie ---------------------------------------------------------------------------------------------


def build_parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.titles", description=__doc__)
    of = parser.add_argument_group("what is compared")
    of.add_argument("--vectors", type=Path, required=True, help=".npy of real titles, (N, D); zeros are left out")
    return parser


def main(args) -> None:
    real = np.asarray(open_array(args.vectors), np.float32)
    real = unit(real[np.linalg.norm(real, axis=1) > 0])
    titles = Titles(len(real), real.shape[1])
    made = [titles.block(i, min(i + ROWS_AT_ONCE, len(real)), 0) for i in range(0, len(real), ROWS_AT_ONCE)]
    print("| | nearest | 10th | 50th | all | lists that are looked at: found | links that are tried: found |")
    print("|---|---|---|---|---|---|---|")
    for name, vectors in (("real", real), ("these", np.concatenate(made))):
        print(f"| {name} | {' | '.join(described(vectors))} |", flush=True)


def described(vectors: np.ndarray) -> list[str]:
    """Of vectors (N, D) of length 1: the columns of the table."""
    faiss, n = library(), len(vectors)
    rows = np.sort(np.random.default_rng(0).choice(n, min(ASKED, n), replace=False))
    similar = vectors[rows] @ vectors.T  # (A, N)
    all_of = f"{similar.mean():.2f} {similar.std():.2f}"
    similar[np.arange(len(rows)), rows] = -np.inf
    nearest = np.argsort(-similar, axis=1)[:, :50]
    cosines = np.take_along_axis(similar, nearest, axis=1)
    quantiles = [" ".join(f"{q:.2f}" for q in np.quantile(cosines[:, k], (0.1, 0.5, 0.9))) for k in (0, 9, 49)]
    lists = max(1, min(int(4 * n**0.5), n // 39))
    found = []
    for kind, efforts in ((f"IVF{lists},Flat", (3, 12, 48)), ("HNSW32,Flat", (16, 64, 256))):
        index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        name, how = ("nprobe", faiss.SearchParametersIVF) if "IVF" in kind else ("efSearch", faiss.SearchParametersHNSW)
        said = []
        for effort in efforts:
            _, got = index.search(vectors[rows], 11, params=how(**{name: effort}))
            # Copies are alike near: what is found is as near as the tenth, whichever of them it is.
            near = np.take_along_axis(similar, np.maximum(got, 0), axis=1) >= cosines[:, 9:10] - 1e-6
            said.append(f"{effort}: {np.minimum(near.sum(axis=1), 10).mean() / 10:.2f}")
        found.append(", ".join(said))
    return [*quantiles, all_of, *found]


if __name__ == "__main__":
    run_script(build_parser(), main)
