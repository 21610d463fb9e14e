"""Materialized views: each is a fold of one topic, kept per key. Live, rebuilt and past states come from the same fold."""
