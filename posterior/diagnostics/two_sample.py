"""Do two sets of draws have one law? The accuracy of a classifier between them (C2ST)."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor

from infield.core.eigenvectors import with_fixed_signs
from infield.core.errors import InfieldError


def classifier_accuracy(
    samples: Tensor, reference: Tensor, *, components: int = 64, folds: int = 5, seed: int = 0
) -> float:
    """Classifier two-sample test: how often a classifier names the right set of a draw.

    Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests" (arXiv 1610.06545). 0.5 where the laws are equal,
    with a standard deviation by chance of about 0.5 / sqrt(2 n); 1 where they share nothing; differences that it misses
    may still be there, so it is a lower bound of the difference. Accuracy over `folds` held-out folds of
    gradient-boosted trees (scikit-learn's `HistGradientBoostingClassifier`).

    Fields are first projected on the leading principal components of both sets together, each scaled to variance one,
    which keeps rough and smooth parts alike at a cost that does not grow with the grid. Both sets together, because
    components of the reference alone would let the classifier detect that it was whitened and the other set was not.
    Differences outside these components are not seen.

    Arguments:
        samples: Draws, shape `(n, *event)`.
        reference: As many draws of the right law, shape `(n, *event)`.
        components: Principal components that are kept, fewer where the draws have fewer.
        folds: Folds of the cross-validation; every draw is judged by a classifier that has not seen it.
        seed: Of the folds; the same seed gives the same number.

    Raises:
        InfieldError: If the sets differ in size or shape, hold fewer than four draws a fold, or a number is not finite.
    """
    if samples.shape != reference.shape or len(samples) < 4 * folds:
        raise InfieldError(
            where="two-sample test",
            found=f"draws of shapes {tuple(samples.shape)} and {tuple(reference.shape)}",
            expected=f"equal ones of at least {4 * folds} draws",
        )
    pooled = torch.cat([samples, reference]).flatten(1).to(torch.float64)
    if not pooled.isfinite().all():
        raise InfieldError(where="two-sample test", found="NaN or Inf among the draws", expected="finite numbers")
    x = principal_components(pooled, components)
    label = np.repeat([0, 1], len(samples))
    classifier = HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=15, random_state=seed)
    cross_validation = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(cross_val_score(classifier, x.numpy(force=True), label, cv=cross_validation).mean())


def principal_components(x: Tensor, count: int) -> Tensor:
    """Coordinates along the leading principal components, scaled to mean 0 and variance 1.

    Arguments:
        x: Shape `(n, values)`.
        count: Components to keep; those that hold no variance are left out.

    Returns:
        Shape `(n, at most count)`.
    """
    U, S, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = min(count, int((S > 1e-7 * S[0]).sum()))
    return with_fixed_signs(U[:, :kept]) * (len(x) - 1) ** 0.5
