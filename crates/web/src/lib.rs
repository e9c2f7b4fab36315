//! REST with OpenAPI, the console, the consumer's pages, live streams.
