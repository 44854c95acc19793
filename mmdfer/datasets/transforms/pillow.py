"""Transforms of a clip's frames by Pillow, as the authors' code of several DFER methods has them.

MMAction2's transforms resize by OpenCV, without the filter that Pillow applies when it shrinks a
picture, and draw the ratio of a crop otherwise. Each transform draws once for all frames of a clip.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as torchvision

from mmaction.registry import TRANSFORMS

_CHANGES = (
    torchvision.adjust_brightness,
    torchvision.adjust_contrast,
    torchvision.adjust_saturation,
    torchvision.adjust_hue,
)


def _apply(results: dict[str, Any], change: Callable[[Image.Image], Image.Image]) -> dict[str, Any]:
    """Change every frame of ``results['imgs']``, RGB uint8 (H, W, 3)."""
    imgs = [np.array(change(Image.fromarray(img))) for img in results['imgs']]
    results.update(imgs=imgs, img_shape=imgs[0].shape[:2])
    return results


def _resize(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.BILINEAR)


@TRANSFORMS.register_module()
class PillowResize(BaseTransform):
    """Resize the whole picture to a square, whatever its ratio.

    Args:
        size: The square's side in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize each frame."""
        return _apply(results, lambda picture: _resize(picture, self.size))


@TRANSFORMS.register_module()
class PillowRandomSizedCrop(BaseTransform):
    """Cut a window of random area and ratio, and resize it to a square.

    Up to ten windows are drawn: the area uniform, the ratio of width to height uniform, the two
    sides exchanged half of the time; the first that fits is taken. Otherwise the shorter side is
    resized to ``size`` and a random square is cut.

    Args:
        size: The square's side in pixels.
        area: Bounds of the window's share of the picture.
        ratio: Bounds of its width over its height.
    """

    def __init__(
        self,
        size: int,
        area: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size, self.area, self.ratio = size, tuple(area), tuple(ratio)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut the same window from each frame."""
        height, width = results['imgs'][0].shape[:2]
        if (window := self._draw(width, height)) is not None:
            return _apply(results, lambda picture: _resize(picture.crop(window), self.size))
        scale = self.size / min(width, height)
        wide = [
            self.size if side == min(width, height) else int(side * scale)
            for side in (width, height)
        ]
        left, top = (random.randint(0, side - self.size) for side in wide)
        box = left, top, left + self.size, top + self.size
        return _apply(
            results, lambda picture: picture.resize(wide, Image.Resampling.BILINEAR).crop(box)
        )

    def _draw(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Draw a window (left, top, right, bottom); None where ten do not fit."""
        for _ in range(10):
            area = random.uniform(*self.area) * width * height
            ratio = random.uniform(*self.ratio)
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if random.random() < 0.5:
                w, h = h, w
            if w <= width and h <= height:
                left, top = random.randint(0, width - w), random.randint(0, height - h)
                return left, top, left + w, top + h
        return None


@TRANSFORMS.register_module()
class PillowColorJitter(BaseTransform):
    """Change brightness, contrast, saturation and hue as torchvision's ColorJitter does.

    MMAction2's draws the order of the changes when it is built, and so differs between runs.

    Args:
        brightness: b; the factor is uniform in 1 - b to 1 + b.
        contrast: Likewise.
        saturation: Likewise.
        hue: h, at most 0.5; the shift is uniform in -h to h turns of the colour circle.
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
    ) -> None:
        self.jitter = ColorJitter(brightness, contrast, saturation, hue)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change each frame alike."""
        jitter = self.jitter
        order, *amounts = jitter.get_params(
            jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
        )

        def change(picture: Image.Image) -> Image.Image:
            for number in order:
                if amounts[number] is not None:
                    picture = _CHANGES[number](picture, amounts[number])
            return picture

        return _apply(results, change)


@TRANSFORMS.register_module()
class PillowRotate(BaseTransform):
    """Rotate by a random angle about the centre; corners that come in are black.

    Args:
        degrees: The angle is uniform in -degrees to degrees.
    """

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Rotate each frame by the same angle."""
        angle = random.uniform(-self.degrees, self.degrees)
        return _apply(results, lambda picture: picture.rotate(angle))
