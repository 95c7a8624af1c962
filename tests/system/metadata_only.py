"""The ``gateway`` command with the real treatment of metadata and its gates, and no models: pixels pass unseen."""

import sys

from gateway import cli, deidentify

if __name__ == "__main__":
    cli.build_treatment = deidentify.build_metadata_only  # type: ignore[assignment]
    sys.exit(cli.main())
