"""Load the architectures, the weights and the tokenizer of the two small CLIPs from their files.

Importing this module reads no file and imports neither torch nor open_clip.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer
    from torch import Tensor

ARCH = 'synth-clip'
VIT_ARCH = 'synth-clip-vit'
ARCHS = (ARCH, VIT_ARCH)
_HERE = Path(__file__).resolve().parent
MERGES: Path = _HERE / 'merges.txt.gz'


def config_path(arch: str = ARCH) -> Path:
    """Return the path of an architecture, which ``open_clip.add_model_config`` reads."""
    return _HERE / f'{arch}.json'


def weights_path(arch: str = ARCH) -> Path:
    """Return the path of the weights. The file of the ViT has its image tower only."""
    return _HERE / f'{arch}.safetensors'


def provenance_path(arch: str = ARCH) -> Path:
    """Return the path of the record of how the weights were made."""
    return _HERE / f'{arch}.provenance.json'


def config(arch: str = ARCH) -> dict[str, Any]:
    """Return the architecture as arguments of open_clip's model: ``open_clip.CLIP(**config())``.

    To build the model by its name instead, pass ``config_path`` to ``open_clip.add_model_config``
    and ``arch`` to ``open_clip.create_model``.
    """
    return json.loads(config_path(arch).read_text(encoding='utf-8'))


def load_state(arch: str = ARCH) -> dict[str, Tensor]:
    """Return the state dict of a small CLIP in half precision.

    The ViT has the text tower of the other small CLIP.
    """
    from safetensors.torch import load_file

    state = load_file(weights_path(ARCH))
    if arch == VIT_ARCH:
        state = {key: value for key, value in state.items() if not key.startswith('visual.')}
        state |= load_file(weights_path(VIT_ARCH))
    return state


def tokenizer() -> SimpleTokenizer:
    """Return the tokenizer of both small CLIPs, which converts N texts to token ids (N, 77).

    It is open_clip's ``SimpleTokenizer`` with the merges of the small CLIPs.
    ``open_clip.get_tokenizer`` cannot be used, because it always reads the merges of OpenAI's CLIP,
    which give other token ids.
    """
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(
        bpe_path=str(MERGES), context_length=config()['text_cfg']['context_length']
    )
