"""What is checked of a data set's features, and when."""

from __future__ import annotations

import numpy as np

from common.console import listed

SATURATING_RMS = 10.0  # a linear layer's output then has a standard deviation near 6: tanh is +-1


def not_finite(bad: np.ndarray, item_ids: np.ndarray) -> str:
    return f"{int(bad.sum())} of {len(bad)} items have NaN or infinite values (item ids {listed(item_ids[bad])})"


def scale_warning(name: str, rms: float) -> str | None:
    if rms <= SATURATING_RMS:
        return None
    return (
        f"the {name} values have a root mean square of {rms:,.0f}; above {SATURATING_RMS:g} they saturate the "
        f"networks: import them with --normalise {name}=standard (or {name}=l2)"
    )
