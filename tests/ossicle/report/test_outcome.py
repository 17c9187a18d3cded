"""The outcome in a few sentences, in every possible case."""

from __future__ import annotations

import pytest

from ossicle.report.outcome import headline
from ossicle.report.record import ProbeScore, Role
from ossicle.report.verdict import verdicts

ABOVE, EVEN, UNDER = 0.3, 0.5, 0.7
"""Scores of a baseline for which iteration 2, at 0.5, is above it, cannot be told from it, or is below it."""
SUBJECTS: dict[str, Role] = {
    "untrained": "start",
    "log-mel": "log-mel",
    "iteration 1": "iteration",
    "iteration 2": "iteration",
    "control": "control",
    "place": "control",
}
BASELINES = {"untrained": ABOVE, "log-mel": ABOVE}


def headline_for(*questions: dict[str, float], taught: bool = True) -> str:
    """Return the headline on iteration 2 for the scores of the baselines in each question."""
    scores = []
    for subject, role in SUBJECTS.items():
        for place, given in enumerate(questions):
            value = {**given, "iteration 2": EVEN}.get(subject)
            if value is not None:
                low, high = value - 0.01, value + 0.01
                question = (f"probe {place}", "c", subject, "mean", "accuracy")
                scores.append(ProbeScore(*question, value, low, high, 400, role=role, taught=taught))
    return headline(verdicts(scores))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"iteration 1": ABOVE, "control": ABOVE},
            "Iteration 2 is above the untrained encoder, log-mel features, iteration 1 and its control “control”."
            " No control reaches its gain over iteration 1.",
        ),
        (
            {"iteration 1": ABOVE, "control": EVEN},
            "Iteration 2 is above the untrained encoder, log-mel features and iteration 1, but cannot be told from its"
            " control “control”. Its gain cannot be attributed to its teacher.",
        ),
        (
            {"iteration 1": ABOVE, "control": UNDER},
            "Iteration 2 is above the untrained encoder, log-mel features and iteration 1, but is below its control"
            " “control”. Its gain cannot be attributed to its teacher.",
        ),
        (
            {"iteration 1": ABOVE, "control": ABOVE, "place": EVEN},
            "Iteration 2 is above the untrained encoder, log-mel features, iteration 1 and its control “control”, but"
            " cannot be told from its control “place”. Its gain cannot be attributed to its teacher.",
        ),
        (
            {"iteration 1": ABOVE},
            "Iteration 2 is above the untrained encoder, log-mel features and iteration 1."
            " Without a control it is open whether the gain comes from its teacher.",
        ),
        (
            {"iteration 1": EVEN, "control": ABOVE},
            "Iteration 2 is above the untrained encoder, log-mel features and its control “control”, but cannot be told"
            " from iteration 1.",
        ),
        (
            {"log-mel": UNDER, "iteration 1": EVEN, "control": EVEN},
            "Iteration 2 is above the untrained encoder, but cannot be told from iteration 1 and its control “control”"
            " and is below log-mel features.",
        ),
        (
            {"untrained": UNDER, "log-mel": UNDER, "iteration 1": UNDER, "control": UNDER},
            "Iteration 2 is below the untrained encoder, log-mel features, iteration 1 and its control “control”.",
        ),
    ],
)
def test_one_question(given: dict[str, float], text: str) -> None:
    assert headline_for({**BASELINES, **given}) == text


def test_questions_that_agree() -> None:
    given = {**BASELINES, "iteration 1": ABOVE, "control": EVEN}
    assert headline_for(given, given) == (
        "Iteration 2 is above the untrained encoder, log-mel features and iteration 1 in every comparison, but cannot"
        " be told from its control “control” in any comparison. Its gain cannot be attributed to its teacher."
    )


def test_questions_that_differ() -> None:
    first = {"untrained": ABOVE, "log-mel": ABOVE, "iteration 1": ABOVE, "control": ABOVE}
    second = {"untrained": ABOVE, "log-mel": UNDER, "iteration 1": ABOVE, "control": EVEN}
    third = {"untrained": ABOVE, "log-mel": EVEN, "iteration 1": EVEN, "control": EVEN}
    assert headline_for(first, second, third) == (
        "Iteration 2 is above the untrained encoder in every comparison."
        " It is above log-mel features in 1 of 3 comparisons and below in 1; 1 cannot tell."
        " It is above iteration 1 in 2 of 3 comparisons; 1 cannot tell."
        " It is above its control “control” in 1 of 3 comparisons; 2 cannot tell."
        " Where a control may reach it too, its gain cannot be attributed to its teacher."
    )


def test_below_in_some_questions() -> None:
    assert headline_for({"untrained": UNDER}, {"untrained": EVEN}) == (
        "Iteration 2 is below the untrained encoder in 1 of 2 comparisons; 1 cannot tell."
    )


def test_controls_count_only_in_questions_with_a_gain() -> None:
    gained = {**BASELINES, "iteration 1": ABOVE, "control": ABOVE}
    even = {**BASELINES, "iteration 1": EVEN, "control": EVEN}
    assert headline_for(gained, even).endswith("No control reaches its gain over iteration 1.")


def test_tokens_without_a_teacher() -> None:
    assert headline_for({"untrained": ABOVE, "control": EVEN}, taught=False).endswith(
        "Its gain cannot be attributed to its tokens."
    )
    assert headline_for({"untrained": ABOVE, "control": ABOVE}, taught=False).endswith(
        "No control reaches its gain over the untrained encoder."
    )
    assert headline_for({"untrained": ABOVE, "iteration 1": ABOVE}, taught=False) == (
        "Iteration 2 is above the untrained encoder and iteration 1."
    )


def test_missing_baselines_are_reported() -> None:
    assert headline([]) == "No probe has scored a pre-trained encoder of this run, so there is no outcome."
    assert headline_for({}) == "Iteration 2 cannot be compared: the run has no probe of the untrained encoder."
    assert headline_for({"log-mel": ABOVE}) == (
        "Iteration 2 is above log-mel features. The run has no probe of the untrained encoder to compare with."
    )
