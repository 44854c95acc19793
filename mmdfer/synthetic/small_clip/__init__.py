"""Provide two small CLIPs that are part of the package, for training on the synthetic benchmark.

``synth-clip`` has a small ResNet of OpenAI's kind as its image tower, and ``synth-clip-vit`` a
small vision transformer. Both have the same text tower and the same tokenizer. This folder contains
the files that `mmdfer train_synth_clip` and `mmdfer train_synth_clip_vit` wrote:

- ``NAME.json``: the architecture, in the format of open_clip's model configs.
- ``merges.txt.gz``: the byte-pair merges for open_clip's ``SimpleTokenizer``.
- ``NAME.safetensors``: the weights in half precision. The file of the ViT has its image tower only.
- ``NAME.provenance.json``: the command, the seed, the versions and the digests with which the
  weights were made, and their measured accuracy.
"""

from mmdfer.synthetic.small_clip.loading import (
    ARCH,
    ARCHS,
    MERGES,
    VIT_ARCH,
    config,
    config_path,
    load_state,
    provenance_path,
    tokenizer,
    weights_path,
)

__all__ = [
    'ARCH',
    'ARCHS',
    'MERGES',
    'VIT_ARCH',
    'config',
    'config_path',
    'load_state',
    'provenance_path',
    'tokenizer',
    'weights_path',
]
