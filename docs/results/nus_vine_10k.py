"""Make the figures of nus_vine_10k.md anew from the release: the data set, the search on split valid, the tables.

--part data      the data set, <work>/data/NUS
--part vectors   the search for the weights of the retrieval vectors, by the neighbours' softmax labels
--part tables    each method with creators apart, on the published split and by time

The search looks at split valid alone, of the published split and of the five folds by creator, and ranks by the mean of
the two nMSE; it ends with a table, and writes it to <work>/vectors.csv. Everything goes on where it was stopped. On two
cores data take a minute, vectors half an hour, tables an hour and a half. The search for the preset: preset.py.
"""

from __future__ import annotations

from making import APART, RECOMMENDED, Making, parser_of, show, valid_nmse

from common.console import run_script

# (visual_weight, lexical_weight) of retrieval_engineering.py: the words first, then the frame beside the best of them
VECTORS = [(0.2, 0.0), (0.2, 0.5), (0.2, 0.7), (0.2, 1.0), (0.2, 1.4), (0.2, 2.0)]
VECTORS += [(0.0, 1.0), (0.1, 1.0), (0.3, 1.0), (0.4, 1.0)]


def main(args) -> None:
    making = Making(args.encoder, args.work, args.jobs)
    if args.part == "data":
        making.nus(args.raw)
    elif args.part == "vectors":
        vectors(making, args.raw)
    else:
        recommended = ("--row", RECOMMENDED, "--reference", "MMRA recommended")
        for how in (APART, (), ("--folds", 3, "--folds_by", "time")):
            making.compare("NUS", making.work / "tables", *recommended, *how)


def vectors(making: Making, raw) -> None:
    if not making.is_encoded("NUS", "data_of_vectors"):
        making.nus_features(raw, "data_of_vectors")
    lines = []
    for visual, lexical in VECTORS:
        save = making.work / "vectors" / f"visual_{visual:g}_words_{lexical:g}"
        tables = [save / "NUS" / "table.csv", save / "NUS" / "creator_5" / "table.csv"]
        if not all(table.exists() for table in tables):
            weights = ("--visual_weight", visual, "--lexical_weight", lexical)
            making.neighbours("NUS", *weights, name="data_of_vectors")
            for folds in ((), APART):
                making.compare("NUS", save, "--methods", *folds, name="data_of_vectors")
        published, apart = (valid_nmse(table, "neighbours' labels, softmax") for table in tables)
        line = {"visual_weight": visual, "lexical_weight": lexical, "published": published, "creators apart": apart}
        lines.append(line | {"mean": (published + apart) / 2})
    show(lines, making.work / "vectors.csv")


if __name__ == "__main__":
    run_script(parser_of(__doc__.splitlines()[0], ("data", "vectors", "tables"), nus=True), main)
