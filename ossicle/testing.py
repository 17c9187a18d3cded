"""The contract of a tokenizer, as tests that its author runs:

    class TestMine(TokenizerContract):
        tokenizer = Mine

Needs pytest. Notable choices:

- A base class of tests, so that pytest reports each requirement under a separate name.
- A failure is one sentence with its remedy, without a traceback.
- The patches come from the usual front end.
- Tokenizing also runs on torch's `meta` device. It detects tensors that would not move to a GPU, without a GPU.
"""

from __future__ import annotations

import copy
import inspect
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .audio.front_end_config import KaldiFbankConfig
from .audio.kaldi_fbank import KaldiFbank
from .core.build import build
from .core.catalog import Catalog, Part
from .core.choices import PartChoice
from .core.config import TokenizerConfig
from .core.config_files.field_docs import documented
from .core.data import AudioBatch, Grid, PatchBatch
from .core.errors import ArtifactError, PluginError
from .core.interfaces import Encoder, Objective, Tokenizer
from .core.parts import comes_trained, load_part, save_part
from .core.plugin_loading import load_plugins
from .core.store import Artifact
from .training.objective_extras import prepare

SECONDS = (1.3, 0.5, 1.0, 0.17)
"""Durations of the clips that are tokenized. The last clip is one time column long."""
TRAINING_STEPS = 2
TIMED = 3
"""Number of timed runs. The fastest counts."""


