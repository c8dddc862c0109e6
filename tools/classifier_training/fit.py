"""The fit: softmax over the task classes and one logistic head for the risk, regularized, by L-BFGS."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is chosen by leaving sources out."""

    penalty: float = 1.0  # of the squared weights, divided by the number of rows
    iterations: int = 50  # few: stopping early regularizes too
    smoothing: float = 0.05  # of the labels: 5 to 8 in a hundred are arguable
    dense_scale: float = 0.12  # of the features made by hand, against the hashed ones
    vector_scale: float = 0.3  # of the word vectors
    own_weight: float = 20.0  # of the prompts written for this project, against all of one class from elsewhere
    least_rows: int = 3  # a bucket that fewer rows use is left out


@dataclass(frozen=True, slots=True)
class Fitted:
    """Weights for the sparse and the dense part, and the bias; the last output is the risk."""

    sparse: Floats
    dense: Floats
    bias: Floats

    def scores(self, sparse: csr_matrix, dense: Floats) -> Floats:
        return sparse @ self.sparse + dense @ self.dense + self.bias


def fit(
    sparse: csr_matrix,
    dense: Floats,
    task: NDArray[np.int64],
    fp8: NDArray[np.bool_],
    weight: Floats,
    settings: Settings,
) -> Fitted:
    """Minimizes the weighted cross-entropies of class and risk."""
    rows, hashed = sparse.shape
    classes = int(task.max()) + 1
    outputs = classes + 1
    target = np.full((rows, classes), settings.smoothing / classes, np.float32)
    target[np.arange(rows), task] += 1 - settings.smoothing
    risk_target = (fp8 * (1 - settings.smoothing) + settings.smoothing / 2).astype(np.float32)
    weight = (weight / weight.sum()).astype(np.float32)
    across = sparse.T.tocsr()
    penalty = settings.penalty / rows

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        packed = flat.astype(np.float32)
        matrix, bias = packed[:-outputs].reshape(-1, outputs), packed[-outputs:]
        total = sparse @ matrix[:hashed] + dense @ matrix[hashed:] + bias
        shifted = total[:, :-1] - total[:, :-1].max(1, keepdims=True)
        raised = np.exp(shifted)
        sums = raised.sum(1, keepdims=True)
        of_class = -(target * (shifted - np.log(sums))).sum(1)
        odds = total[:, -1]
        of_risk = np.logaddexp(0, odds) - risk_target * odds
        slope = np.empty_like(total)
        slope[:, :-1] = weight[:, None] * (raised / sums - target)
        slope[:, -1] = weight * (1 / (1 + np.exp(-odds)) - risk_target)
        gradient = np.concatenate([across @ slope, dense.T @ slope]) + penalty * matrix
        value = float((weight * (of_class + of_risk)).sum()) + 0.5 * penalty * float((matrix**2).sum())
        return value, np.concatenate([gradient.ravel(), slope.sum(0)]).astype(np.float64)

    start = np.zeros((hashed + dense.shape[1] + 1) * outputs)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": settings.iterations, "maxcor": 8})
    matrix = found.x[:-outputs].reshape(-1, outputs).astype(np.float32)
    return Fitted(matrix[:hashed], matrix[hashed:], found.x[-outputs:].astype(np.float32))
