"""Convert the checkpoints of DFER-CLIP's authors.

The names of the tensors are those of models/Generate_Model.py, Prompt_Learner.py and
Temporal_Model.py in zengqunzhao/DFER-CLIP. A file holds the whole CLIP, and parts of it again under
other names. It does not say whether the learned tokens are before, within or after the class text:
the converter assumes before, as in the authors' scripts train_*.sh.
"""

from __future__ import annotations

import open_clip
import torch

from mmdfer.converters.authors_file import AuthorsFile
from mmdfer.converters.class_order import DATASETS, find_class_rows
from mmdfer.converters.class_texts import PREFIX, SUFFIX, recover_texts
from mmdfer.converters.conversion import Conversion, build_model, read_config
from mmdfer.converters.transfer import Sources, count_layers, fill, list_temporal_transformer
from mmdfer.models.backbones.clip_weights import hash_weights
from mmdfer.models.backbones.frozen_clip import FrozenCLIP

_CONTEXT = 'prompt_learner.ctx'
_CLIP = 'clip_model_.'
_LAYERS = 'temporal_transformer.layers.'
# The prefixes of the tensors that the file holds twice, and of the same tensors in its CLIP.
_COPIES = {'image_encoder.': f'{_CLIP}visual.', 'text_encoder.': _CLIP}


def convert_dfer_clip(file: AuthorsFile, dataset: str) -> Conversion:
    """Convert a checkpoint of DFER-CLIP.

    Args:
        file: The authors' file.
        dataset: Name of the dataset on which the authors trained, a key into ``DATASETS``.

    Raises:
        DFERError: If the file lacks a tensor, has tensors of other shapes or for another number of
            classes, or if its class texts cannot be recovered.
    """
    rows = find_class_rows(file, dataset, SUFFIX)
    config = read_config('dfer_clip', dataset)
    texts = _read_texts(file, config.model.backbone.arch)
    classes: tuple[str, ...] = DATASETS[dataset][0].METAINFO['classes']
    by_class = {name: texts[row] for name, row in zip(classes, rows, strict=True)}
    num_tokens = _spread_tokens(file, len(rows))
    depth = count_layers(file, f'temporal_net.{_LAYERS}')
    settings = dict(
        neck=dict(depth=depth), cls_head=dict(num_tokens=num_tokens, descriptions=by_class)
    )
    config.model.backbone.weights = 'random'  # which the weights of the file replace
    for part, values in settings.items():
        config.model[part].update(values)
    model = build_model(config)
    backbone = model.backbone
    assert isinstance(backbone, FrozenCLIP)
    sources: Sources = {
        f'backbone.clip.{name}': (f'{_CLIP}{name}', ...) for name in backbone.clip.state_dict()
    }
    sources |= list_temporal_transformer('neck.', 'temporal_net.', _LAYERS, depth)
    sources['cls_head.tokens'] = (_CONTEXT, rows)
    fill(model, sources, file, others=[PREFIX, SUFFIX, *_list_copies(file)])
    backbone.digest = hash_weights(backbone.clip)
    return Conversion(model.state_dict(), settings, backbone.clip.state_dict(), by_class)


def _read_texts(file: AuthorsFile, arch: str) -> list[str]:
    """Return the class texts in the file's order.

    Raises:
        DFERError: If a text cannot be recovered, or does not end in one full stop. DFERCLIPHead
            would add a full stop, or remove some.
    """
    texts = recover_texts(file, open_clip.get_tokenizer(arch))
    for text in texts:
        if f'{text.rstrip(".")}.' != text:
            raise file.error(f'the class text {text!r} does not end in a full stop')
    return texts


def _spread_tokens(file: AuthorsFile, classes: int) -> int:
    """Give each class its own copy of learned tokens that the classes share, if they do.

    Args:
        file: The authors' file, whose tokens (M, W) are replaced by (C, M, W).
        classes: C, the number of classes.

    Returns:
        M, the number of learned tokens of a class.
    """
    tokens = file.tensor(_CONTEXT)
    if tokens.ndim == 2:
        tokens = file.state[_CONTEXT] = tokens.expand(classes, -1, -1)
    if tokens.ndim != 3:
        raise file.error(f'the tensor {_CONTEXT!r} has {tokens.ndim} axes in place of 2 or 3')
    return tokens.shape[1]


def _list_copies(file: AuthorsFile) -> list[str]:
    """List the tensors that the file holds again under other names.

    Raises:
        DFERError: If such a tensor differs from the one in the file's CLIP.
    """
    copies = {
        name: f'{theirs}{name.removeprefix(prefix)}'
        for name in file.state
        for prefix, theirs in _COPIES.items()
        if name.startswith(prefix)
    }
    for name, original in copies.items():
        if not torch.equal(file.tensor(name), file.tensor(original)):
            raise file.error(f'the tensors {name!r} and {original!r} differ')
    return list(copies)
