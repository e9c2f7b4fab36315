//! The databases: the durable log, packed readings, relational tables, queries by use case, audit.
