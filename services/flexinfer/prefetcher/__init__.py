"""The prefetcher: makes sure that a Model's weights are complete before its engine starts, with Jobs on the Model's node."""
