"""The ``gateway`` command: parse, wire, run."""

import argparse
import getpass
import json
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gateway import log, settings
from gateway.audit import Tampered, Trail
from gateway.errors import GatewayError, Misconfigured
from gateway.instance import State
from gateway.ledger import IllegalTransition, Ledger
from gateway.pseudonym import is_pseudonym
from gateway.schema import InstanceId, sqlite_url
from gateway.settings import Settings
from gateway.spool import Spool

if TYPE_CHECKING:
    from gateway.stages import Treat
    from inference.contract import Models

MIB = 1 << 20
CONF = Path("conf/gateway.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit status 0 for success, 1 for a finding, 2 for a wrong call or configuration.

    ``deidentify`` has 3 for a folder of which something was held or refused.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except Misconfigured as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="De-identifies clinical photographs on their way from a PACS to a research archive.",
        epilog="Begin with: gateway init, then gateway serve. To see it: gateway demo --out demo-output. Every command "
        "tells its options: gateway COMMAND --help. Settings are explained in docs/settings.md, states and reasons in "
        "docs/operations.md.",
    )
    parser.add_argument(
        "--version", action="version", version=f"anoskin-gateway {version('anoskin-gateway')}"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if name != "demo":
            sub.add_argument(
                "--conf",
                type=Path,
                metavar="FILE",
                help=f"the configuration (default: {CONF})",
            )
        return sub

    add("init", _init, "Create the folders and the key that an installation needs.")
    add("serve", _serve, "Receive, treat and forward until told to stop (SIGTERM or Ctrl-C).")
    add("status", _status, "Show how many instances are in which state.").add_argument(
        "--json", action="store_true", help="as one JSON object"
    )
    add("held", _held, "List what waits for a person, and why.").add_argument(
        "--json", action="store_true", help="as one JSON list"
    )
    retry = add("retry", _retry, "Have held instances treated again.")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("--held", metavar="REASON", help="all that are held for this reason")
    which.add_argument("--instance", metavar="ID", help="one of them, by its id in 'gateway held'")
    audit = add("audit", _audit, "Check the audit trail.")
    audit.add_argument("action", choices=["verify"], help="read it all and check its chain")
    offline = add("deidentify", _deidentify, "Treat files and folders on this machine, without a network.")
    offline.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="file, folder or DICOMDIR")
    offline.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the clean files go")
    offline.add_argument(
        "--metadata-only", action="store_true", help="leave the pixels as they are, and claim nothing of them"
    )
    offline.add_argument(
        "--profile", metavar="NAME", help="a profile beside the configured one, or a file; default: that one"
    )
    offline.add_argument(
        "--report", type=Path, metavar="FILE.jsonl", help="where the lines go (default: standard output)"
    )
    offline.add_argument(
        "--jobs", type=_number, default=1, metavar="N", help="processes (default: %(default)s)"
    )
    add(
        "lookup", _lookup, "Tell whom a pseudonym stands for; this is noted in the audit trail."
    ).add_argument(
        "pseudonym",
        metavar="PSEUDONYM",
        help="a Patient ID, accession number, study ID or UID of the archive",
    )
    profile = add("profile", _profile, "Show what happens to each attribute, one a line, separated by tabs.")
    profile.add_argument("action", choices=["show"], help="for every attribute that has a rule")
    profile.add_argument(
        "--profile", metavar="NAME", help="a profile beside the configured one, or a file; default: that one"
    )
    profile.add_argument(
        "--option", action="append", metavar="OPTION", help="instead of its options; repeat for several"
    )
    demo = add(
        "demo", _demo, "Show the whole way of a photograph on this machine, with an archive of its own."
    )
    demo.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    return parser


