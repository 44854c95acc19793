"""Load the architecture and the tokenizer of the small CLIP from its files.

Importing this module reads no file and imports neither torch nor open_clip.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer

ARCH = 'synth-clip'
_HERE = Path(__file__).resolve().parent
CONFIG: Path = _HERE / f'{ARCH}.json'
MERGES: Path = _HERE / 'merges.txt.gz'
WEIGHTS: Path = _HERE / f'{ARCH}.safetensors'
PROVENANCE: Path = _HERE / f'{ARCH}.provenance.json'


def config() -> dict[str, Any]:
    """Return the architecture as arguments of open_clip's model: ``open_clip.CLIP(**config())``.

    To build the model by its name instead, pass `CONFIG` to ``open_clip.add_model_config`` and
    `ARCH` to ``open_clip.create_model``.
    """
    return json.loads(CONFIG.read_text(encoding='utf-8'))


def tokenizer() -> SimpleTokenizer:
    """Return the tokenizer of the small CLIP, which converts N texts to token ids (N, 77).

    It is open_clip's ``SimpleTokenizer`` with the merges of the small CLIP.
    ``open_clip.get_tokenizer`` cannot be used, because it always reads the merges of OpenAI's CLIP,
    which give other token ids.
    """
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(
        bpe_path=str(MERGES), context_length=config()['text_cfg']['context_length']
    )
