"""A loaded run that is asked about one video after the other."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from baselines import opened
from common.console import InputError
from dataloader.importing.newcomers import columns_of, kinds_of_table, unused_id
from dataloader.modalities import AUDIO, METADATA
from dataloader.skipped import lost_items
from feature_engineering.jobs.origins import hears, needs_videos, refuse_unknown_origins
from feature_engineering.settings import DecodingSettings
from prediction.newcomers import ITEMS, Asked, predict_newcomers
from prediction.predictor import Predictor
from prediction.report import REPORT

TABLE = "asked.parquet"


@dataclass(frozen=True)
class Question:
    """folder: it lies there, and goes when it is answered. video: its file, alone in a folder of `folder`.

    known: column of the data set's table -> what was typed.
    """

    folder: Path
    title: str
    video: Path | None = None
    known: Mapping[str, str] = field(default_factory=dict)

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Answerer:
    """Of a predictor, for one thread; `place`: a folder for what is asked, until it is answered.

    columns: what else may be said of a video, name -> kind. takes_videos: the run looks at frames, and needs a video.
    InputError where the run's features cannot be made here.
    """

    def __init__(self, predictor: Predictor, decoding: DecodingSettings, place: Path):
        self.predictor, self.decoding, self.place = predictor, decoding, place
        store, run = predictor.store, predictor.run
        self.named = columns_of(store)
        self.name = f"{predictor.settings['model_id']} on {store.dataset_id}"
        self.takes_videos = needs_videos(store, predictor.names)
        self.item_id = unused_id(store.items)
        self.columns: dict[str, str] = {}
        configs = [run.config, *(opened(member, "--model_path")[0].config for member, _ in run.members)]
        if self.named.user_column and not self.named.anonymise and any(one.get("creators") for one in configs):
            self.columns[self.named.user_column] = "creator"
        if METADATA in predictor.needs.features and store.metadata is not None:
            self.columns |= kinds_of_table(store)
        try:
            refuse_unknown_origins(store, sorted(predictor.names), {})
        except InputError as error:
            raise InputError(f"{error} of test.py, as the app can make none of them") from None

    def question(self) -> Question:
        """An empty one with a folder of its own."""
        return Question(Path(tempfile.mkdtemp(dir=self.place)), "")

    def place_of_video(self, question: Question, suffix: str) -> Path:
        """Where its file is to be written: nothing of the name that it had but a known suffix."""
        path = question.folder / "video" / f"{self.item_id}{suffix}"
        path.parent.mkdir()
        return path

    def warm_up(self) -> None:
        """Answer a question of no meaning, so that all that is loaded or fitted once is."""
        question, features = self.question(), {}
        frames = None
        if self.takes_videos:
            frames = question.folder / "frames"
            frames.mkdir()
            Image.new("RGB", (64, 64), "grey").save(frames / f"{self.item_id}_0.jpg")
        if hears(self.predictor.store, self.predictor.names):  # what loads its encoder tries it out
            np.save(question.folder / "sound.npy", np.zeros((1, self.predictor.encoders.sounds().dimension), "f4"))
            features[AUDIO] = str(question.folder / "sound.npy")
        title = next((text for text in self.predictor.store.items.text if text), "title")
        try:
            self._predict(
                Question(question.folder, title),
                Asked(frames=frames, table=self._table(question, title), features=features),
            )
        finally:
            question.forget()

    def answer(self, question: Question) -> str:
        """The page of its prediction, HTML; InputError, a sentence, where it has none."""
        videos = question.video and question.video.parent
        try:
            table = self._table(question, question.title, question.known)
            return self._predict(question, Asked(table=table, videos=videos))
        except InputError as error:
            reasons = [*lost_items(question.folder / "out" / ITEMS).values()]
            raise InputError(reasons[0] if reasons else self._in_public(str(error), question)) from None

    def _table(self, question: Question, title: str, known: Mapping[str, str] | None = None) -> Path:
        """A table of one row, whose columns are those of the data set's own."""
        named, path = self.named, question.folder / TABLE
        row = {named.id_column: self.item_id, named.text_column[0]: title}
        row |= {name: typed(name, self.columns[name], value) for name, value in (known or {}).items()}
        if named.video_column and question.video:
            row[named.video_column] = question.video.name
        pd.DataFrame([row]).to_parquet(path)
        return path

    def _predict(self, question: Question, asked: Asked) -> str:
        output = question.folder / "out"
        with quietly():
            predict_newcomers(self.predictor, asked, output, self.decoding, [], with_page=True)
        return (output / REPORT).read_text("utf-8")

    def _in_public(self, message: str, question: Question) -> str:
        """Without places on this machine, and without what is said of a table where it has one row."""
        for words in (
            f"--table {question.folder}/{TABLE}: ",
            f"{question.folder}/",
            "no row of it can be used: row 1: ",
        ):
            message = message.replace(words, "")
        return message


def typed(name: str, kind: str, value: str) -> str | float:
    """What was typed for a column; InputError where a number is none. Other kinds are read as those of any table."""
    try:
        return float(value) if kind == "number" else value
    except ValueError:
        raise InputError(f"{name}: {value!r} is no number; 1200.5 is one") from None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What a command line prints is for whoever typed it; titles of others have no business in this terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
