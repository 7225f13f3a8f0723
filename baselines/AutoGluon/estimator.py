"""AutoGluon's TabularPredictor on the raw table (Erickson et al., "AutoGluon-Tabular", 2020)."""

from __future__ import annotations

import logging
import tempfile
import warnings

import numpy as np
import pandas as pd
import torch
from autogluon.tabular import TabularPredictor
from autogluon.tabular.configs.hyperparameter_configs import get_hyperparameter_config

from common.console import InputError, listed
from dataloader.batches import Split, Unlabelled
from dataloader.statistics import Statistics, with_statistics, with_time
from engine.foretold import Foretold

# Its kinds of models, none of which loads weights that others trained, and what each calls its seed.
SEEDS = {"GBM": "seed", "CAT": "random_seed", "XGB": "seed", "RF": "random_state", "XT": "random_state"}
SEEDS |= {"NN_TORCH": "seed_value", "FASTAI": "random_seed"}


class AutoGluon(Foretold):
    """On typed metadata, the text as it is, label statistics and components of feature vectors; AutoGluon's defaults.

    Of its kinds of models those are fitted whose package is installed, until the time is over. Split valid is its
    tuning data: it stops their training, and chooses and weighs them. Seeds are set, but how many models and trees the
    time suffices for is the machine's: a run does not repeat itself to the bit.
    """

    typed_columns = True

    def __init__(self, *, time_limit: int = 240, bag_folds: int = 0, **how):
        super().__init__(**how)
        self.time_limit, self.bag_folds = time_limit, bag_folds

    def tables(self, *splits: Split | Unlabelled) -> list[pd.DataFrame]:
        """A row an item, of each split, the first of which is train."""
        found = []
        for split, components in zip(splits, self.columns_of_vectors(splits[0], *splits), strict=True):
            said = split.statistics or Statistics([], np.empty((len(split), 0), np.float32))
            columns = dict(with_statistics(with_time(split.metadata, split.time), said).columns)
            for name, values in columns.items():
                if values.dtype.kind == "i":  # yes or no, -1 where it is unknown
                    columns[name] = np.where(values < 0, np.nan, values)
            if split.text is not None and (split.text != "").any():
                columns["text" if "text" not in columns else "text (of the item)"] = split.text
            found.append(pd.DataFrame(columns | components))
        return [table[list(found[0].columns)] for table in found]

    def models(self) -> dict[str, list[dict]]:
        """Kind -> its variants in AutoGluon's default, with the seed of this run; of bagged ones that of the first."""
        found = {}
        for kind, variants in get_hyperparameter_config("default").items():
            if kind in SEEDS:
                seed = {"ag_args_ensemble": {"model_random_seed": self.seed}} if self.bag_folds else {}
                seed = seed or {SEEDS[kind]: self.seed}
                found[kind] = [one | seed for one in (variants if isinstance(variants, list) else [variants])]
        return found

    def foretell(self, train: Split, valid: Split, tested: Unlabelled, target: int) -> tuple[np.ndarray, np.ndarray]:
        tables = self.tables(train, valid, tested)
        if not len(tables[0].columns):
            raise InputError("AutoGluon: no features, metadata or neighbours are left to learn from")
        label = "label"
        while label in tables[0]:
            label += "_"
        labelled = [
            table.assign(**{label: s.label[:, target]}) for table, s in zip(tables, (train, valid), strict=False)
        ]
        seconds = self.time_limit / self.label_dim
        self.run.log(f"AutoGluon on {len(tables[0].columns)} columns, for {seconds:g} s, in which it says nothing")
        bagged = {"num_bag_folds": self.bag_folds, "use_bag_holdout": True} if self.bag_folds else {}
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            try:
                how = {"label": label, "problem_type": "regression", "eval_metric": "root_mean_squared_error"}
                predictor = TabularPredictor(
                    **how, path=folder, verbosity=0, learner_kwargs={"random_state": self.seed}
                )
                predictor.fit(
                    labelled[0],
                    tuning_data=labelled[1],
                    time_limit=seconds,
                    hyperparameters=self.models(),
                    num_cpus=torch.get_num_threads(),
                    num_gpus=0,
                    **bagged,
                )
                board = predictor.leaderboard()
                found = tuple(predictor.predict(table).to_numpy() for table in tables[1:])
            except (RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(
                    f"{self.run.folder}: AutoGluon cannot be fitted: {reason}; raise --time_limit"
                ) from None
            finally:
                logging.disable(logging.NOTSET)
        scores = [f"{name} {-score:.4f}" for name, score in zip(board["model"], board["score_val"], strict=True)]
        self.run.log(f"RMSE on split valid of {train.target.names[target]}: {listed(scores, 12)}")
        return found
