"""The small CLIP that ships with the package, for the synthetic benchmark.

Four files lie beside this one, all written by `mmdfer train_synth_clip`:

- ``synth-clip.json``, the architecture as open_clip's own model configs are written;
- ``merges.txt.gz``, the byte-pair merges for open_clip's ``SimpleTokenizer``;
- ``synth-clip.safetensors``, the weights in half precision;
- ``synth-clip.provenance.json``, the command, seed, versions, digest and figures behind them.
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
