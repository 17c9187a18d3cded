"""The YAML of an ablation: its cells, and the errors of an invalid one."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ossicle.ablation.ablation_config import MEASURES
from ossicle.ablation.cells import CheckedCell, check_cells, shared
from ossicle.ablation.expectation import expectation
from ossicle.ablation.record import AblationRecord
from ossicle.ablation.statistics import MEASURES as WITH_KNOWN_ERROR
from ossicle.ablation.study import Study, load_study
from ossicle.ablation.view import print_plan
from ossicle.core.config_files.documents import to_yaml
from ossicle.core.errors import ConfigError
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.store import Store
from ossicle.experiment.check import compose
from ossicle.tasks.evaluation.metrics import metric_name

pytestmark = pytest.mark.usefixtures("own_plugins")

ROOT = Path(__file__).parents[3]
CATALOG = load_plugins().catalog
STUDY = """\
base: ./tiny.yaml
vary:
  tokenizer:
    random projection: {}
    best-rq: {schedule.iterations.0.tokenizer: {normalize: l2}}
    position: {schedule.iterations.0.tokenizer: position, control: true}
  pretrain.objective.mask_ratio: [0.5, 8.0e-1]
seeds: [0, 7]
except: [{tokenizer: position, seed: 7}, {tokenizer: position, pretrain.objective.mask_ratio: 0.5}]
compare: {metric: knn_probe/tones/accuracy, baseline: "random projection, 0.8"}
"""


@pytest.fixture
def study_file(tiny: Path) -> Path:
    """An ablation of `tiny.yaml`."""
    path = tiny.parent / "my study.yaml"
    path.write_text(STUDY)
    return path


def read(path: Path, *overrides: str) -> Study:
    return load_study(path, overrides=overrides, catalog=CATALOG)


def test_cells_are_all_combinations_that_pass_the_filters(study_file: Path) -> None:
    study = read(study_file)
    assert study.config.name == "my-study"
    assert study.axes == {
        "tokenizer": ["random projection", "best-rq", "position"],
        "pretrain.objective.mask_ratio": ["0.5", "0.8"],
    }
    names = ["random projection, 0.5", "random projection, 0.8", "best-rq, 0.5", "best-rq, 0.8"]
    titles = [f"{name}, seed {seed}" for name in names for seed in (0, 7)] + ["position, 0.8, seed 0"]
    assert [cell.title for cell in study.cells] == titles
    assert study.cells[-1].name == "position-0.8-seed0"
    assert [variant.name for variant in study.variants if variant.control] == ["position, 0.8"]
    assert study.cells[4].variant.overrides == [
        'schedule.iterations.0.tokenizer={"normalize": "l2"}',
        "pretrain.objective.mask_ratio=0.5",
    ]


def test_only_keeps_cells_that_match_one_of_its_filters(study_file: Path) -> None:
    only = "only=[{tokenizer: [best-rq], seed: 0}, {tokenizer: random projection, pretrain.objective.mask_ratio: 0.8}]"
    found = [cell.title for cell in read(study_file, "except=[]", only).cells]
    assert found == [
        "random projection, 0.8, seed 0",
        "random projection, 0.8, seed 7",
        "best-rq, 0.5, seed 0",
        "best-rq, 0.8, seed 0",
    ]


def test_a_cell_equals_the_base_with_its_overrides(study_file: Path, tiny: Path, tmp_path: Path) -> None:
    study = read(study_file, "pretrain.steps=4")
    base = tmp_path / "base.yaml"
    base.write_text(study.base_text)
    assert yaml.safe_load(study.base_text)["pretrain"]["steps"] == 4
    for cell, checked in zip(study.cells, check_cells(study, Store(tmp_path), prepare=False), strict=True):
        again = compose(base, [*cell.variant.overrides, f"seed={cell.seed}", f"name={cell.name}"])
        assert again.experiment == checked.checked.experiment
        assert again.experiment.seed == cell.seed


def test_shared_stages_are_counted_once(study_file: Path, tmp_path: Path) -> None:
    study = read(study_file, "only=[{tokenizer: random projection}]", "except=[]")
    cells = check_cells(study, Store(tmp_path), prepare=False)
    needed = shared(cells)
    names = {key: stage.name for cell in cells for key, stage in cell.by_key.items()}
    counts = {(names[key], number) for key, number in needed.items()}
    # Two mask ratios and two seeds: one corpus, one untrained encoder per seed, and a pre-training for each cell.
    assert {("tones/survey", 4), ("untrained", 2), ("iteration 1/tokenizer", 2), ("iteration 1/pretrain", 1)} <= counts
    assert sum(name == "iteration 1/pretrain" for name in names.values()) == 4
    trained = cells[0].trainings(list(needed))
    assert [names[key] for key in trained] == ["iteration 1/pretrain"]
    assert all(cells[0].by_key[key].training_config for key in trained)


def test_the_base_may_be_written_in_the_ablation(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "inline.yaml"
    path.write_text(
        STUDY.replace("base: ./tiny.yaml", "base: {base: ./tiny.yaml, pretrain: {steps: 9}}").replace(
            "seeds: [0, 7]\n", ""
        )
    )
    study = read(path, "except=[]")
    assert study.base.tree["pretrain"]["steps"] == 9
    assert [cell.seed for cell in study.cells] == [0] * 6


BROKEN = [
    ("seeds: [0, 7]", "seeds: [0, 0]", "8:8: `seeds` must be different seeds, but are 0, 0"),
    (
        "seeds:",
        "seed:",
        "8:1: unknown key `seed`. Did you mean `seeds`? Allowed: base, name, vary, seeds, only, except, ",
    ),
    ("[0.5, ", "[[0.5], ", "7:35: a value of the grid over `pretrain.objective.mask_ratio` must be a number, text, "),
    (
        "[0.5, 8.0e-1]",
        "0.5",
        "7:34: axis `pretrain.objective.mask_ratio` must be a mapping of variants, or a list of values",
    ),
    ("e-1]", "e-1, 1.5]", "7:48: `pretrain.objective.mask_ratio` must be less than 1"),
    (
        "projection: {}",
        "projection: none",
        "4:24: variant `random projection` must be a patch (a mapping from dotted paths to values",
    ),
    ("control: true", "control: maybe", "6:68: `control` must be true or false, but is the text `maybe`"),
    ("control: true", "seed: 3", "6:59: a variant cannot set `seed`: list the seeds in `seeds`"),
    ("normalize: l2", "normalise: l2", "5:49: unknown key `normalise`. Did you mean `normalize`?"),
    ("s.0.tokenizer: {n", "s.3.tokenizer: {n", "5:15: `schedule.iterations` is a list and has no item `3`; allowed: 0"),
    (
        "tokenizer: position, c",
        "tokenizer: posision, c",
        "6:49: there is no tokenizer called `posision`. Did you mean `position`?",
    ),
    (
        "{tokenizer: position, seed: 7}",
        "{tokeniser: x}",
        "9:11: there is no axis `tokeniser`. Did you mean `tokenizer`?",
    ),
    ("{tokenizer: position, seed: 7}", "{seed: 3}", "9:17: axis `seed` has no `3`. Allowed: 0, 7."),
    ("{tokenizer: position, seed: 7}", "{seed: [0, 7]}", "9:9: no cell passes the filters; loosen them"),
    ('n, 0.8"', 'n"', "10:55: there is no variant `random projection`. Did you mean `random projection, 0."),
    (
        "knn_probe/",
        "knn_prob/",
        "10:19: no task computes `knn_prob/tones/accuracy`. Did you mean `knn_probe/tones/accur",
    ),
    (
        "tones/accuracy",
        "tones/acuracy",
        "10:19: no task computes `knn_probe/tones/acuracy`. Did you mean `knn_probe/tones/ac",
    ),
    (
        "tones/accuracy",
        "tones/mAP",
        "10:19: no task computes `knn_probe/tones/mAP`. Did you mean `knn_probe/tones/UAR`? A",
    ),
    (
        "baseline:",
        "secondary: [linear_probe/tones/f1], baseline:",
        "10:57: no task computes `linear_probe/tones/f1`. Did y",
    ),
    ("knn_probe/tones/", "", "10:19: `compare.metric` must name a task, a corpus and a measure, such as "),
    ("baseline:", "encoder: it, baseline:", "10:54: no encoder `it` is judged. Allowed: untrained, iteration 1, "),
    ("base: ./tiny", "base: ./tinny", "1:7: there is no file `tinny.yaml` in {here}. Did you mean `tiny.yaml`?"),
    ("seeds: [0", "launcher: locl\nseeds: [0", "8:11: there is no launcher called `locl`. Did you mean `local`?"),
    ("compare: {", "compare: {}\n#", "10:1: `metric` is missing from `compare`"),
]


@pytest.mark.parametrize(("old", "written", "message"), BROKEN, ids=[written for _, written, _ in BROKEN])
def test_errors_state_their_location(old: str, written: str, message: str, study_file: Path) -> None:
    assert old in STUDY
    study_file.write_text(STUDY.replace(old, written, 1))
    with pytest.raises(ConfigError) as error:
        check_cells(read(study_file), Store(study_file.parent), prepare=False)
    first = str(error.value.problems[0])
    assert first.startswith(f"{study_file}:{message.format(here=study_file.parent)}"), str(error.value)


def test_all_problems_are_reported_with_their_variants(study_file: Path) -> None:
    text = STUDY.replace("normalize: l2", "normalise: l2").replace("position, control", "posision, control")
    study_file.write_text(text)
    with pytest.raises(ConfigError) as error:
        check_cells(read(study_file), Store(study_file.parent), prepare=False)
    lines = [line.removeprefix(f"{study_file}:") for line in str(error.value).splitlines()]
    assert [line.split(":")[0] for line in lines] == ["5", "6"]
    assert lines[0].endswith("(variants `best-rq, 0.5`, `best-rq, 0.8`)")
    assert lines[1].endswith("(variant `position, 0.8`)")


def test_a_seed_cannot_be_overridden(study_file: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("override 'seed=3': list the seeds instead: `seeds=[0, 1]`")):
        read(study_file, "seed=3")


def test_the_measures_are_those_with_known_error() -> None:
    assert {measure for measures in MEASURES.values() for measure in measures} == set(WITH_KNOWN_ERROR)
    assert all(metric_name(multi_label=several) in measures for several, measures in MEASURES.items())


# The judged encoder


def plan_of(study: Study, cells: list[CheckedCell], folder: Path) -> str:
    """Return the plan that is printed before anything runs."""
    console, store = Console(file=io.StringIO(), width=100, color_system=None), Store(folder)
    record = AblationRecord(folder, study, jobs=1)
    print_plan(study, cells, record, expectation(cells, store, None), store, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


ITERATIONS = """\
base:
  base: ./tiny.yaml
  schedule: {distill: {steps: 4}, iterations: [&first {tokenizer: position}, {tokenizer: self_distilled}]}
