"""`python -m raybench` is the `raybench` program."""

from raybench.cli import main

if __name__ == "__main__":
    main()
