"""Labels that are standardised by train, so that a network's outputs begin where its labels are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dataloader.batches import Batch

# What train's labels were standardised by, in the file of the weights.
MEAN, SPREAD = "label_scale.mean", "label_scale.spread"


@dataclass(frozen=True)
class LabelScale:
    """Mean and standard deviation of each target over train, (label_dim,)."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, label: np.ndarray, device: torch.device) -> LabelScale:
        """(n, label_dim); a target that is constant is only centred."""
        mean, spread = label.mean(axis=0), label.std(axis=0)
        spread = np.where(spread > 1e-9 * np.maximum(np.abs(mean), 1), spread, 1)
        return cls(*(torch.from_numpy(values).float().to(device) for values in (mean, spread)))

    def there(self, label: Tensor) -> Tensor:
        return (label - self.mean) / self.spread

    def back(self, output: Tensor) -> Tensor:
        return output * self.spread + self.mean

    def batch(self, batch: Batch) -> Batch:
        """The same with standardised labels, the neighbours' too; what pads give stays zero."""
        near = batch.neighbours
        if near is not None:
            label = self.there(near.label)
            near = replace(near, label=label if near.there is None else label * near.there.unsqueeze(2))
        return replace(batch, label=None if batch.label is None else self.there(batch.label), neighbours=near)
