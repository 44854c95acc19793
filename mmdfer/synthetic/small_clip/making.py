"""Train the small CLIPs from random weights, and write their files.

The small CLIPs replace OpenAI's CLIP on a machine that cannot download it. Their image towers
encode single frames of faces, and their text tower encodes the names of action units and of
expressions. None knows anything about time. The first image tower is a small version of CLIP's
ResNet (as in RN50). The second one is a small vision transformer, which learns the vectors of the
ResNet: from captions alone it learns hardly anything in the time that two CPU cores need.
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

from mmdfer.synthetic import small_clip
from mmdfer.synthetic.small_clip import ARCH, VIT_ARCH, vit_training
from mmdfer.synthetic.small_clip.figures import unit_r2, zero_shot_accuracy
from mmdfer.synthetic.small_clip.merges import caption_words, learn_merges
from mmdfer.synthetic.small_clip.training import EMBED_DIM, TEXT, VISION, Settings, train
from mmdfer.synthetic.small_clip.training_faces import (
    NAMESPACE,
    VIT_TRAIN,
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
    digest = write_weights(model.state_dict(), weights)
    model.load_state_dict(load_file(weights))
    figures = measure(model, tokenizer, settings.seed)
    figures['inverse_temperature'] = model.logit_scale.exp().item()
    figures |= dict(rendering_seconds=round(rendering), training_seconds=round(training))
    record = provenance('train_synth_clip', settings, digest, figures)
    write_json(out / f'{ARCH}.provenance.json', record)
    return figures


def make_small_vit(
    out: Path,
    work: Path,
    settings: vit_training.Settings,
    workers: int | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train the image tower of the small ViT CLIP, measure its accuracy, and write its three files.

    The ResNet and the text tower are those of the package. The arguments and the result are those
    of :func:`make_small_clip`.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    config = small_clip.config() | {'vision_cfg': vit_training.VISION}
    teacher = open_clip.CLIP(**small_clip.config())
    teacher.load_state_dict(small_clip.load_state())
    student = open_clip.CLIP(**config)
    texts = {k: v for k, v in teacher.state_dict().items() if not k.startswith('visual.')}
    student.load_state_dict(texts, strict=False)
    started = time.monotonic()
    pool = render_pool(work, settings.seed, settings.faces, workers, VIT_TRAIN)
    rendering = time.monotonic() - started
    training = vit_training.train(student, teacher, pool, settings, work, resume)

    weights = out / f'{VIT_ARCH}.safetensors'
    tower = {k: v for k, v in student.state_dict().items() if k.startswith('visual.')}
    digest = write_weights(tower, weights)
    student.load_state_dict(texts | load_file(weights))
    figures = measure(student, small_clip.tokenizer(), settings.seed)
    figures |= dict(rendering_seconds=round(rendering), training_seconds=round(training))
    record = provenance('train_synth_clip_vit', settings, digest, figures)
    teacher_file = small_clip.weights_path().read_bytes()
    record['teacher_sha256'] = hashlib.sha256(teacher_file).hexdigest()
    write_json(out / f'{VIT_ARCH}.json', config)
    write_json(out / f'{VIT_ARCH}.provenance.json', record)
    return figures


def measure(
    model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, seed: int
) -> dict[str, Any]:
    """Return the accuracy of a small CLIP on people that it has not seen, as for the provenance."""
    model.eval()
    accuracy, recalls = zero_shot_accuracy(model, tokenizer, seed)
    r2, by_unit = unit_r2(model, seed)
    return {
        'zero_shot_apex_accuracy_percent': accuracy,
        'zero_shot_apex_recall_percent': recalls,
        'action_unit_linear_r2': r2,
        'action_unit_linear_r2_by_unit': by_unit,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    write_file(path, (json.dumps(content, indent=4) + '\n').encode())


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
    write_json(out / f'{ARCH}.json', config)
    return config


def write_weights(state: dict[str, torch.Tensor], path: Path) -> str:
    """Write a state dict in half precision, and return the SHA-256 of the file."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
    content = save(half)
    write_file(path, content)
    return hashlib.sha256(content).hexdigest()


def provenance(
    command: str, settings: Settings | vit_training.Settings, digest: str, figures: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of how a small CLIP was made.

    It holds the command that repeats the training, the settings, the versions of the packages, the
    SHA-256 of the face generator and of the weights, and the measured figures.
    """
    packages = ('torch', 'open_clip_torch', 'numpy', 'opencv-python', 'safetensors', 'scikit-learn')
    given = asdict(settings)
    flags = [
        f'--{name.replace("_", "-")} {value}' for name, value in given.items() if name != 'bf16'
    ]
    flags.append('--bf16' if settings.bf16 else '--no-bf16')
    return {
        'command': f'python tools/{command}.py --out DIR {" ".join(flags)}',
        'settings': given,
        'data': 'single faces drawn by mmdfer.synthetic.faces from random streams that begin with '
        f"the bytes of '{bytes(NAMESPACE).decode()}', which the benchmark does not use",
        'versions': {'python': platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        'generator_sha256': sources_digest(),
        'weights_sha256': digest,
        'figures': figures,
    }
