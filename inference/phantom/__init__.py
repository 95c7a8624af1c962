"""Paints lesions with a known mask onto any skin, and draws skin where there is no face."""

from inference.phantom.paint import Painted, paint
from inference.phantom.patch import skin_patch

__all__ = ["Painted", "paint", "skin_patch"]
