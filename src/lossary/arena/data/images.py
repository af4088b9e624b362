"""Reading a folder of images with one sub-folder for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lossary._core.extras import require
from lossary.arena.data.sample import choose_rows, picture_bytes
from lossary.errors import DataError, InvalidValueError

if TYPE_CHECKING:
    from PIL.Image import Image

Array = NDArray[Any]
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def read_folder(folder: Path, image_size: int, max_rows: int, max_bytes: int) -> tuple[Array, Array, tuple[str, ...]]:
    """Images (rows, channels, height, width) from 0 to 1, the names of their folders, and notes."""
    check_size(image_size)
    every = [
        (path, sub.name)
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and not sub.name.startswith(".")
        for path in sorted(sub.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not every:
        raise DataError(f"{folder} holds no images; a folder of images has one sub-folder for each class, with images in it")
    require(f"reading the images of {folder}", "PIL")
    colours = picture_bytes((3, image_size, image_size))  # which images are grey is known only when they are open
    sample = choose_rows(len(every), max_rows, colours, max_bytes)
    kept = [every[i] for i in sample.rows]
    return stack([_open(path, image_size) for path, _ in kept]), np.array([label for _, label in kept]), sample.notes


def check_size(image_size: int) -> None:
    if image_size < 1:
        raise InvalidValueError(f"image_size must be at least 1, got {image_size}")


def _open(path: Path, size: int) -> Array:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return as_array(image, size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image") from error


def as_array(image: "Image", size: int) -> Array:
    """One Pillow image as (channels, size, size) uint8, with one channel if it is grey."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off and not scale
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).clip(0, 255).astype(np.uint8))
    grey = image.mode in ("1", "L", "LA", "F")
    pixels = np.asarray(image.convert("L" if grey else "RGB").resize((size, size), Image.Resampling.BILINEAR))
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def stack(images: Sequence[Array]) -> Array:
    """One array of grey images if all are grey; otherwise those become red, green and blue alike."""
    channels = max(len(image) for image in images)
    same = [image if len(image) == channels else np.repeat(image, channels, axis=0) for image in images]
    scaled: Array = np.divide(np.stack(same), 255, dtype=np.float32)
    return scaled
