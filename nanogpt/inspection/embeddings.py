"""The embeddings of tokens: which are alike, and a map of them."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nanogpt.errors import UserError

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel


def embeddings_of(model: "LanguageModel") -> NDArray[np.float32]:
    """Return the vector of each token (V, C).

    Raise `UserError` for an architecture without them, and for vectors that are not finite.
    """
    from nanogpt.inspection.layers import check_finite

    if not model.config.capabilities.embeddings:
        raise UserError(f"embeddings are not shown for the architecture {model.config.name}")
    vectors = model.token_embeddings().detach()
    check_finite([vectors])
    return vectors.float().cpu().numpy()


def nearest_tokens(embeddings: NDArray[np.float32], id: int, k: int = 10) -> list[tuple[int, float]]:
    """Return the k tokens with the highest cosine similarity to a token, and the similarity (-1 to 1); not itself."""
    norms = np.maximum(np.linalg.norm(embeddings, axis=1), 1e-12)
    similarity = embeddings @ embeddings[id] / (norms * norms[id])
    similarity[id] = -np.inf
    order = np.argsort(-similarity)[: min(k, len(embeddings) - 1)]
    return [(int(each), float(similarity[each])) for each in order]


def map_of(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Return two coordinates for each token (V, 2), and the share of the variance that they show (0 to 1).

    They are the first two principal components. Their sign is chosen so that the largest coordinate is positive. The
    second coordinate is 0 if there is one component only.
    """
    centred = embeddings - embeddings.mean(0)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    points = centred @ vectors[:2].T
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    for column in points.T:
        column *= 1 if column[np.abs(column).argmax()] >= 0 else -1
    total = float((values**2).sum())
    return points.astype(np.float32), float((values[:2] ** 2).sum()) / total if total else 0.0
