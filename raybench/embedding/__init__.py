"""From shards to vector parts: read, decode, encode, write; every step a plain function that needs no Ray."""
