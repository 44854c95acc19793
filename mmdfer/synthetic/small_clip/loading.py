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
    """Return the architecture, ready for ``open_clip.CLIP(**config())``.

    To build it by name instead, hand `CONFIG` to ``open_clip.add_model_config`` and `ARCH` to
    ``open_clip.create_model``.
    """
    return json.loads(CONFIG.read_text(encoding='utf-8'))


def tokenizer() -> SimpleTokenizer:
    """Return open_clip's own tokenizer over our merges: texts to (N, 77) token ids.

    ``open_clip.get_tokenizer`` always reads OpenAI's merges, whose ids mean other words here.
    """
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(
        bpe_path=str(MERGES), context_length=config()['text_cfg']['context_length']
    )
