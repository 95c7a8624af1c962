"""The ``gateway`` command with the real treatment of metadata and its gates, and no models: pixels pass unseen."""

import sys

from gateway import cli, treatment

if __name__ == "__main__":
    cli.build_treatment = treatment.build_metadata_only  # type: ignore[assignment]
    sys.exit(cli.main())
