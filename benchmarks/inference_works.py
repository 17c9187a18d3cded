"""Inference works: the front end, the encoder from waveforms to vectors, the tokenizer from waveforms to tokens.

Notable choices:

- The timed part starts at the waveform and needs no gradients, as in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from ..audio.front_end_config import KaldiFbankConfig
from ..audio.kaldi_fbank import KaldiFbank
from ..checkpoints.tokenizer_format import release_tokenizer
from ..checkpoints.writing import release_encoder
from ..core.choices import PartChoice
from ..core.data import AudioBatch
from ..core.distributed import compute_device
from ..core.interfaces import building_with
from ..core.plugin_loading import load_plugins
from ..encoders.beats import Beats
from ..encoders.encoder_config import SIZES, BeatsConfig
from ..tokenizers.self_distilled import SelfDistilled
from ..tokenizers.tokenizer_config import SelfDistilledConfig
from ..training.layer_switches import compile_layers
from .peers import Peer
from .protocol import computing_in
from .work import OURS, SAMPLE_RATE, Case, Contender, Precision, Products, Work


def front_end() -> KaldiFbank:
    """Create the front end of the released checkpoints."""
    return KaldiFbank(KaldiFbankConfig()).to(compute_device())


def encoder(size: str) -> Beats:
    """Create an encoder of BEATs with weights drawn from a seed, in evaluation mode."""
    with building_with(0):
        return Beats(BeatsConfig(size=size), patch_dim=256, bands=8).to(compute_device()).eval()  # type: ignore[arg-type]


def tokenizer(size: str) -> SelfDistilled:
    """Create a tokenizer of BEATs with weights drawn from a seed, in evaluation mode."""
    catalog = load_plugins().catalog
    choice = PartChoice.of(catalog.get("encoder", "beats"), {"size": size}, catalog=catalog)
    with building_with(0):
        made = SelfDistilled(SelfDistilledConfig(), 256, 8, choice)
    return made.to(compute_device()).eval()


def on_device(clips: AudioBatch) -> AudioBatch:
    clips.to(compute_device())
    return clips


def products(case: Case, patches: int) -> Products:
    """Describe the products of the encoder's feed-forward layers for clips of that many patches."""
    shape = SIZES[case.size]
    return Products(case.batch * patches, shape.width, shape.feed_forward)


def front_end_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare the work from waveforms to log mel frames."""
    clips = case.clips()
    waves = [wave[:length] for wave, length in zip(clips.waveform, clips.lengths.tolist(), strict=True)]
    own = front_end()
    transform = own.transform

    def ours() -> Tensor:
        return torch.cat([own.spectrogram(wave, transform=transform) for wave in waves])

    def loop() -> Tensor:
        return torch.cat([released_frames(wave) for wave in waves])

    makers: dict[str, Callable[[], Contender]] = {
        "torchaudio, clip by clip": lambda: Contender(loop, "the loop over clips of the released code", given=loop),
        OURS: lambda: Contender(
            ours, "fairseq2's native filter banks, clip by clip, as in the data pipeline", given=ours
        ),
    }
    if case.lengths == "10 s":
        for peer in peers:
            if peer.frames is not None:
                makers[peer.name] = _peer_frames(peer, peer.frames, clips)
    return Work(case, _seconds(clips), makers, reference="torchaudio, clip by clip")


def released_frames(waveform: Tensor) -> Tensor:
    """Compute log mel frames as the released code does: (S,) to (T, 128)."""
    frames: Tensor = kaldi.fbank(
        waveform.unsqueeze(0) * 2**15, num_mel_bins=128, sample_frequency=SAMPLE_RATE, frame_length=25, frame_shift=10
    )
    return frames


def _peer_frames(
    peer: Peer, frames: Callable[[], Callable[[Tensor], Tensor]], clips: AudioBatch
) -> Callable[[], Contender]:
    def make() -> Contender:
        compute = frames()

        @torch.no_grad()
        def do() -> Tensor:
            return compute(clips.waveform).flatten(0, 1)

        return Contender(do, f"{peer.title}, all clips at once", given=do)

    return make


def encoder_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare the work from waveforms to the encoder's vectors."""
    clips = on_device(case.clips())
    valid = front_end()(clips).valid

    @cache
    def parts() -> tuple[KaldiFbank, Beats]:
        return front_end(), encoder(case.size)

    def weights() -> Mapping[str, object]:
        own, made = parts()
        return release_encoder(made, own).content

    makers = {peer.name: _peer_encoder(peer, weights, clips, valid) for peer in peers if peer.encoder is not None}
    makers |= {
        f"{OURS} fp32": _own_encoder(parts, clips, "fp32"),
        f"{OURS} bf16": _own_encoder(parts, clips, "bf16"),
    }
    if case == COMPILED:
        makers |= {
            f"{OURS} compiled fp32": _own_encoder(parts, clips, "fp32", compiled=True),
            f"{OURS} compiled bf16": _own_encoder(parts, clips, "bf16", compiled=True),
        }
    return Work(case, _seconds(clips), makers, f"{OURS} fp32", products(case, valid.shape[1]), remark=FOURIER)


