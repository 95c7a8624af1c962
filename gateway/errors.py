"""The outcomes of a treatment that are not success.

::

    GatewayError
    ├── Misconfigured   the operator must change the configuration; nothing was started
    └── Outcome         ends the treatment of one instance
        ├── Refused     never: this object may not pass this gateway
        ├── Postponed   later: something this gateway depends on is not available
        └── Held        a person must look

Anything else that escapes a treatment is a defect and settles as *held*.
Messages are written for people and carry no value of any DICOM element.
"""


class GatewayError(Exception):
    """Root of everything this gateway raises on purpose."""


class Misconfigured(GatewayError):
    """The configuration is wrong; the message says what to change."""


class Outcome(GatewayError):
    """The end of one instance's treatment, other than success.

    Parameters
    ----------
    reason
        A short, stable code for tables and filters (``"similarity"``, ``"sop-class"``).
    detail
        One sentence for the person who reads it; never a DICOM value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Refused(Outcome):
    """The object may never pass; the reason is kept in the ledger."""


class Postponed(Outcome):
    """A dependency is away (disk, archive, Triton); the same work is tried again later."""


class Held(Outcome):
    """A person must look before anything leaves."""