class TokenizerContract:
    """The tests. Derive a class whose name begins with `Test`, and set `tokenizer`.

    Attributes:
        tokenizer: class of the tokenizer, or its registered name
        config: fields as in YAML, without `type`; use a small codebook if learning takes long
        drawn: whether another seed gives another tokenizer
        ties: share of the tokens that rounding may change, because two codes are almost equally near
        slowest: allowed duration relative to random projection; very large by default
    """

    tokenizer: type[Tokenizer] | str
    config: Mapping[str, Any] = {}
    drawn: bool = True
    ties: float = 0.02
    slowest: float = 1000.0

    def test_configuration_is_frozen_and_documented(self) -> None:
        config = type(self._choice.config)
        for option, value in (("frozen", True), ("extra", "forbid")):
            if config.model_config.get(option) != value:
                _fail(f"`{config.__name__}` must keep `{option}={value!r}` of ossicle.Config: do not override it")
        for name, field in documented(config).model_fields.items():
            if not field.description:
                _fail(f"`{config.__name__}.{name}` has no docstring: describe the field in a string below it")
        if not self._choice.part.summary:
            _fail(f"{self._name} has no docstring: add one, because `ossicle plugins` shows its first line")
        stated = self._choice.config.model_dump(mode="json")
        if PartChoice.of(self._choice.part, stated, catalog=self._catalog).config != self._choice.config:
            _fail(f"`{config.__name__}` changes when written to JSON and read back: use plain types for its fields")

    def test_tokens_have_the_right_shape_type_and_range(self) -> None:
        tokenizer, clips = self._prepared(), _clips()
        for batch in (clips, *(_single_clip(clips, clip) for clip in range(len(SECONDS)))):
            self._tokens(tokenizer, batch)
        for factor in (0.0, 100.0):
            self._tokens(tokenizer, replace(clips, patches=factor * clips.patches))

    def test_tokens_tell_patches_apart(self) -> None:
        tokens = self._tokens(self._prepared(), _clips())
        for stream in tokens.reshape(len(tokens), -1).T:
            if len(stream.unique()) < 2:
                _fail(
                    f"{self._name} gives silence, noise and tones the same token {int(stream[0])}: tokens must depend "
                    "on the patch"
                )

    def test_same_seed_same_tokens(self) -> None:
        one, same = self._prepared(seed=3), self._learnt(seed=3)
        remedy = "draw random numbers with `self.seeded_normal`, or from torch's generator in the constructor"
        for name, tensor in one.state_dict().items():
            if not torch.equal(tensor, same.state_dict()[name]):
                _fail(f"{self._name}: two tokenizers from the same seed differ in `{name}`: {remedy}")
        tokens = self._tokens(one, _clips())
        fault = f"two tokenizers from the same seed give different tokens: {remedy}"
        self._compare(tokens, self._tokens(same, _clips()), fault)
        fault = "the same patches get different tokens the second time: use no random numbers in `forward`"
        self._compare(tokens, self._tokens(one, _clips()), fault)

    def test_another_seed_another_tokenizer(self) -> None:
        tokens = [self._tokens(self._prepared(seed=seed), _clips()) for seed in (3, 4)]
        same = torch.equal(*tokens)
        if same and self.drawn:
            _fail(
                f"{self._name} gives the same tokens from seeds 3 and 4: draw with `self.seeded_normal`, so that a "
                "study can vary the seed, or set `drawn = False` in the test if nothing is random"
            )
        if not same and not self.drawn:
            _fail(f"{self._name} gives different tokens from seeds 3 and 4, but the test sets `drawn = False`")

    def test_a_clip_has_the_same_tokens_alone_and_in_a_batch(self) -> None:
        tokenizer, clips = self._prepared(), _clips()
        together = tokenizer.tokenize(clips).ids
        for clip in range(len(SECONDS)):
            self._compare(
                together[clip, clips.valid[clip]],
                self._tokens(tokenizer, _single_clip(clips, clip)),
                f"clip {clip} gets other tokens in a batch than as a single clip: clips must not affect each other",
            )

    def test_padding_never_matters(self) -> None:
        tokenizer, clips = self._prepared(), _clips()
        self._compare(
            self._tokens(tokenizer, clips),
            self._tokens(tokenizer, _with_garbage(clips)),
            "tokens of real patches depend on padding: exclude padding with `batch.valid`",
        )

    def test_tokenizing_changes_nothing(self) -> None:
        tokenizer, clips = self._prepared(), _clips()
        before = copy.deepcopy(tokenizer.state_dict())
        self._tokens(tokenizer, clips)
        untouched = _clips()
        for field in ("patches", "valid", "clips"):
            if not torch.equal(getattr(clips, field), getattr(untouched, field)):
                _fail(f"{self._name} overwrites `batch.{field}`, which the encoder reads later: work on a copy")
        for name, tensor in tokenizer.state_dict().items():
            if not torch.equal(tensor, before[name]):
                _fail(f"tokenizing changes `{name}` of {self._name}: learn in `fit` or in training, not in `forward`")

    def test_every_tensor_moves_with_it(self) -> None:
        tokenizer, clips = self._prepared(), _clips()
        for name in _stray_tensors(tokenizer):
            _fail(
                f"`{name}` of {self._name} is a plain tensor, which is neither moved to a GPU nor saved: use "
                f'`self.register_buffer("{name.rpartition(".")[2]}", …)`'
            )
        self._follow(copy.deepcopy(tokenizer).to("meta"), _moved(clips, "meta"))
        if torch.cuda.is_available():
            there = self._tokens(copy.deepcopy(tokenizer).to("cuda"), _moved(clips, "cuda"))
            self._compare(self._tokens(tokenizer, clips), there.cpu(), "tokens on a GPU differ from those on the CPU")

    def test_saved_and_loaded_it_gives_the_same_tokens(self, tmp_path: Path) -> None:
        tokenizer = self._prepared(seed=3)
        entry = save_part(tmp_path, "tokenizer", tokenizer)
        (tmp_path / "card.json").write_text(json.dumps({"parts": {"tokenizer": entry}}))
        remedy = "everything that tokens depend on must be in its configuration, buffers or parameters"
        try:
            loaded = load_part(Artifact(tmp_path), "tokenizer", Tokenizer, self._catalog)
        except ArtifactError as error:
            _fail(f"{self._name} cannot be loaded: {remedy}, with the shapes that its constructor gives them ({error})")
        fault = f"tokens differ after saving and loading: {remedy}"
        self._compare(self._tokens(tokenizer, _clips()), self._tokens(loaded, _clips()), fault)

    def test_what_is_learnt_is_kept_and_free_of_padding(self) -> None:
        fresh = self._built()
        if comes_trained(self._choice) or not (fresh.is_fitted or self._objective):
            pytest.skip("does not learn from a corpus")
        learnt, before = self._prepared(), fresh.state_dict()
        if all(name in before and torch.equal(tensor, before[name]) for name, tensor in learnt.state_dict().items()):
            _fail(
                f"learning from a corpus changes no buffer and no parameter of {self._name}: store the result in a "
                "buffer or a parameter"
            )
        if fresh.is_fitted:
            fresh.fit(_Corpus(_with_garbage))
            fault = "`fit` learns from padding: exclude padding with `batch.valid`"
            self._compare(self._tokens(learnt, _clips()), self._tokens(fresh.eval(), _clips()), fault)

    def test_speed(self, record_property: Callable[[str, object], None]) -> None:
        """Measure the duration relative to the usual random projection; `pytest -rP` shows it."""
        batch, taken = next(iter(_Corpus())), []
        usual = build(PartChoice.of(self._catalog.get("tokenizer", "random_projection"), {}), Tokenizer, **self._offers)
        both = (self._prepared(), usual)
        for _ in range(TIMED):
            taken.append([_seconds(tokenizer, batch) for tokenizer in both])
        mine, theirs = (min(times) for times in zip(*taken, strict=True))
        record_property("times_random_projection", round(mine / theirs, 3))
        report = f"{self._name} takes {mine / theirs:.2g} times as long as random projection"
        print(f"{report} ({1e3 * mine:.1f} ms for {batch.seconds:.0f} s of audio)")
        if mine > self.slowest * theirs:
            _fail(f"{report}; the test allows {self.slowest:g} times: process all patches at once, or raise `slowest`")

    # The rest of the class prepares tokenizers for the tests.

    @cached_property
    def _part(self) -> Part:
        return _part(load_plugins().catalog, self.tokenizer)

    @property
    def _catalog(self) -> Catalog:
        return self._part.catalog

    @cached_property
    def _choice(self) -> PartChoice:
        return PartChoice.of(self._part, self.config, catalog=self._catalog)

    @property
    def _name(self) -> str:
        return f"tokenizer `{self._choice.name}`"

    @property
    def _objective(self) -> str | None:
        """The name of the objective that trains the tokenizer; None if there is none."""
        config = self._choice.config
        return config.objective if isinstance(config, TokenizerConfig) else None

    @cached_property
    def _offers(self) -> dict[str, Any]:
        """The arguments that a run can pass to the constructor of a tokenizer."""
        front_end = _front_end()
        shape = {"layers": 1, "width": 32, "feed_forward": 64, "heads": 2}
        encoder = PartChoice.of(self._catalog.get("encoder", "plain_vit"), shape)
        sizes = {"patch_dim": front_end.patch_dim, "bands": front_end.bands}
        teacher = build(encoder, Encoder, seed=7, **sizes).eval()
        return {
            **sizes,
            "front_end": front_end,
            "encoder_choice": encoder,
            "teacher": teacher,
            "teacher_choice": encoder,
        }

    def _built(self, seed: int = 0) -> Tokenizer:
        try:
            return build(self._choice, Tokenizer, seed=seed, **self._offers).eval()
        except PluginError as error:
            _fail(str(error))

    def _prepared(self, seed: int = 0) -> Tokenizer:
        """Make a tokenizer that is ready to use. Learning runs once for all tests."""
        made = (self.tokenizer, json.dumps(dict(self.config), default=str), seed)
        if made not in _ready:
            _ready[made] = self._learnt(seed)
        return copy.deepcopy(_ready[made])

    def _learnt(self, seed: int) -> Tokenizer:
        """Make the tokenizer, and fit or train it if necessary."""
        tokenizer = self._built(seed)
        if comes_trained(self._choice):
            return tokenizer
        if tokenizer.is_fitted:
            tokenizer.fit(_Corpus())
        elif self._objective:
            self._train(tokenizer, self._objective, seed)
        return tokenizer.eval()

    def _train(self, tokenizer: Tokenizer, objective_name: str, seed: int) -> None:
        choice = PartChoice.of(self._catalog.get("objective", objective_name), {}, catalog=self._catalog)
        objective = build(choice, Objective, seed=seed, tokenizer=tokenizer, **self._offers).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            prepare(objective, _Corpus())
            trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=1e-3)
            for batch in islice(_Corpus(), TRAINING_STEPS):
                output = objective(batch)
                if not output.loss.isfinite():
                    _fail(f"training {self._name} by `{objective_name}` gives the loss {output.loss.item()}")
                optimizer.zero_grad()
                (output.loss / output.count).backward()
                optimizer.step()

    def _tokens(self, tokenizer: Tokenizer, batch: PatchBatch) -> Tensor:
        """Compute the tokens of the real patches: (patches,) or (patches, streams)."""
        try:
            return tokenizer.tokenize(batch).ids[batch.valid]
        except PluginError as error:
            _fail(str(error))

    def _compare(self, one: Tensor, other: Tensor, fault: str) -> None:
        differ = (one != other).reshape(len(one), -1).any(1)
        if differ.sum() > max(1, self.ties * len(one)):
            _fail(f"{self._name}: {fault} ({int(differ.sum())} of {len(one)} patches differ)")

    def _follow(self, tokenizer: Tokenizer, batch: PatchBatch) -> None:
        """Tokenize on the `meta` device, up to the first operation that depends on values."""
        try:
            with torch.no_grad(), _OneDevice():  # type: ignore[no-untyped-call]
                tokenizer(batch)
        except _MixedDevicesError as error:
            source = _source_line(error, type(tokenizer))
            _fail(
                f"{self._name} mixes devices, and would fail on a GPU{source}: create tensors on the device of the "
                "patches, with `device=batch.patches.device`"
            )
        except Exception:  # tensors on `meta` have no values; the other tests run the same code with values
            return


