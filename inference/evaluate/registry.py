"""Every method by its name, and how each is made."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.data import DataError
from inference.evaluate import generators, methods, ours, painters
from inference.evaluate.methods import Method
from inference.evaluate.options import ABLATIONS, METHODS


def make(names: Sequence[str], bundle: Path, weights: Mapping[str, Path]) -> list[Method]:
    """The methods with these names, ready.

    Parameters
    ----------
    names
        Of :data:`inference.evaluate.options.METHODS`, each once.
    bundle
        Whose method ``anoskin`` is.
    weights
        Folder of each of them that takes some; of an ablation a bundle, a pipeline or a LoRA.

    Raises
    ------
    DataError
        A name is unknown or given twice, or weights are missing (the message says what to fetch), or would not be used.
    inference.bundle.BundleError
        A bundle is not whole.
    """
    wrong = [name for name in {*names, *weights} if name not in METHODS]
    if wrong or len(set(names)) != len(names):
        what = f"There is no method {', '.join(sorted(wrong))}" if wrong else "A method is named twice"
        raise DataError(f"{what}; the methods are {', '.join(METHODS)}.")
    unused = [name for name in weights if name not in names or name in methods.simple()]
    if unused:
        why = "takes none" if unused[0] in names else "is not among --methods"
        raise DataError(f"--weights names {unused[0]}, which {why}.")
    return [_made(name, bundle, weights.get(name)) for name in names]


def _made(name: str, bundle: Path, folder: Path | None) -> Method:
    simple = methods.simple()
    if name in simple:
        return simple[name]()
    if name == "deepprivacy":
        return generators.DeepPrivacy(folder)
    if name == "anonfaces":
        return generators.AnonFaces(folder)
    if name in painters.PAINTERS:
        return painters.PlainInpainting(name, folder)
    if name in ABLATIONS and folder is None:
        raise DataError(
            f"{name} needs a bundle, a pipeline or a LoRA for its UNet that was trained without that loss: set the "
            f"loss's weight to 0, train, and give the folder as --weights {name}=FOLDER."
        )
    return ours.load(name, bundle, folder, ours.ATTEMPTS if name == "anoskin" else 1)
