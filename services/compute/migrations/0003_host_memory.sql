-- The hosts with most memory left are found without looking at all of them.
CREATE INDEX host_available_memory_bytes ON host (available_memory_bytes);
