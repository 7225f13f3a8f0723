"""What the test items show about one row against each other row, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from baselines.comparison.results import Result
from baselines.comparison.tables import plain
from engine.bootstrap import CONFIDENCE, RESAMPLES, Interval, Resampled
from engine.metrics import METRICS
from engine.significance import FLIPS, holm, paired_tests

TESTED = ("nMSE", "SRC", "MAE")
LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True)
class Verdict:
    """The reference against one other row."""

    reference: Result
    other: Result
    differences: dict[str, Interval]  # metric -> reference - other
    p: float  # of absolute errors: engine.significance.paired_tests
    p_holm: float
    smaller_errors: bool  # the reference's

    def sign(self, metric: str) -> int:
        """1: the reference is shown to be better, -1: worse, 0: nothing is shown."""
        difference = self.differences[metric]
        if not difference.excludes_zero:
            return 0
        return 1 if (difference.value > 0) == METRICS[metric].larger_is_better else -1

    def within_seeds(self, metric: str) -> bool:
        """The difference is smaller than the spread that seeds alone make, where that is known."""
        spread = np.nansum([self.reference.std(metric) ** 2, self.other.std(metric) ** 2]) ** 0.5
        return abs(self.differences[metric].value) < spread


def judge(
    results: list[Result],
    resampled: Resampled,
    reference: str,
    truth: np.ndarray,
    creators: np.ndarray | None,
    seed: int,
) -> list[Verdict]:
    """The row `reference` against every other; `resampled` has the rows in the order of `results`."""
    at = next(i for i, result in enumerate(results) if result.name == reference)
    others = [i for i in range(len(results)) if i != at]
    predictions = [results[i].prediction for i in others]
    tests = paired_tests(results[at].prediction, predictions, truth, creators, seed)
    corrected = holm([p for p, _ in tests])
    return [
        Verdict(
            reference=results[at],
            other=results[i],
            differences={metric: resampled.difference(at, i, metric) for metric in TESTED},
            p=p,
            p_holm=p_holm,
            smaller_errors=smaller,
        )
        for i, (p, smaller), p_holm in zip(others, tests, corrected, strict=True)
    ]


def verdicts_table(verdicts: list[Verdict], fingerprint: str) -> pd.DataFrame:
    """A line per other row and metric."""
    lines = []
    for v in verdicts:
        p_values = {"p": v.p, "p_holm": v.p_holm, "reference_errors_smaller": v.smaller_errors}
        for metric, d in v.differences.items():
            difference = {"metric": metric, "difference": d.value, "low": d.low, "high": d.high, "drawn": d.unit}
            difference |= {"low_videos": d.low_videos, "high_videos": d.high_videos}
            shown = {1: "reference better", -1: "reference worse", 0: "nothing"}[v.sign(metric)]
            found = {"shown": shown, "within_spread_of_seeds": v.within_seeds(metric)}
            names = {"reference": v.reference.name, "row": v.other.name}
            lines.append(names | difference | found | p_values | {"fingerprint": fingerprint})
    return pd.DataFrame(lines)


def verdicts_markdown(verdicts: list[Verdict], user: np.ndarray) -> str:
    """The differences as a table, a sentence a row, and how to read them."""
    name = plain(verdicts[0].reference.name)
    lines = [f"| {name} minus ... | {' | '.join(TESTED)} | p | p (Holm) |", "|---|" + "---|" * (len(TESTED) + 2)]
    for v in verdicts:
        cells = [difference_in_words(v.differences[metric]) for metric in TESTED]
        lines.append(f"| {plain(v.other.name)} | {' | '.join(cells)} | {p_in_words(v.p)} | {p_in_words(v.p_holm)} |")
    lines += ["", *(f"- {sentence(v)}" for v in verdicts), "", explanation(name, user, len(verdicts))]
    return "\n".join(lines)


def sentence(v: Verdict) -> str:
    """`**SVR**: MMRA is better in nMSE and MAE; for SRC no difference is shown. ...`"""
    name, said = plain(v.reference.name), []
    for sign, word in ((1, "better"), (-1, "worse")):
        if metrics := [metric for metric in TESTED if v.sign(metric) == sign]:
            said.append(f"{name} is {word} in {joined(metrics)}")
    undefined = [metric for metric in TESTED if np.isnan(v.differences[metric].value)]
    if undecided := [metric for metric in TESTED if v.sign(metric) == 0 and metric not in undefined]:
        said.append(f"for {joined(undecided)} no difference is shown")
    if undefined:
        said.append(f"{joined(undefined)} of a constant prediction is not defined")
    text = f"**{plain(v.other.name)}**: {'; '.join(said)}. {errors_in_words(v)}"
    doubtful = [metric for metric in TESTED if v.sign(metric) and v.within_seeds(metric)]
    if doubtful:
        text += (
            f" The difference in {joined(doubtful)} is smaller than the spread over seeds: other seeds may reverse it."
        )
    return text


def errors_in_words(v: Verdict) -> str:
    if not v.p_holm < LEVEL:
        return f"That the items' absolute errors differ is not shown (p {p_in_words(v.p_holm, True)})."
    which = "smaller" if v.smaller_errors else "larger"
    return f"{plain(v.reference.name)}'s absolute errors are the {which} ones (p {p_in_words(v.p_holm, True)})."


def explanation(name: str, user: np.ndarray, tests: int) -> str:
    n, known = len(user), set(user) - {""}
    if not known:
        drawn, test = f"the {n} test items", "Wilcoxon signed-rank tests on the items' absolute errors"
        last = "Wilcoxon weighs every item by its rank and the MAE by its size, so the two can disagree."
    else:
        unknown = int((user == "").sum())
        alone = f"; {unknown} items of unknown creators are drawn one by one" if unknown else ""
        drawn = f"the {len(known)} creators of the {n} test items, each with all its items{alone}"
        test = f"tests by {FLIPS} sign flips of the creators' summed differences of absolute errors"
        last = (
            "Videos of a creator fare alike: drawn one by one, as behind the word videos, they give intervals that are "
            "too narrow, and are shown to compare."
        )
    return (
        f"How to read this: differences are {name} minus the other row, so negative is better for nMSE and MAE, "
        f"positive for SRC. Brackets are {100 * CONFIDENCE:g} % percentile intervals of {RESAMPLES} bootstrap "
        f"resamples of {drawn}, the same for both rows; the statistic is the table's, a metric per seed and "
        "then the mean over seeds (averaged predictions would judge an ensemble that nobody trained). A difference is "
        "called shown where its interval leaves zero out. The intervals tell what another draw would "
        "change, for the seeds that were trained; what another seed would change is the ± of the table. They are not "
        f"corrected for the number of rows; the p values are: two-sided {test} (mean over seeds), with Holm's "
        f"correction over the {tests} rows, shown below {LEVEL:.2g}. {last} What is not shown is not shown to be equal."
    )


def difference_in_words(d: Interval) -> str:
    if np.isnan(d.value):
        return "-"
    videos = "" if d.unit == "videos" else f" (videos {bounds(d.low_videos, d.high_videos)})"
    return f"{d.value:+.3f} {bounds(d.low, d.high)}{videos}"


def bounds(low: float, high: float) -> str:
    return f"[{low:+.3f}, {high:+.3f}]"


def p_in_words(p: float, with_sign: bool = False) -> str:
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.3f}" if with_sign else f"{p:.3f}"


def joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
