"""The definition of k-reciprocal re-ranking: plain, dense and slow. The fast form must agree with it to 1e-5.

With N images, queries first, and d(i, j) their squared Euclidean distances as unit vectors:

1. N(i, k) are the k nearest of image i, itself included; of equally near images the lower index comes first.
2. R(i, k) = those j of N(i, k+1) with i in N(j, k+1)                                              (equation 3)
3. R*(i): R(i, k1) and, for every j in it, R(j, k1/2) if more than two thirds of that lie in R(i, k1)  (equation 4).
   k1/2 is rounded to the nearest whole number, halves to the even one: as the published code rounds.
4. V(i, j) = exp(-d(i, j) / max_l d(i, l)) for j in R*(i), else 0; each row is divided by its sum  (equation 7)
5. If k2 > 1, V(i) becomes the mean of V(j) over the k2 nearest j of image i                        (equation 11)
6. J(i, j) = 1 - sum_l min(V(i, l), V(j, l)) / sum_l max(V(i, l), V(j, l)); as the rows of V sum to 1, the sum of the
   maxima is 2 less that of the minima                                                             (equation 10)
7. result(i, j) = (1 - lambda) J(i, j) + lambda d(i, j) / max_l d(i, l), query i, gallery image j   (equation 12)

An image that is in none of its neighbours' lists has no neighbours and a row of zeros in V: J is 1. Where all images
are one point, d / max d is 0.

Reference: Z. Zhong, L. Zheng, D. Cao, S. Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR
2017. Differs from the paper, as the published code does: squared distances divided by each row's maximum, and rows of V
that sum to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rerank_dense(
    distances: NDArray[Any], num_query: int, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> NDArray[np.float64]:
    """Re-ranked distances of queries to gallery by the definition above.

    Args:
        distances: (N, N) squared Euclidean distances of all images, queries first.
        num_query: Q.
        k1, k2, lambda_value: see above; k1 < N, k2 <= N.

    Returns:
        (Q, N - Q) float64, small is near.
    """
    number = len(distances)
    farthest = distances.max(axis=1)
    scaled = np.array([row / most if most > 0 else np.zeros(number) for row, most in zip(distances, farthest)])
    order = [sorted(range(number), key=row.__getitem__) for row in distances.tolist()]  # stable: lower index first

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = np.zeros((number, number))
    for i in range(number):
        own = reciprocal(i, k1)
        grown = set(own)
        for j in own:
            half = reciprocal(j, round(k1 / 2))
            if 3 * len(half & own) > 2 * len(half):
                grown |= half
        members = sorted(grown)
        if members:
            weight = np.exp(-scaled[i, members])
            weights[i, members] = weight / weight.sum()
    if k2 > 1:
        weights = np.array([weights[order[i][:k2]].mean(axis=0) for i in range(number)])

    result = np.empty((num_query, number - num_query))
    for i in range(num_query):
        for j in range(num_query, number):
            common = np.minimum(weights[i], weights[j]).sum()
            jaccard = 1 - common / (2 - common)
            result[i, j - num_query] = (1 - lambda_value) * jaccard + lambda_value * scaled[i, j]
    return result
