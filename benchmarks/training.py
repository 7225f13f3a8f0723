"""MMRA's training step against the arithmetic it cannot do without: float32, bfloat16, and few or many neighbours."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.synthetic import copy_rate, matmul_rate, random_store, report, timings
from common.console import Parser, run_script, whole_number
from common.devices import add_device_flag, pick_device
from common.seeding import seed_everything
from dataloader.batches import open_split
from dataloader.neighbours import Neighbours
from engine.network import Network
from engine.settings import TrainingSettings
from model.MicroLens.MMRA import MMRA

ADAM_BYTES = 28  # a parameter: reads weight, gradient and two moments, writes weight and moments, float32


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    measured = parser.add_argument_group("what is measured")
    measured.add_argument("--items", type=whole_number(100), default=1600, help="in the data set; 80 %% are trained on")
    measured.add_argument("--frames", type=whole_number(1), default=10, help="F")
    measured.add_argument("--dim", type=whole_number(1), default=768, help="D, of the features and of the model")
    measured.add_argument("--batch_size", type=whole_number(1), default=64, help="B")
    measured.add_argument("--repeats", type=whole_number(1), default=5, help="epochs timed")
    add_device_flag(measured)
    return parser


def necessary_flops(frames: int, dim: int, label_dim: int = 1) -> int:
    """Of a training step, a video. Multiply-adds of the matrix products, twice; what is linear in D is left out.

    A branch: visual_embedding and both halves of cross_modal_linear_1 by frame, five D x D products by video
    (textual_embedding 1, dual_attention 1 + 1, cross_modal_linear_2 2). Backward, the weights' gradients cost
    the same again; inputs need none, so that only T* (by frame) and V* (by video) hand theirs down.
    """
    prediction = 10 * dim * 800 + 800 * 200 + 200 * label_dim
    forward = 2 * (3 * frames + 5) * dim**2 + prediction
    to_inputs = 2 * (frames + 1) * dim**2 + prediction
    return 2 * (2 * forward + to_inputs)


def main(args) -> None:
    device = pick_device(args.device)
    seed_everything(0)
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "random", args.items, frames=args.frames, dim=args.dim, k=50)
        shape = {"frames": args.frames, "dim": args.dim, "batch_size": args.batch_size, "device": str(device)}
        size = (args.frames, args.dim, args.batch_size)
        epochs = {(p, 10): timings(one_epoch(store, *size, device, p, 10), args.repeats) for p in ("fp32", "bf16")}
        steps = -(-len(store.rows("train")) // args.batch_size)
        flops = necessary_flops(args.frames, args.dim) * len(store.rows("train")) / steps
        parameters = sum(
            p.numel() for p in MMRA(visual_dim=args.dim, textual_dim=args.dim, feature_dim=args.dim).parameters()
        )
        rate, bandwidth = matmul_rate(device), copy_rate(device)
        floor = flops / rate + parameters * ADAM_BYTES / bandwidth
        step = {key: sorted(taken)[len(taken) // 2] / steps for key, taken in epochs.items()}
        machine = {"matmul_gflops": rate / 1e9, "copy_gb_s": bandwidth / 1e9, "step_gflop": flops / 1e9}
        fp32 = step["fp32", 10]
        report(
            "training", "fp32 s a step, K = 10", fp32, floor, "arithmetic floor, s", floor / fp32, **shape, **machine
        )
        rates = {"bf16_matmul_gflops": matmul_rate(device, torch.bfloat16) / 1e9}
        bf16 = step["bf16", 10]
        report("training", "bf16 s a step, K = 10", bf16, fp32, "fp32 s a step", fp32 / bf16, **shape, **rates)
        # In turn, so that a machine whose speed drifts slows both.
        few, many = (one_epoch(store, *size, device, "fp32", k) for k in (1, 50))
        pairs = [[timings(epoch, 1)[0] for epoch in (few, many)] for _ in range(args.repeats)]
        few, many = (sorted(taken)[len(taken) // 2] for taken in zip(*pairs, strict=True))
        report("training", "fp32 s an epoch, K = 50", many, few, "fp32 s an epoch, K = 1", **shape)


def one_epoch(store, frames: int, dim: int, batch_size: int, device: torch.device, precision: str, k: int):
    """An epoch as train.py runs it, to be timed: batches gathered, forward, backward, optimiser."""
    train = open_split(store, "train", neighbours=Neighbours.read(store), num_of_retrieved_items=k)
    dims = {"visual_dim": dim, "textual_dim": dim, "feature_dim": dim, "frame_num": frames}
    network = Network(MMRA(**dims), TrainingSettings(batch_size=batch_size, precision=precision), device)
    optimiser, generator = network.optimiser(), torch.Generator().manual_seed(0)
    return lambda: network.train_epoch(train, optimiser, generator, epoch=1)


if __name__ == "__main__":
    run_script(build_parser(), main)
