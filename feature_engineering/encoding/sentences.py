"""A folder of sentence-transformers, read by that library: its modules pool, project and normalise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from common.console import InputError
from common.devices import pick_device, pick_precision
from feature_engineering.encoding.encoders import Source, hash_of, require_complete, require_weights, told_in_a_line
from feature_engineering.encoding.folders import Module, prompts_of
from feature_engineering.encoding.tokens import (
    UNLIMITED,
    embedding_rows,
    make_usable,
    positions,
    require_files,
    require_vocabulary,
)
from feature_engineering.settings import EncoderSettings

POOLINGS = {"lasttoken": "last"}  # its name -> ours; all others are called alike
OWN = "own"  # the pooling of a model that makes one vector of a text in another way


class Sentences:
    """The encoder of a folder of sentence-transformers.

    model: the modules, one after the other. pooling, dense, normalise, longest: what the folder says, longest the
    number of tokens; pooling is changed by `pool_by`. most: the tokens that the model can take.
    """

    by = "sentence-transformers"

    def __init__(self, source: Source, modules: Sequence[Module], settings: EncoderSettings):
        try:
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.base.modules import Dense, Normalize, Transformer
            from sentence_transformers.sentence_transformer.modules import Pooling
        except ImportError:
            raise InputError(
                f"--encoder {source.label}: a model of sentence-transformers, which is not installed; "
                "pip install -r requirements.txt"
            ) from None

        class Complete(Transformer):
            """Refuses a checkpoint that lacks weights; the library only logs what it lacks."""

            def _load_model(self, *args, **options):
                model, report = super()._load_model(*args, output_loading_info=True, **options)
                require_complete(report, source.label)
                return model

        for module in modules:
            require_weights(source.folder / module.path, source.label)
            if module.kind == "Transformer":
                require_files(source.folder / module.path, source.label)
        complete = {module.type: Complete for module in modules if module.kind == "Transformer"}
        with told_in_a_line(source, "sentence-transformers"):
            model = SentenceTransformer._load_with_module_classes(
                str(source.folder),
                complete,
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": torch.float32},
            )
        model.weights_hash = hash_of(model)
        device = pick_device(settings.device)
        self.model = model.eval().to(device, pick_precision(settings.precision, device))
        self.prompts, self.default_prompt = prompts_of(source.folder)
        model.default_prompt_name = None  # what is encoded is said at each call
        self.tokenizer = getattr(model[0], "tokenizer", None)
        self.rows, self.most, self.longest = None, UNLIMITED, None
        self.has_limit = isinstance(model[0], Transformer)
        if self.has_limit:
            require_vocabulary(self.tokenizer, source.folder / modules[0].path, source.label)
            self.rows = embedding_rows(model.transformers_model)
            if model[0].transformer_task == "feature-extraction":
                make_usable(self.tokenizer, self.rows, source.label)
            self.most = positions(model.transformers_model)
            said = min(self.tokenizer.model_max_length, self.most)
            self.longest = said if said < UNLIMITED else None
        poolings = [at for at, module in enumerate(model) if isinstance(module, Pooling)]
        self._at = poolings[0] if len(poolings) == 1 else None
        self.pooling = OWN if self._at is None else _name_of(model[self._at].pooling_mode)
        # A prompt is handed over as one where its tokens are not pooled, or where it is a message of its own.
        self._apart = "message" in model.modalities or (self._at is not None and not model[self._at].include_prompt)
        self.normalise = any(isinstance(module, Normalize) for module in model)
        self.dense = [
            f"{module.in_features} -> {module.out_features} {type(module.activation_function).__name__}"
            for module in model
            if isinstance(module, Dense)
        ]

    def pool_by(self, pooling: str, label: str) -> None:
        """In place of what the folder says."""
        from sentence_transformers.sentence_transformer.modules import Pooling

        if self._at is None:
            raise InputError(f"--pooling {pooling}: {label} makes one vector of a text in its own way, which is taken")
        theirs = {ours: name for name, ours in POOLINGS.items()}
        old, names = self.model[self._at], pooling.split("+")
        names = ["cls", "mean"] if pooling == "cls_avg" else [theirs.get(name, name) for name in names]
        new = Pooling(old.embedding_dimension, names, include_prompt=old.include_prompt)
        wide = old.embedding_dimension if pooling == "cls_avg" else new.pooling_output_dimension
        if wide != old.pooling_output_dimension and self.dense:
            raise InputError(f"--pooling {pooling}: gives {wide} values, {label} goes on with {self.dense[0]}")
        self.model[self._at] = torch.nn.Sequential(new, Halves()) if pooling == "cls_avg" else new
        self.pooling = pooling

    def limit(self, max_length: int | None) -> None:
        """Tokens that are kept of a text."""
        if self.has_limit:
            self.model.max_seq_length = max_length

    def __call__(self, texts: list[str], prompt: str) -> torch.Tensor:
        """B texts, whose prompt they have already -> (B, D), on the device."""
        prefix = prompt.removesuffix("{text}") if self._apart else ""
        texts = [text.removeprefix(prefix) for text in texts]
        flags = {"batch_size": len(texts), "show_progress_bar": False, "convert_to_tensor": True}
        return self.model.encode(texts, prompt=prefix, **flags)


class Halves(torch.nn.Module):
    """The mean of the CLS vector and of the mean of the tokens, which lie side by side: AnglE's cls_avg."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        both = features["sentence_embedding"]  # (B, 2D)
        return features | {"sentence_embedding": both.unflatten(1, (2, -1)).mean(dim=1)}


def _name_of(mode: str | Sequence[str]) -> str:
    """Several that lie side by side are joined by a plus."""
    return "+".join(POOLINGS.get(one, one) for one in ([mode] if isinstance(mode, str) else mode))
