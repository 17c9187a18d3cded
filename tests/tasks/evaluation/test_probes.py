"""Probes on simulated features: their accuracy, their use of splits and folds, and their errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from ossicle.core.errors import ArtifactError, CorpusError
from ossicle.core.manifest import Manifest
from ossicle.core.task import Features
from ossicle.tasks.evaluation.logistic import logistic_path
from ossicle.tasks.evaluation.metrics import figure
from ossicle.tasks.evaluation.probe_config import KnnProbeConfig, LinearProbeConfig
from ossicle.tasks.evaluation.probes import Examples, Fitted, KnnProbe, LinearProbe, Probe

SIZES = {"train": 90, "valid": 40, "test": 60}
CLASSES = 4


def linear(**options):
    return LinearProbe(LinearProbeConfig(**options))


def knn(**options):
    return KnnProbe(KnnProbeConfig(**options))


PROBES = pytest.mark.parametrize("make", [linear, knn])


def manifest(labels, *, multi_label=False, names=CLASSES, **columns):
    count = len(labels)
    given = {
        "paths": np.array([f"clip{number}.wav" for number in range(count)]),
        "frames": np.full(count, 16000, np.int64),
        "sample_rates": np.full(count, 16000, np.int32),
        "splits": np.repeat(list(SIZES), list(SIZES.values())),
        "label_names": tuple(f"class{number}" for number in range(names)),
    }
    return Manifest(root=Path("."), labels=labels, multi_label=multi_label, **{**given, **columns})


def simulated(seed=0, *, separation=2.0, width=12, multi_label=False, classes=CLASSES):
    """Simulate Gaussian features whose means are the sums of the labels' directions."""
    rng = np.random.default_rng(seed)
    count = sum(SIZES.values())
    truth = (
        rng.random((count, classes)) < 0.35 if multi_label else np.eye(classes, dtype=bool)[np.arange(count) % classes]
    )
    directions = np.linalg.qr(rng.normal(size=(width, classes)))[0].T
    values = truth @ directions * separation * 2 + rng.normal(size=(count, width))
    labels = [tuple(np.flatnonzero(row).tolist()) for row in truth]
    clips = manifest(labels, multi_label=multi_label, names=classes)
    return Features(clips, {"mean": values.astype(np.float32)})


def examples(features, split):
    rows = features.clips.rows_in(split)
    truth = np.zeros((len(rows), len(features.clips.label_names)), dtype=bool)
    for place, row in enumerate(rows):
        truth[place, list(features.clips.labels[row])] = True
    return Examples(features.views["mean"][rows], truth)


@pytest.mark.slow
@PROBES
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_probes_classify_separable_features_and_not_noise(make, multi_label, classes):
    good = make().evaluate(simulated(separation=3, multi_label=multi_label, classes=classes), seed=0)
    noise = make().evaluate(simulated(separation=0, multi_label=multi_label, classes=classes), seed=0)
    assert good.scores[0].metric == ("mAP" if multi_label else "accuracy")
    assert good.scores[0].value > 0.9
    assert noise.scores[0].value < 0.75
    assert good.scores[0].low <= good.scores[0].value <= good.scores[0].high
    assert good.predictions["mean"].shape == good.truth.shape == (SIZES["test"], classes)
    assert good.predictions["mean"].dtype == np.float32
    assert good.clips.tolist() == list(range(130, 190))


@PROBES
def test_every_view_is_scored_separately(make):
    features = simulated()
    noise = np.random.default_rng(1).normal(size=features.views["mean"].shape).astype(np.float32)
    result = make().evaluate(replace(features, views={**features.views, "noise": noise}), seed=0)
    assert [score.view for score in result.scores] == ["mean", "noise"]
    assert result.scores[0].value > result.scores[1].value + 0.3
    assert result.scores[0] == make().evaluate(features, seed=0).scores[0]


@PROBES
@pytest.mark.parametrize("multi_label", [False, True])
def test_choices_do_not_see_the_test_labels(make, multi_label):
    features = simulated(separation=0.8, multi_label=multi_label)
    labels = list(features.clips.labels)
    test = features.clips.rows_in("test")
    for row, other in zip(test, np.random.default_rng(3).permutation(test), strict=True):
        labels[row] = features.clips.labels[other]
    permuted = replace(features, clips=replace(features.clips, labels=labels))
    before, after = (make().evaluate(given, seed=0) for given in (features, permuted))
    assert before.scores[0].chosen == after.scores[0].chosen
    assert np.array_equal(before.predictions["mean"], after.predictions["mean"])
    assert before.scores[0].value > after.scores[0].value


