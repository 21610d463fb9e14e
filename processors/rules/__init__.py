"""Business rules: one module a pipeline, replaced by a user's own. `contract` says what such a module has."""
