"""The only folder that imports ray: connecting, the embedding pipeline, and partitions of an index on actors."""
