"""Messages of a decoder are collected by recording, and other messages are not."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ossicle.audio.corpora.headers import read_headers
from ossicle.audio.decode import decode, decode_stretches, open_sound
from ossicle.audio.decoder_notes import DecoderNotes, collected_into

Damage = Callable[[Path, int], None]
LIBC = ctypes.CDLL(None)

pytestmark = pytest.mark.skipif(
    not hasattr(LIBC, "gnu_get_libc_version"), reason="only glibc's `stderr` can be replaced"
)


def print_in_c(text: str) -> None:
    LIBC.fputs(text.encode(), ctypes.c_void_p.in_dll(LIBC, "stderr"))


def test_lines_are_counted_and_the_first_is_shown_without_its_source_position() -> None:
    notes = DecoderNotes()
    assert not notes
    notes.add("\n[src/libmpg123/layer3.c:do_layer3():1804] error: dequantization failed!\n")
    assert str(notes) == "the decoder printed 1 line, the first: error: dequantization failed!"
    notes.add("Note: Trying to resync...\nNote: Skipped 6 bytes in input.\n" * 600)
    assert str(notes) == "the decoder printed 1,201 lines, the first: error: dequantization failed!"


def test_a_damaged_mp3_never_prints_anything(
    tmp_path: Path, write_damaged_mp3: Damage, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp3"
    write_damaged_mp3(path, 600)

    read_headers(tmp_path, ["a.mp3"])
    assert len(decode(path, 8000)) > 70_000
    decode(path, 8000, start_seconds=4.0, seconds=2.0)
    list(decode_stretches(path, 8000))

    assert capfd.readouterr().err == ""


def test_a_damaged_mp3_is_read_up_to_the_damage_and_beyond(tmp_path: Path, write_damaged_mp3: Damage) -> None:
    write_damaged_mp3(tmp_path / "good.mp3", 0)
    write_damaged_mp3(tmp_path / "damaged.mp3", 600)

    good, damaged = (decode(tmp_path / f"{name}.mp3", 16000) for name in ("good", "damaged"))

    assert (good[:60_000] == damaged[:60_000]).all()
    assert len(good) - 5_000 < len(damaged) <= len(good)


def test_a_stream_of_a_damaged_mp3_gives_one_warning(
    tmp_path: Path, write_damaged_mp3: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    write_damaged_mp3(tmp_path / "good.mp3", 0)
    write_damaged_mp3(tmp_path / "damaged.mp3", 600)

    for name in ("good", "damaged"):
        list(decode_stretches(tmp_path / f"{name}.mp3", 16000))

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "damaged.mp3` is damaged, but was read: the decoder printed" in record.getMessage()


def test_notes_belong_to_the_recording_that_caused_them(
    tmp_path: Path, write_damaged_mp3: Damage, capfd: pytest.CaptureFixture[str]
) -> None:
    sizes = [0, 300, 0, 600, 0, 900, 0, 0]
    for number, size in enumerate(sizes):
        write_damaged_mp3(tmp_path / f"{number}.mp3", size)

    def notes_of(number: int) -> DecoderNotes:
        with open_sound(tmp_path / f"{number}.mp3") as file:
            while len(file.read(4000, dtype="float32")):
                pass
            return file.notes

    one_by_one = [notes_of(number) for number in range(len(sizes))]
    with ThreadPoolExecutor(len(sizes)) as pool:
        together = list(pool.map(notes_of, [*range(len(sizes))] * 5))

    assert [bool(notes) for notes in one_by_one] == [size > 0 for size in sizes]
    assert together == one_by_one * 5
    assert capfd.readouterr().err == ""


def test_other_threads_and_programs_still_reach_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    notes = DecoderNotes()
    with collected_into(notes):
        print_in_c("collected\n")
        other = threading.Thread(target=print_in_c, args=("C in another thread\n",))
        other.start()
        other.join()
        os.write(2, b"Python\n")
        os.system("echo program >&2")
    print_in_c("C afterwards\n")

    assert notes == DecoderNotes(1, "collected")
    assert capfd.readouterr().err == "C in another thread\nPython\nprogram\nC afterwards\n"


def test_collecting_ends_with_an_error_and_may_be_nested(capfd: pytest.CaptureFixture[str]) -> None:
    outer, inner = DecoderNotes(), DecoderNotes()

    def fail() -> None:
        with collected_into(outer):
            with collected_into(inner):
                print_in_c("inner\n")
            print_in_c("outer\n")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    print_in_c("afterwards\n")

    assert (outer.first, inner.first) == ("outer", "inner")
    assert capfd.readouterr().err == "afterwards\n"
