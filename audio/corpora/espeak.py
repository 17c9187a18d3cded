"""Speech synthesis with the eSpeak NG library of the `espeakng-loader` wheel, through ctypes.

Notable choices:

- Variants with a `breath` line are left out, because the library draws different noise for them each time.
- Callers must speak the same texts in the same order in a new process to get the same samples, because the library
  keeps hidden state from one utterance to the next.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...core.errors import CorpusError
from .rendering import package_folder

# From espeak-ng's `speak_lib.h`.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_RATE_PARAMETER = 1
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

PACKAGE = "espeakng_loader"


def voice_variants() -> list[str]:
    """List the names of the voice variants whose sound can be reproduced, sorted."""
    folder = package_folder(PACKAGE) / "espeak-ng-data" / "voices" / "!v"
    return sorted(file.name for file in folder.iterdir() if not _has_breath(file))


class Speaker:
    """An initialised eSpeak NG library. Create at most one per process.

    Attributes:
        sample_rate: rate of the waveforms in Hz
    """

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate = int(self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, 0))
        if self.sample_rate <= 0:
            raise CorpusError(f"eSpeak NG did not start with its data in `{data.decode()}`; reinstall `{PACKAGE}`.")
        self._pieces: list[npt.NDArray[np.int16]] = []
        # The library stores only the address, so this object must live as long as the library.
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def choose(self, accent: str, variant: str, *, words_per_minute: int) -> None:
        """Set the accent (the name of a language, `en-us`), the voice variant (`m3`) and the rate.

        Raises:
            CorpusError: if the library has no such voice
        """
        voice = f"{accent}+{variant}"
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise CorpusError(f"eSpeak NG has no voice `{voice}`; allowed variants: {', '.join(voice_variants())}.")
        self._library.espeak_SetParameter(_RATE_PARAMETER, words_per_minute, 0)

    def say(self, text: str) -> npt.NDArray[np.float64]:
        """Speak a text: (S,) waveform at `sample_rate`, full scale at ±1."""
        self._pieces.clear()
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate([np.empty(0, np.int16), *self._pieces]) / 32768

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def _has_breath(voice_file: Path) -> bool:
    lines = voice_file.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.split()[:1] == ["breath"] for line in lines)
