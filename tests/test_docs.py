"""The documentation agrees with the code: hooks, presets, parts and their fields."""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import ossicle
from ossicle.core.catalog import Part
from ossicle.core.config_files.field_docs import documented
from ossicle.core.config_files.presets import preset_names
from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.hooks import Hooks
from ossicle.core.part_kinds import PartKind, load_target
from ossicle.core.plugin_loading import load_plugins
from ossicle.experiment.check import check, compose
from ossicle.training import objective_extras

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
CATALOG = load_plugins().catalog
PARTS = [part for part in CATALOG.parts() if part.origin.source == "ossicle"]
KINDS = [kind for kind in CATALOG.part_kinds.values() if kind.origin.source == "ossicle"]


def test_every_hook_is_documented_with_its_signature() -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    for name, hook in vars(Hooks).items():
        if name.startswith("ossicle_"):
            arguments = [argument for argument in inspect.signature(hook).parameters if argument != "self"]
            assert f"`{name}({', '.join(arguments)})`" in text


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.kind}-{part.name}")
def test_every_part_loads_and_every_field_is_documented(part: Part) -> None:
    assert part.summary
    assert part.load().__doc__
    for name, field in documented(part.config).model_fields.items():
        assert field.description, f"{part.name}.{name}"


@pytest.mark.parametrize("part", [part for part in PARTS if part.kind == "tokenizer"], ids=lambda part: part.name)
def test_every_tokenizer_is_in_the_table(part: Part) -> None:
    former = "".join(f" (formerly `{alias}`)" for alias in part.aliases)
    assert f"\n| `{part.name}`{former} |" in (ROOT / "docs" / "plugins.md").read_text()


@pytest.mark.parametrize(
    "kind", [kind for kind, (_, origin) in CATALOG.stage_kinds.items() if origin.source == "ossicle"]
)
def test_every_kind_of_stage_is_in_the_table_and_has_docstrings(kind: str) -> None:
    assert f"\n| `{kind}` |" in (ROOT / "docs" / "plugins.md").read_text()
    stage, _ = CATALOG.stage_kinds[kind]
    assert stage.__doc__
    for target in filter(None, (stage.action, stage.objective_builder)):
        assert load_target(target, "").__doc__


def test_the_stage_in_the_documentation_runs(tiny: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    (block,) = re.findall(r"```python\n(from dataclasses.*?)```", text, re.DOTALL)
    (plugin := tmp_path / "classes.py").write_text(f"import ossicle\n{block}{LISTING}")
    folder = ossicle.run(tiny, overrides=[f"plugins=[{plugin}]", "schedule=listing"], out=tmp_path / "runs")
    stages = json.loads((folder / "run.json").read_text())["stages"]
    assert (folder / stages[-1]["artifact"] / "classes.txt").read_text() == "high\nlow"


LISTING = """

class ListingConfig(ossicle.Config):
    pass


@ossicle.schedule("listing")
class Listing(ossicle.Schedule):
    def __init__(self, config: ListingConfig) -> None:
        pass

    def stages(self, experiment):
        from ossicle.audio.stage_specs import survey_stage

        survey = survey_stage(experiment, experiment.corpus)
        return [survey, ClassesStage(name="classes", corpus=experiment.corpus, inputs={"survey": survey.name})]
"""


# Presets of tasks and recipes need corpora. They are tested in tests/audio/test_task_presets.py and test_presets.py.
@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("beats/")])
def test_every_preset_makes_an_experiment(name: str, tmp_path: Path) -> None:
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(f"base: {name}\nname: tried\ncorpus: gm_notes\n")
    assert check(experiment, [], Corpora(Silent()), prepare=False).stages


NAMED = re.compile(
    r"`((?:core|audio|encoders|tokenizers|checkpoints|training|tasks|plugins|benchmarks|ossicle)(?:\.[A-Za-z_]\w*)+)(?![\w./])"
)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{one.name}" for one in DOCS)])
def test_names_in_the_documentation_can_be_imported(page: str) -> None:
    for name in NAMED.findall((ROOT / page).read_text()):
        pkgutil.resolve_name(name)


