"""What Hindsight asks of the world outside, as Protocols; each has a real adapter and an in-memory twin.

One contract suite in `tests/contract` holds the adapters and the twins to the same promises.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.types import BlobRef, ReleaseStep
from streams.records import Bounds, Outgoing, Position, Record


class EventLog(Protocol):
    """Reading the log. Everything that looks at the past takes one; it never writes."""

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers of a topic, ascending."""

    def bounds(self, topic: str, partition: int) -> Bounds:
        """Earliest offset kept, and the next one to be written."""

    def offset_at(self, topic: str, partition: int, at_ms: int) -> int:
        """Offset of the first record appended at or after `at_ms` (ms since the epoch); the end when there is none."""

    def read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Record]:
        """Records with start <= offset < stop, ascending; blocks until they are there or the end is reached."""

    def follow(self, topic: str, starts: Mapping[int, int], stopped: Callable[[], bool]) -> Iterator[Record | None]:
        """Records of all named partitions from `starts` on, for ever; None while there is nothing new."""


class Appender(Protocol):
    """Writing the log. Records for one partition lie there in the order of the calls, without gaps."""

    def append(self, outgoing: Outgoing) -> Awaitable[Position]:
        """Queue a record; awaiting the answer waits until the broker holds it.

        Raises:
            ContractError: the record is longer than its topic takes.
            LogUnavailableError: the broker did not take it within the adapter's limit.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobScope:
    """Whose bytes these are, and of when: what an erasure goes by. Microseconds since the epoch."""

    device_id: str
    captured_at_us: int


class BlobStore(Protocol):
    """Bytes by their content. Calls block, and may be made from several threads."""

    def put(self, content: bytes, media_type: str, *, scope: BlobScope | None = None) -> BlobRef:
        """Store bytes; storing them again changes nothing.

        Args:
            scope: For a device's bytes; a store that encrypts does so under a key of that device and time.
        Raises:
            BlobStoreUnavailableError: they are not stored.
        """

    def get(self, ref: BlobRef) -> bytes:
        """The plain bytes, verified.

        Raises:
            BlobGoneError: they are not there any more.
            DigestError: what is there is something else, or the reference names no digest.
            BlobStoreUnavailableError: no answer.
        """

    def exists(self, ref: BlobRef) -> bool:
        """Whether the store has what `get` needs.

        Raises:
            DigestError: the reference names no digest.
        """


class Removing(BlobStore, Protocol):
    """A blob store from which bytes can be taken away."""

    def discard(self, ref: BlobRef) -> None:
        """Remove the stored bytes of one reference, encrypted or plain; none is fine.

        Raises:
            DigestError: the reference names no digest.
            BlobStoreUnavailableError: the store does not answer.
        """


class Erasing(Removing, Protocol):
    """A blob store from which bytes can be erased for good. Everything here may be done twice."""

    def destroy_keys(self, device_id: str, from_us: int, to_us: int) -> tuple[str, ...]:
        """Make every encrypted blob of a device's captures in [from, to) unreadable, for everybody and for ever.

        Returns:
            The keys that were destroyed, or cut, as the beginnings of `BlobRef.key_id`.
        Raises:
            BlobStoreUnavailableError: the store does not answer; it may be done in part.
        """

    def wipe(self, refs: Iterable[BlobRef]) -> None:
        """`discard` for several references into segments, each segment written once.

        Raises:
            DigestError, BlobStoreUnavailableError: as `discard`; it may be done in part.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryRule:
    """A rule by which the store itself removes objects under a prefix after some days."""

    name: str
    prefix: str
    days: int


