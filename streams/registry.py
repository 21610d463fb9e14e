"""The `Schemas` of a real Schema Registry (Confluent's API): registering at start, ids cached for ever after."""

from threading import Lock

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas import avro_files
from schemas.catalogue import TOPIC_OF, subject
from schemas.errors import ConfigurationError, DecodeError, RegistryUnavailableError
from streams.names import Namespace

COMPATIBILITY = "FULL_TRANSITIVE"
_UNKNOWN_ID = {404, 40403}


class RegistrySchemas:
    """Ids and schemas by way of a registry. An id never changes its meaning, so each is asked for once.

    Args:
        url: Base address of the Confluent-compatible API.
    """

    def __init__(self, url: str, namespace: Namespace = Namespace()) -> None:
        self._client = SchemaRegistryClient({"url": url, "timeout": 5})
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

    def _register(self, event: type) -> int:
        name = subject(event, prefix=self._prefix)
        schema = Schema(avro_files.latest(event.__name__), "AVRO")
        try:
            try:
                return int(self._client.lookup_schema(name, schema).schema_id)
            except SchemaRegistryError as error:
                if error.http_status_code != 404:
                    raise
            for version in avro_files.versions(event.__name__):
                schema_id = self._client.register_schema(name, Schema(avro_files.schema_text(event.__name__, version), "AVRO"))
                if version == avro_files.versions(event.__name__)[0]:
                    self._client.set_compatibility(subject_name=name, level=COMPATIBILITY)
            return int(schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == 409:
                raise ConfigurationError(
                    f"the registry's {name} is not compatible with ours: {error}",
                    setting="registry.url",
                    do="run `hindsight schemas check`, and add a new version instead of changing a published one",
                ) from error
            raise _unavailable(error) from error
        except Exception as error:  # the client lets its HTTP library's errors through
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> RegistryUnavailableError:
    return RegistryUnavailableError(f"schema registry: {error}", do="check that the registry runs: `hindsight status`")