vary:
  tokenizer:
    position: {}
    k-means: {schedule.iterations.0.tokenizer: kmeans}
    residual: {schedule.iterations.1.tokenizer: residual_distilled}
    only one: {schedule.iterations: [*first]}
    a longer probe: {evaluate.0: {type: linear_probe, max_iterations: 2000}}
compare: {metric: knn_probe/tones/accuracy, baseline: position}
"""


@pytest.mark.parametrize("named", [False, True])
def test_the_plan_names_the_judged_encoder_and_warns_of_changes_elsewhere(
    named: bool, tiny: Path, tmp_path: Path
) -> None:
    path = tiny.parent / "judged.yaml"
    path.write_text(ITERATIONS.replace("baseline:", "encoder: iteration 1, baseline:") if named else ITERATIONS)
    study = read(path)
    shown = plan_of(study, check_cells(study, Store(tmp_path), prepare=False), tmp_path)
    if named:
        assert "judged: iteration 1\n" in shown
        assert "warning" not in shown
        return
    assert (
        "judged: iteration 2 of `position`, `k-means`, `residual`, `a longer probe`; iteration 1 of `only one`\n"
        in shown
    )
    assert shown.count("warning: ") == 1
    assert (
        "warning: `k-means` and `position` differ in iteration 1, but iteration 2 is judged: set `encoder: "
        "iteration 1` in `compare`, or `encoder: iteration 2` to confirm\n" in shown
    )


@pytest.mark.parametrize("page", ["README.md", "docs/ablations.md"])
def test_a_documented_ablation_judges_what_it_varies(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text()
    (block,) = (block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "\ncompare:" in block)
    path = tmp_path / "ablations" / "documented.yaml"
    path.parent.mkdir()
    shutil.copy(ROOT / "experiments" / "quickstart.yaml", tmp_path)
    plugin, name = re.findall(r"plugins: \[\./(\w+\.py)\], schedule\.iterations\.0\.tokenizer: (\w+)", block)[0]
    example = (ROOT / "examples" / "sign_hash.py").read_text()
    (path.parent / plugin).write_text(example.replace('tokenizer("sign_hash")', f'tokenizer("{name}")'))
    path.write_text(block)
    study = read(path, "seeds=[0]")
    cells = check_cells(study, Store(tmp_path), prepare=False)
    shown = plan_of(study, cells, tmp_path)
    assert "warning" not in shown
    assert {cell.subject for cell in cells} == {"iteration 1"}
    # Without `encoder`, there is a warning.
    path.write_text(re.sub(r"\n  encoder: .*", "", block))
    study = read(path, "seeds=[0]")
    assert "but iteration 2 is judged" in plan_of(study, check_cells(study, Store(tmp_path), prepare=False), tmp_path)


NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=1, max_size=4
)
SEEDS = st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)


@pytest.mark.slow
@given(
    data=st.data(), first=NAMES, second=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True), seeds=SEEDS
)
def test_cells_are_the_product_without_the_filtered_ones(
    data: st.DataObject, first: list[str], second: list[int], seeds: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = list(dict.fromkeys(f"v{name}" for name in first))
    left_out = data.draw(st.lists(st.tuples(st.sampled_from(first), st.sampled_from(seeds)), max_size=2, unique=True))
    baseline = data.draw(st.sampled_from(first))
    study = {
        "base": {"name": "any"},
        "vary": {"one": {name: {} for name in first}, "pretrain.steps": second},
        "seeds": seeds,
        "except": [{"one": name, "seed": seed} for name, seed in left_out],
        "compare": {"metric": "a/b/c", "baseline": f"{baseline}, {second[0]}"},
    }
    path = tmp_path_factory.getbasetemp() / "drawn.yaml"
    path.write_text(to_yaml(study))
    if {(baseline, seed) for seed in seeds} <= set(left_out):
        with pytest.raises(ConfigError, match=r"there is no variant|no cell"):
            read(path)
        return
    cells = read(path).cells
    assert len(cells) == len(first) * len(second) * len(seeds) - len(left_out) * len(second)
    assert len({cell.name.casefold() for cell in cells}) == len(cells)
    assert len({cell.title for cell in cells}) == len(cells)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", cell.name) for cell in cells)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments" / "ablations").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_ablations_of_the_repository_are_valid(path: Path, tmp_path: Path) -> None:
    study = load_study(path, overrides=["seeds=[0]"], catalog=CATALOG)
    assert len(check_cells(study, Store(tmp_path), prepare=False)) == len(study.variants)
    assert path.read_text().startswith(f"# ossicle ablate {path.relative_to(ROOT)}")


def test_the_study_of_tokenizers_has_seeds_variants_and_controls() -> None:
    study = load_study(ROOT / "experiments" / "ablations" / "tokenizers.yaml", catalog=CATALOG)
    assert len(study.config.seeds) == 3
    assert sum(not variant.control for variant in study.variants) >= 5
    assert {variant.name for variant in study.variants if variant.control} == {
        "untrained teacher",
        "position labels",
        "shuffled labels",
    }
