"""Triton servers and their health: which one is asked, what a failure means, and how a dead model comes back.

A server whose models died goes on calling itself ready. So a model that has not answered for a while is asked
something small before a photograph is sent to it; and one that answers with an internal error is unloaded and loaded
again. A server that does not answer is left alone for a moment, then longer; meanwhile the others are asked.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from inference.contract import Unavailable
from inference.shared import LOCAL_HOSTS, Regions
from inference.wire import BUNDLE

PROVEN_S = 10.0
"""An answer proves for this long that the model is alive."""
HEALTH_S = 2.0
UNLOAD_S = 15.0
RELOAD_S = 120.0
TRIES = 3
"""Of one question to one server whose model had to be brought back meanwhile."""
REST_S = (0.5, 5.0)
"""Shortest and longest time that a server is left alone after a failure; it doubles each time."""
LONGEST_REASON = 200
"""Characters of a server's own words that are passed on."""
# In milliseconds: a server that comes back is found within a second.
RECONNECT = {"initial": 200, "min": 200, "max": 1000}

Told = Callable[..., None]
"""Hears of an event by its name, with fields: ``models.away``, ``models.back``, ``models.revived``."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms servers are asked.

    Attributes
    ----------
    deadline_s
        Longest wait for one answer.
    shared_memory
        Share memory with servers on this machine.
    certificate
        PEM of the authority that signed the servers' certificates; ``None`` speaks without TLS.
    told
        Hears of servers that go away and come back.
    """

    deadline_s: float
    shared_memory: bool = True
    certificate: bytes | None = None
    told: Told = field(default=lambda _event, **_fields: None)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What a model is asked: tensors of :mod:`inference.wire`.

    Attributes
    ----------
    model
        Name on the server.
    digest
        Of the part of the bundle that has to answer.
    inputs
        Arrays by tensor name.
    output, shape, dtype
        Name, shape and type of the answer.
    """

    model: str
    digest: str
    inputs: Mapping[str, NDArray[Any]]
    output: str
    shape: tuple[int, ...]
    dtype: type

    @property
    def size_bytes(self) -> int:
        """Bytes of all inputs and of the answer."""
        answer = int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        return sum(array.nbytes for array in self.inputs.values()) + answer


class _Away(Exception):
    """The server does not answer this now."""


class _Sick(Exception):
    """The model failed inside; it may be dead."""


class _Declined(Exception):
    """The server cannot take this question."""


class Endpoint:
    """One server.

    Parameters
    ----------
    url
        ``host:port`` of its gRPC service.
    terms
        How it is asked.
    """

    def __init__(self, url: str, terms: Terms) -> None:
        longest = 2**31 - 1
        self.url = url
        self.in_flight = 0
        self._terms = terms
        self._client = InferenceServerClient(
            url,
            creds=_credentials(terms.certificate),
            channel_args=[
                ("grpc.max_send_message_length", longest),
                ("grpc.max_receive_message_length", longest),
                *((f"grpc.{name}_reconnect_backoff_ms", value) for name, value in RECONNECT.items()),
            ],
        )
        near = url.rsplit(":", 1)[0] in LOCAL_HOSTS
        self._regions = Regions(self._client, wanted=terms.shared_memory and near)
        self._checking = threading.Lock()  # held while a model is checked or brought back
        self._proven: dict[str, float] = {}
        self._revivals: dict[str, int] = {}
        self._failures = 0
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        """Whether it is left alone after a failure."""
        return time.monotonic() < self._rests_until

    @property
    def checks(self) -> bool:
        """Whether a model of it is being checked or brought back, so that an answer has to wait."""
        return self._checking.locked()

    def ask(self, question: Question, probe: Question) -> NDArray[Any]:
        """The answer; ``probe`` is a small question to the same model, by which its health is known.

        Raises
        ------
        _Away
            It does not answer now.
        ValueError
            The model is well and cannot take this question.
        """
        model = question.model
        for _ in range(TRIES):
            with self._checking:
                revivals = self._revivals.get(model, 0)
                if time.monotonic() - self._proven.get(model, -PROVEN_S) >= PROVEN_S:
                    self._check(probe)
            try:
                return self._answer(question)
            except _Sick as error:
                self._revive(probe, revivals, dead="Stub process" in str(error))
            except _Declined as error:
                self._still_declines(probe)
                raise ValueError(f"the model {model} cannot take this: {error}") from error
            except _Away:
                if revivals == self._revivals.get(model, 0) and not self._checking.locked():
                    raise
        raise _Away(f"{model} fails again and again")

    def fail(self, reason: str) -> None:
        """Leave it alone for a while."""
        shortest, longest = REST_S
        self._rests_until = time.monotonic() + min(shortest * 2**self._failures, longest)
        self._failures = min(self._failures + 1, 10)
        self._proven.clear()
        self._regions.forget()
        if self._failures == 1:
            self._terms.told("models.away", endpoint=self.url, reason=reason)

    def close(self) -> None:
        """Let go of the server."""
        self._regions.close()
        self._client.close()

    def _check(self, probe: Question) -> None:
        """Return when the model has answered something small, having brought it back where it was dead or not there.

        Raises
        ------
        _Away
            It cannot be brought back.
        """
        with self._translated(probe):
            if not self._client.is_server_live(client_timeout=HEALTH_S):
                raise _Away("it is not ready")
            there = self._client.is_model_ready(probe.model, client_timeout=HEALTH_S)
        try:
            if there:
                self._answer(probe)
            else:
                self._load(probe)
        except _Sick:
            self._reload(probe)
        except _Declined as error:
            raise _Away(f"{probe.model} does not understand the gateway: {error}") from error

    def _still_declines(self, probe: Question) -> None:
        """Return if the model answers the probe, so that it was the question's own fault."""
        with self._checking:
            self._check(probe)

    def _revive(self, probe: Question, revivals: int, *, dead: bool) -> None:
        """Bring a model back that failed inside, unless that was done meanwhile, or it is well after all."""
        with self._checking:
            if self._revivals.get(probe.model, 0) != revivals:
                return
            if dead:
                self._reload(probe)
            else:
                self._check(probe)

    def _reload(self, probe: Question) -> None:
        try:
            with self._translated(probe):
                self._client.unload_model(probe.model, client_timeout=UNLOAD_S)
            self._load(probe)
        except (_Sick, _Declined) as error:
            raise _Away(f"{probe.model} is dead and could not be loaded again: {error}") from error

    def _load(self, probe: Question) -> None:
        begun = time.monotonic()
        with self._translated(probe):
            self._client.load_model(probe.model, client_timeout=RELOAD_S)
        self._answer(probe)
        self._revivals[probe.model] = self._revivals.get(probe.model, 0) + 1
        seconds = round(time.monotonic() - begun, 3)
        self._terms.told("models.revived", endpoint=self.url, model=probe.model, seconds=seconds)

    def _answer(self, question: Question) -> NDArray[Any]:
        inputs = [
            InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            for name, array in question.inputs.items()
        ]
        output = InferRequestedOutput(question.output)
        region = self._regions.take(question.size_bytes)
        start = 0
        if region is None:
            for given in inputs:
                given.set_data_from_numpy(question.inputs[given.name()])
        else:
            start = region.write(inputs, question.inputs)
            region.expect(output, start, question.size_bytes - start)
        with self._translated(question):
            result = self._client.infer(
                question.model,
                inputs,
                outputs=[output],
                parameters={BUNDLE: question.digest},
                client_timeout=self._terms.deadline_s,
                timeout=int(self._terms.deadline_s * 1e6),
            )
        shape = tuple(int(length) for length in result.get_output(question.output).shape)
        if shape != question.shape:
            raise _Away(f"{question.model} answers in another shape")
        if region is None:
            answer: NDArray[Any] = np.asarray(result.as_numpy(question.output), question.dtype)
        else:
            answer = region.read(start, question.shape, np.dtype(question.dtype))
            self._regions.give_back(region)
        if self._failures:
            self._failures = 0
            self._terms.told("models.back", endpoint=self.url)
        self._proven[question.model] = time.monotonic()
        return answer

    @contextlib.contextmanager
    def _translated(self, question: Question) -> Iterator[None]:
        """What the client raises, as what it means.

        Raises
        ------
        _Sick, _Declined, _Away
            See each.
        """
        try:
            yield
        except InferenceServerException as error:
            status = str(error.status()).removeprefix("StatusCode.")
            if status == "INTERNAL":
                raise _Sick(error.message()) from error
            if status == "INVALID_ARGUMENT":
                raise _Declined(error.message()) from error
            words = " ".join(error.message().split())[:LONGEST_REASON]
            raise _Away(f"{question.model}: {status.lower().replace('_', ' ')}, {words}") from error