class Objects(Protocol):
    """Bytes by name. All calls raise BlobStoreUnavailableError when the store does not answer."""

    def read(self, name: str, most_bytes: int, *, start: int | None = None) -> bytes | None:
        """The object, from `start` on if it is given, cut off after `most_bytes`; None when there is none. Nothing lies behind
        its end."""

    def write(self, name: str, content: bytes, media_type: str) -> None:
        """Store an object; what had the name before is gone for good."""

    def has(self, name: str) -> bool:
        """Whether there is an object of that name."""

    def remove(self, name: str) -> None:
        """Remove an object for good; none is fine."""

    def list(self, prefix: str) -> Iterator[str]:
        """Names that begin with a prefix, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """States of some keys of a view's partition and the position that they reflect: the next offset to read."""

    position: int
    states: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a view's partition says of itself: its position, its running digest (`streams/view_digest.py`), and how many
    keys it really holds."""

    position: int
    digest: str
    keys_count: int


class ViewStore(Protocol):
    """States by key for each view and partition, kept together with the position that they reflect and a digest of them."""

    async def standing(self, view: str, partition: int) -> Standing:
        """Position, running digest and number of keys, read in one atomic step; cheap, however large the view is."""

    async def load(self, view: str, partition: int, keys: tuple[str, ...]) -> Stored:
        """The named keys that exist, read in one atomic step with the position (0 when the view is new)."""

    async def load_all(self, view: str, partition: int) -> Stored:
        """Every key, read in one atomic step with the position."""

    async def save(
        self, view: str, partition: int, *, expected: int, position: int, changes: Mapping[str, bytes], digest: str | None = None
    ) -> str | None:
        """Write changed states, the position and the running digest in one atomic step.

        Args:
            digest: What the running digest must be, too; without it, the position alone is compared.
        Returns:
            The new running digest; None, with nothing written, when what is stored is not what was expected: somebody
            else moved the position, or put other states there.
        """

    async def replace(self, view: str, partition: int, stored: Stored) -> bool:
        """Swap in a rebuilt partition of a view, with its digest, in one atomic step.

        Returns:
            False, with nothing changed, when the live one is further on than `stored`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an ensemble answered: two JSON texts, and who answered."""

    result_json: bytes
    report_json: bytes
    endpoint: str


class Inference(Protocol):
    """Asking an ensemble to read an image."""

    async def infer(self, release: str, image: bytes, parameters: Mapping[str, float], *, traceparent: str = "") -> Answer:
        """One call, one image.

        Args:
            release: The ensemble's name.
            image: Encoded image.
            parameters: Thresholds by name.
        Raises:
            InferenceUnavailableError: no server answers, or none has the release ready.
            InferenceTimeoutError: it took longer than the adapter's deadline.
            ModelProcessDiedError: the process that runs one of its models died, or is dead.
            StepFailedError: a step of the ensemble failed.
        """


class ModelServer(Protocol):
    """Loading ensembles on one inference server."""

    @property
    def endpoint(self) -> str:
        """host:port."""

    async def is_ready(self, release: str) -> bool:
        """Whether it answers with this release.

        Raises:
            InferenceUnavailableError: the server does not answer.
        """

    async def load(self, release: str) -> None:
        """Load the ensemble and its members; returns when it is ready.

        Raises:
            InferenceUnavailableError: the server does not answer.
            ContractError: the server refuses, and says why.
        """


class ModelProcesses(Protocol):
    """The care of models that one inference server has loaded: whether they live, and starting them again."""

    @property
    def endpoint(self) -> str:
        """host:port."""

    async def probe(self, release: str) -> None:
        """Returns when every model process of a release lives.

        Raises:
            ModelProcessDiedError: one is dead; names the model.
            InferenceTimeoutError: no answer in time.
            InferenceUnavailableError: the server is away, or does not have the release ready.
        """

    async def heal(self, model: str) -> None:
        """Start a model's processes anew, with the versions that are loaded; no file is touched.

        Raises:
            InferenceUnavailableError: the server is away, or is busy with this model.
            ContractError: the server refuses, and says why.
        """

    async def loaded(self) -> frozenset[str]:
        """Names of the models and ensembles that are loaded.

        Raises:
            InferenceUnavailableError: the server does not answer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """What a server has counted for a model of an ensemble since it was loaded: requests that came through, that failed, and
    the time that it worked on them."""

    model: str
    through_count: int
    failed_count: int
    busy_ns: int


class StepTimes(Protocol):
    """How far the steps of an ensemble have come on one inference server."""

    @property
    def endpoint(self) -> str:
        """host:port."""

    async def step_times(self, release: str) -> tuple[StepTime, ...]:
        """The ensemble's models in the order of its steps, and the ensemble itself last.

        Raises:
            InferenceUnavailableError: the server does not answer, or does not have the release.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How models run, as far as it can be varied without changing their files. `batch_form` None is the files' own."""

    threads: int
    batch_form: str | None = None


class Reader(Protocol):
    """A release's models, loaded from exactly the files that its pins name."""

    def read(self, image: bytes, parameters: Mapping[str, float]) -> Answer:
        """Read one image, by itself.

        Raises:
            StepFailedError: a step of the ensemble failed.
        """


class Models(Protocol):
    """Loading models by the digest of their files, to read old frames again. Nothing that serves is touched."""

    @property
    def runner(self) -> str:
        """What runs them, in a word or two, such as "in process"."""

    def reader(self, steps: tuple[ReleaseStep, ...], form: Form) -> Reader:
        """The steps' models; asking again for the same gives the same.

        Raises:
            BlobGoneError: a file is not kept any more, or never was; names model and file.
            DigestError: what is kept is something else; names model and file.
            ContractError: these models cannot run here in this form.
        """
