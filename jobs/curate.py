r"""Build a hard evaluation set on a Ray cluster; what `raybench curate` does on one machine.

    ray job submit --working-dir . -- python jobs/curate.py jobs/recipes/vehicles.yaml --out s3://bucket/vehicles --expect

Every option of `raybench curate` is taken. The cluster is the one that the job was submitted to (RAY_ADDRESS); pools and
`--out` must be places that all nodes see. Submitting the same job again does only what is missing. The last line of
the log is one JSON object; a failing job exits with 2 (wrong request) or 1 (failed work).
"""

import sys
from pathlib import Path

# The code that came with the job, not an older one that the image may hold.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from raybench.cli import main

if __name__ == "__main__":
    main(["curate", *sys.argv[1:], "--json"])
