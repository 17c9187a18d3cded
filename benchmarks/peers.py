"""Other implementations of BEATs, where they are at hand: on the same weights and inputs.

Notable choices: a folder with `BEATs.py` and `Tokenizers.py` is the released implementation; all others are imported,
from Python's path or from the folders given, and of their packages the modules alone that compute BEATs, for the rest
asks for much that is not needed. Weights come to all of them in the released format. What had to be stood in for is
named in `_STAND_INS`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from ..core.data import AudioBatch
from ..core.distributed import compute_device
from ..core.errors import OssicleError

Weights: TypeAlias = Mapping[str, Any]
"""`cfg` and `model` in the released format."""


@dataclass(frozen=True)
class Peer:
    """Another implementation.

    Attributes:
        name: short
        title: with its version
        encoder: from weights to what encodes clips: (B, N, D)
        tokenizer: from weights to what labels clips: (B N,) int64
        frames: gives what computes log mel frames of clips of equal length: (B, S) to (B, T, 128)
        modules: what it lends to steps that are composed
    """

    name: str
    title: str
    encoder: Callable[[Weights], Callable[[AudioBatch], Tensor]] | None = None
    tokenizer: Callable[[Weights], Callable[[AudioBatch], Tensor]] | None = None
    frames: Callable[[], Callable[[Tensor], Tensor]] | None = None
    modules: Mapping[str, Any] = field(default_factory=dict)


def find_peers(paths: Sequence[Path]) -> list[Peer]:
    """The released implementation, if one of the paths leads to it, and what can be imported.

    Raises:
        OssicleError: if a path is no folder
    """
    found = []
    for path in paths:
        if not path.is_dir():
            raise OssicleError(
                f"--peer {path} is no folder: give that of BEATs.py and Tokenizers.py, or one to import from"
            )
        if (path / "BEATs.py").is_file() and (path / "Tokenizers.py").is_file():
            found.append(_released(path))
        elif str(path) not in sys.path:
            # Behind all that is installed, whose versions the peers are to share.
            sys.path.append(str(path))
    # What they were written with has changed its name since.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*(weight_norm|cuda.amp.autocast).*")
    at_hand = {name for name in _ADAPTERS if name in sys.modules or importlib.util.find_spec(name) is not None}
    # openbeats is a copy of ESPnet's encoder, with what its training needs besides.
    at_hand -= {"espnet2"} if "openbeats" in at_hand else set()
    return [*found, *(adapter() for package, adapter in _ADAPTERS.items() if package in at_hand)]


def _released(folder: Path) -> Peer:
    title = f"released implementation ({folder.name})"

    def encoder(weights: Weights) -> Callable[[AudioBatch], Tensor]:
        beats = _import_from(folder, "BEATs")
        model = _ready(beats.BEATs(beats.BEATsConfig(weights["cfg"])), weights)
        return lambda clips: model.extract_features(clips.waveform, padding_mask=_padding(clips))[0]

    def tokenizer(weights: Weights) -> Callable[[AudioBatch], Tensor]:
        tokenizers = _import_from(folder, "Tokenizers")
        model = _ready(tokenizers.Tokenizers(tokenizers.TokenizersConfig(weights["cfg"])), weights)
        return lambda clips: model.extract_labels(clips.waveform, padding_mask=_padding(clips))

    def quantiser(*arguments: Any, **options: Any) -> nn.Module:
        made: nn.Module = _import_from(folder, "quantizer").NormEMAVectorQuantizer(*arguments, **options)
        return made

    return Peer("released", title, encoder, tokenizer, modules={"quantiser": quantiser})


def _openbeats() -> Peer:
    def modules() -> ModuleType:
        return _import_alone("openbeats.beats_encoder")

    title = f"openbeats {_version('openbeats')} (ESPnet's encoder and predictor)"
    return Peer("espnet", title, _espnet_encoder(modules), modules={"beats": modules})


def _espnet() -> Peer:
    def modules() -> ModuleType:
        return _import_alone("espnet2.asr.encoder.beats_encoder")

    return Peer("espnet2.asr", f"espnet {_version('espnet')}", _espnet_encoder(modules))


def _espnet_encoder(modules: Callable[[], ModuleType]) -> Callable[[Weights], Callable[[AudioBatch], Tensor]]:
    def encoder(weights: Weights) -> Callable[[AudioBatch], Tensor]:
        model = _ready(
            espnet_model(modules(), weights["cfg"]), weights, may_lack=("patch_embedding_pad", "raw2fbank_pad")
        )
        return lambda clips: model(clips.waveform, clips.lengths)[0]

    return encoder


def espnet_model(modules: ModuleType, cfg: Weights, **options: Any) -> nn.Module:
    """ESPnet's encoder, with the paper's filter-bank statistics, which are not its defaults."""
    model: nn.Module = modules.BeatsEncoder(
        input_size=1, beats_config=dict(cfg), fbank_mean=15.41663, fbank_std=6.55582, **options
    )
    return model


def _avex() -> Peer:
    def build(cfg: Weights) -> Any:
        avex = _import_alone("avex.models.beats.beats")
        return avex.BEATs(avex.BEATsConfig(**cfg))

    def encoder(weights: Weights) -> Callable[[AudioBatch], Tensor]:
        model = _ready(build(weights["cfg"]), weights, may_lack=("fbank.",))
        return lambda clips: model.extract_features(clips.waveform, padding_mask=_padding(clips))[0]

    def frames() -> Callable[[Tensor], Tensor]:
        model = build({"encoder_layers": 1})
        return lambda waveform: model.fbank(waveform * 2**15)

    return Peer("avex", f"avex {_version('avex')}", encoder, frames=frames)


def _speechbrain() -> Peer:
    def encoder(weights: Weights) -> Callable[[AudioBatch], Tensor]:
        beats = _import_alone("speechbrain.lobes.models.beats")
        with TemporaryDirectory() as folder:
            path = Path(folder, "beats.pt")
            torch.save(dict(weights), path)
            model = beats.BEATs(ckp_path=str(path)).to(compute_device()).eval()
        return lambda clips: model.extract_features(clips.waveform, clips.lengths / clips.lengths.max())[0]

    return Peer("speechbrain", f"speechbrain {_version('speechbrain')}", encoder)


_ADAPTERS: Final[Mapping[str, Callable[[], Peer]]] = {
    "openbeats": _openbeats,
    "espnet2": _espnet,
    "avex": _avex,
    "speechbrain": _speechbrain,
}


def _length_to_mask(lengths: Tensor, longest: int | None = None, **_: Any) -> Tensor:
    return torch.arange(longest or int(lengths.max()), device=lengths.device) < lengths[:, None]


_STAND_INS: Final[Mapping[str, Mapping[str, Any]]] = {
    "espnet2.asr.specaug.specaug": {"SpecAug": None},
    "speechbrain.dataio.dataio": {"length_to_mask": _length_to_mask},
}
"""Modules that peers import, and what they take from them: for augmentation, and in place of file readers."""


def _import_alone(name: str) -> ModuleType:
    """Import a module, but of the packages that it lies in nothing else."""
    package = name.partition(".")[0]
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is not None:
        _bare(package, [Path(place) for place in spec.submodule_search_locations or ()])
    for stand_in, content in _STAND_INS.items():
        if stand_in.startswith(f"{package}.") and stand_in not in sys.modules:
            module = ModuleType(stand_in)
            module.__dict__.update(content)
            sys.modules[stand_in] = module
    parents = name.split(".")[1:-1]
    for depth in range(1, len(parents) + 1):
        inner = ".".join([package, *parents[:depth]])
        if inner not in sys.modules:
            _bare(inner, [Path(place, *parents[:depth]) for place in sys.modules[package].__path__])
    with _quiet():
        return importlib.import_module(name)


def _bare(name: str, places: Sequence[Path]) -> None:
    module = ModuleType(name)
    module.__path__ = [str(place) for place in places]
    sys.modules[name] = module


def _import_from(folder: Path, name: str) -> ModuleType:
    """Import one of the released modules, which import each other as if they lay at the root of the path."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        with _quiet():
            return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder.resolve()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Peers warn of what they were written with, and print."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _ready(model: nn.Module, weights: Weights, *, may_lack: tuple[str, ...] = ()) -> Any:
    """Load weights and make ready to compute.

    Raises:
        OssicleError: if they do not fit
    """
    told = model.load_state_dict(weights["model"], strict=False)
    lacking = [name for name in told.missing_keys if not name.startswith(may_lack)]
    if lacking or told.unexpected_keys:
        raise OssicleError(f"weights do not fit {type(model).__name__}: {[*lacking, *told.unexpected_keys][:3]}")
    return model.to(compute_device()).eval()


def _padding(clips: AudioBatch) -> Tensor | None:
    """(B, S) bool, true past a clip's end; None where all clips are of one length."""
    samples = clips.waveform.shape[1]
    if bool((clips.lengths == samples).all()):
        return None
    return torch.arange(samples, device=clips.waveform.device) >= clips.lengths[:, None]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
