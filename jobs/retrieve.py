r"""Retrieve a collection on a Ray cluster; what `raybench retrieve` does on one machine.

    ray job submit --working-dir . -- python jobs/retrieve.py s3://bucket/vectors --out s3://bucket/collections \
        --seeds s3://bucket/seeds.npy --nb-images-knn 800 --nb-images-centroid 800000 --shards 32

Every option of `raybench retrieve` is taken. The cluster is the one that the job was submitted to (RAY_ADDRESS); inputs
and `--out` must be places that all nodes see. Submitting the same job again does only what is missing. The last line of
the log is one JSON object; a failing job exits with 2 (wrong request) or 1 (failed work).
"""

import sys
from pathlib import Path

# The code that came with the job, not an older one that the image may hold.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from raybench.cli import main

if __name__ == "__main__":
    main(["retrieve", *sys.argv[1:], "--json"])
