"""open_clip's models by name, with weights that are checked before they are trusted."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.request import urlopen

import open_clip
import torch
from huggingface_hub import constants, try_to_load_from_cache
from mmengine import dist
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from safetensors import SafetensorError
from torch import nn

from mmdfer.errors import DFERError
from mmdfer.synthetic import small_clip

CONFIG_BESIDE = 'open_clip_config.json'  # what open_clip writes beside a file of weights


def suitable_config(arch: str) -> dict[str, Any]:
    """open_clip's config of ``arch``, refused unless its text tower takes learnable tokens."""
    if arch == small_clip.ARCH:
        return small_clip.config()
    if (config := open_clip.get_model_config(arch)) is None:
        raise DFERError(
            f'CLIP architecture {arch!r} is unknown to open_clip {open_clip.__version__}: '
            "open_clip.list_models() names them, for instance 'ViT-B-32-quickgelu'"
        )
    text = config['text_cfg']
    reasons = {
        'its text tower is a Hugging Face model': text.get('hf_model_name'),
        "its tokenizer is not open_clip's own": text.get('hf_tokenizer_name'),
        'its text tower is not causal': text.get('no_causal_mask'),
        'its text tower pools a class token': text.get('embed_cls') or 'multimodal_cfg' in config,
        'its text tower does not pool at the end token': text.get('pool_type', 'argmax')
        not in ('argmax', 'eos'),
    }
    for reason, holds in reasons.items():
        if holds:
            raise DFERError(
                f'CLIP architecture {arch!r} takes no learnable tokens here: {reason}. '
                "Take one with CLIP's own text tower, for instance 'ViT-B-32-quickgelu'"
            )
    return config


def build_clip(arch: str, config: dict[str, Any], weights: str | None) -> open_clip.CLIP:
    """open_clip's model of ``arch`` in fp32 with ``weights`` loaded."""
    path = _weights_path(arch, bool(config.get('quick_gelu')), weights)
    if arch == small_clip.ARCH:
        open_clip.add_model_config(small_clip.CONFIG)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the weights of 'random'; overwritten by a file
        return _create(arch, path).float().eval()


def _create(arch: str, path: Path | None) -> open_clip.CLIP:
    """Builds and loads, strictly; executes nothing from the file."""
    try:
        return open_clip.create_model(
            arch, pretrained=path and str(path), precision='fp32', weights_only=True
        )
    except (SafetensorError, EOFError, OSError) as error:
        raise DFERError(
            f'CLIP weights {path} are damaged ({error}): download them again'
        ) from error
    except RuntimeError as error:
        reason = ' '.join(str(error).split())[:160]
        if 'state_dict' in reason:
            raise DFERError(
                f'CLIP weights {path} are not of architecture {arch!r} ({reason}...): '
                'set model.backbone.arch to theirs'
            ) from error
        raise DFERError(
            f"CLIP weights {path} cannot be read ({reason}): truncated, or OpenAI's TorchScript "
            'archive, which is code; take the safetensors file of the same weights'
        ) from error
    except (UnpicklingError, ValueError, KeyError, AttributeError, StopIteration) as error:
        raise DFERError(
            f'CLIP weights {path} hold no state dict of a CLIP ({type(error).__name__}): '
            'give model.backbone.weights a file of weights'
        ) from error


def _weights_path(arch: str, quick_gelu: bool, weights: str | None) -> Path | None:
    """Where the weights lie; downloaded on rank 0 where ``weights`` is a tag of open_clip."""
    if weights == 'random':
        return None
    if weights is None and arch == small_clip.ARCH:
        return small_clip.WEIGHTS
    if weights and (tag := get_pretrained_cfg(arch, weights)):
        _check_activation(arch, quick_gelu, bool(tag.get('quick_gelu')), f'the tag {weights!r}')
        return _download(arch, weights, tag)
    path = Path(weights or '').expanduser()
    if not weights or not path.is_file():
        tags = ', '.join(open_clip.list_pretrained_tags_by_model(arch)[:4]) or 'none'
        raise DFERError(
            f'CLIP weights {weights!r} for {arch!r} are neither a file nor a tag of open_clip '
            f'(for {arch!r}: {tags}, ...): give model.backbone.weights one of them'
        )
    if (known := _activation_of_file(path)) is not None:
        _check_activation(arch, quick_gelu, known, f'the file {path}')
    return path


