"""The `Schemas` of a real Schema Registry (Confluent's API): registering at start, ids cached for ever after."""

import time
from threading import Lock

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas import avro_files
from schemas.catalogue import TOPIC_OF, subject
from schemas.errors import ConfigurationError, ContractError, DecodeError, RegistryUnavailableError
from streams.names import Namespace

COMPATIBILITY = "FULL_TRANSITIVE"
# A 409 may mean that somebody else registers the same subject right now; only one that stays is a refusal.
_CONFLICT_PAUSES_S = (0.1, 0.3, 0.6)
_UNKNOWN_ID = {404, 40403}
_MOST_ID = 2**31 - 1


class RegistrySchemas:
    """Ids and schemas by way of a registry. An id never changes its meaning, so each is asked for once.

    Args:
        url: Base address of the Confluent-compatible API.
    """

    def __init__(self, url: str, namespace: Namespace = Namespace(), *, timeout_s: float = 5.0) -> None:
        self._client = SchemaRegistryClient({"url": url, "timeout": timeout_s, "max.retries": 1})
        self._prefix = f"{namespace.prefix}." if namespace.prefix else ""
        self._ids: dict[type, int] = {}
        self._texts: dict[int, str] = {}
        self._lock = Lock()

    def id_of(self, event: type) -> int:
        if event not in self._ids:
            with self._lock:
                self._ids[event] = self._register(event)
        return self._ids[event]

    def schema_of(self, schema_id: int) -> str:
        if schema_id > _MOST_ID:
            raise DecodeError(f"schema id {schema_id} is larger than any registry gives")
        if schema_id not in self._texts:
            try:
                self._texts[schema_id] = str(self._client.get_schema(schema_id).schema_str)
            except SchemaRegistryError as error:
                if error.http_status_code == 404 or error.error_code in _UNKNOWN_ID:
                    raise DecodeError(f"schema id {schema_id} is not in the registry") from error
                raise _unavailable(error) from error
            except Exception as error:  # the client lets its HTTP library's errors through
                raise _unavailable(error) from error
        return self._texts[schema_id]

    def register_all(self) -> None:
        """Register every event's newest schema, each subject under FULL_TRANSITIVE.

        Raises:
            ConfigurationError: the registry holds a schema that ours is not compatible with; the field is named.
            RegistryUnavailableError: no answer.
        """
        for event in TOPIC_OF:
            self.id_of(event)

    def register_text(self, name: str, text: str) -> int:
        """Register a schema that somebody else wrote with, under a subject of this namespace; gives its id here.

        Args:
            name: The subject, without the namespace.
        Raises:
            ContractError: the registry refuses it.
            RegistryUnavailableError: no answer.
        """
        try:
            return int(self._client.register_schema(f"{self._prefix}{name}", Schema(text, "AVRO")))
        except SchemaRegistryError as error:
            if error.http_status_code in (409, 422):
                raise ContractError(f"the registry does not take a schema as {name}: {error}") from error
            raise _unavailable(error) from error
        except Exception as error:  # the client lets its HTTP library's errors through
            raise _unavailable(error) from error

    def is_registered(self, event: type) -> bool:
        """Whether the registry holds the event's newest schema as it is here; asks it every time.

        Raises:
            RegistryUnavailableError: no answer.
        """
        try:
            return self._registered_id(event) is not None
        except Exception as error:  # the client lets its HTTP library's errors through
            raise _unavailable(error) from error

    def _registered_id(self, event: type) -> int | None:
        schema = Schema(avro_files.latest(event.__name__), "AVRO")
        try:
            found = self._client.lookup_schema(subject(event, prefix=self._prefix), schema)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise
        return int(found.schema_id or 0)

    def registered_versions(self, event: type) -> dict[str, str]:
        """JSON text of every version that the registry holds of an event, by what to call it; empty when it has none.

        Raises:
            RegistryUnavailableError: no answer.
        """
        name = subject(event, prefix=self._prefix)
        try:
            numbers = self._client.get_versions(name)
            texts = {n: self._client.get_version(name, n).schema for n in numbers}
            return {f"registry v{n}": str(schema.schema_str) for n, schema in texts.items() if schema is not None}
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return {}
            raise _unavailable(error) from error
        except Exception as error:  # the client lets its HTTP library's errors through
            raise _unavailable(error) from error

    def _register(self, event: type) -> int:
        """Register every version, oldest first. Another process that does the same at once is no conflict."""
        name = subject(event, prefix=self._prefix)
        for pause_s in _CONFLICT_PAUSES_S:
            try:
                if (known := self._registered_id(event)) is not None:
                    return known
                return self._register_versions(event, name)
            except SchemaRegistryError as error:
                if error.http_status_code != 409:
                    raise _unavailable(error) from error
                conflict = error
            except Exception as error:  # the client lets its HTTP library's errors through
                raise _unavailable(error) from error
            time.sleep(pause_s)
        raise ConfigurationError(
            f"the registry's {name} is not compatible with ours: {conflict}",
            setting="registry.url",
            do="run `hindsight schemas check --registry`, and add a new version instead of changing a published one",
        ) from conflict

    def _register_versions(self, event: type, name: str) -> int:
        versions = avro_files.versions(event.__name__)
        for version in versions:
            schema_id = self._client.register_schema(name, Schema(avro_files.schema_text(event.__name__, version), "AVRO"))
            if version == versions[0]:
                self._client.set_compatibility(subject_name=name, level=COMPATIBILITY)
        return int(schema_id or 0)


def _unavailable(error: Exception) -> RegistryUnavailableError:
    return RegistryUnavailableError(f"schema registry: {error}", do="check that the registry runs: `hindsight status`")
