"""Pure functions over neighbours: keeping the best, merging disjoint shards, counting ranks."""