def test_every_decorator_is_documented() -> None:
    (sentence,) = re.findall(
        r"`@ossicle\.(corpus`,.*?)\s+name\s+a\s+class", (ROOT / "docs/plugins.md").read_text(), re.DOTALL
    )
    names = re.findall(r"\w+(?=`)", sentence)
    assert names == [kind.name for kind in KINDS]
    assert all(callable(getattr(ossicle, name)) for name in names)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_part_is_documented_with_its_interface_and_arguments(kind: PartKind) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    (row,) = re.findall(rf"^\| `{kind.name}` \| .* \| `ossicle\.(\w+)` \| (.*) \|$", page, re.MULTILINE)
    interface, offers = row
    assert getattr(ossicle, interface) is kind.load()[0]
    offered = {"catalog", *re.findall(r"`(\w+)`", offers)}
    if kind.name == "objective":
        offered |= {"teacher", "teacher_head"}  # in the training of a tokenizer
    for part in CATALOG.parts(kind.name):
        assert set(list(inspect.signature(part.load()).parameters)[1:]) <= offered, part.name


def test_every_optional_method_of_an_objective_is_documented() -> None:
    documented = (ROOT / "docs" / "plugins.md").read_text()
    protocols = [protocol for name, protocol in vars(objective_extras).items() if name.startswith("Supports")]
    assert protocols
    for protocol in protocols:
        for name in protocol.__abstractmethods__:
            method = vars(protocol)[name]
            if not isinstance(method, property):
                name += f"({', '.join([*inspect.signature(method).parameters][1:])})"
            assert f"`{name}`" in documented


CORPUS_OVERRIDE = re.compile(r"evaluate\.\{[\d,]+\}\.corpus\.\w+=[^\s`]+")


@pytest.mark.parametrize(
    "page", ["docs/corpora.md", *(f"presets/{name}.yaml" for name in preset_names() if name.startswith("tasks/"))]
)
def test_the_documented_override_changes_the_corpus_of_every_task(page: str, tmp_path: Path) -> None:
    task = Path(page).stem if page.startswith("presets") else "esc50"
    experiment = tmp_path / "mine.yaml"
    experiment.write_text(f"base: [beats/tiny, tasks/{task}]\nname: mine\ncorpus: gm_notes\n")
    documented = " ".join(CORPUS_OVERRIDE.findall((ROOT / page).read_text())).replace("…", "/corpora/there")
    written_out = subprocess.run(["bash", "-c", f"echo {documented}"], capture_output=True, text=True, check=True)
    corpora = [choice.config.corpus for choice in compose(experiment, written_out.stdout.split()).experiment.evaluate]
    paths = {path for choice in corpora for key, path in choice.config if key.endswith("path")}
    assert paths
    assert all(str(path).startswith("/corpora/") for path in paths)


def test_the_speed_record_states_its_command_and_make_bench_does_not_overwrite_it() -> None:
    command = re.findall(r"`(ossicle bench .*?)`", (ROOT / "benchmarks" / "RESULTS.md").read_text())[0]
    assert f"`{command}`" in " ".join((ROOT / "README.md").read_text().split())
    (out,) = re.findall(r"ossicle bench .*--out (\S+)", (ROOT / "Makefile").read_text())
    assert f"{Path(out).parent}/" in (ROOT / ".gitignore").read_text().split()


def test_the_readme_shows_the_code_of_the_example() -> None:
    example = (ROOT / "examples" / "sign_hash.py").read_text()
    readme = (ROOT / "README.md").read_text()
    body = example[example.index("class SignHashConfig") :].strip()
    squeezed = "\n".join(line for line in readme.splitlines() if line.strip())
    assert "\n".join(line for line in body.splitlines() if line.strip()) in squeezed


WALKS = re.findall(
    r"^\| `([\w/]+\.py)` \| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE
)


def test_the_walks_of_the_architecture_name_existing_code() -> None:
    assert len(WALKS) > 20
    for file, names in WALKS:
        module = ".".join(Path(file).with_suffix("").parts)
        for name in re.findall(r"\w+", names):
            pkgutil.resolve_name(f"{module if module.startswith('ossicle.') else f'ossicle.{module}'}:{name}")


def test_each_walk_visits_each_folder_once_in_the_order_of_the_folders() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    order = re.findall(r"`([a-z_/]+)`", page[page.index("`core` →") : page.index("The two walks")])
    walks = [re.findall(r"^\| `([\w/]+)/\w+\.py`", section, re.MULTILINE) for section in page.split("\n## ")]
    walks = [walk for walk in walks if walk]
    assert len(walks) == 2
    for walk in walks:
        visited = [folder if folder in order else folder.partition("/")[0] for folder in walk]
        visited = [folder for index, folder in enumerate(visited) if index == 0 or visited[index - 1] != folder]
        assert visited == sorted(visited, key=order.index)
        assert len(visited) == len(set(visited))
