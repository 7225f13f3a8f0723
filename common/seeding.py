"""Same seed, same machine: same bits."""

from __future__ import annotations

import os


def seed_everything(seed: int) -> None:
    """Seed torch and ask it for deterministic kernels (cuBLAS wants its workspace fixed before CUDA starts)."""
    import torch  # a command line that only parses flags does not wait for it

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
