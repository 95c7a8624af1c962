"""The crosswalk: originals by their pseudonyms, encrypted, for those who may re-identify; off unless asked for.

Pseudonyms need no table (:mod:`gateway.pseudonym`), so this one can be lost without harm. Each entry is sealed by
AES-256-GCM under a key of its own, which is not the pseudonym key; the pseudonym it belongs to is authenticated with
it, so that an entry cannot be put under another pseudonym. What lies open is the pseudonyms, which the archive has
too, and the name of the pseudonym key, so that an entry can be told from one of another key.
"""

import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from gateway import part10, schema
from gateway.errors import Held, Misconfigured
from gateway.identities import Patient, accession_issuer, scoped_identifier, text_of
from gateway.pseudonym import Pseudonyms

NONCE_BYTES = 12
ATTRIBUTES = (
    "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientName", "PatientBirthDate",
    "PatientSex", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "StudyID", "SpecificCharacterSet",
)  # fmt: skip

_TABLES = sa.MetaData()
_LINKS = sa.Table(
    "crosswalk",
    _TABLES,
    sa.Column("pseudonym", sa.String(64), primary_key=True),
    sa.Column("key_name", sa.String(16), nullable=False),
    sa.Column("nonce", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)


class Broken(Held):
    """An entry cannot be opened with this key: it is another key's, or was changed."""


@dataclass(frozen=True, slots=True)
class Original:
    """What one pseudonym stands for.

    Attributes
    ----------
    kind
        ``patient``, ``accession``, ``study id``, ``study``, ``series`` or ``instance``.
    value
        The original value.
    issuer
        Who gave it, where that is known.
    name
        The patient's name, for patients.
    """

    kind: str
    value: str
    issuer: str = ""
    name: str = ""


class Crosswalk:
    """The table and the key that opens its entries.

    Parameters
    ----------
    url
        SQLAlchemy URL of the database.
    key
        The secret; not the one of the pseudonyms.

    Raises
    ------
    Misconfigured
        The library ``cryptography`` is not installed.
    """

    def __init__(self, url: str, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise Misconfigured("the crosswalk needs: pip install 'anoskin-gateway[crosswalk]'") from error
        self._cipher = AESGCM(hmac.digest(key, b"crosswalk", sha256))
        self._engine = schema.engine(url)
        with schema.translated():
            _TABLES.create_all(self._engine)

    def note(self, links: Mapping[str, Original], key_name: str) -> None:
        """Add what is not there yet.

        Parameters
        ----------
        links
            Original by pseudonym.
        key_name
            :attr:`~gateway.pseudonym.Pseudonyms.key_name` of the key that made them.

        Raises
        ------
        Postponed
            The database cannot be used now.
        """
        with schema.translated():
            with self._engine.connect() as connection:
                known = set(
                    connection.scalars(
                        sa.select(_LINKS.c.pseudonym).where(_LINKS.c.pseudonym.in_(list(links)))
                    )
                )
            for pseudonym in links.keys() - known:
                nonce = os.urandom(NONCE_BYTES)
                text = json.dumps(asdict(links[pseudonym]), ensure_ascii=False).encode("utf-8")
                row = {
                    "pseudonym": pseudonym,
                    "key_name": key_name,
                    "nonce": nonce,
                    "sealed": self._cipher.encrypt(nonce, text, pseudonym.encode("utf-8")),
                }
                try:
                    with self._engine.begin() as connection:
                        connection.execute(sa.insert(_LINKS).values(row))
                except exc.IntegrityError:
                    continue  # somebody else was faster, and wrote the same

    def look_up(self, pseudonym: str) -> Original | None:
        """What ``pseudonym`` stands for; ``None`` where it is not known here.

        Raises
        ------
        Broken
            ``crosswalk``: the entry cannot be opened with this key.
        Postponed
            The database cannot be used now.
        """
        from cryptography.exceptions import InvalidTag

        with schema.translated(), self._engine.connect() as connection:
            row = connection.execute(sa.select(_LINKS).where(_LINKS.c.pseudonym == pseudonym)).one_or_none()
        if row is None:
            return None
        try:
            text = self._cipher.decrypt(row.nonce, row.sealed, pseudonym.encode("utf-8"))
        except InvalidTag as error:
            raise Broken(
                "crosswalk", "the entry cannot be opened: another key sealed it, or it was changed"
            ) from error
        return Original(**json.loads(text))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@dataclass(frozen=True, slots=True)
class Recorder:
    """Notes the originals of every object that was cleared.

    Attributes
    ----------
    crosswalk
        Where.
    pseudonyms
        The site's keyed functions.
    issuer
        Who gave the Patient IDs that name no issuer.
    """

    crosswalk: Crosswalk
    pseudonyms: Pseudonyms
    issuer: str

    def __call__(self, original: Path) -> None:
        """Note one original.

        Raises
        ------
        Held, Postponed
            It cannot be read, or not be noted now.
        """
        ds = part10.peek(original, ATTRIBUTES)
        patient, pseudonyms = Patient.of(ds, self.issuer), self.pseudonyms
        links = {
            patient.pseudonym(pseudonyms): Original(
                "patient", patient.value, patient.issuer, text_of(ds, 0x00100010)
            )
        }
        for tag, kind, issuer in (
            (0x00080050, "accession", accession_issuer(ds) or patient.issuer),
            (0x00200010, "study id", ""),
        ):
            if value := text_of(ds, tag):
                links[scoped_identifier(ds, tag, value, patient, pseudonyms) or ""] = Original(
                    kind, value, issuer
                )
        for tag, kind in ((0x0020000D, "study"), (0x0020000E, "series"), (0x00080018, "instance")):
            if value := text_of(ds, tag):
                links[str(pseudonyms.uid(value))] = Original(kind, value)
        self.crosswalk.note(links, pseudonyms.key_name)
