"""Adapters of other implementations of BEATs, if they are available, to the same weights and inputs.

Notable choices:

- A folder with `BEATs.py` and `Tokenizers.py` is the released implementation. All others are imported from Python's
  path or from the given folders.
- Only the modules that compute BEATs are imported, because the rest of their packages has many more dependencies.
  `_REPLACED` has the modules that are replaced for this purpose.
- All of them load weights in the released format.
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
        name: short name
        title: name and version
        encoder: creates from weights a function that encodes clips: (B, N, D)
        tokenizer: creates from weights a function that tokenizes clips: (B N,) int64
        frames: creates a function that computes log mel frames of clips of equal length: (B, S) to (B, T, 128)
        modules: its components for composed steps (`peer_steps`)
    """

    name: str
    title: str
    encoder: Callable[[Weights], Callable[[AudioBatch], Tensor]] | None = None
    tokenizer: Callable[[Weights], Callable[[AudioBatch], Tensor]] | None = None
    frames: Callable[[], Callable[[Tensor], Tensor]] | None = None
    modules: Mapping[str, Any] = field(default_factory=dict)


def find_peers(paths: Sequence[Path]) -> list[Peer]:
    """Find the released implementation, if one of the paths contains it, and all that can be imported.

    Raises:
        OssicleError: if a path is not a folder
    """
    found = []
    for path in paths:
        if not path.is_dir():
            raise OssicleError(
                f"--peer {path}: not a folder; give the folder of BEATs.py and Tokenizers.py, or one to import from"
            )
        if (path / "BEATs.py").is_file() and (path / "Tokenizers.py").is_file():
            found.append(_released(path))
        elif str(path) not in sys.path:
            # At the end, so that peers use the same versions of installed packages.
            sys.path.append(str(path))
    # Peers use functions that torch has renamed since.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*(weight_norm|cuda.amp.autocast).*")
    available = {name for name in _ADAPTERS if name in sys.modules or importlib.util.find_spec(name) is not None}
    # openbeats is a copy of ESPnet's encoder, with the modules that its training needs.
    available -= {"espnet2"} if "openbeats" in available else set()
    return [*found, *(adapter() for package, adapter in _ADAPTERS.items() if package in available)]


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
        return _import_module_only("openbeats.beats_encoder")

    title = f"openbeats {_version('openbeats')} (ESPnet's encoder and predictor)"
    return Peer("espnet", title, _espnet_encoder(modules), modules={"beats": modules})


def _espnet() -> Peer:
    def modules() -> ModuleType:
        return _import_module_only("espnet2.asr.encoder.beats_encoder")

    return Peer("espnet2.asr", f"espnet {_version('espnet')}", _espnet_encoder(modules))


def _espnet_encoder(modules: Callable[[], ModuleType]) -> Callable[[Weights], Callable[[AudioBatch], Tensor]]:
    def encoder(weights: Weights) -> Callable[[AudioBatch], Tensor]:
        model = _ready(
            espnet_model(modules(), weights["cfg"]), weights, may_lack=("patch_embedding_pad", "raw2fbank_pad")
        )
        return lambda clips: model(clips.waveform, clips.lengths)[0]

    return encoder


def espnet_model(modules: ModuleType, cfg: Weights, **options: Any) -> nn.Module:
    """Create ESPnet's encoder with the paper's filter-bank statistics, which are not its defaults."""
    model: nn.Module = modules.BeatsEncoder(
        input_size=1, beats_config=dict(cfg), fbank_mean=15.41663, fbank_std=6.55582, **options
    )
    return model


def _avex() -> Peer:
    def build(cfg: Weights) -> Any:
        avex = _import_module_only("avex.models.beats.beats")
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
        beats = _import_module_only("speechbrain.lobes.models.beats")
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


_REPLACED: Final[Mapping[str, Mapping[str, Any]]] = {
    "espnet2.asr.specaug.specaug": {"SpecAug": None},
    "speechbrain.dataio.dataio": {"length_to_mask": _length_to_mask},
}
"""Modules with many dependencies (augmentation, file readers) that peers import, and the replaced content of each."""


def _import_module_only(name: str) -> ModuleType:
    """Import a module without running the `__init__.py` of its packages."""
    package = name.partition(".")[0]
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is not None:
        _add_empty_package(package, [Path(folder) for folder in spec.submodule_search_locations or ()])
    for replaced, content in _REPLACED.items():
        if replaced.startswith(f"{package}.") and replaced not in sys.modules:
            module = ModuleType(replaced)
            module.__dict__.update(content)
            sys.modules[replaced] = module
    parents = name.split(".")[1:-1]
    for depth in range(1, len(parents) + 1):
        inner = ".".join([package, *parents[:depth]])
        if inner not in sys.modules:
            _add_empty_package(inner, [Path(folder, *parents[:depth]) for folder in sys.modules[package].__path__])
    with _quiet():
        return importlib.import_module(name)


def _add_empty_package(name: str, folders: Sequence[Path]) -> None:
    module = ModuleType(name)
    module.__path__ = [str(folder) for folder in folders]
    sys.modules[name] = module


def _import_from(folder: Path, name: str) -> ModuleType:
    """Import one of the released modules, which import each other as top-level modules."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        with _quiet():
            return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder.resolve()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings and prints of peers."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _ready(model: nn.Module, weights: Weights, *, may_lack: tuple[str, ...] = ()) -> Any:
    """Load weights, move the model to the device and set evaluation mode.

    Raises:
        OssicleError: if the weights do not fit
    """
    keys = model.load_state_dict(weights["model"], strict=False)
    lacking = [name for name in keys.missing_keys if not name.startswith(may_lack)]
    if lacking or keys.unexpected_keys:
        raise OssicleError(f"weights do not fit {type(model).__name__}: {[*lacking, *keys.unexpected_keys][:3]}")
    return model.to(compute_device()).eval()


def _padding(clips: AudioBatch) -> Tensor | None:
    """Compute the padding mask: (B, S) bool, true after a clip's end; None if all clips have the same length."""
    samples = clips.waveform.shape[1]
    if bool((clips.lengths == samples).all()):
        return None
    return torch.arange(samples, device=clips.waveform.device) >= clips.lengths[:, None]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