_ready: dict[tuple[type[Tokenizer] | str, str, int], Tokenizer] = {}


def _fail(message: str) -> NoReturn:
    pytest.fail(message, pytrace=False)


def _part(catalog: Catalog, tokenizer: type[Tokenizer] | str) -> Part:
    if isinstance(tokenizer, str):
        return catalog.get("tokenizer", tokenizer)
    path = f"{tokenizer.__module__}:{tokenizer.__qualname__}"
    for part in catalog.parts("tokenizer"):
        if part.target is tokenizer or part.target == path:
            return part
    catalog.add("tokenizer", tokenizer.__name__, tokenizer)
    return catalog.get("tokenizer", tokenizer.__name__)


@cache
def _front_end() -> KaldiFbank:
    return KaldiFbank(KaldiFbankConfig())


def _patches(seconds: Sequence[float], seed: int) -> PatchBatch:
    """Make patches of clips with noise, a tone and silence, each clip at a different level."""
    front_end, draw = _front_end(), torch.Generator().manual_seed(seed)
    lengths = torch.tensor([round(front_end.sample_rate * length) for length in seconds])
    time = torch.arange(int(lengths.max())) / front_end.sample_rate
    shape = (len(seconds), 1)
    hertz = 100 * 40 ** torch.rand(shape, generator=draw)
    level = 10 ** (-2 * torch.rand(shape, generator=draw))
    noise = torch.randn((len(seconds), len(time)), generator=draw)
    wave = level * (torch.sin(2 * torch.pi * hertz * time) + 0.1 * noise) * (torch.sin(7 * time + hertz) > -0.7)
    wave = wave.clamp(-1, 1) * (torch.arange(len(time)) < lengths[:, None])
    batch: PatchBatch = front_end(AudioBatch(wave, lengths))
    return replace(batch, clips=torch.arange(len(seconds)), seconds=sum(seconds))


