"""A multimodal language model, asked about pictures by its chat template."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    ProcessorMixin,
)

from common.console import InputError
from common.devices import pick_device
from common.files import read_json
from feature_engineering.decoding.pixels import LARGEST
from feature_engineering.decoding.workers import Failure
from feature_engineering.encoding.encoders import (
    Encoder,
    Source,
    first_line,
    load_encoder,
    load_pretrained,
    told_in_a_line,
)
from feature_engineering.settings import CaptionSettings, EncoderSettings

PROMPT = "Describe in one sentence what is to be seen and what happens."
LENGTH = 100  # new tokens of a caption at most, where the settings do not say
THOUGHTS = ("<think>", "</think>")  # between these a model thinks before it answers


class Asked(Encoder):
    """An image-text-to-text model of transformers, asked by its chat template about one frame or several.

    frames_per_request: all F frames of a video where the model takes so many pictures, else 1. acted: what acts, as
    captions.jsonl says it.
    """

    processor = None  # of single pictures: this one's sees pictures and text together

    def __init__(
        self,
        source: Source,
        config: transformers.PreTrainedConfig,
        settings: EncoderSettings,
        captions: CaptionSettings,
        frame_num: int,
        remake: Callable[..., Encoder],
    ):
        super().__init__(source, settings, remake, captions, frame_num)
        self.prompt = PROMPT if captions.prompt is None else captions.prompt
        if not self.prompt.strip():
            raise InputError(f"--prompt {self.prompt!r}: asks nothing")
        self.max_new_tokens = captions.max_new_tokens or LENGTH
        self.temperature = captions.temperature
        self.seed = (captions.seed or 0) if self.temperature else None
        self._processor = load_processor(source, config)
        self._tokenizer = self._processor.tokenizer
        # Answers are written behind what is asked, so that what is shorter is filled up in front.
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.convert_ids_to_tokens(0)
        # Thoughts are cut away in words, so that their marks have to stay.
        added = self._tokenizer.added_tokens_decoder.items()
        self._silent = {number for number, token in added if token.special and token.content not in THOUGHTS}
        self.model = load_encoder(source, pick_device(settings.device), settings.precision, AutoModelForImageTextToText)
        self._most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self.frames_per_request = self._try_out(frame_num)
        self._begins_with_thoughts = self._in_words(self.frames_per_request).rstrip().endswith(THOUGHTS[0])
        self.batch_size = self.frames_per_request * max(1, settings.batch_size // self.frames_per_request)
        self.acted = {
            "prompt": self.prompt,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "frames_per_request": self.frames_per_request,
        }

    def __call__(self, pictures: np.ndarray, names: Sequence[str]) -> list[str | Failure]:
        """(B,) pictures, each (H, W, 3) uint8 -> an answer to each request, a Failure where its pictures are refused.

        names: of the requests; what is drawn depends on the seed and on a request's name, and on nothing around it.
        """
        requests = [list(frames) for frames in pictures.reshape(-1, self.frames_per_request)]
        return self._answers(requests, list(names))

    def _answers(self, requests: list[list[np.ndarray]], names: list[str]) -> list[str | Failure]:
        try:
            inputs = self._inputs(requests)
        except Exception as error:
            # Each model's processor refuses odd pictures, as very narrow ones, with an exception of its own choice.
            if len(requests) == 1:
                return [Failure(f"the captioner's processor refuses it ({first_line(error)})")]
            alone = zip(requests, names, strict=True)
            return [answer for request, name in alone for answer in self._answers([request], [name])]
        return [self._said(tokens) for tokens in self._generate(inputs, names, self.max_new_tokens)]

    def _inputs(self, requests: list[list[np.ndarray]]) -> transformers.BatchFeature:
        """What the model takes of B requests; ValueError where one is longer than the model can read."""
        conversations = [self._conversation([Image.fromarray(frame) for frame in request]) for request in requests]
        inputs = self._templated(conversations, tokenize=True, return_dict=True, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        if self._most and length + self.max_new_tokens > self._most:
            raise ValueError(f"{length} tokens and {self.max_new_tokens} new ones, of {self._most} at most")
        return inputs

    def _conversation(self, pictures: Sequence[Any]) -> list[dict]:
        content = [{"type": "image", "image": picture} for picture in pictures]
        return [{"role": "user", "content": [*content, {"type": "text", "text": self.prompt}]}]

    def _in_words(self, pictures: int) -> str:
        """What the model reads, with a mark for each picture."""
        return self._templated(self._conversation([None] * pictures))

    def _templated(self, conversation: list, **how: Any) -> Any:
        # Of templates that can switch thinking off: a caption needs no thoughts, which may take all its tokens.
        if "enable_thinking" in str(self._processor.chat_template):
            how["enable_thinking"] = False
        return self._processor.apply_chat_template(
            conversation, add_generation_prompt=True, processor_kwargs={"padding": True}, **how
        )

    @torch.inference_mode()
    def _generate(self, inputs: transformers.BatchFeature, names: Sequence[str], length: int) -> torch.Tensor:
        """(B, at most `length`) the new tokens"""
        weights = next(self.model.parameters())
        inputs = inputs.to(weights.device, weights.dtype)
        drawn = [Drawn(self.temperature, self.seed, names)] if self.temperature else []
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=length,
            logits_processor=LogitsProcessorList(drawn),
            pad_token_id=self._tokenizer.pad_token_id,
            # What a folder's generation_config.json says of drawing does not act here.
            **dict.fromkeys(("temperature", "top_p", "top_k")),
            do_sample=False,
            num_beams=1,
            num_return_sequences=1,
            return_dict_in_generate=False,
        )
        return tokens if self.model.config.is_encoder_decoder else tokens[:, inputs["input_ids"].shape[1] :]

    def _said(self, tokens: torch.Tensor) -> str:
        """The answer in one line, without special tokens and without what was thought before; "" if there is none."""
        spoken = [number for number in tokens.tolist() if number not in self._silent]
        text = self._tokenizer.decode(spoken)
        _, thought, answer = text.rpartition(THOUGHTS[1])
        if self._begins_with_thoughts and not thought:
            return ""  # It was still thinking when it had used up its tokens.
        return " ".join(answer.partition(THOUGHTS[0])[0].split())

    def _try_out(self, frame_num: int) -> int:
        """Frames in a request. A model that cannot caption is told of here, and not when many videos are decoded."""
        if reason := self._refuses(1):
            raise InputError(f"--encoder {self.source.label}: cannot caption a picture ({reason})")
        if frame_num == 1 or not (reason := self._refuses(frame_num)):
            return frame_num
        print(f"{self.source.label}: does not take {frame_num} frames at once ({reason}); each is captioned alone")
        return 1

    def _refuses(self, number: int) -> str:
        """Why the model cannot be asked about so many pictures at once; "" if it can."""
        try:
            if self._in_words(number) == self._in_words(number - 1):
                return f"its chat template has no place for {number} picture{'s' * (number > 1)}"
            self._inputs([[np.zeros((*LARGEST, 3), np.uint8)] * number])  # ValueError where these are too long
            small = self._inputs([[np.zeros((64, 64, 3), np.uint8)] * number])
            self._generate(small, [""], 2)
        except torch.OutOfMemoryError:  # of this machine, at this moment
            raise
        except Exception as error:  # of transformers or jinja: what is odd here is what the folder holds
            return first_line(error)
        return ""


class Drawn(LogitsProcessor):
    """Draws each row's next token from softmax(scores / temperature): it is the one that has the largest score then.

    The largest sum of scores / temperature and Gumbel noise is such a draw; here both are multiplied by the
    temperature, which may be very small. Each row has a generator of its own, on the CPU: what is drawn for it depends
    neither on the other rows nor on the device.
    """

    def __init__(self, temperature: float, seed: int, names: Sequence[str]):
        self.temperature, self.generators = temperature, []
        for name in names:
            digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest()
            self.generators.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # (B, V)
        noise = [-torch.empty(scores.shape[1]).exponential_(generator=one).log() for one in self.generators]
        return scores.float() + self.temperature * torch.stack(noise).to(scores.device)


class Absent:
    """In place of what a processor reads videos or sound by: whatever is asked of it is None."""

    def __getattr__(self, name: str) -> None:
        return None


def load_processor(source: Source, config: transformers.PreTrainedConfig) -> ProcessorMixin:
    """The processor of pictures and text that the folder names, else that of the model's type.

    It is put together here, as transformers would also want torchvision for the videos that some processors read.
    """
    files = [source.folder / f"{name}.json" for name in ("processor_config", "preprocessor_config", "tokenizer_config")]
    named = [read_json(path).get("processor_class") for path in files if path.exists()]
    name = next((str(one) for one in named if one), None)
    known = transformers.PROCESSOR_MAPPING
    kind = getattr(transformers, name, None) if name else known.get(type(config), None)
    if not (inspect.isclass(kind) and issubclass(kind, ProcessorMixin)):
        raise InputError(
            f"--encoder {source.label}: has no processor of pictures and text that transformers knows"
            + (f" ({name})" if name else "")
        )

    class OfPictures(kind):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            absent = isinstance(argument, Absent)
            return Absent if absent else super().check_argument_for_proper_class(argument_name, argument)

    with told_in_a_line(source):
        said, _ = kind.get_processor_dict(source.folder, local_files_only=True)
    parts: dict[str, Any] = dict.fromkeys(kind.get_attributes(), Absent())
    taken = inspect.signature(kind.__init__).parameters.keys() - parts.keys()
    parts["image_processor"] = load_pretrained(AutoImageProcessor, source, backend="pil")
    parts["tokenizer"] = load_pretrained(AutoTokenizer, source)
    with told_in_a_line(source):
        processor = OfPictures(**parts, **{key: value for key, value in said.items() if key in taken})
    if not processor.chat_template:
        raise InputError(f"--encoder {source.label}: has no chat template, so nothing can be asked of it")
    return processor
