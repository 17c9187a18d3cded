"""Loading experiments from YAML files: their values, and the text of every error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from ossicle.core.catalog import Catalog, PluginFailure
from ossicle.core.choices import PartChoice, TokenizerChoice, parts_of
from ossicle.core.config import Config
from ossicle.core.config_files.experiment_loader import load_experiment, resolved_yaml
from ossicle.core.config_files.field_docs import documented
from ossicle.core.config_files.json_schema import experiment_schema
from ossicle.core.errors import ConfigError
from ossicle.core.experiment import Experiment, TrainingConfig

CatalogFor = Callable[[Sequence[Path]], Catalog]

BROKEN = Path(__file__).parent / "broken"

SOUND = """
name: sound
corpus: gm_notes
front_end: kaldi_fbank
encoder: {type: beats, size: tiny}
schedule:
  type: beats
  iterations:
    - tokenizer: {type: random_projection, codebook_size: 16}
    - tokenizer: random_projection
pretrain: {steps: 15, lr: 5e-4, warmup_steps: 5, objective: {type: masked_prediction, mask_ratio: .5}}
evaluate:
  - {type: linear_probe, corpus: {type: folder, path: ./sounds}, neighbours: [1, 2]}
  - knn_probe
"""


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.yaml"
    path.write_text(SOUND)
    return path


@pytest.mark.parametrize("case", sorted(path.stem for path in BROKEN.glob("*.yaml")))
def test_broken_files(case: str, catalog_for: CatalogFor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    expected = Path(f"{case}.expected").read_text().format(file=f"{case}.yaml", here=BROKEN).splitlines()
    overrides = [line.removeprefix("override: ") for line in expected if line.startswith("override: ")]
    with pytest.raises(ConfigError) as caught:
        load_experiment(Path(f"{case}.yaml"), overrides=overrides, catalog_for=catalog_for)
    lines = str(caught.value).splitlines()
    expected = expected[len(overrides) :]
    cut = [
        line[: len(start) - 1] + "…" if start.endswith("…") else line
        for line, start in zip(lines, expected, strict=False)
    ]
    assert [*cut, *lines[len(expected) :]] == expected


def test_values(sound: Path, catalog_for: CatalogFor) -> None:
    experiment = load_experiment(sound, catalog_for=catalog_for).experiment
    assert experiment.pretrain.lr == 5e-4
    assert experiment.pretrain.objective.config.model_dump() == {"mask_ratio": 0.5}
    folder = experiment.evaluate[0].config.corpus  # type: ignore[attr-defined]
    assert folder.config.path == sound.parent / "sounds"
    assert experiment.encoder.name == "beats"
    assert experiment.encoder.kind == "encoder"
    assert experiment.encoder.part.origin.describe() == "tests"


def test_resolved_yaml_reads_back_to_the_same_experiment(sound: Path, catalog_for: CatalogFor) -> None:
    experiment = load_experiment(sound, catalog_for=catalog_for).experiment
    text = resolved_yaml(experiment)
    assert "  splits: [train, unlabelled]\n" in text
    assert "encoder:\n  type: beats\n  size: tiny\n" in text
    assert "  iterations:\n    - tokenizer:\n        type: random_projection\n" in text
    again = sound.with_name("again.yaml")
    again.write_text(text)
    assert load_experiment(again, catalog_for=catalog_for).experiment == experiment


def test_overrides_are_applied_in_order(sound: Path, catalog_for: CatalogFor) -> None:
    overrides = [
        "seed=3",
        "schedule.iterations.1.tokenizer.codebook_size=8",
        "corpus=folder",
        "corpus.path=./x",
        "seed=4",
    ]
    resolved = load_experiment(sound, overrides=overrides, catalog_for=catalog_for)
    experiment = resolved.experiment
    assert experiment.seed == 4
    assert experiment.corpus.plain() == {"type": "folder", "path": str(Path.cwd() / "x")}
    tokenizers = [choice.plain()["codebook_size"] for path, choice in parts_of(experiment) if path[-1] == "tokenizer"]
    assert tokenizers == [16, 8]
    assert str(resolved.problem(("seed",), "is odd")) == "override 'seed=4': is odd"


def test_parts_inside_parts_are_found(sound: Path, catalog_for: CatalogFor) -> None:
    experiment = load_experiment(sound, catalog_for=catalog_for).experiment
    found = {".".join(map(str, path)): choice.name for path, choice in parts_of(experiment)}
    assert found["evaluate.0.corpus"] == "folder"
    assert found["schedule.iterations.1.tokenizer"] == "random_projection"
    assert len(found) == 10


def test_problems_of_overrides_and_of_the_file_are_raised_together(sound: Path, catalog_for: CatalogFor) -> None:
    sound.write_text(SOUND.replace("steps: 15", "steps: 0"))
    with pytest.raises(ConfigError) as caught:
        load_experiment(sound, overrides=["seed", "seed.x=1", "evaluate.7=x"], catalog_for=catalog_for)
    assert len(caught.value.problems) == 4


def test_a_plugin_that_failed_to_load_is_named(sound: Path, catalog_for: CatalogFor) -> None:
    sound.write_text(SOUND.replace("knn_probe", "ear_probe"))

    def failing(files: Sequence[Path]) -> Catalog:
        catalog = catalog_for(files)
        catalog.failures.append(PluginFailure("ears 1.0 (ears:plugin)", "ImportError: no module named cochlea"))
        return catalog

    message = r"called `ear_probe`.*Plugin ears 1\.0 \(ears:plugin\) .*ImportError: no module named cochlea"
    with pytest.raises(ConfigError, match=message):
        load_experiment(sound, catalog_for=failing)


def test_an_invalid_default_is_reported_at_its_mapping(catalog_for: CatalogFor, sound: Path) -> None:
    with pytest.raises(ConfigError, match=r"sound\.yaml:11:11: `pretrain.checkpoint_every` must be a multiple .*7"):
        load_experiment(sound, overrides=["pretrain.log_every=7"], catalog_for=catalog_for)


class _Defaults(Config):
    path: Path = Path("here")
    tokenizer: TokenizerChoice = "random_projection"  # type: ignore[assignment]
    either: int | str = 1


def test_defaults(catalog: Catalog) -> None:
    made = _Defaults.model_validate_json("{}", context={"catalog": catalog})
    assert made.path == Path("here")
    expected = {"input_normalization": "none", "codebook_size": 1024, "normalize": "none"}
    assert made.tokenizer.config.model_dump() == expected
    assert made.check_compatibility({}) == []
    assert len({made.tokenizer, made.tokenizer}) == 1


def test_a_choice_of_another_kind_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ValidationError, match="must be of kind tokenizer, but is of kind encoder"):
        _Defaults(tokenizer=PartChoice.of(catalog.get("encoder", "beats"), {}))


def test_parts_need_a_catalog() -> None:
    with pytest.raises(TypeError, match="context"):
        _Defaults.model_validate_json("{}")


def test_every_field_is_documented() -> None:
    for model in (TrainingConfig, Experiment):
        assert all(field.description for field in documented(model).model_fields.values())


def test_schema(catalog: Catalog) -> None:
    schema = experiment_schema(catalog)
    text = json.dumps(schema)
    assert "x-ossicle-part" not in text
    references = {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}
    assert references <= set(schema["$defs"])
    assert schema["properties"]["encoder"]["$ref"] == "#/$defs/encoder"
    assert schema["$defs"]["encoder"]["anyOf"][0] == {"enum": ["beats"]}
    beats = schema["$defs"]["encoder.beats"]
    assert beats["properties"]["type"] == {"const": "beats"}
    assert beats["required"] == ["type"]
    assert beats["additionalProperties"] is False
    iteration = schema["$defs"]["schedule.beats.Iteration"]
    assert iteration["properties"]["tokenizer"]["$ref"] == "#/$defs/tokenizer"


def test_no_heavy_import() -> None:
    heavy = "{'torch', 'numpy', 'fairseq2', 'scipy'}"
    modules = "ossicle.core.experiment, ossicle.core.config_files.json_schema"
    code = f"import sys, {modules}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