@PROBES
def test_the_fitted_model_does_not_see_the_test_features(make):
    features = simulated(separation=0.8)
    test = features.clips.rows_in("test")
    values = features.views["mean"].copy()
    values[test[1:]] = 1e6
    before, after = (
        make().evaluate(replace(features, views={"mean": v}), seed=0) for v in (features.views["mean"], values)
    )
    assert before.scores[0].chosen == after.scores[0].chosen
    assert before.predictions["mean"][0] == pytest.approx(after.predictions["mean"][0], rel=1e-5)


@PROBES
def test_validation_clips_are_not_used_for_fitting(make):
    features = simulated(separation=0.8)
    train, valid = examples(features, "train"), examples(features, "valid")
    option = {"strengths": (0.1,)} if make is linear else {"neighbours": (5,)}
    fitted = make(**option).fit(train, valid, multi_label=False)
    other = make(**option).fit(train, Examples(valid.features[::-1] + 3, valid.truth), multi_label=False)
    test = examples(features, "test").features
    assert np.array_equal(fitted.predict(test), other.predict(test))


@PROBES
def test_the_best_setting_on_validation_is_chosen_and_the_smoothest_of_equals(make):
    features = simulated(separation=0.8)
    train, valid = examples(features, "train"), examples(features, "valid")
    name, grid = ("strengths", (1e-3, 0.1, 10.0)) if make is linear else ("neighbours", (20, 3, 1))
    key = "strength" if make is linear else "neighbours"
    single = [make(**{name: (setting,)}).fit(train, valid, multi_label=False).chosen for setting in grid]
    values = [chosen["valid_accuracy"] for chosen in single]
    chosen = make(**{name: grid[::-1]}).fit(train, valid, multi_label=False).chosen
    assert chosen["valid_accuracy"] == max(values)
    assert chosen[key] == grid[values.index(max(values))]
    easy = simulated(separation=30)
    tied = make(**{name: grid[::-1]}).fit(examples(easy, "train"), examples(easy, "valid"), multi_label=False).chosen
    assert tied["valid_accuracy"] == 1.0
    assert tied[key] == grid[0]


