"""Provide the small CLIP that is part of the package, for training on the synthetic benchmark.

This folder contains four files that `mmdfer train_synth_clip` wrote:

- ``synth-clip.json``: the architecture, in the format of open_clip's model configs.
- ``merges.txt.gz``: the byte-pair merges for open_clip's ``SimpleTokenizer``.
- ``synth-clip.safetensors``: the weights in half precision.
- ``synth-clip.provenance.json``: the command, the seed, the versions and the digests with which the
  weights were made, and their measured accuracy.
"""

from mmdfer.synthetic.small_clip.loading import (
    ARCH,
    CONFIG,
    MERGES,
    PROVENANCE,
    WEIGHTS,
    config,
    tokenizer,
)

__all__ = ['ARCH', 'CONFIG', 'MERGES', 'PROVENANCE', 'WEIGHTS', 'config', 'tokenizer']
