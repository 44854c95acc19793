"""Build open_clip models by name and load their weights after checking them."""

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

CONFIG_BESIDE = 'open_clip_config.json'  # open_clip saves this file next to a file of weights


def load_clip_config(arch: str) -> dict[str, Any]:
    """Return open_clip's model config of an architecture that accepts learnable prompt tokens.

    Args:
        arch: Name of an open_clip architecture, or ``'synth-clip'`` or ``'synth-clip-vit'`` for
            one of the small CLIP models of this package.

    Returns:
        The model config, with the keys ``embed_dim``, ``vision_cfg`` and ``text_cfg``.

    Raises:
        DFERError: If open_clip does not know the architecture, or if its text tower cannot read
            learnable token embeddings. Such a text tower is a Hugging Face model, is not causal, or
            does not pool at the end token.
    """
    if arch in small_clip.ARCHS:
        return small_clip.config(arch)
    if (config := open_clip.get_model_config(arch)) is None:
        raise DFERError(
            f'CLIP architecture {arch!r} is unknown to open_clip {open_clip.__version__}; choose '
            "one that open_clip.list_models() returns, for example 'ViT-B-32-quickgelu'"
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
                f'CLIP architecture {arch!r} does not support learnable tokens: {reason}; choose '
                "one with the original CLIP text tower, for example 'ViT-B-32-quickgelu'"
            )
    return config


def build_clip(arch: str, config: dict[str, Any], weights: str | None) -> open_clip.CLIP:
    """Build open_clip's model of an architecture in float32 and load its weights.

    Args:
        arch: Name of the architecture, as for FrozenCLIP.
        config: Model config that :func:`load_clip_config` returned for ``arch``.
        weights: Tag, path or ``'random'``, as for FrozenCLIP. ``None`` selects the weights that
            this package ships, which exist only for ``'synth-clip'`` and ``'synth-clip-vit'``.

    Returns:
        The model, in eval mode.

    Raises:
        DFERError: If the weights are missing, damaged, or belong to another architecture or
            activation function.
    """
    own = arch in small_clip.ARCHS
    if own:
        open_clip.add_model_config(small_clip.config_path(arch))
    shipped = own and weights is None
    path = None if shipped else _weights_path(arch, bool(config.get('quick_gelu')), weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # makes weights='random' reproducible; a file overwrites the weights
        model = _create(arch, path)
    if shipped:
        model.load_state_dict(small_clip.load_state(arch))
    return model.float().eval()


def _create(arch: str, path: Path | None) -> open_clip.CLIP:
    """Create the model and load a file of weights strictly, without executing code from it."""
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
                f'CLIP weights {path} do not fit the architecture {arch!r} ({reason}...): '
                'set model.backbone.arch to the architecture of the weights'
            ) from error
        raise DFERError(
            f'CLIP weights {path} cannot be read ({reason}): the file is truncated or is '
            "OpenAI's TorchScript archive, which contains code; use the safetensors file of the "
            'same weights'
        ) from error
    except (UnpicklingError, ValueError, KeyError, AttributeError, StopIteration) as error:
        raise DFERError(
            f'CLIP weights {path} do not contain the state dict of a CLIP model '
            f'({type(error).__name__}): set model.backbone.weights to a file of CLIP weights'
        ) from error


def _weights_path(arch: str, quick_gelu: bool, weights: str | None) -> Path | None:
    """Return the path of the weights, and download them if ``weights`` is an open_clip tag.

    Rank 0 downloads, and the other ranks wait for it. The path is ``None`` for random weights.
    """
    if weights == 'random':
        return None
    if weights and (tag := get_pretrained_cfg(arch, weights)):
        _check_activation(arch, quick_gelu, bool(tag.get('quick_gelu')), f'the tag {weights!r}')
        return _download(arch, weights, tag)
    path = Path(weights or '').expanduser()
    if arch in small_clip.ARCHS and not path.is_file():
        raise DFERError(
            f'CLIP weights {weights!r} for {arch!r} are not a file: leave out '
            'model.backbone.weights, or set it to None, for the weights that mmdfer contains'
        )
    if not weights or not path.is_file():
        tags = ', '.join(open_clip.list_pretrained_tags_by_model(arch)[:4]) or 'none'
        raise DFERError(
            f'CLIP weights {weights!r} for {arch!r} are neither a file nor a tag of open_clip: set '
            f'model.backbone.weights to the path of a file or to a tag (for {arch!r}: {tags}, ...)'
        )
    if (needs := _file_needs_quick_gelu(path)) is not None:
        _check_activation(arch, quick_gelu, needs, f'the file {path}')
    return path


