"""The verdicts on encoders."""

from __future__ import annotations

from typing import Any

import pytest

from ossicle.report.paired import Difference
from ossicle.report.record import ProbeScore
from ossicle.report.verdict import Verdict, best_view, compare, final_verdicts, pretrained, verdicts

NAN = float("nan")
ROLES: dict[str, Any] = {"untrained": "start", "checkpoint": "start", "log-mel": "log-mel", "control": "control"}


def score(subject: str, low: float, high: float, *, view: str = "mean", **more: Any) -> ProbeScore:
    given: dict[str, Any] = {
        "task": "probe",
        "corpus": "c",
        "metric": "accuracy",
        "value": (low + high) / 2,
        "clips": 400,
        "role": ROLES.get(subject.partition(":")[0], "iteration"),
    } | more
    return ProbeScore(subject=subject, low=low, high=high, view=view, **given)


@pytest.mark.parametrize(
    ("ours", "other", "word"),
    [
        ((0.6, 0.7), (0.4, 0.5), "above"),
        ((0.4, 0.5), (0.6, 0.7), "below"),
        ((0.45, 0.55), (0.4, 0.5), "cannot tell"),
        ((0.5, 0.6), (0.4, 0.5), "cannot tell"),
        ((NAN, NAN), (0.4, 0.5), "cannot tell"),
    ],
)
def test_without_predictions_intervals_must_lie_apart(
    ours: tuple[float, float], other: tuple[float, float], word: str
) -> None:
    assert compare(score("x", *ours, value=0.5), score("y", *other))[0] == word


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.09, "above"), (-0.09, -0.01, "below"), (-0.01, 0.09, "cannot tell"), (0.0, 0.09, "cannot tell")],
)
def test_a_paired_difference_decides_even_if_intervals_overlap(low: float, high: float, word: str) -> None:
    assert compare(score("x", 0.4, 0.6), score("y", 0.4, 0.6), Difference(0.04, low, high))[0] == word


def test_scores_on_other_test_clips_cannot_be_compared() -> None:
    assert compare(score("x", 0.6, 0.7), score("y", 0.1, 0.2, clips=30)) == (
        "cannot tell",
        "scored on 400 and on 30 test clips",
    )


def test_the_validation_split_selects_the_view() -> None:
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


def test_without_validation_scores_no_view_is_selected() -> None:
    views = [score("iteration 1", 0.8, 0.9, view=view) for view in ("mean", "max")]
    found = verdicts([score("untrained", 0.1, 0.2), *views])
    assert found[0].word == "cannot tell"
    assert found[0].reason == "no view can be selected, because validation scores are missing"


def test_only_iterations_are_pretrained_subjects() -> None:
    subjects = ("untrained", "log-mel", "iteration 1", "iteration 2", "control: untrained teacher")
    assert pretrained({subject: [score(subject, 0.1, 0.2)] for subject in subjects}) == ["iteration 1", "iteration 2"]


def test_sentences() -> None:
    scores = [
        score("untrained", 0.4, 0.5),
        score("log-mel", 0.54, 0.64),
        score("iteration 2", 0.6, 0.7),
        score("control: a", 0.71, 0.8),
    ]
    sentences = [verdict.sentence.replace("\xa0", " ") for verdict in verdicts(scores)]
    assert sentences == [
        "probe on c: iteration 2 is above the untrained encoder, 65.0 % [60.0–70.0] against 45.0 % [40.0–50.0]"
        " (intervals apart)",
        "probe on c: iteration 2 cannot be told from log-mel features, 65.0 % [60.0–70.0] against 59.0 % [54.0–64.0]"
        " (the intervals overlap)",
        "probe on c: iteration 2 is below its control “control: a”, 65.0 % [60.0–70.0] against 75.5 % [71.0–80.0]"
        " (intervals apart)",
    ]
    found = verdicts(scores[2:3])
    assert [verdict.sentence for verdict in found] == [
        "probe on c: the run has no untrained encoder to compare with",
        "probe on c: the run has no log-mel baseline to compare with",
    ]
    assert [verdict.yardstick for verdict in found] == ["untrained", "log-mel"]


def test_a_sentence_shows_the_paired_difference() -> None:
    ours, theirs = score("iteration 2", 0.6, 0.7), score("untrained", 0.58, 0.66)
    question = next(iter(verdicts([ours]))).question
    found = Verdict(
        question, "iteration 2", "start", "untrained", "above", "", ours, theirs, Difference(0.03, 0.004, 0.0561)
    )
    assert found.sentence.replace("\xa0", " ") == (
        "probe on c: iteration 2 is above the untrained encoder, 65.0 % [60.0–70.0] against 62.0 % [58.0–66.0]:"
        " +3.0 points [0.4 to 5.6], paired"
    )
    assert not found.apart


def test_each_iteration_is_compared_with_the_one_before_and_the_last_with_controls() -> None:
    scores = [score("untrained", 0.0, 0.01)]
    scores += [score(f"iteration {number}", 0.1 * number, 0.1 * number + 0.05) for number in (1, 2, 3)]
    scores += [score(f"control: {name}", 0.2, 0.3) for name in ("place", "untrained")]
    found = verdicts(scores)
    assert [(one.subject, one.other) for one in found if one.against == "previous"] == [
        ("iteration 2", "iteration 1"),
        ("iteration 3", "iteration 2"),
    ]
    assert [(one.subject, one.other) for one in found if one.against == "control"] == [
        ("iteration 3", "control: place"),
        ("iteration 3", "control: untrained"),
    ]
    assert {one.subject for one in final_verdicts(found)} == {"iteration 3"}


def test_continued_training_is_compared_with_its_checkpoint() -> None:
    (start, log_mel) = verdicts([score("checkpoint", 0.4, 0.5), score("iteration 1", 0.6, 0.7)])
    assert (start.against, start.other, start.word) == ("start", "checkpoint", "above")
    assert "is above the checkpoint, " in start.sentence
    assert log_mel.other == ""


def test_fine_tuning_has_no_missing_log_mel_baseline() -> None:
    probed = [score(name, 0.4, 0.5) for name in ("untrained", "log-mel", "iteration 1")]
    tuned = [score(name, 0.4, 0.5, task="fine_tune") for name in ("untrained", "iteration 1")]
    assert [(one.question.task, one.against) for one in verdicts([*probed, *tuned])] == [
        ("probe", "start"),
        ("probe", "log-mel"),
        ("fine_tune", "start"),
    ]


def test_without_scores_there_are_no_verdicts() -> None:
    assert verdicts([]) == []
    assert final_verdicts([]) == []
