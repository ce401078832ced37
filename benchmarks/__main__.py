"""`python -m benchmarks`: every row, one after the other."""

from benchmarks import burst, converge, footprint, wake


def main() -> None:
    """Run all."""
    for row in (wake, converge, burst, footprint):
        print(f"\n{(row.__doc__ or '').partition(chr(10))[0]}", flush=True)
        row.main()


if __name__ == "__main__":
    main()
