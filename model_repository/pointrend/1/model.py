"""Triton's side of the model; what it does stands in :mod:`inference.serving`."""

from typing import Any

import triton_python_backend_utils as backend

from inference.serving import load, respond


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the part of the bundle that lies beside this file."""
        self._served = load(args)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests that Triton gathered, in their order."""
        return respond(backend, self._served, requests)
