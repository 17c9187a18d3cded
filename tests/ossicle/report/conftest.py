"""A made-up run folder with realistic numbers, so that the report can be tested without training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossicle.core.plugin_loading import load_plugins

STAGES = load_plugins().catalog.stage_kinds
HOSTILE = '<script>alert("x")</script>&.wav'
CLIPS = {"train": 960, "valid": 192, "test": 400}
CONTROL = "untrained teacher"
CENTRES = {
    "linear_probe": {"untrained": 0.38, "iteration 1": 0.55, "iteration 2": 0.66, CONTROL: 0.65, "log-mel": 0.60},
    "knn_probe": {"untrained": 0.36, "iteration 1": 0.44, "iteration 2": 0.56, CONTROL: 0.55, "log-mel": 0.57},
}
# Codes, used codes, perplexity, then the information about the class, its chance level, the position, column and band.
TOKENS: dict[str, tuple[Any, ...]] = {
    "iteration 1": (1024, 457, 91.2, 0.0492, 0.0141, 0.171, 0.033, 0.102),
    "iteration 2": (256, 210, 162.4, 0.0612, 0.0103, 0.384, 0.171, 0.208),
    CONTROL: (256, 198, 140.8, 0.0127, 0.0098, 0.965, 0.611, 0.402),
}


class FakeRun:
    """Writes a run stage by stage into `folder / "runs" / name`, artifacts into `folder / ".store"`."""

    def __init__(self, folder: Path, name: str = "quickstart") -> None:
        self.folder = folder / "runs" / name
        self.folder.mkdir(parents=True)
        self.store = folder / "runs" / ".store"
        self.random = np.random.default_rng(0)
        self.hardness = np.random.default_rng(1).normal(size=10_000)
        self.run: dict[str, Any] = {
            "name": name,
            "command": f"ossicle run experiments/{name}.yaml",
            "seed": 0,
            "started": "2026-11-22T08:00:00+00:00",
            "finished": "2026-11-22T08:05:12+00:00",
            "seconds": 312.4,
            "versions": {"ossicle": "0.1.0", "torch": "2.9.1", "fairseq2": "0.8.1", "python": "3.11.7"},
            "machine": {"cores": 2, "memory_gib": 23.4, "device": "cpu", "platform": "Linux-6.1"},
            "plugins": [{"source": "ossicle 0.1.0", "parts": 12}],
            "store": "../.store",
            "stages": [],
            "warnings": [],
        }

    def write(self) -> Path:
        """Write `run.json` and the configuration, and return the run's folder."""
        (self.folder / "run.json").write_text(json.dumps(self.run))
        (self.folder / "experiment.yaml").write_text(f"name: {self.run['name']}\nseed: 0\ncorpus: gm_notes\n")
        return self.folder

    def stage(
        self,
        name: str,
        kind: str,
        *,
        seconds: float = 5.0,
        reused: bool = False,
        card: Any = None,
        tags: Any = None,
        **inputs: str,
    ) -> Path:
        """Add a stage with an empty artifact, and return the artifact's folder."""
        key = hashlib.sha256(name.encode()).hexdigest()[:12]
        artifact = self.store / f"{kind}-{key}"
        artifact.mkdir(parents=True)
        (artifact / "card.json").write_text(json.dumps({"kind": kind, "key": key, "name": name, **(card or {})}))
        entry = {"name": name, "kind": kind, "key": key, "artifact": f"../.store/{artifact.name}"}
        entry |= {"reused": reused, "seconds": seconds, "inputs": inputs, "tags": tags or {}}
        entry["flags"] = STAGES[kind][0].flags()
        self.run["stages"].append(entry)
        return artifact

    def survey(self, corpus: str = "gm_notes", bad_path: str = HOSTILE) -> None:
        """Add a survey that left out three bad files and used a damaged one."""
        artifact = self.stage(f"{corpus}/survey", "survey", seconds=9.1)
        found = {
            "corpus": corpus,
            "clips": CLIPS,
            "hours": {"train": 0.53, "valid": 0.107, "test": 0.222},
            "bad": {"silent": 2, "unreadable": 1},
            "damaged": 1,
            "fingerprint": "3f9a1c0e77d2b1445ab0",
            "mean": [0.0] * 128,
            "std": [1.0] * 128,
            "card": {"source": "Rendered from FluidR3 GM", "license": "MIT"},
        }
        (artifact / "survey.json").write_text(json.dumps(found))
        bad = [{"path": bad_path, "reason": "unreadable", "detail": "no RIFF header"}]
        bad += [{"path": f"train/{number:04}.wav", "reason": "silent", "detail": "peak 0.0"} for number in (12, 77)]
        bad.append({"path": "train/0099.mp3", "reason": "damaged", "detail": "used; the decoder printed 3 lines"})
        (artifact / "bad_files.jsonl").write_text("\n".join(json.dumps(entry) for entry in bad))

    def tokenizer(self, name: str, *, reused: bool = False) -> None:
        """Add a tokenizer without training."""
        self.stage(f"{name}/tokenizer", "tokenizer", seconds=0.2, reused=reused, corpus="gm_notes/survey")

    def distil(self, name: str, *, teacher: str, steps: int = 500, codes: int = 256) -> Path:
        """Add a trained tokenizer with curves and codebook use."""
        artifact = self.stage(f"{name}/tokenizer", "tokenizer", seconds=64.0, teacher=teacher)
        records = [
            {
                "step": step,
                "loss": 0.3 + 0.6 * float(np.exp(-4 * step / steps)),
                "cosine": 0.75 * (1 - float(np.exp(-4 * step / steps))),
                "commitment": 0.05 + 0.1 * float(np.exp(-6 * step / steps)),
                "token_perplexity": 160.0,
                "tokens_used": 210,
            }
            for step in range(10, steps + 1, 10)
        ]
        (artifact / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
        counts = self.random.poisson(40, (5, codes))
        np.savez(artifact / "codebook_usage.npz", steps=np.arange(100, 501, 100), counts=counts)
        tokens = {f"tokens_{number}": np.zeros(96, np.int64) for number in range(2)}
        np.savez(artifact / "pictures.npz", column_seconds=0.16, spectrogram_0=np.zeros((192, 128)), **tokens)
        return artifact

    def tokens(self, subject: str, *, corpus: str = "gm_notes", labelled: bool = True) -> None:
        """Add the token statistics of a tokenizer."""
        names = ("codebook_size", "used", "perplexity", "label_information", "label_chance")
        names += ("position_information", "column_information", "band_information")
        found = dict(zip(names, TOKENS[subject], strict=True)) | {"clips": 960}
        if not labelled:
            found |= {"label_information": None, "label_chance": None}
        tags = {"corpus": corpus, "subject": subject}
        artifact = self.stage(f"tokens/{corpus}/{subject}", "tokens", tags=tags, tokenizer=f"{subject}/tokenizer")
        (artifact / "tokens.json").write_text(json.dumps({**tags, **found}))

    def pretrain(
        self,
        name: str,
        *,
        steps: int = 1500,
        columns: int = 12,
        codes: int = 1024,
        path: str = HOSTILE,
        control: bool = False,
    ) -> Path:
        """Add a pre-training with curves, codebook use and pictures."""
        tags = {"subject": name, "control": control}
        source = f"{name}/tokenizer"
        artifact = self.stage(f"{name}/pretrain", "pretrain", seconds=131.0, tags=tags, tokenizer=source)
        records = [self._record(step, steps, codes) for step in range(10, steps + 1, 10)]
        (artifact / "metrics.jsonl").write_text("\n".join(json.dumps(record) for record in records) + "\n")
        weights = 1 / np.arange(1, codes + 1) ** 0.9
        shares = self.random.permutation(weights / weights.sum())
        counts = np.stack([self.random.poisson(4_000 * shares) for _ in range(15)])
        np.savez(artifact / "codebook_usage.npz", steps=np.arange(100, 1501, 100), counts=counts)
        np.savez(artifact / "pictures.npz", column_seconds=0.16, **self._pictures(columns, codes, path))
        return artifact

    def evaluate(
        self, task: str, subject: str, centre: float, *, corpus: str = "gm_notes", clips: int = 400, folds: int = 0
    ) -> None:
        """Add a probe of `subject` with three views. The second view has the best validation score.

        Each fold, counted from 1, scores one percentage point more than the previous one.
        """
        tags = {"task": task, "corpus": corpus, "subject": subject}
        source = f"features/{corpus}/{subject}"
        artifact = self.stage(f"{task}/{corpus}/{subject}", "evaluate", tags=tags, features=source)
        views = [(view, centre + shift) for view, shift in (("mean", -0.04), ("bands", 0.0), ("mean+max", 0.005))]
        scores = [
            {
                "view": view,
                "metric": "accuracy",
                "value": value,
                "low": value - 0.045,
                "high": value + 0.045,
                "clips": clips,
                "chosen": {"C": 0.1, "valid": round(value + (0.03 if view == "bands" else 0.01), 4)},
                "others": {"UAR": value - 0.1},
                "folds": {str(fold): value + 0.01 * fold for fold in range(1, folds + 1)},
            }
            for view, value in views
        ]
        (artifact / "scores.json").write_text(json.dumps({**tags, "multi_label": False, "scores": scores}))
        if centre >= 0:
            predictions = {f"scores/{view}": self._predictions(clips, value) for view, value in views}
            truth = np.eye(16, dtype=bool)[np.arange(clips) % 16]
            np.savez(artifact / "predictions.npz", clips=np.arange(clips), truth=truth, **predictions)

    def _predictions(self, clips: int, accuracy: float) -> Any:
        """Draw (clips, 16) logits with the given accuracy. Most correct clips are easy for every subject."""
        found = self.random.normal(size=(clips, 16))
        difficulty = self.hardness[:clips] + 0.6 * self.random.normal(size=clips)
        right = difficulty.argsort().argsort() < round(accuracy * clips)
        found[np.arange(clips), np.arange(clips) % 16] = np.where(right, 9.0, -9.0)
        return found.astype(np.float32)

    def _record(self, step: int, steps: int, codes: int) -> dict[str, float]:
        done = step / steps
        noise = float(self.random.normal(0, 0.04))
        return {
            "step": step,
            "loss": 2.9 + 3.9 * float(np.exp(-5 * done)) + noise,
            "masked_accuracy": 0.31 * (1 - float(np.exp(-4 * done))) + noise / 20,
            "token_entropy": 4.9 + noise / 3,
            "token_perplexity": 134.0 + 20 * noise,
            "tokens_used": round(0.45 * codes) + round(40 * noise),
            "predicted_perplexity": 110 * (1 - float(np.exp(-6 * done))) + 3,
            "lr": 5e-4 * min(done / 0.1, (1 - done) / 0.9 + 0.01),
            "audio_seconds_per_second": 410.0 + 200 * noise,
            "grad_norm": 1.2 + float(np.exp(-4 * done)) + noise,
        }

    def _pictures(self, columns: int, codes: int, path: str) -> dict[str, Any]:
        bands = 8
        found: dict[str, Any] = {}
        for number in range(2):
            time, mel = np.mgrid[0 : columns * 16, 0:128]
            notes = sum(
                np.exp(-(((mel - 14 * harmonic**0.8 - 9 * number) / 2.2) ** 2)) * np.exp(-(time % 64) / 40)
                for harmonic in range(1, 9)
            )
            frames = 3 * notes - mel / 90 + self.random.normal(0, 0.25, time.shape)
            loud = frames.reshape(columns, 16, bands, 16).mean((1, 3))
            tokens = ((loud - loud.min()) * 14).astype(np.int64).ravel() * 37 % codes
            hidden = self.random.random(columns * bands) < 0.75
            guessed = self.random.random(columns * bands) < 0.4
            predicted = np.where(guessed, tokens, self.random.choice(tokens, len(tokens)))
            found |= {f"spectrogram_{number}": frames.astype(np.float32), f"tokens_{number}": tokens}
            found |= {f"hidden_{number}": hidden, f"predicted_{number}": predicted}
            found |= {f"columns_{number}": columns, f"bands_{number}": bands, f"path_{number}": path}
        return found


def _quickstart(run: FakeRun) -> FakeRun:
    run.survey()
    run.tokenizer("iteration 1", reused=True)
    run.pretrain("iteration 1")
    run.distil("iteration 2", teacher="iteration 1/pretrain")
    run.pretrain("iteration 2", codes=256)
    run.distil(CONTROL, teacher="untrained")
    run.pretrain(CONTROL, codes=256, control=True)
    for name in TOKENS:
        run.tokens(name)
    for task, centres in CENTRES.items():
        for subject, centre in centres.items():
            run.evaluate(task, subject, centre)
    run.run["warnings"].append("3 of 1,555 files of gm_notes could not be used")
    return run


@pytest.fixture
def empty_run(tmp_path: Path) -> FakeRun:
    """A run without stages."""
    return FakeRun(tmp_path)


@pytest.fixture
def quickstart(empty_run: FakeRun) -> FakeRun:
    """Two iterations and a control, two probes, a survey and a warning."""
    return _quickstart(empty_run)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory, slow: None) -> Path:
    """The report of a quickstart run, written once."""
    from ossicle.report import write_report

    return write_report(_quickstart(FakeRun(tmp_path_factory.mktemp("report"))).write())
