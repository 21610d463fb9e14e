"""The `Schemas` of a bundle: writer schemas under the ids that its records name, with no registry."""

import json

from schemas import avro_files
from schemas.errors import BundleError, DecodeError
from streams.bundle.file import BundleFile
from streams.bundle.layout import schema_name


class BundleSchemas:
    """Each schema is read once."""

    def __init__(self, file: BundleFile) -> None:
        self._file = file
        self._entries = {schema.id: schema.entry for schema in file.manifest.schemas}
        self._texts: dict[int, str] = {}

    def ids(self) -> tuple[int, ...]:
        return tuple(self._entries)

    def id_of(self, event: type) -> int:
        wanted = json.loads(avro_files.latest(event.__name__))
        for schema_id in self._entries:
            if _same(self.schema_of(schema_id), wanted):
                return schema_id
        raise BundleError(f"no record of it is a {event.__name__} of the newest schema", entry=str(self._file.path))

    def schema_of(self, schema_id: int) -> str:
        if schema_id not in self._texts:
            entry, name = self._entries.get(schema_id), schema_name(schema_id)
            if entry is None:
                raise DecodeError(f"schema id {schema_id} is not in the bundle")
            try:
                self._texts[schema_id] = self._file.entry(entry, name).decode("utf-8")
            except UnicodeDecodeError as error:
                raise BundleError(f"it is no text: {error}", entry=name) from error
        return self._texts[schema_id]


def _same(text: str, wanted: object) -> bool:
    try:
        return bool(json.loads(text) == wanted)
    except ValueError:
        return False
