"""The prefetcher: makes sure, with Jobs, that a Model's weights are complete before its engine starts."""
