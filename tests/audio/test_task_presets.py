"""The presets of the six tasks: their settings, their paths, and their combination with another preset."""

from __future__ import annotations

from pathlib import Path

import pytest

from ossicle.audio.corpora.speech_commands import V2_WORDS
from ossicle.core.config_files.presets import preset_names
from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError
from ossicle.experiment.check import check

TASKS = ["audioset20k", "audioset2m", "esc50", "iemocap", "speech_commands_v1", "speech_commands_v2"]


def experiment(folder: Path, task: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(f"base: [beats/tiny, tasks/{task}]\nname: mine\ncorpus: gm_notes\n")
    return path


def test_every_task_of_the_paper_has_a_preset() -> None:
    assert [name for name in preset_names() if name.startswith("tasks/")] == [f"tasks/{task}" for task in TASKS]


@pytest.mark.parametrize("task", TASKS)
def test_a_preset_lacks_only_its_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as caught:
        check(experiment(tmp_path, task), [], Corpora(Silent()), prepare=False)

    assert {problem.message.partition("` does not exist")[1] for problem in caught.value.problems} == {
        "` does not exist"
    }
    assert all(f"tasks/{task}.yaml:" in str(problem.where) for problem in caught.value.problems)


def test_a_preset_runs_on_a_corpus_in_another_folder_and_names_its_stages(tmp_path: Path) -> None:
    folder = tmp_path / "speech_commands_v0.02"
    for word in V2_WORDS:
        for number in range(3):
            (folder / word).mkdir(parents=True, exist_ok=True)
            (folder / word / f"0000000{number}_nohash_0.wav").touch()
    (folder / "validation_list.txt").write_text("".join(f"{word}/00000001_nohash_0.wav\n" for word in V2_WORDS))
    (folder / "testing_list.txt").write_text("".join(f"{word}/00000002_nohash_0.wav\n" for word in V2_WORDS))
    settings = {"path": str(folder), "partial": "true"}
    overrides = [f"evaluate.{number}.corpus.{key}={value}" for number in range(3) for key, value in settings.items()]

    stages = check(experiment(tmp_path, "speech_commands_v2"), overrides, Corpora(Silent()), prepare=False).stages

    names = [stage.name for stage in stages]
    assert any(name.startswith("linear_probe/speech_commands_v2/") for name in names)
    assert any(name.startswith("knn_probe/speech_commands_v2/") for name in names)
    assert any(name.startswith("fine_tune/speech_commands_v2/") for name in names)