@cache
def _first_clips() -> PatchBatch:
    return _patches(SECONDS, seed=0)


def _clips() -> PatchBatch:
    return copy.deepcopy(_first_clips())


@cache
def _stored_corpus() -> tuple[PatchBatch, ...]:
    return tuple(_patches((2.0, 3.0, 1.5, 2.5), seed) for seed in range(1, 9))


class _Corpus:
    """A small corpus as in a run: each iteration is a pass over the data, and it is not a list.

    Args:
        change: function applied to every batch
    """

    def __init__(self, change: Callable[[PatchBatch], PatchBatch] = copy.deepcopy) -> None:
        self._change = change

    def __iter__(self) -> Iterator[PatchBatch]:
        return map(self._change, _stored_corpus())


def _single_clip(batch: PatchBatch, clip: int) -> PatchBatch:
    """Take one clip of a batch, without its padding."""
    count = int(batch.valid[clip].sum())
    one = slice(clip, clip + 1)
    assert batch.clips is not None
    return replace(
        batch,
        patches=batch.patches[one, :count].clone(),
        valid=batch.valid[one, :count].clone(),
        grid=Grid(count // batch.grid.bands, batch.grid.bands),
        clips=batch.clips[one],
    )


def _with_garbage(batch: PatchBatch) -> PatchBatch:
    """Return the batch with loud noise in padded positions."""
    noise = 20 * torch.randn(batch.patches.shape, generator=torch.Generator().manual_seed(9))
    return replace(batch, patches=torch.where(batch.valid[..., None], batch.patches, noise))


def _moved(batch: PatchBatch, device: str) -> PatchBatch:
    moved = copy.copy(batch)
    moved.to(torch.device(device))
    return moved


def _stray_tensors(module: nn.Module) -> list[str]:
    """Find tensors of a module that are not registered, also inside lists and dictionaries."""
    registries = vars(nn.Module())
    return [
        f"{path}.{name}" if path else name
        for path, inner in module.named_modules()
        for name, value in vars(inner).items()
        if name not in registries and any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))
    ]


class _MixedDevicesError(Exception):
    """An operation has tensors of two devices as inputs."""


class _OneDevice(TorchDispatchMode):
    """Raises the errors of a GPU: operations on tensors of two devices fail, except for scalars."""

    moving: ClassVar[frozenset[str]] = frozenset({"aten::_to_copy", "aten::copy_"})
    looking_up: ClassVar[frozenset[str]] = frozenset({"aten::index", "aten::index_put", "aten::index_put_"})

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        step = func.name().partition(".")[0]
        # A tensor on a GPU accepts indices on the CPU, but not the other way round.
        allowed = step in self.moving or (step in self.looking_up and args[0].device.type == "meta")
        if len(devices) > 1 and not allowed:
            raise _MixedDevicesError
        return func(*args, **(kwargs or {}))


def _source_line(error: BaseException, part: type) -> str:
    """Describe the line of the part's module that raised an error."""
    try:
        file = inspect.getsourcefile(part)
    except TypeError:
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {frames[-1].lineno}: `{frames[-1].line}`)" if frames else ""


def _seconds(tokenizer: Tokenizer, batch: PatchBatch) -> float:
    begun = time.perf_counter()
    tokenizer.tokenize(batch)
    return time.perf_counter() - begun
