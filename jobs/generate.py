"""Answer queries from retrieved pictures on a Ray cluster; what `raybench generate` does on one machine.

    ray job submit --working-dir . -- python jobs/generate.py jobs/evaluations/vehicles.yaml --out s3://bucket/raybench

Every option of `raybench generate` is taken. The cluster is the one that the job was submitted to (RAY_ADDRESS). Submitting the
same job again does only what is missing. The last line of the log is one JSON object; a failing run exits with 2 (wrong
request) or 1 (failed work).
"""

import sys
from pathlib import Path

# The code that came with the job, not an older one that the image may hold.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from raybench.cli import main

if __name__ == "__main__":
    main(["generate", *sys.argv[1:], "--json"])
