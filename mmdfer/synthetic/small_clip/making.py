"""Train the small CLIP from random weights, and write its four files.

The small CLIP replaces OpenAI's CLIP on a machine that cannot download it. Its image tower encodes
single frames of faces, and its text tower encodes the names of action units and of expressions.
Neither knows anything about time. The image tower is a small version of CLIP's ResNet (as in RN50)
and not a vision transformer, because the latter learned hardly anything on the few hundred thousand
frames that two CPU cores process in the available time.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file, save

from mmdfer.synthetic.small_clip import ARCH
from mmdfer.synthetic.small_clip.figures import unit_r2, zero_shot_accuracy
from mmdfer.synthetic.small_clip.merges import caption_words, learn_merges
from mmdfer.synthetic.small_clip.training import EMBED_DIM, TEXT, VISION, Settings, train
from mmdfer.synthetic.small_clip.training_faces import (
    NAMESPACE,
    render_pool,
    sources_digest,
    write_file,
)

MAX_MERGES = 600


def make_small_clip(
    out: Path, work: Path, settings: Settings, workers: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Render the faces, train the small CLIP, measure its accuracy, and write its four files.

    The accuracy is measured with the weights in half precision, as they are written.

    Args:
        out: The folder for architecture, merges, weights and provenance.
        work: The folder for the rendered faces and the state of the training.
        settings: The settings of the training, which determine the weights.
        workers: Number of processes that render faces. By default one for each CPU.
        resume: Whether to continue from the last saved state.

    Returns:
        The measured figures by name, as in the provenance file.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    config = write_words(out)
    model = open_clip.CLIP(**config).to(memory_format=torch.channels_last)  # faster on CPUs
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(out / 'merges.txt.gz'))
    started = time.monotonic()
    pool = render_pool(work, settings.seed, settings.faces, workers)
    rendering = time.monotonic() - started
    training = train(model, tokenizer, pool, settings, work, resume)

    weights = out / f'{ARCH}.safetensors'
    digest = write_weights(model, weights)
    model.load_state_dict(load_file(weights))
    model.eval()
    accuracy, recalls = zero_shot_accuracy(model, tokenizer, settings.seed)
    r2, by_unit = unit_r2(model, settings.seed)
    figures = {
        'zero_shot_apex_accuracy_percent': accuracy,
        'zero_shot_apex_recall_percent': recalls,
        'action_unit_linear_r2': r2,
        'action_unit_linear_r2_by_unit': by_unit,
        'inverse_temperature': model.logit_scale.exp().item(),
        'rendering_seconds': round(rendering),
        'training_seconds': round(training),
    }
    record = provenance(settings, digest, figures)
    write_file(out / f'{ARCH}.provenance.json', (json.dumps(record, indent=4) + '\n').encode())
    return figures


def write_words(out: Path) -> dict[str, Any]:
    """Learn the merges, write merges and architecture to ``out``, and return the architecture."""
    merges = learn_merges(caption_words(), MAX_MERGES)
    # The tokenizer skips the first line, and would read an empty last line as a merge.
    lines = ['#version: 0.2', *(' '.join(pair) for pair in merges)]
    write_file(out / 'merges.txt.gz', gzip.compress('\n'.join(lines).encode(), 9, mtime=0))
    # The tokens are 256 bytes, the same 256 bytes at the end of a word, the merges, and the start
    # and the end of a text.
    text = TEXT | {'vocab_size': 512 + len(merges) + 2}
    config = {'embed_dim': EMBED_DIM, 'vision_cfg': VISION, 'text_cfg': text}
    write_file(out / f'{ARCH}.json', (json.dumps(config, indent=4) + '\n').encode())
    return config


def write_weights(model: open_clip.CLIP, path: Path) -> str:
    """Write the weights of a model in half precision, and return the SHA-256 of the file."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    content = save(half)
    write_file(path, content)
    return hashlib.sha256(content).hexdigest()


def provenance(settings: Settings, digest: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the record of how the small CLIP was made.

    It holds the command that repeats the training, the settings, the versions of the packages, the
    SHA-256 of the face generator and of the weights, and the measured figures.
    """
    packages = ('torch', 'open_clip_torch', 'numpy', 'opencv-python', 'safetensors', 'scikit-learn')
    given = asdict(settings)
    flags = [f'--{name} {value}' for name, value in given.items() if name != 'bf16']
    flags.append('--bf16' if settings.bf16 else '--no-bf16')
    return {
        'command': f'python tools/train_synth_clip.py --out DIR {" ".join(flags)}',
        'settings': given,
        'data': 'single faces drawn by mmdfer.synthetic.faces from random streams that begin with '
        f"the bytes of '{bytes(NAMESPACE).decode()}', which the benchmark does not use",
        'versions': {'python': platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        'generator_sha256': sources_digest(),
        'weights_sha256': digest,
        'figures': figures,
    }
