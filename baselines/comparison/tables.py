"""The table of results as Markdown, CSV and LaTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from baselines.comparison.results import Result
from engine.metrics import METRICS

DIGITS = 3
MARKDOWN = re.compile(r"[\\`*<>\[\]|&~$]|(?<!\w)_|_(?!\w)")  # an underscore within a word means nothing
TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
TEX |= {"<": r"\textless{}", ">": r"\textgreater{}"} | {letter: f"\\{letter}" for letter in "&%$#_{}"}


@dataclass(frozen=True)
class Origin:
    """What it takes to make the same figures again; every output says it."""

    command: str
    dataset_id: str
    fingerprint: str
    neighbours: str  # in words
    label: str
    n: int  # test items
    folds: str  # in words; empty without
    seeds: list[int]
    environment: dict  # engine.run.environment()
    split: str = ""  # in words; empty with folds
    consequences: tuple[str, ...] | list[str] = ()  # metadata that were counted after publication

    @property
    def line(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.environment["versions"].items())
        said = (
            f"{self.command} | data {self.dataset_id} fingerprint {self.fingerprint}, {self.neighbours}, {self.n} test "
            f"items{', ' * bool(self.folds)}{self.folds} | {versions} | commit {self.environment['commit']}"
        )
        return " ".join(said.split())  # a line break in a flag would end a comment of LaTeX

    def markdown(self, results: list[Result], extra: list[str]) -> str:
        environment = self.environment
        lines = [f"- {code(self.command)}", *(f"- {line}" for line in extra)]
        lines += [
            f"- {plain(result.name)}: {code(result.command)}, then `python test.py --model_path <run>`"
            for result in trained(results)
        ]
        lines += [f"- {plain(result.name)}: {plain(result.chosen)}" for result in results if result.trivial]
        versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        lines += [
            f"- data: {plain(self.dataset_id)}, fingerprint `{self.fingerprint}`; {plain(self.neighbours)}; label "
            f"{plain(self.label)}",
            f"- versions: {versions}; commit `{environment['commit']}`",
            f"- machine: {environment['processor']}, {environment['threads']} threads"
            + (f", {environment['cuda']}" if environment["cuda"] else ""),
        ]
        return "\n".join(lines)


def trained(results: list[Result]) -> list[Result]:
    return [result for result in results if not result.trivial]


def marks(results: list[Result], metric: str) -> list[str]:
    """`best`, `second` or nothing for each row, as the printed figures rank: rows that print alike are marked alike."""
    printed = [round(result.mean(metric), DIGITS) for result in results]
    ranked = sorted({value for value in printed if np.isfinite(value)}, reverse=METRICS[metric].larger_is_better)
    names = dict(zip(ranked, ("best", "second"), strict=False))
    return [names.get(value, "") for value in printed]


def figure(result: Result, metric: str, split: str = "test") -> str:
    """`0.734 ± 0.005`; no ± for one seed and for a deterministic method (the column `seeds` says which)."""
    mean, std = result.mean(metric, split), result.std(metric, split)
    if np.isnan(mean):
        return "-"
    spread = "" if result.deterministic or np.isnan(std) else f" ± {std:.{DIGITS}f}"
    return f"{mean:.{DIGITS}f}{spread}"


def seconds(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def markdown(results: list[Result]) -> str:
    wraps = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
    lines = [f"| | {' | '.join(METRICS)} | seeds | train s |", "|---|" + "---|" * (len(METRICS) + 2)]
    columns = _columns(results, wraps, lambda text: text)
    for i, result in enumerate(results):
        cells = [column[i] for column in columns]
        lines.append(
            f"| {plain(result.name)} | {' | '.join(cells)} | {_seeds(result)} | {seconds(result.train_seconds)} |"
        )
    return "\n".join(lines)


def valid_markdown(results: list[Result]) -> str:
    """What settings may be chosen by: split valid, of the models that were kept."""
    lines = [f"| split valid | {' | '.join(METRICS)} |", "|---|" + "---|" * len(METRICS)]
    for result in results:
        cells = [figure(result, metric, "valid") for metric in METRICS]
        lines.append(f"| {plain(result.name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tex(results: list[Result], origin: Origin) -> str:
    r"""A booktabs tabular; needs \usepackage{booktabs}. Trivial rows stand below a rule."""
    wraps = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
    arrows = [rf"{m.name} $\{'up' if m.larger_is_better else 'down'}arrow$" for m in METRICS.values()]
    lines = [f"% {line}" for line in origin.line.split(" | ")]
    lines += [rf"\begin{{tabular}}{{l{'c' * len(METRICS)}lr}}", r"\toprule"]
    lines += [" & ".join(["", *arrows, "seeds", r"train s \\"]), r"\midrule"]
    columns = _columns(results, wraps, escaped)
    for i, result in enumerate(results):
        if result.trivial and i and not results[i - 1].trivial:
            lines.append(r"\midrule")
        cells = [escaped(result.name), *(column[i] for column in columns), escaped(_seeds(result))]
        lines.append(" & ".join([*cells, seconds(result.train_seconds)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _columns(results: list[Result], wraps: dict[str, str], escape) -> list[list[str]]:
    """The cells of each metric: (metrics, rows)."""
    return [
        [
            wraps[mark].format(escape(figure(result, metric)))
            for result, mark in zip(results, marks(results, metric), strict=True)
        ]
        for metric in METRICS
    ]


def _seeds(result: Result) -> str:
    failed = len(result.failures)
    if not result.seeds:
        return "failed"
    return result.seeds_in_words + (f", {failed} failed" if failed else "")


def plain(text: str) -> str:
    """Plain text -> Markdown that shows it as it is, on one line."""
    return MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def code(text: str) -> str:
    """Plain text -> Markdown that shows it as code, on one line, whatever backticks are in it."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def escaped(text: str) -> str:
    """Plain text -> LaTeX."""
    return "".join(TEX.get(letter, letter) for letter in text)


def frame(results: list[Result], origin: Origin, first: list[dict] | None = None) -> pd.DataFrame:
    """The table with every digit, for CSV; `first`: columns before the rest, a dict a row."""
    lines = []
    for i, result in enumerate(results):
        line = {**(first[i] if first else {}), "row": result.name, "method": result.method or "trivial"}
        for metric in METRICS:
            line |= {f"{metric}_mean": result.mean(metric), f"{metric}_std": result.std(metric)}
            line[f"valid_{metric}_mean"] = result.mean(metric, "valid")
        line |= {
            "seeds": " ".join(map(str, result.seeds)) if not result.trivial else "",
            "failed": len(result.failures),
        }
        line |= {"deterministic": result.deterministic, "train_seconds": result.train_seconds}
        lines.append(line | {"command": result.command or result.chosen} | _origin(origin))
    return pd.DataFrame(lines)


def _origin(origin: Origin) -> dict[str, str]:
    return {"fingerprint": origin.fingerprint, "commit": origin.environment["commit"], "made_by": origin.command}
