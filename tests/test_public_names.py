"""What `import raybench` offers is there, and importing it is light."""

import subprocess
import sys

import raybench


def test_every_public_name_is_there():
    """Each name of the list is found where the table says."""
    for name in raybench.__all__:
        assert getattr(raybench, name).__name__ == name


def test_importing_the_package_imports_no_library():
    """`import raybench` does not import numpy, torch, pyarrow or ray."""
    code = "import raybench, sys; print([m for m in ('numpy', 'torch', 'pyarrow', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
