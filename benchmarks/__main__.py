"""`python -m benchmarks`: run every benchmark, one after the other."""

from benchmarks import (
    burst,
    cold_start,
    converge,
    footprint,
    placement,
    prefetch,
    proxy,
    swap,
    telemetry,
    turns,
)


def main() -> None:
    """Run all benchmarks."""
    for benchmark in (
        cold_start,
        converge,
        burst,
        footprint,
        placement,
        prefetch,
        proxy,
        swap,
        telemetry,
        turns,
    ):
        print(f"\n{(benchmark.__doc__ or '').partition(chr(10))[0]}", flush=True)
        benchmark.main()


if __name__ == "__main__":
    main()
