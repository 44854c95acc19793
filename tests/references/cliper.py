"""Compute CLIPER's prompts, scores and losses, from main_RAFDB_CLIPER.py of muse1998/CLIPER.

The lines of that file are: the prompt 211 and 289, the tokens 138 to 151, the logits 219 to 223,
the score of a class 242 and 344, the margin logits 237 to 244, the fine-grained logits 245 to 253,
the weights 228 to 235, the sum of both losses 258.
"""

import torch
import torch.nn.functional as F

PROMPT = 'an ID photo of X X X X.'
PROMPT_IDS = (49406, 550, 1014, 1125, 539, 343, 343, 343, 343, 269, 49407)
TOKEN_ROWS = slice(5, 9)
EOT_ROW = 10
K = 5


def init_tokens(classes, width, k=K, length=4, generator=None):
    return torch.randn(classes * k, length, width, generator=generator) / 1000


def embedded_prompts(token_embedding, tokens, context=77):
    """Embed the prompts and replace the placeholders by the learned tokens.

    Args:
        token_embedding: The weight (vocab, width) of CLIP's token embedding.
        tokens: The learned tokens (C * K, 4, width).
        context: The number of positions of a prompt.

    Returns:
        The embedded prompts (C * K, context, width).
    """
    ids = torch.zeros(context, dtype=torch.long)
    ids[: len(PROMPT_IDS)] = torch.tensor(PROMPT_IDS)
    base = token_embedding[ids].expand(len(tokens), -1, -1)
    return torch.cat(
        [base[:, : TOKEN_ROWS.start], tokens.to(base.dtype), base[:, TOKEN_ROWS.stop :]], 1
    )


def all_logits(image, text):
    """Return 100 times the cosines (B, C, K) of image (B, D) and text (C, K, D) vectors."""
    image = image / image.norm(dim=-1, keepdim=True)
    text = text / text.norm(dim=-1, keepdim=True)
    return torch.einsum('bd,ckd->bck', image, text) / 0.01


def class_scores(image, text):
    return all_logits(image, text).mean(-1)


def margin_logits(logits, labels):
    own = F.one_hot(labels, logits.shape[1]).bool()
    return torch.where(own, logits.min(-1).values, logits.max(-1).values)


def fine_logits(logits, labels):
    """Select the fine-grained logits, (B, C, K) -> (B, 1 + (C - 1) * K).

    The first is the largest logit of the true class; the logits of the other classes follow.
    """
    rows = []
    for sample, y in zip(logits, labels.tolist()):
        others = torch.cat([sample[:y], sample[y + 1 :]]).reshape(-1)
        rows.append(torch.cat([sample[y].max(-1).values.reshape(1), others]))
    return torch.stack(rows)


@torch.no_grad()
def sample_weights(logits, labels):
    """Compute the weight (alpha) of each sample from the counts of this batch."""
    b, c, k = logits.shape
    best = logits.max(-1).indices[torch.arange(b), labels]
    counts = torch.zeros(c, k, dtype=logits.dtype, device=logits.device)
    counts.index_put_(
        (labels, best), torch.ones(b, dtype=logits.dtype, device=logits.device), accumulate=True
    )
    counts = torch.where(counts == 0, torch.full_like(counts, -1 / 99), counts)
    mine = counts[labels]  # (B, K)
    picked = (1 / mine).softmax(-1).gather(1, best[:, None])[:, 0]
    return mine.sum(-1) * picked / mine.gather(1, best[:, None])[:, 0]


def losses(image, text, labels):
    """Return a dict of the losses (margin, fine, total) and of the weights (alpha)."""
    logits = all_logits(image, text)
    margin = F.cross_entropy(margin_logits(logits, labels), labels)
    alpha = sample_weights(logits, labels)
    fine = (
        alpha
        * F.cross_entropy(fine_logits(logits, labels), torch.zeros_like(labels), reduction='none')
    ).mean()
    return dict(margin=margin, fine=fine, total=margin + fine, alpha=alpha)