def folded(features, folds=5):
    """Assign the same clips to folds instead of splits."""
    clips = features.clips
    count = len(clips)
    numbers = np.random.default_rng(5).permutation(np.arange(count) ** 2 // count % folds).astype(np.int32)
    return replace(features, clips=replace(clips, splits=np.full(count, "train"), folds=numbers))


@pytest.mark.slow
@PROBES
@pytest.mark.parametrize("multi_label", [False, True])
def test_folds_are_scored_separately_and_pooled(make, multi_label):
    features = folded(simulated(separation=0.8, multi_label=multi_label))
    result = make().evaluate(features, seed=0)
    assert sorted(result.clips) == list(range(len(features.clips)))
    assert result.folds.tolist() == features.clips.folds[result.clips].tolist()
    assert result.truth.sum() == sum(map(len, features.clips.labels))
    (score,) = result.scores
    assert score.clips == len(features.clips)
    assert score.low < score.value < score.high
    assert list(score.folds) == ["0", "1", "2", "3", "4"]
    predicted = result.predictions["mean"]
    for fold, value in score.folds.items():
        rows = result.folds == int(fold)
        assert value == figure(result.truth[rows], predicted[rows], multi_label=multi_label)
    assert score.value == figure(result.truth, predicted, multi_label=multi_label)
    if not multi_label:
        sizes = np.bincount(result.folds)
        assert score.value == pytest.approx(sizes @ list(score.folds.values()) / sizes.sum())
        assert len(set(sizes)) > 1


@pytest.mark.slow
def test_the_choices_of_all_folds_are_reported():
    features = folded(simulated(separation=0.8))
    chosen = linear().evaluate(features, seed=0).scores[0].chosen
    each = []
    for fold in range(5):
        folds = features.clips.folds
        splits = np.select([folds == fold, folds == (fold + 1) % 5], ["test", "valid"], "train")
        single = replace(features, clips=replace(features.clips, splits=splits))
        each.append(linear().evaluate(single, seed=0).scores[0].chosen)
    assert chosen["strength"] == [one["strength"] for one in each]
    assert len(set(chosen["strength"])) > 1
    assert chosen["valid_accuracy"] == pytest.approx(np.mean([one["valid_accuracy"] for one in each]))
    assert chosen["converged"] is True


class Spy(Probe):
    """Records the clips that it was fitted on and that it predicted. A clip's only feature identifies it."""

    scale = "logits"

    def __init__(self):
        self.seen = []

    def fit(self, train, valid, *, multi_label):
        used = set(train.features[:, 0]) | set(valid.features[:, 0])

        def predict(values):
            self.seen.append((used, values[:, 0].tolist()))
            return np.stack([values[:, 0], -values[:, 0]], axis=1)

        return Fitted(predict, {"valid_accuracy": 0.5})


@given(st.integers(3, 6), st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_each_clip_is_predicted_once_by_a_model_that_never_saw_it(folds, seed):
    names = np.random.default_rng(seed).permutation(40).astype(np.float32)
    labels = [(number // folds % 2,) for number in range(40)]
    numbers = np.arange(40, dtype=np.int32) % folds
    clips = manifest(labels, names=2, splits=np.full(40, "train"), folds=numbers)
    spy = Spy()
    result = spy.evaluate(Features(clips, {"mean": names[:, None]}), seed=0)
    assert len(spy.seen) == folds
    assert sorted(clip for _, predicted in spy.seen for clip in predicted) == list(range(40))
    for used, predicted in spy.seen:
        assert not used & set(predicted)
    assert result.predictions["mean"][:, 0].tolist() == names[result.clips].tolist()
    assert [tuple(np.flatnonzero(row)) for row in result.truth] == [labels[row] for row in result.clips]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_path_agrees_with_single_fits_of_scikit_learn(classes):
    features = simulated(separation=0.8, classes=classes)
    train, test = examples(features, "train"), examples(features, "test").features
    fits = list(logistic_path(train.features, train.truth, (10.0, 0.01), multi_label=False, max_iterations=1000))
    assert [fit.strength for fit in fits] == [0.01, 10.0]
    for fit in fits:
        scaled = (train.features - train.features.mean(0)) / train.features.std(0)
        model = LogisticRegression(C=fit.strength, tol=1e-8, max_iter=10_000).fit(scaled, train.truth.argmax(1))
        logits = fit(test)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = model.predict_proba((test - train.features.mean(0)) / train.features.std(0))
        assert shares == pytest.approx(expected, abs=0.02)


def test_several_labels_are_one_regression_each():
    features = simulated(separation=0.8, multi_label=True)
    train, test = examples(features, "train"), examples(features, "test").features
    (fit,) = logistic_path(train.features, train.truth, (0.1,), multi_label=True, max_iterations=1000)
    for column in range(CLASSES):
        truth = np.stack([~train.truth[:, column], train.truth[:, column]], axis=1)
        (single,) = logistic_path(train.features, truth, (0.1,), multi_label=False, max_iterations=1000)
        assert fit(test)[:, column] == pytest.approx(np.diff(single(test), axis=1)[:, 0], abs=1e-4)


def test_constant_features_change_nothing():
    features = simulated()
    constant = np.full((len(features.clips), 2), 7.0, np.float32)
    wider = replace(features, views={"mean": np.hstack([features.views["mean"], constant])})
    before, after = (linear().evaluate(given, seed=0) for given in (features, wider))
    assert after.predictions["mean"] == pytest.approx(before.predictions["mean"], abs=1e-3)


def test_fits_that_do_not_converge_are_counted():
    chosen = linear(max_iterations=1).evaluate(simulated(), seed=0).scores[0].chosen
    assert chosen["unconverged_fits"] > 0
    assert not chosen["converged"]
    chosen = linear().evaluate(simulated(), seed=0).scores[0].chosen
    assert chosen["unconverged_fits"] == 0
    assert chosen["converged"]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_votes_equal_those_of_a_loop(metric, multi_label):
    features = simulated(separation=0.8, multi_label=multi_label)
    train, valid, test = (examples(features, split) for split in SIZES)
    fitted = knn(neighbours=(5,), metric=metric).fit(train, valid, multi_label=multi_label)
    predicted = fitted.predict(test.features[:10])
    for clip, scores in zip(test.features[:10].astype(float), predicted, strict=True):
        known = train.features.astype(float)
        if metric == "cosine":
            distance = 1 - known @ clip / np.linalg.norm(known, axis=1) / np.linalg.norm(clip)
        else:
            distance = np.linalg.norm(known - clip, axis=1)
        nearest = np.argsort(distance)[:5]
        weights = 1 / distance[nearest]
        assert scores == pytest.approx(weights @ train.truth[nearest] / weights.sum(), abs=1e-4)


def test_more_neighbours_than_clips_are_left_out():
    features = simulated()
    train, valid = examples(features, "train"), examples(features, "valid")
    few = Examples(train.features[:8], train.truth[:8])
    assert knn(neighbours=(3, 10)).fit(few, valid, multi_label=False).chosen["neighbours"] == 3
    assert knn(neighbours=(10,)).fit(few, valid, multi_label=False).chosen["neighbours"] == 8


def without(features, split, **columns):
    clips = features.clips
    splits = np.where(clips.splits == split, "unlabelled", clips.splits)
    return replace(features, clips=replace(clips, splits=splits, **columns))


def relabelled(features, rows, labels):
    changed = list(features.clips.labels)
    for row in rows:
        changed[row] = labels
    return replace(features, clips=replace(features.clips, labels=changed))


@PROBES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: without(f, "valid"), "this corpus has none; set the corpus's `valid_share`, for instance"),
        (lambda f: without(f, "train"), "a task needs `train` clips, and this corpus has none; check how"),
        (lambda f: without(f, "test"), "a task needs `test` clips, and this corpus has none; check how"),
        (
            lambda f: relabelled(f, range(len(f.clips)), ()),
            "labelled with two or more classes, and this corpus has none",
        ),
        (lambda f: relabelled(f, range(90, 130), ()), "none of the 40 `valid` clips carries a label; label them"),
        (lambda f: relabelled(f, [1, 5], ()), "must carry 1 label, but 2 do not, first `clip1.wav` with 0; fix"),
        (lambda f: relabelled(f, [1], (0, 2)), "must carry 1 label, but 1 do not, first `clip1.wav` with 2; fix"),
        (lambda f: relabelled(f, range(3, 90, 4), (0,)), "no `train` clip carries `class3`; move clips that do into"),
        (
            lambda f: replace(f, clips=f.clips.take(np.arange(131)), views={"mean": f.views["mean"][:131]}),
            "an interval needs two or more `test` clips, but this corpus has 1; add test clips",
        ),
    ],
)
def test_an_unsuitable_corpus_is_refused_with_a_reason(make, change, message):
    with pytest.raises(CorpusError, match=message):
        make().evaluate(change(simulated()), seed=0)


@PROBES
def test_a_class_that_every_training_clip_carries_is_refused(make):
    features = simulated(multi_label=True)
    labels = [tuple(sorted({1, *own})) for own in features.clips.labels]
    with pytest.raises(CorpusError, match="every `train` clip carries `class1`, so it cannot be learnt; add"):
        make().evaluate(replace(features, clips=replace(features.clips, labels=labels)), seed=0)


@PROBES
def test_views_must_be_whole_and_finite(make):
    features = simulated()
    with pytest.raises(
        ArtifactError, match=r"view `mean` must have shape \(190, D\), one row per clip, but has \(9, 12\)"
    ):
        make().evaluate(replace(features, views={"mean": features.views["mean"][:9]}), seed=0)
    values = features.views["mean"].copy()
    values[3] = np.nan
    with pytest.raises(ArtifactError, match="must be finite, but 1 of 190 clips contain NaN or infinity; the"):
        make().evaluate(replace(features, views={"mean": values}), seed=0)


@pytest.mark.parametrize("options", [{"strengths": ()}, {"strengths": (0.0,)}, {"max_iterations": 0}])
def test_settings_of_the_linear_probe_are_checked(options):
    with pytest.raises(ValidationError):
        LinearProbeConfig(**options)


@pytest.mark.parametrize("options", [{"neighbours": ()}, {"neighbours": (0,)}, {"metric": "manhattan"}])
def test_settings_of_the_knn_probe_are_checked(options):
    with pytest.raises(ValidationError):
        KnnProbeConfig(**options)
