"""Provide transforms that resize, crop, colour and rotate the frames of a clip with Pillow.

The code published by the authors of several DFER methods uses Pillow and torchvision. MMAction2's
transforms give other frames: they resize with OpenCV, without the filter that Pillow applies when
it shrinks a picture, and draw the aspect ratio of a crop from another distribution. Each transform
here draws its random numbers once for all frames of a clip.
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
    """Apply a change to every frame in ``results['imgs']``, RGB uint8 (H, W, 3)."""
    imgs = [np.array(change(Image.fromarray(img))) for img in results['imgs']]
    results.update(imgs=imgs, img_shape=imgs[0].shape[:2])
    return results


def _resize(picture: Image.Image, size: int) -> Image.Image:
    """Resize a picture to a square with sides of ``size`` pixels, by bilinear interpolation."""
    return picture.resize((size, size), Image.Resampling.BILINEAR)


@TRANSFORMS.register_module()
class PillowResize(BaseTransform):
    """Resize each whole frame to a square, without keeping its aspect ratio.

    Args:
        size: Side of the square in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize each frame in ``results['imgs']``."""
        return _apply(results, lambda picture: _resize(picture, self.size))


@TRANSFORMS.register_module()
class PillowRandomSizedCrop(BaseTransform):
    """Crop a window of random area and aspect ratio from each frame, and resize it to a square.

    Up to ten windows are drawn, and the first window that fits into the frame is used. The area and
    the ratio of width to height are drawn from uniform distributions, and width and height are
    exchanged with probability 1/2. If no window fits, the shorter side of the frame is resized to
    ``size`` and a random square is cropped.

    Added key: ``crop_bbox``, as by the crops of MMAction2: left, top, right and bottom in pixels.

    Args:
        size: Side of the square in pixels.
        area: Lower and upper bound of the window's area as a fraction of the frame's area.
        ratio: Lower and upper bound of the window's width divided by its height.
    """

    def __init__(
        self,
        size: int,
        area: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size, self.area, self.ratio = size, tuple(area), tuple(ratio)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop the same window from each frame in ``results['imgs']``."""
        height, width = results['imgs'][0].shape[:2]
        if (window := self._draw(width, height)) is not None:
            results['crop_bbox'] = np.array(window)
            return _apply(results, lambda picture: _resize(picture.crop(window), self.size))
        scale = self.size / min(width, height)
        wide = [
            self.size if side == min(width, height) else int(side * scale)
            for side in (width, height)
        ]
        left, top = (random.randint(0, side - self.size) for side in wide)
        box = left, top, left + self.size, top + self.size
        results['crop_bbox'] = np.array(box) / scale
        return _apply(
            results, lambda picture: picture.resize(wide, Image.Resampling.BILINEAR).crop(box)
        )

    def _draw(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Draw a window (left, top, right, bottom), or return None if ten windows do not fit."""
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

    MMAction2's ColorJitter draws the order of the four changes only once, when the transform is
    built, and so differs between runs. This transform draws the order for each clip.

    Args:
        brightness: The brightness is multiplied by a factor that is drawn uniformly from
            [1 - brightness, 1 + brightness]. The default of 0 leaves the brightness unchanged.
        contrast: The contrast is multiplied by a factor from [1 - contrast, 1 + contrast].
        saturation: The saturation is multiplied by a factor from [1 - saturation, 1 + saturation].
        hue: The hue is shifted by a fraction of the colour circle that is drawn uniformly from
            [-hue, hue]. It must be at most 0.5.
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
        """Apply the same random changes to each frame in ``results['imgs']``."""
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
    """Rotate the frames of a clip by a random angle about the centre, and fill corners with black.

    Added key: ``rotation``, the angle in degrees.

    Args:
        degrees: The angle in degrees is drawn uniformly from [-degrees, degrees].
    """

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Rotate each frame in ``results['imgs']`` by the same angle."""
        results['rotation'] = angle = random.uniform(-self.degrees, self.degrees)
        return _apply(results, lambda picture: picture.rotate(angle))
