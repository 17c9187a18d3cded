"""The words that intervals allow."""

from __future__ import annotations

from typing import Any

import pytest

from ossicle.report.record import ProbeScore
from ossicle.report.verdict import Verdict, best_view, compare, final_verdicts, headline, pretrained, verdicts

NAN = float("nan")


def score(subject: str, low: float, high: float, *, view: str = "mean", **more: Any) -> ProbeScore:
    given: dict[str, Any] = {
        "task": "probe",
        "corpus": "c",
        "metric": "accuracy",
        "value": (low + high) / 2,
        "clips": 400,
    } | more
    return ProbeScore(subject=subject, low=low, high=high, view=view, **given)


@pytest.mark.parametrize(
    ("ours", "other", "against", "word"),
    [
        ((0.6, 0.7), (0.4, 0.5), "untrained", "above"),
        ((0.6, 0.7), (0.4, 0.5), "log-mel", "better"),
        ((0.6, 0.7), (0.4, 0.5), "previous", "above"),
        ((0.4, 0.5), (0.6, 0.7), "untrained", "below"),
        ((0.4, 0.5), (0.6, 0.7), "log-mel", "below"),
        ((0.45, 0.55), (0.4, 0.5), "untrained", "cannot tell"),
        ((0.46, 0.56), (0.4, 0.5), "log-mel", "no worse"),
        ((0.45, 0.55), (0.4, 0.5), "log-mel", "no worse"),
        ((0.44, 0.56), (0.4, 0.5), "log-mel", "cannot tell"),
        ((0.4, 0.5), (0.46, 0.56), "log-mel", "cannot tell"),
        ((0.5, 0.6), (0.4, 0.5), "untrained", "cannot tell"),
        ((NAN, NAN), (0.4, 0.5), "untrained", "cannot tell"),
    ],
)
def test_words(ours: tuple[float, float], other: tuple[float, float], against: Any, word: str) -> None:
    assert compare(score("x", *ours, value=0.5), score("y", *other), against)[0] == word


def test_other_test_clips_cannot_be_compared() -> None:
    assert compare(score("x", 0.6, 0.7), score("y", 0.1, 0.2, clips=30), "untrained") == (
        "cannot tell",
        "judged on 400 and on 30 test clips",
    )


def test_view_is_chosen_on_the_validation_split() -> None:
    lucky = score("x", 0.8, 0.9, view="lucky", chosen={"valid": 0.5})
    sound = score("x", 0.6, 0.7, view="sound", chosen={"valid": 0.6})
    assert best_view([lucky, sound]) is sound
    assert best_view([lucky, score("x", 0.6, 0.7)]) is None
    assert best_view([score("x", 0.6, 0.7)]) is not None
    assert best_view([]) is None


def test_validation_score_may_be_named_after_the_metric() -> None:
    chosen = {"penalty": 0.1, "valid_accuracy": 0.57, "valid_mAP": 0.9}
    one = score("x", 0.6, 0.7, chosen=chosen)
    assert one.valid == 0.57
    assert one.settings == {"penalty": 0.1, "valid_mAP": 0.9}


def test_without_validation_scores_nothing_is_said() -> None:
    views = [score("iteration 1", 0.8, 0.9, view=view) for view in ("mean", "max")]
    found = verdicts([*views, score("untrained", 0.1, 0.2)])
    assert found[0].word == "cannot tell"
    assert found[0].reason == "the views lack the validation score to choose one by"


def test_iterations_in_order() -> None:
    assert pretrained(["iteration 10", "untrained", "iteration 2", "log-mel"]) == ["iteration 2", "iteration 10"]


def test_sentences() -> None:
    scores = [score("iteration 2", 0.6, 0.7), score("untrained", 0.4, 0.5), score("log-mel", 0.54, 0.64)]
    first, second = verdicts(scores)
    assert first.sentence.replace("\xa0", " ") == (
        "probe on c: iteration 2 is above the untrained encoder, 65.0 % [60.0–70.0] against 45.0 % [40.0–50.0]"
    )
    assert second.sentence.startswith("probe on c: iteration 2 is no worse than log-mel, ")
    assert verdicts(scores[:1])[0].sentence == "probe on c: the run has no untrained encoder to compare with"


def test_each_iteration_is_compared_with_the_one_before() -> None:
    scores = [score(f"iteration {number}", 0.1 * number, 0.1 * number + 0.05) for number in (1, 2, 3)]
    found = verdicts([*scores, score("untrained", 0.0, 0.01)])
    assert [(one.subject, one.other) for one in found if one.against == "previous"] == [
        ("iteration 2", "iteration 1"),
        ("iteration 3", "iteration 2"),
    ]
    assert {one.subject for one in final_verdicts(found)} == {"iteration 3"}


ABOVE, EVEN, UNDER = (0.6, 0.7), (0.42, 0.52), (0.1, 0.2)


@pytest.mark.parametrize(
    ("ours", "text"),
    [
        ([], "No probe has judged a pre-trained encoder of this run, so nothing can be said about it."),
        ([ABOVE], "Iteration 1 is above the untrained encoder in the one comparison."),
        ([ABOVE, ABOVE], "Iteration 1 is above the untrained encoder in both comparisons."),
        ([ABOVE, EVEN], "Iteration 1 is above the untrained encoder in 1 of 2 comparisons; 1 cannot tell."),
        ([EVEN] * 3, "Iteration 1 cannot be told from the untrained encoder in all 3 comparisons."),
        ([ABOVE, UNDER], "Iteration 1 is above the untrained encoder in 1 of 2 comparisons and below in 1."),
    ],
)
def test_headline(ours: list[tuple[float, float]], text: str) -> None:
    scores = [score("iteration 1", *edges, task=f"probe {place}") for place, edges in enumerate(ours)]
    scores += [score("untrained", 0.4, 0.5, task=f"probe {place}") for place in range(len(ours))]
    assert headline(verdicts(scores)) == text


def test_headline_says_what_is_missing() -> None:
    assert headline(verdicts([score("iteration 1", 0.6, 0.7), score("log-mel", 0.4, 0.5)])) == (
        "Iteration 1 has nothing to be compared with: the run has no probe of the untrained encoder."
        " It is better than log-mel features in the one comparison."
    )


def test_verdict_without_scores_still_speaks() -> None:
    assert verdicts([]) == []
    assert isinstance(verdicts([score("iteration 1", 0.6, 0.7)])[0], Verdict)
