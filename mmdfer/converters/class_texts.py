"""Recover the class texts of a prompt learner from their token embeddings."""

from __future__ import annotations

import re

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from mmdfer.converters.authors_file import AuthorsFile

EMBEDDING = 'clip_model_.token_embedding.weight'
PREFIX, SUFFIX = 'prompt_learner.token_prefix', 'prompt_learner.token_suffix'


def recover_texts(file: AuthorsFile, tokenizer: SimpleTokenizer) -> list[str]:
    """Return the text that follows the learned tokens of each class, in the file's order.

    The file holds the embeddings of the start token (C, 1, W), and of each text, its end token and
    the padding (C, L, W), but no text. Each embedding is a row of the file's own table of token
    embeddings, whose number is the id of the token.

    Args:
        file: The authors' file.
        tokenizer: The tokenizer with whose ids the CLIP of the file was trained.

    Raises:
        DFERError: If an embedding is not in the table, or if a text cannot be recovered from its
            ids.
    """
    ids = _find_ids(file, SUFFIX)
    if (_find_ids(file, PREFIX) != tokenizer.sot_token_id).any():
        raise file.error(f'{PREFIX} does not hold the embedding of the start token')
    return [_decode(file, number, row.tolist(), tokenizer) for number, row in enumerate(ids)]


def _find_ids(file: AuthorsFile, key: str) -> Tensor:
    """Return the ids (C, L) of the tokens whose embeddings (C, L, W) a tensor holds."""
    table, vectors = (file.tensor(name).float() for name in (EMBEDDING, key))
    if vectors.ndim == 3 and table.ndim == 2 and vectors.shape[2] == table.shape[1]:
        # Most rows are padding, so that comparing each different row once saves most of the time.
        rows, places = torch.unique(vectors.flatten(0, 1), dim=0, return_inverse=True)
        mode = 'donot_use_mm_for_euclid_dist'  # exact, also for neighbours at a small distance
        nearest = torch.cdist(rows, table, compute_mode=mode).argmin(1)
        if torch.equal(table[nearest], rows):
            return nearest[places].view(vectors.shape[:2])
    raise file.error(
        f'{key} of shape {tuple(vectors.shape)} does not consist of rows of {EMBEDDING}, so the '
        'class texts cannot be recovered'
    )


def _decode(file: AuthorsFile, number: int, ids: list[int], tokenizer: SimpleTokenizer) -> str:
    """Return the text whose ids precede the end token in a row of ids."""
    end = ids.index(tokenizer.eot_token_id) if tokenizer.eot_token_id in ids else 0
    known = [i for i in ids[:end] if i in tokenizer.decoder]
    spaced = tokenizer.decode(known).strip()
    for text in (_join_punctuation(spaced), spaced):
        if text and tokenizer.encode(text) == ids[:end]:
            return text
    raise file.error(f'the text of class {number} cannot be recovered from {SUFFIX}')


def _join_punctuation(text: str) -> str:
    """Remove the spaces that the tokenizer puts around punctuation and between digits."""
    text = re.sub(r" (?=[.,;:!?)'])|(?<=\() |(?<=\d) (?=\d)", '', text)
    return text.replace(' - ', '-')
