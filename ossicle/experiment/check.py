"""Find the problems of an experiment before any training. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..audio.corpus_overview import Overviews
from ..core.build import build
from ..core.choices import PartChoice, parts_of
from ..core.config_files.documents import Document
from ..core.config_files.experiment_loader import ResolvedExperiment, load_experiment
from ..core.config_files.validation import in_reading_order
from ..core.corpora import Corpora
from ..core.errors import ConfigError, CorpusError, OssicleError, Problem
from ..core.experiment import Experiment
from ..core.plugin_loading import Plugins, load_plugins
from ..core.stages import Schedule, Stage
from ..core.task import TaskConfig
from ..tasks.evaluation.folds import label_problems
from ..tasks.stages.specs import TokenizerStage, teacher_facts
from .leakage import leaks
from .stage_order import in_order

WATCHED_CORPUS = (
    "`watch` always uses the corpus that the encoder is trained on: remove `corpus` here, or add a task with this "
    "corpus to `evaluate`, which runs after training"
)


@dataclass(frozen=True)
class CheckedExperiment:
    """An experiment without known problems, with its plugins and stages."""

    resolved: ResolvedExperiment
    plugins: Plugins
    stages: list[Stage]

    @property
    def experiment(self) -> Experiment:
        return self.resolved.experiment


def check(
    source: Path | Document,
    overrides: Sequence[str],
    corpora: Corpora,
    *,
    prepare: bool,
    load: Callable[[Sequence[Path]], Plugins] = load_plugins,
) -> CheckedExperiment:
    """Read an experiment and check it, including its parts and corpora.

    Args:
        source: a YAML file, or a document whose bases are resolved
        prepare: whether corpora that are made on first use may be made now, to check their splits
        load: function that loads all plugins, given plugin files

    Raises:
        ConfigError: with every problem found, each at its location in the file
    """
    resolved, plugins = _read(source, overrides, load)
    overviews = Overviews(corpora)
    checked = _composed(resolved, plugins, corpus_problems(resolved, overviews, prepare=prepare))
    if found := [resolved.problem(("schedule",), message) for message in leaks(checked.stages, overviews)]:
        raise ConfigError(found)
    return checked


def compose(source: Path | Document, overrides: Sequence[str]) -> CheckedExperiment:
    """Read an experiment and check it like `check`, without its corpora, which may be missing.

    Raises:
        ConfigError: with every problem found, each at its location in the file
    """
    resolved, plugins = _read(source, overrides, load_plugins)
    return _composed(resolved, plugins, ())


def _read(
    source: Path | Document, overrides: Sequence[str], load: Callable[[Sequence[Path]], Plugins]
) -> tuple[ResolvedExperiment, Plugins]:
    loaded: list[Plugins] = []

    def catalog_for(files: Sequence[Path]) -> object:
        loaded.append(load(files))
        return loaded[-1].catalog

    resolved = load_experiment(source, overrides=overrides, catalog_for=catalog_for)  # type: ignore[arg-type]
    return resolved, loaded[-1]


def _composed(resolved: ResolvedExperiment, plugins: Plugins, corpus_problems: Iterable[Problem]) -> CheckedExperiment:
    """List the stages and check how the parts fit. Misfits and corpus problems are reported before schedule errors."""
    stages: list[Stage] = []
    refusal: OssicleError | None = None
    try:
        stages = stages_of(resolved.experiment)
    except ConfigError as error:
        refusal = ConfigError([_located(problem, resolved) for problem in error.problems])
    except OssicleError as error:
        refusal = error
    if problems := [*_misfits(resolved, stages), *corpus_problems]:
        raise ConfigError(in_reading_order(problems, resolved.document.source))
    if refusal is not None:
        raise refusal
    return CheckedExperiment(resolved, plugins, stages)


def _located(problem: Problem, resolved: ResolvedExperiment) -> Problem:
    """Convert a problem with a dotted path, from a schedule or a task, to one at its location in the file."""
    if not isinstance(problem.where, str):
        return problem
    path = tuple(int(key) if key.isdecimal() else key for key in problem.where.split("."))
    return resolved.problem(path, f"`{problem.where}`: {problem.message}")


def stages_of(experiment: Experiment) -> list[Stage]:
    """List the stages of an experiment, inputs first.

    Raises:
        PluginError: if no plugin provides the kind of a stage
    """
    schedule = build(experiment.schedule, Schedule, seed=experiment.seed)
    stages = in_order(schedule.stages(experiment))
    for stage in stages:
        experiment.schedule.part.catalog.origin_of(stage)
    return stages


def _misfits(resolved: ResolvedExperiment, stages: Sequence[Stage]) -> Iterator[Problem]:
    """Find configurations that do not fit each other."""
    chosen = list(parts_of(resolved.experiment))
    context: dict[str, object] = {"catalog": resolved.catalog}
    # Facts of the experiment's direct parts override those of nested parts, such as the encoder of a tokenizer.
    for _, choice in sorted(chosen, key=lambda part: len(part[0]), reverse=True):
        context |= choice.config.compatibility_facts(resolved.catalog)
    lessons = list(_lessons(resolved, stages))
    for path, choice in chosen:
        if path[-2:] == ("watch", "corpus"):
            yield resolved.problem(path, WATCHED_CORPUS)
        cases = [(part, {**context, **of_teacher}) for named, part, of_teacher in lessons if named is choice]
        messages = [
            message if part is choice else f"its {part.kind} `{part.name}`: {message}"
            for part, case in cases or [(choice, context)]
            for message in part.config.check_compatibility(case)
        ]
        yield from (resolved.problem(path, message) for message in dict.fromkeys(messages))


def _lessons(
    resolved: ResolvedExperiment, stages: Sequence[Stage]
) -> Iterator[tuple[PartChoice, PartChoice, Mapping[str, object]]]:
    """List every tokenizer with a teacher, and its objective, with the facts about the teacher.

    The first item of each tuple is the part in the file that problems are reported at. For an objective that the file
    does not state, this is the tokenizer.
    """
    by_name = {stage.name: stage for stage in stages}
    for stage in stages:
        if not (facts := teacher_facts(stage, by_name, resolved.catalog)):
            continue
        for _, part in parts_of(stage.settings):
            if part.kind in ("tokenizer", "objective"):
                yield part, part, facts
        training = stage.training if isinstance(stage, TokenizerStage) else None
        if isinstance(stage, TokenizerStage) and training is not None and training.objective is None:
            yield stage.tokenizer, training.objective_of(stage.tokenizer, resolved.catalog), facts


def corpus_problems(resolved: ResolvedExperiment, overviews: Overviews, *, prepare: bool) -> Iterator[Problem]:
    """Find corpora that are missing or malformed, or that lack required splits or labels."""
    experiment = resolved.experiment
    broken: set[PartChoice] = set()
    for path, choice in parts_of(experiment):
        if choice.kind == "corpus" and choice not in broken:
            corpus = overviews.corpora.corpus(choice)
            found = corpus.problems()
            if not found and (prepare or corpus.is_ready):
                try:
                    overviews.of(choice)
                except CorpusError as error:
                    found = [str(error)]
            if found or not (prepare or corpus.is_ready):
                broken.add(choice)
            yield from (resolved.problem(path, message) for message in found)
    if experiment.corpus not in broken:
        yield from _split_problems(resolved, overviews)
        yield from _monitor_problems(resolved, overviews.corpora)
    for number, task in enumerate(experiment.evaluate):
        config = task.config
        if not isinstance(config, TaskConfig) or not config.needs_labelled_splits:
            continue
        if (labelled := config.corpus or experiment.corpus) not in broken:
            where = ("evaluate", number, "corpus")
            yield from (resolved.problem(where, message) for message in label_problems(overviews.of(labelled)))


def _split_problems(resolved: ResolvedExperiment, overviews: Overviews) -> Iterator[Problem]:
    experiment = resolved.experiment
    splits = overviews.of(experiment.corpus).splits
    if not set(splits) & set(experiment.pretrain.splits):
        present = ", ".join(splits)
        required = ", ".join(experiment.pretrain.splits)
        name = experiment.corpus.display_name
        message = f"corpus `{name}` has no clip in the splits {required}. It has: {present or 'no clips'}"
        yield resolved.problem(("pretrain", "splits"), message)


def _monitor_problems(resolved: ResolvedExperiment, corpora: Corpora) -> Iterator[Problem]:
    """Find evaluations during pre-training (`watch`) that the corpus does not support."""
    experiment = resolved.experiment
    monitors = [path for path, choice in parts_of(experiment) if choice.kind == "task" and path[-1] == "watch"]
    if monitors:
        from ..tasks.stages.monitor_split import monitor_problems

        found = monitor_problems(corpora.manifest(experiment.corpus))
        yield from (resolved.problem(path, message) for path in monitors for message in found)
