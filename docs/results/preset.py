"""Search for the settings of MMRA's preset `recommended`, on split valid of four splits of two data sets.

NUS in the published split and with creators apart, Bilibili in the random and in the time split; ranked by the mean of
the four nMSE. It ends with a table, and writes it to <work>/preset.csv. It goes on where it was stopped,
and takes half an hour on two cores.
"""

from __future__ import annotations

from making import SPLITS, Making, parser_of, show, valid_nmse

from common.console import run_script

STANDARD = "--preset published --label_scale standard --feature_dim 128"
NEAR = "--num_of_retrieved_items 50 --similarity_temperature 0.08"
# The optimiser first, then what the neighbours weigh and how wide the network is, beside the best of these.
TRIED = [f"{NEAR} --optim SGD --lr 1e-2", *(f"{NEAR} --optim Adam --lr {lr}" for lr in ("3e-5", "1e-4", "3e-4"))]
TRIED += ["--num_of_retrieved_items 50 --similarity_temperature 0.15 --optim Adam --lr 1e-4"]
TRIED += [f"{NEAR} --optim Adam --lr 1e-4 --feature_dim 64"]


def main(args) -> None:
    making = Making(args.encoder, args.work, args.jobs)
    if args.part == "data":
        making.nus(args.raw)
        making.nus(args.raw, "NUS_user", "--split_by", "user")
        making.bilibili(args.table)
        return
    save = making.work / "preset"
    words = ["--methods", *(word for flags in TRIED for word in ("--row", f"{flags}=MMRA {STANDARD} {flags}"))]
    words += ["--reference", TRIED[0]]
    tables = {dataset_id: save / dataset_id / "table.csv" for dataset_id in ("NUS", "NUS_user", *SPLITS)}
    for dataset_id in tables:
        making.compare(dataset_id, save, *words, "--seeds", 2024)
    lines = []
    for flags in TRIED:
        found = {name: valid_nmse(table, flags) for name, table in tables.items()}
        lines.append({"settings": flags} | found | {"mean": sum(found.values()) / len(found)})
    show(lines, making.work / "preset.csv")


if __name__ == "__main__":
    run_script(parser_of(__doc__.splitlines()[0], ("data", "search"), nus=True, bilibili=True), main)
