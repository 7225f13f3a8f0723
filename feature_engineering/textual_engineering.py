"""Encode the texts of a data set with any text encoder of transformers, as textual features (N, Dt).

The published system takes WhereIsAI/angle-bert-base-uncased-nli-en-v1 with its pooling cls_avg. Retrieval vectors are
retrieval_engineering.py's, but for --output both, which lets the textual features serve there too. A killed or stopped
run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

from common.console import Parser, run_script
from dataloader.place import dataset_folder
from dataloader.store import FeatureStore
from feature_engineering.encoders import (
    add_encoder_flags,
    add_storage_flags,
    check_before_encoding,
    write_features,
)
from feature_engineering.texts import TextEncoder, add_text_flags, encode_texts

PUBLISHED = "WhereIsAI/angle-bert-base-uncased-nli-en-v1"
OUTPUTS = {"textual": ["textual"], "both": ["textual", "retrieval"]}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, PUBLISHED, batch_size=64)
    add_storage_flags(parser)
    add_text_flags(parser)
    parser.add_argument("--output", default="textual", choices=OUTPUTS, help="which features of the data set to write")
    return parser


def main(args) -> None:
    store = FeatureStore.open(dataset_folder(args))
    check_before_encoding(store, OUTPUTS[args.output], args)
    encoder = TextEncoder(args)
    array, progress = encode_texts(store.items.text, encoder, store.folder / "textual.progress", args)
    write_features(store, OUTPUTS[args.output], array, args, encoder.provenance())
    progress.remove()


if __name__ == "__main__":
    run_script(build_parser(), main)
