"""The clinical score: how well people can read the disease on results, from 1 (not at all) to 5 (as ever)."""

from pathlib import Path

import numpy as np

from inference.data import DataError
from inference.data.manifest import table
from inference.evaluate import statistics
from inference.evaluate.metrics import Measured

COLUMNS = ("method", "image", "rating")


def read_ratings(file: Path) -> dict[str, dict[str, Measured]]:
    """The mean rating of each method as its metric ``clinical``, with its interval over pictures.

    Parameters
    ----------
    file
        CSV with the columns of :data:`COLUMNS`; several rows may rate one picture. A rating is a number in [1, 5].

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, or holds a rating outside [1, 5].
    """
    given: dict[str, tuple[list[float], list[str]]] = {}
    for number, row in enumerate(table(file, COLUMNS), start=2):
        try:
            rating = float(row["rating"])
        except ValueError:
            rating = float("nan")
        if not 1 <= rating <= 5:
            raise DataError(
                f"{file.name}, row {number}: {row['rating']!r} is no rating; it must be from 1 to 5."
            )
        values, pictures = given.setdefault(row["method"], ([], []))
        values.append(rating)
        pictures.append(row["image"])
    return {
        method: {
            "clinical": Measured(
                {"clinical": statistics.mean(np.array(values), pictures)}, {"clinical": values}, pictures
            )
        }
        for method, (values, pictures) in given.items()
    }