@dataclass(frozen=True)
class Normalisation:
    """Hold the pixel mean and standard deviation with which CLIP weights were trained.

    Attributes:
        mean: Mean of each RGB channel, for pixels in 0..1.
        std: Standard deviation of each RGB channel, for pixels in 0..1.
        known: Whether the values are known for these weights. If ``False``, the values are those of
            OpenAI's weights, used as a fallback.
    """

    mean: tuple[float, ...] = open_clip.OPENAI_DATASET_MEAN
    std: tuple[float, ...] = open_clip.OPENAI_DATASET_STD
    known: bool = True


def read_normalisation(arch: str, weights: str | None) -> Normalisation:
    """Return the pixel mean and standard deviation with which CLIP weights were trained.

    The values come from open_clip's entry of a tag, or from the ``open_clip_config.json`` next to a
    file of weights. If neither gives values, OpenAI's values are returned.

    Args:
        arch: Name of the architecture, as for FrozenCLIP.
        weights: Tag, path, ``'random'`` or ``None``, as for FrozenCLIP.

    Raises:
        DFERError: If the config next to the file is invalid, or if it does not give three numbers
            for the mean and three positive numbers for the standard deviation.
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
        raise DFERError(
            f'CLIP weights {weights}: std={std} in their config must be positive; correct '
            f'{CONFIG_BESIDE}'
        )
    return Normalisation(mean, std)


def _three_numbers(value: Any, key: str, weights: str) -> tuple[float, ...]:
    """Return a mean or std of a config as three floats, repeating a single number."""
    numbers = value if isinstance(value, (list, tuple)) else [value] * 3
    if len(numbers) != 3 or not all(isinstance(number, (int, float)) for number in numbers):
        raise DFERError(
            f'CLIP weights {weights}: {key}={value!r} in their config must be three numbers: set '
            f'mean and std of model.data_preprocessor and correct {CONFIG_BESIDE}'
        )
    return tuple(map(float, numbers))


def _config_beside(path: Path) -> dict[str, Any] | None:
    """Read the open_clip config next to a file of weights, or return ``None`` if it is absent.

    Raises:
        DFERError: If the file exists but is not an open_clip config.
    """
    path = path.with_name(CONFIG_BESIDE)
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(config['model_cfg'], dict):
            raise TypeError('model_cfg')
    except (ValueError, KeyError, TypeError):
        raise DFERError(f'{path} is not a config of open_clip; download it again') from None
    return config


def _file_needs_quick_gelu(path: Path) -> bool | None:
    """Return whether the weights in a file need QuickGELU, or ``None`` if that is unknown.

    The config next to the file decides. Without a config, a path that contains "openai" or
    "quickgelu" means that QuickGELU is needed.
    """
    config = _config_beside(path)
    if config is not None:
        return bool(config['model_cfg'].get('quick_gelu'))
    return True if re.search(r'openai|quickgelu', str(path.resolve()), re.IGNORECASE) else None


def _check_activation(arch: str, has: bool, needs: bool, source: str) -> None:
    """Raise DFERError if an architecture and its weights differ in the use of QuickGELU."""
    if has == needs:
        return
    base = arch.removesuffix('-quickgelu')
    raise DFERError(
        f'{source} was trained with {"QuickGELU" if needs else "GELU"}, but the architecture '
        f'{arch!r} has {"QuickGELU" if has else "GELU"}: set model.backbone.arch='
        f'{base + "-quickgelu" if needs else base!r}'
    )


def _download(arch: str, weights: str, tag: dict[str, Any]) -> Path:
    """Download the weights of a tag, or find them in the cache, and return their path.

    Rank 0 downloads first. The other ranks then find the file in the cache of the same machine.
    """
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
            f'downloaded ({type(error).__name__}): on a machine with network access run '
            f'"hf download {repository} open_clip_model.safetensors {CONFIG_BESIDE} --local-dir '
            'DIR", copy DIR here and set model.backbone.weights=DIR/open_clip_model.safetensors'
        ) from error
    return path


def _check_network(tag: dict[str, Any]) -> None:
    """Raise OSError if the weights are not cached and the Hugging Face hub cannot be reached.

    Without this check, the hub client would retry for about a minute before it fails.
    """
    repository = str(tag.get('hf_hub', '')).strip('/')
    names = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
    cached = [try_to_load_from_cache(repository, name) for name in names] if repository else []
    if repository and not any(isinstance(path, str) for path in cached):
        urlopen(constants.ENDPOINT, timeout=10).close()


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 over the names, shapes, dtypes and bytes of all tensors of a model.

    The tensors are read in the order of their names.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()
