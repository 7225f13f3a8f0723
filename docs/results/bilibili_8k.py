"""Make the figures of bilibili_8k.md anew from its table: the data sets, and each method on three splits of them.

--part data     the data sets, <work>/data/bilibili_8k (random split) and bilibili_8k_time
--part tables   all rows on the random and the time split with three seeds, and with creators apart (folds) with one

Everything goes on where it was stopped. On two cores data take five minutes, tables three hours.
"""

from __future__ import annotations

from making import APART, RECOMMENDED, SPLITS, Making, parser_of

from common.console import run_script

# Those that take metadata, without them too; a published network with them, which is ours.
ROWS = [RECOMMENDED, "MMRA recommended, with metadata=MMRA --preset recommended --modalities textual metadata"]
ROWS += [f"{name} without metadata={name} --modalities textual" for name in ("SVR", "Hyfea", "MFTM")]
ROWS += ["Hyfea, metadata alone=Hyfea --modalities metadata"]
ROWS += ["RetrievalBoost without neighbours and creators=RetrievalBoost --no_retrieval"]


def main(args) -> None:
    making = Making(args.encoder, args.work, args.jobs)
    if args.part == "data":
        making.bilibili(args.table)
        return
    rows = [word for row in ROWS for word in ("--row", row)] + ["--reference", "MMRA recommended"]
    for dataset_id in SPLITS:
        making.compare(dataset_id, making.work / "tables", *rows)
    making.compare("bilibili_8k", making.work / "tables", *rows, *APART)


if __name__ == "__main__":
    run_script(parser_of(__doc__.splitlines()[0], ("data", "tables"), bilibili=True), main)
