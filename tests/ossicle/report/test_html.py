"""The HTML report: complete, self-contained, escaped, and robust to missing pieces."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossicle.report import write_report
from ossicle.report.figures import thin
from ossicle.report.training import Curve

SECTIONS = ("probes", "tokens", "training", "codebook", "pictures", "corpora", "stages", "reproduce")


@dataclass
class Extra:
    title: str
    html: str


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', page)


def test_every_section(report: Path) -> None:
    page = report.read_text()
    assert tuple(sections(page)) == SECTIONS
    assert (
        page.index("Its gain cannot be attributed to its teacher.")
        < page.index("1 warning")
        < page.index('id="probes"')
    )
    for text in ("iteration 2/pretrain", "token entropy", "Grad norm", "FluidR3 GM", "MIT", "3f9a1c0e77d2", "reused"):
        assert text in page
    assert "ossicle run experiments/quickstart.yaml" in page
    assert "corpus: gm_notes" in page
    assert "2 silent, 1 unreadable, 1 damaged but used</summary>" in page


def test_self_contained_and_small(report: Path) -> None:
    page = report.read_text()
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert all(target.startswith(("#", "data:")) for target in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "<script" not in page
    assert "@import" not in page
    assert len(page) < 700_000


def test_text_from_the_run_is_escaped(report: Path) -> None:
    page = report.read_text()
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;&amp;.wav" in page
    assert "alert(" not in page.replace("&lt;script&gt;alert(", "")


def test_hostile_names_in_figures(empty_run: Any) -> None:
    empty_run.run["name"] = "</title><script>1</script>"
    empty_run.evaluate("linear_probe", "<script>2</script>", 0.5, corpus='"><script>3</script>')
    page = write_report(empty_run.write()).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;2" in page


def test_ids_are_unique_and_resolve(report: Path) -> None:
    page = report.read_text()
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([\w.-]+)', page)) <= set(ids)


def test_figures_take_the_colours_of_the_page(report: Path) -> None:
    drawings = re.findall(r"<svg.*?</svg>", report.read_text(), re.DOTALL)
    assert "var(--accent)" in drawings[0]
    assert not any("#00000" in drawing for drawing in drawings)


def test_axis_labels_are_not_rounded(empty_run: Any) -> None:
    artifact = empty_run.stage("iteration 1/pretrain", "pretrain")
    lines = [f'{{"step": {step}, "masked_accuracy": {0.0004 * step}}}' for step in range(100)]
    (artifact / "metrics.jsonl").write_text("\n".join(lines))
    assert ">0.02<" in write_report(empty_run.write()).read_text()


def test_extra_sections(empty_run: Any) -> None:
    page = write_report(empty_run.write(), [Extra("Confusions & co", "<p>most <b>flutes</b></p>")]).read_text()
    assert "<h2>Confusions &amp; co</h2>" in page
    assert "<p>most <b>flutes</b></p>" in page
    assert "extra-1" in sections(page)


def test_empty_run(empty_run: Any) -> None:
    page = write_report(empty_run.write()).read_text()
    assert sections(page) == ["probes", "stages", "reproduce"]
    assert "No scores: the experiment has no" in page
    assert "No probe has scored" in page


def test_missing_pieces_are_left_out_or_named(empty_run: Any) -> None:
    artifact = empty_run.pretrain("iteration 1")
    empty_run.evaluate("linear_probe", "iteration 1", 0.5)
    (artifact / "pictures.npz").write_bytes(b"broken")
    (artifact / "codebook_usage.npz").unlink()
    (empty_run.write() / "experiment.yaml").unlink()
    page = write_report(empty_run.folder).read_text()
    assert sections(page) == ["probes", "training", "codebook", "stages", "reproduce"]
    assert "Left out: `pictures.npz` cannot be read" in page
    assert "the run has no untrained encoder to compare with" in page
    assert "is missing" in page


def test_training_without_known_metrics(empty_run: Any) -> None:
    artifact = empty_run.stage("mine/tokenizer", "tokenizer")
    (artifact / "metrics.jsonl").write_text('{"step": 1, "novelty": 0.1}\n{"step": 2, "novelty": 0.4}')
    page = write_report(empty_run.write()).read_text()
    assert "Further metrics (1)" in page
    assert "Novelty" in page


def test_a_distillation_is_not_described_as_a_pretraining(empty_run: Any) -> None:
    empty_run.distil("iteration 2", teacher="iteration 1/pretrain")
    page = write_report(empty_run.write()).read_text()
    assert sections(page) == ["probes", "training", "codebook", "stages", "reproduce"]
    assert "Cosine to the teacher" in page
    assert "One minus the cosine" in page
    assert "in nats" not in page
    assert "Left out" not in page


def test_trainings_of_evaluations_are_folded(empty_run: Any) -> None:
    empty_run.evaluate("fine_tune", "iteration 1", 0.5)
    (path,) = empty_run.store.glob("evaluate-*")
    (path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "accuracy": 0.5}')
    page = write_report(empty_run.write()).read_text()
    assert "<details><summary>fine_tune/gm_notes/iteration 1</summary>" in page
    assert "Training accuracy" in page
    assert "in nats" not in page


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 62])
def test_short_and_long_clips(empty_run: Any, columns: int) -> None:
    empty_run.pretrain("iteration 1", columns=columns, path="clip.wav")
    assert 'class="veil"' in write_report(empty_run.write()).read_text()


def test_controls_are_hollow_and_named(report: Path) -> None:
    page = report.read_text()
    drawing = page[page.index('<figure class="wide">') :].partition("</svg>")[0]
    assert "untrained teacher (control)" in drawing
    assert "var(--page)" in drawing
    assert "var(--warm)" in drawing
    legend = page[page.index('<ul class="legend"') :].partition("</ul>")[0]
    assert re.findall(r'class="([\w-]+)"></i>([\w-]+)', legend) == [
        ("start", "untrained"),
        ("log-mel", "log-mel"),
        ("iteration", "iteration"),
        ("control", "control"),
    ]
    assert "A control is trained like an iteration" in page


def test_controls_are_mentioned_only_if_there_are_any(empty_run: Any) -> None:
    empty_run.evaluate("probe", "iteration 1", 0.5)
    empty_run.evaluate("probe", "untrained", 0.4)
    page = re.sub(r"<style>.*?</style>", "", write_report(empty_run.write()).read_text(), flags=re.DOTALL)
    assert "control" not in page
    assert "var(--page)" not in page


def test_paired_differences_are_beside_the_word(report: Path) -> None:
    page = report.read_text().replace("\xa0", " ")
    item = page[page.index('<span class="who">log-mel</span>') :].partition("</li>")[0]
    assert re.search(r'<span class="gap">\+6\.0 points</span> <span class="range">\d\.\d to \d+\.\d</span>', item)
    assert "intervals apart" not in item
    item = page[page.index('<span class="who">untrained</span>') :].partition("</li>")[0]
    assert "intervals apart" in item


def test_tokens(report: Path) -> None:
    section = report.read_text().partition('<section id="tokens">')[2].partition("</section>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>\s*(<td.*?)</tr>", section, re.S)]
    assert rows == [
        ["iteration", "1", "1,024", "457", "91.2", "0.049", "0.014", "0.171", "0.033", "0.102", "960"],
        ["iteration", "2", "256", "210", "162.4", "0.061", "0.010", "0.384", "0.171", "0.208", "960"],
        ["untrained", "teacher", "control", "256", "198", "140.8", "0.013", "0.010", "0.965", "0.611", "0.402", "960"],
    ]
    assert section.count("<svg") == 2


def test_tokens_of_a_corpus_without_classes(empty_run: Any) -> None:
    empty_run.tokens("iteration 1", labelled=False)
    section = write_report(empty_run.write()).read_text().partition('<section id="tokens">')[2]
    assert "Class information needs exactly one class per clip" in section
    assert "Information of a token about the class" not in section
    assert "Information of a token about its position" in section


def test_folds_are_shown_if_there_are_any(empty_run: Any) -> None:
    empty_run.evaluate("linear_probe", "iteration 1", 0.5, folds=3)
    empty_run.evaluate("knn_probe", "iteration 1", 0.5)
    page = write_report(empty_run.write()).read_text().replace("\xa0", " ")
    assert page.count("Scores by fold") == 1
    table = page[page.index("Scores by fold") :].partition("</table>")[0]
    assert re.findall(r"fold \d", table) == ["fold 1", "fold 2", "fold 3"]
    row = "<td>bands</td>" + "".join(f'<td class="number">{value} %</td>' for value in ("51.0", "52.0", "53.0"))
    assert row in table.replace("\n", "")
    assert "ticks the scores of single folds" in page


def test_further_metrics_are_small_beside_the_score(report: Path) -> None:
    page = report.read_text().replace("\xa0", " ")
    assert '<td class="number">66.0 %<span class="range">UAR 56.0 %</span></td>' in page
    assert "Scores by fold" not in page
    assert "single folds" not in page


def test_odd_numbers_are_drawn(empty_run: Any) -> None:
    artifact = empty_run.pretrain("iteration 1", codes=1)
    np.savez(artifact / "codebook_usage.npz", steps=np.array([5]), counts=np.zeros((1, 7), np.int64))
    (artifact / "metrics.jsonl").write_text('{"step": 5, "loss": 1, "cost in $": 2, "$": 3}')
    empty_run.evaluate("probe", "log-mel $x^2$", float("nan"))
    page = write_report(empty_run.write()).read_text()
    assert "7 of 7 codes were not used" in page
    assert ">log-mel $x^2$<" in page


def test_long_training_is_thinned() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[54_321] = 99.0
    curve = thin(Curve(list(range(100_000)), values.tolist()))
    assert len(curve.steps) <= 500
    assert (curve.steps[0], curve.steps[-1]) == (0, 99_999)
    assert max(curve.values) == 99.0


@pytest.mark.slow
def test_the_report_of_a_run_is_deterministic(empty_run: Any) -> None:
    empty_run.pretrain("iteration 1")
    empty_run.tokens("iteration 1")
    for subject in ("untrained", "iteration 1"):
        empty_run.evaluate("probe", subject, 0.5)
    folder = empty_run.write()
    assert write_report(folder).read_text() == write_report(folder).read_text()
    assert not list(folder.glob("*.part"))


def test_importing_is_light() -> None:
    code = (
        "import sys, ossicle.report; print([m for m in ('matplotlib', 'jinja2', 'torch', 'rich') if m in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
