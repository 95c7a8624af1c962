"""Paints lesions with a known mask onto any skin."""