COMPILED = Case("encoder", "base", 8)
"""The only case that measures compiled layers, too, because compiling takes longer than everything else."""
FOURIER = (
    "On a CPU Ossicle computes the position convolution by Fourier transforms, whose operations are not counted. A "
    "direct convolution would add 5 % to the operations of a base encoder."
)


def _own_encoder(
    parts: Callable[[], tuple[KaldiFbank, Beats]], clips: AudioBatch, precision: Precision, *, compiled: bool = False
) -> Callable[[], Contender]:
    def make() -> Contender:
        own, made = parts()
        if compiled:
            compile_layers(made)

        @torch.no_grad()
        def do() -> Tensor:
            with computing_in(precision):
                encoded = made(own(clips))
            vectors: Tensor = encoded.sequence[encoded.valid]
            return vectors

        # The operations of compiled layers cannot be counted.
        same = f"{OURS} {precision}" if compiled else None
        about = f"front end and encoder, {precision}{', compiled layers' if compiled else ''}"
        return Contender(do, about, precision, given=do, counted_as=same)

    return make


def _peer_encoder(
    peer: Peer, weights: Callable[[], Mapping[str, object]], clips: AudioBatch, valid: Tensor
) -> Callable[[], Contender]:
    def make() -> Contender:
        assert peer.encoder is not None
        encode = peer.encoder(weights())

        @torch.no_grad()
        def do() -> Tensor:
            vectors = encode(clips)
            return vectors[valid] if vectors.shape[:2] == valid.shape else vectors.flatten(0, 1)

        return Contender(do, f"{peer.title}, fp32, unchanged", given=do)

    return make


def tokenizer_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare the work from waveforms to the tokens of a self-distilled tokenizer."""
    clips = on_device(case.clips())
    valid = front_end()(clips).valid

    @cache
    def parts() -> tuple[KaldiFbank, SelfDistilled]:
        return front_end(), tokenizer(case.size)

    def weights() -> Mapping[str, object]:
        own, made = parts()
        return release_tokenizer(made, own).content

    def ours(precision: Precision) -> Contender:
        own, made = parts()

        @torch.no_grad()
        def do() -> Tensor:
            patches = own(clips)
            with computing_in(precision):
                tokens: Tensor = made(patches)[valid]
            return tokens

        return Contender(do, f"front end, encoder, projection and nearest code, {precision}", precision, given=do)

    makers = {peer.name: _peer_tokenizer(peer, weights, clips, valid) for peer in peers if peer.tokenizer is not None}
    makers |= {f"{OURS} fp32": lambda: ours("fp32"), f"{OURS} bf16": lambda: ours("bf16")}
    return Work(case, _seconds(clips), makers, f"{OURS} fp32", products(case, valid.shape[1]), remark=FOURIER)


def _peer_tokenizer(
    peer: Peer, weights: Callable[[], Mapping[str, object]], clips: AudioBatch, valid: Tensor
) -> Callable[[], Contender]:
    def make() -> Contender:
        assert peer.tokenizer is not None
        tokenize = peer.tokenizer(weights())

        @torch.no_grad()
        def do() -> Tensor:
            return tokenize(clips).reshape(valid.shape)[valid]

        return Contender(do, f"{peer.title}, fp32, unchanged", given=do)

    return make


def _seconds(clips: AudioBatch) -> float:
    return float(clips.lengths.sum()) / SAMPLE_RATE