class Endpoints:
    """Servers that serve the same models.

    Parameters
    ----------
    urls
        ``host:port`` of each.
    terms
        How they are asked.
    """

    def __init__(self, urls: Sequence[str], terms: Terms) -> None:
        self._endpoints = [Endpoint(url, terms) for url in urls]
        self._turn = 0
        self._lock = threading.Lock()

    def ask(self, question: Question, probe: Question) -> NDArray[Any]:
        """The answer of the least busy server that gives one.

        Raises
        ------
        Unavailable
            None does now; the message says why, for each.
        ValueError
            The model cannot take this question.
        """
        reasons = []
        for endpoint in self._in_order():
            if endpoint.rests:
                reasons.append(f"{endpoint.url} failed a moment ago")
                continue
            self._count(endpoint, 1)
            try:
                return endpoint.ask(question, probe)
            except _Away as error:
                endpoint.fail(str(error))
                reasons.append(f"{endpoint.url}: {error}")
            finally:
                self._count(endpoint, -1)
        raise Unavailable(f"no Triton server answers: {'; '.join(reasons)}")

    def close(self) -> None:
        """Let go of all servers."""
        for endpoint in self._endpoints:
            endpoint.close()

    def _count(self, endpoint: Endpoint, change: int) -> None:
        with self._lock:
            endpoint.in_flight += change

    def _in_order(self) -> list[Endpoint]:
        """Least busy first, those that bring a model back last; among equals each in its turn."""
        with self._lock:
            self._turn += 1
            turn = self._turn % len(self._endpoints)
        rotated = self._endpoints[turn:] + self._endpoints[:turn]
        return sorted(rotated, key=lambda endpoint: (endpoint.checks, endpoint.in_flight))


def _credentials(certificate: bytes | None) -> Any:
    if certificate is None:
        return None
    import grpc

    return grpc.ssl_channel_credentials(root_certificates=certificate)
