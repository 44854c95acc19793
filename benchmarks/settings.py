"""Hold the sizes of what tools/benchmark.py measures."""

from __future__ import annotations

from dataclasses import dataclass

SENTENCES, TOKENS = 16, 64
PRECISIONS = {'fp32': False, 'bf16': True}  # name -> whether autocast to bfloat16 is on


@dataclass(frozen=True)
class Settings:
    """Hold how much is measured, and where.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
        small: Whether to measure tiny sizes once, to see that the code runs.
        data: The folder of the rendered clips, laid out as DFEW.
        image_batch: How many images the baselines encode at a time.
        low_precision: How the strong baseline encodes images in bfloat16: ``'autocast'``, or
            ``'bf16'`` with a copy of the weights in bfloat16.
    """

    device: str = 'cpu'
    small: bool = False
    data: str = ''
    image_batch: int = 32
    low_precision: str = 'autocast'

    @property
    def repeats(self) -> int:
        """Return how many times each ratio is measured."""
        return 1 if self.small else 7

    @property
    def batch(self) -> int:
        """Return the batch size of training."""
        return 2 if self.small else 64

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return 2 if self.small else 7

    @property
    def images(self) -> int:
        """Return for how many images the naive baseline's image tower is timed."""
        on_cpu = 2 if self.small else self.image_batch
        return on_cpu if self.device == 'cpu' else self.batch * 16
