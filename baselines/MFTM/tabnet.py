"""pytorch-tabnet's regressor, without its product with a large identity matrix."""

from __future__ import annotations

from pytorch_tabnet.callbacks import Callback
from pytorch_tabnet.tab_model import TabNetRegressor
from tqdm import tqdm


class TabNet(TabNetRegressor):
    """As the library has it, but for wide inputs.

    Without groups of features the library multiplies each attention mask by an identity matrix: at MicroLens' 8,448
    features that is most of the arithmetic and 285 MB, for nothing. The mask is used as it is instead.
    """

    def _set_network(self) -> None:
        super()._set_network()
        self.network.tabnet.encoder.group_attention_matrix = _Identity()
        self.group_matrix = self.network.embedder.embedding_group_matrix = None


class _Identity:
    """torch.matmul(mask, this) is the mask."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return args[0]


class Progress(Callback):
    def __init__(self, bar: tqdm):
        super().__init__()
        self.bar = bar

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.bar.set_postfix(valid_mse=f"{logs['valid_mse']:.4f}", refresh=False)
        self.bar.update()
