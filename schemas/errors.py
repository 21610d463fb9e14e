"""Every error that Hindsight raises, named by what the shell must do with it.

    HindsightError
    |-- ContractError         bad input: dead-letter it and go on
    |   |-- DecodeError           bytes that are not what they claim to be
    |   |-- UnknownEventError     a type that this topic does not hold
    |   |-- DigestError           bytes that do not match their digest
    |   |-- BlobGoneError         bytes that were removed, and why
    |   |   `-- BlobErasedError       by an order
    |   |-- BundleError           a bundle that is damaged, or none, or does not hold what is asked of it
    |   `-- FrameRefusedError     a frame that the door does not let in
    |-- TransientError        retry with backoff and a deadline; the position does not advance
    |   |-- LogUnavailableError, RegistryUnavailableError, ViewStoreUnavailableError,
    |   |   BlobStoreUnavailableError, InferenceUnavailableError
    |   |   `-- ReleaseNotReadyError   the server lives, and does not have the release
    |   |-- InferenceTimeoutError
    |   `-- ModelProcessDiedError  a process that runs a model is dead; the server lives, and says that it is ready
    |-- StepFailedError       the ensemble answered that one of its steps failed: retry a few times, then record it
    |-- ConsistencyError      stop the partition and say so: a replay diverged, a position went back
    `-- ConfigurationError    refuse to start, and name the setting

`do` is the sentence that tells a person what to do next. Adapters translate the errors of their libraries into these.
"""


class HindsightError(Exception):
    """Root of the tree; never raised itself."""

    def __init__(self, message: str, *, do: str = "") -> None:
        super().__init__(message)
        self.do = do


class ContractError(HindsightError):
    """Bad input. Asking again gives the same answer."""


class DecodeError(ContractError):
    """Bytes that are not what they claim to be."""


class UnknownEventError(ContractError):
    """An event type that this topic does not hold."""


class DigestError(ContractError):
    """Bytes that do not match the digest they are known by."""


class BlobGoneError(ContractError):
    """Bytes that are no longer in the blob store."""


class BundleError(ContractError):
    """An incident bundle that is damaged, or is none, or does not hold what is asked of it; `entry` is the part of the file."""

    def __init__(self, message: str, *, entry: str = "", do: str = "") -> None:
        super().__init__(f"{entry}: {message}" if entry else message, do=do)
        self.entry = entry


class BlobErasedError(BlobGoneError):
    """Bytes that were erased by the order `order_id`; `erased_at_us` is None while the order is being carried out."""

    def __init__(self, message: str, *, order_id: str, erased_at_us: int | None, do: str = "") -> None:
        super().__init__(message, do=do)
        self.order_id = order_id
        self.erased_at_us = erased_at_us


class FrameRefusedError(ContractError):
    """A frame that the door does not let in; `reason` is a code such as not_an_image."""

    def __init__(self, message: str, *, reason: str, do: str = "") -> None:
        super().__init__(message, do=do)
        self.reason = reason


class TransientError(HindsightError):
    """Something is away for now. Asking again later may work."""


class LogUnavailableError(TransientError):
    """The broker does not answer."""


class RegistryUnavailableError(TransientError):
    """The schema registry does not answer."""


class ViewStoreUnavailableError(TransientError):
    """The view store does not answer."""


class BlobStoreUnavailableError(TransientError):
    """The blob store does not answer."""


class InferenceUnavailableError(TransientError):
    """No inference server answers, the release is not loaded there yet, or what answers is not what the release pins."""


class ReleaseNotReadyError(InferenceUnavailableError):
    """The inference server lives, and does not have the release ready."""


class ServerLostError(InferenceUnavailableError):
    """The inference server at `endpoint` went away with the call in it, which may be why."""

    def __init__(self, message: str, *, endpoint: str) -> None:
        super().__init__(message, do="check that Triton runs: `hindsight status`, `hindsight logs triton`")
        self.endpoint = endpoint


class InferenceTimeoutError(TransientError):
    """The inference server at `endpoint` took longer than the deadline; `model` is the one that kept it, where that is known."""

    def __init__(self, message: str, *, endpoint: str = "", model: str | None = None) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.model = model


class ModelProcessDiedError(TransientError):
    """The process that runs `model` at `endpoint` is dead. The server starts no other by itself, and still says ready."""

    def __init__(self, message: str, *, model: str, endpoint: str) -> None:
        super().__init__(message, do="see that a worker runs the release processor: it starts the process again")
        self.model = model
        self.endpoint = endpoint


class StepFailedError(HindsightError):
    """The ensemble at `endpoint` answered that a step failed; `step` is its name, or None when the server named none.

    `model` is the one that failed, where the server names that instead.
    """

    def __init__(self, message: str, *, step: str | None, endpoint: str = "", model: str | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.endpoint = endpoint
        self.model = model


class ConsistencyError(HindsightError):
    """What must agree does not. Going on would make the record untrue."""


class ConfigurationError(HindsightError):
    """A setting is unknown or impossible; `setting` is its name."""

    def __init__(self, message: str, *, setting: str = "", do: str = "") -> None:
        super().__init__(message, do=do)
        self.setting = setting
