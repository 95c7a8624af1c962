"""The clinical score: how well people can read the disease on results, from 1 (not at all) to 5 (as ever)."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from inference.data import DataError
from inference.data.manifest import Photograph, table
from inference.evaluate import statistics
from inference.evaluate.metrics import Measured

COLUMNS = ("method", "image", "rating")


def read_ratings(
    file: Path, methods: Sequence[str], photographs: Sequence[Photograph]
) -> dict[str, dict[str, Measured]]:
    """The mean rating of each method as its metric ``clinical``, with its interval over patients.

    Parameters
    ----------
    file
        CSV with the columns of :data:`COLUMNS`; several rows may rate one picture. An image is named by its path or the
        end of it, with or without suffix. A rating is a number in [1, 5].
    methods, photographs
        Those that are compared, none else may be rated.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, has no row, or one with another method or photograph, with an image
        that several photographs are called, or with a rating outside [1, 5].
    """
    called = _called(photographs)
    rated: dict[str, list[tuple[Photograph, float]]] = {}
    for number, row in enumerate(table(file, COLUMNS), start=2):
        where = f"{file.name}, row {number}"
        try:
            rating = float(row["rating"])
        except ValueError:
            rating = float("nan")
        if not 1 <= rating <= 5:
            raise DataError(f"{where}: {row['rating']!r} is no rating; it must be from 1 to 5.")
        if row["method"] not in methods:
            raise DataError(
                f"{where}: {row['method']!r} is not among --methods; take the row out, or name it there."
            )
        meant = called.get(PurePath(row["image"]).as_posix(), [])
        if len(meant) != 1:
            what = "several photographs are called so; write its path as the manifest does" if meant else (
                "no photograph that is compared is called so; correct it, or take the row out"
            )  # fmt: skip
            raise DataError(f"{where}: {row['image']!r}: {what}.")
        rated.setdefault(row["method"], []).append((meant[0], rating))
    if not rated:
        raise DataError(f"{file.name} holds no rating.")
    return {method: {"clinical": _measured(rows)} for method, rows in rated.items()}


def _called(photographs: Iterable[Photograph]) -> dict[str, list[Photograph]]:
    """The photographs by everything that a table of ratings may call them."""
    called: dict[str, list[Photograph]] = {}
    for one in photographs:
        paths: set[PurePath] = {one.image, one.image.with_suffix("")}
        names = {
            PurePath(*path.parts[-depth:]).as_posix()
            for path in paths
            for depth in range(1, len(path.parts) + 1)
        }
        for name in {one.name, *names}:
            called.setdefault(name, []).append(one)
    return called


def _measured(rows: Sequence[tuple[Photograph, float]]) -> Measured:
    ratings, patients = [rating for _, rating in rows], [one.patient for one, _ in rows]
    mean = statistics.mean(ratings, patients)
    return Measured({"clinical": mean}, {"clinical": ratings}, patients, [one.name for one, _ in rows])
