"""`python -m usergrowth_dagster` is the `usergrowth` command."""

from usergrowth_dagster.cli import main

if __name__ == "__main__":
    main()