@dataclass(frozen=True)
class Normalisation:
    """The mean and the standard deviation of the pixels that CLIP weights were trained on.

    Attributes:
        mean: Per channel, in 0..1.
        std: Per channel, in 0..1.
        known: Whether the weights say so; otherwise these are OpenAI's.
    """

    mean: tuple[float, ...] = open_clip.OPENAI_DATASET_MEAN
    std: tuple[float, ...] = open_clip.OPENAI_DATASET_STD
    known: bool = True


def read_normalisation(arch: str, weights: str | None) -> Normalisation:
    """Return the mean and std of weights: those of the tag, or of the config beside a file.

    Args:
        arch: As for FrozenCLIP.
        weights: As for FrozenCLIP.

    Raises:
        DFERError: The config beside the file holds no such values.
    """
    if weights is None or weights == 'random':
        return Normalisation()
    if (source := get_pretrained_cfg(arch, weights)) is None or not source:
        path = Path(weights).expanduser()
        config = _config_beside(path)
        if config is None:
            by_openai = re.search('openai', str(path.resolve()), re.IGNORECASE) is not None
            return Normalisation(known=by_openai)
        source = config.get('preprocess_cfg') or {}
    mean = _three_numbers(source.get('mean', open_clip.OPENAI_DATASET_MEAN), 'mean', weights)
    std = _three_numbers(source.get('std', open_clip.OPENAI_DATASET_STD), 'std', weights)
    if min(std) <= 0:
        raise DFERError(f'CLIP weights {weights}: std={std} must be positive')
    return Normalisation(mean, std)


def _three_numbers(value: Any, key: str, weights: str) -> tuple[float, ...]:
    numbers = value if isinstance(value, (list, tuple)) else [value] * 3
    if len(numbers) != 3 or not all(isinstance(number, (int, float)) for number in numbers):
        raise DFERError(
            f'CLIP weights {weights}: {key}={value!r} of their config must be three numbers: set '
            f'mean and std of model.data_preprocessor and correct {CONFIG_BESIDE}'
        )
    return tuple(map(float, numbers))


def _config_beside(path: Path) -> dict[str, Any] | None:
    """Read open_clip's config beside a file of weights, or return None where there is none.

    Raises:
        DFERError: It is not such a config.
    """
    path = path.with_name(CONFIG_BESIDE)
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(config['model_cfg'], dict):
            raise TypeError('model_cfg')
    except (ValueError, KeyError, TypeError):
        raise DFERError(f'{path}: is not a config of open_clip; download it again') from None
    return config


def _activation_of_file(path: Path) -> bool | None:
    """Whether a file's weights need QuickGELU: by the config beside it, or by OpenAI's name."""
    config = _config_beside(path)
    if config is not None:
        return bool(config['model_cfg'].get('quick_gelu'))
    return True if re.search(r'openai|quickgelu', str(path.resolve()), re.IGNORECASE) else None


def _check_activation(arch: str, has: bool, needs: bool, source: str) -> None:
    if has == needs:
        return
    base = arch.removesuffix('-quickgelu')
    raise DFERError(
        f'{source} was trained with {"QuickGELU" if needs else "GELU"}, architecture {arch!r} has '
        f'{"QuickGELU" if has else "GELU"}: set model.backbone.arch='
        f'{base + "-quickgelu" if needs else base!r}'
    )


def _download(arch: str, weights: str, tag: dict[str, Any]) -> Path:
    """Fetches a tag's weights, rank 0 first; the others find them in the cache."""
    path, error = None, None
    for main_turn in (True, False):
        if dist.is_main_process() == main_turn:
            try:
                _check_network(tag)
                path = Path(download_pretrained(tag))
            except (OSError, RuntimeError, ValueError) as reason:
                error = reason
        dist.barrier()
    if path is None:
        repository = str(tag.get('hf_hub', '')).strip('/')
        raise DFERError(
            f'CLIP weights {weights!r} for {arch!r} are not on this machine and cannot be '
            f'downloaded ({type(error).__name__}): on a machine with a network run '
            f'"hf download {repository} open_clip_model.safetensors {CONFIG_BESIDE} --local-dir '
            'DIR", copy DIR here and set model.backbone.weights=DIR/open_clip_model.safetensors'
        ) from error
    return path


def _check_network(tag: dict[str, Any]) -> None:
    """Raises OSError at once where the hub would be asked and retried for a minute in vain."""
    repository = str(tag.get('hf_hub', '')).strip('/')
    names = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
    cached = [try_to_load_from_cache(repository, name) for name in names] if repository else []
    if repository and not any(isinstance(path, str) for path in cached):
        urlopen(constants.ENDPOINT, timeout=10).close()


def digest(model: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all tensors, in order of name."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()