def _number(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError("takes a whole number, 1 or more")
    return int(text)


def _settings(options: argparse.Namespace, *, needed: bool = True) -> Settings:
    """Those of ``--conf``, else of :data:`CONF`; a command that can do without takes them as shipped."""
    if not needed and options.conf is None and not CONF.exists():
        print(
            f"gateway: there is no {CONF} here, so the settings are those that are shipped.", file=sys.stderr
        )
    return settings.load(options.conf or CONF, needed=needed or options.conf is not None)


def _init(options: argparse.Namespace) -> int:
    conf = _settings(options, needed=False)
    conf.ledger.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _spool(conf)
    _make_key(conf.pseudonyms.key_file)
    if conf.crosswalk.enabled:
        _make_key(conf.crosswalk.key_file)
    return 0


def _make_key(file: Path) -> None:
    if file.exists():
        print(f"{file} is there already and stays as it is.")
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(secrets.token_bytes(settings.KEY_BYTES))
    print(f"{file} was created; keep a copy of it in a safe place.")


def _serve(options: argparse.Namespace) -> int:
    # Imported here, because it takes a second that `gateway status` need not wait.
    from gateway import serve

    conf = _settings(options)
    log.configure(conf.log.format, conf.log.level)
    os.umask(0o077)  # what comes here names patients
    serve.run(conf, _ledger(conf), _spool(conf), _trail(conf), partial(build_treatment, conf))
    return 0


def _status(options: argparse.Namespace) -> int:
    counts = _ledger(_settings(options)).counts()
    if options.json:
        print(json.dumps(counts))
        return 0
    table = Table("state", "instances")
    for state, number in counts.items():
        table.add_row(state, str(number))
    Console().print(table)
    return 0


def _held(options: argparse.Namespace) -> int:
    entries = _ledger(_settings(options)).entries(state=State.HELD)
    rows = [
        {
            "instance": entry.id,
            "reason": entry.reason,
            "detail": entry.detail,
            "since": datetime.fromtimestamp(entry.changed_at, UTC).isoformat(timespec="seconds"),
        }
        for entry in entries
    ]
    if options.json:
        print(json.dumps(rows))
        return 0
    if not rows:
        print("Nothing waits for a person.")
        return 0
    table = Table("instance", "reason", "detail", "since")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    return 0


def _retry(options: argparse.Namespace) -> int:
    conf = _settings(options)
    ledger, trail, actor = _ledger(conf), _trail(conf), f"operator:{getpass.getuser()}"
    chosen = ledger.entries(state=State.HELD, reason=options.held)
    if options.instance is not None:
        chosen = [entry for entry in chosen if entry.id == InstanceId(options.instance)]
    if not chosen:
        wanted = f"with the id {options.instance}" if options.instance else f"for the reason {options.held}"
        print(f"gateway: nothing is held {wanted}; see: gateway held", file=sys.stderr)
        return 1
    renewed = 0
    for entry in chosen:
        trail.append(actor, "instance.retried", {"instance": entry.id, "reason": entry.reason})
        try:
            ledger.renew(entry.id, State.HELD, actor)
            renewed += 1
        except IllegalTransition as error:
            print(f"{entry.id} stays held: {error}.", file=sys.stderr)
    print(f"{renewed} of {len(chosen)} held instances will be treated again.")
    return 0 if renewed == len(chosen) else 1


def _audit(options: argparse.Namespace) -> int:
    trail = _trail(_settings(options))
    try:
        head = trail.verify()
    except Tampered as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    print(f"{head.seq} records, unbroken; the last has the digest {head.digest}.")
    return 0


def _deidentify(options: argparse.Namespace) -> int:
    from gateway import offline, treatment

    conf = _settings(options, needed=False)
    conf = conf.offline(_chosen_profile(conf, options.profile))
    found = offline.sources(options.paths, options.out)
    treatment.build_metadata_only(conf)  # says at once what is wrong with the profile or the key
    if options.metadata_only:
        build: Callable[[], Treat] = partial(treatment.build_metadata_only, conf)
    else:
        build = partial(build_treatment, conf)
    lines = offline.run(
        found,
        options.out,
        build,
        jobs=options.jobs,
        limit_s=conf.objects.limit_s,
        alone=options.metadata_only,
    )
    with offline.report(options.report, found) as report:
        return offline.tell(lines, len(found), report, Console(stderr=True))


def _lookup(options: argparse.Namespace) -> int:
    from gateway import treatment

    if not is_pseudonym(options.pseudonym):  # what is no pseudonym may be a patient's name: it goes nowhere
        raise Misconfigured("This is no pseudonym: 16 of the characters A-Z and 2-7, or a UID below 2.25.")
    conf = _settings(options)
    crosswalk = treatment.build_crosswalk(conf)
    if crosswalk is None:
        raise Misconfigured("There is no crosswalk here: [crosswalk] enabled is false.")
    trail, actor, asked = _trail(conf), f"operator:{getpass.getuser()}", {"pseudonym": options.pseudonym}
    trail.append(actor, "crosswalk.asked", asked)  # first, so that nothing is shown that was not noted
    found = crosswalk.look_up(options.pseudonym)
    trail.append(actor, "crosswalk.answered", {**asked, "found": found is not None})
    if found is None:
        print("gateway: this pseudonym is not in the crosswalk.", file=sys.stderr)
        return 1
    print(json.dumps(asdict(found), ensure_ascii=False))
    return 0


def _profile(options: argparse.Namespace) -> int:
    from gateway import profile_files

    conf = _settings(options, needed=False)
    profile = profile_files.load(_chosen_profile(conf, options.profile))
    if options.option is not None:
        profile = replace(profile, options=profile_files.options(options.option))
    print("\n".join(profile_files.shown(profile)))
    return 0


def _chosen_profile(conf: Settings, name: str | None) -> Path:
    from gateway import profile_files

    configured = conf.profile.file
    return profile_files.find(name, configured.parent) if name else configured


def _demo(options: argparse.Namespace) -> int:
    from gateway import demo

    return demo.run(options.out)


def build_treatment(conf: Settings) -> "Treat":
    """The treatment of one object, with the models that the settings choose."""
    from gateway import treatment
    from inference.bundle import BundleError

    try:
        models = _served_models(conf) if conf.models.engine == "triton" else _local_models(conf)
    except BundleError as error:
        raise Misconfigured(str(error)) from error
    return treatment.build_treatment(conf, models)


def _local_models(conf: Settings) -> "Models":
    from inference.local import load_models

    return load_models(
        conf.models.bundle,
        threads=conf.models.threads,
        device=conf.models.device,
        compiled=conf.models.compile,
        words=[conf.pixels.prompt.replace("{disease}", conf.pixels.disease)],
    )


def _served_models(conf: Settings) -> "Models":
    from inference.triton import Terms, load_models

    terms = Terms(conf.triton.deadline_s, conf.triton.shared_memory, conf.triton.certificate(), _told)
    return load_models(conf.models.bundle, conf.triton.endpoints, terms, threads=conf.models.threads)


def _told(event: str, **fields: object) -> None:
    """What happens to the servers, in the log: ``"models.away"``, ``"models.back"`` or ``"models.revived"``."""
    log.get().warning(event, **fields)


def _spool(conf: Settings) -> Spool:
    return Spool(conf.spool.folder, conf.spool.reserve_mb * MIB)


def _ledger(conf: Settings) -> Ledger:
    if not conf.ledger.url and not conf.ledger.folder.is_dir():
        raise Misconfigured(f"{conf.ledger.folder} does not exist; run: gateway init")
    return Ledger(conf.ledger.url or sqlite_url(conf.ledger.folder / "ledger.sqlite"))


def _trail(conf: Settings) -> Trail:
    return Trail(conf.ledger.folder / "audit.jsonl")


if __name__ == "__main__":
    sys.exit(main())
