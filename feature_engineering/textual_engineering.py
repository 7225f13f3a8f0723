"""Encode the texts of a data set with any text encoder of sentence-transformers or transformers, as features (N, Dt).

The published system takes WhereIsAI/angle-bert-base-uncased-nli-en-v1 with its pooling cls_avg. Retrieval vectors are
retrieval_engineering.py's, but for --output both, which lets the textual features serve there too. A killed or stopped
run goes on where it was when the same command is typed again.
"""

from __future__ import annotations

import commands

from common.console import Parser, run_script
from common.settings import add_flags, made
from dataloader.place import folder_of, one_writer
from dataloader.store import FeatureStore
from feature_engineering.jobs.making import make_textual
from feature_engineering.jobs.storing import check_before_encoding, is_made
from feature_engineering.settings import (
    TEXTUAL_ENCODER,
    EncoderSettings,
    StorageSettings,
    TextSettings,
    add_encoder_flags,
)

OUTPUTS = {"textual": ["textual"], "both": ["textual", "retrieval"]}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    add_encoder_flags(parser, encoder=TEXTUAL_ENCODER, batch_size=64)
    stored = parser.add_argument_group("what is stored")
    stored.add_argument("--output", default="textual", choices=OUTPUTS, help="which features of the data set to write")
    add_flags(stored, StorageSettings)
    add_flags(parser.add_argument_group("texts"), TextSettings)
    return parser


@one_writer
def main(args) -> None:
    # What imports torch takes seconds, so a mistyped flag is told of before.
    from feature_engineering.encoding.texts import TextEncoder

    names, storage = OUTPUTS[args.output], made(StorageSettings, vars(args))
    store = FeatureStore.open(folder_of(args.dataset_path, args.dataset_id), anew=names * args.overwrite)
    encoding = made(EncoderSettings, vars(args))
    check_before_encoding(store, names, storage, {"encoder": {"name": encoding.label}}, args.overwrite)
    encoder = TextEncoder(encoding, made(TextSettings, vars(args)))
    if is_made(store, names, storage, encoder.provenance(), args.overwrite):
        return commands.say_next(commands.next_steps(store))
    make_textual(store, encoder, names, storage, overwrite=args.overwrite)
    commands.say_next(commands.next_steps(FeatureStore.open(store.folder)))


if __name__ == "__main__":
    run_script(build_parser(), main, commands.remedy)
