"""Ranking: one request with what all candidates share given once, and an answer with the best first.

The parameter `rank` of a V2 request says how many of the candidates are wanted. An input of one row then
stands for all rows; the rows of the answer are the best, and the output `candidate` says which of the
request's rows each of them is.
"""

import numpy as np

from slipway.serving.errors import RequestError
from slipway.serving.protocol.tensors import InputTensor

CANDIDATE = "candidate"


def read_rank(parameters: object) -> int | None:
    """How many candidates a request wants; None: it does not rank.

    Raises:
        RequestError: 400, it is no whole number of 1 or more.
    """
    rank = parameters.get("rank") if type(parameters) is dict else None
    if rank is not None and (type(rank) is not int or rank < 1):
        raise RequestError("The parameter 'rank' must be a whole number: how many are wanted.")
    return rank


def spread(tensors: object, most_rows: int) -> object:
    """The inputs with those of one row repeated for each candidate.

    What is wrong with them is left as it is: who reads the rows says it.

    Args:
        tensors: of the request, as they came.
        most_rows: of a request; of more nothing is repeated.
    """
    if type(tensors) is not list:
        return tensors
    rows = max((_rows(tensor) for tensor in tensors), default=0)
    if not 1 < rows <= most_rows:
        return tensors
    return [_repeated(tensor, rows) if _rows(tensor) == 1 else tensor for tensor in tensors]


def _rows(tensor: object) -> int:
    data = tensor.get("data") if type(tensor) is dict else None
    return len(data) if isinstance(data, list | np.ndarray) and np.ndim(data) == 1 else 0


def _repeated(tensor: InputTensor, rows: int) -> InputTensor:
    data = tensor["data"]
    many = data * rows if type(data) is list else np.repeat(data, rows)
    shape = tensor.get("shape")
    return {**tensor, "data": many, "shape": [rows] if shape == [1] else shape}


def best(scores: np.ndarray, rank: int) -> np.ndarray:
    """The places of the highest scores, the highest first; of equal ones the first candidate.

    Args:
        scores: float [N].
        rank: how many are wanted.

    Returns:
        int64 [min(rank, N)].
    """
    return np.argsort(-scores.astype(np.float64), kind="stable")[:rank]


def score_of(served: dict[str, np.ndarray]) -> np.ndarray:
    """What a model's outputs are ranked by: a probability or a number, float [N].

    Raises:
        RequestError: 400, the model answers with several classes.
    """
    if "probabilities" not in served:
        return served["probability" if "probability" in served else "value"]
    raise RequestError("The model has several classes, which give no one order: leave 'rank' out.")
