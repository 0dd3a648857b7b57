"""CacheFlow in other people's frameworks. Each module needs the extra of its name, and nothing else imports it."""
