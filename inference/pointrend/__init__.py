"""PointRend, semantic variant, in plain PyTorch; parameter names are detectron2's."""
