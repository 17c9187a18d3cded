"""Spectrogram pictures as data for the template: images as data URIs, outlines as SVG paths.

Notable choices:

- Images have one pixel per number (or per patch) and the browser enlarges them. A picture then takes about ten
  kilobytes.
- A token has the same colour in every picture.
- Correct and wrong predictions differ in shape, not only in colour.
"""

from __future__ import annotations

import base64
import colorsys
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from .formats import percent
from .training import Picture

WIDTH, BAND = 880, 20
MAX_FRAMES, SHADES = 600, 48
LEGIBLE = 24
# Roberts's R2 sequence: consecutive multiples spread evenly over the plane of hue and lightness.
HUE_STEP, LIGHT_STEP = 0.7548776662, 0.5698402910


@dataclass(frozen=True)
class Number:
    """The id of a token in the middle of its patch."""

    x: float
    y: float
    text: str
    dark: bool


@dataclass(frozen=True)
class PictureView:
    """The data that the template draws. Lengths are in units of the drawing, paths in SVG's path language."""

    path: str
    width: int
    height: int
    spectrogram: str
    tokens: str
    predicted: str
    grid: str
    hidden: str
    right: str
    wrong: str
    token_numbers: list[Number]
    predicted_numbers: list[Number]
    ticks: list[tuple[float, str]]
    hidden_count: int
    right_count: int
    patches: int

    @property
    def right_share(self) -> str:
        """Share of the hidden patches that are predicted correctly."""
        return percent(self.right_count / self.hidden_count) if self.hidden_count else "none hidden"


def view(picture: Picture) -> PictureView:
    """Prepare a picture for the template."""
    cell = WIDTH / picture.columns
    tokens, hidden, predicted = (_as_grid(values, picture) for values in _labels(picture))
    right = hidden & (tokens == predicted)
    return PictureView(
        path=picture.path,
        width=WIDTH,
        height=BAND * picture.bands,
        spectrogram=shaded(_whole_columns(picture).astype(np.float32)),
        tokens=_token_image(tokens, np.ones_like(hidden)),
        predicted=_token_image(predicted, hidden),
        grid=_grid_path(picture, cell),
        hidden=_boxes(hidden, cell),
        right=_boxes(right, cell, inset=1.5),
        wrong=_strikes(hidden & ~right, cell),
        token_numbers=_numbers(tokens, np.ones_like(hidden), cell),
        predicted_numbers=_numbers(predicted, hidden, cell),
        ticks=_ticks(picture),
        hidden_count=int(hidden.sum()),
        right_count=int(right.sum()),
        patches=picture.columns * picture.bands,
    )


def _labels(picture: Picture) -> tuple[npt.NDArray[np.generic], ...]:
    return picture.tokens, picture.hidden, picture.predicted


def _as_grid(values: npt.NDArray[np.generic], picture: Picture) -> npt.NDArray[np.generic]:
    """Arrange patches as a grid: (N,) to (bands, columns), the highest band on top as in a spectrogram."""
    return values.reshape(picture.columns, picture.bands).T[::-1]


def shaded(frames: npt.NDArray[np.float32]) -> str:
    """Draw a spectrogram (T, F) as an image, low frequencies at the bottom. Its range of levels fills the shades."""
    frames = np.stack([part.mean(0) for part in np.array_split(frames, min(MAX_FRAMES, len(frames)))])
    low, high = np.quantile(frames, (0.02, 0.995))
    shades = np.clip((frames - low) / max(high - low, 1e-6), 0, 1) * (SHADES - 1)
    palette = matplotlib.colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3]
    return _png(shades.round().astype(np.uint8).T[::-1], palette)


def _whole_columns(picture: Picture) -> npt.NDArray[np.float32]:
    """Cut the spectrogram to the frames that the columns span.

    Patches are assumed to be square if the frames do not divide evenly.
    """
    frames, bins = picture.spectrogram.shape
    side = bins // picture.bands
    if frames % picture.columns and picture.columns * side <= frames:
        return picture.spectrogram[: picture.columns * side]
    return picture.spectrogram


def _token_image(tokens: npt.NDArray[np.generic], shown: npt.NDArray[np.generic]) -> str:
    colours = np.zeros((*tokens.shape, 4), np.uint8)
    for row, column in np.argwhere(shown):
        colours[row, column] = [*(round(255 * part) for part in colour(int(tokens[row, column]))), 255]
    return _uri(Image.fromarray(colours, "RGBA"))


def colour(token: int) -> tuple[float, float, float]:
    """Compute the colour of a token: red, green, blue in [0, 1]. Consecutive ids differ strongly in hue."""
    return colorsys.hls_to_rgb(token * HUE_STEP % 1, 0.36 + 0.42 * (token * LIGHT_STEP % 1), 0.52)


def _is_light(token: int) -> bool:
    red, green, blue = colour(token)
    return 0.299 * red + 0.587 * green + 0.114 * blue > 0.43


def _numbers(tokens: npt.NDArray[np.generic], shown: npt.NDArray[np.generic], cell: float) -> list[Number]:
    if cell < LEGIBLE + 2:
        return []
    places = [(int(row), int(column), int(tokens[row, column])) for row, column in np.argwhere(shown)]
    return [
        Number(round((column + 0.5) * cell, 1), (row + 0.5) * BAND, str(token), _is_light(token))
        for row, column, token in places
    ]


def _grid_path(picture: Picture, cell: float) -> str:
    across = [f"M0 {band * BAND}h{WIDTH}" for band in range(1, picture.bands)]
    return "".join(across + [f"M{column * cell:.1f} 0v{BAND * picture.bands}" for column in range(1, picture.columns)])


def _boxes(where: npt.NDArray[np.generic], cell: float, inset: float = 0.0) -> str:
    wide, high = f"{cell - 2 * inset:.1f}", f"{BAND - 2 * inset:g}"
    corners = [(column * cell + inset, row * BAND + inset) for row, column in np.argwhere(where)]
    return "".join(f"M{x:.1f} {y:g}h{wide}v{high}h-{wide}z" for x, y in corners)


def _strikes(where: npt.NDArray[np.generic], cell: float) -> str:
    """Draw a small cross in the corner of each patch."""
    size = min(5.0, cell / 3)
    corners = [((column + 1) * cell - size - 2.5, row * BAND + 2.5) for row, column in np.argwhere(where)]
    return "".join(f"M{x:.1f} {y:g}l{size:g} {size:g}m0-{size:g}l-{size:g} {size:g}" for x, y in corners)


def _ticks(picture: Picture) -> list[tuple[float, str]]:
    seconds = picture.columns * picture.column_seconds
    if seconds <= 0:
        return []
    step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60) if seconds / step <= 10), 300)
    return [(WIDTH * mark * step / seconds, f"{mark * step:g} s") for mark in range(int(seconds / step) + 1)]


def _png(pixels: npt.NDArray[np.uint8], palette: npt.NDArray[np.float64]) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels), "P")
    image.putpalette((255 * palette).round().astype(np.uint8).tobytes())
    return _uri(image)


def _uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
